"""What was made here is closed when something fails, and one failure keeps nothing else open."""

from __future__ import annotations

import numpy as np
import pytest
from gymnasium import spaces
from tests.environment.toys import Counter

from rl_framework import registry
from rl_framework.environment import EnvironmentAdapter, MultiSlotAdapter, open_environments
from rl_framework.environment.adapter import AdaptedSlots
from rl_framework.environment.world.opening import open_worlds


class World:
    """Something that runs until it is closed."""

    def __init__(self):
        self.closed = 0

    def close(self):
        self.closed += 1


class Adapter(MultiSlotAdapter):
    """Fails in its setup; once it has not, it can be told to fail when it is closed."""

    waits = True
    made = ()

    @classmethod
    def accepts(cls, source):
        return isinstance(source, World)

    def setup(self, source, works=False):
        Adapter.made = (*Adapter.made, self)
        self.closings = 0
        self.world = World() if isinstance(source, str) else source
        if not works:
            raise ValueError("no such scene")
        self.n_slots = 1
        self.observation_space, self.action_space = spaces.Box(-1, 1, (1,)), spaces.Discrete(2)

    def setup_groups(self, source, names, works=False):
        self.setup(source, works)

    def reset(self, *, seed=None, options=None):
        return [np.zeros(1)], [{}], np.array([True])

    def step(self, action):
        raise NotImplementedError

    def close(self):
        self.closings += 1
        self.world.close()
        if getattr(self, "fails", False):
            raise OSError("it hangs")


@pytest.fixture(autouse=True)
def _adapter(monkeypatch):
    monkeypatch.setattr(registry.environment_adapters, "_entries", dict(registry.environment_adapters._entries))
    monkeypatch.setattr(Adapter, "made", ())
    registry.register_environment_adapter("world", Adapter)


def opened_by_door(source, **kwargs):
    return open_environments(source, environment_kwargs=kwargs or None)


def opened_as_groups(source, **kwargs):
    return open_worlds(source, {"all": None}, environment_kwargs=kwargs or None)


@pytest.mark.parametrize("opened", [opened_by_door, opened_as_groups])
def test_a_world_of_a_factory_is_closed_when_its_setup_fails(opened):
    worlds = []

    def make():
        worlds.append(World())
        return worlds[-1]

    with pytest.raises(ValueError, match="no such scene"):
        opened(make)
    assert [world.closed for world in worlds] == [1]


@pytest.mark.parametrize("opened", [opened_by_door, opened_as_groups])
def test_a_world_of_the_caller_is_not_closed_when_its_setup_fails(opened):
    world = World()
    with pytest.raises(ValueError, match="no such scene"):
        opened(world)
    assert world.closed == 0


@pytest.mark.parametrize("opened", [opened_by_door, opened_as_groups])
def test_an_adapter_that_was_named_is_closed_when_its_setup_fails(opened):
    with pytest.raises(ValueError, match="no such scene"):
        opened("world")
    assert [adapter.closings for adapter in Adapter.made] == [1]


def test_what_cannot_be_closed_either_is_noted():
    class Stuck(World):
        def close(self):
            raise OSError("it hangs")

    with pytest.raises(ValueError, match="no such scene") as caught:
        open_environments(Stuck)
    assert "it hangs" in caught.value.__notes__[0]


def test_what_is_no_environment_is_closed_too():
    made = []

    class Other(World):
        def __init__(self):
            super().__init__()
            made.append(self)

    registry.environment_adapters._entries.pop("world")
    with pytest.raises(ValueError, match="returned a Other"):
        open_environments(Other)
    assert made[0].closed == 1


def test_one_adapter_that_cannot_be_closed_keeps_no_other_open():
    adapters = [Adapter() for _ in range(3)]
    for adapter in adapters:
        adapter.setup(World(), works=True)
    adapters[1].fails = True
    batch = AdaptedSlots(adapters, [True] * 3)
    batch.reset_slots(0)
    threads = batch._threads
    with pytest.raises(OSError, match="it hangs"):
        batch.close()
    assert [adapter.closings for adapter in adapters] == [1, 1, 1]
    assert threads is not None
    assert threads._shutdown


def test_one_environment_that_cannot_be_closed_keeps_no_other_open():
    made = []

    class Stuck(Counter):
        def __init__(self):
            super().__init__()
            made.append(self)

        def close(self):
            super().close()
            if self is made[0]:
                raise OSError("it hangs")

    batch = open_environments(Stuck, 3)
    with pytest.raises(OSError, match="it hangs"):
        batch.close()
    assert [environment.closed for environment in made] == [1, 1, 1]


def test_a_single_adapter_is_closed_when_its_setup_fails():
    class Single(EnvironmentAdapter):
        closings = 0

        @classmethod
        def accepts(cls, source):
            return False

        def setup(self, source):
            raise ValueError("no such scene")

        def reset(self, *, seed=None, options=None):
            raise NotImplementedError

        def step(self, action):
            raise NotImplementedError

        def close(self):
            Single.closings += 1

    registry.register_environment_adapter("single", Single)
    with pytest.raises(ValueError, match="no such scene"):
        open_environments("single", 2)
    assert Single.closings == 1
