"""What can be said in the file of an experiment."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, ValidationError, ValidationInfo
from pydantic_core import InitErrorDetails

from rl_framework.errors import ConfigurationError, ConfigurationProblem
from rl_framework.experiment.agents import AGENT, agent_section, needs_episodes
from rl_framework.experiment.connectors import CONNECTOR
from rl_framework.experiment.environments import GYMNASIUM, WRAPPER, check_environment
from rl_framework.experiment.reading.bases import BASE, with_bases
from rl_framework.experiment.reading.documents import from_data, read_file
from rl_framework.experiment.reading.overrides import apply_overrides, read_overrides
from rl_framework.experiment.reading.variables import check_secrets
from rl_framework.experiment.sections.kinds import Kind, KindOf
from rl_framework.experiment.sections.section import Count, Section, as_whole, complaint, problems_of
from rl_framework.experiment.sections.signatures import OneMessage
from rl_framework.experiment.tuning.section import TuningConfig
from rl_framework.secrecy import redact

__all__ = [
    "EnvironmentConfig",
    "EpisodesConfig",
    "EvaluationConfig",
    "ExperimentConfig",
    "OverlayConfig",
    "TrainingConfig",
    "VideoConfig",
    "agent_section",
    "load_config",
]

_DEVICE = re.compile(r"auto|cpu|cuda(:\d{1,2})?|mps")
_NAME = re.compile(r"[^/\\\s.][^/\\]{0,99}")

Seed = Annotated[int, Field(ge=0, lt=1 << 32), BeforeValidator(as_whole)]


class EnvironmentConfig(Section):
    """Where the agent acts."""

    type: str = GYMNASIUM
    """The backend: "gymnasium", "unity", "pettingzoo", ..., or the name of a registered adapter."""
    id: str | None = None
    """Which environment: an id such as "BipedalWalker-v3"; for unity the path of the player."""
    arguments: dict[str, Any] = Field(default_factory=dict)
    """For the environment's constructor, or the adapter's `setup`."""
    wrappers: list[Annotated[Kind, KindOf(WRAPPER)]] | None = None
    """Wrappers from the inside out, saved with the agent; null: those that its family usually has, such as Atari's."""
    n_environments: Count | None = None
    """How many environments to train in at once; null: one."""
    vectorization: Literal["auto", "sync", "subprocess", "native"] = "auto"
    """How several environments become one."""
    fresh_environments: bool | None = None
    """Whether every episode begins in a newly made environment, for simulators that remember (BipedalWalker)."""

    def further_complaints(self, info: ValidationInfo) -> Iterable[InitErrorDetails]:
        """Looks for the environment by its name."""
        return check_environment(self)


class EpisodesConfig(Section):
    """The episodes to learn from; one of `path`, `minari`, `hub` and `unity_demo`."""

    path: str | None = None
    """A data set on disk: the framework's own, or one of the imitation library."""
    minari: str | None = None
    """Name of a local data set of Minari, or its folder."""
    hub: str | None = None
    """A data set on the Hugging Face Hub, "user/name"."""
    unity_demo: str | None = None
    """A recording of Unity's ML-Agents (.demo), or a folder of them."""
    revision: str | None = None
    """For `hub`: branch, tag or commit."""
    minimum_return: float | None = None
    """Only episodes with at least this return."""
    n_episodes: Count | None = None
    """Only the first so many; null: all."""
    validation_fraction: Annotated[float, Field(gt=0, lt=1)] | None = None
    """Share of the episodes that is only measured against."""

    def further_complaints(self, info: ValidationInfo) -> Iterable[InitErrorDetails]:
        """Asks for one source."""
        sources = [name for name in ("path", "minari", "hub", "unity_demo") if getattr(self, name) is not None]
        if len(sources) != 1:
            yield complaint(f"needs one of path, minari, hub and unity_demo, and has {' and '.join(sources) or 'none'}")
        if self.revision is not None and self.hub is None:
            yield complaint("is for a data set on the hub", ("revision",))


class TrainingConfig(Section):
    """How long to train, and what happens meanwhile."""

    total_timesteps: Count = 100_000
    """Environment steps to train for, in all environments; for algorithms that never act, transitions learned from."""
    checkpoint_every: Annotated[Literal["auto"] | Count | None, OneMessage()] = "auto"
    """Timesteps between checkpoints; "auto": ten in the whole training; null: none, so that it cannot be resumed."""
    keep_last: Count | None = 2
    """How many checkpoints to keep; null: all."""
    evaluate_every: Count | None = None
    """Timesteps between evaluations, the best of which keeps its agent as best_model.zip; null: none."""
    n_eval_episodes: Count = 10
    """Episodes of each evaluation in between."""
    track_norms_every: Count | None = None
    """Timesteps between measurements of gradients, updates and weights, as `TrackNorms` makes them; null: none."""
    progress_bar: bool = True
    """Whether to show a progress bar (in a terminal or a notebook)."""

    @property
    def timesteps_between_checkpoints(self) -> int | None:
        """What `checkpoint_every` comes to."""
        return max(1, self.total_timesteps // 10) if self.checkpoint_every == "auto" else self.checkpoint_every


class EvaluationConfig(Section):
    """The evaluation after training."""

    n_episodes: Count = 100
    """How many episodes to run."""
    deterministic: bool = False
    """Whether to take the most likely action instead of a sampled one."""
    n_environments: Count | None = None
    """How many environments at once; null: at most 8."""
    seed: Seed | None = None
    """Of the evaluation; null: a branch of the experiment's seed."""


class OverlayConfig(Section):
    """What to write onto videos; see `rl_framework.Overlay`."""

    show: Annotated[list[str], Field(min_length=1)] | None = None
    """Names such as "return", "action[0]", "observation[2]", "info.x_position"; null: the usual ones."""
    place: Literal["auto", "inside", "beside"] = "auto"
    """Inside a corner of the frame, beside it, or whichever hides less."""
    text_size: Annotated[int, Field(ge=6, le=200), BeforeValidator(as_whole)] | None = None
    """Height of the text in pixels; null: by the size of the frame."""

    def further_complaints(self, info: ValidationInfo) -> Iterable[InitErrorDetails]:
        """Reads the names."""
        if self.show is None:
            return
        from rl_framework.errors import ArgumentError
        from rl_framework.report.components import Component

        for index, name in enumerate(self.show):
            try:
                Component(name)
            except ArgumentError as error:
                yield complaint(str(error).removeprefix("overlay="), ("show", index))


class VideoConfig(Section):
    """Videos of the agent at work: one after training, and, with `every`, more meanwhile."""

    length: Count = 500
    """Frames of each video."""
    every: Count | None = None
    """Timesteps between videos while training; null: none."""
    fps: Annotated[float, Field(gt=0, le=1000)] | None = None
    """Frames per second; null: what the environment says."""
    overlay: OverlayConfig | None = None
    """What to write onto the frames; {}: the usual numbers."""
    n_environments: Count = 1
    """How many environments to film at once, in a grid."""
    deterministic: bool = True
    """Whether the agent takes its most likely action instead of sampling one."""
    ending: Literal[".mp4", ".gif"] = ".mp4"
    """The format."""
    seed: Seed | None = None
    """Of the videos; null: a branch of the experiment's seed."""

    def film(self) -> dict[str, Any]:
        """Returns the arguments that `record_video` and `PeriodicVideo` have in common."""
        from rl_framework.report import Overlay

        return {
            "fps": self.fps,
            "overlay": None if self.overlay is None else Overlay(**self.overlay.given()),
            "n_environments": self.n_environments,
            "deterministic": self.deterministic,
        }


class ExperimentConfig(Section):
    """An experiment: what to train, where, for how long, and what becomes of it."""

    name: str | None = None
    """Of the run, and of its folder; null: algorithm and environment."""
    seed: Seed | None = None
    """Of everything; null: one is drawn and written into the run's own configuration."""
    seeds: Annotated[list[Seed], Field(min_length=1)] | None = None
    """Several seeds: a run for each, one after the other, in folders seed-<n>."""
    run_directory: str = "runs"
    """Where runs lie, each in a folder of its own."""
    device: str = "auto"
    """Where networks run: auto, cpu, cuda, cuda:1."""
    agent: Annotated[Kind, KindOf(AGENT)] | None = None
    """What is trained; its further keys depend on `type`."""
    environment: EnvironmentConfig | None = None
    """Where it acts."""
    episodes: EpisodesConfig | None = None
    """What it imitates or learns from."""
    training: TrainingConfig = Field(default_factory=TrainingConfig)
    """How long to train, and what happens meanwhile."""
    evaluation: EvaluationConfig | None = Field(default_factory=EvaluationConfig)
    """The evaluation after training; null: none."""
    video: VideoConfig | None = None
    """Videos; null: none."""
    connectors: list[Annotated[Kind, KindOf(CONNECTOR)]] = Field(default_factory=list)
    """Trackers and stores beside the run's own folder."""
    tuning: TuningConfig | None = None
    """What `rl-framework tune` searches; a training does not look at it."""

    def further_complaints(self, info: ValidationInfo) -> Iterable[InitErrorDetails]:
        """Compares the sections with each other."""
        given: Collection[str] = (info.context or {}).get("injected", ())
        if self.name is not None and not _NAME.fullmatch(self.name):
            yield complaint("must be usable as the name of a folder", ("name",))
        if not _DEVICE.fullmatch(self.device):
            yield complaint(f"must be auto, cpu, cuda, or cuda:<number>, and is {self.device!r}", ("device",))
        if self.seed is not None and self.seeds is not None:
            yield complaint("is given beside seed: leave one of the two out", ("seeds",))
        if self.seeds is not None and len(set(self.seeds)) < len(self.seeds):
            yield complaint("holds a seed twice, which would train the same agent twice", ("seeds",))
        if self.agent is None and "agent" not in given:
            yield complaint("is needed, such as {type: stable_baselines, algorithm: ppo}", ("agent",))
        has_environment = self.environment is not None or "training_environments" in given
        has_episodes = self.episodes is not None or "episode_sequence" in given
        if self.agent is not None and "agent" not in given and not has_episodes and needs_episodes(self.agent):
            yield complaint("is needed, such as {path: data/expert}: the algorithm learns from episodes", ("episodes",))
        elif not has_environment and not has_episodes:
            yield complaint("is needed, such as {id: CartPole-v1}", ("environment",))
        can_evaluate = has_environment or "evaluation_environment" in given
        if self.video is not None and not can_evaluate:
            yield complaint("needs an environment to film in", ("video",))
        if self.training.evaluate_every is not None and not can_evaluate:
            yield complaint("needs an environment to evaluate in", ("training", "evaluate_every"))
        if self.tuning is not None:
            from rl_framework.experiment.tuning.space import check_tuning

            for wrong in check_tuning(self, given):
                yield {**wrong, "loc": ("tuning", *wrong.get("loc", ()))}

    def to_data(self) -> dict[str, Any]:
        """Returns the configuration of a run, which is one of those that a search tries: without `tuning`."""
        return {name: value for name, value in super().to_data().items() if name != "tuning"}

    def train_arguments(self) -> dict[str, Any]:
        """Returns the arguments of `train` that the configuration says in so many words."""
        environment = self.environment or EnvironmentConfig.model_construct()
        wrappers = [wrapper.to_data() for wrapper in environment.wrappers or ()]
        return {
            "total_timesteps": self.training.total_timesteps,
            "seed": self.seed,
            "progress_bar": self.training.progress_bar,
            "checkpoint_every": self.training.timesteps_between_checkpoints,
            "keep_last": self.training.keep_last,
            "evaluate_every": self.training.evaluate_every,
            "n_eval_episodes": self.training.n_eval_episodes,
            "n_environments": environment.n_environments,
            "vectorization": environment.vectorization,
            "fresh_environments": environment.fresh_environments,
            "wrappers": wrappers or None,
        }


def load_config(
    source: str | Path | Mapping[str, Any], overrides: Iterable[str] = (), *, injected: Collection[str] = ()
) -> ExperimentConfig:
    """Reads and checks a configuration.

    Args:
        source: A YAML file, or data of the same form.
        overrides: Such as "training.total_timesteps=5000"; values are YAML.
        injected: Names of what is not in the configuration because the program gives it; see `Experiment`.

    Raises:
        ConfigurationError: Everything that is wrong, each with file, line and key.
    """
    changes = read_overrides(overrides)
    if isinstance(source, str | Path):
        document, folder = read_file(source), Path(source).parent
    else:
        document, folder = from_data(source), Path()
    chain = (str(Path(source).resolve()),) if isinstance(source, str | Path) else ()
    if not isinstance(document.data, dict):
        raise ConfigurationError([document.problem("must be a mapping with keys such as agent and environment")])
    of_base = [change for change in changes if change.key[0] == BASE]
    document = with_bases(apply_overrides(document, of_base), folder, chain)
    document = apply_overrides(document, [change for change in changes if change not in of_base])
    problems: list[ConfigurationProblem] = check_secrets(document)
    try:
        config = ExperimentConfig.model_validate(document.data, context={"injected": tuple(injected)})
    except ValidationError as error:
        problems += problems_of(error, document)
    if problems:
        raise ConfigurationError(_in_order(problems))
    return config


def _in_order(problems: list[ConfigurationProblem]) -> list[ConfigurationProblem]:
    """Orders problems as they stand in the file, tells the same only once, and hides secrets."""
    unique = dict.fromkeys(replace(problem, message=redact(problem.message)) for problem in problems)
    return sorted(unique, key=lambda problem: (problem.file or "", problem.line or 0))
