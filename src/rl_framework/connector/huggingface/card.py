"""The page of an agent on the Hugging Face Hub: metadata that the Hub reads, and a text for people."""

from __future__ import annotations

import ast
from collections.abc import Mapping
from typing import Any

import gymnasium

from rl_framework.connector.huggingface.config import BUNDLE_NAME, HuggingFaceUploadConfig
from rl_framework.environment.known_packages import family_of
from rl_framework.evaluation import EvaluationResult, MultiAgentResult
from rl_framework.secrecy import redact

__all__ = ["model_card", "usage"]

_IMITATION_KINDS = frozenset({"imitation", "offline"})


def model_card(
    config: HuggingFaceUploadConfig,
    *,
    kind: str,
    environment: str | None,
    arguments: Mapping[str, Any] | None,
    n_environments: int | None,
    timesteps: int | None,
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
        arguments: With which gymnasium makes that; None: they are not known.
        n_environments: In how many it was evaluated; None: as many as there are if nobody says.
        timesteps: That it was trained for, in all.
        architecture: What it is.
        record: Of its last training; empty if there was none.
        evaluation: What the page reports, if anything.
        files: What else is in the repository: descriptions by name.

    Returns:
        Markdown with a block of metadata, without secrets.
    """
    name = config.repository_id.partition("/")[2]
    shown = _shown(arguments)
    where = f" in **{_plain(environment)}**" + (f" ({_plain(shown)})" if shown else "") if environment else ""
    code = usage(config, environment, arguments, evaluation, n_environments)
    parts = [
        f"# {name}\n\nA **{_plain(architecture)}** agent{where}, trained and shared with `rl_framework`.",
        _evaluation_text(evaluation),
        _use_text(_requirement(kind, environment, record), code),
        _training_text(record, timesteps),
        _curve_text(files),
        "## Files\n\n" + "\n".join(f"- `{file}`: {text}" for file, text in files.items()),
    ]
    metadata = _metadata(name, kind, environment, shown, record, evaluation)
    return redact(f"---\n{metadata}\n---\n\n" + "\n\n".join(part for part in parts if part) + "\n")


def usage(
    config: HuggingFaceUploadConfig,
    environment: str | None,
    made_with: Mapping[str, Any] | None,
    evaluation: EvaluationResult | None,
    n_environments: int | None = None,
) -> str:
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
    written = None if made_with is None else _as_code(dict(made_with))
    if environment is not None and written is not None and _is_found_by_name(environment):
        how = "n_eval_episodes=10, deterministic=True"
        if evaluation is not None:
            how = f"n_eval_episodes={evaluation.n_episodes}, deterministic={evaluation.deterministic}"
            how += f", seed={evaluation.seed}"
            how += "" if n_environments is None else f", n_environments={n_environments}"
        if not made_with:
            lines += [f"result = agent.evaluate({_quoted(environment)}, {how})"]
        else:
            lines += [f"made_with = {written}"]
            lines += [f"result = agent.evaluate({_quoted(environment)}, {how}, environment_kwargs=made_with)"]
        lines += ["print(result)"]
    else:
        lines += ["print(agent.observation_space, agent.action_space)"]
    return "\n".join(lines) + "\n"


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _plain(text: str) -> str:
    """Takes from a name what Markdown and HTML would take for themselves."""
    return "".join(" " if sign in "`*<>[]|\n" else sign for sign in text)


def _shown(arguments: Mapping[str, Any] | None) -> str:
    return ", ".join(f"{name}={value!r}" for name, value in (arguments or {}).items())


def _as_code(value: Any) -> str | None:
    """Returns Python code that gives a value, or None if there is none without imports."""
    text = repr(value)
    try:
        return text if repr(ast.literal_eval(text)) == text else None
    except (ValueError, SyntaxError):
        return None


def _is_found_by_name(environment: str) -> bool:
    """Tells whether the framework makes an environment from its id, without anybody importing a package first."""
    spec = gymnasium.registry.get(environment)
    return family_of(environment) is not None or str(getattr(spec, "entry_point", "")).startswith("rl_framework.")


def _requirement(kind: str, environment: str | None, record: Mapping[str, Any]) -> str:
    from rl_framework import registry

    extras = {"huggingface"}
    family = None if environment is None else family_of(environment)
    if family is not None and family.extra is not None:
        extras.add(family.extra)
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
    kind: str,
    environment: str | None,
    made_with: str,
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
                dataset_name=f"{place} ({made_with})" if made_with else place,
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


def _use_text(requirement: str, code: str) -> str:
    return (
        f"## Use\n\n```bash\npip install {requirement}\n```\n\n```python\n{code}```\n\n"
        "The file holds tensors, arrays and JSON, no pickle: it brings no code with it that opening it could run."
    )


def _evaluation_text(evaluation: EvaluationResult | None) -> str:
    if evaluation is None:
        return ""
    how = "its most likely actions" if evaluation.deterministic else "sampled actions"
    parts: dict[str, EvaluationResult] = {}
    if isinstance(evaluation, MultiAgentResult):
        parts |= {"team": evaluation.team} if evaluation.team is not None else {}
        parts |= evaluation.groups or evaluation.agents
    head = "| Mean return | Standard deviation | 95 % interval of the mean | Episodes |\n"
    rows = [f"| Of {head}|---|---|---|---|---|"] if parts else [f"{head}|---|---|---|---|"]
    for name, result in (parts or {"": evaluation}).items():
        low, high = result.confidence_interval()
        row = f"| {result.mean:.2f} | {result.std:.2f} | {low:.2f} to {high:.2f} | {result.n_episodes} |"
        rows.append(f"| {_plain(name)} {row}" if parts else row)
    return (
        "## Evaluation\n\n" + "\n".join(rows) + f"\n\nWith {how}, undiscounted, before normalisation; seed "
        f"{evaluation.seed}. Every single return is in `results.json`."
    )


def _training_text(record: Mapping[str, Any], timesteps: int | None) -> str:
    if not record:
        return ""
    versions = record.get("versions")
    versions = versions if isinstance(versions, Mapping) else {}
    steps = record.get("total_timesteps") if timesteps is None else timesteps
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
