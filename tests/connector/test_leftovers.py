"""Whoever goes on with a training is told what its predecessor could not deliver."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from rl_framework.connector.remote import RemoteConnector
from rl_framework.training import Training, TrainingStarted


class _Remote(RemoteConnector):
    """Delivers to nobody, or not at all."""

    def __init__(self, name: str, is_away: bool = False) -> None:
        super().__init__(patience=0.0 if is_away else 60.0)
        self.name, self.is_away = name, is_away
        self.delivered: list[Any] = []

    @property
    def service(self) -> str:
        return f"the service {self.name}"

    def destination(self) -> dict[str, Any]:
        return {"name": self.name}

    def deliver(self, item: Any) -> None:
        if self.is_away:
            raise ConnectionError("as the test wants it")
        self.delivered.append(item.data.get("timestep"))

    def begin(self, *, resumed: bool) -> None:
        event = TrainingStarted(timestep=5, total_timesteps=9, record={}, resumed=resumed)
        self.on_event(event, Training(None, [self], seed=0))


def test_what_an_earlier_process_left_is_told_when_its_training_goes_on(caplog: pytest.LogCaptureFixture) -> None:
    killed = _Remote("one", is_away=True)
    for timestep in range(3):
        killed.log_metrics({"a": 1.0}, timestep, 1_000.0)
    killed.close()
    caplog.clear()
    for connector, resumed in ((_Remote("one"), False), (_Remote("other"), True)):
        connector.begin(resumed=resumed)
        connector.close()
    assert "earlier training" not in caplog.text
    connector = _Remote("one")
    connector.begin(resumed=True)
    told = f"the service one has not got everything of an earlier training: 3 left in {Path('runs/.spool').absolute()}"
    assert f"{told}. Deliver it with _Remote(...).sync()" in caplog.text
    connector.sync()
    assert {0, 1, 2} <= set(connector.delivered)
    connector.close()
    caplog.clear()
    _Remote("one").begin(resumed=True)
    assert "earlier training" not in caplog.text
