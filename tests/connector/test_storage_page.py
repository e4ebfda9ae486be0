"""The code of docs/storage.md works exactly as printed."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from tests.servers.drive import loopback_drive

from rl_framework import EpisodeSequence, StableBaselinesAgent, load_agent

PAGE = Path(__file__).resolve().parents[2] / "docs" / "storage.md"


def test_the_page_on_storage(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("moto")
    from tests.servers.s3 import loopback_s3

    names: dict[str, object] = {}
    with loopback_s3(monkeypatch), loopback_drive(monkeypatch):
        for code in re.findall(r"```python\n(.*?)```", PAGE.read_text(), flags=re.DOTALL):
            exec(compile(code, "storage.md", "exec"), names)
        agent, same_agent, resumed = names["agent"], names["same_agent"], names["resumed"]
        assert isinstance(agent, StableBaselinesAgent)
        assert isinstance(same_agent, StableBaselinesAgent)
        assert isinstance(resumed, StableBaselinesAgent)
        assert resumed.num_timesteps == 512
        observations = np.random.default_rng(0).normal(size=(16, 4)).astype(np.float32)
        on_drive = load_agent("gdrive://experiments/walker")
        for other in (same_agent, on_drive):
            assert np.array_equal(agent.predict(observations)[0], other.predict(observations)[0])
    assert names["where"] == "s3://bucket/walker/episodes"
    assert isinstance(names["episodes"], EpisodeSequence)
    assert len(names["episodes"]) == 5
