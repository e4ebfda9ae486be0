"""One scene in one player: its behaviours as groups of slots."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import version
from typing import Any

from rl_framework.environment.batched.batch import SlotStep
from rl_framework.environment.unity.connection import UnityConnection
from rl_framework.environment.unity.options import UnityOptions
from rl_framework.environment.unity.slots import BehaviorSlots
from rl_framework.environment.unity.spaces import BehaviorSpaces
from rl_framework.errors import (
    ArgumentError,
    EnvironmentSourceError,
    NonFiniteError,
    RLFrameworkError,
    SpaceMismatchError,
)

__all__ = ["UnityScene"]

_PATIENCE = 10_000
"""Messages of the player in a row in which nobody asks for an action."""


class UnityScene:
    """Speaks to one player about the behaviours that are trained.

    Agents of other behaviours get ML-Agents' empty action: zeros.

    Args:
        connection: To the player.
        options: Which behaviours, and how to translate them.

    Attributes:
        groups: What is trained, by the name of the group; set by `choose`.
        behavior_names: All that the scene has shown so far.
    """

    def __init__(self, connection: UnityConnection, options: UnityOptions) -> None:
        self.connection = connection
        self._options = options
        self._messages = 0
        self._statistics: dict[str, float] = {}
        self._behaviors: dict[str, BehaviorSlots] = {}
        self.groups: dict[str, BehaviorSlots] = {}
        connection.open()
        try:
            self._guarded_reset()
            while not self.behavior_names:
                self._exchange()
                if self._messages > _PATIENCE:
                    raise EnvironmentSourceError("file_name", options.file_name, "the scene has no agents that ask")
        except BaseException:
            connection.close(patience=0)
            raise

    @property
    def behavior_names(self) -> list[str]:
        """All behaviours that the scene has shown so far."""
        return sorted(self.connection.environment.behavior_specs)

    def choose(self, names: Mapping[str, str]) -> None:
        """Says which behaviours are trained.

        Args:
            names: Name of the behaviour for each name of a group; its "?team=0" can be left out.

        Raises:
            EnvironmentSourceError: The scene has no such behaviour, or several teams of that name.
            ArgumentError: Two groups have one behaviour.
        """
        behaviors = {group: self._find(name) for group, name in names.items()}
        if len(set(behaviors.values())) < len(names):
            raise ArgumentError("groups", behaviors, "two groups cannot share a behaviour")
        for name in behaviors.values():
            if name not in self._behaviors:
                specification = self.connection.environment.behavior_specs[name]
                spaces = BehaviorSpaces(name, specification, self._options)
                adds = self._options.group_rewards == "add"
                self._behaviors[name] = BehaviorSlots(spaces, self._count(name), adds)
        self.groups = {group: self._behaviors[name] for group, name in behaviors.items()}

    def _find(self, wanted: str) -> str:
        names = self.behavior_names
        found = [name for name in names if name == wanted] or [
            name for name in names if name.partition("?")[0] == wanted
        ]
        if len(found) != 1:
            problem = "several teams have a behaviour of that name" if found else "the scene has no such behaviour"
            listed = ", ".join(map(repr, names)) or "none"
            raise EnvironmentSourceError("behavior_name", wanted, problem, f"It has: {listed}.")
        return found[0]

    def _count(self, name: str) -> int:
        count = self._options.max_agents
        if isinstance(count, Mapping):
            count = count.get(name, count.get(name.partition("?")[0]))
        return int(count or max(1, len(self.connection.environment.get_steps(name)[0])))

    def reset_groups(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> dict[str, Any]:
        """Starts the scene anew.

        Args:
            seed: Ignored: a player takes its seed when it is started.
            options: `{"environment_parameters": {...}}` sends parameters of the scene before.

        Returns:
            By name of the group: observations, infos and the mask of who is present; see `MultiSlotAdapter.reset`.
        """
        if options and options.get("environment_parameters"):
            self.connection.set_parameters(dict(options["environment_parameters"]))
        self._guarded_reset()
        self._wait_for_questions()
        return {name: group.begin(self._steps(group)[0]) for name, group in self.groups.items()}

    def step_groups(self, actions: Mapping[str, list[Any]]) -> dict[str, SlotStep]:
        """Gives actions to those who asked, and lets the scene run until somebody asks again.

        Args:
            actions: By name of the group, one a slot; None where nobody asks.

        Returns:
            By name of the group, what came of it; see `MultiSlotAdapter.step`.

        Raises:
            RLFrameworkError: There are more agents than slots; nobody asks any more; the player dies again and again.
            NonFiniteError: An observation or a reward is NaN or infinite.
        """
        steps = {name: group.blank_step() for name, group in self.groups.items()}
        try:
            self._send(actions)
            for waited in range(_PATIENCE + 1):
                self._exchange()
                for name, group in self.groups.items():
                    group.take(steps[name], *self._steps(group))
                if any(group.is_anybody_asking for group in self.groups.values()):
                    break
                if waited == _PATIENCE:
                    raise RLFrameworkError(f"nobody in the scene has asked for an action for {_PATIENCE} messages")
        except self.connection.failures as error:
            self._recover(error, steps)
        self._tell_statistics(steps)
        return {name: group.finish(steps[name]) for name, group in self.groups.items()}

    def _send(self, actions: Mapping[str, list[Any]]) -> None:
        from mlagents_envs.base_env import ActionTuple

        for name, group in self.groups.items():
            if group.is_anybody_asking:
                continuous, discrete = group.translate(actions[name])
                self.connection.environment.set_actions(group.spaces.name, ActionTuple(continuous, discrete))

    def _exchange(self) -> None:
        try:
            with self._readable():
                self.connection.environment.step()
        except RuntimeError as error:
            if "provided had" not in str(error):  # the library's words for numbers that are not finite
                raise
            kind = "reward" if "reward" in str(error) else "observation"
            raise NonFiniteError(kind, 0, self._messages, str(error)) from error
        self._messages += 1
        self.connection.count_message()

    @contextmanager
    def _readable(self) -> Iterator[None]:
        """Says what to do about observations that the installed library cannot read.

        Raises:
            EnvironmentSourceError: There are some.
        """
        from mlagents_envs.exception import UnityObservationException

        try:
            yield
        except UnityObservationException as error:
            library = f"mlagents-envs {version('mlagents-envs')}"
            raise EnvironmentSourceError(
                "file_name",
                self._options.file_name,
                f"{library} cannot read what {self._options.described} observes: {error}",
                "Versions before 1.0 read images with their channels last, as ML-Agents 2 in Unity sends them, and "
                "later ones with their channels first, as ML-Agents 3 does: install the one that belongs to the scene.",
            ) from error

    def _guarded_reset(self) -> None:
        while True:
            try:
                with self._readable():
                    self.connection.environment.reset()
                return
            except self.connection.failures as error:
                self.connection.restart(error)

    def _wait_for_questions(self) -> None:
        for _ in range(_PATIENCE):
            if any(len(self._steps(group)[0]) for group in self.groups.values()):
                return
            try:
                self._exchange()
            except self.connection.failures as error:
                self.connection.restart(error)
                self._guarded_reset()
        raise RLFrameworkError(f"nobody in the scene has asked for an action for {_PATIENCE} messages after a reset")

    def _recover(self, error: BaseException, steps: dict[str, SlotStep]) -> None:
        for name, group in self.groups.items():
            group.cut(steps[name])
        self.connection.restart(error)
        self._guarded_reset()
        self._wait_for_questions()
        for name, group in self.groups.items():
            specification = self.connection.environment.behavior_specs.get(group.spaces.name)
            if specification is not None:
                spaces = BehaviorSpaces(group.spaces.name, specification, self._options)
                mine, its = (
                    (group.observation_space, group.action_space),
                    (spaces.observation_space, spaces.action_space),
                )
                if mine != its:
                    raise SpaceMismatchError(
                        "file_name", self._options.file_name, f"{name!r} now has {its}, not {mine}"
                    )
            group.begin_again(steps[name], self._steps(group)[0])

    def _steps(self, group: BehaviorSlots) -> Any:
        environment = self.connection.environment
        if group.spaces.name in environment.behavior_specs:
            return environment.get_steps(group.spaces.name)
        return _Nobody(), _Nobody()  # a new player has not shown the behaviour yet

    def _tell_statistics(self, steps: dict[str, SlotStep]) -> None:
        if self.connection.channels is None:
            return
        self._statistics |= self.connection.channels.take_statistics()
        if not self._statistics:
            return
        for step in steps.values():
            for slot, acted in enumerate(step.acted):
                if acted:  # once: they are of the scene, and not of every agent
                    step.infos[slot] |= {f"step_metric_{name}": value for name, value in self._statistics.items()}
                    self._statistics = {}
                    return

    def close(self) -> None:
        """Ends the player."""
        self.connection.close()


class _Nobody:
    """Stands for the steps of a behaviour without agents."""

    agent_id = ()

    def __len__(self) -> int:
        return 0
