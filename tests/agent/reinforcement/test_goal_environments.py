"""Hindsight experience replay by name, in environments with goals."""

from copy import deepcopy

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.wrappers import TimeLimit
from stable_baselines3 import DQN, SAC, HerReplayBuffer
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.envs import BitFlippingEnv
from tests.agent.reinforcement.matrix_toys import PARAMETERS
from tests.agent.samples import Sampled, same, train, weights

from rl_framework import ArgumentError, StableBaselinesAgent, load_agent

HER = {"replay_buffer_class": "her", "replay_buffer_kwargs": {"n_sampled_goal": 4}, "learning_starts": 20}


class Reach(gymnasium.Env):
    """A point that should come near a goal; counts, over all instances, how often rewards were computed for others."""

    computed = 0

    def __init__(self):
        box = spaces.Box(-2, 2, (2,), np.float32)
        self.observation_space = spaces.Dict(dict.fromkeys(("observation", "achieved_goal", "desired_goal"), box))
        self.action_space = spaces.Box(-1, 1, (2,), np.float32)

    def _observe(self):
        return {"observation": self.place, "achieved_goal": self.place, "desired_goal": self.goal}

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.closed = False
        self.place, self.goal = self.np_random.uniform(-1, 1, (2, 2)).astype(np.float32)
        return self._observe(), {}

    def step(self, action):
        self.place = np.clip(self.place + 0.2 * action, -2, 2).astype(np.float32)
        reward = float(self.compute_reward(self.place[None], self.goal[None], [{}])[0])
        return self._observe(), reward, False, False, {}

    def compute_reward(self, achieved_goal, desired_goal, info):
        assert not self.closed, "another environment is trained in now"
        type(self).computed += len(achieved_goal) > 1
        return -(np.linalg.norm(achieved_goal - desired_goal, axis=-1) > 0.3).astype(np.float32)

    def close(self):
        self.closed = True


def make_reach():
    return TimeLimit(Reach(), 8)


def make_flips():
    return BitFlippingEnv(n_bits=4)


CASES = {"dqn": make_flips, "sac": make_reach, "tqc": make_reach}


def agent_for(algorithm, **parameters):
    return StableBaselinesAgent(algorithm, {**PARAMETERS[algorithm], **HER, **parameters})


@pytest.mark.parametrize(
    ("algorithm", "n_environments", "vectorization"),
    [("dqn", 1, "sync"), ("sac", 2, "sync"), ("tqc", 1, "sync"), ("sac", 2, "subprocess")],
)
def test_an_agent_with_hindsight_lives(algorithm, n_environments, vectorization, tmp_path):
    make = CASES[algorithm]
    arguments = {"n_environments": n_environments, "vectorization": vectorization}
    agent = train(agent_for(algorithm), make, 48, seed=0, **arguments)
    buffer = agent.algorithm.replay_buffer
    assert isinstance(buffer, HerReplayBuffer)
    assert buffer.n_sampled_goal == 4
    before = weights(agent)
    train(agent, make, 48, **arguments)
    assert agent.algorithm.replay_buffer is buffer
    assert not same(weights(agent), before)
    loaded = load_agent(agent.save_to_file(tmp_path / "agent.zip"))
    mine, its = (each.evaluate(make, 4, deterministic=True, seed=1) for each in (agent, loaded))
    assert mine.returns.tolist() == its.returns.tolist()
    # Its buffer was not saved, and it is long past `learning_starts`: it has to wait for the end of an episode.
    before = weights(loaded)
    train(loaded, make, 48, **arguments)
    assert isinstance(loaded.algorithm.replay_buffer, HerReplayBuffer)
    assert loaded.num_timesteps == 144
    assert not same(weights(loaded), before)


@pytest.mark.parametrize("algorithm", ["dqn", "sac"])
def test_hindsight_gives_the_weights_that_the_library_gives(algorithm):
    library = {"dqn": DQN, "sac": SAC}[algorithm]
    parameters = {**deepcopy(PARAMETERS[algorithm]), **HER, "replay_buffer_class": HerReplayBuffer}
    plain = library("MultiInputPolicy", make_vec_env(CASES[algorithm], 2), seed=5, **parameters).learn(60)
    agent = train(agent_for(algorithm), CASES[algorithm], 60, n_environments=2, seed=5)
    assert same(weights(agent), weights(plain))


def test_rewards_for_other_goals_come_from_the_environment_that_is_trained_in_now():
    Reach.computed = 0
    agent = train(agent_for("sac"), make_reach, 24)
    once = Reach.computed
    assert once > 0
    train(agent, make_reach, 24)  # the first environments are closed, and would complain
    assert Reach.computed > once


def test_hindsight_does_not_reach_from_one_training_into_the_next():
    agent = agent_for("sac", learning_starts=1000)
    train(agent, make_reach, 12)
    train(agent, make_reach, 12)
    buffer = agent.algorithm.replay_buffer
    assert buffer.ep_start[:24, 0].tolist() == [0] * 8 + [8] * 4 + [12] * 8 + [20] * 4
    assert buffer.ep_length[:24, 0].tolist() == [8] * 8 + [4] * 4 + [8] * 8 + [0] * 4
    assert not (buffer.dones[:24] * (1 - buffer.timeouts[:24])).any()  # it was cut, not over


@pytest.mark.parametrize("strategy", ["final", "future", "episode"])
def test_the_strategy_is_data_too(strategy, tmp_path):
    agent = agent_for("dqn", replay_buffer_kwargs={"goal_selection_strategy": strategy})
    train(agent, make_flips, 24)
    loaded = load_agent(agent.save_to_file(tmp_path / "agent.zip"))
    assert loaded.algorithm.replay_buffer.goal_selection_strategy.name.lower() == strategy


def test_environments_without_goals_are_refused_before_the_first_step():
    class NoReward(Reach):
        compute_reward = property()

    environment = Sampled(spaces.Dict({"observation": spaces.Box(-1, 1, (2,))}), spaces.Box(-1, 1, (2,)))
    with pytest.raises(ArgumentError, match="achieved_goal"):
        train(agent_for("sac"), environment)
    assert environment.steps == 0
    with pytest.raises(ArgumentError, match="Dict"):
        train(agent_for("sac"), Sampled(action_space=spaces.Box(-1, 1, (2,))))
    with pytest.raises(ArgumentError, match="compute_reward"):
        train(agent_for("sac"), lambda: TimeLimit(NoReward(), 8))
