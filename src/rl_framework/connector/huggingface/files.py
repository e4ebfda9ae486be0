"""What an upload to the Hugging Face Hub consists of, prepared in a folder before the network is asked."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import gymnasium

from rl_framework.agent.record import run_record
from rl_framework.connector.huggingface.card import model_card
from rl_framework.connector.huggingface.config import HuggingFaceUploadConfig
from rl_framework.environment.door import environment_id_of
from rl_framework.evaluation import EvaluationResult
from rl_framework.report import plot_learning_curve, record_video
from rl_framework.secrecy import redact, redact_values
from rl_framework.training.metrics import read_metrics

__all__ = ["prepare_upload"]

_DESCRIPTIONS = {
    "results.json": "the evaluation, with every return",
    "replay.mp4": "the agent at work",
    "learning_curve.png": "returns while it was trained",
    "metrics.jsonl": "everything that was measured while it was trained, one line each",
    "histograms.jsonl": "how actions, gradients and the like were distributed, one line each",
    "record.json": "what was trained, on what, with which parameters, seeds and versions; one entry for each training",
    "system.json": "the machine and the versions that the upload was made with",
}


def prepare_upload(
    folder: Path,
    agent: Any,
    config: HuggingFaceUploadConfig,
    *,
    measured: Path | None = None,
    environment: Any = None,
    evaluation: EvaluationResult | None = None,
) -> dict[str, Path]:
    """Writes everything that goes to the Hub.

    Args:
        folder: Where to; it is made.
        agent: A trained agent.
        config: Of the upload.
        measured: Folder with the metrics and histograms of its training.
        environment: Where to film and to evaluate; None: no film, and the evaluation takes place in what
            `environment_name` or the agent's record names, if gymnasium knows that.
        evaluation: The result to report; None: the agent is evaluated.

    Returns:
        The files by their paths in the repository.
    """
    folder.mkdir(parents=True, exist_ok=True)
    runs = [dict(run) for run in agent.history().get("runs", [])]
    record = runs[-1] if runs else {}
    name = config.environment_name or environment_id_of(environment) or record.get("environment")
    name = name if isinstance(name, str) else None
    bundle = folder / Path(config.file_name).name
    agent.save_to_file(bundle)
    files = {config.file_name: bundle}
    if evaluation is None:
        evaluation = _evaluate(agent, config, environment, name, record)
    if evaluation is not None:
        files["results.json"] = _write(folder / "results.json", _results(evaluation, name))
    if environment is not None:
        path = folder / "replay.mp4"
        files["replay.mp4"] = record_video(agent, environment, path, length=config.video_length)
    files |= {} if measured is None else _metrics(folder, measured)
    files["record.json"] = _write(folder / "record.json", runs)
    files["system.json"] = _write(folder / "system.json", run_record(command_line=[]))
    card = model_card(
        config,
        kind=agent.kind(),
        environment=name,
        architecture=config.model_architecture or _architecture(agent, record),
        record=record,
        evaluation=evaluation,
        files={config.file_name: "the agent", **{file: _DESCRIPTIONS[file] for file in _DESCRIPTIONS if file in files}},
    )
    files["README.md"] = folder / "README.md"
    files["README.md"].write_text(card, encoding="utf-8")
    return files


def _evaluate(
    agent: Any, config: HuggingFaceUploadConfig, environment: Any, name: str | None, record: dict[str, Any]
) -> EvaluationResult | None:
    if config.n_eval_episodes == 0:
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
        config.n_eval_episodes,
        deterministic=True,
        environment_kwargs=kwargs if isinstance(kwargs, dict) else None,
    )
    return result


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
    files = {}
    for name in ("metrics.jsonl", "histograms.jsonl"):
        if (measured / name).exists():
            files[name] = folder / name
            files[name].write_text(redact((measured / name).read_text(encoding="utf-8")), encoding="utf-8")
    records = read_metrics(files["metrics.jsonl"]) if "metrics.jsonl" in files else []
    if any("episode/return" in record.metrics for record in records):
        files["learning_curve.png"] = plot_learning_curve(records, folder / "learning_curve.png")
    return files


def _architecture(agent: Any, record: dict[str, Any]) -> str:
    algorithm_class = getattr(agent, "algorithm_class", None)
    own = getattr(algorithm_class, "__name__", None)
    return str(own or record.get("algorithm") or type(agent).__name__)


def _write(path: Path, value: Any) -> Path:
    text = json.dumps(redact_values(value), indent=2, allow_nan=False)
    path.write_text(text + "\n", encoding="utf-8")
    return path
