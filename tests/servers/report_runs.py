"""Folders of runs, made up, for tests of reports."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np


def make_run(
    folder: Path,
    *,
    seed: int = 0,
    level: float = 100.0,
    algorithm: str = "ppo",
    n_episodes: int = 50,
    metrics: Mapping[str, Iterable[float]] | None = None,
    settings: str = "",
    evaluated: bool = True,
) -> Path:
    """Makes what a run leaves behind; its returns rise to `level`."""
    generator = np.random.default_rng([seed, int(level)])
    folder.mkdir(parents=True)
    lines = []
    for index in range(n_episodes):
        reached = level * (1 - np.exp(-3 * index / n_episodes)) + generator.normal(0, 3)
        measured = {"episode/return": reached, "episode/length": 20.0 + index}
        lines.append({"timestep": 20 * index + 20, "time": 1e9 + index, "metrics": measured})
    values = {"train/loss": generator.random(20), "norms/policy_gradient": generator.random(20), **(metrics or {})}
    for name, numbers in values.items():
        lines += [
            {"timestep": 50 * index + 50, "time": 1e9 + index, "metrics": {name: float(number)}}
            for index, number in enumerate(numbers)
        ]
    lines.sort(key=lambda line: line["timestep"])
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    if evaluated:
        returns = level + generator.normal(0, 5, 20)
        write_json(folder / "results.json", evaluation(returns))
    (folder / "config.yaml").write_text(
        f"name: {json.dumps(folder.name)}\nseed: {seed}\nagent: {{algorithm: {algorithm}}}\n{settings}"
    )
    record = {"seed": seed, "algorithm": algorithm, "versions": {"python": "3.11.7"}, "platform": {"system": "Linux"}}
    write_json(folder / "record.json", [record])
    return folder


def evaluation(returns: Any, environment: str = "CartPole-v1") -> dict[str, Any]:
    """Returns what results.json holds."""
    numbers = [float(value) for value in returns]
    return {"returns": numbers, "lengths": [10] * len(numbers), "deterministic": False, "environment": environment}


def write_json(path: Path, value: Any) -> None:
    """Writes a file."""
    path.write_text(json.dumps(value))


def film(folder: Path, labels: Iterable[str] = (), *, video: bytes = b"video", fps: float = 10.0) -> Path:
    """Puts a video into a run's folder, and its components beside it: one that rises, and one that is not there."""
    (folder / "videos").mkdir()
    path = folder / "videos" / "final.mp4"
    path.write_bytes(video)
    content = {
        "version": 1,
        "video": path.name,
        "video_bytes": len(video),
        "frames_per_second": fps,
        "episodes": [1, 1, 1, 2, 2],
        "components": [{"label": label, "name": "observation[0]", "values": [0, 1, 2, None, 4]} for label in labels],
    }
    if content["components"]:
        write_json(folder / "videos" / "final.components.json", content)
    return path
