"""What ML-Agents calls observations and actions, in gymnasium's spaces."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from rl_framework.environment.unity.options import UnityOptions
from rl_framework.errors import EnvironmentSourceError, RLFrameworkError

__all__ = ["BehaviorSpaces"]


class BehaviorSpaces:
    """The spaces of one behaviour, and the translation into and from what `mlagents_envs` uses.

    Observations: one sensor is observed as it is, several as a `Dict` with the entries "obs_0", "obs_1", ... in
    ML-Agents' order, which are also the names of the inputs of a network in Unity. Vectors and buffers of entities are
    `Box` without bounds, float32. Images (three dimensions) are uint8 from 0 to 255, or float32 as they came with
    `visual_observations="float"`.

    Actions: continuous ones are a `Box` from -1 to 1, one discrete branch is `Discrete`, several are `MultiDiscrete`;
    both kinds together are what `hybrid_actions` says: see `UnityEnvironmentAdapter`.

    Args:
        name: Of the behaviour.
        specification: ML-Agents' `BehaviorSpec`.
        options: How to translate.

    Attributes:
        sensor_names: What the sensors are called in Unity.
    """

    def __init__(self, name: str, specification: Any, options: UnityOptions) -> None:
        self.name = name
        self._options = options
        self.sensor_names = [str(getattr(each, "name", "")) for each in specification.observation_specs]
        self._shapes = [tuple(each.shape) for each in specification.observation_specs]
        self.n_continuous = int(specification.action_spec.continuous_size)
        self.branches = [int(size) for size in specification.action_spec.discrete_branches]
        if not self._shapes:
            raise EnvironmentSourceError("behavior_name", name, "it observes nothing", "Give its agents a sensor.")
        if not self.n_continuous and not self.branches:
            raise EnvironmentSourceError(
                "behavior_name", name, "it has no actions", "Set them in its Behavior Parameters in Unity."
            )
        self.is_hybrid = bool(self.n_continuous and self.branches)
        parts = [self._sensor_space(shape) for shape in self._shapes]
        self.observation_space: spaces.Space[Any] = (
            parts[0] if len(parts) == 1 else spaces.Dict([(f"obs_{index}", part) for index, part in enumerate(parts)])
        )
        self.action_space = self._make_action_space()

    def _sensor_space(self, shape: tuple[int, ...]) -> spaces.Box:
        if len(shape) == 3 and self._options.visual_observations == "uint8":
            return spaces.Box(0, 255, shape, np.uint8)
        return spaces.Box(-np.inf, np.inf, shape, np.float32)

    def _make_action_space(self) -> spaces.Space[Any]:
        continuous = spaces.Box(-1.0, 1.0, (self.n_continuous,), np.float32)
        if not self.branches:
            return continuous
        if not self.is_hybrid:
            return spaces.Discrete(self.branches[0]) if len(self.branches) == 1 else spaces.MultiDiscrete(self.branches)
        if self._options.hybrid_actions == "dict":
            return spaces.Dict({"continuous": continuous, "discrete": spaces.MultiDiscrete(self.branches)})
        if self._options.hybrid_actions == "scores":
            return spaces.Box(-1.0, 1.0, (self.n_continuous + sum(self.branches),), np.float32)
        return spaces.MultiDiscrete([self._options.n_bins] * self.n_continuous + self.branches)

    def observations(self, steps: Any) -> list[Any]:
        """Translates the observations of ML-Agents' `DecisionSteps` or `TerminalSteps`.

        Returns:
            A member of the observation space for each agent in them.
        """
        sensors = [self._translate(index, array) for index, array in enumerate(steps.obs)]
        if len(sensors) == 1:
            return [np.array(row) for row in sensors[0]]
        return [
            {f"obs_{index}": np.array(array[row]) for index, array in enumerate(sensors)} for row in range(len(steps))
        ]

    def _translate(self, index: int, array: NDArray[Any]) -> NDArray[Any]:
        if len(self._shapes[index]) != 3 or self._options.visual_observations == "float" or not len(array):
            return array
        if not (array.min() >= -1e-3 and array.max() <= 1.001):
            raise RLFrameworkError(
                f"sensor {self.sensor_names[index]!r} of behaviour {self.name!r} is no image: its values reach from "
                f"{array.min():g} to {array.max():g}, and images reach from 0 to 1. Give "
                'environment_kwargs={"visual_observations": "float"} to have them as they are.'
            )
        return np.rint(np.clip(array, 0.0, 1.0) * 255.0).astype(np.uint8)

    def image(self, observation: Any) -> NDArray[np.uint8] | None:
        """Returns the first image in an observation, as `(height, width, 3)`, or None if there is none."""
        for index, shape in enumerate(self._shapes):
            if len(shape) != 3:
                continue
            image = observation[f"obs_{index}"] if len(self._shapes) > 1 else observation
            if image.dtype != np.uint8:
                image = np.rint(np.clip(image, 0.0, 1.0) * 255.0).astype(np.uint8)
            if image.shape[0] in (1, 3) and image.shape[2] not in (1, 3):  # later versions put the channels first
                image = np.moveaxis(image, 0, 2)
            if image.shape[2] == 1:
                image = np.repeat(image, 3, axis=2)
            if image.shape[2] >= 3:
                return np.ascontiguousarray(image[:, :, :3])
        return None

    def masks(self, decisions: Any) -> list[NDArray[np.bool_] | None]:
        """Translates action masks: for each agent which choices are allowed, the branches one after the other."""
        if not self.branches:
            return [None] * len(decisions)
        if decisions.action_mask is None:
            return [np.ones(sum(self.branches), dtype=np.bool_) for _ in range(len(decisions))]
        # ML-Agents says what is forbidden.
        allowed = ~np.concatenate(decisions.action_mask, axis=1).astype(np.bool_)
        return [np.array(row) for row in allowed]

    def mask_info(self, mask: NDArray[np.bool_] | None) -> dict[str, Any]:
        """Returns the entry of an info: "action_mask" if it speaks of all actions, as sb3-contrib has it."""
        if mask is None:
            return {}
        if not self.is_hybrid:
            return {"action_mask": mask}
        if self._options.hybrid_actions == "bins":
            everything = np.ones(self._options.n_bins * self.n_continuous, dtype=np.bool_)
            return {"action_mask": np.concatenate([everything, mask])}
        return {"discrete_action_mask": mask}

    def actions(
        self, actions: Sequence[Any], masks: Sequence[NDArray[np.bool_] | None]
    ) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
        """Translates actions.

        Args:
            actions: Members of the action space.
            masks: What was allowed to each.

        Returns:
            Continuous actions, shape `(n, n_continuous)`, and discrete ones, shape `(n, n_branches)`.
        """
        continuous = np.zeros((len(actions), self.n_continuous), dtype=np.float32)
        discrete = np.zeros((len(actions), len(self.branches)), dtype=np.int32)
        for row, (action, mask) in enumerate(zip(actions, masks, strict=True)):
            if not self.is_hybrid:
                if self.branches:
                    discrete[row] = np.reshape(action, -1)
                else:
                    continuous[row] = action
            elif self._options.hybrid_actions == "dict":
                continuous[row], discrete[row] = action["continuous"], action["discrete"]
            elif self._options.hybrid_actions == "scores":
                continuous[row] = action[: self.n_continuous]
                discrete[row] = self._best(action[self.n_continuous :], mask)
            else:
                steps = np.asarray(action[: self.n_continuous]) / (self._options.n_bins - 1)
                continuous[row], discrete[row] = 2.0 * steps - 1.0, action[self.n_continuous :]
        return np.clip(continuous, -1.0, 1.0), discrete

    def _best(self, scores: NDArray[Any], mask: NDArray[np.bool_] | None) -> list[int]:
        allowed = scores if mask is None else np.where(mask, scores, -np.inf)
        ends = np.cumsum(self.branches)
        return [int(np.argmax(allowed[end - size : end])) for end, size in zip(ends, self.branches, strict=True)]

    def nothing(self) -> Any:
        """Returns what stands in the row of a slot that holds nobody."""
        if isinstance(self.observation_space, spaces.Dict):
            return {key: np.zeros(part.shape or (), part.dtype) for key, part in self.observation_space.spaces.items()}
        return np.zeros(self.observation_space.shape or (), self.observation_space.dtype)
