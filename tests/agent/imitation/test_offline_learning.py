"""Offline algorithms make more of mixed data than a clone of it."""

from __future__ import annotations

import gymnasium
import numpy as np
import pytest

from rl_framework import Episode, EpisodeSequence, OfflineAgent

COMMON = {"batch_size": 64, "observation_scaler": "standard", "device": "cpu"}
NETWORK = {"type": "vector", "hidden_units": [64, 64]}
CLONE = {**COMMON, "encoder_factory": NETWORK, "learning_rate": 1e-3}
VALUED = {**CLONE, "gamma": 0.95, "target_update_interval": 50}

# Told to aim at what the good controller earns.
SEQUENCE = {
    **COMMON,
    "encoder_factory": {"type": "vector", "hidden_units": [64]},
    "context_size": 5,
    "num_layers": 2,
    "num_heads": 1,
    "learning_rate": 1e-3,
    "warmup_tokens": 100,
}


def controlled(observation):
    """Balances the pole for ever."""
    position, speed, angle, turning = observation
    return int(angle + 0.5 * turning + 0.05 * position + 0.1 * speed > 0)


def acted(environment, choose, count, limit, seed):
    episodes = []
    for index in range(count):
        observations, actions, rewards, terminated = [environment.reset(seed=1000 * seed + index)[0]], [], [], False
        while not terminated and len(actions) < limit:
            actions.append(choose(observations[-1]))
            observation, reward, terminated, _, _ = environment.step(actions[-1])
            observations.append(observation)
            rewards.append(reward)
        episodes.append(
            Episode(np.array(observations), np.array(actions), np.array(rewards), terminated, not terminated)
        )
    return episodes


def mixed(seed):
    """Some transitions of a good controller, more of one that mostly does the opposite and falls."""
    environment, rng = gymnasium.make("CartPole-v1"), np.random.default_rng(seed)

    def clumsy(observation):
        return controlled(observation) if rng.random() < 0.3 else 1 - controlled(observation)

    episodes = acted(environment, controlled, 6, 150, seed) + acted(environment, clumsy, 160, 500, seed + 50)
    return EpisodeSequence.from_episodes(episodes, environment.observation_space, environment.action_space)


def mean_return(name, parameters, episodes, updates, seed):
    agent = OfflineAgent(name, parameters)
    agent.train(episodes, total_timesteps=updates * parameters["batch_size"], seed=seed, progress_bar=False)
    return float(agent.evaluate("CartPole-v1", 10, deterministic=True, seed=0).mean)


def test_conservative_q_learning_beats_cloning_on_mixed_data():
    clones, learners = [], []
    for seed in (0, 1):
        episodes = mixed(seed)
        clones.append(mean_return("bc", CLONE, episodes, 500, seed))
        learners.append(mean_return("cql", VALUED, episodes, 1500, seed))
    assert min(learners) > 3 * max(clones), (clones, learners)
    assert min(learners) > 100, learners


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "parameters", "updates"),
    [
        ("bcq", VALUED, 1500),
        ("cql", VALUED, 2000),
        ("double_dqn", VALUED, 1500),
        ("decision_transformer", SEQUENCE, 800),
    ],
    ids=["bcq", "cql", "double_dqn", "decision_transformer"],
)
def test_further_algorithms_beat_cloning_over_three_seeds(name, parameters, updates):
    clones, learners = [], []
    for seed in (0, 1, 2):
        episodes = mixed(seed)
        clones.append(mean_return("bc", CLONE, episodes, 500, seed))
        learners.append(mean_return(name, parameters, episodes, updates, seed))
    assert np.mean(learners) > 3 * np.mean(clones), (clones, learners)
    assert min(learners) > max(clones), (clones, learners)
