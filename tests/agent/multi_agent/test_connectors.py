"""What goes to the services goes there from worlds of several agents too, by the same calls."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from tests.agent.multi_agent.samples import PPO, two_of_a_kind, unlike
from tests.environment.pettingzoo_toys import Rendezvous
from tests.servers.clearml import loopback_clearml
from tests.servers.hub import loopback_hub

from rl_framework import (
    ClearMLConnector,
    ClearMLUploadConfig,
    HuggingFaceConnector,
    HuggingFaceUploadConfig,
    StableBaselinesAgent,
)


def filmed(**arguments: Any) -> Rendezvous:
    return unlike(render_mode="rgb_array", **arguments)


def filmed_alike() -> Rendezvous:
    return Rendezvous(render_mode="rgb_array")


def one_policy() -> StableBaselinesAgent:
    return StableBaselinesAgent("ppo", PPO)


@pytest.fixture(params=["hub", "clearml"])
def connector(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Any]:
    quickly: dict[str, Any] = {"n_eval_episodes": 4, "video_length": 4}
    with ExitStack() as stack:
        if request.param == "hub":
            stack.enter_context(loopback_hub(monkeypatch, tmp_path / "cache"))
            opened: Any = HuggingFaceConnector(HuggingFaceUploadConfig("tester/team", **quickly))
        else:
            stack.enter_context(loopback_clearml(monkeypatch, tmp_path))
            opened = ClearMLConnector(ClearMLUploadConfig("teams", describe_code=False, **quickly))
        stack.callback(opened.close)
        yield opened


@pytest.mark.parametrize(("make", "world"), [(two_of_a_kind, filmed), (one_policy, filmed_alike)], ids=["multi", "one"])
def test_services_take_and_give_them_back(connector: Any, make: Any, world: Any) -> None:
    agent = make()
    agent.train(world, 64, n_environments=2, seed=0, progress_bar=False, connector=connector)
    agent.upload(connector, video_recording_environment=world)
    again = make()
    again.download(connector)
    assert again.evaluate(world, 4, seed=0) == agent.evaluate(world, 4, seed=0)
