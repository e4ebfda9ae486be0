"""A Hugging Face Hub and a ClearML server on this machine, and deliveries that end with their tests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.servers.clearml import ClearMLServer, loopback_clearml
from tests.servers.hub import LoopbackHub, loopback_hub

from rl_framework.connector import delivery

PATIENCE = 60.0


@pytest.fixture(autouse=True)
def _no_delivery_outlives_its_test(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A machine that has much to do takes its time; and what one test leaves running would speak in another one's log.

    A test whose service does not answer at all has to shorten the patience itself.
    """
    monkeypatch.setattr(delivery, "_PATIENCE_WITH_CALL", PATIENCE)
    yield
    for left in list(delivery._deliveries):
        left.release()
        delivery._deliveries.discard(left)


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[LoopbackHub]:
    with loopback_hub(monkeypatch, tmp_path / "cache") as server:
        yield server


@pytest.fixture
def clearml_server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[ClearMLServer]:
    with loopback_clearml(monkeypatch, tmp_path) as server:
        yield server
