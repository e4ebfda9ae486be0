"""The loss of an expert's episodes: alone it is behavioural cloning, with PPO it helps at the beginning."""

import zipfile
from pathlib import Path

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces
from imitation.algorithms.bc import BehaviorCloningLossCalculator
from stable_baselines3.common.policies import ActorCriticPolicy
from tests.agent.reinforcement.parts.hand_made import ACTIONS, BOX, CPU, built, rollout_of, setup_of

from rl_framework import ArgumentError, ComposedAgent, EpisodeSequence, load_agent
from rl_framework.agent.reinforcement.composed.batch import Batch
from rl_framework.agent.reinforcement.parts import PPO, SAC, Demonstration, Entropy, Replay
from rl_framework.agent.reinforcement.parts.demonstration import ExpertTransitions
from rl_framework.bundle import list_checkpoints
from rl_framework.episode import Episode
from rl_framework.errors import BundleError, SpaceMismatchError

CARTPOLE = Path(__file__).parents[4] / "data/cartpole_expert"
SMALL_PPO = {"n_steps": 16, "batch_size": 16, "n_epochs": 2}


@pytest.fixture(scope="module")
def experts():
    return EpisodeSequence.from_dataset(CARTPOLE)


def some_episodes(action_space=ACTIONS, observation_space=BOX, lengths=(7, 12), seed=0):
    for space in (observation_space, action_space):
        space.seed(seed)
    return EpisodeSequence.from_episodes(
        [
            Episode(
                observations=np.array([observation_space.sample() for _ in range(length + 1)]),
                actions=np.array([action_space.sample() for _ in range(length)]),
                rewards=np.zeros(length),
                terminated=True,
                truncated=False,
            )
            for length in lengths
        ],
        observation_space,
        action_space,
    )


def train(agent, environment="CartPole-v1", steps=100, **arguments):
    return agent.train(environment, steps, **{"seed": 5, "progress_bar": False, **arguments})


def largest_difference(one, other):
    mine, theirs = one.composition.tensors(), other.composition.tensors()
    return max(float((mine[name].detach().double() - theirs[name].detach().double()).abs().max()) for name in mine)


# Alone


@pytest.mark.parametrize("action_space", [spaces.Discrete(2), ACTIONS], ids=["discrete", "box"])
def test_the_loss_is_that_of_the_imitation_library(action_space):
    episodes = some_episodes(action_space, lengths=(40, 30))
    networks = {"policy": {"type": "mlp", "hidden_sizes": [8]}}
    setup = setup_of(BOX, action_space, networks)
    part = built(setup, Demonstration(episodes, batch_size=64))
    part.start()
    theirs = ActorCriticPolicy(BOX, action_space, lambda _: 0.0, net_arch=[8])
    with torch.no_grad():
        layer, head = theirs.mlp_extractor.policy_net[0], theirs.action_net
        layer.load_state_dict(part.policy.trunk.network.layers[0].state_dict())
        head.load_state_dict(part.policy.head.linear.state_dict())
        if action_space is ACTIONS:
            part.policy.head.log_std.copy_(torch.tensor([-0.5, 0.3]))
            theirs.log_std.copy_(part.policy.head.log_std)
    (batch, *_) = part.batches(rollout_of(np.zeros((1, 1))))
    part.prepare(batch)
    loss = part.loss(batch)["cloning"]
    whole = episodes.transitions().all()
    rows = [np.flatnonzero((whole.observations == row.numpy()).all(1)).item() for row in batch["observations"]]
    librarys = BehaviorCloningLossCalculator(0.0, 0.0)(theirs, whole.observations[rows], whole.actions[rows])
    assert loss.item() == pytest.approx(librarys.loss.item(), rel=1e-6)
    mine = torch.autograd.grad(loss, part.policy.head.linear.weight)[0]
    assert torch.allclose(mine, torch.autograd.grad(librarys.loss, head.weight)[0], rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("seed", range(3))
def test_alone_it_clones_the_expert(experts, seed):
    agent = ComposedAgent([Demonstration(experts)], learning_rate=3e-3, device="cpu")
    train(agent, steps=1_000, n_environments=2, seed=seed)
    assert agent.evaluate("CartPole-v1", n_eval_episodes=10, deterministic=True, seed=seed).mean >= 475


def test_alone_there_is_a_step_for_each_step_of_the_environments_that_somebody_took():
    part = built(setup_of(), Demonstration(some_episodes(), batch_size=4))
    part.start()
    assert part.rollout_length == 64
    assert part.updates_per_round(n_slots=3) == 192
    assert part.provides == {"policy", "batches"}
    assert len(list(part.batches(rollout_of(np.zeros((5, 2)))))) == 10
    assert len(list(part.batches(rollout_of(np.zeros((2, 2)), acted=[[True, False], [True, True]])))) == 3


def test_alone_with_an_entropy_bonus(experts):
    agent = train(ComposedAgent([Entropy(0.1), Demonstration(experts, n_steps=16)], device="cpu"))
    assert agent.num_timesteps == 112


# With others


def test_every_transition_comes_once_in_a_pass():
    episodes = some_episodes(lengths=(7, 5))
    part, ppo = built(setup_of(), Demonstration(episodes, batch_size=3), PPO())
    part.start()
    assert part.rollout_length is None
    assert part.provides == frozenset()
    seen = []
    for _ in range(8):
        batch = Batch({"observations": torch.zeros(2, 3)})
        part.prepare(batch)
        seen.append(batch["demonstration/actions"])
    whole = np.sort(episodes.transitions().all().actions[:, 0])
    for one_pass in (seen[:4], seen[4:]):
        assert np.array_equal(np.sort(torch.cat(one_pass)[:, 0].numpy()), whole)
    assert not torch.equal(seen[0], seen[4])
    assert ppo.policy is part.policy


def test_weight_schedule_and_decay():
    schedule = {"type": "linear", "start": 2.0, "end": 1.0}
    part, _ = built(setup_of(), Demonstration(some_episodes(), schedule, batch_size=19, decay=0.5), PPO())
    part.start()
    terms = []
    for progress_remaining in (1.0, 0.5, 0.0):
        part.follow_schedules(progress_remaining)
        part.annotate(rollout_of([[0.0]]))
        batch = Batch({"observations": torch.zeros(2, 3)})
        part.prepare(batch)
        terms.append(part.loss(batch)["cloning"].item())
    assert terms[1:] == pytest.approx([terms[0] * 0.75 / 2 * 1.0, terms[0] * 0.5 * 0.25])
    assert part.metrics() == {"train/demonstration_weight": 0.25}


class Chain(gymnasium.Env):
    """A deep sea (Osband et al. 2016): only who goes down on the right all the way finds what is worth its price."""

    length = 12
    observation_space = spaces.Discrete(length + 1)
    action_space = spaces.Discrete(2)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.place = self.steps = 0
        return self.place, {}

    def step(self, action):
        self.steps += 1
        self.place = self.place + 1 if action == 1 else 0
        reward = float(self.place == self.length) - 0.01 * (action == 1)
        return self.place, reward, self.steps == self.length, False, {}


def test_it_shows_ppo_what_is_hard_to_find():
    right = np.ones(Chain.length, np.int64)
    expert = Episode(np.arange(Chain.length + 1), right, np.zeros(Chain.length), terminated=True, truncated=False)
    episodes = EpisodeSequence.from_episodes([expert], Chain.observation_space, Chain.action_space)
    results = []
    for others in ([], [Demonstration(episodes, batch_size=12, decay=0.9)]):
        agent = ComposedAgent([PPO(n_steps=96, batch_size=96), *others], learning_rate=3e-3, device="cpu")
        train(agent, Chain, steps=1_536, n_environments=2)
        results.append(agent.evaluate(Chain, n_eval_episodes=1, deterministic=True, seed=0).mean)
    assert results == pytest.approx([0.0, 0.88], abs=0.1)


def test_actions_at_their_bounds_have_a_probability():
    extreme = np.array([[2, -2], [-2, 2]], np.float32)
    seen = np.zeros((3, 3), np.float32)
    episode = Episode(observations=seen, actions=extreme, rewards=np.zeros(2), terminated=True, truncated=False)
    episodes = EpisodeSequence.from_episodes([episode], BOX, ACTIONS)
    sac, _, part = built(setup_of(), SAC(hidden_sizes=[8]), Replay(), Demonstration(episodes, batch_size=2))
    part.start()
    batch = Batch({"observations": torch.zeros(2, 3)})
    part.prepare(batch)
    assert set(batch["demonstration/actions"].unique().tolist()) == {-1.0, 1.0}
    loss = part.loss(batch)["cloning"]
    assert loss.isfinite()
    (gradient,) = torch.autograd.grad(loss, sac.policy.head.linear.weight)
    assert gradient.isfinite().all()


def test_large_data_sets_are_read_by_the_batch():
    episodes, policy = (
        some_episodes(spaces.Discrete(3, start=2)),
        setup_of(action_space=spaces.Discrete(3, start=2)).policy(),
    )
    at_once, by_batch = (
        ExpertTransitions(episodes.transitions(), policy, CPU, kept_in_memory=kept) for kept in (1 << 20, 0)
    )
    assert by_batch._kept is None
    rows = torch.tensor([3, 18, 0], dtype=torch.int32)
    for one, other in zip(at_once.gather(rows), by_batch.gather(rows), strict=True):
        assert torch.equal(one, other)
    assert at_once.gather(rows)[1].tolist() == (episodes.transitions().all().actions[[3, 18, 0]] - 2).tolist()


# What does not fit


def test_episodes_of_other_spaces_are_refused(experts):
    with pytest.raises(SpaceMismatchError, match=r"Demonstration\(episodes\).*observation_space"):
        train(ComposedAgent([PPO(), Demonstration(experts)], device="cpu"), "Pendulum-v1")
    with pytest.raises(ArgumentError, match=r"batch_size\)=64: the episodes have 19 transitions"):
        built(setup_of(), Demonstration(some_episodes()))
    with pytest.raises(ArgumentError, match="no sequence of episodes"):
        Demonstration(3)
    with pytest.raises(ArgumentError, match="recurrent"):
        built(setup_of(networks={"policy": "gru"}), Demonstration(some_episodes()))
    for arguments in ({"batch_size": 0}, {"decay": 1.1}, {"n_steps": 0}):
        with pytest.raises(ArgumentError, match=f"Demonstration\\({next(iter(arguments))}\\)"):
            Demonstration(**arguments)


# Saving and resuming


def test_a_saved_agent_acts_without_the_episodes_and_asks_for_them_to_learn(tmp_path):
    agent = train(ComposedAgent([Demonstration(CARTPOLE, n_steps=16)], device="cpu"))
    path = agent.save_to_file(tmp_path / "agent.zip")
    with zipfile.ZipFile(path) as archive:
        assert sum(member.file_size for member in archive.infolist()) < 200_000  # the episodes have 640,000
        assert b"cartpole_expert" not in archive.read("config.json")
    loaded = load_agent(path)
    observation = np.zeros(4, np.float32)
    assert loaded.choose_action(observation) == agent.choose_action(observation)
    with pytest.raises(ArgumentError, match=r"does not hold those that it learned from.*episodes = episodes"):
        train(loaded)
    before = loaded.num_timesteps
    loaded.parts[0].episodes = CARTPOLE
    train(loaded, seed=None)
    assert loaded.num_timesteps > before
    with pytest.raises(SpaceMismatchError):
        loaded.parts[0].episodes = some_episodes()


@pytest.mark.parametrize("others", [[], [SMALL_PPO]], ids=["alone", "ppo"])
def test_resumed_is_as_if_it_had_not_been_interrupted(others, experts, tmp_path):
    def made(episodes):
        parts = [PPO(**arguments) for arguments in others]
        return ComposedAgent([*parts, Demonstration(episodes, n_steps=16, batch_size=32, decay=0.9)], device="cpu")

    whole = train(made(experts))
    train(made(experts), checkpoint_every=40, checkpoint_directory=tmp_path)
    _, path = list_checkpoints(tmp_path)[0]
    resumed = train(made(CARTPOLE), resume_from=path, seed=None)
    assert resumed.num_timesteps == whole.num_timesteps
    assert largest_difference(whole, resumed) == 0.0
    with pytest.raises(BundleError, match="the episodes are not those"):
        train(made(experts[:10]), resume_from=path, seed=None)
