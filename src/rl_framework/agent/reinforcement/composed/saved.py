"""A composed agent in a bundle, and back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from rl_framework.agent.reinforcement.composed.collector import Collector
from rl_framework.agent.reinforcement.composed.composition import Composition
from rl_framework.agent.reinforcement.library.state.open_episodes import can_replay, replay_episodes, take_episodes
from rl_framework.agent.reinforcement.library.state.optimizer_state import give_optimizer, take_optimizer
from rl_framework.agent.reinforcement.library.state.saved_state import check_tensors
from rl_framework.bundle import Bundle
from rl_framework.environment import BatchedEnvironment
from rl_framework.environment.tensor.environments import TensorEnvironments
from rl_framework.seeding import capture_global_state

__all__ = ["Interrupted", "give_networks", "give_training", "take_networks", "take_training"]

_NETWORKS, _OPTIMIZER, _OPTIMIZER_DATA = "networks.safetensors", "optimizer.safetensors", "optimizer.json"
_STATE, _ARRAYS, _TENSORS = (
    "training_state/state.json",
    "training_state/arrays.npz",
    "training_state/tensors.safetensors",
)


def take_networks(composition: Composition) -> dict[str, Any]:
    """Returns networks and optimizer as members of a bundle."""
    tensors: dict[str, torch.Tensor] = {}
    data = take_optimizer("all", composition.optimizer, tensors)
    networks = {name: tensor.detach().cpu().contiguous() for name, tensor in composition.tensors().items()}
    return {
        _NETWORKS: networks,
        _OPTIMIZER: {name: tensor.cpu().contiguous() for name, tensor in tensors.items()},
        _OPTIMIZER_DATA: data,
    }


def give_networks(bundle: Bundle, composition: Composition) -> None:
    """Gives a composition the networks and the optimizer's state in a bundle.

    Raises:
        BundleError: They are not those of this composition. What a crafted state can raise besides is of any type.
    """
    tensors, mine = bundle.tensors(_NETWORKS), composition.tensors()
    check_tensors(tensors, mine, _NETWORKS)
    with torch.no_grad():
        for name, tensor in mine.items():
            tensor.copy_(tensors[name])
    give_optimizer("all", composition.optimizer, bundle.json(_OPTIMIZER_DATA), bundle.tensors(_OPTIMIZER))


def networks_in(bundle: Bundle) -> dict[str, torch.Tensor]:
    """Returns the tensors of the networks in a bundle."""
    return bundle.tensors(_NETWORKS)


class Interrupted:
    """A training that was interrupted and is about to go on.

    Args:
        state: JSON-able data of the checkpoint.
        tensors: The state of the collector.
    """

    def __init__(self, state: dict[str, Any], tensors: Mapping[str, torch.Tensor]) -> None:
        self.random = state["random"]
        self.n_updates = _count(state, "n_updates")
        self.reported_at = _count(state, "reported_at")
        self.collector = dict(tensors)
        # None: the environments could not be brought to where they were.
        self.observations: Any = None


def take_training(
    composition: Composition, collector: Collector, batch: BatchedEnvironment, n_updates: int, reported_at: int
) -> dict[str, Any]:
    """Returns what resuming a training needs besides networks and optimizer, as members of a bundle."""
    arrays: dict[str, NDArray[Any]] = {}
    state: dict[str, Any] = {
        "random": capture_global_state(),
        "n_updates": n_updates,
        "reported_at": reported_at,
        "n_environments": batch.num_envs,
    }
    for index, generator in enumerate(composition.generators):
        arrays[f"generator/{index}"] = generator.get_state().cpu().numpy()
    for name, part in composition.named.items():
        for key, value in part.training_state().items():
            arrays[f"part/{name}/{key}"] = np.asarray(value)
    if composition.reward_normaliser is not None:
        arrays["reward_normaliser"] = composition.reward_normaliser.returns.cpu().numpy()
    if isinstance(batch, TensorEnvironments):
        arrays |= {f"environments/{name}": value for name, value in batch.snapshot().items()}
        state["open_episodes"] = []
    else:
        take_episodes(batch, arrays, state)
    tensors = {name: tensor.cpu().contiguous() for name, tensor in collector.state_dict().items()}
    return {_STATE: state, _ARRAYS: arrays, _TENSORS: tensors}


def give_training(bundle: Bundle, composition: Composition, batch: BatchedEnvironment, seed: int) -> Interrupted:
    """Brings a composition and its environments to where a training was interrupted.

    Args:
        bundle: A checkpoint.
        composition: With the networks in it.
        batch: Fresh environments.
        seed: For new episodes, where the open ones cannot be replayed.

    Raises:
        ValueError: It does not fit. What a crafted state can raise besides is of any type.
    """
    state, arrays, tensors = bundle.json(_STATE), bundle.arrays(_ARRAYS), bundle.tensors(_TENSORS)
    interrupted = Interrupted(state, tensors)
    for index, generator in enumerate(composition.generators):
        generator.set_state(torch.from_numpy(np.array(arrays[f"generator/{index}"])))
    for name, part in composition.named.items():
        prefix = f"part/{name}/"
        part.set_training_state(
            {key.removeprefix(prefix): value for key, value in arrays.items() if key.startswith(prefix)}
        )
    if composition.reward_normaliser is not None:
        returns = torch.from_numpy(np.array(arrays["reward_normaliser"]))
        if returns.shape != composition.reward_normaliser.returns.shape or not returns.isfinite().all():
            raise ValueError("the state of the reward normaliser does not fit")
        composition.reward_normaliser.returns.copy_(returns)
    if isinstance(batch, TensorEnvironments):
        prefix = "environments/"
        snapshot = {name.removeprefix(prefix): value for name, value in arrays.items() if name.startswith(prefix)}
        interrupted.observations = batch.restore(snapshot)
    elif can_replay(batch, state):
        cut = replay_episodes(batch, arrays, state, seed)
        interrupted.collector["starts"] = interrupted.collector["starts"].clone()
        for slot in cut:
            interrupted.collector["starts"][slot] = True
        interrupted.observations = batch.latest_observations
    return interrupted


def _count(state: dict[str, Any], name: str) -> int:
    value = state[name]
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise ValueError(f"{name} is {value!r}")
    return value
