"""What every upload of an agent consists of, prepared in a folder before the network is asked."""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import gymnasium
from gymnasium.envs.registration import EnvSpec

from rl_framework.agent.record import run_record
from rl_framework.bundle import decode_value, encode_value
from rl_framework.environment.door import environment_id_of
from rl_framework.errors import ArgumentError, BundleError, SpaceMismatchError, UnsavableError
from rl_framework.evaluation import EvaluationResult
from rl_framework.report import plot_learning_curve, record_video
from rl_framework.secrecy import redact, redact_values
from rl_framework.training.metrics import read_metrics

__all__ = ["MEASURED", "RECORD", "Prepared", "UploadSettings", "evaluate_for_upload", "prepare_upload", "redacted_copy"]

logger = logging.getLogger(__name__)

MEASURED = ("metrics.jsonl", "histograms.jsonl")
RECORD = "record.json"


class _Settings(Protocol):
    @property
    def file_name(self) -> str: ...

    @property
    def n_eval_episodes(self) -> int: ...

    @property
    def video_length(self) -> int: ...


@dataclass(frozen=True)
class UploadSettings:
    """What can be chosen about every upload.

    Attributes:
        file_name: Name of the bundle.
        n_eval_episodes: Episodes of the evaluation whose results go with the agent; 0: no evaluation.
        video_length: Frames of the replay.

    Raises:
        ArgumentError: A number cannot be used.
    """

    file_name: str
    n_eval_episodes: int
    video_length: int

    def __post_init__(self) -> None:
        for name, least in (("n_eval_episodes", 0), ("video_length", 1)):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                raise ArgumentError(name, value, f"must be an integer of at least {least}")


class Prepared(NamedTuple):
    """What was prepared.

    Attributes:
        files: The files by the names that they are to have.
        evaluation: The result that is among them, or None.
        environment: Name of the environment, as far as it is known.
        arguments: With which gymnasium makes the environment of that name; None: that is not known.
        record: Of the last training; empty if there was none.
    """

    files: dict[str, Path]
    evaluation: EvaluationResult | None
    environment: str | None
    arguments: dict[str, Any] | None
    record: dict[str, Any]


def prepare_upload(
    folder: Path,
    agent: Any,
    settings: _Settings,
    *,
    measured: Path | None = None,
    environment: Any = None,
    environment_name: str | None = None,
    evaluation: EvaluationResult | None = None,
) -> Prepared:
    """Writes the agent, its evaluation and film, and what is known of its training.

    Args:
        folder: Where to; it is made.
        agent: A trained agent.
        settings: Of the upload.
        measured: Folder with the metrics and histograms of its training.
        environment: Where to film and to evaluate; None: no film, and the evaluation takes place in what
            `environment_name` or the agent's record names, if its id is all that it takes to make that.
        environment_name: What the environment is called; None: what it says itself, or the agent's record.
        evaluation: The result to report; None: the agent is evaluated.

    Returns:
        The files, and what else is known.
    """
    folder.mkdir(parents=True, exist_ok=True)
    runs = [dict(run) for run in agent.history().get("runs", [])]
    record = runs[-1] if runs else {}
    known = environment_name or environment_id_of(environment)
    name = known or record.get("environment")
    name = name if isinstance(name, str) else None
    # A result that was made elsewhere is of the environment that was trained in, whatever is filmed.
    arguments = _arguments_of(environment if evaluation is None else None, name, record)
    files = {settings.file_name: agent.save_to_file(folder / Path(settings.file_name).name)}
    if evaluation is None:
        evaluation = evaluate_for_upload(agent, settings.n_eval_episodes, environment, name, arguments)
        if evaluation is not None and known is None:  # it was found out by opening it
            name = evaluation.environment or name
    if evaluation is not None:
        files["results.json"] = _write(folder / "results.json", _results(evaluation, name, arguments))
    if environment is not None and settings.video_length:
        path = folder / "replay.mp4"
        files["replay.mp4"] = record_video(agent, environment, path, length=settings.video_length)
    files |= {} if measured is None else _metrics(folder, measured)
    files[RECORD] = _write(folder / RECORD, runs)
    files["system.json"] = _write(folder / "system.json", run_record(command_line=[]))
    return Prepared(files, evaluation, name, arguments, record)


def _arguments_of(environment: Any, name: str | None, record: dict[str, Any]) -> dict[str, Any] | None:
    """Returns with which arguments gymnasium makes an environment; None: that is not known.

    Args:
        environment: The environment; None: the one of that name.
        name: What the environment is called.
        record: Of the last training.
    """
    if isinstance(environment, str):
        return {}
    if environment is None:
        if name != record.get("environment"):
            return {}
        if record.get("environment_source", "id") != "id":
            return None  # objects and factories may have been made in any way
        try:
            arguments = decode_value(record.get("environment_kwargs"))
        except BundleError:
            return None
        return dict(arguments or {}) if isinstance(arguments, dict | None) else None
    is_single = isinstance(environment, gymnasium.Env | EnvSpec)
    spec = getattr(environment, "spec", environment) if is_single else None
    registered = gymnasium.registry.get(spec.id) if isinstance(spec, EnvSpec) else None
    if spec is None or registered is None or spec.additional_wrappers:
        return None
    arguments = {key: value for key, value in spec.kwargs.items() if key != "render_mode"}
    arguments = {key: value for key, value in arguments.items() if repr(value) != repr(registered.kwargs.get(key))}
    if spec.max_episode_steps != registered.max_episode_steps:
        arguments["max_episode_steps"] = spec.max_episode_steps
    return arguments


def evaluate_for_upload(
    agent: Any, n_episodes: int, environment: Any, name: str | None, arguments: dict[str, Any] | None
) -> EvaluationResult | None:
    """Evaluates an agent, acting deterministically, or returns None if that is not wanted or not possible.

    Args:
        agent: The agent.
        n_episodes: Episodes; 0: none.
        environment: Where to; None: in what `name` names, if gymnasium knows that.
        name: What the environment is called.
        arguments: With which the environment of that name is made; None: that is not known.

    Returns:
        The result.
    """
    if n_episodes == 0:
        return None
    if environment is not None:
        given: EvaluationResult = agent.evaluate(environment, n_episodes, deterministic=True)
        return given
    # What a stranger's record names is not imported, as "module:Name-v0" would be.
    if name is None or ":" in name or name not in gymnasium.registry:
        return None
    reason = "it was trained in environments that were made elsewhere"
    if arguments is not None:
        try:
            result: EvaluationResult = agent.evaluate(
                name, n_episodes, deterministic=True, environment_kwargs=arguments or None
            )
            return result
        except SpaceMismatchError as error:
            reason = str(error)
    logger.warning(
        "the agent is uploaded without an evaluation in %s (%s): give video_recording_environment=, or "
        "n_eval_episodes=0 if none is wanted",
        name,
        reason,
    )
    return None


def redacted_copy(path: Path, copy: Path) -> Path:
    """Copies the whole lines that a file has now, without secrets."""
    lines, _, _ = path.read_bytes().rpartition(b"\n")
    copy.write_text(redact(lines.decode()) + "\n" if lines else "", encoding="utf-8")
    return copy


def _results(evaluation: EvaluationResult, environment: str | None, arguments: dict[str, Any] | None) -> dict[str, Any]:
    low, high = evaluation.confidence_interval()
    try:
        made_with = encode_value(arguments, "environment_kwargs") or None
    except UnsavableError:
        made_with = None
    return {
        "mean_reward": evaluation.mean,
        "std_reward": evaluation.std,
        "n_eval_episodes": evaluation.n_episodes,
        "is_deterministic": evaluation.deterministic,
        "iqm": evaluation.iqm,
        "interval_95": [low, high],
        **evaluation.to_dict(),
        "environment": environment or evaluation.environment,
        **({} if made_with is None else {"environment_kwargs": made_with}),
    }


def _metrics(folder: Path, measured: Path) -> dict[str, Path]:
    files = {name: redacted_copy(measured / name, folder / name) for name in MEASURED if (measured / name).exists()}
    records = read_metrics(files[MEASURED[0]]) if MEASURED[0] in files else []
    if any("episode/return" in record.metrics for record in records):
        files["learning_curve.png"] = plot_learning_curve(records, folder / "learning_curve.png")
    return files


def _write(path: Path, value: Any) -> Path:
    path.write_text(json.dumps(redact_values(value), indent=2, allow_nan=False) + "\n", encoding="utf-8")
    return path
