"""Agents of one world that act at different times: each learns from its own decisions and what came of them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces
from stable_baselines3 import PPO
from tests.environment.toys import Crowd, CrowdAdapter

from rl_framework import EpisodeSequence, registry
from rl_framework.agent.imitation.interactive.collection import EpisodeCollection
from rl_framework.agent.reinforcement import StableBaselinesAgent
from rl_framework.environment import MultiSlotAdapter, SlotStep, open_environments
from rl_framework.errors import RLFrameworkError

SMALL: dict[str, Any] = {"policy_kwargs": {"net_arch": [4]}, "device": "cpu"}
pytestmark = pytest.mark.filterwarnings("ignore:You have specified a mini-batch size")


class Slow:
    """A world in which slot `s` is asked at every `1 + s`-th tick, and told then what came of its action.

    An observation is `(slot, episode, decision)`, a reward `10 * slot + decision`; episode `e` has `3 + e % 2`
    decisions and is truncated if `e` is odd. The next one begins at once.

    Attributes:
        taken: By `(slot, episode, decision)`: the action that was taken, and how it ended.
    """

    def __init__(self, n_slots: int = 3) -> None:
        self.n_slots = n_slots
        self.taken: dict[tuple[int, ...], tuple[Any, str]] = {}
        self.lies = False

    def observe(self, slot: int) -> Any:
        return np.array([slot, self.episode[slot], self.decision[slot]], np.float32)

    def restart(self) -> Any:
        self.tick = 0
        self.episode, self.decision = [0] * self.n_slots, [0] * self.n_slots
        self.actions: list[Any] = [None] * self.n_slots
        everybody = np.ones(self.n_slots, np.bool_)
        return [self.observe(slot) for slot in range(self.n_slots)], [{} for _ in everybody], everybody

    def advance(self, actions: list[Any]) -> SlotStep:
        self.tick += 1
        count = self.n_slots
        zeros = np.zeros(count, np.bool_)
        told = np.array([self.tick % (1 + slot) == 0 for slot in range(count)])
        step = SlotStep(
            [], np.full(count, 99.0), zeros.copy(), zeros.copy(), [{} for _ in actions], told, told, pending=~told
        )
        for slot, action in enumerate(actions):
            if action is not None:
                self.actions[slot] = action
            if told[slot]:
                self._tell(slot, step)
        step.observations = [self.observe(slot) for slot in range(count)]
        if self.lies:
            step.pending = told
        return step

    def _tell(self, slot: int, step: SlotStep) -> None:
        key = slot, self.episode[slot], self.decision[slot]
        self.decision[slot] += 1
        step.rewards[slot] = 10 * slot + key[2]
        cut = self.episode[slot] % 2 == 1
        end = "" if self.decision[slot] < 3 + cut else "truncated" if cut else "terminated"
        self.taken[key] = self.actions[slot], end
        if end:
            step.final_observations[slot] = self.observe(slot)
            step.terminated[slot], step.truncated[slot] = not cut, cut
            self.episode[slot], self.decision[slot] = self.episode[slot] + 1, 0


class SlowAdapter(MultiSlotAdapter):
    @classmethod
    def accepts(cls, source: object) -> bool:
        return isinstance(source, Slow)

    def setup(self, source: Any, **environment_kwargs: Any) -> None:
        self.world = source
        self.n_slots = source.n_slots
        self.observation_space = spaces.Box(0, 100, (3,), np.float32)
        self.action_space = spaces.Box(-1, 1, (1,), np.float32)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        return self.world.restart()

    def step(self, action: Any) -> SlotStep:
        return self.world.advance(action)

    def get_action(self, action: Any) -> float:
        return round(float(action[0]), 5)


@pytest.fixture(autouse=True)
def _adapters(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry.environment_adapters, "_entries", dict(registry.environment_adapters._entries))
    registry.register_environment_adapter("toy_slow", SlowAdapter)
    registry.register_environment_adapter("toy_crowd", CrowdAdapter)


def test_rollout_has_what_was_decided_and_what_came_of_it() -> None:
    """Also across rollouts, and with the advantages of each agent by itself."""
    world = Slow()
    agent = StableBaselinesAgent(PPO, {**SMALL, "n_steps": 25, "batch_size": 64, "n_epochs": 1, "learning_rate": 0.0})
    agent.train(world, 60, seed=1, progress_bar=False)
    buffer: Any = agent.algorithm.rollout_buffer  # type: ignore[attr-defined]
    shape = (buffer.n_envs, buffer.buffer_size)
    observations, actions = buffer.observations.reshape(*shape, -1), buffer.actions.reshape(shape)
    values, advantages = buffer.values.reshape(shape), buffer.advantages.reshape(shape)
    log_probs, rewards = buffer.log_probs.reshape(shape), buffer.rewards.T
    policy: Any = agent.algorithm.policy  # type: ignore[attr-defined]
    checked = 0
    for slot in range(shape[0]):
        following = None
        for row in reversed(np.flatnonzero(buffer.acted[:, slot])):
            key = tuple(map(int, observations[slot, row]))
            action, end = world.taken[key]
            assert np.clip(actions[slot, row], -1, 1) == pytest.approx(action, abs=1e-4)
            with torch.no_grad():
                value, log_prob, _ = policy.evaluate_actions(
                    torch.as_tensor(observations[slot, row : row + 1]), torch.tensor([[actions[slot, row]]])
                )
            assert values[slot, row] == pytest.approx(float(value), abs=1e-5)
            assert log_probs[slot, row] == pytest.approx(float(log_prob), abs=1e-5)
            if end:
                expected = rewards[slot, row] - values[slot, row]
            elif following is None:
                continue
            else:
                expected = rewards[slot, row] + 0.99 * following[0] - values[slot, row] + 0.99 * 0.95 * following[1]
            assert advantages[slot, row] == pytest.approx(expected, abs=1e-3)
            following = values[slot, row], expected
            checked += 1
    assert checked > 30
    assert agent.num_timesteps == len(world.taken)


def test_episodes_have_the_actions_that_were_taken() -> None:
    world = Slow()
    episodes = EpisodeSequence.collect(None, world, 9, seed=2)
    for episode in episodes:
        observations: Any = episode.observations
        assert observations[:, 2].tolist() == list(range(len(episode) + 1))
        for step in range(len(episode)):
            action, end = world.taken[tuple(map(int, observations[step]))]
            assert float(episode.actions[step, 0]) == pytest.approx(action, abs=1e-4)
            assert episode.rewards[step] == 10 * observations[step, 0] + step
        assert (episode.terminated, episode.truncated) == (end == "terminated", end == "truncated")


def test_an_expert_is_taken_at_its_first_word() -> None:
    """It is asked again while others decide, and may say something else then."""
    world, said = Slow(), 0

    def choose(observations: Any, state: Any, starts: Any) -> Any:
        nonlocal said
        said += 1
        actions = np.full((world.n_slots, 1), said / 1000, np.float32)
        return actions, actions, None

    collection = EpisodeCollection(open_environments(world), choose, 0, 9)
    collection.run(0, lambda step: True)
    assert {int(episode.observations[0][0]) for episode in collection.episodes} == {0, 1, 2}
    for episode in collection.episodes:
        observations: Any = episode.observations
        for step in range(len(episode)):
            action, _ = world.taken[tuple(map(int, observations[step]))]
            assert float(episode.actions[step, 0]) == pytest.approx(action, abs=1e-5)


def test_nobody_is_told_twice() -> None:
    world = Slow(2)
    batch = open_environments(world)
    batch.reset_slots()
    world.lies = True
    with pytest.raises(RLFrameworkError, match="slot 0 is pending, and also that it is present"):
        batch.step_slots(np.zeros((2, 1), np.float32))


@pytest.mark.parametrize("batch_size", [5, 6, 64])
def test_no_minibatch_has_a_single_row(batch_size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its advantages have no standard deviation, by which MaskablePPO divides."""
    from rl_framework.agent.reinforcement.library.buffers.present_buffers import PresentRolloutBuffer

    sizes: list[int] = []
    get = PresentRolloutBuffer.get

    def spy(self: Any, batch_size: int | None = None) -> Any:
        for batch in get(self, batch_size):
            sizes.append(len(batch.observations))
            yield batch

    monkeypatch.setattr(PresentRolloutBuffer, "get", spy)
    crowd = Crowd()
    agent = StableBaselinesAgent(PPO, {**SMALL, "n_steps": 12, "batch_size": batch_size, "n_epochs": 1})
    agent.train(crowd, 200, seed=1, progress_bar=False)
    assert sum(sizes) == len(crowd.transitions)
    assert min(sizes) > 1
    assert max(sizes) <= batch_size + 1
