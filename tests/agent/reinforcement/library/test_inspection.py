"""What people look at in an agent: value estimates and optimizers."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from tests.agent.imitation.demonstrations import demonstrations

from rl_framework import CustomAgent, ImitationAgent, StableBaselinesAgent
from rl_framework.errors import NotTrainedError

ON_POLICY = {"n_steps": 16, "batch_size": 16, "n_epochs": 1}
CASES: dict[str, Any] = {
    "ppo": ("CartPole-v1", ON_POLICY, {"policy"}),
    "trpo": ("CartPole-v1", {"n_steps": 16, "batch_size": 16}, {"policy"}),
    "dqn": ("CartPole-v1", {}, {"policy"}),
    "qrdqn": ("CartPole-v1", {}, {"policy"}),
    "sac": ("Pendulum-v1", {}, {"actor", "critic", "ent_coef"}),
    "td3": ("Pendulum-v1", {}, {"actor", "critic"}),
    "tqc": ("Pendulum-v1", {}, {"actor", "critic", "ent_coef"}),
    "crossq": ("Pendulum-v1", {}, {"actor", "critic", "ent_coef"}),
    "recurrent_ppo": ("CartPole-v1", {"n_steps": 16, "batch_size": 16}, {"policy"}),
    "ars": ("CartPole-v1", {}, set()),
}
WITHOUT_VALUES = {"recurrent_ppo", "ars"}


def trained(algorithm: str, environment: str, parameters: dict[str, Any], **arguments: Any) -> StableBaselinesAgent:
    agent = StableBaselinesAgent(algorithm, parameters, **arguments)
    agent.train(environment, 16, seed=0, progress_bar=False)
    return agent


def observations_of(agent: Any, count: int = 5) -> Any:
    return np.random.default_rng(0).normal(size=(count, *agent.observation_space.shape)).astype(np.float32)


def by_hand(algorithm: Any, observations: Any) -> Any:
    """The definition, one observation at a time."""
    policy, name, values = algorithm.policy, type(algorithm).__name__, []
    for observation in observations:
        tensor = torch.as_tensor(observation)[None]
        if name in ("PPO", "TRPO"):
            values.append(policy.predict_values(tensor).item())
        elif name == "DQN":
            values.append(max(policy.q_net(tensor)[0].tolist()))
        elif name == "QRDQN":
            values.append(policy.quantile_net(tensor)[0].mean(dim=0).max().item())
        else:
            action = torch.as_tensor(policy.scale_action(policy.predict(observation, deterministic=True)[0]))[None]
            opinions = policy.critic(tensor, action)
            if name == "TQC":
                values.append(opinions.mean().item())
            else:
                values.append(min(opinion.item() for opinion in opinions))
    return values


@pytest.mark.parametrize("algorithm", CASES)
def test_values_are_the_algorithms_own(algorithm: str) -> None:
    environment, parameters, networks = CASES[algorithm]
    agent = trained(algorithm, environment, parameters)
    assert set(agent.optimizers()) == networks
    observations = observations_of(agent)
    policy = agent.algorithm.policy
    policy.set_training_mode(True)
    before = torch.get_rng_state()
    values = agent.estimate_value(observations)
    assert torch.equal(torch.get_rng_state(), before)
    assert policy.training
    if algorithm in WITHOUT_VALUES:
        assert values is None
        return
    assert values is not None
    assert values.shape == (5,)
    assert values.dtype == np.float64
    policy.set_training_mode(False)
    with torch.no_grad():
        np.testing.assert_allclose(values, by_hand(agent.algorithm, observations), rtol=1e-4, atol=1e-5)


def test_an_agent_that_normalises_is_given_what_the_environment_gives() -> None:
    agent = trained("ppo", "CartPole-v1", ON_POLICY, normalize_observations=True)
    observations = observations_of(agent)
    assert agent.normaliser is not None
    expected = by_hand(agent.algorithm, agent.normaliser.normalise(observations))
    np.testing.assert_allclose(agent.estimate_value(observations), expected, rtol=1e-4, atol=1e-5)


def test_an_agent_that_was_not_trained_says_so() -> None:
    with pytest.raises(NotTrainedError):
        StableBaselinesAgent("ppo").estimate_value(np.zeros((1, 4), np.float32))


def test_other_agents_have_what_they_have() -> None:
    assert CustomAgent("q_learning").estimate_value(np.zeros(1)) is None
    assert CustomAgent("q_learning").optimizers() == {}
    cloned = ImitationAgent("bc")
    assert cloned.optimizers() == {}
    cloned.train(episode_sequence=demonstrations(), total_timesteps=64, progress_bar=False)
    assert set(cloned.optimizers()) == {"policy"}
    assert cloned.estimate_value(np.zeros((2, 4), np.float32)) is None  # nobody taught it what to expect
    adversarial = ImitationAgent(
        "gail",
        {
            "gen_algo": {"algorithm_class": "ppo", "algorithm_parameters": ON_POLICY},
            "demo_batch_size": 32,
            "allow_variable_horizon": True,
        },
    )
    adversarial.train(
        episode_sequence=demonstrations(),
        training_environments="CartPole-v1",
        total_timesteps=32,
        progress_bar=False,
    )
    assert set(adversarial.optimizers()) == {"policy", "discriminator"}
    values = adversarial.estimate_value(np.zeros((2, 4), np.float32))
    assert values is not None
    assert values.shape == (2,)
