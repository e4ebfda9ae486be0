"""What an upload to a store consists of, prepared in a folder before the network is asked."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import gymnasium

from rl_framework.agent.record import run_record
from rl_framework.connector.storage.config import StorageUploadConfig
from rl_framework.evaluation import EvaluationResult
from rl_framework.report import plot_learning_curve, record_video
from rl_framework.secrecy import redact, redact_values
from rl_framework.training.metrics import read_metrics

__all__ = ["MEASURED", "RECORD", "prepare_upload", "redacted_copy"]

MEASURED = ("metrics.jsonl", "histograms.jsonl")
RECORD = "record.json"


def prepare_upload(
    folder: Path,
    agent: Any,
    config: StorageUploadConfig,
    *,
    measured: Path,
    environment: Any = None,
    evaluation: EvaluationResult | None = None,
) -> dict[str, Path]:
    """Writes everything that is published with an agent.

    Args:
        folder: Where to; it is there.
        agent: A trained agent.
        config: Of the upload.
        measured: Folder with the metrics and histograms of its training.
        environment: Where to film and to evaluate; None: no film, and the evaluation takes place in what the agent's
            record names, if gymnasium knows that.
        evaluation: The result to report; None: the agent is evaluated.

    Returns:
        The files by their names below the address.
    """
    bundle = folder / Path(config.file_name).name
    files = {config.file_name: agent.save_to_file(bundle)}
    runs = [dict(run) for run in agent.history().get("runs", [])]
    evaluation = evaluation or _evaluate(agent, config, environment, runs[-1] if runs else {})
    if evaluation is not None:
        low, high = evaluation.confidence_interval()
        summary = {"mean": evaluation.mean, "std": evaluation.std, "iqm": evaluation.iqm, "interval_95": [low, high]}
        files["results.json"] = _write(folder / "results.json", {**summary, **evaluation.to_dict()})
    if environment is not None:
        path = folder / "replay.mp4"
        files["replay.mp4"] = record_video(agent, environment, path, length=config.video_length)
    files |= {name: redacted_copy(measured / name, folder / name) for name in MEASURED if (measured / name).exists()}
    if MEASURED[0] in files:
        records = read_metrics(files[MEASURED[0]])
        if any("episode/return" in record.metrics for record in records):
            files["learning_curve.png"] = plot_learning_curve(records, folder / "learning_curve.png")
    files[RECORD] = _write(folder / RECORD, runs)
    files["system.json"] = _write(folder / "system.json", run_record(command_line=[]))
    return files


def redacted_copy(path: Path, copy: Path) -> Path:
    """Copies the whole lines that a file has now, without secrets."""
    lines, _, _ = path.read_bytes().rpartition(b"\n")
    copy.write_text(redact(lines.decode()) + "\n" if lines else "", encoding="utf-8")
    return copy


def _evaluate(
    agent: Any, config: StorageUploadConfig, environment: Any, record: dict[str, Any]
) -> EvaluationResult | None:
    if config.n_eval_episodes == 0:
        return None
    kwargs = None
    if environment is None:
        # What a stranger's record names is not imported, as "module:Name-v0" would be.
        environment = record.get("environment")
        if not isinstance(environment, str) or ":" in environment or environment not in gymnasium.registry:
            return None
        kwargs = record.get("environment_kwargs")
    result: EvaluationResult = agent.evaluate(
        environment,
        config.n_eval_episodes,
        deterministic=True,
        environment_kwargs=kwargs if isinstance(kwargs, dict) else None,
    )
    return result


def _write(path: Path, value: Any) -> Path:
    path.write_text(json.dumps(redact_values(value), indent=2, allow_nan=False) + "\n", encoding="utf-8")
    return path
