"""Random network distillation: its rewards by hand, what learns from what, and what survives an interruption."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces
from numpy.typing import NDArray
from tests.agent.reinforcement.parts.written_down import built, rollout_of, set_linear
from tests.agent.samples import Sampled

from rl_framework import ArgumentError, ComposedAgent, load_agent
from rl_framework.agent.network.architectures.mlp import MLP
from rl_framework.agent.reinforcement.composed.batch import Batch
from rl_framework.agent.reinforcement.parts import PPO, RND
from rl_framework.bundle import list_checkpoints

OBSERVATIONS = [[[1.0, 4.0], [2.0, -3.0]], [[0.5, 0.0], [2.5, 1.0]], [[-1.0, 2.0], [30.0, 1.5]]]
LAST = [[3.0, 1.0], [0.0, -1.0]]
LATER = [[[3.0, 1.0], [0.0, -1.0]], [[1.5, 2.0], [-2.0, 0.5]], [[2.0, 2.0], [1.0, 1.0]]]
LATEST = [[0.0, 0.0], [5.0, -2.0]]
CLIP = 1.5


def by_hand(**arguments: Any) -> RND:
    """RND whose networks look at pairs of numbers, with weights that are written down."""
    part = RND(**{"network": "flatten", "features": 1, "clip_observations": CLIP, "gae_lambda": 0.9, **arguments})
    built(part)
    set_linear(part.target[1], [[2.0, -1.0]], [0.5])
    set_linear(part.predictor[1], [[1.0, 1.0]], [0.25])
    set_linear(part.predictor[3], [[0.5]], [1.0])
    set_linear(part.predictor[5], [[3.0]], [-1.0])
    set_linear(part.value.head, [[0.1, 0.2]], [0.3])
    return part


def target_of(z: NDArray[Any]) -> NDArray[Any]:
    return z @ [2.0, -1.0] + 0.5


def predicted_of(z: NDArray[Any]) -> NDArray[Any]:
    return 3 * np.maximum(0.5 * np.maximum(z.sum(-1) + 0.25, 0) + 1, 0) - 1


def value_of(x: NDArray[Any]) -> NDArray[Any]:
    return x @ [0.1, 0.2] + 0.3


class Reference:
    """What the paper says, in NumPy, with everything that was ever seen kept."""

    def __init__(self, gamma: float = 0.99, gae_lambda: float = 0.9) -> None:
        self.gamma, self.gae_lambda = gamma, gae_lambda
        self.seen: list[Any] = []
        self.sums: list[float] = []
        self.sum: NDArray[Any] | None = None

    def __call__(self, observations: Any, last: Any) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
        all_steps = np.array([*observations, last])  # (n_steps + 1, n_slots, 2)
        self.seen += [row for step in observations for row in step]
        z = np.clip((all_steps - np.mean(self.seen, 0)) / np.std(self.seen, 0), -CLIP, CLIP)
        novelty = (predicted_of(z) - target_of(z))[1:] ** 2
        for reward in novelty:
            self.sum = reward if self.sum is None else self.gamma * self.sum + reward
            self.sums += list(self.sum)
        rewards = novelty / np.std(self.sums)
        values = value_of(all_steps)
        advantages, advantage = np.zeros_like(rewards), 0.0
        for step in reversed(range(len(rewards))):
            surprise = rewards[step] + self.gamma * values[step + 1] - values[step]
            advantage = advantages[step] = surprise + self.gamma * self.gae_lambda * advantage
        return rewards, advantages, z


# The numbers


def test_rewards_and_advantages_are_those_worked_out_by_hand() -> None:
    part, reference = by_hand(weight=0.25), Reference()
    # An episode ends in the middle: nothing here may notice, and nothing may look at its last observation.
    first = rollout_of(OBSERVATIONS, LAST, ended=[[False, False], [True, False], [False, False]])
    second = rollout_of(LATER, LATEST)
    for rollout, given in ((first, (OBSERVATIONS, LAST)), (second, (LATER, LATEST))):
        with torch.no_grad():
            part.annotate(rollout)
        rewards, advantages, z = reference(*given)
        assert np.abs(z).max() == CLIP  # or clipping would not be tested
        assert rollout["advantages"].numpy() == pytest.approx(0.25 * advantages, abs=1e-5)
        assert rollout["rnd/returns"].numpy() == pytest.approx(advantages + value_of(np.array(given[0])), abs=1e-5)
        assert rollout["rnd/targets"][..., 0].numpy() == pytest.approx(target_of(z)[:-1], abs=1e-5)
        assert part.metrics()["train/intrinsic_reward"] == pytest.approx(rewards.mean(), abs=1e-5)
    assert not rollout["rewards"].any()  # the extrinsic ones are left alone


def test_advantages_are_added_to_those_of_others() -> None:
    rollout = rollout_of(OBSERVATIONS, LAST, advantages=np.full((3, 2), 10.0))
    with torch.no_grad():
        by_hand(weight=1.0).annotate(rollout)
    assert rollout["advantages"].numpy() == pytest.approx(10 + Reference()(OBSERVATIONS, LAST)[1], abs=1e-5)


def test_a_schedule_changes_the_weight() -> None:
    part = by_hand(weight={"type": "linear", "start": 1.0, "end": 0.0})
    advantages = []
    for remaining in (1.0, 0.25):
        part.follow_schedules(remaining)
        rollout = rollout_of(OBSERVATIONS, LAST)
        part._discounted, part.returns = None, type(part.returns)()
        with torch.no_grad():
            part.annotate(rollout)
        advantages.append(rollout["advantages"])
    assert torch.allclose(advantages[1], 0.25 * advantages[0])


def test_losses_are_those_worked_out_by_hand() -> None:
    part = by_hand(predictor_weight=2.0, value_weight=0.5)
    rollout = rollout_of(OBSERVATIONS, LAST)
    with torch.no_grad():
        part.annotate(rollout)
    batch = rollout.batch()
    part.prepare(batch)
    losses = part.loss(batch)
    _, advantages, z = Reference()(OBSERVATIONS, LAST)
    errors = (predicted_of(z[:-1]) - target_of(z[:-1])) ** 2
    assert losses["predictor"].item() == pytest.approx(2 * errors.mean(), rel=1e-5)
    # What the value network has to learn is its present value and the advantage.
    assert losses["value"].item() == pytest.approx(0.5 * (advantages**2).mean(), rel=1e-5)


def test_only_drawn_rows_train_the_predictor() -> None:
    part = by_hand(update_proportion=0.5)
    rollout = rollout_of(OBSERVATIONS, LAST)
    with torch.no_grad():
        part.annotate(rollout)
    z = Reference()(OBSERVATIONS, LAST)[2][:-1].reshape(-1, 2)
    errors = (predicted_of(z) - target_of(z)) ** 2
    batch = rollout.batch()
    part.prepare(batch)
    drawn = batch["rnd/learned"].bool().numpy()
    assert 0 < drawn.sum() < len(drawn)
    assert part.loss(batch)["predictor"].item() == pytest.approx(errors[drawn].mean(), rel=1e-5)
    batch["rnd/learned"] = torch.zeros(6)  # nobody was drawn
    assert part.loss(batch)["predictor"].item() == 0


def test_who_is_absent_is_not_seen() -> None:
    """A slot with a gap gives what it would give without the gap."""
    column = np.array(OBSERVATIONS)[:, :1]
    gap = np.insert(column, 1, 1e6, axis=0)
    whole, interrupted = by_hand(), by_hand()
    expected = rollout_of(column, LAST[:1])
    found = rollout_of(gap, LAST[:1], acted=[[True], [False], [True], [True]])
    with torch.no_grad():
        whole.annotate(expected)
        interrupted.annotate(found)
    for name in ("advantages", "rnd/returns", "rnd/targets"):
        assert torch.allclose(found[name][[0, 2, 3]], expected[name], atol=1e-5), name
    assert interrupted.metrics() == pytest.approx(whole.metrics())
    sums = [part.training_state()["discounted"] for part in (interrupted, whole)]
    assert sums[0] == pytest.approx(sums[1])


# What learns from what


def test_neither_the_random_network_nor_the_policy_learns_from_it() -> None:
    part = RND(features=4)
    setup = built(part, networks={"default": {"type": "mlp", "hidden_sizes": [8]}})
    policy = setup.policy()
    rollout = rollout_of(OBSERVATIONS, LAST)
    with torch.no_grad():
        part.annotate(rollout)
    batch = rollout.batch()
    part.prepare(batch)
    sum(part.loss(batch).values()).backward()  # type: ignore[union-attr]
    learning = {name for name, parameter in part.named_parameters() if parameter.grad is not None}
    assert {name.split(".")[0] for name in learning} == {"predictor", "value"}
    assert all(parameter.grad is None for parameter in policy.parameters())
    assert all(not parameter.requires_grad for parameter in part.target.parameters())
    # The trunk of the extrinsic value serves both, its head does not.
    extrinsic = setup.value()
    assert all(parameter.grad is not None for parameter in extrinsic.trunk.parameters())
    assert all(parameter.grad is None for parameter in extrinsic.head.parameters())


def test_the_intrinsic_value_may_have_a_trunk_of_its_own() -> None:
    part = RND(value_trunk="intrinsic_value")
    setup = built(part)
    assert part.value.trunk.name == "intrinsic_value"
    assert part.value.trunk is not setup.value().trunk


def test_what_was_often_seen_is_not_new() -> None:
    torch.manual_seed(0)
    part = RND()
    built(part, networks={"default": {"type": "mlp", "hidden_sizes": [8]}})
    optimizer = torch.optim.Adam([p for p in part.parameters() if p.requires_grad], 1e-3)
    generator = torch.Generator().manual_seed(1)
    for _ in range(60):
        rollout = rollout_of(torch.randn(16, 4, 2, generator=generator), torch.zeros(4, 2))
        with torch.no_grad():
            part.annotate(rollout)
        batch = rollout.batch()
        optimizer.zero_grad()
        sum(part.loss(batch).values()).backward()  # type: ignore[union-attr]
        optimizer.step()
    with torch.no_grad():
        _, familiar = part._judged(torch.randn(100, 2, generator=generator))
        _, strange = part._judged(torch.randn(100, 2, generator=generator) + 4)
    assert strange.mean() > 5 * familiar.mean()


# In an agent

SMALL = {"n_steps": 16, "batch_size": 32, "n_epochs": 2}


def test_it_needs_somebody_who_learns_from_advantages() -> None:
    with pytest.raises(ArgumentError, match="rnd needs advantages"):
        ComposedAgent([RND()])


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"gamma": 1.5}, "gamma"),
        ({"update_proportion": -0.1}, "update_proportion"),
        ({"features": 0}, "features"),
        ({"clip_observations": float("nan")}, "clip_observations"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_mistakes_are_told(arguments: dict[str, Any], named: str) -> None:
    with pytest.raises(ArgumentError, match=rf"RND\({named}\)"):
        RND(**arguments)


def test_a_recurrent_network_is_refused() -> None:
    with pytest.raises(ArgumentError, match="recurrent"):
        built(RND(network="gru"))


def test_it_goes_with_recurrent_networks() -> None:
    networks = {"type": "gru", "hidden_size": 8, "sequence_length": 8}
    agent = ComposedAgent([PPO(**SMALL), RND(features=8, network="mlp")], networks=networks)
    agent.train("rl_framework/DeepSea-v0", 64, 2, environment_kwargs={"size": 4}, seed=0, progress_bar=False)
    assert agent.parts[1].value.trunk is agent.composition.policy.trunk
    assert all(tensor.isfinite().all() for tensor in agent.composition.tensors().values())


@pytest.mark.parametrize("kind", ["discrete", "image", "dict"])
def test_it_takes_all_kinds_of_observations(kind: str) -> None:
    observation_spaces = {
        "discrete": spaces.Discrete(5),
        "image": spaces.Box(0, 255, (8, 8, 3), np.uint8),
        "dict": spaces.Dict({"vector": spaces.Box(-1, 1, (3,)), "place": spaces.Discrete(3)}),
    }
    agent = ComposedAgent([RND(update_proportion=0.5), PPO(**SMALL)])
    agent.train(lambda: Sampled(observation_spaces[kind], spaces.Discrete(2)), 64, 2, seed=0, progress_bar=False)
    part = agent.parts[0]
    assert isinstance(part, RND)
    assert part.metrics()["train/intrinsic_reward"] > 0
    assert all(tensor.isfinite().all() for tensor in agent.composition.tensors().values())


def test_it_comes_back_from_a_file(tmp_path: Any) -> None:
    network = {"type": MLP, "hidden_sizes": (8,)}
    weight = {"type": "linear", "start": 1.0, "end": 0.1}
    agent = ComposedAgent([PPO(**SMALL), RND(weight=weight, network=network, features=8)])
    agent.train("rl_framework/DeepSea-v0", 64, 2, environment_kwargs={"size": 4}, seed=0, progress_bar=False)
    agent.save_to_file(tmp_path / "agent.zip")
    loaded = load_agent(tmp_path / "agent.zip")
    assert loaded.describe() == agent.describe()
    theirs = loaded.composition.tensors()
    for name, tensor in agent.composition.tensors().items():
        assert torch.equal(tensor, theirs[name]), name


def test_an_interrupted_training_goes_on_exactly(tmp_path: Any) -> None:
    def agent() -> ComposedAgent:
        return ComposedAgent([PPO(**SMALL), RND(features=8, update_proportion=0.5)])

    arguments: dict[str, Any] = {"environment_kwargs": {"size": 4}, "progress_bar": False}
    whole, interrupted, resumed = agent(), agent(), agent()
    whole.train("rl_framework/DeepSea-v0", 128, 2, seed=0, **arguments)
    interrupted.train(
        "rl_framework/DeepSea-v0",
        128,
        2,
        seed=0,
        checkpoint_every=64,
        checkpoint_directory=tmp_path,
        **arguments,
    )
    resumed.train("rl_framework/DeepSea-v0", 128, 2, resume_from=list_checkpoints(tmp_path)[-1][1], **arguments)
    expected = whole.composition.tensors()
    for name, tensor in resumed.composition.tensors().items():
        assert torch.equal(tensor, expected[name]), name


def test_a_damaged_state_is_refused_and_another_number_of_slots_begins_anew() -> None:
    part = by_hand()
    with pytest.raises(ValueError, match="sums of intrinsic rewards"):
        part.set_training_state({"discounted": np.array([np.nan])})
    with torch.no_grad():
        part.annotate(rollout_of(np.array(OBSERVATIONS)[:, :1], LAST[:1]))
        part.annotate(rollout_of(OBSERVATIONS, LAST))
    assert part.training_state()["discounted"].shape == (2,)


def test_its_gradients_can_be_taken_as_those_of_a_function() -> None:
    """As the compiled step takes them: of all parameters, in a function of them."""
    part = by_hand(update_proportion=0.5)
    rollout = rollout_of(OBSERVATIONS, LAST)
    with torch.no_grad():
        part.annotate(rollout)
    batch = rollout.batch()
    part.prepare(batch)
    holder = Held(part)
    values = {name: each.detach() for name, each in holder.named_parameters() if each.requires_grad}
    gradients = torch.func.grad(lambda now: torch.func.functional_call(holder, now, (batch.tensors,)))(values)
    holder(batch.tensors).backward()
    for name, parameter in holder.named_parameters():
        if parameter.requires_grad:
            assert parameter.grad is not None
            assert torch.allclose(gradients[name], parameter.grad), name


class Held(torch.nn.Module):
    def __init__(self, part: RND) -> None:
        super().__init__()
        self.part = part

    def forward(self, tensors: dict[str, Any]) -> torch.Tensor:
        return torch.stack(list(self.part.loss(Batch(tensors)).values())).sum()
