"""The page on reports does what it says."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from rl_framework.experiment import ExperimentConfig
from rl_framework.experiment.config import load_config

pytest.importorskip("plotly")
pytest.importorskip("imageio_ffmpeg")

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "reports.md").read_text()


def test_the_example_makes_a_page_with_everything(tmp_path):
    (code,) = re.findall(r"```python\n(.*?)```", PAGE, flags=re.DOTALL)
    names: dict[str, object] = {}
    exec(compile(code, "reports.md", "exec"), names)
    page = (tmp_path / "report.html").read_text()
    sections = re.findall(r"<h2[^>]*>(.*?)</h2>", page)
    rows = re.findall(r"^\| ([A-Z].*?) \|", PAGE, flags=re.MULTILINE)
    assert sections == [name.strip() for row in rows for name in re.split("[;,]", row)]
    assert "2 runs of 1 configuration." in page
    assert page.count("<video") == 2
    assert page.count("<h3>pole angle</h3>") == 2
    assert "<h3>norms/policy_gradient</h3>" in page
    assert (tmp_path / "report.learning-curves.png").is_file()


def test_the_overlay_for_the_walker_is_one():
    (text,) = re.findall(r"```yaml\n(.*?)```", PAGE, flags=re.DOTALL)
    settings = {"agent": {"algorithm": "ppo"}, "environment": {"id": "BipedalWalker-v3"}, **yaml.safe_load(text)}
    settings["training"] = {"total_timesteps": 1_000}
    config = load_config(settings)
    assert isinstance(config, ExperimentConfig)
    assert config.video is not None
    assert len(config.video.film()["overlay"].show) == 7
