"""An agent as ML-Agents in Unity sees it: what comes in from its sensors, and what goes out to its actuators."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import numpy as np
import torch
from gymnasium import spaces
from numpy.typing import NDArray
from stable_baselines3.common.distributions import (
    CategoricalDistribution,
    DiagGaussianDistribution,
    MultiCategoricalDistribution,
    SquashedDiagGaussianDistribution,
)
from torch import Tensor, nn

from rl_framework.agent.reinforcement.export.acting_module import (
    ActingModule,
    MaskableActingModule,
    RecurrentActingModule,
    parts_of,
)
from rl_framework.errors import ArgumentError, UnsupportedSpaceError

__all__ = ["UnityModule"]

_FORBIDDEN = 1e8


class UnityModule(nn.Module):
    """An acting module between what Unity gives and what it takes.

    Args:
        acting: The acting part of an agent; it is changed.
        channels_first: See `save_for_unity`.
        hybrid_actions: See `save_for_unity`.

    Attributes:
        acting: As given.
        sensors: Keys of the observation in the order of the sensors; "" for an observation that is no dictionary.
        n_continuous: How many continuous actions there are.
        branches: Sizes of the discrete ones.
        mask_size: Their sum.
        memory_size: Numbers in the memory of all layers, or 0.

    Raises:
        UnsupportedSpaceError: The observations or actions are none that a behaviour in Unity can have.
        ArgumentError: The actions are not those of `hybrid_actions`.
    """

    def __init__(
        self, acting: ActingModule, channels_first: bool | None, hybrid_actions: tuple[int, Sequence[int]] | None
    ) -> None:
        super().__init__()
        self.acting = acting
        acting.use_single_precision()
        _simplify_distributions(acting.policy, acting.action_space)
        self.sensors = _sensors_of(acting.observation_space)
        parts = parts_of(acting.observation_space)
        self._parts = [parts[key] for key in self.sensors]
        self._moves_channels = [_moves_channels(part, channels_first) for part in self._parts]
        self._learn_actions(acting.action_space, hybrid_actions)
        self.memory_size = 0
        if isinstance(acting, RecurrentActingModule):
            layers, _, hidden = acting.policy.lstm_hidden_state_shape
            self._memory_parts = layers, hidden
            self.memory_size = 2 * layers * hidden
        self.mask_size = sum(self.branches)
        self.eval()

    def _learn_actions(self, space: spaces.Space[Any], hybrid: tuple[int, Sequence[int]] | None) -> None:
        self._hybrid, self._n_bins, self.n_continuous, self.branches = "", 0, 0, list[int]()
        if isinstance(space, spaces.Box):
            if len(space.shape) != 1 or not (np.all(space.low == -1) and np.all(space.high == 1)):
                raise UnsupportedSpaceError(
                    "action_space",
                    space,
                    "continuous actions in Unity are one row of numbers from -1 to 1",
                    "Train in a UnityEnvironmentAdapter, or with gymnasium.wrappers.RescaleAction.",
                )
            self.n_continuous = space.shape[0]
        elif isinstance(space, spaces.Discrete) and space.start == 0:
            self.branches = [int(space.n)]
        elif isinstance(space, spaces.MultiDiscrete) and space.nvec.ndim == 1 and not np.any(space.start):
            self.branches = [int(size) for size in space.nvec]
        else:
            raise UnsupportedSpaceError(
                "action_space", space, "actions in Unity are a Box from -1 to 1, Discrete or MultiDiscrete, from 0"
            )
        if hybrid is not None:
            self._learn_hybrid_actions(space, *hybrid)

    def _learn_hybrid_actions(self, space: spaces.Space[Any], n_continuous: int, branches: Sequence[int]) -> None:
        given, sizes = (n_continuous, list(branches)), [int(size) for size in branches]
        if isinstance(space, spaces.Box) and space.shape == (n_continuous + sum(sizes),):
            self._hybrid = "scores"
        elif isinstance(space, spaces.MultiDiscrete) and self.branches[n_continuous:] == sizes and n_continuous:
            self._hybrid, self._n_bins = "bins", self.branches[0]
        if not self._hybrid or not n_continuous or len(set(self.branches[:n_continuous])) > 1:
            raise ArgumentError(
                "hybrid_actions", given, f"the actions {space} are not what the adapter makes of such a behaviour"
            )
        self.n_continuous, self.branches = n_continuous, sizes

    @property
    def input_names(self) -> list[str]:
        """The inputs that the actions depend on."""
        names = [f"obs_{index}" for index in range(len(self.sensors))]
        if self.uses_masks:
            names.append("action_masks")
        return [*names, "recurrent_in"] if self.memory_size else names

    @property
    def uses_masks(self) -> bool:
        """Whether masks change the actions: algorithms that were trained without them do as they did then."""
        return isinstance(self.acting, MaskableActingModule) or self._hybrid == "scores"

    @property
    def output_names(self) -> list[str]:
        """The outputs of `forward`."""
        names = ["continuous_actions"] if self.n_continuous else []
        names += ["discrete_actions"] if self.branches else []
        return [*names, "recurrent_out"] if self.memory_size else names

    @property
    def widths(self) -> dict[str, int]:
        """How many numbers the actions have."""
        sizes = {"continuous_actions": self.n_continuous, "discrete_actions": len(self.branches)}
        return {name: size for name, size in sizes.items() if size}

    @property
    def constants(self) -> dict[str, NDArray[np.float32]]:
        """Outputs that do not depend on anything."""
        values: dict[str, Any] = {"version_number": [3], "memory_size": [self.memory_size]}
        if self.n_continuous:
            values["continuous_action_output_shape"] = [self.n_continuous]
        if self.branches:
            values["discrete_action_output_shape"] = [self.branches]
        return {name: np.array(value, np.float32) for name, value in values.items()}

    def example(self, batch_size: int) -> tuple[Tensor, ...]:
        """Returns arguments for `forward` (zeros, nothing masked) of this batch size."""
        inputs = []
        for part, moves in zip(self._parts, self._moves_channels, strict=True):
            shape = part.shape or ()
            inputs.append(torch.zeros((batch_size, *((shape[2], *shape[:2]) if moves else shape))))
        if self.uses_masks:
            inputs.append(torch.ones((batch_size, self.mask_size)))
        if self.memory_size:
            inputs.append(torch.zeros((batch_size, 1, self.memory_size)))
        return tuple(inputs)

    def as_unity_gives(self, observation: Any) -> list[Tensor]:
        """Makes of batched observations of the environment what Unity would give."""
        inputs = []
        for key, part, moves in zip(self.sensors, self._parts, self._moves_channels, strict=True):
            tensor = torch.from_numpy(np.asarray(observation[key] if key else observation)).float()
            if part.dtype == np.uint8:
                tensor = tensor / 255.0
            inputs.append(tensor.permute(0, 3, 1, 2) if moves else tensor)
        return inputs

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """Acts; see the module for the inputs and outputs."""
        given = dict(zip(self.input_names, inputs, strict=True))
        observation: Any = {
            key: self._as_environment_gives(given[f"obs_{index}"], index) for index, key in enumerate(self.sensors)
        }
        if self.sensors == [""]:
            observation = observation[""]
        masks = given.get("action_masks")
        if not self.memory_size:
            return tuple(self.for_unity(self._act(observation, masks), masks))
        actions, *states = self.acting(observation, *self.states_in(given["recurrent_in"]))
        return *self.for_unity(actions, masks), self.memory_of(*states)

    def _as_environment_gives(self, tensor: Tensor, index: int) -> Tensor:
        if self._parts[index].dtype == np.uint8:
            tensor = torch.floor(tensor.clamp(0.0, 1.0) * 255.0 + 0.5)  # Round came with opset 11
        return tensor.permute(0, 2, 3, 1) if self._moves_channels[index] else tensor

    def _act(self, observation: Any, masks: Tensor | None) -> Tensor:
        if not isinstance(self.acting, MaskableActingModule):
            return cast(Tensor, self.acting(observation))
        assert masks is not None
        if self._hybrid == "bins":
            everything = torch.ones((1, self._n_bins * self.n_continuous))
            masks = torch.cat([masks[:, :1] * 0.0 + everything, masks], dim=1)
        prepared = self.acting.prepare(observation)
        actions = self.acting.policy._predict(prepared, deterministic=True, action_masks=masks)
        return self.acting.to_environment(actions)

    def for_unity(self, actions: Tensor, masks: Tensor | None) -> list[Tensor]:
        """Makes of actions of the environment the outputs of `forward`, without the memory."""
        if self._hybrid == "scores":
            assert masks is not None
            scores = _Choice.masked(actions[:, self.n_continuous :], masks)
            return [actions[:, : self.n_continuous], _best_of_each(scores, self.branches)]
        if self._hybrid == "bins":
            steps = actions[:, : self.n_continuous].float() / (self._n_bins - 1)
            return [2.0 * steps - 1.0, actions[:, self.n_continuous :]]
        if self.branches:
            return [actions.reshape(-1, len(self.branches))]
        return [actions]

    def states_in(self, memory: Tensor) -> tuple[Tensor, Tensor]:
        """Returns the hidden and the cell states, shape `(layers, batch, hidden)`, of a memory as Unity keeps it."""
        layers, hidden = self._memory_parts
        memory = memory.transpose(0, 1)
        parts = [memory[:, :, start : start + hidden] for start in range(0, self.memory_size, hidden)]
        halves = parts[:layers], parts[layers:]
        one, other = (half[0] if layers == 1 else torch.cat(half, dim=0) for half in halves)
        return one, other

    def memory_of(self, state_h: Tensor, state_c: Tensor) -> Tensor:
        """Returns the memory, shape `(batch, 1, memory_size)`, that holds hidden and cell states."""
        layers, _ = self._memory_parts
        rows = [state[layer : layer + 1] for state in (state_h, state_c) for layer in range(layers)]
        return torch.cat(rows, dim=-1).transpose(0, 1)


class _Choice(CategoricalDistribution):
    """The most likely choice of each branch, without computing how likely: Barracuda has not the operators for it.

    Args:
        space: Discrete or MultiDiscrete.
    """

    def __init__(self, space: Any) -> None:
        super().__init__(1)
        self._sizes = [int(space.n)] if isinstance(space, spaces.Discrete) else [int(size) for size in space.nvec]

    def proba_distribution(self, action_logits: Tensor) -> _Choice:
        self._logits = action_logits
        return self

    def apply_masking(self, masks: Tensor) -> None:
        self._logits = self.masked(self._logits, masks)

    @staticmethod
    def masked(scores: Tensor, masks: Tensor) -> Tensor:
        return scores * masks - (1.0 - masks) * _FORBIDDEN

    def mode(self) -> Tensor:
        return _best_of_each(self._logits, self._sizes)


class _Mean(DiagGaussianDistribution):
    """The most likely continuous action, without computing how likely it is."""

    def proba_distribution(self, mean_actions: Tensor, log_std: Tensor) -> _Mean:
        self._mean = mean_actions
        return self

    def mode(self) -> Tensor:
        return self._mean


class _SquashedMean(_Mean):
    def mode(self) -> Tensor:
        return torch.tanh(self._mean)


def _simplify_distributions(policy: nn.Module, space: spaces.Space[Any]) -> None:
    for module in policy.modules():
        distribution = getattr(module, "action_dist", None)
        chooses = type(distribution) in (CategoricalDistribution, MultiCategoricalDistribution)
        if chooses or hasattr(distribution, "apply_masking"):
            module.action_dist = _Choice(space)  # type: ignore[assignment]
        elif type(distribution) is DiagGaussianDistribution:
            module.action_dist = _Mean(distribution.action_dim)  # type: ignore[assignment]
        elif type(distribution) is SquashedDiagGaussianDistribution:
            module.action_dist = _SquashedMean(distribution.action_dim)  # type: ignore[assignment]


def _best_of_each(scores: Tensor, sizes: Sequence[int]) -> Tensor:
    ends = np.cumsum(sizes).tolist()
    parts = [scores[:, end - size : end] for end, size in zip(ends, sizes, strict=True)]
    return torch.cat([part.argmax(dim=1, keepdim=True) for part in parts], dim=1)


def _sensors_of(space: spaces.Space[Any]) -> list[str]:
    """Returns the keys of the observation in the order of the sensors; "" for an observation that is no dictionary.

    Raises:
        UnsupportedSpaceError: It is nothing that sensors observe.
    """
    parts = parts_of(space)
    for part in parts.values():
        if not isinstance(part, spaces.Box) or not 1 <= len(part.shape) <= 3:
            raise UnsupportedSpaceError(
                "observation_space", space, "sensors in Unity observe a Box of one to three dimensions each"
            )
    if not isinstance(space, spaces.Dict):
        return [""]
    wanted = [f"obs_{index}" for index in range(len(parts))]
    if set(parts) != set(wanted):
        raise UnsupportedSpaceError(
            "observation_space",
            space,
            f"its keys must be {wanted}, one for each sensor",
            "Train in a UnityEnvironmentAdapter, which calls them so.",
        )
    return wanted


def _moves_channels(part: spaces.Space[Any], channels_first: bool | None) -> bool:
    shape = part.shape or ()
    if len(shape) != 3:
        return False
    return not (int(np.argmin(shape)) == 0 if channels_first is None else channels_first)
