"""A Hugging Face Hub and a ClearML server on this machine."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.servers.clearml import ClearMLServer
from tests.servers.hub import LoopbackHub, loopback_hub


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[LoopbackHub]:
    with loopback_hub(monkeypatch, tmp_path / "cache") as server:
        yield server


@pytest.fixture
def clearml_server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[ClearMLServer]:
    with ClearMLServer() as server:
        for name, value in server.variables().items():
            monkeypatch.setenv(name, value)
        # Neither the settings nor the cache of whoever runs the tests.
        monkeypatch.setenv("CLEARML_CONFIG_FILE", str(tmp_path / "no-clearml.conf"))
        monkeypatch.setenv("HOME", str(tmp_path))
        yield server
