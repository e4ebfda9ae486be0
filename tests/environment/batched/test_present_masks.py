"""Nobody learns from slots that hold nobody, and every real transition is learned from exactly once."""

from __future__ import annotations

from collections import Counter as Multiset
from collections.abc import Iterator
from copy import deepcopy
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium.envs.classic_control.cartpole import CartPoleVectorEnv
from stable_baselines3 import A2C, DQN, PPO
from stable_baselines3.common.buffers import RolloutBuffer
from stable_baselines3.common.vec_env import DummyVecEnv
from tests.environment.toys import POISON, Crowd, CrowdAdapter

from rl_framework import registry
from rl_framework.agent.reinforcement import StableBaselinesAgent
from rl_framework.agent.reinforcement.library.buffers.present_buffers import (
    PresentDictRolloutBuffer,
    PresentReplayBuffer,
    PresentRolloutBuffer,
    buffers_for_absence,
)
from rl_framework.environment import open_environments
from rl_framework.environment.sb3 import export_to_vec_env
from rl_framework.errors import ArgumentError, RLFrameworkError
from rl_framework.training import Callback

SMALL: dict[str, Any] = {"policy_kwargs": {"net_arch": [4]}, "device": "cpu"}
ON_POLICY: dict[str, Any] = {**SMALL, "n_steps": 16, "batch_size": 7, "n_epochs": 1}


# How full the last minibatch is depends on who was there.
pytestmark = pytest.mark.filterwarnings("ignore:You have specified a mini-batch size")


@pytest.fixture(autouse=True)
def _adapter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry.environment_adapters, "_entries", dict(registry.environment_adapters._entries))
    registry.register_environment_adapter("toy_crowd", CrowdAdapter)


@pytest.fixture
def batches(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Every minibatch that an algorithm has learned from, with the buffer it came from."""
    seen: list[Any] = []
    get = PresentRolloutBuffer.get

    def spy(self: Any, batch_size: int | None = None) -> Iterator[Any]:
        for batch in get(self, batch_size):
            seen.append(batch)
            yield batch

    monkeypatch.setattr(PresentRolloutBuffer, "get", spy)
    return seen


def _train(agent: StableBaselinesAgent, environments: Any, steps: int, **kwargs: Any) -> StableBaselinesAgent:
    return agent.train(environments, total_timesteps=steps, seed=1, progress_bar=False, **kwargs)


def _rows(observations: Any) -> list[tuple[int, ...]]:
    return [tuple(map(int, row)) for row in np.asarray(observations)]


@pytest.mark.parametrize("batch_size", [7, 48])
def test_on_policy_learns_every_transition_once(batches: list[Any], batch_size: int) -> None:
    crowd = Crowd()
    agent = StableBaselinesAgent(PPO, {**ON_POLICY, "batch_size": batch_size})
    _train(agent, crowd, 70)
    learned = Multiset(row for batch in batches for row in _rows(batch.observations))
    assert learned == Multiset(list(crowd.transitions))
    assert agent.num_timesteps == len(crowd.transitions) >= 70
    assert all(len(batch.observations) <= batch_size for batch in batches)
    assert all(torch.isfinite(parameter).all() for parameter in agent.algorithm.policy.parameters())  # type: ignore[attr-defined]


def test_on_policy_without_minibatches(batches: list[Any]) -> None:
    crowd = Crowd()
    agent = StableBaselinesAgent(A2C, {**SMALL, "n_steps": 8})
    _train(agent, crowd, 40)
    learned = Multiset(row for batch in batches for row in _rows(batch.observations))
    assert learned == Multiset(list(crowd.transitions))
    assert agent.num_timesteps == len(crowd.transitions)


def test_no_advantage_reaches_across_the_end_of_an_episode() -> None:
    """Checked against the generalised advantage estimate of each episode by itself."""
    crowd = Crowd()
    agent = StableBaselinesAgent(PPO, {**ON_POLICY, "n_steps": 40, "gamma": 0.9, "gae_lambda": 0.8})
    _train(agent, crowd, 60)
    buffer: Any = agent.algorithm.rollout_buffer  # type: ignore[attr-defined]
    shape = (buffer.n_envs, buffer.buffer_size)
    observations = buffer.observations.reshape(*shape, -1)
    values, advantages = buffer.values.reshape(shape), buffer.advantages.reshape(shape)
    rewards = buffer.rewards.T
    checked = 0
    for slot in range(shape[0]):
        following = None
        for row in reversed(np.flatnonzero(buffer.acted[:, slot])):
            transition = tuple(map(int, observations[slot, row]))
            ended = crowd.transitions[transition]  # type: ignore[index]
            # The reward of a truncated episode has the value of its final observation in it already.
            assert (rewards[slot, row] == slot + transition[2] + 1) or ended == "truncated"
            if ended:
                expected = rewards[slot, row] - values[slot, row]
            elif following is None:
                continue  # cut by the end of the rollout, whose last values are gone
            else:
                value, advantage = following
                expected = rewards[slot, row] + 0.9 * value - values[slot, row] + 0.9 * 0.8 * advantage
            assert advantages[slot, row] == pytest.approx(expected, abs=1e-4)
            following = values[slot, row], expected
            checked += 1
    assert checked > 50


def test_off_policy_stores_every_transition_once() -> None:
    crowd = Crowd()
    agent = StableBaselinesAgent(DQN, {**SMALL, "buffer_size": 500, "learning_starts": 20, "batch_size": 16})
    _train(agent, crowd, 90)
    buffer: Any = agent.algorithm.replay_buffer  # type: ignore[attr-defined]
    assert isinstance(buffer, PresentReplayBuffer)
    count = buffer.pos
    assert not buffer.full
    stored = _rows(buffer.observations[:count, 0])
    assert Multiset(stored) == Multiset(list(crowd.transitions))
    assert agent.num_timesteps == len(crowd.transitions) >= 90
    following = _rows(buffer.next_observations[:count, 0])
    assert following == [(slot, episode, t + 1) for slot, episode, t in stored]
    ways = {("", 0.0, 0.0), ("terminated", 1.0, 0.0), ("truncated", 1.0, 1.0)}
    found = set()
    for index, transition in enumerate(stored):
        done, cut = float(buffer.dones[index, 0]), float(buffer.timeouts[index, 0])
        found.add((crowd.transitions[transition], done, cut))  # type: ignore[index]
        assert buffer.rewards[index, 0] == transition[0] + transition[2] + 1
    assert found == ways
    sample = buffer.sample(200)
    assert (sample.observations != POISON).all()
    assert (sample.next_observations != POISON).all()


class DictAdapter(CrowdAdapter):
    """Observes a dictionary."""

    def setup(self, source: Any, n_slots: int = 3) -> None:
        super().setup(source, n_slots)
        row = gymnasium.spaces.Box(-2000, 2000, (3,), np.float32)
        self.observation_space = gymnasium.spaces.Dict({"row": row, "scaled": row})

    def get_observation(self, observation: Any) -> Any:
        return {"row": observation, "scaled": observation / 2}


@pytest.mark.parametrize("algorithm", [PPO, DQN])
def test_dictionaries_of_those_who_were_there(algorithm: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    learned: list[tuple[int, ...]] = []
    get = PresentDictRolloutBuffer.get

    def spy(self: Any, batch_size: int | None = None) -> Iterator[Any]:
        for batch in get(self, batch_size):
            learned.extend(_rows(batch.observations["row"]))
            assert (batch.observations["scaled"] * 2 == batch.observations["row"]).all()
            yield batch

    monkeypatch.setattr(PresentDictRolloutBuffer, "get", spy)
    registry.environment_adapters.register("toy_crowd", DictAdapter, replace=True)
    crowd = Crowd()
    parameters = ON_POLICY if algorithm is PPO else {**SMALL, "buffer_size": 500, "learning_starts": 20}
    agent = StableBaselinesAgent(algorithm, parameters)
    _train(agent, crowd, 60)
    if algorithm is DQN:
        buffer: Any = agent.algorithm.replay_buffer  # type: ignore[attr-defined]
        learned = _rows(buffer.observations["row"][: buffer.pos, 0])
        following = _rows(buffer.next_observations["row"][: buffer.pos, 0])
        assert following == [(slot, episode, t + 1) for slot, episode, t in learned]
    assert Multiset(learned) == Multiset(list(crowd.transitions))


def test_evaluation_counts_episodes_of_those_who_were_there() -> None:
    agent = StableBaselinesAgent(PPO, ON_POLICY)
    _train(agent, Crowd(), 20)
    crowd = Crowd()
    result = agent.evaluate(evaluation_environment=crowd, n_eval_episodes=9, seed=1)
    assert len(result.returns) == 9
    possible = Multiset(t + 1 for (_, _, t), way in crowd.transitions.items() if way)
    assert not Multiset(result.lengths.tolist()) - possible


class Noting(Crowd):
    """Notes every observation that somebody got."""

    def __init__(self) -> None:
        super().__init__()
        self.observed: list[Any] = []
        self.rewards: list[float] = []

    def restart(self) -> Any:
        observations, present = super().restart()
        self.observed += [row for row, here in zip(observations, present, strict=True) if here]
        return observations, present

    def advance(self, actions: list[Any]) -> Any:
        step = super().advance(actions)
        self.observed += [row for row, here in zip(step.observations, step.present, strict=True) if here]
        self.rewards += [reward for reward in step.rewards if reward != POISON]
        return step


@pytest.mark.parametrize("algorithm", [PPO, DQN])
def test_statistics_are_of_those_who_were_there(algorithm: Any) -> None:
    crowd = Noting()
    parameters = ON_POLICY if algorithm is PPO else {**SMALL, "buffer_size": 500, "learning_starts": 20}
    agent = StableBaselinesAgent(algorithm, parameters, normalize_observations=True, normalize_rewards=True)
    for _ in range(2):
        _train(agent, crowd, 60)
    normaliser = agent.normaliser
    assert normaliser is not None
    mean, variance, count = normaliser.observation[""]
    assert count == pytest.approx(len(crowd.observed), abs=1e-3)
    assert mean == pytest.approx(np.mean(crowd.observed, axis=0), abs=1e-3)
    assert variance == pytest.approx(np.var(crowd.observed, axis=0), abs=1e-2)
    assert normaliser.reward[2] == pytest.approx(len(crowd.transitions), abs=1e-3)
    assert normaliser.reward[0] > 0
    vec_normalize: Any = agent.algorithm.get_vec_normalize_env()
    copied = deepcopy(vec_normalize.obs_rms)
    assert type(copied).__name__ == "RunningMeanStd"
    assert copied.mean.tolist() == mean.tolist()


def test_a_full_replay_buffer_goes_round() -> None:
    crowd = Crowd()
    agent = StableBaselinesAgent(DQN, {**SMALL, "buffer_size": 32, "learning_starts": 5, "batch_size": 4})
    _train(agent, crowd, 90)
    buffer: Any = agent.algorithm.replay_buffer  # type: ignore[attr-defined]
    assert buffer.full
    last = list(crowd.transitions)[-32:]
    assert set(_rows(buffer.observations[:, 0])) == set(last)


class Recording(CartPoleVectorEnv):
    """Notes the observations that were really acted on."""

    def __init__(self, num_envs: int = 1, **kwargs: Any) -> None:
        super().__init__(num_envs, **kwargs)
        self.real: list[tuple[float, ...]] = []
        self.calls = 0

    def step(self, action: Any) -> Any:
        current = np.asarray(self.state).T.astype(np.float32)
        self.real += [tuple(row.tolist()) for row in current[~self.prev_done]]
        self.calls += 1
        return super().step(action)


@pytest.mark.parametrize("by", ["id", "instance"])
def test_on_policy_with_a_native_environment(batches: list[Any], by: str, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Recording] = []

    def make(**kwargs: Any) -> Recording:
        made.append(Recording(**kwargs))
        return made[-1]

    agent = StableBaselinesAgent(PPO, ON_POLICY)
    if by == "id":
        spec = gymnasium.envs.registration.EnvSpec("ToyCartPole-v0", vector_entry_point=make, max_episode_steps=6)
        monkeypatch.setitem(gymnasium.registry, spec.id, spec)
        _train(agent, spec.id, 150, n_environments=4, vectorization="native")
    else:
        _train(agent, make(num_envs=4, max_episode_steps=6), 150)
    learned = Multiset(tuple(row.tolist()) for batch in batches for row in np.asarray(batch.observations))
    assert learned == Multiset(made[0].real)
    assert agent.num_timesteps == len(made[0].real)
    assert len(made[0].real) < made[0].calls * 4


def test_off_policy_with_a_native_environment() -> None:
    environment = Recording(3, max_episode_steps=6)
    agent = StableBaselinesAgent(DQN, {**SMALL, "buffer_size": 500, "learning_starts": 20, "batch_size": 16})
    _train(agent, environment, 120)
    buffer: Any = agent.algorithm.replay_buffer  # type: ignore[attr-defined]
    stored = [tuple(row.tolist()) for row in buffer.observations[: buffer.pos, 0]]
    assert stored == environment.real
    assert agent.num_timesteps == buffer.pos


def test_listeners_are_told_of_real_episodes_only() -> None:
    class Listening(Callback):
        def __init__(self) -> None:
            self.events: list[Any] = []

        def on_episode_end(self, event: Any, training: Any = None) -> None:
            self.events.append(event)

    crowd = Crowd()
    agent = StableBaselinesAgent(PPO, ON_POLICY)
    listening = Listening()
    _train(agent, crowd, 60, callbacks=[listening])
    ended = [transition for transition, way in crowd.transitions.items() if way]
    lengths = Multiset((slot, t + 1) for slot, _, t in ended)
    assert Multiset((event.slot, event.length) for event in listening.events) == lengths
    returns = {(slot, length): sum(slot + t for t in range(1, length + 1)) for slot, length in lengths}
    assert all(event.episode_return == returns[event.slot, event.length] for event in listening.events)


def test_with_nobody_absent_minibatches_are_the_librarys() -> None:
    """Filled alike and asked with the same random stream, both give the same minibatches."""
    vec_env = export_to_vec_env(open_environments("CartPole-v1", 2))
    arguments: Any = (16, vec_env.observation_space, vec_env.action_space)
    buffers = [kind(*arguments, device="cpu", n_envs=2) for kind in (RolloutBuffer, PresentRolloutBuffer)]
    buffers[1].vec_env = vec_env  # type: ignore[union-attr]
    observations = vec_env.reset()
    starts = np.ones(2, np.bool_)
    for index in range(16):
        action = np.array([[index % 2], [0]])
        following, rewards, dones, _ = vec_env.step(action[:, 0])
        for buffer in buffers:
            buffer.add(observations, action, rewards, starts, torch.ones(2) * index, torch.zeros(2))  # type: ignore[arg-type]
        observations, starts = following, dones
    given = []
    for buffer in buffers:
        buffer.compute_returns_and_advantage(torch.zeros(2), starts)
        np.random.seed(5)
        given.append([*buffer.get(5), *buffer.get(None)])
        given[-1].append(np.random.random())
    assert len(given[0]) == len(given[1]) == 9
    for one, other in zip(given[0][:-1], given[1][:-1], strict=True):
        assert all(torch.equal(part, other_part) for part, other_part in zip(one, other, strict=True))
    assert given[0][-1] == given[1][-1]


def test_training_with_nobody_absent_is_that_of_other_environments() -> None:
    """A world that could be empty and is not: the weights are those of plain environments."""

    class Full(Crowd):
        def restart(self) -> Any:
            super().restart()
            self._gone = [0] * self.n_slots
            return [self.observe(slot) for slot in range(self.n_slots)], [True] * self.n_slots

        def _step_one(self, slot: int, step: Any) -> None:
            super()._step_one(slot, step)
            if not step.present[slot]:  # the next one comes at once
                step.final_observations[slot] = np.array([slot, self._episode[slot], self._t[slot]], np.float32)
                self._episode[slot], self._t[slot], self._gone[slot] = self._episode[slot] + 1, 0, 0
                step.observations[slot] = self.observe(slot)
                step.truncated[slot] = not step.terminated[slot]
                step.present[slot] = True

    weights = []
    for absent in (True, False):
        batch = open_environments(Full())
        batch.may_be_absent = absent
        agent = StableBaselinesAgent(PPO, ON_POLICY)
        agent.prepare(batch, 1)
        agent.algorithm.learn(64)
        weights.append([parameter.detach().clone() for parameter in agent.algorithm.policy.parameters()])  # type: ignore[attr-defined]
        assert isinstance(agent.algorithm.rollout_buffer, PresentRolloutBuffer) == absent  # type: ignore[attr-defined]
    assert all(torch.equal(one, other) for one, other in zip(*weights, strict=True))


def test_going_on_with_environments_of_the_other_kind(batches: list[Any]) -> None:
    """An agent built where nobody is ever absent must not go on to learn from empty slots."""
    agent = StableBaselinesAgent(PPO, ON_POLICY)
    _train(agent, "CartPole-v1", 30, n_environments=3)
    before = agent.num_timesteps
    environment = Recording(3, max_episode_steps=6)
    agent.train(environment, total_timesteps=60, progress_bar=False)
    learned = Multiset(tuple(row.tolist()) for batch in batches for row in np.asarray(batch.observations))
    assert learned == Multiset(environment.real)
    assert agent.num_timesteps == before + len(environment.real)


def test_a_replay_buffer_that_would_store_empty_slots_is_refused() -> None:
    agent = StableBaselinesAgent(DQN, {**SMALL, "buffer_size": 500, "learning_starts": 20})
    _train(agent, "CartPole-v1", 30, n_environments=3)
    with pytest.raises(ArgumentError, match="slots of this environment can hold nobody"):
        agent.train(Recording(3), total_timesteps=60, progress_bar=False)


def test_going_on_with_a_vec_env_where_everybody_is_present() -> None:
    agent = StableBaselinesAgent(PPO, ON_POLICY)
    _train(agent, Recording(3, max_episode_steps=6), 30)
    before = agent.num_timesteps
    agent.train(DummyVecEnv([lambda: gymnasium.make("CartPole-v1")] * 3), total_timesteps=48, progress_bar=False)
    assert agent.num_timesteps == before + 48


class Empty(Crowd):
    """Nobody ever comes."""

    def restart(self) -> Any:
        super().restart()
        self._gone = [10_000] * self.n_slots
        return [self.nothing()] * self.n_slots, [False] * self.n_slots


def test_a_rollout_in_which_nobody_acts_is_an_error_that_says_so() -> None:
    agent = StableBaselinesAgent(PPO, ON_POLICY)
    with pytest.raises(RLFrameworkError, match="nobody was there for a whole rollout"):
        _train(agent, Empty(), 30)


@pytest.mark.parametrize(
    ("algorithm", "parameters"),
    [
        (DQN, {"n_steps": 3}),
        (DQN, {"optimize_memory_usage": True}),
    ],
)
def test_buffers_that_cannot_leave_slots_out_are_refused(algorithm: Any, parameters: dict[str, Any]) -> None:
    agent = StableBaselinesAgent(algorithm, {**SMALL, **parameters})
    with pytest.raises(ArgumentError, match=r"slots of (the|this) environment"):
        _train(agent, Crowd(), 20)


def test_the_right_buffer_for_the_space() -> None:
    one, several = gymnasium.spaces.Box(-1, 1, (2,)), gymnasium.spaces.Dict({"a": gymnasium.spaces.Discrete(2)})
    names = [
        {key: value.__name__ for key, value in buffers_for_absence(algorithm, {}, space).items()}
        for algorithm in (PPO, DQN)
        for space in (one, several)
    ]
    assert names == [
        {"rollout_buffer_class": "PresentRolloutBuffer"},
        {"rollout_buffer_class": "PresentDictRolloutBuffer"},
        {"replay_buffer_class": "PresentReplayBuffer"},
        {"replay_buffer_class": "PresentDictReplayBuffer"},
    ]
