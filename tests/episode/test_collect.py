"""What is collected is what the environment returned, and no kind of episode is collected more often than another."""

from __future__ import annotations

import random
import tracemalloc
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from sb3_contrib import MaskablePPO
from stable_baselines3 import DQN, PPO
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize
from tests.environment.toys import POISON, Counter, Crowd, CrowdAdapter, DictWorld, ImageWorld

from rl_framework import StableBaselinesAgent, registry
from rl_framework.environment import open_environments
from rl_framework.episode import Episode, EpisodeSequence
from rl_framework.errors import ArgumentError, NotTrainedError, RLFrameworkError, UnsupportedSpaceError
from rl_framework.seeding import derive_seed

collect = EpisodeSequence.collect


class Noting(gymnasium.Wrapper[Any, Any, Any, Any]):
    """Notes the actions that arrive, per episode."""

    def __init__(self, env: gymnasium.Env[Any, Any]) -> None:
        super().__init__(env)
        self.arrived: list[list[Any]] = []
        self.closed = 0

    def reset(self, **kwargs: Any) -> Any:
        self.arrived.append([])
        return super().reset(**kwargs)

    def step(self, action: Any) -> Any:
        self.arrived[-1].append(np.array(action))
        return super().step(action)

    def close(self) -> None:
        self.closed += 1


class Masked(Counter):
    """Allows one action at a time."""

    def action_masks(self) -> Any:
        return np.arange(2) == self.t % 2

    def step(self, action: Any) -> Any:
        assert action == self.t % 2, "a forbidden action"
        return super().step(action)


def _equal(one: Any, other: Any) -> bool:
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(_equal(one[key], other[key]) for key in one)
    return np.array_equal(one, other) and np.asarray(one).dtype == np.asarray(other).dtype


def _assert_equal(one: Episode, other: Episode) -> None:
    assert _equal(one.observations, other.observations)
    assert _equal(one.actions, other.actions)
    assert _equal(one.rewards, other.rewards)
    assert (one.terminated, one.truncated) == (other.terminated, other.truncated)


def _assert_replays(sequence: EpisodeSequence, environment: gymnasium.Env[Any, Any], seed: int) -> None:
    """Checks that the recorded actions, given to a fresh environment, lead through the recorded episodes."""
    seeds = [derive_seed(seed, "environments")] + [None] * len(sequence)
    for episode, first in zip(sequence, seeds, strict=False):
        observation, _ = environment.reset(seed=first)
        assert np.array_equal(episode.observations[0], observation)
        for step, action in enumerate(episode.actions):
            observation, reward, terminated, truncated, _ = environment.step(action)
            assert np.array_equal(episode.observations[step + 1], observation)
            assert episode.rewards[step] == reward
            assert (terminated or truncated) == (step == len(episode) - 1)
        assert (terminated, truncated) == (episode.terminated, episode.truncated)


def _as_batch(observation: Any) -> Any:
    if isinstance(observation, dict):
        return {key: np.array(value)[None] for key, value in observation.items()}
    return np.array(observation)[None]


def _drawing(space: gymnasium.Space[Any], seed: int = 0) -> Callable[[Any], Any]:
    generator = np.random.default_rng(seed)

    def draw(observations: Any) -> Any:
        count = len(next(iter(observations.values())) if isinstance(observations, dict) else observations)
        if isinstance(space, spaces.Box):
            return generator.uniform(space.low, space.high, (count, *space.shape)).astype(space.dtype)
        return generator.integers(0, getattr(space, "nvec", getattr(space, "n", 2)), (count, *space.shape))

    return draw


# What is kept


@pytest.mark.parametrize(
    "make",
    [
        lambda: gymnasium.make("CartPole-v1"),
        lambda: gymnasium.make("Pendulum-v1", max_episode_steps=20),
        lambda: Counter(reuses=True, lengths=(1, 4), truncates=True),
        lambda: gymnasium.wrappers.TransformReward(Counter(lengths=(2, 3)), lambda reward: reward * 10),
        DictWorld,
        ImageWorld,
    ],
    ids=["cartpole", "pendulum", "reused_arrays", "reward_wrapper", "dict", "images"],
)
def test_one_environment_gives_what_a_loop_by_hand_gives(make: Callable[[], Any]) -> None:
    environment = make()
    choose = _drawing(environment.action_space)
    observation, _ = environment.reset(seed=derive_seed(7, "environments"))
    expected = []
    for _ in range(4):
        steps: list[tuple[Any, ...]] = []
        while not steps or not (steps[-1][4] or steps[-1][5]):
            before = deepcopy(observation)
            action = choose(_as_batch(before))[0]
            observation, *rest = environment.step(action)
            steps.append((before, action, deepcopy(observation), *deepcopy(rest)))
        expected.append(Episode.from_steps(steps))
        observation, _ = environment.reset()
    collected = collect(_drawing(environment.action_space), make(), 4, seed=7)
    assert len(collected) == 4
    for one, other in zip(collected, expected, strict=True):
        _assert_equal(one, other)
        assert str(list(one.infos or [{}] * len(one))) == str(other.infos)


@pytest.mark.parametrize(
    "wrap",
    [
        lambda makers: [maker() for maker in makers],
        lambda makers: SyncVectorEnv(makers, autoreset_mode=AutoresetMode.NEXT_STEP),
        lambda makers: SyncVectorEnv(makers, autoreset_mode=AutoresetMode.SAME_STEP),
        lambda makers: DummyVecEnv(makers),
        lambda makers: VecNormalize(DummyVecEnv(makers)),
    ],
    ids=["list", "next_step", "same_step", "vec_env", "vec_normalize"],
)
def test_the_last_observation_belongs_to_the_episode(wrap: Callable[[Any], Any]) -> None:
    makers = [lambda: Counter(1.0, lengths=(2, 3)), lambda: Counter(2.0, lengths=(3,), truncates=True)]
    collected = collect("random", wrap(makers), 6, seed=0)
    assert collected.lengths.tolist() == [2, 3, 3, 3, 2, 3]
    for place, episode in enumerate(collected):
        number, turn = 1 + place % 2, place // 2
        rows = [(number, turn, t) for t in range(len(episode) + 1)]
        assert episode.observations.tolist() == np.array(rows, float).tolist()
        assert episode.rewards.tolist() == list(range(1, len(episode) + 1))
        assert (episode.terminated, episode.truncated) == (number == 1, number == 2)
        assert episode.infos is not None
        assert [info["t"] for info in episode.infos] == list(range(1, len(episode) + 1))
        assert all(info.keys() == {"t", "where"} for info in episode.infos), "nothing that a batch added"


def test_an_environment_that_hides_its_last_observation_is_refused() -> None:
    class Forgetful(DummyVecEnv):
        def step_wait(self) -> Any:
            observations, rewards, dones, infos = super().step_wait()
            for info in infos:
                info.pop("terminal_observation", None)
            return observations, rewards, dones, infos

    with pytest.raises(RLFrameworkError, match="environment 0 began its next episode without telling"):
        collect(None, Forgetful([Counter]), 1)


def test_only_what_somebody_did_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry.environment_adapters, "_entries", dict(registry.environment_adapters._entries))
    registry.register_environment_adapter("toy_crowd", CrowdAdapter)
    crowd = Crowd()
    collected = collect("random", crowd, 15, seed=0)
    assert crowd.refused == []
    slots = [int(episode.observations[0, 0]) for episode in collected]
    assert slots == [0, 1, 2] * 5
    for episode in collected:
        slot, number, _ = episode.observations[0]
        rows = [[slot, number, t] for t in range(len(episode) + 1)]
        # Who leaves without a word leaves no observation behind.
        seen = episode.observations if (slot + number) % 4 < 3 else episode.observations[:-1]
        assert seen.tolist() == rows[: len(seen)]
        assert len(episode) == 2 + (slot + number) % 3
        assert POISON not in episode.rewards
        assert episode.rewards.tolist() == [slot + t for t in range(1, len(episode) + 1)]
        last = crowd.transitions[int(slot), int(number), len(episode) - 1]
        assert episode.terminated == (last == "terminated")
        assert episode.truncated == (last != "terminated")


# Which episodes


def test_short_episodes_are_not_collected_more_often() -> None:
    """Keeping whatever ends first would give ten short episodes, or 25 for each long one."""
    collected = collect("random", [Counter(0.0, (2,)), Counter(1.0, (50,))], 10, seed=0)
    assert collected.lengths.tolist() == [2, 50] * 5
    assert collected.lengths.mean() == 26
    assert collected[:4].lengths.mean() == 26, "nor are the first ones shorter"


def test_an_agent_gives_the_episodes_that_its_evaluation_counts() -> None:
    agent = StableBaselinesAgent("ppo", {"n_steps": 32, "batch_size": 32, "n_epochs": 1}, normalize_observations=True)
    agent.train(training_environments="CartPole-v1", total_timesteps=32, seed=0, progress_bar=False)
    weights = {name: tensor.clone() for name, tensor in agent.algorithm.policy.state_dict().items()}
    result = agent.evaluate("CartPole-v1", 20, seed=3)
    collected = collect(agent, "CartPole-v1", 20, seed=3)
    assert sorted(collected.returns) == sorted(result.returns)
    assert sorted(collected.lengths) == sorted(result.lengths)
    # As the environment returned them, and not as the agent saw them.
    alone = collect(agent, "CartPole-v1", 5, seed=3, n_environments=1, deterministic=True)
    _assert_replays(alone, gymnasium.make("CartPole-v1"), 3)
    for episode in alone:
        assert agent.choose_action(episode.observations[:-1], deterministic=True).tolist() == episode.actions.tolist()
    assert agent.normaliser is not None
    assert all(torch.equal(weights[name], tensor) for name, tensor in agent.algorithm.policy.state_dict().items())


def test_the_same_seed_gives_the_same_episodes() -> None:
    first, again, other = (collect("random", "CartPole-v1", 9, seed=seed) for seed in (5, 5, 6))
    for one, two in zip(first, again, strict=True):
        _assert_equal(one, two)
    assert first.lengths.tolist() != other.lengths.tolist()
    assert collect(None, "CartPole-v1", 9).lengths.tolist() != collect(None, "CartPole-v1", 9).lengths.tolist()


def test_order_and_data_are_the_same_on_disk(tmp_path: Path) -> None:
    kept = collect("random", "CartPole-v1", 9, seed=5, path=tmp_path / "episodes")
    for sequence in (kept, EpisodeSequence.load(tmp_path / "episodes")):
        for one, two in zip(sequence, collect("random", "CartPole-v1", 9, seed=5), strict=True):
            _assert_equal(one, two)
    assert kept.observation_space == gymnasium.make("CartPole-v1").observation_space
    assert not kept.spaces_are_inferred


def test_missing_folders_above_the_path_are_made(tmp_path: Path) -> None:
    kept = collect("random", Counter(), 2, path=tmp_path / "new" / "deeper" / "episodes")
    assert len(EpisodeSequence.load(tmp_path / "new" / "deeper" / "episodes")) == len(kept) == 2
    assert [path.name for path in (tmp_path / "new" / "deeper").iterdir()] == ["episodes"], "nothing temporary is left"


def test_a_folder_that_is_taken_is_refused_before_anything_is_played(tmp_path: Path) -> None:
    collect("random", Counter(), 1, path=tmp_path / "episodes")
    environment = Counter()
    with pytest.raises(ArgumentError, match="path="):
        collect("random", environment, 1, path=tmp_path / "episodes")
    assert environment.resets == 0


def test_memory_does_not_grow_with_the_number_of_episodes() -> None:
    class Wide(Counter):
        def __init__(self) -> None:
            super().__init__(lengths=(10,))
            self.observation_space = spaces.Box(0, 255, (100_000,), np.uint8)

        def _observe(self) -> Any:
            return np.full(100_000, self.t, np.uint8)

    def peak(n_episodes: int) -> int:
        tracemalloc.start()
        try:
            collect("random", Wide(), n_episodes)
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    peak(1)  # imports
    assert peak(20) < peak(2) + 1_100_000, "of 20 MB more, not even an episode is held"


# Who acts


def test_actions_are_recorded_as_the_environment_received_them() -> None:
    environment = Noting(gymnasium.make("Pendulum-v1", max_episode_steps=10))
    model = PPO("MlpPolicy", "Pendulum-v1", n_steps=8, batch_size=8, policy_kwargs={"log_std_init": 3.0}, seed=0)
    collected = collect(model, environment, 2, seed=0)
    for episode, arrived in zip(collected, environment.arrived, strict=False):
        assert np.array_equal(episode.actions, np.stack(arrived))
    actions = np.concatenate([episode.actions for episode in collected])
    assert actions.dtype == np.float32
    assert np.abs(actions).max() == 2, "clipped"
    assert len(np.unique(actions)) > 2


def test_a_function_beyond_the_bounds_is_clipped() -> None:
    environment = Noting(gymnasium.make("Pendulum-v1", max_episode_steps=3))
    collected = collect(lambda observations: np.full((len(observations), 1), 7.0), environment, 1)
    assert collected[0].actions.tolist() == [[2.0]] * 3
    assert np.array_equal(environment.arrived[0], collected[0].actions)


@pytest.mark.parametrize("inside", [False, True], ids=["id", "vec_normalize"])
def test_a_model_behind_vec_normalize_sees_what_it_was_trained_on(inside: bool) -> None:
    vec_env = VecNormalize(DummyVecEnv([lambda: gymnasium.make("CartPole-v1")]))
    vec_env.obs_rms.mean[:], vec_env.obs_rms.var[:] = 0.5, 0.01
    model = DQN("MlpPolicy", vec_env, policy_kwargs={"net_arch": []}, seed=0)
    with torch.no_grad():
        for parameter, value in zip(model.policy.q_net.parameters(), ([[-1.0], [1.0]], 0.0), strict=True):
            parameter[:] = torch.tensor(value)  # left, if the sum of what it sees is negative
    collected = collect(model, vec_env if inside else "CartPole-v1", 3, seed=0, deterministic=True, n_environments=1)
    for episode in collected:
        rows = episode.observations[:-1]
        assert model.predict(vec_env.normalize_obs(rows), deterministic=True)[0].tolist() == episode.actions.tolist()
        assert set(episode.actions.tolist()) == {0}
        assert np.abs(episode.observations[0]).max() <= 0.05, "what is kept is not normalised"
        assert set(model.predict(rows, deterministic=True)[0].tolist()) != {0}
    assert vec_env.obs_rms.mean.tolist() == [0.5] * 4


def test_masks_are_kept_to() -> None:
    model = MaskablePPO("MlpPolicy", Masked(), n_steps=8, batch_size=8, seed=0)
    for actor in (model, "random"):
        collected = collect(actor, [Masked(0.0, (5,)), Masked(1.0, (6,))], 4, seed=0)
        assert [episode.actions.tolist() for episode in collected] == [[0, 1, 0, 1, 0], [0, 1, 0, 1, 0, 1]] * 2
    with pytest.raises(ArgumentError, match="uses action masks, and this environment has none"):
        collect(model, Counter(), 1)


def test_random_actions_keep_to_masks_in_infos() -> None:
    episode = collect("random", "Taxi-v3", 1, seed=0, environment_kwargs={"max_episode_steps": 50})[0]
    assert episode.infos is not None
    allowed = [info["action_mask"] for info in episode.infos]
    assert all(allowed[step - 1][episode.actions[step]] for step in range(1, len(episode)))


def test_recurrent_policies_are_told_where_episodes_start() -> None:
    class Remembering:
        def __init__(self) -> None:
            self.starts: list[Any] = []
            self.states: list[Any] = []

        def predict(self, observations: Any, state: Any, episode_starts: Any, deterministic: bool) -> Any:
            self.starts.append(episode_starts.tolist())
            self.states.append(state)
            return np.zeros(len(observations), np.int64), (state or 0) + 1

    policy = Remembering()
    collect(policy, [Counter(0.0, (2,)), Counter(1.0, (3,))], 2)
    assert policy.starts == [[True, True], [False, False], [True, False]]
    assert policy.states == [None, 1, 2]


def test_a_policy_may_change_what_it_is_given() -> None:
    def spoil(observations: Any) -> Any:
        observations[:] = POISON
        return np.zeros(len(observations), int)

    assert collect(spoil, Counter(1.0), 1)[0].observations.tolist() == [[1, 0, 0], [1, 0, 1], [1, 0, 2], [1, 0, 3]]


def test_one_observation_at_a_time() -> None:
    class Chooser:
        def choose_action(self, observation: Any, deterministic: bool) -> int:
            assert observation.shape == (3,)
            return int(deterministic)

    for deterministic in (False, True):
        collected = collect(Chooser(), [Counter(), Counter()], 2, deterministic=deterministic)
        assert collected[1].actions.tolist() == [int(deterministic)] * 3


@pytest.mark.parametrize(
    ("actor", "problem"),
    [
        (3, "does not act"),
        ("randomly", "does not act"),
        (PPO, "does not act"),
        (lambda observations: 0, r"shape \(\) for 1 observations, which need \(1,\)"),
        (lambda observations: np.zeros(1), "actions of float64"),
    ],
    ids=["number", "name", "class", "one_action", "floats"],
)
def test_what_does_not_act_is_refused(actor: Any, problem: str) -> None:
    with pytest.raises(ArgumentError, match=f"agent_or_policy=.*{problem}"):
        collect(actor, Counter(), 1)


def test_other_mistakes() -> None:
    environment = Counter()
    for count in (0, 1.5, True, None):
        with pytest.raises(ArgumentError, match=f"n_episodes={count}: must be an integer of at least 1"):
            collect("random", environment, count)  # type: ignore[arg-type]
    with pytest.raises(NotTrainedError):
        collect(StableBaselinesAgent("ppo"), environment, 1)
    environment.action_space = spaces.Tuple([spaces.Discrete(2)])  # type: ignore[assignment]
    with pytest.raises(UnsupportedSpaceError, match="action_space="):
        collect("random", environment, 1)
    assert environment.resets == 0


# What stays as it was


def test_nothing_is_left_behind() -> None:
    environment = Noting(gymnasium.wrappers.TransformReward(Counter(), lambda reward: -reward))
    environment.action_space.seed(3)
    layers = str(environment)
    model = DQN("MlpPolicy", Counter(), seed=0)
    model.exploration_rate = 1.0  # draws from its action space
    model.action_space.seed(4)
    random.seed(1), np.random.seed(1), torch.manual_seed(1)
    expected = random.random(), np.random.rand(), float(torch.rand(()))
    random.seed(1), np.random.seed(1), torch.manual_seed(1)
    states = [space.np_random.bit_generator.state for space in (environment.action_space, model.action_space)]
    for actor in (model, None):
        first, again = (collect(actor, environment, 9, seed=0) for _ in range(2))
        assert first.returns.tolist() == [-6.0] * 9
        assert [episode.actions.tolist() for episode in first] == [episode.actions.tolist() for episode in again]
    assert (random.random(), np.random.rand(), float(torch.rand(()))) == expected
    assert [space.np_random.bit_generator.state for space in (environment.action_space, model.action_space)] == states
    assert (str(environment), environment.closed) == (layers, 0)


def test_environments_that_were_made_are_closed() -> None:
    made: list[Counter] = []

    def make() -> Counter:
        made.append(Counter())
        return made[-1]

    collect("random", make, 3)
    with pytest.raises(ArgumentError):
        collect("nobody", make, 3)
    assert [environment.closed for environment in made] == [1] * 6
    open_environments(made[0]).close()
