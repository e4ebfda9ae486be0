"""What an upload to the Hugging Face Hub consists of: what every upload does, and a model card."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gymnasium

from rl_framework.connector.huggingface.card import model_card
from rl_framework.connector.huggingface.config import HuggingFaceUploadConfig
from rl_framework.connector.upload_files import prepare_upload
from rl_framework.evaluation import EvaluationResult
from rl_framework.secrecy import redact_values

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
    is_single = evaluation is None and isinstance(environment, gymnasium.Env)
    files, evaluation, name, arguments, record = prepare_upload(
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
        arguments=redact_values(arguments),  # before they become code, in which a secret may look another way
        n_environments=1 if is_single else None,
        timesteps=getattr(agent, "num_timesteps", None),
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
    groups = record.get("groups")
    if isinstance(groups, dict):
        own = ", ".join(f"{_group_architecture(part)} ({name})" for name, part in groups.items())
    return str(own or record.get("algorithm") or type(agent).__name__)


def _group_architecture(group: dict[str, Any]) -> str:
    return str(group.get("algorithm") or group.get("agent"))
