"""The page of an agent on the Hugging Face Hub: metadata that the Hub reads, and a text for people."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import gymnasium

from rl_framework.connector.huggingface.config import BUNDLE_NAME, HuggingFaceUploadConfig
from rl_framework.evaluation import EvaluationResult
from rl_framework.secrecy import redact

__all__ = ["model_card", "usage"]

_IMITATION_KINDS = frozenset({"imitation", "offline"})


def model_card(
    config: HuggingFaceUploadConfig,
    *,
    kind: str,
    environment: str | None,
    architecture: str,
    record: Mapping[str, Any],
    evaluation: EvaluationResult | None,
    files: Mapping[str, str],
) -> str:
    """Writes the page.

    Args:
        config: Of the upload.
        kind: Registered name of the kind of agent.
        environment: What it acts in, if that is known.
        architecture: What it is.
        record: Of its last training; empty if there was none.
        evaluation: What the page reports, if anything.
        files: What else is in the repository: descriptions by name.

    Returns:
        Markdown with a block of metadata, without secrets.
    """
    name = config.repository_id.partition("/")[2]
    where = f" in **{_plain(environment)}**" if environment else ""
    parts = [
        f"# {name}\n\nA **{_plain(architecture)}** agent{where}, trained and shared with `rl_framework`.",
        _evaluation_text(evaluation),
        _use_text(config, kind, environment, record, evaluation),
        _training_text(record),
        _curve_text(files),
        "## Files\n\n" + "\n".join(f"- `{file}`: {text}" for file, text in files.items()),
    ]
    metadata = _metadata(name, config, kind, environment, record, evaluation)
    return redact(f"---\n{metadata}\n---\n\n" + "\n\n".join(part for part in parts if part) + "\n")


def usage(config: HuggingFaceUploadConfig, environment: str | None, evaluation: EvaluationResult | None) -> str:
    """Writes the Python code that the page shows; it works as printed."""
    arguments = [f"repository_id={_quoted(config.repository_id)}"]
    if config.file_name != BUNDLE_NAME:
        arguments.append(f"file_name={_quoted(config.file_name)}")
    if config.revision is not None:
        arguments.append(f"revision={_quoted(config.revision)}")
    lines = [
        "from rl_framework import HuggingFaceConnector, HuggingFaceDownloadConfig",
        "",
        f"download_config = HuggingFaceDownloadConfig({', '.join(arguments)})",
        "agent = HuggingFaceConnector(download_config=download_config).download()",
    ]
    if environment is not None and _comes_with_gymnasium(environment):
        how = "n_eval_episodes=10, deterministic=True"
        if evaluation is not None:
            how = f"n_eval_episodes={evaluation.n_episodes}, deterministic={evaluation.deterministic}"
            how += f", seed={evaluation.seed}"
        lines += [f"result = agent.evaluate({_quoted(environment)}, {how})", "print(result)"]
    else:
        lines += ["print(agent.observation_space, agent.action_space)"]
    return "\n".join(lines) + "\n"


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _plain(text: str) -> str:
    """Takes from a name what Markdown and HTML would take for themselves."""
    return "".join(" " if sign in "`*<>[]|\n" else sign for sign in text)


def _comes_with_gymnasium(environment: str) -> bool:
    spec = gymnasium.registry.get(environment)
    return spec is not None and str(spec.entry_point).startswith("gymnasium.envs.")


def _requirement(kind: str, record: Mapping[str, Any]) -> str:
    from rl_framework import registry

    extras = {"huggingface"}
    if kind in _IMITATION_KINDS:
        extras.add(kind)
    algorithm = record.get("algorithm")
    if isinstance(algorithm, str) and algorithm in registry.algorithms:
        found = registry.algorithms.get(algorithm)
        if str(getattr(found, "__module__", "")).startswith("sb3_contrib"):
            extras.add("contrib")
    return f'"rl-framework[{",".join(sorted(extras))}]"'


def _metadata(
    name: str,
    config: HuggingFaceUploadConfig,
    kind: str,
    environment: str | None,
    record: Mapping[str, Any],
    evaluation: EvaluationResult | None,
) -> str:
    from huggingface_hub import EvalResult, ModelCardData

    imitates = kind in _IMITATION_KINDS
    tags = ["imitation-learning"] if imitates else ["deep-reinforcement-learning"]
    algorithm = record.get("algorithm")
    tags += ["reinforcement-learning", *(str(tag) for tag in (algorithm, environment) if tag)]
    results = None
    if evaluation is not None:
        place = environment or "unknown"
        results = [
            EvalResult(
                task_type="reinforcement-learning",
                task_name="reinforcement-learning",
                dataset_type=place,
                dataset_name=place,
                metric_type="mean_reward",
                metric_name="mean_reward",
                metric_value=f"{evaluation.mean:.2f} +/- {evaluation.std:.2f}",
                verified=False,
            )
        ]
    data = ModelCardData(
        library_name="rl_framework",
        pipeline_tag="reinforcement-learning",
        tags=tags,
        model_name=name if results else None,
        eval_results=results,
    )
    return str(data.to_yaml()).strip()


def _use_text(
    config: HuggingFaceUploadConfig,
    kind: str,
    environment: str | None,
    record: Mapping[str, Any],
    evaluation: EvaluationResult | None,
) -> str:
    return (
        f"## Use\n\n```bash\npip install {_requirement(kind, record)}\n```\n\n"
        f"```python\n{usage(config, environment, evaluation)}```\n\n"
        "The file holds tensors, arrays and JSON, no pickle: to open it runs no code of ours or of anybody's."
    )


def _evaluation_text(evaluation: EvaluationResult | None) -> str:
    if evaluation is None:
        return ""
    low, high = evaluation.confidence_interval()
    how = "its most likely actions" if evaluation.deterministic else "sampled actions"
    return (
        "## Evaluation\n\n"
        "| Mean return | Standard deviation | 95 % interval of the mean | Episodes |\n|---|---|---|---|\n"
        f"| {evaluation.mean:.2f} | {evaluation.std:.2f} | {low:.2f} to {high:.2f} | {evaluation.n_episodes} |\n\n"
        f"With {how}, undiscounted, before normalisation; seed {evaluation.seed}. Every single return is in "
        "`results.json`."
    )


def _training_text(record: Mapping[str, Any]) -> str:
    if not record:
        return ""
    versions = record.get("versions")
    versions = versions if isinstance(versions, Mapping) else {}
    steps = record.get("total_timesteps")
    rows = {
        "Algorithm": record.get("algorithm"),
        "Timesteps": None if steps is None else f"{steps:,}",
        "Environments": record.get("n_environments"),
        "Seed": record.get("seed"),
        **{library: versions.get(library) for library in ("stable-baselines3", "gymnasium", "torch")},
    }
    lines = [f"| {label} | {_plain(str(value))} |" for label, value in rows.items() if value is not None]
    return "## Training\n\n| | |\n|---|---|\n" + "\n".join(lines)


def _curve_text(files: Mapping[str, str]) -> str:
    return "![Learning curve](learning_curve.png)" if "learning_curve.png" in files else ""
