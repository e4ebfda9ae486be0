"""The batched form: same-step autoreset as gymnasium does it, everything its receiver's own, every number finite."""

from __future__ import annotations

from functools import partial
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from tests.environment.toys import Counter, DictWorld

from rl_framework.environment import BatchedEnvironment, SlotStep, open_environments
from rl_framework.errors import ArgumentError, NonFiniteError

ZEROS = np.zeros(2, np.int64)


def _counters(**kwargs: Any) -> list[Any]:
    return [partial(Counter, 0.0, (3, 2), **kwargs), partial(Counter, 1.0, (2,), True, **kwargs)]


def _assert_equal(ours: Any, theirs: Any, where: str = "") -> None:
    """Compares structures down to type and bit."""
    if isinstance(theirs, int) and isinstance(ours, np.ndarray):
        ours = ours.item()  # a final observation of a discrete space, in the dtype of the space
    assert type(ours) is type(theirs), f"{where}: {type(ours)} is not {type(theirs)}"
    if isinstance(ours, dict):
        assert ours.keys() == theirs.keys(), where
        for key in ours:
            _assert_equal(ours[key], theirs[key], f"{where}/{key}")
    elif isinstance(ours, np.ndarray) and ours.dtype == object:
        for index, (one, other) in enumerate(zip(ours, theirs, strict=True)):
            _assert_equal(one, other, f"{where}[{index}]")
    elif isinstance(ours, np.ndarray):
        assert ours.dtype == theirs.dtype, where
        assert np.array_equal(ours, theirs), where
    else:
        assert ours == theirs, where


@pytest.mark.parametrize(
    ("factories", "steps"),
    [
        (_counters(), 9),
        ([partial(gymnasium.make, "CartPole-v1", max_episode_steps=12)] * 3, 60),
        ([partial(gymnasium.make, "Pendulum-v1", max_episode_steps=4)] * 2, 14),
        ([DictWorld] * 3, 40),
    ],
    ids=["counters", "cartpole", "pendulum", "dict"],
)
def test_steps_are_those_of_gymnasium_in_same_step_mode(factories: list[Any], steps: int) -> None:
    theirs: Any = SyncVectorEnv(factories, autoreset_mode=AutoresetMode.SAME_STEP)
    ours = open_environments(factories)
    ours.action_space.seed(1)
    observations, infos = ours.reset(seed=5)
    their_observations, their_infos = theirs.reset(seed=5)
    _assert_equal(observations, their_observations)
    _assert_equal(infos, their_infos)
    ended = 0
    for _ in range(steps):
        action = ours.action_space.sample()
        *step, infos = ours.step(action)
        *their_step, their_infos = theirs.step(action)
        for one, other in zip(step, their_step, strict=True):
            _assert_equal(one, other)
        assert infos.pop("present").all()
        if "final_info" in infos:  # has what gymnasium's has, and the statistics of the episode
            episode, mask = infos["final_info"].pop("episode"), infos["final_info"].pop("_episode")
            assert mask.tolist() == infos["_final_obs"].tolist() == (step[2] | step[3]).tolist()
            assert (episode["l"][mask] > 0).all()
            ended += int(mask.sum())
        _assert_equal(infos, their_infos)
    assert ended > 3
    ours.close()


@pytest.mark.parametrize("reuses", [False, True], ids=["fresh", "reused"])
def test_what_was_handed_out_does_not_change(reuses: bool) -> None:
    """Some simulators write every observation and every info into the same memory."""
    batch = open_environments(_counters(reuses=reuses))
    given: list[Any] = list(batch.reset_slots())
    expected: list[Any] = [[[0, 0, 0], [1, 0, 0]]]
    steps = []
    for _ in range(5):
        steps.append(batch.step_slots(ZEROS))
    assert given[0].tolist() == expected[0]
    assert [info["t"] for info in given[1]] == [0, 0]
    assert [step.observations[0].tolist() for step in steps] == [[0, 0, 1], [0, 0, 2], [0, 1, 0], [0, 1, 1], [0, 2, 0]]
    assert [step.observations[1].tolist() for step in steps] == [[1, 0, 1], [1, 1, 0], [1, 1, 1], [1, 2, 0], [1, 2, 1]]
    finals = [{slot: final.tolist() for slot, final in step.final_observations.items()} for step in steps]
    assert finals == [{}, {1: [1, 0, 2]}, {0: [0, 0, 3]}, {1: [1, 1, 2]}, {0: [0, 1, 2]}]
    assert [[info["t"] for info in step.infos] for step in steps] == [[1, 1], [2, 2], [3, 1], [1, 2], [2, 1]]
    assert [{slot: info["t"] for slot, info in step.reset_infos.items()} for step in steps] == [
        {},
        {1: 0},
        {0: 0},
        {1: 0},
        {0: 0},
    ]
    if reuses:
        assert [[info["nested"]["t"][0] for info in step.infos] for step in steps][:3] == [[1, 1], [2, 2], [3, 1]]
    assert [step.terminated.tolist() for step in steps][1:3] == [[False, False], [True, False]]
    assert [step.truncated.tolist() for step in steps][1:3] == [[False, True], [False, False]]
    episodes = [info["episode"] for step in steps for info in step.infos if "episode" in info]
    assert [(episode["r"], episode["l"]) for episode in episodes] == [(3.0, 2), (6.0, 3), (3.0, 2), (3.0, 2)]
    assert all(episode["t"] >= 0 for episode in episodes)


def test_infos_of_the_environment_are_not_written_to() -> None:
    environment = Counter(lengths=(1,), reuses=True)
    batch = open_environments(environment)
    batch.reset_slots()
    step = batch.step_slots(ZEROS[:1])
    assert "episode" in step.infos[0]
    assert environment._info.keys() == {"t", "nested"}


def test_seeds() -> None:
    class Seeded(Counter):
        def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
            self.seed = seed
            return super().reset(seed=seed, options=options)

    batch = open_environments([Seeded() for _ in range(3)])
    for given, expected in [
        (None, [None, None, None]),
        (4, [4, 5, 6]),
        (np.int64(4), [4, 5, 6]),
        ([3, None, 1], [3, None, 1]),
    ]:
        batch.reset_slots(given, options={"hard": True})
        assert batch.call_slots("seed") == expected
        assert batch.call_slots("options") == [{"hard": True}] * 3
    with pytest.raises(ArgumentError, match="3 slots need as many seeds"):
        batch.reset_slots([1, 2])


def test_a_reset_in_mid_episode_begins_its_sums_anew() -> None:
    batch = open_environments(_counters())
    batch.reset_slots()
    batch.step_slots(ZEROS)
    batch.reset_slots()
    assert batch.step_count == 0
    batch.step_slots(ZEROS)
    step = batch.step_slots(ZEROS)
    assert step.infos[1]["episode"]["r"] == 3.0
    assert step.infos[1]["episode"]["l"] == 2


BAD = [np.nan, np.inf, -np.inf]


@pytest.mark.parametrize("value", BAD)
@pytest.mark.parametrize(
    ("where", "step"),
    [((0, 0), 0), ((0, 1), 1), ((0, 3), 3), ((1, 0), 3), ((1, 2), 5)],
    ids=["reset", "step", "final", "autoreset", "later"],
)
def test_observations_must_be_finite(where: tuple[int, int], step: int, value: float) -> None:
    batch = open_environments([Counter(), Counter(1.0, not_finite={where: value})])

    def run() -> None:
        batch.reset_slots()
        while batch.step_count < 9:
            batch.step_slots(ZEROS)

    with pytest.raises(NonFiniteError, match=f"environment 1 .* non-finite observation at step {step}: ") as caught:
        run()
    error = caught.value
    assert (error.kind, error.environment_index, error.step) == ("observation", 1, step)
    assert str(value).lstrip("-") in str(error)


@pytest.mark.parametrize("value", BAD)
def test_rewards_must_be_finite(value: float) -> None:
    batch = open_environments([Counter(), Counter(), Counter(bad_reward={(1, 2): value})])
    batch.reset_slots()
    for _ in range(4):
        batch.step_slots(np.zeros(3, np.int64))
    with pytest.raises(NonFiniteError, match=r"environment 2 .* non-finite reward at step 5: ") as caught:
        batch.step_slots(np.zeros(3, np.int64))
    assert (caught.value.kind, caught.value.step) == ("reward", 5)
    assert caught.value.value == pytest.approx(value, nan_ok=True)


class Nested(gymnasium.Env[Any, Any]):
    """Observes a dictionary in a tuple in a dictionary; the end of its first episode is not a number."""

    def __init__(self, value: float = np.nan) -> None:
        pair = spaces.Tuple((spaces.Discrete(3), spaces.Dict({"deep": spaces.Box(-9, 9, (2,), np.float64)})))
        self.observation_space = spaces.Dict({"pair": pair, "flag": spaces.MultiBinary(2)})
        self.action_space = spaces.Discrete(2)
        self.value = value
        self.buffer = np.zeros(2)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        self.buffer[:] = 0
        return {"pair": (1, {"deep": self.buffer}), "flag": np.ones(2, np.int8)}, {}

    def step(self, action: Any) -> Any:
        self.buffer[:] = self.value
        return {"pair": (2, {"deep": self.buffer}), "flag": np.ones(2, np.int8)}, 0.0, True, False, {}


def test_nested_observations() -> None:
    batch = open_environments([Nested(), Nested(4.0)])
    batch.reset_slots()
    with pytest.raises(NonFiniteError, match=r"environment 0 .* non-finite observation at step 1"):
        batch.step_slots(ZEROS)
    batch = open_environments([Nested(3.0), Nested(4.0)])
    batch.reset_slots()
    step = batch.step_slots(ZEROS)
    assert step.observations in batch.observation_space
    assert step.observations["pair"][1]["deep"].tolist() == [[0, 0], [0, 0]]
    finals = [step.final_observations[index] for index in range(2)]
    assert [final["pair"][1]["deep"].tolist() for final in finals] == [[3, 3], [4, 4]]
    assert all(final in batch.single_observation_space for final in finals)


def test_integers_are_not_searched(monkeypatch: pytest.MonkeyPatch) -> None:
    """Looking for NaN in every picture would cost and could find nothing."""

    def refuse(self: BatchedEnvironment, observation: Any, index: int) -> None:
        raise AssertionError("searched")

    class Integers(Counter):
        def __init__(self) -> None:
            super().__init__()
            image = spaces.Box(0, 255, (3,), np.uint8)
            self.observation_space = spaces.Dict({"image": image, "number": spaces.Discrete(9)})

        def _observe(self) -> Any:
            return {"image": np.zeros(3, np.uint8), "number": 3}

    monkeypatch.setattr(BatchedEnvironment, "_check_observation", refuse)
    batch = open_environments([Integers(), Integers()])
    batch.reset_slots()
    for _ in range(4):
        batch.step_slots(ZEROS)


def test_structured_actions_reach_their_slots() -> None:
    class Told(Counter):
        def __init__(self) -> None:
            super().__init__()
            self.action_space = spaces.Dict({"gear": spaces.Discrete(5), "force": spaces.Box(-1, 1, (2,))})

        def step(self, action: Any) -> Any:
            self.told = action
            return super().step(action)

    batch = open_environments([Told(), Told()])
    batch.reset_slots()
    batch.step_slots({"gear": np.array([3, 4]), "force": np.array([[0.1, 0.2], [0.3, 0.4]], np.float32)})
    told = batch.call_slots("told")
    assert [action["gear"] for action in told] == [3, 4]
    assert told[1]["force"].tolist() == pytest.approx([0.3, 0.4])


def test_a_batch_that_nobody_closes_closes_nothing() -> None:
    environment = Counter()
    batch = open_environments(lambda: environment)
    del batch
    assert environment.closed == 0


def test_step_has_every_field() -> None:
    batch = open_environments(_counters())
    batch.reset_slots()
    step = batch.step_slots(ZEROS)
    assert isinstance(step, SlotStep)
    assert step.rewards.dtype == np.float64
    assert [mask.dtype for mask in (step.terminated, step.truncated, step.acted, step.present)] == [np.bool_] * 4
    assert step.acted.all()
    assert step.present.all()
    assert batch.seconds_stepping > 0
    assert batch.step_count == 1
