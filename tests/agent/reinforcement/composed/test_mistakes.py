"""Bad composition is an error before training, and a loss that is not finite is traced to its part."""

from functools import partial

import numpy as np
import pytest
import torch
from tests.agent.reinforcement.matrix_toys import toy

from rl_framework import ArgumentError, ComposedAgent, registry
from rl_framework.agent.reinforcement.parts import A2C, PPO, RND, SAC, Entropy, Part, Replay
from rl_framework.errors import NonFiniteLossError, UnknownNameError, UnsupportedSpaceError
from rl_framework.training import Callback

SMALL = {"n_steps": 16, "batch_size": 32, "n_epochs": 2}


@pytest.fixture(autouse=True)
def _own_registry(monkeypatch):
    monkeypatch.setattr(registry.parts, "_entries", dict(registry.parts._entries))


class Steps(Callback):
    def __init__(self):
        self.count = 0

    def on_step(self, training):
        self.count += 1


def train(agent, environment="CartPole-v1", steps=200, **arguments):
    return agent.train(environment, steps, **{"seed": 3, "n_environments": 2, "progress_bar": False, **arguments})


def registered(cls):
    registry.register_part(cls.__name__.lower(), cls)
    return cls


def refused(parts, match, error=ArgumentError, environment="CartPole-v1"):
    steps = Steps()
    with pytest.raises(error, match=match):
        train(ComposedAgent(parts), environment, callbacks=[steps])
    assert steps.count == 0


# Parameters


def test_two_parts_that_own_the_same_parameters():
    @registered
    class Head(Part):
        def __init__(self, beside=None):
            super().__init__()
            self._beside = [beside]  # out of sight of torch

        def saved_arguments(self):
            return {}

        def build(self, setup):
            (beside,) = self._beside
            self.head = torch.nn.Linear(4, 1) if beside is None else beside.head

    first = Head()
    refused([PPO(**SMALL), first, Head(first)], r"head and head_2 own the same parameters \('head.weight' of head_2\)")


def test_what_is_asked_for_by_name_is_shared_and_trained_once():
    @registered
    class Head(Part):
        def build(self, setup):
            self.head = setup.network("head", lambda: torch.nn.Linear(4, 1))

        def loss(self, batch):
            return {"size": self.head.weight.square().sum()}

    agent = train(ComposedAgent([PPO(**SMALL), Head(), Head()]))
    assert agent.parts[1].head is agent.parts[2].head
    learned = [id(parameter) for group in agent.composition.optimizer.param_groups for parameter in group["params"]]
    assert len(learned) == len(set(learned)) == len(list(agent.composition.parameters()))


def test_a_part_belongs_to_one_agent():
    part = PPO(**SMALL)
    agent = train(ComposedAgent([part]))
    refused([part], "belongs to another agent already")
    before = [parameter.clone() for parameter in agent.composition.parameters()]
    train(agent, seed=None)
    assert not all(map(torch.equal, before, agent.composition.parameters()))


def test_after_a_refusal_the_parts_can_be_used_elsewhere():
    agent = ComposedAgent([Replay(learning_starts=10), SAC()])
    with pytest.raises(UnsupportedSpaceError):
        train(agent, partial(toy, "box", "multi_discrete"))
    assert train(agent, "Pendulum-v1", 20).num_timesteps == 20


# What is recorded


def test_what_nobody_records():
    @registered
    class Wants(Part):
        records = frozenset({"infos"})

    refused([PPO(**SMALL), Wants()], "wants infos recorded, which nobody records")


def test_what_only_others_add():
    @registered
    class Ratios(Part):
        needs = frozenset({"log_probs"})

        def loss(self, batch):
            return {"mean": batch["log_probs"].mean() * self.policy(batch).entropy().mean()}

        def build(self, setup):
            self.policy = setup.policy()

    refused([Replay(), SAC(), Ratios()], "ratios needs log_probs, which none of the others provides", environment="x")
    assert train(ComposedAgent([PPO(**SMALL), Ratios()])).num_timesteps >= 200


def test_a_part_that_does_not_say_what_it_needs_is_told_what_there_is():
    @registered
    class Wants(Part):
        def loss(self, batch):
            return {"mean": batch["next_observations"].mean()}

    with pytest.raises(ArgumentError, match=r"next_observations.*nobody has recorded it; there are actions"):
        train(ComposedAgent([PPO(**SMALL), Wants()]))


def test_actions_that_a_part_cannot_take():
    toys = partial(toy, "box", "multi_discrete")
    refused([Replay(), SAC()], "SAC acts in Box and Discrete", UnsupportedSpaceError, toys)


def test_rollouts_that_cannot_be_cut_into_sequences():
    steps = Steps()
    agent = ComposedAgent([A2C()], networks={"type": "gru", "sequence_length": 4})
    with pytest.raises(ArgumentError, match=r"sequence_length=4: rollouts of 5 steps, as a2c collects.*divisor of 5"):
        train(agent, callbacks=[steps])
    assert steps.count == 0


def test_episodes_alone_are_nothing_for_a_part_that_needs_what_is_collected():
    with pytest.raises(ArgumentError, match=r"icm learns from what is collected.*such as PPO"):
        ComposedAgent(["icm", "demonstration"])
    ComposedAgent(["icm", "demonstration", "ppo"])


def test_networks_for_trunks_that_nobody_has():
    with pytest.raises(UnknownNameError, match=r"networks='polizy'.*Did you mean 'policy'.*Known: policy, value"):
        train(ComposedAgent([PPO(**SMALL)], networks={"polizy": "mlp", "default": "mlp"}))
    train(ComposedAgent([PPO(**SMALL), "icm"], networks={"icm": "mlp", "value": "mlp"}), steps=2)


# Parts that do not keep to the contract


def mistaken(**members):
    """Returns a part with these methods and attributes."""

    def begin(self, weight=1.0):
        Part.__init__(self)
        self.weight = weight

    return registered(type("Mistaken", (Part,), {"__init__": begin, **members}))()


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ({"loss": lambda self, batch: batch["rewards"].mean()}, r"Mistaken\.loss=tensor.*must return a dictionary"),
        ({"loss": lambda self, batch: None}, r"Mistaken\.loss=None: must return a dictionary"),
        ({"loss": lambda self, batch: {"v": batch["rewards"]}}, r"Mistaken\.loss: v=.*shape \(32,\).*without axes"),
        ({"loss": lambda self, batch: {"v": 0.5}}, r"Mistaken\.loss: v='0\.5'.*without axes"),
        ({"loss": lambda self, batch: batch.report("x", 1.0) or {}}, r"batch\.report: x='1\.0'.*without axes"),
        ({"reward": lambda self, rollout: rollout.add("rewards", torch.ones(3))}, r"rollout\['rewards'\]=\(3,\)"),
        (
            {"annotate": lambda self, rollout: rollout.__setitem__("mine", np.ones((16, 2)))},
            r"rollout\['mine'\].*\(n_steps, n_slots\) first, here \(16, 2\)",
        ),
    ],
    ids=["a tensor", "nothing", "axes", "a number", "report", "shape", "an array"],
)
def test_what_a_part_gives_is_checked(members, message):
    with pytest.raises(ArgumentError, match=message):
        train(ComposedAgent([PPO(**SMALL), mistaken(**members)]))


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ({"needs": "policy"}, r"Mistaken\.needs='policy': must be a set.*frozenset"),
        ({"records": ["next_observations"]}, r"Mistaken\.records=.*must be a set"),
        ({"schedules": "weight"}, r"Mistaken\.schedules='weight': must be a tuple"),
        ({"schedules": ("weigth_",)}, r"Mistaken\.schedules='weigth_'.*no such attribute"),
        ({"__init__": lambda self: None}, r"'Mistaken': its __init__ does not begin with super"),
    ],
    ids=["text", "list", "one schedule", "no attribute", "no init"],
)
def test_what_a_part_says_of_itself_is_checked(members, message):
    with pytest.raises(ArgumentError, match=message):
        ComposedAgent([PPO(), mistaken(**members)])


@pytest.mark.parametrize(
    ("part", "message"),
    [
        (lambda: Entropy("much"), r"Entropy\(weight\)='much': must be a number or a schedule"),
        (lambda: Entropy(float("nan")), r"Entropy\(weight\)=nan"),
        (lambda: Entropy({"type": "linera"}), r"Entropy\(weight\)\['type'\]='linera'.*Did you mean 'linear'"),
        (lambda: PPO(clip_range=-0.2), r"PPO\(clip_range\)=-0\.2"),
    ],
    ids=["text", "nan", "schedule", "negative"],
)
def test_numbers_that_may_be_schedules_are_checked(part, message):
    with pytest.raises(ArgumentError, match=message):
        ComposedAgent([part()] if "PPO" in message else [PPO(), part()])


# Losses that are not finite


class Late(Part):
    """A loss that is finite in so many batches."""

    def __init__(self, batches=5, gradient_only=False):
        super().__init__()
        self.batches, self.gradient_only = batches, gradient_only

    def build(self, setup):
        self.policy = setup.policy()
        self.left = self.batches

    def prepare(self, batch):
        batch["late/number"] = torch.tensor(0.0 if self.left > 0 else np.nan)
        self.left -= 1

    def loss(self, batch):
        entropy = self.policy(batch).entropy().mean()
        if self.gradient_only and bool(batch["late/number"].isnan()):
            entropy = (entropy - entropy.detach()).abs().sqrt()  # 0, of which the slope is infinite
            return {"term": entropy}
        return {"term": 0.0 * entropy, "other": batch["late/number"] * entropy}


@pytest.fixture
def _late():
    registry.register_part("late", Late)


@pytest.mark.usefixtures("_late")
def test_a_loss_that_is_not_finite_names_part_step_and_batch():
    # Two batches in two epochs of each rollout of 64 rows: the second round ends at 128.
    with pytest.raises(NonFiniteLossError, match=r"late_other_loss.*part late.*nan in batch 1.*timestep 128") as caught:
        train(ComposedAgent([PPO(n_steps=32, batch_size=32, n_epochs=2), RND(), Late(5)], compiled=False))
    error = caught.value
    assert (error.part, error.number, error.timestep, error.batch) == ("late", "late_other_loss", 128, 1)


@pytest.mark.usefixtures("_late")
def test_a_gradient_that_is_not_finite_is_named():
    with pytest.raises(NonFiniteLossError, match="gradient_norm") as caught:
        train(ComposedAgent([PPO(n_steps=32, batch_size=32, n_epochs=2), Late(2, True)], compiled=False))
    assert (caught.value.part, caught.value.batch) == (None, 2)


@pytest.mark.usefixtures("_late")
def test_nothing_that_is_not_finite_goes_into_a_checkpoint(tmp_path):
    with pytest.raises(NonFiniteLossError):
        train(
            ComposedAgent([PPO(n_steps=32, batch_size=32, n_epochs=2), Late(5)], compiled=False),
            checkpoint_every=1,
            checkpoint_directory=tmp_path,
        )
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint_000000000064.zip"]
