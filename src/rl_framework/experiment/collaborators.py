"""Whom an experiment works with: what its configuration names, unless the program gives it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rl_framework.experiment.agents import make_agent
from rl_framework.experiment.config import ExperimentConfig
from rl_framework.experiment.connectors import make_connector
from rl_framework.experiment.environments import Source, open_episodes, source_of
from rl_framework.experiment.folders import VIDEOS

__all__ = ["Collaborators"]


class Collaborators:
    """Everybody that one configuration names.

    Args:
        config: Of one seed.
        given: What is used instead, by name: see `Experiment`.

    Attributes:
        given: The same.
    """

    def __init__(self, config: ExperimentConfig, given: Mapping[str, Any]) -> None:
        self._config = config
        self.given = dict(given)
        self._connectors: list[Any] | None = None

    def agent(self) -> Any:
        """Returns a new agent, or the one that is given."""
        if "agent" in self.given:
            return self.given["agent"]
        assert self._config.agent is not None  # the configuration was checked
        return make_agent(self._config.agent, device=self._config.device)

    def source(self, name: str = "training_environments") -> Source:
        """Returns where to train, or, for "evaluation_environment", where to evaluate and to film."""
        for given in dict.fromkeys((name, "training_environments")):
            if given in self.given:
                return self.given[given], None
        return source_of(self._config.environment)

    def episodes(self) -> tuple[Any, Any]:
        """Returns the episodes to learn from and to measure against, each None if there are none."""
        if "episode_sequence" in self.given:
            return self.given["episode_sequence"], None
        return (None, None) if self._config.episodes is None else open_episodes(self._config.episodes)

    def connectors(self, folder: Path) -> list[Any]:
        """Returns the connector of the run's own folder and the others; made when they are first asked for."""
        if self._connectors is None:
            from rl_framework.connector import LocalConnector

            given = self.given.get("connectors")
            if given is None:
                others = [make_connector(section, folder) for section in self._config.connectors]
            else:
                others = list(given) if isinstance(given, Sequence) else [given]
            self._connectors = [LocalConnector(folder), *others]
        return self._connectors

    def measurements(self) -> list[Any]:
        """Returns callbacks that measure what is not measured by itself."""
        from rl_framework.training import TrackNorms

        every = self._config.training.track_norms_every
        return [] if every is None else [TrackNorms(every)]

    def film_crew(self, folder: Path) -> tuple[list[Any], list[Any]]:
        """Returns callbacks: who finds out when training begins whether there can be videos, and who films then."""
        asked = self._config.video
        if asked is None:
            return [], []
        from rl_framework.experiment.watching import FilmCheck
        from rl_framework.report import PeriodicVideo

        source, arguments = self.source("evaluation_environment")
        film = asked.film()
        check = FilmCheck(source, arguments, film["n_environments"], film["overlay"])
        if asked.every is None:
            return [check], []
        more = {"environment_kwargs": arguments, "seed": asked.seed, "ending": asked.ending, **film}
        return [check], [PeriodicVideo(source, asked.every, folder / VIDEOS, asked.length, **more)]
