"""Folders of runs, read for a page: whatever is there counts, and what is damaged is told, not raised."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from rl_framework.errors import ArgumentError, RLFrameworkError
from rl_framework.evaluation import EvaluationResult
from rl_framework.report.component_series import RecordedComponents, read_component_series
from rl_framework.report.page.series import MetricsFile, read_series

__all__ = ["OWN_OF_A_RUN", "ReportedRun", "find_runs"]

_CONFIG, _METRICS, _RECORD = "config.yaml", "metrics.jsonl", "record.json"
_RESULTS = ("results.json", "evaluation.json")
_SIGNS = (_CONFIG, _METRICS, _RECORD, *_RESULTS)
_LARGEST = {_CONFIG: 256 * 1024, _RECORD: 16 * 1024 * 1024, **dict.fromkeys(_RESULTS, 64 * 1024 * 1024)}
_VIDEO_ENDINGS = (".mp4", ".gif")
_AGENT = "agent.zip"
_STUDY, _TRIAL, _CONFIRMATION = "tuning.yaml", "trial-", "confirm-"
_DEPTH = 2

OWN_OF_A_RUN = ("name", "run_directory", "seed", "seeds")
"""Of a configuration, what tells runs of the same kind apart."""

_SAME_IN_A_GROUP = (
    "agent",
    "algorithm",
    "algorithm_parameters",
    "features_extractor",
    "normalize_observations",
    "normalize_rewards",
    "environment",
    "environment_kwargs",
    "n_environments",
    "total_timesteps",
    "wrappers",
)
"""Of a record, what makes runs those of one kind where there is no configuration."""


@dataclass
class ReportedRun:
    """What a folder tells about a run.

    Attributes:
        folder: The folder.
        name: What to call it.
        family: Name of the experiment that it is one seed of; None: it stands alone.
        settings: The configuration; every value is a text, as the file has it. None: there is none.
        records: What each call of `train` was made with, the oldest first.
        metrics: What was measured.
        result: Of the evaluation after training.
        video: The last that was made.
        components: Those of the video that its overlay names.
        problems: Sentences about what could not be read.
    """

    folder: Path
    name: str
    family: str | None = None
    settings: Mapping[str, Any] | None = None
    records: list[Mapping[str, Any]] = field(default_factory=list)
    metrics: MetricsFile = field(default_factory=MetricsFile)
    result: EvaluationResult | None = None
    video: Path | None = None
    components: RecordedComponents | None = None
    problems: list[str] = field(default_factory=list)

    @property
    def kind(self) -> str:
        """The same text for runs that differ by nothing but their seeds."""
        if self.settings is not None:
            same = {key: value for key, value in self.settings.items() if key not in OWN_OF_A_RUN}
            # The best of many trials was lucky: it is no further run of what was measured on fresh seeds.
            what = "trial" if _is_trial(self.folder) else "configuration"
            return f"{what} {json.dumps(same, sort_keys=True)}"
        if self.records:
            last = self.records[-1]
            return "record " + json.dumps({key: last.get(key) for key in _SAME_IN_A_GROUP}, sort_keys=True)
        return f"folder {self.folder}"

    @property
    def seed(self) -> str:
        """Its seed as a text, empty if nobody knows."""
        found = self.records[-1].get("seed") if self.records else None
        if found is None and self.settings is not None:
            found = self.settings.get("seed")
        return "" if found in (None, "null") else str(found)

    @property
    def planned_timesteps(self) -> int | None:
        """Until when it is to be trained; None: that is over, or nobody knows."""
        last = self.records[-1] if self.records else {}
        start, total = last.get("start", 0), last.get("total_timesteps")
        is_over = self.result is not None or (self.folder / _AGENT).is_file()
        return start + total if not is_over and type(start) is int and type(total) is int else None


def find_runs(folders: Iterable[Path]) -> list[ReportedRun]:
    """Reads the runs in folders.

    Args:
        folders: Each of a run, of an experiment with several seeds, of a study of `tune`, or one that holds some of
            these; a study in there stands for what it found, without its trials.

    Returns:
        Each run once, in the order of the folders, those inside one by their names.

    Raises:
        ArgumentError: One of them is none of these.
    """
    found: dict[Path, ReportedRun] = {}
    for given in folders:
        within = list(_within(given, None, _DEPTH)) if given.is_dir() else []
        if not within:
            problem = "holds no run" if given.is_dir() else "is no folder"
            remedy = "rl-framework list runs shows what there is."
            raise ArgumentError("runs", str(given), problem, remedy)
        for folder, family in within:
            found.setdefault(folder.resolve(), ReportedRun(folder, folder.resolve().name, family))
    runs = list(found.values())
    names = [run.name for run in runs]
    for run in runs:
        if run.family is not None:
            run.name = f"{run.family}/{run.name}"
        elif names.count(run.name) > 1:
            run.name = f"{run.folder.resolve().parent.name}/{run.name}"
        _read(run)
    return runs


def _within(folder: Path, family: str | None, depth: int) -> Iterator[tuple[Path, str | None]]:
    inside = sorted((path for path in folder.iterdir() if path.is_dir()), key=lambda path: (len(path.name), path.name))
    if (folder / _STUDY).is_file() and depth < _DEPTH:
        inside = [path for path in inside if path.name.startswith(_CONFIRMATION)]
    seeds = [path for path in inside if path.name.startswith("seed-") and _is_run(path)]
    if seeds and not (folder / _METRICS).is_file():
        own = folder.resolve()
        name = f"{own.parent.name}/{own.name}" if (own.parent / _STUDY).is_file() else own.name
        yield from ((path, name) for path in seeds)
    elif _is_run(folder):
        yield folder, family
    elif depth:
        for path in inside:
            yield from _within(path, None, depth - 1)


def _is_trial(folder: Path) -> bool:
    places = (folder.resolve(), folder.resolve().parent)
    return any(path.name.startswith(_TRIAL) and (path.parent / _STUDY).is_file() for path in places)


def _is_run(folder: Path) -> bool:
    return not (folder / _STUDY).is_file() and any((folder / sign).is_file() for sign in _SIGNS)


def _read(run: ReportedRun) -> None:
    run.settings = _settings(run)
    records = _json(run, _RECORD)
    run.records = [record for record in records if isinstance(record, dict)] if isinstance(records, list) else []
    if (run.folder / _METRICS).is_file():
        run.metrics = read_series(run.folder / _METRICS)
        run.problems += run.metrics.problems
    run.result = _result(run)
    if not run.metrics.series and run.result is None:
        run.problems.append(f"nothing was measured there: {_METRICS} and {_RESULTS[0]} are missing or hold no numbers.")
    run.video = _last_video(run.folder)
    if run.video is not None:
        try:
            run.components = read_component_series(run.video)
        except (OSError, ValueError) as error:
            run.problems.append(f"The components of {run.video.name} cannot be read: {error}.")


class _Texts(yaml.BaseLoader):
    """Reads every value as the text that the file has, and makes nothing else of it."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        # What aliases stand for can be far more than the file is long.
        if self.check_event(yaml.AliasEvent):
            raise yaml.YAMLError("it has aliases")
        return super().compose_node(parent, index)


def _settings(run: ReportedRun) -> Mapping[str, Any] | None:
    text = _text(run, _CONFIG)
    if text is None:
        return None
    try:
        found = yaml.load(text, Loader=_Texts)  # the base loader knows nothing but texts
    except (yaml.YAMLError, RecursionError, ValueError, TypeError) as error:
        # Of its errors the first line tells enough; the rest shows the file.
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        run.problems.append(f"{_CONFIG} is damaged: {reason}.")
        return None
    if not isinstance(found, dict):
        run.problems.append(f"{_CONFIG} is damaged: it is no mapping.")
        return None
    return {str(key): value for key, value in found.items()}


def _result(run: ReportedRun) -> EvaluationResult | None:
    for name in _RESULTS:
        found = _json(run, name)
        if isinstance(found, dict) and "returns" in found:
            try:
                return EvaluationResult.from_dict(found)
            except (RLFrameworkError, OverflowError) as error:
                run.problems.append(f"{name} is damaged: {error}")
    return None


def _json(run: ReportedRun, name: str) -> Any:
    text = _text(run, name)
    if text is None:
        return None
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        run.problems.append(f"{name} is damaged: {error}.")
        return None


def _text(run: ReportedRun, name: str) -> str | None:
    path = run.folder / name
    try:
        if path.stat().st_size > _LARGEST[name]:
            run.problems.append(f"{name} has more than {_LARGEST[name]:,} bytes, and is not read.")
            return None
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        run.problems.append(f"{name} cannot be read: {error}.")
        return None


def _last_video(folder: Path) -> Path | None:
    """Returns the video of the trained agent, or the latest of those on the way."""
    videos = [path for place in (folder / "videos", folder) if place.is_dir() for path in place.iterdir()]
    videos = [path for path in videos if path.suffix in _VIDEO_ENDINGS and path.is_file() and path.name[0] != "."]
    final = [path for path in videos if path.stem in ("final", "replay")]
    return max(final or videos, key=lambda path: (path.stat().st_mtime, path.name), default=None)
