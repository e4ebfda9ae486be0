"""What an algorithm of Stable-Baselines3 needs, besides what acting needs, to go on training as if nothing had been.

The state is taken at the start of a rollout, after the update and before anything is read for the next one. What each
algorithm needs was found by leaving pieces out and looking at the difference that made.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from stable_baselines3.common.logger import Logger
from stable_baselines3.common.vec_env import VecEnv, VecEnvWrapper, VecNormalize, VecTransposeImage

from rl_framework.agent.reinforcement.library.state.continuing import end_open_episodes
from rl_framework.agent.reinforcement.library.state.open_episodes import (
    by_key,
    can_replay,
    replay_episodes,
    take_episodes,
)
from rl_framework.agent.reinforcement.library.state.optimizer_state import give_optimizer, take_optimizer
from rl_framework.agent.reinforcement.library.state.saved_state import gsde_distribution
from rl_framework.agent.reinforcement.library.state.state_checks import (
    check_generators,
    check_learner_arrays,
    check_like,
    checked_counter,
)
from rl_framework.bundle import Bundle, decode_value, encode_value
from rl_framework.environment.sb3 import ExportedVecEnv
from rl_framework.errors import BundleError
from rl_framework.seeding import capture_global_state, derive_seed, isolated_random_state, restore_global_state

__all__ = ["PendingState", "capture", "optimizers_of", "restore"]

logger = logging.getLogger(__name__)

_STATE, _TENSORS, _ARRAYS = (f"training_state/{name}" for name in ("state.json", "tensors.safetensors", "arrays.npz"))
_COUNTERS = (
    "num_timesteps", "_n_updates", "_episode_num", "_n_calls", "exploration_rate", "_current_progress_remaining",
    "old_count",
)  # fmt: skip
_HER_ROWS = ("ep_start", "ep_length", "_current_ep_start")
_LEARNER_ARRAYS = ("_last_obs", "_last_original_obs", "_last_episode_starts")


@dataclass
class PendingState:
    """What has to be put back last, when the library has begun its first rollout and drawn for it.

    Attributes:
        random: Of the global generators.
        action_space: Of the learner's action space.
        gsde: Exploration matrices.
        noise: Previous value of each Ornstein-Uhlenbeck process.
        log: What the library's logger holds and has not written.
    """

    random: dict[str, Any]
    action_space: dict[str, Any]
    log: dict[str, Any]
    gsde: dict[str, torch.Tensor] = field(default_factory=dict)
    noise: dict[int, NDArray[Any]] = field(default_factory=dict)

    def put_back(self, algorithm: Any) -> None:
        """Puts everything back."""
        distribution = gsde_distribution(algorithm)
        for name, tensor in self.gsde.items():
            setattr(distribution, name, tensor.to(algorithm.device))
        for index, process in enumerate(_processes(algorithm)):
            if index in self.noise:
                process.noise_prev = self.noise[index]
        algorithm.action_space.np_random.bit_generator.state = self.action_space
        restore_global_state(self.random)

    def put_back_log(self, library_logger: Any) -> None:
        """Puts back what an update has reported and nobody has written; the library makes its logger late."""
        for key, value in self.log["values"].items():
            library_logger.name_to_value[key] = decode_value(value)
            library_logger.name_to_count[key] = self.log["counts"][key]
            library_logger.name_to_excluded[key] = tuple(self.log["excluded"][key])


def _processes(algorithm: Any) -> list[Any]:
    noise = getattr(algorithm, "action_noise", None)
    if noise is None:
        return []
    return [process for process in getattr(noise, "noises", [noise]) if hasattr(process, "noise_prev")]


def capture(algorithm: Any, vec_env: VecEnv | None) -> dict[str, Any]:
    """Returns the members of a bundle that resuming needs.

    Args:
        algorithm: The library's object, at the start of a rollout.
        vec_env: What it trains on, below any normalisation.
    """
    arrays: dict[str, NDArray[Any]] = {}
    tensors: dict[str, torch.Tensor] = {}
    state: dict[str, Any] = {
        "counters": {name: _number(getattr(algorithm, name)) for name in _COUNTERS if hasattr(algorithm, name)},
        "random": capture_global_state(),
        "action_space": encode_value(algorithm.action_space.np_random.bit_generator.state, "action_space"),
        "episodes": [encode_value(dict(info), "episode") for info in _plain(algorithm.ep_info_buffer or ())],
        "successes": [float(success) for success in algorithm.ep_success_buffer or ()],
        "logger": _logged(algorithm),
        "optimizers": {},
        "layouts": {},
    }
    for name, optimizer in optimizers_of(algorithm):
        state["optimizers"][name] = take_optimizer(name, optimizer, tensors)
    for name in algorithm._get_torch_save_params()[1]:
        if getattr(algorithm, name, None) is not None:
            tensors[f"variable/{name}"] = getattr(algorithm, name).detach()
    for index, part in enumerate(_recurrent_state(algorithm)):
        tensors[f"recurrent/{index}"] = part.detach()
    for name in _LEARNER_ARRAYS:
        value = getattr(algorithm, name, None)
        for key, array in by_key(value).items():
            # Convolutions give other last bits for other layouts in memory.
            state["layouts"][f"{name}/{key}"] = _channels_are_last_in_memory(array)
            arrays[f"learner/{name}/{key}"] = array
    for index, process in enumerate(_processes(algorithm)):
        arrays[f"noise/{index}"] = np.asarray(process.noise_prev)
    _take_buffer(algorithm, arrays, state)
    vec_normalize = algorithm.get_vec_normalize_env()
    if vec_normalize is not None:
        arrays["normalize/returns"] = vec_normalize.returns
    take_episodes(vec_env.batch if isinstance(vec_env, ExportedVecEnv) else None, arrays, state)
    return {_STATE: state, _TENSORS: tensors, _ARRAYS: arrays}


def restore(bundle: Bundle, algorithm: Any, vec_env: VecEnv, seed: int) -> PendingState:
    """Puts the state of a checkpoint into an algorithm that was built for fresh environments.

    Open episodes are replayed. Where one does not come to where it was, it is cut: marked as truncated, and a new one
    begins with a seed of its own; that is logged once.

    Args:
        bundle: The checkpoint.
        algorithm: The library's object, with the policy's weights in it.
        vec_env: What it will train on, below any normalisation.
        seed: Root of the training's seeds.

    Returns:
        What has to be put back at the start of the first rollout.

    Raises:
        BundleError: The state does not fit the algorithm.
    """
    try:
        return _restore(bundle, algorithm, vec_env, seed)
    # What a crafted state makes others raise is of many types, and all of them mean the same.
    except Exception as error:
        if isinstance(error, BundleError):
            raise
        raise BundleError(f"{bundle.path}: its training state does not fit: {type(error).__name__}: {error}") from error


def _restore(bundle: Bundle, algorithm: Any, vec_env: VecEnv, seed: int) -> PendingState:
    state, arrays, tensors = bundle.json(_STATE), bundle.arrays(_ARRAYS), bundle.tensors(_TENSORS)
    for name in _COUNTERS:
        if hasattr(algorithm, name):
            setattr(algorithm, name, checked_counter(name, state["counters"][name], getattr(algorithm, name)))
    for name, optimizer in optimizers_of(algorithm):
        give_optimizer(name, optimizer, state["optimizers"][name], tensors)
    for name in algorithm._get_torch_save_params()[1]:
        if getattr(algorithm, name, None) is not None:
            check_like(name, tensors[f"variable/{name}"], getattr(algorithm, name))
            getattr(algorithm, name).data = tensors[f"variable/{name}"].to(algorithm.device)
    window = algorithm._stats_window_size
    episodes = [decode_value(info) for info in state["episodes"]]
    if not all(isinstance(info[key], int | float) for info in episodes for key in ("r", "l")):
        raise TypeError("an episode has something else than numbers")
    algorithm.ep_info_buffer = deque(episodes, maxlen=window)
    algorithm.ep_success_buffer = deque(map(float, state["successes"]), maxlen=window)
    _give_buffer(algorithm, arrays, state)
    recurrent = _recurrent_state(algorithm)
    if recurrent:
        kind = type(algorithm._last_lstm_states)
        parts = [tensors[f"recurrent/{index}"].to(algorithm.device) for index in range(len(recurrent))]
        for part, own in zip(parts, recurrent, strict=True):
            check_like("recurrent state", part, own)
        algorithm._last_lstm_states = kind(tuple(parts[:2]), tuple(parts[2:]))
    vec_normalize = algorithm.get_vec_normalize_env()
    if vec_normalize is not None:
        returns = arrays["normalize/returns"].copy()
        if returns.shape != (vec_env.num_envs,) or returns.dtype != np.float64 or not np.isfinite(returns).all():
            raise ValueError(f"discounted returns have shape {returns.shape} and type {returns.dtype}")
        vec_normalize.returns = returns
    _restore_episodes(algorithm, vec_env, arrays, state, derive_seed(seed, "resumed", algorithm.num_timesteps))
    noise = {int(name[6:]): array for name, array in arrays.items() if name.startswith("noise/")}
    for index, process in enumerate(_processes(algorithm)):
        if index not in noise or noise[index].shape != np.shape(process.noise_prev):
            raise ValueError("the noise has another shape")
    pending = _pending(bundle, algorithm, state, noise)
    with isolated_random_state():  # what is put back at the start of the first rollout must not fail there
        pending.put_back(algorithm)
        pending.put_back_log(Logger(folder=None, output_formats=[]))
    return pending


def _pending(bundle: Bundle, algorithm: Any, state: dict[str, Any], noise: dict[int, NDArray[Any]]) -> PendingState:
    check_generators(state)
    log = state["logger"]
    if not all(isinstance(decode_value(value), float) for value in log["values"].values()):
        raise TypeError("the log has something else than numbers")
    if not all(isinstance(log["counts"][key], int) for key in log["values"]):
        raise TypeError("the log has counts that are none")
    gsde = {} if gsde_distribution(algorithm) is None else bundle.tensors("acting.safetensors")
    return PendingState(state["random"], decode_value(state["action_space"]), state["logger"], gsde, noise)


def _restore_episodes(
    algorithm: Any, vec_env: VecEnv, arrays: Mapping[str, NDArray[Any]], state: dict[str, Any], seed: int
) -> None:
    batch = vec_env.batch if isinstance(vec_env, ExportedVecEnv) else None
    if batch is None or not can_replay(batch, state):
        logger.warning("these environments cannot be replayed: training goes on with new episodes")
        end_open_episodes(algorithm)
        algorithm._last_obs = None  # the library then resets the environments
        vec_env.seed(seed)
        return
    for name in _LEARNER_ARRAYS:
        prefix = f"learner/{name}/"
        found = {
            key.removeprefix(prefix): _laid_out(array, state["layouts"][key.removeprefix("learner/")])
            for key, array in arrays.items()
            if key.startswith(prefix)
        }
        if found:
            check_learner_arrays(name, found, vec_env if name == "_last_original_obs" else algorithm.env)
            setattr(algorithm, name, found[""] if set(found) == {""} else found)
    if algorithm._last_obs is None:
        raise ValueError("the last observation is missing")
    cut = replay_episodes(batch, arrays, state, seed)
    if cut:
        _cut(algorithm, cut, batch.latest_observations)
    vec_env._reset_seeds()  # those of the beginning, which no reset has used


def _logged(algorithm: Any) -> dict[str, Any]:
    library_logger = getattr(algorithm, "_logger", None)
    if library_logger is None:
        return {"values": {}, "counts": {}, "excluded": {}}
    values = {
        key: float(value)
        for key, value in library_logger.name_to_value.items()
        if isinstance(value, int | float | np.number)
    }
    return {
        "values": {key: encode_value(value, key) for key, value in values.items()},
        "counts": {key: int(library_logger.name_to_count[key]) for key in values},
        "excluded": {key: list(library_logger.name_to_excluded.get(key) or ()) for key in values},
    }


def optimizers_of(algorithm: Any) -> Iterator[tuple[str, torch.optim.Optimizer]]:
    """Finds the optimizers of an algorithm, such as "policy.optimizer" or "ent_coef_optimizer"."""
    for name in algorithm._get_torch_save_params()[0]:
        owner: Any = algorithm
        for part in name.split("."):
            owner = getattr(owner, part, None)
        if isinstance(owner, torch.optim.Optimizer):
            yield name, owner
        elif isinstance(getattr(owner, "optimizer", None), torch.optim.Optimizer) and name == "policy":
            yield "policy.optimizer", owner.optimizer


def _recurrent_state(algorithm: Any) -> list[torch.Tensor]:
    states = getattr(algorithm, "_last_lstm_states", None)
    return [] if states is None else [part for pair in states for part in pair]


def _take_buffer(algorithm: Any, arrays: dict[str, NDArray[Any]], state: dict[str, Any]) -> None:
    buffer = getattr(algorithm, "replay_buffer", None)
    if buffer is None:
        return
    state["buffer"] = {"pos": int(buffer.pos), "full": bool(buffer.full)}
    for name, array in _buffer_arrays(buffer):
        # The rest was never written.
        whole = buffer.full or len(array) != buffer.buffer_size
        arrays[f"buffer/{name}"] = array if whole else array[: buffer.pos + 1]


def _give_buffer(algorithm: Any, arrays: Mapping[str, NDArray[Any]], state: dict[str, Any]) -> None:
    buffer = getattr(algorithm, "replay_buffer", None)
    if buffer is None:
        return
    pos, full = state["buffer"]["pos"], state["buffer"]["full"]
    if not isinstance(pos, int) or not isinstance(full, bool) or not 0 <= pos < buffer.buffer_size:
        raise ValueError(f"the replay buffer stands at {pos}")
    for name, array in _buffer_arrays(buffer):
        saved = arrays[f"buffer/{name}"]
        if saved.shape[1:] != array.shape[1:] or len(saved) > len(array) or saved.dtype != array.dtype:
            raise ValueError(f"the replay buffer's {name} has shape {saved.shape} and type {saved.dtype}")
        whole = full or len(array) != buffer.buffer_size
        if len(saved) != (len(array) if whole else pos + 1):
            raise ValueError(f"the replay buffer's {name} has {len(saved)} rows")
        # These are rows and lengths, which nobody checks when they are used.
        if name in _HER_ROWS and saved.size and not 0 <= saved.min() <= saved.max() <= buffer.buffer_size:
            raise ValueError(f"the replay buffer's {name} points outside of it")
        array[: len(saved)] = saved
    buffer.pos, buffer.full = pos, full


def _buffer_arrays(buffer: Any) -> Iterator[tuple[str, NDArray[Any]]]:
    for name, value in vars(buffer).items():
        for key, array in by_key(value).items():
            if isinstance(array, np.ndarray) and array.dtype != object:
                yield f"{name}/{key}" if key else name, array


def _cut(algorithm: Any, slots: list[int], observations: Any) -> None:
    """Lets the learner begin new episodes in some slots, and marks the transitions before as truncated.

    Args:
        algorithm: The library's object.
        slots: Where new episodes have begun.
        observations: Batched observation, as the environments gave it.
    """
    layers: list[VecEnvWrapper] = []
    layer = algorithm.env
    while isinstance(layer, VecEnvWrapper):
        layers.insert(0, layer)
        layer = layer.venv
    if algorithm._last_original_obs is not None:
        _put(algorithm._last_original_obs, observations, slots)
    for layer in layers:
        if isinstance(layer, VecNormalize):
            observations = layer.normalize_obs(observations)
            layer.returns[slots] = 0.0
        elif isinstance(layer, VecTransposeImage):
            observations = layer.transpose_observations(observations)
    _put(algorithm._last_obs, observations, slots)
    if algorithm._last_episode_starts is not None:
        algorithm._last_episode_starts[slots] = True
    for part in _recurrent_state(algorithm):
        part[:, slots] = 0.0
    end_open_episodes(algorithm, slots)


def _put(into: Any, values: Any, slots: list[int]) -> None:
    for key, array in by_key(into).items():
        array[slots] = by_key(values)[key][slots]


def _channels_are_last_in_memory(array: Any) -> bool:
    return array.ndim == 4 and not array.flags.c_contiguous and array.transpose(0, 2, 3, 1).flags.c_contiguous


def _laid_out(array: NDArray[Any], channels_last_in_memory: bool) -> NDArray[Any]:
    if not channels_last_in_memory:
        return array.copy()
    return np.ascontiguousarray(array.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)


def _number(value: Any) -> int | float:
    return int(value) if isinstance(value, int | np.integer) else float(value)


def _plain(infos: Any) -> Iterator[dict[str, Any]]:
    for info in infos:
        yield {key: value.item() if isinstance(value, np.generic) else value for key, value in info.items()}
