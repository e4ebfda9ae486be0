"""The mediator: it makes what a configuration names, and lets it train, be evaluated, be filmed and be uploaded."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from rl_framework.errors import ArgumentError, ConnectorError, RecordingError
from rl_framework.experiment.collaborators import Collaborators
from rl_framework.experiment.config import ExperimentConfig, load_config
from rl_framework.experiment.environments import filmable
from rl_framework.experiment.folders import (
    AGENT,
    CHECKPOINTS,
    CONFIG,
    RESULTS,
    VIDEOS,
    begin_run,
    remove_unused,
    write_json,
)
from rl_framework.experiment.resolution import check_device, resolved, with_seed
from rl_framework.experiment.run import Run
from rl_framework.experiment.seeds import summary_over_seeds
from rl_framework.experiment.watching import Ending
from rl_framework.seeding import derive_seed

if TYPE_CHECKING:
    from rl_framework.agent import Agent
    from rl_framework.connector import Connector
    from rl_framework.episode import EpisodeSequence
    from rl_framework.evaluation import EvaluationResult
    from rl_framework.training import Callback

__all__ = ["Experiment"]

logger = logging.getLogger(__name__)


class Experiment:
    """Everything that one configuration says, done: train, evaluate, record, upload.

        experiment = Experiment.from_yaml("walker.yaml", ["training.total_timesteps=5000"])
        run = experiment.run()

    or step by step:

        experiment = Experiment.from_config({"agent": {"algorithm": "ppo"}, "environment": {"id": "CartPole-v1"}})
        result = experiment.train().evaluate()
        video = experiment.record()

    What the configuration names can be given instead, as objects. Then the run's folder alone does not rebuild the run.

    Args:
        config: The configuration.
        folder: Of a run that exists, which `train(resume=True)` goes on with; None: `train` makes a new one.
        agent: Instead of the one of the configuration.
        training_environments: Where to train; anything that `train` takes.
        evaluation_environment: Where to evaluate and to film; None: where it trains.
        connectors: Instead of those of the configuration; the run's own folder is kept besides.
        callbacks: Passed to `train`.
        episode_sequence: What to learn from.

    Attributes:
        config: The configuration with nothing left open: name, seed and wrappers are there.
        folder: Of the run; None before it has one.
        agent: The agent; None before `build`.

    Raises:
        ConfigurationError: Something in the configuration cannot be used.
        ArgumentError: The collaborators do not go with the configuration.
    """

    def __init__(
        self,
        config: ExperimentConfig,
        *,
        folder: str | Path | None = None,
        agent: Agent | None = None,
        training_environments: Any = None,
        evaluation_environment: Any = None,
        connectors: Connector | Sequence[Connector] | None = None,
        callbacks: Iterable[Callback | Any] = (),
        episode_sequence: EpisodeSequence | str | Path | None = None,
    ) -> None:
        self.config = resolved(config)
        self.folder = None if folder is None else Path(folder)
        self.agent: Any = agent
        given = {
            "agent": agent,
            "training_environments": training_environments,
            "evaluation_environment": evaluation_environment,
            "connectors": connectors,
            "episode_sequence": episode_sequence,
        }
        self._with = Collaborators(self.config, {name: value for name, value in given.items() if value is not None})
        self._callbacks = tuple(callbacks)
        self._of_seeds: dict[int, Experiment] = {}
        self._result: EvaluationResult | None = None
        self._was_interrupted = False
        if self.config.seeds is not None:
            for name in ("agent", "connectors"):
                if name in self._with.given:
                    remedy = "Leave it to the configuration, or make an experiment for each seed."
                    raise ArgumentError(name, self._with.given[name], "is one for several seeds", remedy)

    # Where experiments come from

    @classmethod
    def from_yaml(cls, path: str | Path, overrides: Iterable[str] = (), **injected: Any) -> Self:
        """Reads a file.

        Args:
            path: A YAML file.
            overrides: Such as "training.total_timesteps=5000" and "connectors[0].type=tensorboard".
            injected: Collaborators that are used instead of what the file names; see the class.

        Raises:
            ConfigurationError: Everything that is wrong with the file, each with line and key.
        """
        return cls(load_config(path, overrides, injected=injected.keys()), **injected)

    @classmethod
    def from_config(
        cls, config: ExperimentConfig | Mapping[str, Any], overrides: Iterable[str] = (), **injected: Any
    ) -> Self:
        """Takes a configuration, or data of the form of a file; otherwise as `from_yaml`."""
        data = config.to_data() if isinstance(config, ExperimentConfig) else config
        return cls(load_config(data, overrides, injected=injected.keys()), **injected)

    @staticmethod
    def json_schema() -> dict[str, Any]:
        """Returns the JSON Schema of the file, with what is installed here, for editors and other programs."""
        from rl_framework.experiment.schema import json_schema

        return json_schema()

    def __repr__(self) -> str:
        return f"Experiment({self.config.name!r}, folder={None if self.folder is None else str(self.folder)!r})"

    # Step by step

    def build(self) -> Self:
        """Makes the agent, and finds out what would fail later: environments, device. Nothing is written.

        Raises:
            RLFrameworkError: Something cannot be had here.
        """
        if self.config.seeds is not None:
            for seed in self.config.seeds:
                self._of_seed(seed).build()
            return self
        check_device(self.config.device)
        self._with.source()
        if self.agent is None:
            self.agent = self._with.agent()
        return self

    def train(self, resume: bool = False) -> Self:
        """Trains, and keeps the agent in the run's folder as agent.zip.

        Args:
            resume: Whether to go on from the newest whole checkpoint of the folder, to the end that the configuration
                says. A folder without checkpoints is a training that begins.

        Raises:
            RLFrameworkError: Something cannot be used; raised before the first step.
            KeyboardInterrupt: It was interrupted; with checkpoints, one more was written.
        """
        with self._in_folder(resume) as folder:
            if self.config.seeds is not None:
                for seed in self.config.seeds:
                    self._of_seed(seed).train(resume)
            elif not (resume and self._is_trained(folder)):
                self._train(folder, resume)
        return self

    def evaluate(self) -> EvaluationResult | None:
        """Evaluates the trained agent, and writes results.json.

        Returns:
            The result; None with several seeds, whose summary results.json has then, or without an evaluation.
        """
        if self.config.seeds is not None:
            for seed in self.config.seeds:
                self._of_seed(seed).evaluate()
            self._summarise()
            return None
        asked = self.config.evaluation
        source, arguments = self._with.source("evaluation_environment")
        if asked is None or source is None:
            return None
        result: EvaluationResult = self._trained().evaluate(
            source,
            n_eval_episodes=asked.n_episodes,
            deterministic=asked.deterministic,
            seed=self._branch("results") if asked.seed is None else asked.seed,
            n_environments=asked.n_environments,
            environment_kwargs=arguments,
        )
        low, high = result.confidence_interval()
        summary = {"mean": result.mean, "std": result.std, "iqm": result.iqm, "interval_95": [low, high]}
        timestep = int(self.agent.num_timesteps)
        write_json(self._folder() / RESULTS, {"timestep": timestep, **summary, **result.to_dict()})
        self._result = result
        return result

    def record(self) -> Path | None:
        """Films the trained agent as videos/final.mp4.

        Returns:
            The video; None without `video` in the configuration, or with several seeds (each has its own).

        Raises:
            RecordingError: The environment cannot be filmed.
        """
        if self.config.seeds is not None:
            for seed in self.config.seeds:
                self._of_seed(seed).record()
            return None
        asked = self.config.video
        if asked is None:
            return None
        from rl_framework.report import record_video

        source, arguments = self._with.source("evaluation_environment")
        path = self._folder() / VIDEOS / f"final{asked.ending}"
        seed = self._branch("video") if asked.seed is None else asked.seed
        return record_video(
            self._trained(), source, path, asked.length, seed=seed, environment_kwargs=arguments, **asked.film()
        )

    def upload(self) -> list[Any]:
        """Hands the trained agent to every connector that keeps agents.

        Returns:
            What they say about the place.

        Raises:
            ConnectorError: Something could not be delivered; the others have got it.
        """
        if self.config.seeds is not None:
            return [place for seed in self.config.seeds for place in self._of_seed(seed).upload()]
        from rl_framework.connector import Connector

        agent, places, failures = self._trained(), [], []
        film = self._with.source("evaluation_environment") if self.config.video is not None else (None, None)
        for connector in self._with.connectors(self._folder())[1:]:
            if type(connector).upload is Connector.upload:
                continue
            if self._result is not None and hasattr(connector, "log_evaluation"):
                connector.log_evaluation(self._result)
            try:
                places.append(agent.upload(connector, video_recording_environment=filmable(film)))
            except ConnectorError as error:
                failures.append(error)
        if failures:
            raise failures[0] if len(failures) == 1 else ConnectorError("; ".join(map(str, failures)))
        return places

    # As a whole

    def run(self, resume: bool = False) -> Run:
        """Trains, evaluates, records and uploads; with several seeds, one after the other.

        A video that cannot be made is told at the end, when everything else is done.

        Args:
            resume: See `train`.

        Returns:
            What is in the folder.
        """
        if self.config.seeds is not None:
            with self._in_folder(resume) as folder:
                for seed in self.config.seeds:
                    self._of_seed(seed).run(resume)
            self._summarise()
            return Run.open(folder)
        if resume and self._is_finished():
            logger.info("%s is finished", self.folder)
            return Run.open(self._folder())
        self.train(resume)
        run = Run.open(self._folder())
        if self._was_interrupted:
            return run
        self.evaluate()
        failure: RecordingError | None = None
        try:
            self.record()
        except RecordingError as error:
            logger.error("no video: %s", error)
            failure = error
        self.upload()
        for connector in self._with.connectors(run.folder):
            connector.close()
        if failure is not None:
            raise failure
        return run

    # Inside

    def _of_seed(self, seed: int) -> Experiment:
        """Returns the experiment of one of several seeds, always the same one."""
        if seed not in self._of_seeds:
            folder = None if self.folder is None else self.folder / f"seed-{seed}"
            given = {name: value for name, value in self._with.given.items() if name != "agent"}
            self._of_seeds[seed] = type(self)(
                with_seed(self.config, seed), folder=folder, callbacks=self._callbacks, **given
            )
        child = self._of_seeds[seed]
        if child.folder is None and self.folder is not None:
            child.folder = self.folder / f"seed-{seed}"
        return child

    def _summarise(self) -> None:
        assert self.config.seeds is not None  # whoever calls this has looked
        folder = self._folder()
        results = {seed: Run.open(folder / f"seed-{seed}").results for seed in self.config.seeds}
        found = {seed: result for seed, result in results.items() if result is not None}
        if found:
            write_json(folder / RESULTS, summary_over_seeds(found))

    @contextmanager
    def _in_folder(self, resume: bool) -> Iterator[Path]:
        """Gives the folder of the run; a new one goes away again if nothing begins in it."""
        self.build()
        names = ", ".join(sorted(self._with.given))
        note = f"But for what was given in Python, which this file does not hold: {names}." if names else ""
        self.folder, is_new = begin_run(self.folder, self.config.to_data(), resume, note)
        try:
            yield self.folder
        except Exception:  # goes on to the caller; only the empty folder is not left behind
            if is_new and remove_unused(self.folder):
                self.folder = None
            raise

    def _train(self, folder: Path, resume: bool) -> None:
        from rl_framework.agent import ILAgent
        from rl_framework.bundle.checkpoint import list_checkpoints

        source, arguments = self._with.source()
        checkpoints = folder / CHECKPOINTS
        local, *others = self._with.connectors(folder)
        checks, films = self._with.film_crew(folder)
        ending = Ending()
        if resume and not list_checkpoints(checkpoints):
            local.discard_after(0)  # of an attempt that ended before its first checkpoint
        more: dict[str, Any] = {}
        if isinstance(self.agent, ILAgent):
            more = dict(zip(("episode_sequence", "validation_episode_sequence"), self._with.episodes(), strict=True))
        self.agent.train(
            training_environments=source,
            environment_kwargs=arguments,
            evaluation_environment=self._with.given.get("evaluation_environment"),
            connector=[*checks, local, *others],
            callbacks=[*self._callbacks, *self._with.measurements(), *films, ending],
            checkpoint_directory=checkpoints,
            resume_from=checkpoints if resume else None,
            **self.config.train_arguments(),
            **more,
        )
        self._was_interrupted = ending.was_interrupted
        if not self._was_interrupted:
            local.upload(self.agent)

    def _is_trained(self, folder: Path) -> bool:
        """Tells whether a run that kept no checkpoints is at its end.

        Raises:
            ArgumentError: It is not, and cannot go on.
        """
        from rl_framework.bundle.checkpoint import list_checkpoints

        if list_checkpoints(folder / CHECKPOINTS) or not (folder / AGENT).is_file():
            return False
        timesteps, wanted = self._trained().num_timesteps, self.config.training.total_timesteps
        if timesteps < wanted:
            problem = f"{folder} has an agent of {timesteps} timesteps, and no checkpoint to go on from to {wanted}"
            raise ArgumentError("resume", True, problem, "Load the agent, and train it in a run of its own.")
        return True

    def _is_finished(self) -> bool:
        if self.folder is None or not (self.folder / CONFIG).is_file():
            return False
        run = Run(self.folder)
        return run.status == "finished" and run.timestep >= self.config.training.total_timesteps

    def _folder(self) -> Path:
        if self.folder is None or not self.folder.is_dir():
            raise ArgumentError("folder", self.folder, "this experiment has no run yet", "Call train() first.")
        return self.folder

    def _trained(self) -> Any:
        """Returns the agent, from the folder if this process has not trained it."""
        self.build()
        path = self._folder() / AGENT
        if not self.agent.num_timesteps and path.is_file():
            self.agent.load_from_file(path)
        return self.agent

    def _branch(self, name: str) -> int:
        assert self.config.seed is not None  # resolved, and not one of several
        return derive_seed(self.config.seed, name)
