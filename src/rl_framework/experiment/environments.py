"""The environment and the episodes of a configuration."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from typing import TYPE_CHECKING, Any

from pydantic_core import InitErrorDetails

from rl_framework import registry
from rl_framework.errors import ArgumentError, RLFrameworkError
from rl_framework.experiment.reading.variables import with_secrets
from rl_framework.experiment.sections.kinds import Kind, Role, without_argument
from rl_framework.experiment.sections.section import complaint

if TYPE_CHECKING:
    from rl_framework.experiment.config import EnvironmentConfig, EpisodesConfig

__all__ = [
    "GYMNASIUM",
    "WRAPPER",
    "Source",
    "check_environment",
    "filmable",
    "open_episodes",
    "source_of",
    "usual_wrappers",
]

GYMNASIUM = "gymnasium"

Source = tuple[Any, dict[str, Any] | None]
"""What `train` and `evaluate` take as environments, and their `environment_kwargs`."""

WRAPPER = Role(
    "wrapper", registry.wrappers, options={"without": ("env", "environment", "training")}, has_short_form=True
)


def check_environment(section: EnvironmentConfig) -> Iterable[InitErrorDetails]:
    """Returns what is wrong with the type, the id, and the names of the arguments."""
    from rl_framework.environment.backends import environment_source
    from rl_framework.environment.known_packages import register_package_of
    from rl_framework.environment.making import gymnasium_errors

    if section.id is not None and ":" in section.id and section.type == GYMNASIUM:
        message = "names a module to import, which no configuration does: install a plug-in that registers it"
        return [complaint(message, ("id",))]
    try:
        source, _ = environment_source(section.type, section.id, section.arguments)
        if isinstance(source, str) and source not in registry.environment_adapters:
            import gymnasium

            register_package_of(source, "id")
            with gymnasium_errors(source, "id"):
                gymnasium.spec(source)
    except RLFrameworkError as error:
        key = "type" if isinstance(error, ArgumentError) and error.argument == "backend" else "id"
        return [complaint(without_argument(error), (key,))]
    return []


def usual_wrappers(section: EnvironmentConfig) -> list[Kind]:
    """Returns the wrappers that environments of this kind usually get, such as Atari's preprocessing."""
    from rl_framework.environment.known_packages import standard_wrappers

    source, _ = source_of(section)
    usual = standard_wrappers(source) if isinstance(source, str) else []
    entries = [{"type": entry} if isinstance(entry, str) else dict(entry) for entry in usual]
    return [WRAPPER.section(entry["type"]).model_validate(entry) for entry in entries]


def source_of(section: EnvironmentConfig | None) -> Source:
    """Returns what to train and evaluate in.

    Raises:
        RLFrameworkError: It cannot be had here.
    """
    if section is None:
        return None, None
    from rl_framework.environment.backends import environment_source

    source, arguments = environment_source(section.type, section.id, with_secrets(section.arguments))
    return source, arguments or None


def filmable(source: Source) -> Any:
    """Returns one thing to film in, for those who take an environment without arguments."""
    environment, arguments = source
    if not arguments:
        return environment
    if isinstance(environment, str) and environment not in registry.environment_adapters:
        from rl_framework.environment.making import make_from_id

        return partial(make_from_id, environment, {"render_mode": "rgb_array", **arguments}, "environment")
    return partial(environment, **arguments) if callable(environment) else environment


def open_episodes(section: EpisodesConfig) -> tuple[Any, Any]:
    """Returns the episodes to learn from, and those to measure against or None.

    Raises:
        RLFrameworkError: They cannot be read, or none is left.
    """
    try:
        episodes = _read_episodes(section)
    except ArgumentError as error:
        if str(error.value) == (section.path or section.minari or section.unity_demo):
            # So it is called in a configuration and on the command line.
            error.args = (str(error).replace(f"{error.argument}=", "episodes=", 1),)
            error.argument = "episodes"
        raise
    if section.minimum_return is not None:
        episodes = episodes.filter(minimum_return=section.minimum_return)
    if section.n_episodes is not None:
        episodes = episodes[: section.n_episodes]
    if not len(episodes):
        raise ArgumentError("minimum_return", section.minimum_return, "no episode has such a return")
    if section.validation_fraction is None:
        return episodes, None
    # Not by the experiment's seed: its runs are to be measured against the same episodes.
    return episodes.split(section.validation_fraction, seed=0)


def _read_episodes(section: EpisodesConfig) -> Any:
    from rl_framework.episode import EpisodeSequence

    if section.path is not None:
        return EpisodeSequence.from_dataset(section.path)
    if section.minari is not None:
        return EpisodeSequence.from_minari(section.minari)
    if section.hub is not None:
        return EpisodeSequence.from_hub(section.hub, revision=section.revision)
    assert section.unity_demo is not None  # one of the four is given
    return EpisodeSequence.from_unity_demo(section.unity_demo)
