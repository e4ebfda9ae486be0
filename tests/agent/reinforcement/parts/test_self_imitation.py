"""Self-imitation: the returns that it remembers, what it draws, and its losses."""

import numpy as np
import pytest
import torch
from gymnasium import spaces
from tests.agent.reinforcement.parts.hand_made import ACTIONS, BOX, SMALL, built, rollout_of, setup_of

from rl_framework import ArgumentError
from rl_framework.agent.reinforcement.composed.batch import Batch
from rl_framework.agent.reinforcement.parts import PPO, SelfImitation


def part_of(value=0.0, **arguments):
    part, _ = built(setup_of(networks={"default": SMALL}), SelfImitation(**arguments), PPO())
    with torch.no_grad():  # the same value everywhere
        part.value.head.weight.zero_()
        part.value.head.bias.fill_(value)
    return part


@torch.no_grad()
def remember(part, rewards, **flags):
    part.annotate(rollout_of(rewards, **flags))


def told(part, n_slots=1):
    """The returns that are known, by step and slot; None where they are not."""
    known, returns = part.steps["known"], part.steps["returns"]
    values = [round(value, 6) if is_known else None for is_known, value in zip(known, returns.tolist(), strict=True)]
    rows = [values[start : start + n_slots] for start in range(0, len(part.steps), n_slots)]
    return [row[0] for row in rows] if n_slots == 1 else rows


def test_returns_of_episodes_that_ended():
    part = part_of(gamma=0.5, capacity=8)
    remember(part, [[1.0], [2.0], [4.0], [8.0]], terminated=[[False], [True], [False], [False]])
    assert told(part) == [2.0, 2.0, None, None]
    remember(part, [[16.0], [1.0]], starts=[[False], [False]])
    assert told(part) == [2.0, 2.0, None, None, None, None]
    # The end of an episode that began two rollouts before.
    remember(part, [[2.0], [3.0]], terminated=[[True], [False]], starts=[[False], [True]])
    assert told(part) == [2.0, 2.0, 4 + 4 + 4 + 0.125 + 0.125, 8 + 8 + 0.25 + 0.25, 16 + 0.5 + 0.5, 2.0, 2.0, None]
    # The oldest give way.
    remember(part, [[5.0], [7.0]], terminated=[[True], [True]], starts=[[False], [True]])
    assert told(part)[:2] == [5.0, 7.0]
    assert told(part)[7] == 5.5


def test_slots_have_episodes_of_their_own_and_may_be_absent():
    part = part_of(gamma=0.5, capacity=9)  # four steps of two slots
    remember(
        part,
        [[1.0, 10.0], [2.0, 99.0], [4.0, 20.0]],
        acted=[[True, True], [True, False], [True, True]],
        terminated=[[False, False], [True, False], [False, True]],
        starts=[[True, True], [False, False], [True, False]],
    )
    assert told(part, 2) == [[2.0, 20.0], [2.0, None], [None, 20.0]]
    assert part.steps.capacity == 8


def test_what_follows_a_time_limit_is_estimated():
    part = part_of(value=10.0, gamma=0.5)
    remember(part, [[1.0], [2.0]], truncated=[[False], [True]])
    assert told(part) == [1 + 0.5 * (2 + 5), 2 + 5.0]


def test_an_episode_that_was_broken_off_has_no_return():
    part = part_of(gamma=0.5)
    remember(part, [[1.0]], starts=[[True]])
    remember(part, [[2.0]], starts=[[True]], terminated=[[True]])  # a new training began
    assert told(part) == [None, 2.0]


def test_good_steps_are_drawn_more_often():
    part = part_of(value=1.0, gamma=0.0, batch_size=4000, alpha=0.5, beta=1.0)
    remember(part, [[2.0], [5.0], [0.0], [9.0]], terminated=[[True], [True], [True], [False]])
    batch = Batch({"observations": torch.zeros(1, 3)})
    part.prepare(batch)
    returns = batch["self_imitation/returns"]
    # By the square roots of 1 and 4; what was worse than expected or has not ended: never.
    shares = [(returns == value).float().mean().item() for value in (2.0, 5.0)]
    assert shares == pytest.approx([1 / 3, 2 / 3], abs=0.03)
    weights = batch["self_imitation/weights"]
    assert weights[returns == 2.0].unique().tolist() == pytest.approx([1.0])
    assert weights[returns == 5.0].unique().tolist() == pytest.approx([0.5])
    with torch.no_grad():  # priorities follow the value network
        part.value.head.bias.fill_(4.0)
    part.prepare(batch)
    part.prepare(batch)
    assert batch["self_imitation/returns"].unique().tolist() == [5.0]


def test_losses_by_hand():
    part = part_of(value=1.0, gamma=0.0, batch_size=3, beta=0.0, weight=0.5, value_weight=0.1)
    remember(part, [[3.0]], terminated=[[True]])
    batch = Batch({"observations": torch.zeros(1, 3)})
    part.prepare(batch)
    losses = part.loss(batch)
    seen = Batch({"observations": batch["self_imitation/observations"]})
    log_prob = part.policy(seen).log_prob(batch["self_imitation/actions"])[0].item()
    assert losses["policy"].item() == pytest.approx(-0.5 * log_prob * 2.0, rel=1e-5)
    assert losses["value"].item() == pytest.approx(0.5 * 0.1 * 0.5 * 4.0, rel=1e-5)
    assert torch.autograd.grad(losses["policy"], part.value.head.bias, retain_graph=True, allow_unused=True) == (None,)
    (gradient,) = torch.autograd.grad(losses["value"], part.value.head.bias)
    assert gradient.item() == pytest.approx(-0.5 * 0.1 * 2.0, rel=1e-5)  # towards the return


@pytest.mark.parametrize("rewards", [[[0.5]], [[3.0]]], ids=["worse than expected", "not ended"])
def test_nothing_good_changes_nothing(rewards):
    part = part_of(value=1.0, gamma=0.0)
    remember(part, rewards, terminated=[[rewards == [[0.5]]]])
    batch = Batch({"observations": torch.zeros(1, 3)})
    part.prepare(batch)
    losses = part.loss(batch)
    gradients = torch.autograd.grad(sum(losses.values()), list(part.policy.parameters()))
    assert all(loss.item() == 0 for loss in losses.values())
    assert all((gradient == 0).all() for gradient in gradients)


def test_going_on_is_exact():
    part, other = part_of(gamma=0.5, capacity=7, batch_size=5), part_of(gamma=0.5, capacity=7, batch_size=5)
    for seed in range(5):
        rollout = {"seed": seed, "terminated": [[seed % 2 == 1, False]], "starts": [[seed % 2 == 0, seed == 0]]}
        remember(part, [[1.0 + seed, 2.0]], **rollout)
        if seed == 3:
            state = {name: np.asarray(value) for name, value in part.training_state().items()}
            other.set_training_state(state)
        elif seed > 3:
            remember(other, [[1.0 + seed, 2.0]], **rollout)
    assert told(part, 2) == told(other, 2)
    one, two = (Batch({"observations": torch.zeros(1, 3)}) for _ in range(2))
    other._generator.set_state(part._generator.get_state())
    part.prepare(one)
    other.prepare(two)
    assert all(torch.equal(one[name], two[name]) for name in one)
    with pytest.raises(ValueError, match="slots"):
        other.set_training_state({**state, "n_slots": -1})


def test_it_shares_the_networks_of_the_actor_critic():
    images = spaces.Box(0, 255, (40, 40, 3), np.uint8)
    part, ppo = built(setup_of(images, spaces.Discrete(2), networks={}), SelfImitation(), PPO())
    assert part.policy is ppo.policy
    assert part.value is ppo.value
    assert part.value.trunk is part.policy.trunk


def test_what_does_not_fit_is_refused():
    with pytest.raises(ArgumentError, match="recurrent"):
        built(setup_of(BOX, ACTIONS, networks={"policy": "gru"}), SelfImitation(), PPO())
    for arguments in ({"capacity": 0}, {"alpha": 2}, {"value_weight": -1}):
        with pytest.raises(ArgumentError, match=f"SelfImitation\\({next(iter(arguments))}\\)"):
            SelfImitation(**arguments)
