"""Parameters that others have tuned, ready for `ImitationAgent`.

They are those of the benchmark in the library `imitation` 1.0.1 (Gleave et al. 2022, "imitation: Clean Imitation
Learning Implementations", https://arxiv.org/abs/2211.11972): BC, DAgger, GAIL and AIRL, tuned on each of the `seals`
environments Ant, HalfCheetah, Hopper, Swimmer and Walker2d. CartPole was not tuned: its parameters are the defaults of
the benchmark's scripts. `presets.json` holds them, each with the file of that release that it was taken from.
"""

from __future__ import annotations

import copy
import json
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any

from rl_framework.errors import UnknownNameError

__all__ = ["Preset", "tuned_parameters", "tuned_preset", "tuned_presets"]


@dataclass(frozen=True)
class Preset:
    """Tuned parameters of one algorithm on one environment.

    Attributes:
        algorithm: Registered name of the algorithm ("bc", "dagger", "gail", "airl").
        environment: Id of the environment, as `gymnasium.make` takes it after `import seals`.
        algorithm_parameters: What `ImitationAgent` takes.
        training: How much the source trained: arguments of `ImitationAgent.train`, or `n_epochs` (passes over the
            expert's transitions) or `n_batches` for an algorithm that never acts; see `total_timesteps`.
            DAgger was given no episodes there (`episode_sequence=None`): it asks its expert for all of them.
        source: Where the parameters were published.
    """

    algorithm: str
    environment: str
    algorithm_parameters: dict[str, Any]
    training: dict[str, int]
    source: str

    def total_timesteps(self, n_transitions: int) -> int:
        """Returns how long to train, in the unit of `ImitationAgent.train`.

        Args:
            n_transitions: Transitions in the expert's episodes. Only algorithms that never act depend on it.

        Returns:
            Environment steps, or transitions for an algorithm that never acts.
        """
        if "n_epochs" in self.training:
            return self.training["n_epochs"] * n_transitions
        if "n_batches" in self.training:
            return self.training["n_batches"] * int(self.algorithm_parameters["batch_size"])
        return self.training["total_timesteps"]


@cache
def _all_presets() -> dict[tuple[str, str], Preset]:
    text = resources.files(__package__).joinpath("presets.json").read_text(encoding="utf-8")
    presets = [Preset(**fields) for fields in json.loads(text)]
    return {(preset.algorithm, preset.environment): preset for preset in presets}


def tuned_presets() -> list[tuple[str, str]]:
    """Returns for which algorithms and environments there are presets, as `(algorithm, environment)`."""
    return list(_all_presets())


def tuned_preset(algorithm: str, environment: str) -> Preset:
    """Returns a preset, with its source and the amount of training; it may be changed freely.

    Args:
        algorithm: Such as "gail".
        environment: Such as "seals/Hopper-v1".

    Raises:
        UnknownNameError: There is none for this algorithm, or none for it on this environment.
    """
    known = _all_presets()
    if algorithm not in {name for name, _ in known}:
        raise UnknownNameError("algorithm", algorithm, sorted({name for name, _ in known}))
    if (algorithm, environment) not in known:
        environments = [place for name, place in known if name == algorithm]
        raise UnknownNameError("environment", environment, environments, "Parameters of a similar one may do.")
    return copy.deepcopy(known[algorithm, environment])


def tuned_parameters(algorithm: str, environment: str) -> dict[str, Any]:
    """Returns tuned parameters, as `ImitationAgent` takes them; they may be changed freely.

    They come from the benchmark of the library `imitation`; `tuned_preset` also tells the file of it and how much it
    trained. Example: `ImitationAgent("gail", tuned_parameters("gail", "seals/Hopper-v1"))`.

    Args:
        algorithm: "bc", "dagger", "gail" or "airl".
        environment: Such as "seals/Hopper-v1".

    Raises:
        UnknownNameError: There is none for this algorithm, or none for it on this environment.
    """
    return tuned_preset(algorithm, environment).algorithm_parameters
