"""Several agents learning in one world at the same time, each by its own algorithm."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from typing import Any

import numpy as np

from rl_framework.agent.base_agent import Agent
from rl_framework.agent.multi_agent.group_training import GroupTraining
from rl_framework.agent.multi_agent.rendezvous import Loop, Want
from rl_framework.agent.reinforcement.library.listener import StopTraining
from rl_framework.agent.trainable_agent import TrainableAgent
from rl_framework.environment.acting import choose_actions
from rl_framework.environment.world.joint import GroupSlots, JointEnvironment
from rl_framework.errors import RLFrameworkError
from rl_framework.seeding import derive_seed
from rl_framework.training import EpisodeEnded, Training

__all__ = ["LearningTogether"]


class _Acting:
    """An agent that acts without learning: a frozen one, or one that has been trained enough."""

    def __init__(self, agent: Agent, group: GroupSlots) -> None:
        self._agent = agent
        self._group = group
        self._state: Any = None
        self._starts = np.ones(group.num_envs, dtype=np.bool_)

    def choose(self) -> Any:
        actions, self._state = choose_actions(
            self._agent, self._group, self._group.latest_observations, self._state, self._starts, deterministic=False
        )
        return actions

    def take_in(self, actions: Any) -> None:
        step = self._group.step_slots(actions)
        self._starts = step.terminated | step.truncated | ~step.acted
        if step.pending is not None:
            self._starts &= ~step.pending


class LearningTogether:
    """Runs the training loops of several agents in lockstep.

    A group's training ends with the rollout in which the training of all is over; until everybody's has, it goes on
    acting.

    Args:
        worlds: Where they act; each learning agent has been prepared for its group of it.
        training: Whom to report to.
        agents: The agent of each group.
        frozen: Groups that act and do not learn.
        count: Called after each step with how many timesteps have been made in all.
    """

    def __init__(
        self,
        worlds: JointEnvironment,
        training: Training,
        agents: Mapping[str, Agent],
        frozen: tuple[str, ...],
        count: Callable[[int], None],
    ) -> None:
        self._worlds = worlds
        self._training = training
        self._agents = agents
        self._count = count
        self._timestep = training.timestep
        self._begun = False
        self._account_is_due = False
        self._acting = {name: _Acting(agents[name], worlds.groups[name]) for name in frozen}
        self._loops = {name: self._loop(name) for name in agents if name not in frozen}

    def _loop(self, name: str) -> Loop:
        agent, group = self._agents[name], self._worlds.groups[name]
        assert isinstance(agent, TrainableAgent)  # checked by `MultiAgent`
        left = -(-(self._training.total_timesteps - self._timestep) // self._worlds.num_envs)
        seed = derive_seed(self._training.seed, "group", name)
        total = agent.num_timesteps + left * group.num_envs
        training = GroupTraining(name, agent, self._training, seed, total, self._is_over)

        def run() -> None:
            with suppress(StopTraining):
                agent.learn(group, training, [])

        loop = training.loop = Loop(name, run)
        return loop

    def _is_over(self) -> bool:
        return self._timestep >= self._training.total_timesteps

    def run(self) -> None:
        """Trains until all loops have ended.

        Raises:
            BaseException: What a loop, the world or a callback raised; all loops have ended then.
        """
        for name, loop in self._loops.items():
            self._worlds.groups[name].exchange = partial(_exchange, loop)
        try:
            for name, loop in self._loops.items():
                self._let(name, loop.start)
            while any(loop.want is not None for loop in self._loops.values()):
                self._move()
            self._account()
        finally:
            for name, loop in self._loops.items():
                loop.abandon()  # also one that Ctrl-C met before it wanted anything
                self._worlds.groups[name].exchange = _nothing

    def _let(self, name: str, call: Callable[[], None]) -> None:
        try:
            call()
        except Exception as error:
            error.add_note(f"while the group {name!r} was trained")
            raise
        if self._loops[name].want is None:
            self._worlds.groups[name].exchange = _nothing
            self._acting[name] = _Acting(self._agents[name], self._worlds.groups[name])

    def _move(self) -> None:
        """Lets those go on who can, when everybody waits."""
        self._account()
        waiting = {name: loop for name, loop in self._loops.items() if loop.want is not None}
        wants = {loop.want for loop in waiting.values()}
        if wants == {Want.BOUNDARY} and self._begun:
            self._training.boundary(self._timestep)
        for want in (Want.STEPPED, Want.BOUNDARY):
            if want in wants:
                self._let_go_on(waiting, want)
                return
        if Want.RESET in wants:
            refusal = self._begin(wants)
            self._let_go_on(waiting, Want.RESET, refusal)
            return
        self._step(waiting)
        self._let_go_on(waiting, Want.ACT)

    def _let_go_on(self, waiting: Mapping[str, Loop], want: Want, refusal: BaseException | None = None) -> None:
        for name, loop in waiting.items():
            if loop.want is want:
                self._let(name, partial(loop.go_on, refusal))

    def _begin(self, wants: set[Want | None]) -> BaseException | None:
        if self._begun or wants != {Want.RESET}:
            return RLFrameworkError(
                "its algorithm begins new episodes by itself, which an agent that shares a world with others cannot"
            )
        self._begun = True
        self._worlds.reset_slots()
        return None

    def _step(self, waiting: Mapping[str, Loop]) -> None:
        acting = {name: self._acting[name].choose() for name in self._agents if name not in waiting}
        self._worlds.advance({**{name: loop.given for name, loop in waiting.items()}, **acting})
        for name, actions in acting.items():
            self._acting[name].take_in(actions)
        self._timestep += self._worlds.num_envs
        self._count(self._timestep)
        self._account_is_due = True

    def _account(self) -> None:
        """Tells of the step when all groups have taken it in."""
        if not self._account_is_due:
            return
        self._account_is_due = False
        step = self._worlds.step_slots(None)
        for index in map(int, np.flatnonzero(step.terminated | step.truncated)):
            self._training.emit(EpisodeEnded.from_info(self._timestep, index, step.infos[index]))
        self._training.step(self._timestep)


def _exchange(loop: Loop, actions: Any) -> None:
    loop.ask(Want.RESET if actions is None else Want.ACT, actions)


def _nothing(actions: Any) -> None:
    """Nobody waits for this group."""
