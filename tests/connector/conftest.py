"""A Hugging Face Hub and a ClearML server on this machine."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.servers.clearml import ClearMLServer, loopback_clearml
from tests.servers.hub import LoopbackHub, loopback_hub


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[LoopbackHub]:
    with loopback_hub(monkeypatch, tmp_path / "cache") as server:
        yield server


@pytest.fixture
def clearml_server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[ClearMLServer]:
    with loopback_clearml(monkeypatch, tmp_path) as server:
        yield server
