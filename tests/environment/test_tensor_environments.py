"""Environments that are torch programs: the same task, behind the same door, and without a step through the host."""

import gymnasium
import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from rl_framework import ArgumentError, ComposedAgent, StableBaselinesAgent
from rl_framework.agent.reinforcement.composed.tensor_collector import TensorCollector
from rl_framework.agent.reinforcement.parts import PPO
from rl_framework.bundle import list_checkpoints
from rl_framework.environment import open_environments
from rl_framework.environment.tensor.cart_pole import TensorCartPole
from rl_framework.environment.tensor.environments import TensorEnvironments
from rl_framework.errors import NonFiniteError
from rl_framework.training import Callback, EpisodeEnded, RolloutEnded

CART_POLE = "rl_framework/TensorCartPole-v1"
SMALL = {"n_steps": 16, "batch_size": 64, "n_epochs": 2}


def train(agent, environment=CART_POLE, steps=400, **arguments):
    return agent.train(environment, steps, **{"seed": 3, "n_environments": 8, "progress_bar": False, **arguments})


def weights(agent):
    return {name: tensor.detach().clone() for name, tensor in agent.composition.tensors().items()}


def same(one, other):
    return all(torch.equal(tensor, weights(other)[name]) for name, tensor in weights(one).items())


def test_it_is_the_task_that_gymnasium_has():
    """From the same states and with the same actions, until the pole falls."""
    theirs = gymnasium.make("CartPole-v1")
    ours = TensorCartPole(num_envs=1)
    assert ours.single_observation_space == theirs.observation_space
    assert ours.single_action_space == theirs.action_space
    generator = np.random.default_rng(0)
    for seed in range(20):
        observation, _ = theirs.reset(seed=seed)
        ours.reset(seed=seed)
        ours.state = torch.from_numpy(np.array(theirs.unwrapped.state, dtype=np.float32))[None]
        over = False
        while not over:
            action = int(generator.integers(2))
            observation, reward, terminated, _, _ = theirs.step(action)
            _, rewards, ended, truncated, info = ours.step(torch.tensor([action]))
            assert np.allclose(info["final_obs"][0].numpy(), observation, atol=1e-4)
            assert (float(rewards[0]), bool(ended[0]), bool(truncated[0])) == (reward, terminated, False)
            over = terminated


def test_starts_are_gymnasiums_and_an_episode_has_at_most_500_steps():
    ours = TensorCartPole(num_envs=4_000)
    starts, _ = ours.reset(seed=0)
    assert float(starts.abs().max()) <= 0.05
    assert float(starts.abs().max()) > 0.0499
    ours.advance = lambda state, actions: (state, torch.ones(4_000), torch.zeros(4_000, dtype=torch.bool))
    for step in range(1, 502):
        _, _, terminated, truncated, _ = ours.step(torch.zeros(4_000, dtype=torch.int64))
        assert not bool(terminated.any())
        assert bool(truncated.all()) == bool(truncated.any()) == (step == 500)


def test_behind_the_door_it_is_a_batch_like_any_other():
    batch = open_environments(CART_POLE, 3)
    assert isinstance(batch, TensorEnvironments)
    assert (batch.vectorization, batch.vectorization_reason) == ("native", "there is no other form of it")
    observations, _ = batch.reset_slots(5)
    lengths, ended = np.zeros(3, dtype=int), 0
    while ended < 6:
        step = batch.step_slots(np.ones(3, dtype=np.int64))
        lengths += 1
        for slot in np.flatnonzero(step.terminated):
            assert step.infos[slot]["episode"]["l"] == step.infos[slot]["episode"]["r"] == lengths[slot]
            assert abs(step.final_observations[slot][2]) > 0.2  # fallen
            assert abs(step.observations[slot][2]) <= 0.05  # the next episode
            lengths[slot], ended = 0, ended + 1
    again = open_environments(CART_POLE, 3)
    assert np.array_equal(again.reset_slots(5)[0], observations)
    given = open_environments(TensorCartPole(num_envs=2))
    assert isinstance(given, TensorEnvironments)


def test_agents_of_the_library_train_and_evaluate_there():
    agent = StableBaselinesAgent("ppo", {"n_steps": 16, "batch_size": 32, "n_epochs": 1})
    train(agent, steps=100, n_environments=4)
    assert agent.evaluate(CART_POLE, 5, seed=0).lengths.min() > 0


class NothingLeaves(TorchDispatchMode):
    """Fails at every operation that waits for a device or moves something from one to another."""

    FORBIDDEN = ("_local_scalar_dense", "item", "nonzero", "_to_cpu", "is_nonzero", "masked_select", "unique")

    def __init__(self):
        super().__init__()
        self.seen = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        name = function.name().removeprefix("aten::").partition(".")[0]
        kwargs = kwargs or {}
        assert name not in self.FORBIDDEN, name
        assert not (name == "_to_copy" and "device" in kwargs), kwargs
        self.seen += 1
        return function(*args, **kwargs)


def test_nothing_is_moved_between_host_and_device_inside_the_loop(monkeypatch):
    watched = []
    collect_step = TensorEnvironments.step_tensors

    def step_tensors(self, actions):
        assert isinstance(actions, torch.Tensor)
        step = collect_step(self, actions)
        watched.append(all(isinstance(part, torch.Tensor) for part in (step.observations, step.rewards)))
        return step

    monkeypatch.setattr(TensorEnvironments, "step_tensors", step_tensors)
    monkeypatch.setattr(TensorCollector, "_tell", lambda self, first: None)  # the one transfer, after the loop
    agent = train(ComposedAgent([PPO(**SMALL)], compiled=False))
    # As on a device that is not the host, where there is no short cut through its memory.
    agent.composition.policy._fast = None
    collect = TensorCollector.collect
    modes = []

    def collect_watched(self, n_steps):
        with NothingLeaves() as mode:
            rollout = collect(self, n_steps)
        modes.append(mode.seen)
        return rollout

    monkeypatch.setattr(TensorCollector, "collect", collect_watched)
    train(agent, seed=None, steps=256)
    assert len(modes) == 2
    assert min(modes) > 16 * 10
    assert all(watched)


def test_the_watch_sees_what_it_is_there_for():
    with NothingLeaves(), pytest.raises(AssertionError, match="_local_scalar_dense"):
        float(torch.ones(3).sum())


def test_what_is_told_adds_up():
    class Log(Callback):
        def __init__(self):
            self.ended, self.rollouts = [], 0

        def on_event(self, event, training):
            self.rollouts += isinstance(event, RolloutEnded)
            if isinstance(event, EpisodeEnded):
                self.ended.append(event)

    log = Log()
    agent = train(ComposedAgent([PPO(**SMALL)]), steps=1_000, callbacks=[log])
    assert agent.num_timesteps == 1_024
    assert log.rollouts == 8
    assert len(log.ended) > 10
    for slot in range(8):
        mine = [event for event in log.ended if event.slot == slot]
        ends = [event.timestep // 8 for event in mine]
        assert np.diff([0, *ends]).tolist() == [event.length for event in mine]
        assert all(event.episode_return == event.length for event in mine)


def test_resumed_exactly(tmp_path):
    whole = train(ComposedAgent([PPO(**SMALL)]))
    noted = train(ComposedAgent([PPO(**SMALL)]), checkpoint_every=100, checkpoint_directory=tmp_path)
    assert same(whole, noted)
    _, path = list_checkpoints(tmp_path)[-1]
    assert same(whole, train(ComposedAgent([PPO(**SMALL)]), resume_from=path, seed=None))


def test_an_agent_that_may_choose_goes_where_the_environments_are(tmp_path):
    def elsewhere():
        agent = ComposedAgent([PPO(**SMALL)])
        agent.device = torch.device("meta")  # as "auto" is a GPU's where there is one
        return agent

    agent = train(elsewhere(), checkpoint_every=100, checkpoint_directory=tmp_path)
    resumed = train(elsewhere(), resume_from=tmp_path, seed=None)
    assert agent.device == resumed.device == torch.device("cpu")


def test_environments_elsewhere_than_the_agent_are_refused():
    batch = open_environments(CART_POLE, 2)
    batch.device = torch.device("cuda", 1)
    with pytest.raises(ArgumentError, match="the environments are on cuda:1"):
        ComposedAgent([PPO(**SMALL)], device="cpu").prepare(batch, 0)


def test_numbers_that_are_not_finite_are_reported():
    environment = TensorCartPole(num_envs=2)
    advance = environment.advance
    environment.advance = lambda state, actions: (
        advance(state, actions)[0],
        torch.full((2,), torch.nan),
        state[:, 0] > 9,
    )
    with pytest.raises(NonFiniteError):
        train(ComposedAgent([PPO(**SMALL)]), environment, n_environments=None)


def test_many_poles_are_balanced():
    agent = ComposedAgent([PPO(n_steps=32, batch_size=512, n_epochs=4)], learning_rate=3e-3)
    train(agent, steps=80_000, n_environments=128)
    assert agent.evaluate("CartPole-v1", 20, deterministic=True, seed=1).mean >= 475
