"""The one small class for simulators that are no gymnasium environments, with one slot or several."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gymnasium import spaces
from tests.environment.toys import POISON, Counter, Crowd, CrowdAdapter, Simulator, SimulatorAdapter

from rl_framework import registry
from rl_framework.environment import SlotStep, open_environments
from rl_framework.environment.adapter import AdaptedSlots
from rl_framework.environment.sb3 import export_to_vec_env
from rl_framework.errors import ArgumentError, EnvironmentSourceError, RLFrameworkError, SpaceMismatchError


@pytest.fixture(autouse=True)
def _adapters(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry.environment_adapters, "_entries", dict(registry.environment_adapters._entries))
    monkeypatch.setattr(SimulatorAdapter, "made", [])
    registry.register_environment_adapter("toy_simulator", SimulatorAdapter)
    registry.register_environment_adapter("toy_crowd", CrowdAdapter)


def _steps(batch: Any, count: int) -> list[SlotStep]:
    return [batch.step_slots(np.arange(batch.num_envs) % 2) for _ in range(count)]


# One slot


@pytest.mark.parametrize(
    ("source", "count", "kwargs"),
    [
        (Simulator(offset=50), None, None),
        (partial(Simulator, 3, 50), 1, None),
        (Simulator, 1, {"offset": 50}),
        ("toy_simulator", None, {"offset": 50.0}),
        ("TOY_Simulator", 1, {"offset": 50.0}),
        ([Simulator(offset=50)], None, None),
    ],
    ids=["instance", "factory", "class", "name", "upper case", "list"],
)
def test_a_simulator_becomes_a_slot(source: Any, count: int | None, kwargs: Any) -> None:
    batch = open_environments(source, count, kwargs)
    observations, infos = batch.reset_slots(7)
    assert observations.tolist() == [[0.5]]
    assert infos == [{"seed": 7}]
    steps = _steps(batch, 4)
    assert [step.observations[0, 0] for step in steps] == [1.5, 2.5, 0.5, 1.5]
    assert steps[2].final_observations[0].tolist() == [3.5]
    assert steps[2].terminated.tolist() == [True]
    assert steps[2].infos[0]["episode"]["r"] == 3.0
    assert [adapter.simulator.orders for adapter in SimulatorAdapter.made] == [["left"] * 4]
    assert batch.vectorization == "sync"


def test_the_librarys_view_of_an_adapter() -> None:
    vec_env = export_to_vec_env(open_environments("toy_simulator", 2))
    vec_env.seed(1)
    assert vec_env.reset().tolist() == [[0], [0]]  # type: ignore[union-attr]
    assert [simulator.seeds for simulator in vec_env.get_attr("simulator")] == [[1], [2]]
    vec_env.set_attr("simulator", "another", 1)
    assert [adapter.simulator == "another" for adapter in SimulatorAdapter.made] == [False, True]  # type: ignore[comparison-overlap]
    assert not vec_env.has_attr("nothing_of_that_name")


def test_a_name_or_a_factory_makes_many() -> None:
    for source in ("toy_simulator", Simulator, partial(Simulator, offset=3.0)):
        batch = open_environments(source, 3)
        assert batch.num_envs == 3
    assert len({id(adapter.simulator) for adapter in SimulatorAdapter.made}) == 9
    mixed = open_environments([Simulator(), "toy_simulator", Simulator])
    assert mixed.num_envs == 3


def test_a_simulator_cannot_be_in_two_slots() -> None:
    simulator = Simulator()
    with pytest.raises(ArgumentError, match=r"n_environments=2: .*cannot be copied"):
        open_environments(simulator, 2)
    with pytest.raises(EnvironmentSourceError, match="more than once"):
        open_environments([simulator, simulator])
    assert simulator.closed == 0


def test_a_simulator_of_the_caller_is_not_closed() -> None:
    simulator = Simulator()
    for source in (simulator, [simulator]):
        open_environments(source).close()
        assert simulator.closed == 0
    for source in ("toy_simulator", Simulator):
        batch = open_environments(source)
        own = SimulatorAdapter.made[-1].simulator
        batch.close()
        batch.close()
        assert own.closed == 1


def test_arguments_go_to_setup() -> None:
    batch = open_environments(Simulator(offset=10), environment_kwargs={"length": 2})
    assert batch.num_envs == 1
    with pytest.raises(TypeError, match="no_such_argument"):
        open_environments("toy_simulator", environment_kwargs={"no_such_argument": 2})


def test_names_and_unknown_names() -> None:
    with pytest.raises(EnvironmentSourceError, match="toy_simulato"):
        open_environments("toy_simulato")
    with pytest.raises(ArgumentError, match="no vectorized form"):
        open_environments("toy_simulator", vectorization="native")
    with pytest.raises(EnvironmentSourceError, match="register an adapter"):
        open_environments(object())


def test_spaces_of_simulators_must_be_equal() -> None:
    with pytest.raises(SpaceMismatchError, match="environment 1 has observation_space"):
        open_environments(["toy_simulator", Counter])
    assert [adapter.simulator.closed for adapter in SimulatorAdapter.made] == [1]


class PathAdapter(SimulatorAdapter):
    @classmethod
    def accepts(cls, source: object) -> bool:
        return isinstance(source, Path)


def test_a_path_can_be_opened_several_times() -> None:
    registry.register_environment_adapter("toy_path", PathAdapter)
    batch = open_environments(Path("simulator.bin"), 2)
    assert batch.num_envs == 2
    batch.close()
    assert [adapter.simulator.closed for adapter in SimulatorAdapter.made] == [1, 1]


def test_a_simulator_in_a_process_of_its_own() -> None:
    # The registry of a process is its own: what crosses is the adapter class.
    batch = open_environments("toy_simulator", 2, {"offset": 50.0}, vectorization="subprocess")
    assert batch.reset_slots(3)[0].tolist() == [[0.5], [0.5]]
    steps = _steps(batch, 3)
    assert [step.observations[:, 0].tolist() for step in steps] == [[1.5, 1.5], [2.5, 2.5], [0.5, 0.5]]
    assert steps[2].final_observations[1].tolist() == [3.5]
    batch.close()


# Several slots


def test_agents_come_and_go() -> None:
    crowd = Crowd()
    batch = open_environments(crowd)
    assert isinstance(batch, AdaptedSlots)
    assert batch.may_be_absent
    assert (batch.vectorization, batch.num_envs) == ("adapter", 3)
    observations, infos = batch.reset_slots(4)
    assert batch.present.tolist() == [True, True, False]
    assert observations[2].tolist() == [POISON] * 3
    assert [info["seed"] for info in infos] == [4, 4, 4]
    real: dict[tuple[int, ...], str] = {}
    kinds = set()
    for _ in range(60):
        before, present = observations, batch.present.copy()
        step = batch.step_slots(np.zeros(3, np.int64))
        observations = step.observations
        assert step.acted.tolist() == present.tolist()
        assert step.present.tolist() == batch.present.tolist()
        for slot in range(3):
            ended = bool(step.terminated[slot] or step.truncated[slot])
            if not present[slot]:
                assert not ended
                assert step.rewards[slot] == 0
                continue
            number, episode, t = map(int, before[slot])
            real[number, episode, t] = "terminated" if step.terminated[slot] else "truncated" if ended else ""
            assert step.rewards[slot] == slot + t + 1
            after = step.final_observations[slot] if ended else observations[slot]
            assert after.tolist() == [slot, episode, t + 1]
            assert ended == ("episode" in step.infos[slot])
            if ended:
                assert step.infos[slot]["episode"]["l"] == t + 1
                kinds.add((bool(step.truncated[slot]), bool(step.present[slot]), slot in step.reset_infos))
            else:
                assert step.present[slot]
    assert real == crowd.transitions
    assert not crowd.refused, "nobody acts for an empty slot"
    # Cut with a successor, cut without (also those that left without a word), terminated with one, and without.
    assert kinds == {(True, True, True), (True, False, False), (False, True, True), (False, False, False)}


def test_several_worlds_side_by_side() -> None:
    crowds = [Crowd(2), Crowd(3)]
    batch = open_environments(crowds)
    assert batch.num_envs == 5
    observations, infos = batch.reset_slots(10)
    assert observations[:, 0].tolist() == [0, POISON, 0, 1, POISON]
    assert [info["seed"] for info in infos] == [10, 10, 12, 12, 12]
    for _ in range(20):
        step = batch.step_slots(np.zeros(5, np.int64))
        for slot, final in step.final_observations.items():
            assert final[0] == (0, 1, 0, 1, 2)[slot]
    assert batch.call_slots("who", greeting="n") == ["n2", "n2", "n3", "n3", "n3"]
    assert batch.call_slots("who", indices=[4, 0]) == ["3", "2"]
    assert batch.get_slots("n_slots", [1]) == [2]
    batch.set_slots("level", 3, [2])
    assert not hasattr(batch.adapters[0], "level")  # type: ignore[attr-defined]
    batch.close()
    assert [crowd.closed for crowd in crowds] == [0, 0]


def test_a_method_is_called_once_for_a_world() -> None:
    class Counting(CrowdAdapter):
        calls = 0

        def count(self) -> int:
            self.calls += 1
            return self.calls

    registry.register_environment_adapter("toy_counting", Counting)
    batch = open_environments("toy_counting", 2)
    assert batch.call_slots("count") == [1] * 6
    assert batch.call_slots("count", indices=[5]) == [2]
    assert batch.call_slots("count", indices=[0]) == [2]


@pytest.mark.parametrize(
    ("source", "count", "slots"),
    [("toy_crowd", 2, 6), (Crowd, 2, 6), (["toy_crowd", Crowd(2)], None, 5), ([Crowd, Crowd], 2, 6)],
)
def test_worlds_can_be_made(source: Any, count: int | None, slots: int) -> None:
    batch = open_environments(source, count)
    assert batch.num_envs == slots
    batch.reset_slots()
    _steps(batch, 5)
    crowds = batch.get_slots("crowd")
    batch.close()
    assert {crowd.closed for crowd in crowds} <= {0, 1}
    assert sum({id(crowd): crowd.closed for crowd in crowds}.values()) == (1 if slots == 5 else 2)


def test_worlds_that_do_not_fit_together() -> None:
    crowds = [Crowd(2, size=3), Crowd(2, size=4)]
    with pytest.raises(SpaceMismatchError, match="adapter 1 has other spaces than adapter 0"):
        open_environments(crowds)
    with pytest.raises(EnvironmentSourceError, match="some have several slots and some have one"):
        open_environments([crowds[0], "toy_simulator"])
    with pytest.raises(ArgumentError, match=r"n_environments=2: .*cannot be copied"):
        open_environments(crowds[0], 2)
    with pytest.raises(ArgumentError, match="needs at least one slot"):
        open_environments("toy_crowd", 1, {"n_slots": 0})
    assert [crowd.closed for crowd in crowds] == [0, 0]


def test_worlds_cannot_be_in_processes() -> None:
    with pytest.raises(ArgumentError, match="several slots in one world"):
        open_environments("toy_crowd", vectorization="subprocess")
    with pytest.raises(ArgumentError, match="live in this process"):
        open_environments(Crowd(), vectorization="subprocess")


def test_a_world_that_forgets_final_observations_is_told() -> None:
    class Forgetful(CrowdAdapter):
        def step(self, action: Any) -> SlotStep:
            step = super().step(action)
            step.final_observations = {}
            return step

    registry.register_environment_adapter("toy_forgetful", Forgetful)
    batch = open_environments("toy_forgetful")
    batch.reset_slots()
    with pytest.raises(RLFrameworkError, match="began the next episode of slot 0 without the final observation"):
        _steps(batch, 9)


def test_infos_of_a_world_stay_as_they_were() -> None:
    class Reusing(CrowdAdapter):
        def setup(self, source: Any, n_slots: int = 3) -> None:
            super().setup(source, n_slots)
            self.infos: list[dict[str, Any]] = [{"many": np.zeros(1)} for _ in range(3)]
            self.count = 0

        def step(self, action: Any) -> SlotStep:
            step = super().step(action)
            self.count += 1
            for info in self.infos:
                info["count"] = self.count
                info["many"][:] = self.count
            step.infos = self.infos
            return step

    registry.register_environment_adapter("toy_reusing", Reusing)
    vec_env = export_to_vec_env(open_environments("toy_reusing"))
    vec_env.reset()
    infos = [vec_env.step(np.zeros(3, np.int64))[3] for _ in range(6)]
    assert [[info["count"] for info in step] for step in infos] == [[count] * 3 for count in range(1, 7)]
    assert [step[0]["many"][0] for step in infos] == [1, 2, 3, 4, 5, 6]
    assert all(("episode" in info) == ("terminal_observation" in info) for step in infos for info in step)


def test_spaces_of_an_adapter_are_kept() -> None:
    batch = open_environments(Crowd())
    assert batch.single_observation_space == spaces.Box(-2000, 2000, (3,), np.float32)
    assert batch.single_action_space == spaces.Discrete(2)
