"""What every upload of an agent consists of, prepared in a folder before the network is asked."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import gymnasium

from rl_framework.agent.record import run_record
from rl_framework.environment.door import environment_id_of
from rl_framework.errors import ArgumentError
from rl_framework.evaluation import EvaluationResult
from rl_framework.report import plot_learning_curve, record_video
from rl_framework.secrecy import redact, redact_values
from rl_framework.training.metrics import read_metrics

__all__ = ["MEASURED", "RECORD", "Prepared", "UploadSettings", "evaluate_for_upload", "prepare_upload", "redacted_copy"]

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
        record: Of the last training; empty if there was none.
    """

    files: dict[str, Path]
    evaluation: EvaluationResult | None
    environment: str | None
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
            `environment_name` or the agent's record names, if gymnasium knows that.
        environment_name: What the environment is called; None: what it says itself, or the agent's record.
        evaluation: The result to report; None: the agent is evaluated.

    Returns:
        The files, and what else is known.
    """
    folder.mkdir(parents=True, exist_ok=True)
    runs = [dict(run) for run in agent.history().get("runs", [])]
    record = runs[-1] if runs else {}
    name = environment_name or environment_id_of(environment) or record.get("environment")
    name = name if isinstance(name, str) else None
    files = {settings.file_name: agent.save_to_file(folder / Path(settings.file_name).name)}
    if evaluation is None:
        evaluation = evaluate_for_upload(agent, settings.n_eval_episodes, environment, name, record)
    if evaluation is not None:
        files["results.json"] = _write(folder / "results.json", _results(evaluation, name))
    if environment is not None and settings.video_length:
        path = folder / "replay.mp4"
        files["replay.mp4"] = record_video(agent, environment, path, length=settings.video_length)
    files |= {} if measured is None else _metrics(folder, measured)
    files[RECORD] = _write(folder / RECORD, runs)
    files["system.json"] = _write(folder / "system.json", run_record(command_line=[]))
    return Prepared(files, evaluation, name, record)


def evaluate_for_upload(
    agent: Any, n_episodes: int, environment: Any, name: str | None, record: dict[str, Any]
) -> EvaluationResult | None:
    """Evaluates an agent, acting deterministically, or returns None if that is not wanted or not possible.

    Args:
        agent: The agent.
        n_episodes: Episodes; 0: none.
        environment: Where to; None: in what `name` names, if gymnasium knows that.
        name: What the environment is called.
        record: Of the last training, which may say with which arguments the environment is made.

    Returns:
        The result.
    """
    if n_episodes == 0:
        return None
    kwargs = None
    if environment is None:
        # What a stranger's record names is not imported, as "module:Name-v0" would be.
        if name is None or ":" in name or name not in gymnasium.registry:
            return None
        environment = name
        kwargs = record.get("environment_kwargs") if name == record.get("environment") else None
    result: EvaluationResult = agent.evaluate(
        environment,
        n_episodes,
        deterministic=True,
        environment_kwargs=kwargs if isinstance(kwargs, dict) else None,
    )
    return result


def redacted_copy(path: Path, copy: Path) -> Path:
    """Copies the whole lines that a file has now, without secrets."""
    lines, _, _ = path.read_bytes().rpartition(b"\n")
    copy.write_text(redact(lines.decode()) + "\n" if lines else "", encoding="utf-8")
    return copy


def _results(evaluation: EvaluationResult, environment: str | None) -> dict[str, Any]:
    low, high = evaluation.confidence_interval()
    return {
        "mean_reward": evaluation.mean,
        "std_reward": evaluation.std,
        "n_eval_episodes": evaluation.n_episodes,
        "is_deterministic": evaluation.deterministic,
        "iqm": evaluation.iqm,
        "interval_95": [low, high],
        **evaluation.to_dict(),
        "environment": environment or evaluation.environment,
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
