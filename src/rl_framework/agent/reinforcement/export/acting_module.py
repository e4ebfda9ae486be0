"""The acting part of an agent as one `torch.nn.Module`: from raw observations to deterministic actions."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3.common.policies import BaseModel
from stable_baselines3.common.preprocessing import is_image_space
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_pre_hook
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from rl_framework.agent.network import FeaturesExtractor
from rl_framework.agent.reinforcement.library.normaliser import Normaliser
from rl_framework.environment.batched.action_masks import mask_width
from rl_framework.errors import ArgumentError, UnsupportedSpaceError

__all__ = ["ActingModule", "ExportedModule", "MaskableActingModule", "RecurrentActingModule", "acting_module"]


def acting_module(
    algorithm: Any,
    observation_space: spaces.Space[Any],
    action_space: spaces.Space[Any],
    normaliser: Normaliser | None = None,
    features_extractor: Any = None,
) -> ActingModule:
    """Builds the module that acts as an agent's `predict` does with `deterministic=True`.

    It is a copy on the CPU, in evaluation mode, without critics and optimizers; training the algorithm further does
    not change it.

    Args:
        algorithm: An algorithm of Stable-Baselines3 or sb3-contrib.
        observation_space: Space of one observation, as the environment gives it.
        action_space: Space of one action.
        normaliser: The agent's statistics, if it normalises observations.
        features_extractor: The agent's. If it is a `FeaturesExtractor` with a preprocessing stage, that is called
            with tensors instead of arrays.

    Returns:
        An `ActingModule`; for MaskablePPO a `MaskableActingModule`, for RecurrentPPO a `RecurrentActingModule`.

    Raises:
        UnsupportedSpaceError: The observation is a structure other than a flat dictionary.
        ArgumentError: The preprocessing stage works with arrays only.
    """
    extractor = None
    if isinstance(features_extractor, FeaturesExtractor) and features_extractor.preprocesses:
        extractor = features_extractor
    policy = _copy_of(algorithm.policy)
    kind = ActingModule
    if hasattr(policy, "lstm_hidden_state_shape"):
        kind = RecurrentActingModule
    elif _is_maskable(policy):
        kind = MaskableActingModule
    module = kind(policy, observation_space, action_space, normaliser, extractor)
    _drop_what_acting_does_not_use(module)
    return module


class ExportedModule(nn.Module):
    """From raw observations to deterministic actions; `forward` is what a file holds.

    Args:
        observation_space: Space of one observation, as the environment gives it.
        action_space: Space of one action.

    Attributes:
        observation_space: As given.
        action_space: As given.
        states: Names of the memory that goes in after the observation, followed by "episode_starts", and comes out
            after the action; none: it has no memory.
    """

    states: tuple[str, ...] = ()

    def __init__(self, observation_space: spaces.Space[Any], action_space: spaces.Space[Any]) -> None:
        super().__init__()
        self.observation_space = observation_space
        self.action_space = action_space

    def example(self, batch_size: int) -> tuple[Any, ...]:
        """Returns arguments for `forward` (zeros) of this batch size."""
        shapes = {key: np.zeros((batch_size, *(part.shape or ())), part.dtype) for key, part in self._parts().items()}
        tensors = {key: torch.from_numpy(array) for key, array in shapes.items()}
        return (tensors if isinstance(self.observation_space, spaces.Dict) else tensors[""],)

    def batch_axes(self) -> tuple[Any, ...]:
        """Returns, in the structure of `example`, which axis is the batch."""
        return (dict.fromkeys(self._parts(), 0) if isinstance(self.observation_space, spaces.Dict) else 0,)

    def _parts(self) -> dict[str, spaces.Space[Any]]:
        return parts_of(self.observation_space)


class ActingModule(ExportedModule):
    """Normalises, prepares and acts, as an agent of Stable-Baselines3.

    Args:
        policy: The library's policy.
        observation_space: Space of one observation, as the environment gives it.
        action_space: Space of one action.
        normaliser: Statistics of the observations, or None.
        extractor: What preprocesses the observations before they are normalised, or None.

    Attributes:
        policy: As given, in evaluation mode.
    """

    low: Tensor
    high: Tensor

    def __init__(
        self,
        policy: Any,
        observation_space: spaces.Space[Any],
        action_space: spaces.Space[Any],
        normaliser: Normaliser | None = None,
        extractor: FeaturesExtractor | None = None,
    ) -> None:
        super().__init__(observation_space, action_space)
        self._extractor = extractor
        self.policy = policy
        parts = parts_of(extractor.preprocess_space(observation_space) if extractor else observation_space)
        known = policy.observation_space
        known_parts = known.spaces if isinstance(known, spaces.Dict) else {"": known}
        self._statistics: dict[str, int] = {}
        self._channels_last: dict[str, bool] = {}
        self._shapes = {key: tuple(known_parts[key].shape or ()) for key in parts}
        for index, (key, part) in enumerate(parts.items()):
            # The library puts the channels of images first, on the way from the environment to the policy.
            height_width_channels = tuple(part.shape or ())
            self._channels_last[key] = (
                is_image_space(known_parts[key])
                and height_width_channels != self._shapes[key]
                and (*height_width_channels[2:], *height_width_channels[:2]) == self._shapes[key]
            )
            if normaliser is not None and key in normaliser.observation:
                mean, variance, _ = normaliser.observation[key]
                self._statistics[key] = index  # keys may hold dots, which names of buffers may not
                self.register_buffer(f"mean_{index}", torch.from_numpy(np.array(mean)))
                self.register_buffer(
                    f"scale_{index}", torch.from_numpy(np.sqrt(np.array(variance) + normaliser.epsilon))
                )
        self._clip = normaliser.clip_observation if normaliser is not None else float("inf")
        self._is_dict = isinstance(known, spaces.Dict)
        self._action_shape = tuple(action_space.shape or ())
        self._continuous = isinstance(action_space, spaces.Box)
        if isinstance(action_space, spaces.Box):
            self.register_buffer("low", torch.from_numpy(np.array(action_space.low)))
            self.register_buffer("high", torch.from_numpy(np.array(action_space.high)))
        self.eval()

    def forward(self, observation: Any) -> Any:
        """Acts.

        Args:
            observation: Batched observation as the environment gives it, in the space's type: shape
                `(batch, *observation_space.shape)`, or a dictionary of such.

        Returns:
            Actions, shape `(batch, *action_space.shape)`, in the type that `predict` gives.
        """
        return self.to_environment(self.policy._predict(self.prepare(observation), deterministic=True))

    @property
    def preprocesses(self) -> bool:
        """Whether a stage of the user's own comes first."""
        return self._extractor is not None

    def prepare(self, observation: Any) -> Any:
        """Makes of an observation of the environment what the policy takes."""
        if self._extractor is not None:
            observation = self._preprocess(self._extractor, observation)
        if self._is_dict:
            return {key: self._prepare_part(observation[key], key) for key in self._shapes}
        return self._prepare_part(observation, "")

    def _preprocess(self, extractor: FeaturesExtractor, observation: Any) -> Any:
        problem: Exception | None = None
        try:
            observation = extractor.preprocess(observation)
        except (AttributeError, RuntimeError, TypeError, ValueError) as error:  # what NumPy raises on tensors
            problem = error
        if problem is not None or not all(isinstance(leaf, Tensor) for leaf in tree_leaves(observation)):
            raise ArgumentError(
                "features_extractor",
                extractor,
                "its preprocessing stage cannot work with tensors, which exporting asks for",
                "Use operators, indexing and methods that NumPy and torch have in common.",
            ) from problem
        return observation

    def _prepare_part(self, observation: Tensor, key: str) -> Tensor:
        if key in self._statistics:
            observation = self._normalise(observation, self._statistics[key])
        if self._channels_last[key]:
            observation = observation.permute(0, 3, 1, 2)
        return observation.reshape(-1, *self._shapes[key])

    def _normalise(self, observation: Tensor, index: int) -> Tensor:
        mean, scale = getattr(self, f"mean_{index}"), getattr(self, f"scale_{index}")
        # In the precision of the mean, which is double, as NumPy does it: single precision would lose large means.
        centred = observation.to(mean.dtype) - mean
        if mean.dtype != torch.float64:
            centred = centred - getattr(self, f"rest_{index}")
        return (centred / scale).clamp(-self._clip, self._clip).float()

    def use_single_precision(self) -> None:
        """Does without numbers of double precision, for runtimes that have none.

        What single precision leaves of a mean is subtracted afterwards, so that little is lost.
        """
        for index in self._statistics.values():
            mean = getattr(self, f"mean_{index}")
            self.register_buffer(f"rest_{index}", (mean - mean.float()).float())
        self.float()

    def to_environment(self, actions: Tensor) -> Tensor:
        """Brings the policy's actions to the shape and the bounds of the environment's."""
        actions = actions.reshape(-1, *self._action_shape)
        if not self._continuous:
            return actions
        if self.policy.squash_output:
            return self.low + (0.5 * (actions + 1.0) * (self.high - self.low))
        return torch.clamp(actions, self.low, self.high)


class MaskableActingModule(ActingModule):
    """Acts with invalid actions masked."""

    def forward(self, observation: Any, action_masks: Tensor | None = None) -> Any:
        """Acts.

        Args:
            observation: Batched observation as the environment gives it.
            action_masks: Which actions are valid, bool, shape `(batch, n)` or `(1, n)`: `n` actions of a Discrete
                space, all parts of a MultiDiscrete side by side, off and on of every bit of a MultiBinary. None: all.

        Returns:
            Actions, shape `(batch, *action_space.shape)`.
        """
        prepared = self.prepare(observation)
        if action_masks is not None:
            first = next(iter(prepared.values())) if isinstance(prepared, dict) else prepared
            action_masks = action_masks & torch.ones((first.shape[0], 1), dtype=torch.bool)
        actions = self.policy._predict(prepared, deterministic=True, action_masks=action_masks)
        return self.to_environment(actions)

    def example(self, batch_size: int) -> tuple[Any, ...]:
        """Returns arguments for `forward` (zeros, nothing masked) of this batch size."""
        return (*super().example(batch_size), torch.ones((batch_size, self.mask_size), dtype=torch.bool))

    def batch_axes(self) -> tuple[Any, ...]:
        """Returns, in the structure of `example`, which axis is the batch."""
        return (*super().batch_axes(), 0)

    @property
    def mask_size(self) -> int:
        """Length of one mask."""
        return mask_width(self.action_space)


class RecurrentActingModule(ActingModule):
    """Acts with the memory of an LSTM, one step at a time."""

    states = ("state_h", "state_c")

    def forward(  # type: ignore[override]
        self, observation: Any, state_h: Tensor, state_c: Tensor, episode_starts: Tensor | None = None
    ) -> Any:
        """Acts.

        Args:
            observation: Batched observation as the environment gives it.
            state_h: Hidden state after the step before, float32, shape `(layers, batch, hidden)`; zeros at first.
            state_c: Cell state, likewise.
            episode_starts: Whose episode begins with this observation, bool, shape `(batch,)`: the state of those
                is taken for zeros. None: nobody's.

        Returns:
            Actions of shape `(batch, *action_space.shape)`, the next hidden state and the next cell state.
        """
        policy = self.policy
        # The actor-critic's own method would also extract the features of the critic.
        features = BaseModel.extract_features(policy, self.prepare(observation), policy.pi_features_extractor)
        if episode_starts is not None:
            going_on = (~episode_starts).to(torch.float32).reshape(1, -1, 1)
            state_h, state_c = going_on * state_h, going_on * state_c
        # As the library's `_process_sequence` for sequences of one step, without its branches on what the data hold.
        output, (next_h, next_c) = policy.lstm_actor(features.unsqueeze(0), (state_h, state_c))
        latent = policy.mlp_extractor.forward_actor(output.squeeze(0))
        actions = policy._get_action_dist_from_latent(latent).get_actions(deterministic=True)
        return self.to_environment(actions), next_h, next_c

    def example(self, batch_size: int) -> tuple[Any, ...]:
        """Returns arguments for `forward` (zeros) of this batch size."""
        layers, _, size = self.policy.lstm_hidden_state_shape
        states = [torch.zeros((layers, batch_size, size)) for _ in range(2)]
        return (*super().example(batch_size), *states, torch.zeros(batch_size, dtype=torch.bool))

    def batch_axes(self) -> tuple[Any, ...]:
        """Returns, in the structure of `example`, which axis is the batch."""
        return (*super().batch_axes(), 1, 1, 0)


def parts_of(space: spaces.Space[Any]) -> dict[str, spaces.Space[Any]]:
    """Returns the parts of an observation by key; "" for an observation that is no dictionary.

    Raises:
        UnsupportedSpaceError: A part is itself a structure.
    """
    parts = dict(space.spaces) if isinstance(space, spaces.Dict) else {"": space}
    for part in parts.values():
        if part.shape is None or part.dtype is None:
            raise UnsupportedSpaceError("observation_space", space, f"{type(part).__name__} is no array of numbers")
    return parts


def _is_maskable(policy: Any) -> bool:
    # By what it can do: sb3-contrib is an extra, and policies of one's own need not derive from its class.
    return hasattr(getattr(policy, "action_dist", None), "apply_masking")


class _DetachedCopies(TorchFunctionMode):
    """Lets tensors be copied that remember how they were computed, which `copy.deepcopy` refuses.

    A policy holds such tensors in its last distribution, and with gSDE in its exploration matrices.
    """

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is Tensor.__deepcopy__ and not args[0].is_leaf:
            return args[0].detach().clone()
        return func(*args, **(kwargs or {}))


def _copy_of(policy: nn.Module) -> nn.Module:
    optimizers = [
        value
        for module in policy.modules()
        for value in vars(module).values()
        if isinstance(value, torch.optim.Optimizer)
    ]
    # Optimizers hold twice as much as the networks, and acting needs none.
    memo: dict[int, Any] = {id(optimizer): object() for optimizer in optimizers}
    for arguments in (getattr(module, "features_extractor_kwargs", None) for module in policy.modules()):
        if arguments is not None:  # the user's objects, which are not called again
            memo[id(arguments)] = arguments
    with _DetachedCopies(), torch.no_grad():
        copied = copy.deepcopy(policy, memo)
    return copied.to("cpu").requires_grad_(False).eval()


class _UsedTensors(TorchDispatchMode):
    """Notes which memory the operations inside the block read."""

    def __init__(self) -> None:
        super().__init__()
        self.addresses: set[int] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        for leaf in tree_leaves((args, kwargs)):
            if isinstance(leaf, Tensor):
                self.addresses.add(leaf.untyped_storage().data_ptr())
        return func(*args, **(kwargs or {}))


@contextmanager
def _called_modules() -> Iterator[set[int]]:
    called: set[int] = set()
    hook = register_module_forward_pre_hook(lambda module, arguments: called.add(id(module)))
    try:
        yield called
    finally:
        hook.remove()


def _drop_what_acting_does_not_use(acting: ActingModule) -> None:
    """Removes critics and target networks, which are most of what an off-policy algorithm holds.

    What acting uses is found by acting, since policies of one's own have parts of any name.
    """
    with _called_modules() as called, _UsedTensors() as used, torch.no_grad():
        acting(*acting.example(2))
    for module in acting.policy.modules():
        if id(module) in called:  # what it does not compute with, it may still ask for its shape
            continue
        for tensors in (module._parameters, module._buffers):
            for name, tensor in tensors.items():
                if tensor is not None and tensor.untyped_storage().data_ptr() not in used.addresses:
                    tensors[name] = None
