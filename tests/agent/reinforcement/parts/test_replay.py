"""The replay buffer: what it keeps, how it gives it back, and how it goes on after an interruption."""

import numpy as np
import pytest
import torch
from gymnasium import spaces
from tests.agent.reinforcement.parts.hand_made import ACTIONS, BOX, built, rollout_of, setup_of

from rl_framework import ArgumentError
from rl_framework.agent.reinforcement.parts.off_policy.replay import Replay
from rl_framework.agent.reinforcement.parts.off_policy.transition_store import TransitionStore

NAMES = {"observations", "actions", "rewards", "next_observations", "terminated"}


def counted(first, n_steps, n_slots=1):
    """A rollout whose rewards count the steps."""
    return rollout_of(torch.arange(first, first + n_steps * n_slots).reshape(n_steps, n_slots), seed=first)


def kept(replay):
    store = replay.transitions
    return sorted(store["rewards"][: len(store)].tolist())


def test_batches_are_whole_transitions_that_were_stored():
    replay = built(setup_of(), Replay(capacity=50, batch_size=40, learning_starts=0))
    rollout = rollout_of(
        torch.arange(12.0).reshape(4, 3), terminated=[[True, False, False]] * 4, truncated=[[False, True, False]] * 4
    )
    batches = list(replay.batches(rollout))
    assert len(batches) == 12  # one for each transition
    rows = {name: rollout[name].flatten(0, 1) for name in NAMES}
    for batch in batches:
        assert set(batch) == NAMES
        where = batch["rewards"].long()
        for name in NAMES:
            assert torch.equal(batch[name], rows[name][where])
    drawn = torch.cat([batch["rewards"] for batch in batches])
    assert set(drawn.tolist()) == set(range(12))
    # A time limit is no end: only what was terminated is marked.
    assert set(drawn[torch.cat([batch["terminated"] for batch in batches])].tolist()) == {0, 3, 6, 9}


def test_the_oldest_give_way():
    replay = built(setup_of(), Replay(capacity=5, learning_starts=0))
    replay.store(counted(0, 3))
    assert kept(replay) == [0, 1, 2]
    replay.store(counted(3, 4))
    assert kept(replay) == [2, 3, 4, 5, 6]
    replay.store(counted(10, 6, n_slots=2))  # more than fit
    assert kept(replay) == [17, 18, 19, 20, 21]
    assert replay.transitions.seen == 19


def test_absent_slots_are_no_transitions():
    replay = built(setup_of(), Replay(capacity=50, batch_size=4, learning_starts=0))
    rollout = rollout_of([[0.0, 1.0], [2.0, 3.0]], acted=[[True, False], [False, True]])
    assert len(list(replay.batches(rollout))) == 2
    assert kept(replay) == [0, 3]


@pytest.mark.parametrize(("ratio", "expected"), [(1.0, [0, 8, 8, 8]), (0.25, [0, 2, 2, 2]), (0.0625, [0, 0, 1, 0])])
def test_replay_ratio_and_learning_starts(ratio, expected):
    replay = built(setup_of(), Replay(batch_size=2, capacity=100, learning_starts=8, replay_ratio=ratio, n_steps=4))
    assert replay.rollout_length == 4
    assert [len(list(replay.batches(counted(8 * index, 4, n_slots=2)))) for index in range(4)] == expected
    assert replay.updates_per_round(n_slots=2) == round(8 * ratio)


SPACES = {
    "box": spaces.Box(np.array([-2, 0], np.float32), np.array([2, 10], np.float32)),
    "discrete": spaces.Discrete(4, start=-1),
    "multi_discrete": spaces.MultiDiscrete([2, 5]),
    "multi_binary": spaces.MultiBinary(3),
}


@pytest.mark.parametrize("kind", SPACES)
def test_first_actions_are_uniform_in_the_action_space(kind):
    setup = setup_of(action_space=SPACES[kind])
    replay = built(setup, Replay(learning_starts=100))
    policy = setup.policy()
    actions, _ = policy.act(torch.zeros(2000, 3), generator=setup.generator)
    chosen = replay.explore(actions, timestep=99)
    assert chosen.shape == actions.shape
    assert chosen.dtype == actions.dtype
    given = policy.to_environment(chosen).numpy()
    assert all(SPACES[kind].contains(action) for action in given[:50])
    middle = {"box": [0, 5], "discrete": 0.5, "multi_discrete": [0.5, 2], "multi_binary": 0.5}[kind]
    assert given.mean(0) == pytest.approx(np.broadcast_to(middle, given.shape[1:]), abs=0.3)
    assert set(np.unique(given)) == set(range(-1, 3)) if kind == "discrete" else True
    assert replay.explore(actions, timestep=100) is actions


def test_without_bounds_the_policy_explores():
    replay = built(setup_of(action_space=spaces.Box(-np.inf, np.inf, (2,))), Replay())
    actions = torch.zeros(3, 2)
    assert replay.explore(actions, 0) is actions


def test_images_in_dicts_stay_bytes():
    space = spaces.Dict({"a/b": spaces.Box(0, 255, (40, 40, 3), np.uint8), "inner": spaces.Dict({"speed": BOX})})
    images = torch.randint(256, (2, 1, 40, 40, 3), dtype=torch.uint8)
    observations = {"a/b": images, "inner": {"speed": torch.rand(2, 1, 3)}}
    rollout = rollout_of([[0.0], [1.0]])
    rollout["observations"] = rollout["next_observations"] = observations
    replay, other = (built(setup_of(space, networks={}), Replay(capacity=9, batch_size=5)) for _ in range(2))
    replay.store(rollout)
    other.set_training_state({name: np.asarray(value) for name, value in replay.training_state().items()})
    batch, same = replay.sample(), other.sample()
    where = batch["rewards"].long()
    assert batch["observations"]["a/b"].dtype == torch.uint8
    assert torch.equal(batch["observations"]["a/b"], images[where, 0])
    assert torch.equal(same["observations"]["a/b"], batch["observations"]["a/b"])
    assert torch.equal(same["next_observations"]["inner"]["speed"], batch["next_observations"]["inner"]["speed"])


@pytest.mark.parametrize("stored", [0, 3, 7])
def test_going_on_is_exact(stored):
    def fresh():
        return built(setup_of(), Replay(capacity=5, batch_size=3, learning_starts=2, replay_ratio=0.4))

    replay, other = fresh(), fresh()
    for index in range(stored):
        list(replay.batches(counted(index, 1)))
    state = {name: np.asarray(value) for name, value in replay.training_state().items()}
    assert sum(value.size for name, value in state.items() if name.startswith("rows/")) == min(stored, 5) * 10
    other.set_training_state(state)
    other._generator.set_state(replay._generator.get_state())
    for index in range(stored, stored + 8):
        mine, theirs = (list(each.batches(counted(index, 1))) for each in (replay, other))
        assert len(mine) == len(theirs)
        for one, two in zip(mine, theirs, strict=True):
            assert all(torch.equal(one[name], two[name]) for name in NAMES)


@pytest.mark.parametrize(
    "damage",
    [
        {"size": 9},
        {"position": -1},
        {"position": 2},
        {"seen": 1},
        {"due": 2.0},
        {"due": float("nan")},
        {"rows/0": np.zeros((2, 3), np.float32)},
    ],
    ids=str,
)
def test_damaged_states_are_refused(damage):
    replay = built(setup_of(), Replay(capacity=5))
    replay.store(counted(0, 3))
    with pytest.raises(ValueError, match=r"rows|steps"):
        replay.set_training_state({**replay.training_state(), **damage})
    assert kept(replay) == [0, 1, 2]
    with pytest.raises(KeyError):
        replay.set_training_state({})


def test_arguments_are_checked():
    for arguments in (
        {"capacity": 0},
        {"batch_size": 1.5},
        {"replay_ratio": -1},
        {"learning_starts": -1},
    ):
        with pytest.raises(ArgumentError, match=f"Replay\\({list(arguments)[-1]}\\)"):
            Replay(**arguments)


def test_recurrent_networks_are_refused():
    setup = setup_of(BOX, ACTIONS, networks={"default": {"type": "gru", "hidden_size": 4}})
    with pytest.raises(ArgumentError, match="recurrent"):
        built(setup, Replay())


def test_store_without_rows_has_no_tensors():
    store = TransitionStore(4, torch.device("cpu"))
    assert len(store) == 0
    assert store.state() == {"size": 0, "position": 0, "seen": 0}
