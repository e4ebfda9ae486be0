"""The code of docs/trackers.md works exactly as printed."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from tests.servers.mlflow import empty_database

from rl_framework import StableBaselinesAgent, registry
from rl_framework.connector.wandb.transaction_log import read_rows

PAGE = Path(__file__).resolve().parents[2] / "docs" / "trackers.md"


def test_the_page_on_trackers(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for module in ("mlflow", "tensorboard", "wandb"):
        pytest.importorskip(module)
    for name in ("MLFLOW_TRACKING_URI", "MLFLOW_REGISTRY_URI", "WANDB_DIR"):
        monkeypatch.delenv(name, raising=False)
    for name in ("DATA", "CACHE", "CONFIG"):
        monkeypatch.setenv(f"WANDB_{name}_DIR", str(tmp_path / "home"))
    # The service of a machine that has much to do writes down the end of a run late.
    monkeypatch.setattr("rl_framework.connector.wandb.session._PATIENCE_WITH_LOG", 60.0)
    import mlflow

    shutil.copyfile(empty_database(), tmp_path / "mlflow.db")
    # It is made once for a process, from the working directory.
    monkeypatch.setattr(mlflow.tracking._tracking_service.utils, "_tracking_uri", f"sqlite:///{tmp_path / 'mlflow.db'}")
    names: dict[str, object] = {}
    for code in re.findall(r"```python\n(.*?)```", PAGE.read_text(), flags=re.DOTALL):
        exec(compile(code, "trackers.md", "exec"), names)
    agent, same_agent, actions = names["agent"], names["same_agent"], names["actions"]
    assert isinstance(agent, StableBaselinesAgent)
    assert isinstance(same_agent, StableBaselinesAgent)
    observations = np.random.default_rng(0).normal(size=(16, 4)).astype(np.float32)
    assert np.array_equal(agent.predict(observations)[0], same_agent.predict(observations)[0])
    assert np.shape(actions) == (2,)
    (log,) = Path("wandb").glob("offline-run-*/*.wandb")
    assert any("train/loss" in row for row in read_rows(log))
    named = set(re.findall(r"^\| `(\w+)Connector`", PAGE.read_text(), flags=re.MULTILINE))
    assert {name.lower() for name in named} <= set(registry.connectors)
