"""Agents put together from parts are agents like any other: trained, resumed exactly, saved without pickle."""

import json
import zipfile
from functools import partial

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces
from tests.agent.reinforcement.matrix_toys import toy
from tests.environment.toys import Crowd, CrowdAdapter

import rl_framework
from rl_framework import (
    ArgumentError,
    BundleError,
    Callback,
    ComposedAgent,
    EpisodeSequence,
    load_agent,
    record_video,
    registry,
)
from rl_framework.agent.reinforcement.parts import A2C, PPO, SAC, Entropy, Part, Replay
from rl_framework.bundle import list_checkpoints
from rl_framework.errors import (
    NonFiniteLossError,
    NotTrainedError,
    SpaceMismatchError,
    UnknownNameError,
    UnsavableError,
)
from rl_framework.training import EpisodeEnded, RolloutEnded, Updated

SMALL = {"n_steps": 16, "batch_size": 32, "n_epochs": 2}
SCHEDULE = {"type": "linear", "start": 1e-3, "end": 0}


@pytest.fixture(autouse=True)
def _own_registries(monkeypatch):
    for registered in (registry.parts, registry.environment_adapters):
        monkeypatch.setattr(registered, "_entries", dict(registered._entries))


def train(agent, environment="CartPole-v1", steps=200, **arguments):
    return agent.train(environment, steps, **{"seed": 3, "n_environments": 2, "progress_bar": False, **arguments})


def weights(agent):
    return {name: tensor.detach().clone() for name, tensor in agent.composition.tensors().items()}


def largest_difference(one, other):
    mine, theirs = weights(one), weights(other)
    assert mine.keys() == theirs.keys()
    return max(float((mine[name].double() - theirs[name].double()).abs().max()) for name in mine if mine[name].numel())


class Log(Callback):
    def __init__(self):
        self.events = []

    def on_event(self, event, training):
        self.events.append(event)

    def of(self, kind):
        return [event for event in self.events if isinstance(event, kind)]


# Training


def test_it_tells_what_happens():
    log = Log()
    agent = train(ComposedAgent([PPO(n_steps=64, n_epochs=2), Entropy()]), steps=2_100, callbacks=[log])
    assert agent.num_timesteps == 2_176  # whole rollouts
    told = log.of(Updated)
    assert [event.timestep for event in told] == [1024, 2048]
    assert {"train/loss", "train/ppo_policy_loss", "train/ppo_value_loss", "train/entropy_bonus_loss"} <= set(
        told[0].metrics
    )
    assert {"train/approx_kl", "train/gradient_norm", "train/learning_rate", "train/explained_variance"} <= set(
        told[0].metrics
    )
    assert told[-1].n_updates == 16 * 4  # rollouts, of 2 minibatches in 2 epochs
    assert len(log.of(RolloutEnded)) == 17
    ended = log.of(EpisodeEnded)
    assert sum(event.length for event in ended) <= agent.num_timesteps
    assert all(event.episode_return == event.length for event in ended)


def test_the_same_seed_gives_the_same_agent_and_another_one_another():
    one, same, other = (train(ComposedAgent([PPO(**SMALL)]), seed=seed) for seed in (0, 0, 1))
    assert largest_difference(one, same) == 0.0
    assert largest_difference(one, other) > 0.0


def test_a_second_training_goes_on():
    agent = train(ComposedAgent([PPO(**SMALL)]))
    before = weights(agent)
    train(agent, steps=100, seed=None)
    assert agent.num_timesteps == 224 + 128
    assert any(not torch.equal(before[name], tensor) for name, tensor in weights(agent).items())


def test_the_order_of_parts_does_not_matter():
    class Bonus(Part):
        needs = frozenset({"advantages"})

        def annotate(self, rollout):
            rollout.add("advantages", rollout["actions"].float())

    registry.register_part("bonus", Bonus)
    one, other, plain = (
        train(ComposedAgent(parts)).evaluate("CartPole-v1", 20, seed=1).returns.tolist()
        for parts in ([PPO(**SMALL), Bonus()], [Bonus(), PPO(**SMALL)], [PPO(**SMALL)])
    )
    assert one == other != plain


@pytest.mark.parametrize("action_space", ["discrete", "box", "multi_discrete", "multi_binary"])
@pytest.mark.parametrize(
    "observation_space", ["box", "discrete", "image_last", "dict", "dict_with_image", "frame_stack"]
)
def test_every_space(observation_space, action_space, tmp_path):
    environment = partial(toy, observation_space, action_space)
    agent = train(ComposedAgent([PPO(**SMALL)]), environment, 40)
    path = agent.save_to_file(tmp_path / "agent.zip")
    loaded = load_agent(path)
    assert largest_difference(agent, loaded) == 0.0
    assert loaded.evaluate(environment, 2, deterministic=True, seed=1).returns.tolist() == (
        agent.evaluate(environment, 2, deterministic=True, seed=1).returns.tolist()
    )


def test_slots_without_anybody_are_not_learned_from():
    learned = []

    class Spy(Part):
        def prepare(self, batch):
            learned.append((len(batch), batch["observations"].clone()))

    registry.register_part("spy", Spy)
    registry.register_environment_adapter("crowd", CrowdAdapter)
    log = Log()
    agent = ComposedAgent([PPO(n_steps=16, batch_size=64, n_epochs=1), Spy()], compiled=False)
    agent.train(Crowd(), 60, seed=0, callbacks=[log], progress_bar=False)
    rows = sum(count for count, _ in learned)
    # A last minibatch of one row is left out, having no deviation to be divided by.
    assert agent.num_timesteps - len(learned) <= rows <= agent.num_timesteps
    assert rows < agent.composition.source.rollout_length * 4 * len(log.of(RolloutEnded))


def test_slots_without_anybody_do_not_count_for_the_moments():
    registry.register_environment_adapter("crowd", CrowdAdapter)
    agent = ComposedAgent(
        [PPO(n_steps=16, batch_size=64, n_epochs=1)], normalize_observations=True, normalize_rewards=True
    )
    agent.train(Crowd(), 60, seed=0, progress_bar=False)
    composition = agent.composition
    for moments in (composition.normaliser.moments[0], composition.reward_normaliser.moments):
        assert int(moments.count) == agent.num_timesteps
    assert float(composition.normaliser.moments[0].mean.abs().max()) < 100  # nobody's observation is far out


# Exact resume

GRU = {"type": "gru", "hidden_size": 8, "encoder_sizes": [8], "sequence_length": 8}
RESUMED = {
    "ppo": (lambda: ComposedAgent([PPO(**SMALL)], learning_rate=SCHEDULE), "CartPole-v1"),
    "a2c rmsprop": (lambda: ComposedAgent(["a2c"], optimizer="rmsprop", learning_rate=SCHEDULE), "CartPole-v1"),
    "normalised": (
        lambda: ComposedAgent([PPO(**SMALL)], normalize_observations=True, normalize_rewards=True),
        "Pendulum-v1",
    ),
    "gru": (lambda: ComposedAgent([PPO(**SMALL)], networks=GRU), "CartPole-v1"),
    "rnd": (lambda: ComposedAgent([PPO(**SMALL), "rnd"]), "CartPole-v1"),
    "icm": (lambda: ComposedAgent([PPO(**SMALL), "icm"]), "CartPole-v1"),
    "sac": (
        lambda: ComposedAgent([Replay(learning_starts=20, batch_size=16), SAC(hidden_sizes=[16])]),
        "Pendulum-v1",
    ),
    "self-imitation": (lambda: ComposedAgent([PPO(**SMALL), "self_imitation"]), "CartPole-v1"),
    "kl": (lambda: ComposedAgent([PPO(**SMALL), "kl_penalty"]), "CartPole-v1"),
}


@pytest.mark.parametrize("case", RESUMED)
def test_resumed_is_as_if_it_had_not_been_interrupted(case, tmp_path):
    make, environment = RESUMED[case]
    whole = train(make(), environment)
    checkpointed = train(make(), environment, checkpoint_every=60, checkpoint_directory=tmp_path)
    assert largest_difference(whole, checkpointed) == 0.0
    _, path = list_checkpoints(tmp_path)[-1]
    resumed = train(make(), environment, resume_from=path, seed=None)
    assert resumed.num_timesteps == whole.num_timesteps
    assert largest_difference(whole, resumed) == 0.0
    one, other = (agent.composition.optimizer.state_dict()["state"] for agent in (whole, resumed))
    assert one.keys() == other.keys()
    assert all(torch.equal(one[index][key], other[index][key]) for index in one for key in one[index])


def test_a_checkpoint_of_other_parts_is_refused(tmp_path):
    train(ComposedAgent([PPO(**SMALL)]), checkpoint_every=60, checkpoint_directory=tmp_path)
    with pytest.raises(ArgumentError, match="the checkpoint was made with"):
        train(ComposedAgent([PPO(**SMALL), Entropy()]), resume_from=tmp_path)
    with pytest.raises(ArgumentError, match="n_environments"):
        train(ComposedAgent([PPO(**SMALL)]), resume_from=tmp_path, n_environments=3)


# Saving


def test_a_bundle_has_the_networks_once_and_nothing_pickled(tmp_path):
    agent = train(ComposedAgent([PPO(**SMALL, value_trunk="policy"), "rnd"]))
    path = agent.save_to_file(tmp_path / "agent.zip")
    with zipfile.ZipFile(path) as archive:
        assert {name.rpartition(".")[2] for name in archive.namelist()} <= {"json", "safetensors", "npz"}
        config = json.loads(archive.read("config.json"))
    assert [part["type"] for part in config["parts"]] == ["ppo", "rnd"]
    tensors = weights(agent).values()
    assert len({tensor.data_ptr() for tensor in agent.composition.tensors().values() if tensor.numel()}) == len(
        [tensor for tensor in tensors if tensor.numel()]
    )
    loaded = load_agent(path)
    assert isinstance(loaded, ComposedAgent)
    assert largest_difference(agent, loaded) == 0.0
    assert loaded.num_timesteps == agent.num_timesteps
    train(loaded, steps=100, seed=None)  # with the moments that it had
    assert loaded.num_timesteps > agent.num_timesteps


def test_other_parameters_can_be_given_when_loading(tmp_path):
    path = train(ComposedAgent([PPO(**SMALL)])).save_to_file(tmp_path / "agent.zip")
    assert load_agent(path, algorithm_parameters={"learning_rate": 1e-5}).settings.learning_rate == 1e-5
    with pytest.raises(ArgumentError, match="cannot be exchanged"):
        load_agent(path, algorithm_parameters={"parts": ["a2c"]})
    with pytest.raises(BundleError, match="open it with"):
        ComposedAgent([A2C()]).load_from_file(path)


@pytest.mark.parametrize(
    "change",
    [
        {"parts": [{"type": "os.system"}]},
        {"parts": [{"type": "ppo", "n_steps": -1}]},
        {"parts": []},
        {"networks": {"policy": {"type": "mlp", "hidden_sizes": [10**9]}}},
        {"optimizer": {"type": "subprocess"}},
        {"learning_rate": "1"},
        {"num_timesteps": -5},
        {"environment_id": "os:system"},
        {"observation_space": None},
    ],
    ids=lambda change: f"{next(iter(change))}-{str(next(iter(change.values())))[:30]}",
)
def test_damaged_and_hostile_bundles_are_refused(change, tmp_path):
    from rl_framework.bundle import read_bundle, write_bundle

    agent = train(ComposedAgent([PPO(**SMALL)]))
    members = agent.bundle_members()
    members["config.json"] = {**members["config.json"], **change}
    path = write_bundle(tmp_path / "bad.zip", kind="composed", members=members, information={})
    with pytest.raises(BundleError):
        load_agent(path)
    assert read_bundle(path).kind == "composed"


def test_what_could_not_be_saved_is_refused_before_training():
    class Nameless(Part):
        pass

    with pytest.raises(UnsavableError, match="register_part"):
        train(ComposedAgent([PPO(**SMALL), Nameless()]))


# What cannot be


@pytest.mark.parametrize(
    ("parts", "error", "message"),
    [
        ([], ArgumentError, "holds none"),
        (["pppo"], UnknownNameError, "Did you mean 'ppo'"),
        ([{"type": "ppo", "steps": 3}], ArgumentError, "does not fit PPO"),
        ([3], ArgumentError, "is no part"),
        (3, ArgumentError, "is no list of parts"),
        (["rnd"], ArgumentError, "rnd needs advantages"),
        (["ppo", "a2c"], ArgumentError, "ppo and a2c decide"),
        (["sac"], ArgumentError, "sac needs"),
        ([{"type": "ppo", "gamma": 1.5}], ArgumentError, r"PPO\(gamma\)"),
        ([{"type": "ppo", "n_steps": 0}], ArgumentError, r"PPO\(n_steps\)"),
    ],
    ids=[
        "none",
        "unknown",
        "unknown argument",
        "a number",
        "no list",
        "alone",
        "two that decide",
        "no replay",
        "gamma",
        "steps",
    ],
)
def test_parts_that_do_not_go_together(parts, error, message):
    with pytest.raises(error, match=message):
        ComposedAgent(parts)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"optimizer": "adamm"}, "optimizer"),
        ({"optimizer": {"type": "adam", "lr": 1e-3}}, "learning_rate"),
        ({"learning_rate": {"type": "linera"}}, "learning_rate"),
        ({"max_grad_norm": 0}, "max_grad_norm"),
        ({"max_grad_norm": "much"}, "max_grad_norm"),
        ({"device": "gpu"}, "device"),
        ({"compiled": "yes"}, "compiled"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else None,
)
def test_arguments_that_cannot_be_used(arguments, message):
    with pytest.raises(ArgumentError, match=message):
        ComposedAgent(["ppo"], **arguments)


def test_before_training_there_is_nothing_to_ask():
    agent = ComposedAgent(["ppo"])
    for ask in (lambda: agent.choose_action([0]), lambda: agent.observation_space, lambda: agent.composition):
        with pytest.raises(NotTrainedError):
            ask()
    assert agent.optimizers() == {}


def test_other_spaces_are_refused():
    agent = train(ComposedAgent([PPO(**SMALL)]))
    with pytest.raises(SpaceMismatchError):
        train(agent, "Acrobot-v1")


def test_a_training_that_diverges_says_so():
    with pytest.raises(NonFiniteLossError, match=r"has diverged: ppo_value_loss \(of the part ppo\) is inf in batch 1"):
        train(ComposedAgent([PPO(n_steps=512)], learning_rate=1e30, max_grad_norm=None), "Pendulum-v1", 4_000)


# With everything else


def test_it_is_filmed_collected_and_looked_at(tmp_path):
    agent = train(ComposedAgent([PPO(**SMALL)]))
    assert record_video(agent, "CartPole-v1", tmp_path / "replay.mp4", length=10).exists()
    sequence = EpisodeSequence.collect(agent, "CartPole-v1", 2, seed=0)
    assert len(sequence) == 2
    values = agent.estimate_value(np.zeros((3, 4), dtype=np.float32))
    assert values.shape == (3,)
    assert len(agent.optimizers()) == 1


def test_a_recurrent_agent_remembers():
    agent = train(ComposedAgent([PPO(**SMALL)], networks=GRU))
    observation = np.zeros(4, dtype=np.float32)
    action, state = agent.choose_action(observation, state=None)
    _, later = agent.choose_action(observation, state=state)
    assert not np.array_equal(state, later)
    _, afresh = agent.choose_action(observation, state=later, episode_start=True)
    assert np.array_equal(afresh, state)
    assert action in (0, 1)


class Remember(gymnasium.Env):
    """Shows a bit once and asks for it three steps later."""

    observation_space = spaces.Box(-1, 1, (2,), np.float32)
    action_space = spaces.Discrete(2)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.bit, self.t = int(self.np_random.integers(2)), 0
        return np.array([2 * self.bit - 1, 0], dtype=np.float32), {}

    def step(self, action):
        self.t += 1
        last = self.t == 3
        reward = float(action == self.bit) if last else 0.0
        return np.array([0, self.t / 3], dtype=np.float32), reward, last, False, {}


def test_memory_is_learned_by_a_gru_and_not_by_an_mlp():
    parameters = {"n_steps": 96, "batch_size": 192, "n_epochs": 4, "gamma": 0.9}
    gru = {"type": "gru", "hidden_size": 16, "encoder_sizes": [16], "sequence_length": 6}
    returns = {}
    for name, network in {"gru": gru, "mlp": "mlp"}.items():
        agent = ComposedAgent([PPO(**parameters)], networks=network, learning_rate=3e-3)
        agent.train(Remember, 12_000, n_environments=8, seed=0, progress_bar=False)
        returns[name] = agent.evaluate(Remember, 50, deterministic=True, seed=1).mean
    assert returns["gru"] > 0.95
    assert returns["mlp"] < 0.8


def test_rl_framework_offers_it():
    assert rl_framework.ComposedAgent is ComposedAgent


@pytest.mark.parametrize(
    ("decides", "given", "limit"),
    [(PPO, "auto", 0.5), (SAC, "auto", None), (PPO, None, None), (SAC, 2, 2)],
    ids=["ppo", "sac", "none", "given"],
)
def test_gradients_are_limited_as_is_usual_for_who_decides(decides, given, limit):
    made = [PPO(**SMALL)] if decides is PPO else [Replay(), SAC()]
    agent = train(ComposedAgent(made, max_grad_norm=given), "Pendulum-v1", 2)
    assert agent.composition.max_grad_norm == limit


def test_what_users_say_about_networks_goes_before_what_parts_do():
    def widths(networks):
        agent = train(ComposedAgent(["replay", {"type": "sac", "hidden_sizes": [12]}], networks), "Pendulum-v1", 2)
        tensors = agent.composition.tensors()
        policy = next(len(tensor) for name, tensor in tensors.items() if name.startswith("networks.trunk_policy"))
        return policy, next(tensor.shape[-2:] for name, tensor in tensors.items() if ".critics." in name)

    one = {"type": "mlp", "hidden_sizes": [7]}
    own, critics = widths(None)
    assert own == 12
    assert widths({"policy": one}) == (7, critics)
    assert widths(one)[0] == 7
