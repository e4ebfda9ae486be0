"""The parts of preference comparisons as data: by the library's names, checked, and built.

| parameter | types | of its arguments |
|---|---|---|
| `trajectory_generator` | `agent`, `dataset` | `exploration_frac`, `switch_prob`, `random_prob` |
| `fragmenter` | `random` | `warning_threshold` |
| | `active` | `fragment_sample_factor`, `uncertainty_on` ("logit", "probability", "label"); needs an ensemble |
| `preference_gatherer` | `synthetic` | `temperature`, `discount_factor`, `sample`, `threshold` |
| `reward_trainer` | `basic`, `ensemble` | `batch_size`, `minibatch_size`, `epochs`, `lr`, and the two below |

`preference_model` has `noise_prob`, `discount_factor` and `threshold`; `regularizer_factory` is data too, see
`rl_framework.agent.imitation.preference.regularizer`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from rl_framework.agent.imitation.library.observation_rows import ObservationRows
from rl_framework.agent.imitation.preference.regularizer import regularizer_data, regularizer_factory
from rl_framework.errors import ArgumentError, UnknownNameError

__all__ = ["CUSTOM", "PARTS", "build_fragmenter", "build_gatherer", "build_reward_trainer", "part_data"]

_TRAINER = ("batch_size", "minibatch_size", "epochs", "lr", "preference_model", "regularizer_factory")
_MODEL = ("noise_prob", "discount_factor", "threshold")
_EXPLORING = ("exploration_frac", "switch_prob", "random_prob")

PARTS: dict[str, dict[str, tuple[str, ...]]] = {
    "trajectory_generator": {"agent": _EXPLORING, "dataset": _EXPLORING},
    "fragmenter": {"random": ("warning_threshold",), "active": ("fragment_sample_factor", "uncertainty_on")},
    "preference_gatherer": {"synthetic": ("temperature", "discount_factor", "sample", "threshold"), "custom": ()},
    "reward_trainer": {"basic": _TRAINER, "ensemble": _TRAINER},
}
"""For each parameter its types, the first of which is the default, and the arguments of each."""

CUSTOM = {"type": "custom"}
"""What a saved agent says of a gatherer that is an object or a function."""


def part_data(name: str, value: Any) -> dict[str, Any]:
    """Returns a part as data.

    Args:
        name: Of the parameter.
        value: The name of a type, `{"type": name, ...}`, or None for the default.

    Raises:
        UnknownNameError: No type or argument has that name.
        ArgumentError: It is something else.
    """
    argument, types = f"algorithm_parameters[{name!r}]", PARTS[name]
    if value is None or isinstance(value, str):
        value = {"type": value or next(iter(types))}
    if not isinstance(value, Mapping):
        raise ArgumentError(argument, value, "is an object", f'Describe it: {{"type": "{next(iter(types))}", ...}}.')
    kind = value.get("type")
    if kind not in types:
        raise UnknownNameError(f"{argument}['type']", str(kind), types)
    for given in value:
        if given != "type" and given not in types[kind]:
            raise UnknownNameError(argument, str(given), types[kind])
    model = value.get("preference_model") or {}
    for given in model:
        if given not in _MODEL:
            raise UnknownNameError(f"{argument}['preference_model']", str(given), _MODEL)
    data = dict(value)
    if data.get("regularizer_factory") is not None:
        place = f"{argument}['regularizer_factory']"
        data["regularizer_factory"] = regularizer_data(data["regularizer_factory"], place)
    return data


def _arguments(data: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in data.items() if name != "type"}


def build_fragmenter(
    data: Mapping[str, Any], preference_model: Any, generator: np.random.Generator, logger: Any
) -> Any:
    """Returns the library's fragmenter.

    Args:
        data: From `part_data`.
        preference_model: Of `build_reward_trainer`.
        generator: Draws fragments.
        logger: The library's; without one, every part would make a folder for its own.

    Raises:
        ArgumentError: It takes an ensemble of reward networks, and there is none.
    """
    from imitation.algorithms import preference_comparisons as library

    if data["type"] == "random":
        return _built("fragmenter", library.RandomFragmenter, rng=generator, custom_logger=logger, **_arguments(data))
    base = library.RandomFragmenter(rng=generator, warning_threshold=0, custom_logger=logger)
    return _built(
        "fragmenter",
        library.ActiveSelectionFragmenter,
        preference_model=preference_model,
        base_fragmenter=base,
        custom_logger=logger,
        **{"fragment_sample_factor": 2.0, **_arguments(data)},
    )


def build_reward_trainer(
    data: Mapping[str, Any] | None,
    reward_network: Any,
    generator: np.random.Generator,
    logger: Any,
    rows: ObservationRows | None = None,
) -> tuple[Any, Any]:
    """Returns the library's trainer of the reward network, and its model of preferences.

    Args:
        data: From `part_data`; None: what the library takes for this network.
        reward_network: What is trained.
        generator: Draws members' samples.
        logger: As in `build_fragmenter`.
        rows: What the network sees instead of dicts.

    Raises:
        ArgumentError: The trainer does not fit the network.
    """
    from imitation.algorithms import preference_comparisons as library

    arguments = _arguments(data or {})
    described = arguments.pop("preference_model", None) or {}
    if arguments.get("regularizer_factory") is not None:
        arguments["regularizer_factory"] = _built(
            "reward_trainer", regularizer_factory, arguments["regularizer_factory"]
        )
    kind_of_model = library.PreferenceModel if rows is None else _over_rows(rows)
    model = _built("reward_trainer", kind_of_model, reward_network, **described)
    is_ensemble = model.ensemble_model is not None
    kind = "ensemble" if is_ensemble else "basic"
    if data is not None and data["type"] != kind:
        raise ArgumentError(
            "algorithm_parameters['reward_trainer']",
            data["type"],
            f"cannot train this reward_model, which is {'an' if is_ensemble else 'no'} ensemble",
            f"Give {kind!r}, or another reward_model.",
        )
    trainer = library.EnsembleTrainer if is_ensemble else library.BasicRewardTrainer
    return (
        _built(
            "reward_trainer",
            trainer,
            model,
            loss=library.CrossEntropyRewardLoss(),
            rng=generator,
            custom_logger=logger,
            **arguments,
        ),
        model,
    )


def _over_rows(rows: ObservationRows) -> type[Any]:
    from imitation.algorithms import preference_comparisons as library
    from imitation.data.types import maybe_unwrap_dictobs

    class OverRows(library.PreferenceModel):
        """Shows the network rows of the fragments, whose observations are dicts."""

        def __init__(self, *positional: Any, **described: Any) -> None:
            super().__init__(*positional, **described)
            members: Any = getattr(self, "member_pref_models", None)  # there are some with an ensemble
            if members is not None:
                settings = self.noise_prob, self.discount_factor, self.threshold
                self.member_pref_models = [OverRows(one.model, *settings) for one in members]

        def rewards(self, transitions: Any) -> Any:
            shown = rows(maybe_unwrap_dictobs(transitions.obs))
            following = rows(maybe_unwrap_dictobs(transitions.next_obs))
            return super().rewards(replace(transitions, obs=shown, next_obs=following))

    return OverRows


def build_gatherer(given: Any, generator: np.random.Generator, logger: Any) -> Any:
    """Returns who prefers: the library's synthetic gatherer, or the user's.

    Args:
        given: Data, a `PreferenceGatherer` of the library, or a function.
        generator: Draws preferences.
        logger: As in `build_fragmenter`.

    Raises:
        ArgumentError: A gatherer that a saved agent had has to be given again.
    """
    from imitation.algorithms import preference_comparisons as library

    if isinstance(given, library.PreferenceGatherer):
        return given
    if callable(given):
        return _asking(given, logger)
    data = part_data("preference_gatherer", given)
    if data == CUSTOM:
        raise ArgumentError(
            "algorithm_parameters['preference_gatherer']",
            given,
            "was an object or a function, which is not saved with an agent",
            "Give it again.",
        )
    return _built(
        "preference_gatherer", library.SyntheticGatherer, rng=generator, custom_logger=logger, **_arguments(data)
    )


def _asking(function: Callable[[Sequence[Any]], Any], logger: Any) -> Any:
    from imitation.algorithms import preference_comparisons as library

    class Asking(library.PreferenceGatherer):
        """Asks a function of the user's."""

        def __call__(self, fragment_pairs: Sequence[Any]) -> np.ndarray[Any, Any]:
            return np.asarray(function(fragment_pairs))

    return Asking(custom_logger=logger)


def _built(name: str, kind: Any, *positional: Any, **arguments: Any) -> Any:
    try:
        return kind(*positional, **arguments)
    except (AssertionError, TypeError, ValueError) as error:
        raise ArgumentError(f"algorithm_parameters[{name!r}]", arguments, str(error)) from error
