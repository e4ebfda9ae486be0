"""What an upload to the Hugging Face Hub consists of: what every upload does, and a model card."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rl_framework.connector.huggingface.card import model_card
from rl_framework.connector.huggingface.config import HuggingFaceUploadConfig
from rl_framework.connector.upload_files import prepare_upload
from rl_framework.evaluation import EvaluationResult

__all__ = ["prepare_upload_with_card"]

_DESCRIPTIONS = {
    "results.json": "the evaluation, with every return",
    "replay.mp4": "the agent at work",
    "learning_curve.png": "returns while it was trained",
    "metrics.jsonl": "everything that was measured while it was trained, one line each",
    "histograms.jsonl": "how actions, gradients and the like were distributed, one line each",
    "record.json": "what was trained, on what, with which parameters, seeds and versions; one entry for each training",
    "system.json": "the machine and the versions that the upload was made with",
}


def prepare_upload_with_card(
    folder: Path,
    agent: Any,
    config: HuggingFaceUploadConfig,
    *,
    measured: Path | None = None,
    environment: Any = None,
    evaluation: EvaluationResult | None = None,
) -> dict[str, Path]:
    """Writes everything that goes to the Hub; see `prepare_upload`.

    Returns:
        The files by their paths in the repository.
    """
    files, evaluation, name, record = prepare_upload(
        folder,
        agent,
        config,
        measured=measured,
        environment=environment,
        environment_name=config.environment_name,
        evaluation=evaluation,
    )
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


def _architecture(agent: Any, record: dict[str, Any]) -> str:
    algorithm_class = getattr(agent, "algorithm_class", None)
    own = getattr(algorithm_class, "__name__", None)
    return str(own or record.get("algorithm") or type(agent).__name__)
