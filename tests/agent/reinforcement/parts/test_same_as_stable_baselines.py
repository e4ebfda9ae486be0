"""On the same rollout and with the same weights, PPO and A2C compute what Stable-Baselines3's compute."""

import gymnasium
import numpy as np
import pytest
import stable_baselines3
import torch
from gymnasium import spaces
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnvWrapper
from tests.agent.reinforcement.matrix_toys import toy

from rl_framework import ComposedAgent
from rl_framework.agent.reinforcement.composed.batch import Batch
from rl_framework.agent.reinforcement.composed.collector import as_tensors
from rl_framework.agent.reinforcement.composed.rollout import Rollout
from rl_framework.agent.reinforcement.composed.update import Update, sum_of_losses
from rl_framework.agent.reinforcement.parts import A2C, PPO
from rl_framework.episode.observation_tree import stacked

N_STEPS, N_SLOTS = 64, 3


class Watched(VecEnvWrapper):
    """Keeps what the environments really returned."""

    def __init__(self, venv):
        super().__init__(venv)
        self.rewards, self.terminated, self.truncated, self.finals = [], [], [], {}

    def reset(self):
        return self.venv.reset()

    def step_wait(self):
        observations, rewards, dones, infos = self.venv.step_wait()
        cut = np.array([info.get("TimeLimit.truncated", False) for info in infos])
        for slot in np.flatnonzero(dones):
            self.finals[len(self.rewards) * N_SLOTS + int(slot)] = infos[slot]["terminal_observation"]
        self.rewards.append(rewards.copy())
        self.terminated.append(dones & ~cut)
        self.truncated.append(dones & cut)
        return observations, rewards, dones, infos


class Nothing(BaseCallback):
    def _on_step(self):
        return True


def short_cartpole():
    """Episodes that end both ways."""
    return gymnasium.wrappers.TimeLimit(gymnasium.make("CartPole-v1").unwrapped, 25)


def short_pendulum():
    return gymnasium.wrappers.TimeLimit(gymnasium.make("Pendulum-v1").unwrapped, 30)


ENVIRONMENTS = {
    "discrete": short_cartpole,
    "box": short_pendulum,
    "multi_discrete": lambda: toy("box", "multi_discrete"),
    "multi_binary": lambda: toy("box", "multi_binary"),
}


def move(policy, seed):
    """Changes all weights a little, so that ratios are not 1 and every term of the loss counts."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in policy.parameters():
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=generator))


def collected(algorithm_class, environment, **parameters):
    """Returns the library's algorithm with a full rollout, and what its environments returned."""
    watched = Watched(DummyVecEnv([ENVIRONMENTS[environment]] * N_SLOTS))
    library = algorithm_class(
        "MlpPolicy",
        watched,
        n_steps=N_STEPS,
        learning_rate=1.0,
        max_grad_norm=1e9,
        policy_kwargs={"optimizer_class": torch.optim.SGD, "optimizer_kwargs": {}},
        seed=0,
        device="cpu",
        **parameters,
    )
    _, callback = library._setup_learn(10**6, Nothing())
    move(library.policy, 1)
    library.collect_rollouts(library.env, callback, library.rollout_buffer, N_STEPS)
    return library, watched


def given_weights(agent, policy):
    """Gives an agent the weights of a policy of the library; returns its parameters in the library's order."""
    theirs = dict(policy.named_parameters())
    named = {
        "mlp_extractor.policy_net": "networks.trunk_policy.network.layers",
        "mlp_extractor.value_net": "networks.trunk_value.network.layers",
        "action_net": "networks.policy.head.linear",
        "value_net": "networks.value.head",
        "log_std": "networks.policy.head.log_std",
    }
    ours = agent.composition.tensors()
    pairs = {}
    with torch.no_grad():
        for name, tensor in theirs.items():
            prefix = next(each for each in named if name.startswith(each))
            mine = ours[named[prefix] + name.removeprefix(prefix)]
            mine.copy_(tensor)
            pairs[name] = mine
    assert len(pairs) == len(ours)
    return pairs


def rollout_of(library, watched):
    """Returns the same rollout as ours, with nothing in it that the library computed."""
    buffer = library.rollout_buffer
    actions = torch.from_numpy(buffer.actions.copy())
    if isinstance(library.action_space, spaces.Discrete):
        actions = actions[..., 0].long()
    rows = sorted(watched.finals)
    return Rollout(
        {
            "observations": torch.from_numpy(buffer.observations.astype(np.float32)),
            "actions": actions,
            "rewards": torch.from_numpy(np.array(watched.rewards, dtype=np.float32)),
            "terminated": torch.from_numpy(np.array(watched.terminated)),
            "truncated": torch.from_numpy(np.array(watched.truncated)),
            "starts": torch.from_numpy(buffer.episode_starts.astype(np.bool_)),
        },
        as_tensors(library._last_obs, torch.device("cpu")),
        torch.tensor(rows, dtype=torch.int64),
        as_tensors(stacked([watched.finals[row] for row in rows]), torch.device("cpu")) if rows else None,
        None,
        {},
        1,
        torch.Generator(),
    )


def ours(part, environment):
    agent = ComposedAgent([part], optimizer="sgd", learning_rate=1.0, max_grad_norm=None, compiled=False)
    agent.train(ENVIRONMENTS[environment], 1, seed=0, progress_bar=False, n_environments=1)
    agent.composition.zero_grad()
    return agent


def difference(one, other):
    return float(np.abs(np.asarray(one, dtype=np.float64) - np.asarray(other, dtype=np.float64)).max())


@pytest.mark.parametrize("gae_lambda", [0.95, 1.0, 0.0])
@pytest.mark.parametrize("environment", ENVIRONMENTS)
def test_advantages_and_returns_are_those_of_the_library(environment, gae_lambda):
    library, watched = collected(stable_baselines3.PPO, environment, gae_lambda=gae_lambda, batch_size=64)
    agent = ours(PPO(n_steps=1, batch_size=64, n_epochs=1, gae_lambda=gae_lambda), environment)
    given_weights(agent, library.policy)
    rollout = rollout_of(library, watched)
    assert bool(rollout.ended.any())
    with torch.no_grad():
        agent.parts[0].annotate(rollout)
    buffer = library.rollout_buffer
    for name, theirs in {"values": buffer.values, "log_probs": buffer.log_probs}.items():
        assert difference(rollout[name], theirs) < 1e-6, name
    scale = max(1.0, float(np.abs(buffer.returns).max()))
    assert difference(rollout["advantages"], buffer.advantages) < 1e-6 * scale
    assert difference(rollout["returns"], buffer.returns) < 1e-6 * scale


OPTIONS = {
    "defaults": {},
    "entropy and clipped values": {"ent_coef": 0.01, "clip_range_vf": 0.1, "vf_coef": 0.7},
    "narrow": {"clip_range": 0.05, "normalize_advantage": False},
}


@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("environment", ENVIRONMENTS)
def test_losses_and_gradients_of_ppo_are_those_of_the_library(environment, options):
    size = N_STEPS * N_SLOTS
    parameters = {"n_epochs": 1, "batch_size": size, **OPTIONS[options]}
    library, watched = collected(stable_baselines3.PPO, environment, **parameters)
    agent = ours(PPO(n_steps=1, **parameters), environment)
    given_weights(agent, library.policy)
    rollout = rollout_of(library, watched)
    with torch.no_grad():
        agent.parts[0].annotate(rollout)
    move(library.policy, 2)
    pairs = given_weights(agent, library.policy)
    before = {name: parameter.detach().clone() for name, parameter in library.policy.named_parameters()}

    batch = rollout.batch()
    loss, told = sum_of_losses({"ppo": agent.parts[0]}, batch)
    loss.backward()
    library.train()

    tell = library.logger.name_to_value
    weight, value_weight = parameters.get("ent_coef", 0.0), parameters.get("vf_coef", 0.5)
    expected = {
        "ppo_policy_loss": tell["train/policy_gradient_loss"],
        "ppo_value_loss": value_weight * tell["train/value_loss"],
        "ppo_entropy_loss": weight * tell["train/entropy_loss"],
        "approx_kl": tell["train/approx_kl"],
        "clip_fraction": tell["train/clip_fraction"],
        "loss": tell["train/loss"],
    }
    for name, value in expected.items():
        assert float(told[name]) == pytest.approx(value, rel=1e-6, abs=1e-6), name
    for name, parameter in library.policy.named_parameters():
        theirs = before[name] - parameter.detach()  # a step of plain descent with rate 1
        # The difference of two numbers near 1 is itself exact to 1e-7 only.
        scale = max(1.0, float(theirs.abs().max()))
        assert difference(pairs[name].grad, theirs) < 1e-6 * scale, name
    assert any(float(pairs[name].grad.abs().max()) > 1e-3 for name in pairs)


@pytest.mark.parametrize("environment", ["discrete", "box"])
def test_losses_and_gradients_of_a2c_are_those_of_the_library(environment):
    library, watched = collected(stable_baselines3.A2C, environment, ent_coef=0.01, use_rms_prop=False)
    agent = ours(A2C(n_steps=N_STEPS, ent_coef=0.01), environment)
    pairs = given_weights(agent, library.policy)
    before = {name: parameter.detach().clone() for name, parameter in library.policy.named_parameters()}
    rollout = rollout_of(library, watched)
    with torch.no_grad():
        agent.parts[0].annotate(rollout)
    loss, told = sum_of_losses({"a2c": agent.parts[0]}, rollout.batch())
    loss.backward()
    library.train()
    tell = library.logger.name_to_value
    scale = max(1.0, abs(tell["train/policy_loss"]), abs(tell["train/value_loss"]))
    assert float(told["a2c_policy_loss"]) == pytest.approx(tell["train/policy_loss"], abs=1e-6 * scale)
    assert float(told["a2c_value_loss"]) == pytest.approx(0.5 * tell["train/value_loss"], abs=1e-6 * scale)
    for name, parameter in library.policy.named_parameters():
        # Rounding is relative to what was summed up: advantages that are not normalised are in the hundreds here.
        largest = max(1.0, float(np.abs(library.rollout_buffer.advantages).max()))
        assert difference(pairs[name].grad, before[name] - parameter.detach()) < 1e-6 * largest, name


@pytest.mark.parametrize("target_kl", [1e-9, 1e9])
def test_a_step_beyond_the_target_divergence_is_not_taken(target_kl):
    agent = ours(PPO(n_steps=1, batch_size=64, n_epochs=3, target_kl=target_kl), "discrete")
    library, watched = collected(stable_baselines3.PPO, "discrete", batch_size=64, n_epochs=3, target_kl=target_kl)
    given_weights(agent, library.policy)
    rollout = rollout_of(library, watched)
    composition = agent.composition
    update = Update(composition.named, composition.optimizer, 0.5)
    before = library._n_updates
    composition.learn_from(rollout, update)
    library.learning_rate = lambda _: 1.0
    library.train()
    per_epoch = N_STEPS * N_SLOTS // 64
    # At the first minibatch nothing has moved; the next one sees what the first step did.
    assert update.count == (1 if target_kl < 1 else 3 * per_epoch)
    assert library._n_updates - before == (1 if target_kl < 1 else 3)


def test_the_gradient_of_the_sum_is_the_sum_of_the_gradients():
    library, watched = collected(stable_baselines3.PPO, "discrete", batch_size=64)
    from rl_framework.agent.reinforcement.parts import RND, Entropy

    parts = [PPO(n_steps=1, batch_size=64, n_epochs=1, value_trunk="policy"), RND(), Entropy()]
    agent = ComposedAgent(parts, compiled=False)
    agent.train(short_cartpole, 1, seed=0, progress_bar=False, n_environments=1)
    composition, rollout = agent.composition, rollout_of(library, watched)
    with torch.no_grad():
        for part in parts:
            part.reward(rollout)
        for part in parts:
            part.annotate(rollout)
    batch = rollout.batch()
    for part in parts:
        part.prepare(batch)
    parameters = [parameter for parameter in composition.parameters() if parameter.requires_grad]

    def gradients(named):
        loss, _ = sum_of_losses(named, Batch(batch.tensors))
        found = torch.autograd.grad(loss, parameters, allow_unused=True)
        return [torch.zeros_like(p) if each is None else each for p, each in zip(parameters, found, strict=True)]

    together = gradients(composition.named)
    apart = [gradients({name: part}) for name, part in composition.named.items()]
    for whole, *singles in zip(together, *apart, strict=True):
        assert torch.allclose(whole, sum(singles), atol=1e-6)
    # Each contributes something, and they meet in the shared trunk.
    assert all(any(float(each.abs().max()) > 0 for each in single) for single in apart)
