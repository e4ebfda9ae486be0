"""GAIL and AIRL where the generator's observations or actions are of a kind that the library cannot handle.

Between the environments and the generator stand wrappers of the library that hold transitions and pay the learned
reward. Where observations are dicts, they are given rows (`ObservationRows`), and the generator the dicts again:

    environments -> ShownAsRows -> the library's wrappers -> ShownAsParts -> generator
"""

from __future__ import annotations

from typing import Any

import torch
from gymnasium import spaces
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.vec_env import VecEnv, VecEnvWrapper

from rl_framework.agent.imitation.library.observation_rows import ObservationRows

__all__ = ["GeneratorOverRows", "ShownAsParts", "ShownAsRows", "trainer_class"]

_FINAL = "terminal_observation"


class ShownAsRows(VecEnvWrapper):
    """Environments whose observations are rows.

    Args:
        venv: The environments.
        rows: Makes the rows.

    Attributes:
        shown: The observations of the last step as they were.
        ended: The last observations of the episodes that it ended, by slot.
    """

    def __init__(self, venv: VecEnv, rows: ObservationRows) -> None:
        super().__init__(venv, observation_space=rows.space)
        self._rows = rows
        self.shown: Any = None
        self.ended: dict[int, Any] = {}

    def reset(self) -> Any:
        """Begins episodes everywhere."""
        self.shown = self.venv.reset()
        return self._rows(self.shown)

    def step_wait(self) -> Any:
        """Returns the step."""
        self.shown, rewards, dones, infos = self.venv.step_wait()
        self.ended = {slot: infos[slot][_FINAL] for slot in dones.nonzero()[0].tolist()}
        told = [
            {**info, _FINAL: self._rows.one(self.ended[slot])} if slot in self.ended else info
            for slot, info in enumerate(infos)
        ]
        return self._rows(self.shown), rewards, dones, told


class ShownAsParts(VecEnvWrapper):
    """Environments over `ShownAsRows`, whose observations are the dicts again.

    Args:
        venv: The wrappers in between.
        below: The one whose observations they are.
    """

    def __init__(self, venv: VecEnv, below: ShownAsRows) -> None:
        super().__init__(venv, observation_space=below.venv.observation_space)
        self._below = below

    def reset(self) -> Any:
        """Begins episodes everywhere."""
        self.venv.reset()
        return self._below.shown

    def step_wait(self) -> Any:
        """Returns the step."""
        _, rewards, dones, infos = self.venv.step_wait()
        for slot, observation in self._below.ended.items():
            infos[slot][_FINAL] = observation
        return self._below.shown, rewards, dones, infos


class GeneratorOverRows:
    """The generator as the library's constructor sees it, which sets its environments to those with rows.

    Args:
        algorithm: The generator.
        below: The environments with rows.
    """

    def __init__(self, algorithm: BaseAlgorithm, below: ShownAsRows) -> None:
        self._algorithm, self._below = algorithm, below

    def set_env(self, env: VecEnv) -> None:
        """Lets the generator train in environments over those with rows."""
        self._algorithm.set_env(ShownAsParts(env, self._below))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._algorithm, name)


def trainer_class(library_class: type[Any], rows: ObservationRows | None, action_space: Any) -> type[Any]:
    """Returns the library's class, or one for observations or actions that it asks the policy about in a wrong form.

    Args:
        library_class: GAIL or AIRL.
        rows: What its observations are, if they are rows.
        action_space: Of the generator.
    """
    binary = isinstance(action_space, spaces.MultiBinary)
    if rows is None and not binary:
        return library_class

    class InParts(library_class):
        def _get_log_policy_act_prob(self, obs_th: torch.Tensor, acts_th: torch.Tensor) -> torch.Tensor | None:
            observations: Any = obs_th if rows is None else rows.parts_of(obs_th)
            # Bernoulli distributions take no integers.
            actions = acts_th.float() if binary else acts_th
            probabilities: torch.Tensor | None = super()._get_log_policy_act_prob(observations, actions)
            return probabilities

    InParts.__name__ = InParts.__qualname__ = library_class.__name__
    return InParts
