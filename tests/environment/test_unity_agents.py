"""Agents that come and go, and act at different times: counted against what the player noted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from stable_baselines3 import PPO, SAC
from tests.environment.unity_scenes import Scene

from rl_framework import EpisodeSequence
from rl_framework.agent.reinforcement import StableBaselinesAgent
from rl_framework.agent.reinforcement.library.buffers.present_buffers import PresentRolloutBuffer
from rl_framework.environment import open_environments
from rl_framework.environment.unity import UnityEnvironmentAdapter
from rl_framework.errors import RLFrameworkError

CROWD = ("--scene", "crowd", "--agents", 5)
SMALL: dict[str, Any] = {"policy_kwargs": {"net_arch": [4]}, "device": "cpu"}
# Equal periods, whose agents end between the questions of others, and unequal ones, where some act while others wait.
PERIODS = ["1", "3", "1,2,3"]

pytestmark = [
    pytest.mark.filterwarnings("ignore:You have specified a mini-batch size"),
    pytest.mark.filterwarnings("ignore:distutils Version classes"),
]


def _rounded(*parts: Any) -> tuple[float, ...]:
    return tuple(round(float(number), 4) for part in parts for number in np.ravel(part))


def _sent(scene: Scene, *names: str) -> Counter[Any]:
    return Counter(_rounded(*(transition[name] for name in names)) for transition in scene.transitions())


def _walk(batch: Any, count: int) -> None:
    for _ in range(count):
        batch.step_slots(batch.action_space.sample())


@pytest.fixture
def minibatches(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    seen: list[Any] = []
    get = PresentRolloutBuffer.get

    def spy(self: Any, batch_size: int | None = None) -> Iterator[Any]:
        for batch in get(self, batch_size):
            seen.append(batch)
            yield batch

    monkeypatch.setattr(PresentRolloutBuffer, "get", spy)
    return seen


@pytest.mark.parametrize("periods", PERIODS)
def test_on_policy_learns_each_transition_once(periods: str, tmp_path: Path, minibatches: list[Any]) -> None:
    scene = Scene(tmp_path, *CROWD, "--periods", periods)
    agent = StableBaselinesAgent(PPO, {**SMALL, "n_steps": 16, "batch_size": 16, "n_epochs": 1})
    agent.train(scene.path, 150, environment_kwargs={"max_agents": 5}, seed=1, progress_bar=False)
    sent = _sent(scene, "observation", "action")
    learned = Counter(
        _rounded(observation, np.clip(action, -1, 1))
        for batch in minibatches
        for observation, action in zip(batch.observations.numpy(), batch.actions.numpy(), strict=True)
    )
    assert sent.total() >= 150
    assert learned == sent
    assert agent.num_timesteps == sent.total()


@pytest.mark.parametrize("periods", PERIODS)
def test_off_policy_stores_each_transition_once(periods: str, tmp_path: Path) -> None:
    scene = Scene(tmp_path, *CROWD, "--periods", periods)
    agent = StableBaselinesAgent(SAC, {**SMALL, "buffer_size": 500, "learning_starts": 500})
    agent.train(scene.path, 150, environment_kwargs={"max_agents": 5}, seed=1, progress_bar=False)
    buffer: Any = agent.algorithm.replay_buffer  # type: ignore[attr-defined]
    stored = Counter(
        _rounded(
            buffer.observations[row, 0],
            buffer.actions[row, 0],
            buffer.rewards[row, 0],
            buffer.next_observations[row, 0],
            buffer.dones[row, 0],
            buffer.timeouts[row, 0],
        )
        for row in range(buffer.pos)
    )
    assert stored == _sent(scene, "observation", "action", "reward", "next", "done", "interrupted")
    assert stored.total() >= 150


@pytest.mark.parametrize("periods", PERIODS)
def test_a_crash_loses_and_invents_nothing(periods: str, tmp_path: Path) -> None:
    """What nobody knows the outcome of is told as cut off, once for each agent that was in mid-episode."""
    scene = Scene(tmp_path, *CROWD, "--periods", periods, "--crash-at", 25, "--once", tmp_path / "once")
    agent = StableBaselinesAgent(SAC, {**SMALL, "buffer_size": 500, "learning_starts": 500})
    agent.train(scene.path, 150, environment_kwargs={"max_agents": 5}, seed=1, progress_bar=False)
    buffer: Any = agent.algorithm.replay_buffer  # type: ignore[attr-defined]
    stored = Counter(
        _rounded(*(getattr(buffer, name)[row, 0] for name in ("observations", "rewards", "dones", "timeouts")))
        for row in range(buffer.pos)
    )
    sent = _sent(scene, "observation", "reward", "done", "interrupted")
    assert len(scene.noted("started")) == 2
    assert not sent - stored
    cut = stored - sent
    assert {row[-3:] for row in cut} == {(0.0, 1.0, 1.0)}
    noted = [line["what"] for line in scene.log]
    crash = noted.index("crash_at")
    reset = max(place for place, what in enumerate(noted[:crash]) if what == "reset")
    before = scene.log[reset:crash]
    alive = {line["id"]: line["observation"] for line in before if line["what"] == "agent"}
    ended = {line["id"] for line in before if line["what"] == "agent" and line["done"]}
    assert Counter(row[:3] for row in cut.elements()) == Counter(
        _rounded(observation) for number, observation in alive.items() if number not in ended
    )


def test_collected_episodes_are_those_of_single_agents(tmp_path: Path) -> None:
    """Each has one agent's observations in their order, its own actions, and all of its reward."""
    scene = Scene(tmp_path, *CROWD, "--periods", "1,2,3")
    episodes = EpisodeSequence.collect(
        None, scene.path, 20, seed=3, environment_kwargs={"max_agents": 5}, n_environments=1
    )
    sent = _sent(scene, "observation", "action", "reward", "next")
    collected: Counter[Any] = Counter()
    for episode in episodes:
        observations: Any = episode.observations
        assert len({(number, count) for number, count, _ in observations}) == 1
        assert (np.diff(observations[:, 2]) > 0).all()
        period = (1, 2, 3)[int(observations[0, 0]) % 3]
        assert (np.diff(observations[:-1, 2]) == period).all()
        assert episode.rewards.sum() == observations[-1, 2] * (1 + observations[0, 0])
        assert episode.truncated == ((observations[0, 0] + observations[0, 1]) % 2 == 1)
        for step in range(len(episode)):
            collected[
                _rounded(observations[step], episode.actions[step], episode.rewards[step], observations[step + 1])
            ] += 1
    assert not collected - sent
    # What was not collected belongs to episodes beyond the quota of their slot, and not to some in the middle.
    assert collected.total() > 60


def test_masks_of_who_is_there(tmp_path: Path) -> None:
    scene = Scene(tmp_path, *CROWD, "--periods", "1,2,3")
    batch = open_environments(scene.path, environment_kwargs={"max_agents": 5})
    try:
        batch.reset_slots()
        seen: Counter[str] = Counter()
        decided = np.zeros(5, bool)
        for _ in range(60):
            present, before = batch.present.copy(), batch.latest_observations
            step = batch.step_slots(batch.action_space.sample())
            pending = np.zeros(5, bool) if step.pending is None else step.pending
            assert not (pending & step.present).any()
            assert not (pending & step.acted).any()
            assert ((present | decided) == (step.acted | pending)).all()
            assert (step.observations[pending] == before[pending]).all()
            assert (step.rewards[~step.acted] == 0).all()
            seen["pending"] += int(pending.sum())
            seen["late"] += int((step.acted & ~present).sum())
            seen["absent"] += int((~step.present & ~pending).sum())
            seen["at once"] += len(step.reset_infos)
            decided = pending
        assert min(seen[name] for name in ("pending", "late", "absent", "at once")) > 5
    finally:
        batch.close()


def test_more_agents_than_slots_say_what_to_do(tmp_path: Path) -> None:
    """The last one of the crowd is not there at the start."""
    scene = Scene(tmp_path, *CROWD)
    with UnityEnvironmentAdapter(scene.path) as unity:
        batch = open_environments(unity)
        assert batch.num_envs == 4
        batch.reset_slots()
        with pytest.raises(
            RLFrameworkError, match=r"more than 4 agents of behaviour 'Reach\?team=0'.*\"max_agents\": 5"
        ):
            _walk(batch, 20)


def test_group_rewards_are_added_or_told(tmp_path: Path) -> None:
    scene = Scene(tmp_path, "--agents", 3, "--group-rewards")
    for where in ("add", "info"):
        with UnityEnvironmentAdapter(scene.path, group_rewards=where) as unity:
            batch = open_environments(unity)
            batch.reset_slots()
            step = batch.step_slots(batch.action_space.sample())
        told = {transition["id"]: transition for transition in scene.transitions()[-3:]}
        assert len(told) == 3
        for slot, info in enumerate(step.infos):
            sent = told[info["agent_id"]]
            group = sent["group_reward"]
            assert info.get("group_reward", 0.0) == group
            assert step.rewards[slot] == pytest.approx(sent["reward"] + (group if where == "add" else 0.0))
        assert sorted(sent["group_reward"] for sent in told.values()) == [0.0, 1.0, 2.0]


def test_each_behaviour_has_an_agent_of_its_own(tmp_path: Path, minibatches: list[Any]) -> None:
    """Trained at the same time, with different periods; each is told only of its own agents."""
    from rl_framework.agent.multi_agent import MultiAgent

    behaviors = ("--behaviors", "Cat?team=0,Mouse?team=0", "--periods", "1,2")
    scene = Scene(tmp_path, "--scene", "crowd", "--agents", 4, *behaviors)
    agents = {
        "Cat": StableBaselinesAgent(PPO, {**SMALL, "n_steps": 16, "batch_size": 16, "n_epochs": 1}),
        "Mouse": StableBaselinesAgent(SAC, {**SMALL, "buffer_size": 500, "learning_starts": 500}),
    }
    together = MultiAgent(agents)
    together.train(scene.path, 64, environment_kwargs={"max_agents": 2}, seed=1, progress_bar=False)
    learned = Counter(_rounded(observation) for batch in minibatches for observation in batch.observations.numpy())
    buffer: Any = agents["Mouse"].algorithm.replay_buffer  # type: ignore[attr-defined]
    stored = Counter(_rounded(buffer.observations[row, 0], buffer.rewards[row, 0]) for row in range(buffer.pos))
    cats = Counter(_rounded(each["observation"]) for each in scene.transitions("Cat?team=0"))
    mice = Counter(_rounded(each["observation"], each["reward"]) for each in scene.transitions("Mouse?team=0"))
    assert learned == cats
    assert stored == mice
    assert min(cats.total(), mice.total()) > 40
    assert {int(observation[0]) % 2 for observation in learned} == {0}
