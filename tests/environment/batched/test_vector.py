"""A `VectorEnv` of any autoreset mode gives the transitions that single environments give, and processes behave."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Iterator
from functools import partial
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.envs.classic_control.cartpole import CartPoleVectorEnv
from gymnasium.vector import AsyncVectorEnv, AutoresetMode, SyncVectorEnv, VectorEnv, VectorWrapper
from gymnasium.wrappers import TransformReward
from gymnasium.wrappers.vector import NormalizeObservation, RecordEpisodeStatistics
from tests.environment.toys import Counter, DictWorld

from rl_framework.environment import BatchedEnvironment, open_environments
from rl_framework.environment.batched.vector import autoreset_mode, split_infos
from rl_framework.errors import EnvironmentSourceError, SpaceMismatchError

Transition = tuple[Any, int, float, bool, bool, Any]


def _key(observation: Any) -> Any:
    if isinstance(observation, dict):
        return tuple((key, _key(value)) for key, value in sorted(observation.items()))
    return tuple(np.asarray(observation).ravel().tolist())


def _action(observation: Any) -> int:
    """An action that depends on nothing but the observation, so that streams can be compared whatever their pace."""
    return int(np.asarray(observation, np.float64).sum() * 1e6) % 2


def _transitions(batch: BatchedEnvironment, steps: int, seed: int = 3) -> tuple[list[list[Transition]], list[int]]:
    """Steps a batch, and returns each slot's real transitions and how often it was absent."""
    observations, _ = batch.reset_slots(seed)
    found: list[list[Transition]] = [[] for _ in range(batch.num_envs)]
    absent = [0] * batch.num_envs
    for _ in range(steps):
        actions = np.array([_action(observation) for observation in observations])
        present = batch.present.copy()
        step = batch.step_slots(actions)
        assert step.acted.tolist() == present.tolist()
        assert step.present.tolist() == batch.present.tolist()
        for index in range(batch.num_envs):
            if not step.acted[index]:
                absent[index] += 1
                assert not step.terminated[index]
                assert not step.truncated[index]
                assert step.rewards[index] == 0
                assert "episode" not in step.infos[index]
                continue
            ended = bool(step.terminated[index] or step.truncated[index])
            assert ended == (index in step.final_observations) == ("episode" in step.infos[index])
            after = step.final_observations[index] if ended else step.observations[index]
            found[index].append(
                (
                    _key(observations[index]),
                    int(actions[index]),
                    float(step.rewards[index]),
                    bool(step.terminated[index]),
                    bool(step.truncated[index]),
                    _key(after),
                )
            )
        observations = step.observations
    return found, absent


def _ends(transitions: list[Transition]) -> int:
    return sum(terminated or truncated for _, _, _, terminated, truncated, _ in transitions)


def _make() -> gymnasium.Env[Any, Any]:
    return gymnasium.make("CartPole-v1", max_episode_steps=14)


@pytest.mark.parametrize(
    ("mode", "wrap", "may_be_absent"),
    [
        (AutoresetMode.SAME_STEP, None, False),
        (AutoresetMode.DISABLED, None, False),
        (AutoresetMode.NEXT_STEP, None, False),
        (AutoresetMode.NEXT_STEP, VectorWrapper, True),
        (AutoresetMode.NEXT_STEP, RecordEpisodeStatistics, True),
        (AutoresetMode.SAME_STEP, RecordEpisodeStatistics, False),
    ],
)
def test_transitions_are_those_of_single_environments(mode: AutoresetMode, wrap: Any, may_be_absent: bool) -> None:
    singles, _ = _transitions(open_environments(_make, 3), 60)
    vector: Any = SyncVectorEnv([_make] * 3, autoreset_mode=mode)
    batch = open_environments(vector if wrap is None else wrap(vector))
    assert batch.metadata["autoreset_mode"] is AutoresetMode.SAME_STEP
    assert batch.may_be_absent == may_be_absent
    found, absent = _transitions(batch, 60)
    for index in range(3):
        assert _ends(found[index]) >= 3
        assert any(truncated for *_, truncated, _ in found[index]) or any(
            terminated for _, _, _, terminated, _, _ in found[index]
        )
        assert found[index] == singles[index][: len(found[index])]
        if not may_be_absent:
            assert absent[index] == 0
            assert len(found[index]) == 60
        else:  # the end of an episode in the very last step has its reset still before it
            assert absent[index] == _ends(found[index]) - (not batch.present[index])
            assert len(found[index]) == 60 - absent[index]


def test_native_next_step_environment() -> None:
    vector = CartPoleVectorEnv(4, max_episode_steps=14)
    batch = open_environments(vector)
    assert batch.may_be_absent
    found, absent = _transitions(batch, 80)
    simulator = gymnasium.make("CartPole-v1").unwrapped
    for index, transitions in enumerate(found):
        ends = _ends(transitions)
        assert ends >= 4
        assert absent[index] == ends - (not batch.present[index])
        following = None
        for before, action, reward, terminated, truncated, after in transitions:
            if following is not None:
                assert before == following
            else:
                assert all(abs(value) <= 0.05 for value in before), "an episode begins at rest"
            following = None if terminated or truncated else after
            assert reward == 1.0
            simulator.reset()
            simulator.state = np.array(before)  # type: ignore[attr-defined]
            expected, _, expected_end, _, _ = simulator.step(action)
            assert after == pytest.approx(tuple(expected), abs=1e-5)
            assert terminated == expected_end


def test_native_environment_counts_returns_and_lengths_of_real_steps() -> None:
    batch = open_environments("CartPole-v1", 2, {"max_episode_steps": 5}, vectorization="native")
    batch.reset_slots(0)
    episodes = []
    for _ in range(18):
        step = batch.step_slots(np.array([0, 1]) if batch.step_count % 2 else np.array([1, 0]))
        episodes += [info["episode"] for info in step.infos if "episode" in info]
    assert [(episode["r"], episode["l"]) for episode in episodes] == [(5.0, 5)] * 6


def test_a_wrapper_that_refuses_to_reset_single_slots() -> None:
    batch = open_environments(NormalizeObservation(SyncVectorEnv([partial(Counter, lengths=(2,))] * 2)))
    batch.reset_slots(0)
    acted = [batch.step_slots(np.zeros(2, np.int64)).acted.tolist() for _ in range(6)]
    assert acted == [[True, True], [True, True], [False, False]] * 2


class Careless(VectorEnv[Any, Any, Any]):
    """A native environment that uses the same arrays again and pays and ends even in the step that resets."""

    def __init__(self, mode: Any = AutoresetMode.NEXT_STEP) -> None:
        self.metadata = {} if mode is None else {"autoreset_mode": mode}
        self.num_envs = 2
        self.single_observation_space = spaces.Box(-np.inf, np.inf, (1,), np.float32)
        self.single_action_space = spaces.Discrete(2)
        self.observation_space = spaces.Box(-np.inf, np.inf, (2, 1), np.float32)
        self.action_space = spaces.MultiDiscrete([2, 2])
        self.t = np.zeros((2, 1), np.float32)
        self.rewards = np.zeros(2, np.float32)
        self.flags = np.zeros(2, np.bool_)
        self.noted = np.zeros((2, 1), np.float32)
        self.level = 1

    def reset(self, *, seed: Any = None, options: Any = None) -> Any:
        self.seeds = seed
        self.t[:] = 0
        return self.t, {"name": "ab", "noted": self.noted}

    def step(self, actions: Any) -> Any:
        over = self.t[:, 0] == 2
        self.t += 1
        self.t[over] = 0
        self.rewards[:] = np.where(over, 7, 1)
        self.flags[:] = (self.t[:, 0] == 2) | over
        self.noted[:] = self.t
        return self.t, self.rewards, self.flags, np.zeros(2, np.bool_), {"name": "ab", "noted": self.noted}

    def twice(self, value: int) -> int:
        return 2 * value


def test_a_careless_native_environment_cannot_change_what_was_given() -> None:
    batch = open_environments(Careless())
    given = [batch.reset_slots(0)[0]]
    steps = [batch.step_slots(np.zeros(2, np.int64)) for _ in range(5)]
    given += [step.observations for step in steps]
    assert [observation[0, 0] for observation in given] == [0, 1, 2, 0, 1, 2]
    assert [step.final_observations[0][0] for step in steps if step.final_observations] == [2, 2]
    assert [bool(step.acted[0]) for step in steps] == [True, True, False, True, True]
    assert [bool(step.terminated[0]) for step in steps] == [False, True, False, False, True]
    assert [step.rewards[0] for step in steps] == [1, 1, 0, 1, 1]
    assert [step.infos[0]["noted"][0] for step in steps] == [1, 2, 0, 1, 2]
    assert {step.infos[1]["name"] for step in steps} == {"ab"}
    assert steps[4].infos[0]["episode"]["l"] == 2
    assert batch.call_slots("twice", 3) == [6, 6]
    assert batch.get_slots("level", [1]) == [1]
    with pytest.raises(AttributeError, match="all slots at once"):
        batch.call_slots("twice", 3, indices=[0])


def test_native_environments_get_one_seed() -> None:
    vector = Careless()
    batch = open_environments(vector)
    for given, passed in [(4, 4), (None, None), ([4, 5], 4), ([4, 4], [4, 4])]:
        batch.reset_slots(given)
        assert vector.seeds == passed


@pytest.mark.parametrize("mode", [None, "whenever"])
def test_an_unknown_autoreset_mode_is_refused(mode: Any) -> None:
    with pytest.raises(EnvironmentSourceError, match="does not say how it starts the next episode"):
        open_environments(Careless(mode))


def test_autoreset_mode_is_the_environments_own() -> None:
    """gymnasium writes it into a dictionary that all environments of a class share."""
    first = SyncVectorEnv([Counter], autoreset_mode=AutoresetMode.SAME_STEP)
    second = SyncVectorEnv([Counter], autoreset_mode=AutoresetMode.DISABLED)
    assert first.metadata is second.metadata
    assert autoreset_mode(first) is AutoresetMode.SAME_STEP
    assert autoreset_mode(VectorWrapper(second)) is AutoresetMode.DISABLED
    assert autoreset_mode(Careless("NextStep")) is AutoresetMode.NEXT_STEP


def test_infos_of_slots() -> None:
    merged = {
        "x": np.array([1, 0, 3]),
        "_x": np.array([True, False, True]),
        "nested": {"y": np.array([0.0, 2.0, 0.0]), "_y": np.array([False, True, False])},
        "_nested": np.array([False, True, True]),
        "all": np.array([[1, 2], [3, 4], [5, 6]]),
        "text": "abc",
        "short": [1, 2],
        "_private": 5,
    }
    slots = split_infos(merged, 3)
    assert slots[0].keys() == {"x", "all", "text", "short", "_private"}
    assert slots[1]["nested"] == {"y": 2.0}
    assert slots[2]["nested"] == {}
    assert [slot["text"] for slot in slots] == ["abc"] * 3
    assert [slot["short"] for slot in slots] == [[1, 2]] * 3
    assert slots[2]["all"].tolist() == [5, 6]
    merged["all"][:] = 0  # type: ignore[index]
    assert slots[2]["all"].tolist() == [5, 6]


def test_tuple_observations_of_a_same_step_environment() -> None:
    class Pair(Counter):
        def __init__(self) -> None:
            super().__init__(lengths=(2,))
            self.observation_space = spaces.Tuple((spaces.Box(-9, 9, (2,), np.float32), spaces.Discrete(9)))

        def _observe(self) -> Any:
            return np.full(2, self.t, np.float32), self.t

    batch = open_environments(SyncVectorEnv([Pair, Pair], autoreset_mode=AutoresetMode.SAME_STEP))
    batch.reset_slots()
    batch.step_slots(np.zeros(2, np.int64))
    final = batch.step_slots(np.zeros(2, np.int64)).final_observations[1]
    assert final[0].tolist() == [2, 2]
    assert final[1] == 2


def test_attributes_of_a_sync_vector_environment() -> None:
    batch = open_environments(SyncVectorEnv([partial(Counter, 1.0), partial(Counter, 2.0)]))
    assert batch.call_slots("add", 10, other=5) == [16.0, 17.0]
    assert batch.call_slots("add", 10, indices=[1]) == [12.0]
    assert batch.get_slots("add", [1])[0](1) == 3.0
    batch.set_slots("lengths", (7, 8), [0])
    assert batch.get_slots("lengths") == [(7, 8), (3,)]
    batch.set_slots("lengths", (1, 2))
    assert batch.get_slots("lengths") == [(1, 2), (1, 2)]


# Processes: each costs most of a second to start, so that a few hold many tests.


class Telling(Counter):
    """Has infos that cannot be merged into arrays, and methods that go wrong."""

    def _tell(self) -> dict[str, Any]:
        mixed: Any = self.t if self.number == 1 else f"t{self.t}"
        return {**super()._tell(), "mixed": mixed, "ragged": np.arange(self.t + int(self.number)), "list": [self.t]}

    def fail(self) -> None:
        raise LookupError("on purpose")

    def fail_strangely(self) -> None:
        class Strange(Exception):  # noqa: N818
            def __init__(self, one: int, two: int) -> None:
                super().__init__(f"{one} and {two}")

        raise Strange(1, 2)

    def unsendable(self) -> Any:
        return lambda: None


def _telling(number: float) -> gymnasium.Env[Any, Any]:
    return TransformReward(Telling(number, (3, 2), reuses=True), lambda reward: -reward)


@pytest.fixture(scope="module")
def workers() -> Iterator[BatchedEnvironment]:
    batch = open_environments([partial(_telling, 1.0), partial(_telling, 2.0)], vectorization="subprocess")
    yield batch
    batch.close()


def _flat(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return (str(value.dtype), value.tolist())
    if isinstance(value, dict):
        return {key: _flat(part) for key, part in value.items() if key != "episode"}
    return (type(value).__name__, value)


def test_processes_give_what_one_process_gives(workers: BatchedEnvironment) -> None:
    inside = open_environments([partial(_telling, 1.0), partial(_telling, 2.0)])
    assert (workers.vectorization, workers.vectorization_reason) == ("subprocess", "asked for")
    # Both may have run before: their episodes are numbered, and of two lengths in turn.
    for batch in (workers, inside):
        batch.set_slots("episode", -1)
    given = [batch.reset_slots(4) for batch in (inside, workers)]
    assert _flat(given[0][0]) == _flat(given[1][0])
    assert list(map(_flat, given[0][1])) == list(map(_flat, given[1][1]))
    for _ in range(8):
        one, other = (batch.step_slots(np.zeros(2, np.int64)) for batch in (inside, workers))
        for name in ("observations", "rewards", "terminated", "truncated", "acted", "present"):
            assert _flat(getattr(one, name)) == _flat(getattr(other, name)), name
        assert list(map(_flat, one.infos)) == list(map(_flat, other.infos))
        for name in ("final_observations", "reset_infos"):
            assert _flat(getattr(one, name)) == _flat(getattr(other, name)), name
        for info, other_info in zip(one.infos, other.infos, strict=True):
            assert ("episode" in info) == ("episode" in other_info)
            if "episode" in info:
                assert info["episode"]["r"] == other_info["episode"]["r"] in (6.0, 3.0)
                assert info["episode"]["l"] == other_info["episode"]["l"]


def test_processes_can_be_asked_one_by_one(workers: BatchedEnvironment) -> None:
    assert workers.call_slots("add", 10, other=5) == [16.0, 17.0]
    assert workers.call_slots("add", 10, indices=[1]) == [12.0]
    assert workers.get_slots("number") == [1.0, 2.0]
    assert workers.get_slots("add", [1])[0](1) == 3.0
    workers.set_slots("level", [1, 2])
    assert workers.get_slots("level") == [[1, 2], [1, 2]]
    workers.set_slots("level", 5, [0])
    assert workers.get_slots("level", [1, 0]) == [[1, 2], 5]
    assert [frame[0, 0, 0] for frame in workers.render_slots()] == [1, 2]


def test_processes_survive_a_wrong_question(workers: BatchedEnvironment) -> None:
    for name in ("nothing_of_that_name", "fail", "fail_strangely", "unsendable"):
        error = {"nothing_of_that_name": AttributeError, "fail": LookupError, "fail_strangely": RuntimeError}
        with pytest.raises(error.get(name, Exception)):
            workers.call_slots(name)
    with pytest.raises(RuntimeError, match="Strange: 1 and 2"):
        workers.call_slots("fail_strangely", indices=[1])
    workers.reset_slots()
    assert workers.step_slots(np.zeros(2, np.int64)).rewards.tolist() == [-1.0, -1.0]


def _processes(batch: BatchedEnvironment) -> list[Any]:
    return list(batch.environment.processes)  # type: ignore[attr-defined]


@pytest.mark.filterwarnings("ignore:.*ERROR")
def test_an_error_in_a_process_comes_back_and_leaves_no_process() -> None:
    before = set(multiprocessing.active_children())
    batch = open_environments([Counter, partial(Counter, fails_at=(0, 2))], vectorization="subprocess")
    batch.reset_slots()
    batch.step_slots(np.zeros(2, np.int64))
    with pytest.raises(ValueError, match="the toy broke"):
        batch.step_slots(np.zeros(2, np.int64))
    processes = _processes(batch)
    batch.close()
    assert not any(process.is_alive() for process in processes)
    assert set(multiprocessing.active_children()) <= before


def test_closing_returns_when_a_process_has_been_killed() -> None:
    batch = open_environments([Counter, Counter], vectorization="subprocess")
    batch.reset_slots()
    processes = _processes(batch)
    os.kill(processes[0].pid, signal.SIGKILL)
    processes[0].join()
    with pytest.raises((OSError, EOFError)):
        batch.step_slots(np.zeros(2, np.int64))
    batch.close()
    assert not any(process.is_alive() for process in processes)
    batch.close()


class Stuck(Counter):
    """Never comes back from its second step."""

    def step(self, action: Any) -> Any:
        if self.t == 1:
            signal.pause()
        return super().step(action)


def test_closing_returns_when_an_environment_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    batch: Any = open_environments([Counter, Stuck], vectorization="subprocess")
    batch.reset_slots()
    batch.step_slots(np.zeros(2, np.int64))
    batch.environment.step_async(np.zeros(2, np.int64))
    processes = _processes(batch)
    monkeypatch.setattr("rl_framework.environment.batched.workers._GRACE_SECONDS", 0.1)
    batch.close()
    assert not any(process.is_alive() for process in processes)


class MadeOnce:
    """Makes an environment in the main process, and fails in any other."""

    def __init__(self, ends: bool = False) -> None:
        self.process, self.ends = os.getpid(), ends

    def __call__(self) -> Any:
        if os.getpid() != self.process:
            if self.ends:
                os._exit(1)
            raise LookupError("not here")
        return Counter()


def test_a_process_that_cannot_make_its_environment() -> None:
    before = set(multiprocessing.active_children())
    with pytest.raises(LookupError, match="not here"):
        open_environments([Counter, MadeOnce()], vectorization="subprocess")
    assert set(multiprocessing.active_children()) <= before


def test_a_process_that_ends_while_it_makes_its_environment() -> None:
    before = set(multiprocessing.active_children())
    with pytest.raises(EnvironmentSourceError, match="a process ended while it made its environment"):
        open_environments([Counter, MadeOnce(ends=True)], vectorization="subprocess")
    assert set(multiprocessing.active_children()) <= before


def test_processes_need_equal_spaces() -> None:
    before = set(multiprocessing.active_children())
    with pytest.raises(SpaceMismatchError, match="observation spaces"):
        open_environments([Counter, DictWorld], vectorization="subprocess", argument="training_environments")
    assert set(multiprocessing.active_children()) <= before


def test_processes_need_something_that_can_be_made() -> None:
    with pytest.raises(ValueError, match="live in this process"):
        open_environments([Counter(), Counter], vectorization="subprocess")
    with pytest.raises(EnvironmentSourceError, match="CartPole"):
        open_environments("CartPol-v1", 2, vectorization="subprocess")


def test_async_vector_environment_of_the_caller() -> None:
    vector = AsyncVectorEnv([partial(Counter, 0.0, (3, 2)), partial(Counter, 1.0, (2,))], context="forkserver")
    try:
        batch = open_environments(vector)
        assert not batch.may_be_absent
        found, absent = _transitions(batch, 12)
        assert absent == [0, 0]
        assert found == _transitions(open_environments([Counter(0.0, (3, 2)), Counter(1.0, (2,))]), 12)[0]
        batch.close()
        assert not vector.closed
        assert vector.reset()[0].shape == (2, 3)
    finally:
        vector.close()
