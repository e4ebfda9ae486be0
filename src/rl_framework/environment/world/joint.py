"""Worlds with several groups of agents: each group as a batch of its own, and all of them as one."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from typing import Any

import numpy as np
from gymnasium import spaces
from gymnasium.vector.utils import batch_space
from numpy.typing import NDArray

from rl_framework.environment.adapter import AdaptedSlots, MultiSlotAdapter
from rl_framework.environment.batched.batch import RAW_RETURN_KEY, BatchedEnvironment, SlotStep
from rl_framework.environment.world.groups import AGENT_KEY, TEAM_KEY, Group, GroupedWorld
from rl_framework.errors import ArgumentError, SpaceMismatchError

__all__ = ["MEMBERS_KEY", "GroupSlots", "JointEnvironment", "by_world", "side_by_side"]

MEMBERS_KEY = "agent_episodes"
"""Entry of the last info of a world's episode: of each agent's episode in it `{"group", "agent", "r", "l"}`."""


class _Port(MultiSlotAdapter):
    """The slots of one group in one world, which others step."""

    def __init__(self, group: Group, world: GroupedWorld) -> None:
        self.n_slots = group.n_slots
        self.observation_space, self.action_space = group.observation_space, group.action_space
        self.metadata = dict(world.metadata)  # type: ignore[misc]  # each world has its own
        self.render_mode = world.render_mode
        self.agents = group.agents
        self.arrived: Any = None

    @classmethod
    def accepts(cls, source: object) -> bool:
        """Takes nothing: a port is made by `JointEnvironment`."""
        return False

    def setup(self, source: Any, **environment_kwargs: Any) -> None:
        """Does nothing: a port is ready."""

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        """Returns what the world has begun with."""
        return self.arrived

    def step(self, action: Any) -> SlotStep:
        """Returns what the world's step brought."""
        step: SlotStep = self.arrived
        return step


class GroupSlots(AdaptedSlots):
    """The slots of one group in all worlds.

    Args:
        name: Name of the group.
        ports: One for each world.

    Attributes:
        name: Name of the group.
        slots_per_world: How many of the slots are in one world.
        latest_step: What the last step brought.
        exchange: Called before the group's reset, with None, and before its step, with its actions; when it returns,
            the worlds have been reset or stepped. By default somebody else sees to that.
    """

    def __init__(self, name: str, ports: Sequence[_Port]) -> None:
        super().__init__(ports, [False] * len(ports), "environments")
        self.name = name
        self.exchange: Callable[[Any], None] = _nothing
        self.slots_per_world = ports[0].n_slots
        self.latest_step: SlotStep | None = None

    def choices(self, actions: Any) -> list[list[Any]]:
        """Divides batched actions into a list for each world, with None where nobody is asked."""
        single = self.split_actions(actions)
        count = self.slots_per_world
        chosen = [single[slot] if self.present[slot] else None for slot in range(self.num_envs)]
        return [chosen[start : start + count] for start in range(0, self.num_envs, count)]

    def _reset(self, seeds: list[int | None], options: dict[str, Any] | None) -> tuple[Any, list[dict[str, Any]]]:
        self.exchange(None)
        return super()._reset(seeds, options)

    def _step(self, actions: Any) -> SlotStep:
        self.exchange(actions)
        self.latest_step = super()._step(actions)
        return self.latest_step


@contextmanager
def _left_alone(group: GroupSlots) -> Iterator[None]:
    """Lets a group take what has arrived without asking anybody."""
    exchange, group.exchange = group.exchange, _nothing
    try:
        yield
    finally:
        group.exchange = exchange


def _nothing(actions: Any) -> None:
    """Somebody else steps the worlds."""


class JointEnvironment(BatchedEnvironment):
    """Several worlds side by side, one slot a world, for something that acts for everybody in them.

    An observation is a dict by group of the observations of the group's slots, stacked; an action likewise. A reward
    is the sum over all agents (what some agents got while they waited is paid when they are told). An episode is one of
    the whole world; where agents begin and end one by one, it ends with every end of an agent's episode.

    `step_slots(None)` does not step the worlds but takes in what their last step, by `advance`, has brought.

    Args:
        worlds: Worlds after `setup_groups`.
        owned: Which of them this batch closes when it is closed.
        argument: Name of the argument they came from, for errors.

    Attributes:
        worlds: The worlds.
        groups: The slots of each group.
        next_seed: Seeds the next reset that is not given any: world `i` with `next_seed + i`; None: not seeded.
    """

    def __init__(self, worlds: Sequence[GroupedWorld], owned: Sequence[bool], argument: str = "environments") -> None:
        first = worlds[0]
        for index, world in enumerate(worlds):
            if dict(world.groups) != dict(first.groups):
                raise SpaceMismatchError(argument, worlds, f"world {index} has other groups or spaces than world 0")
        self.worlds = list(worlds)
        self._owned = list(owned)
        self._ports = {name: [_Port(group, world) for world in worlds] for name, group in first.groups.items()}
        self.groups = {name: GroupSlots(name, ports) for name, ports in self._ports.items()}
        self.metadata, self.render_mode = dict(first.metadata), first.render_mode
        observation_space = spaces.Dict(
            {name: batch_space(group.observation_space, group.n_slots) for name, group in first.groups.items()}
        )
        action_space = spaces.Dict(
            {name: batch_space(group.action_space, group.n_slots) for name, group in first.groups.items()}
        )
        super().__init__(len(worlds), observation_space, action_space)
        self.vectorization, self.vectorization_reason = "adapter", "several groups of agents share a world"
        self.next_seed: int | None = None
        # Several worlds that wait for other processes are stepped at the same time.
        waits = len(worlds) > 1 and all(getattr(world, "waits", False) for world in worlds)
        self._threads = ThreadPoolExecutor(len(worlds), thread_name_prefix="world") if waits else None
        self._over = np.zeros(len(worlds), dtype=np.bool_)
        self._members: list[list[dict[str, Any]]] = [[] for _ in worlds]
        for name, group in self.groups.items():
            group.environment_id = f"{name} in a world of several groups"

    def advance(self, actions: Mapping[str, Any]) -> None:
        """Steps every world; each group then finds in its own step what that brought.

        Args:
            actions: Batched actions of each group.
        """
        chosen = {name: group.choices(actions[name]) for name, group in self.groups.items()}

        def advance(index: int) -> dict[str, SlotStep]:
            return self.worlds[index].step_groups({name: chosen[name][index] for name in self.groups})

        brought = (
            map(advance, range(self.num_envs))
            if self._threads is None
            else self._threads.map(advance, range(self.num_envs))
        )
        for index, (world, steps) in enumerate(zip(self.worlds, brought, strict=True)):
            for name, ports in self._ports.items():
                ports[index].arrived = steps[name]
            self._over[index] = bool(getattr(world, "episode_over", False))

    def _reset(self, seeds: list[int | None], options: dict[str, Any] | None) -> tuple[Any, list[dict[str, Any]]]:
        if self.next_seed is not None and all(seed is None for seed in seeds):
            seeds, self.next_seed = [self.next_seed + index for index in range(self.num_envs)], None
        self._members = [[] for _ in self.worlds]
        for index, world in enumerate(self.worlds):
            begun = world.reset_groups(seed=seeds[index], options=options)
            for name, ports in self._ports.items():
                ports[index].arrived = begun[name]
        observations = {}
        for name, group in self.groups.items():
            with _left_alone(group):
                observations[name] = by_world(group.reset_slots()[0], self.num_envs)
        return observations, [{} for _ in self.worlds]

    def _step(self, actions: Any) -> SlotStep:
        if actions is not None:
            by_slot = {name: side_by_side(actions[name]) for name in self.groups}
            self.advance(by_slot)
            for name, group in self.groups.items():
                group.step_slots(by_slot[name])
        return self._summed_up({name: group.latest_step for name, group in self.groups.items()})

    def _summed_up(self, steps: Mapping[str, Any]) -> SlotStep:
        """Returns one row for each world of what a step brought to all groups."""
        count = self.num_envs
        rewards = np.zeros(count)
        infos: list[dict[str, Any]] = [{} for _ in range(count)]
        over, cut = self._over.copy(), np.zeros(count, dtype=np.bool_)
        for name, step in steps.items():
            group = self.groups[name]
            rewards += np.where(step.acted, step.rewards, 0.0).reshape(count, -1).sum(axis=1)
            for slot in map(int, np.flatnonzero(step.acted & (step.terminated | step.truncated))):
                index, place = divmod(slot, group.slots_per_world)
                info = step.infos[slot]
                agent = info.get(AGENT_KEY, f"{name}_{place}")
                account = info["episode"]
                self._members[index].append({"group": name, "agent": agent, "r": account["r"], "l": account["l"]})
                over[index] |= getattr(self.worlds[index], "episode_over", None) is None
                cut[index] |= bool(step.truncated[slot])
            for slot in map(int, np.flatnonzero(step.acted)):
                if TEAM_KEY in step.infos[slot]:
                    infos[slot // group.slots_per_world][RAW_RETURN_KEY] = step.infos[slot][TEAM_KEY]["r"]
        for index in map(int, np.flatnonzero(over)):
            infos[index][MEMBERS_KEY], self._members[index] = self._members[index], []
        observations = {name: by_world(step.observations, count) for name, step in steps.items()}
        everybody = np.ones(count, dtype=np.bool_)
        summed = SlotStep(observations, rewards, over & ~cut, over & cut, infos, everybody, everybody)
        for index in map(int, np.flatnonzero(over)):
            summed.final_observations[index] = self.observation_of(observations, index)
        return summed

    def action_masks(self) -> Any:
        """Returns which actions are allowed now, by group: shape `(num_envs, n_slots, n_actions)`, bool.

        Raises:
            AttributeError: No group has masks.
        """
        masks = {}
        for name, group in self.groups.items():
            try:
                masks[name] = group.action_masks().reshape(self.num_envs, group.slots_per_world, -1)
            except AttributeError:
                continue
        if not masks:
            raise AttributeError("action_masks")
        return masks

    def render_slots(self) -> list[Any]:
        """Returns one frame a world."""
        return [world.render() for world in self.worlds]

    def get_slots(self, name: str, indices: Sequence[int] | None = None) -> list[Any]:
        """Reads an attribute of the worlds."""
        return [getattr(self.worlds[index], name) for index in (range(self.num_envs) if indices is None else indices)]

    def close_extras(self, **kwargs: Any) -> None:
        """Closes the worlds that were opened over nothing of the caller's."""
        with ExitStack() as closing:  # one that cannot be closed keeps no other from it
            if self._threads is not None:
                closing.callback(self._threads.shutdown)
            for world, owned in zip(self.worlds, self._owned, strict=True):
                if owned:
                    closing.callback(world.close)


def side_by_side(value: Any) -> Any:
    """Puts the slots of all worlds into one axis: `(worlds, slots, ...)` becomes `(worlds * slots, ...)`."""
    return _reshaped(value, lambda array: array.reshape(-1, *array.shape[2:]))


def by_world(value: Any, worlds: int) -> Any:
    """Divides the slots of a batch into worlds: `(worlds * slots, ...)` becomes `(worlds, slots, ...)`."""
    return _reshaped(value, lambda array: array.reshape(worlds, -1, *array.shape[1:]))


def _reshaped(value: Any, reshape: Callable[[NDArray[Any]], NDArray[Any]]) -> Any:
    if isinstance(value, Mapping):
        return {key: _reshaped(part, reshape) for key, part in value.items()}
    if isinstance(value, tuple):
        raise ArgumentError("environment", value, "spaces of tuples cannot be shared by several groups")
    return reshape(np.asarray(value))
