"""Who is in which slot: ML-Agents' agents come and go under new numbers, and ask when they like."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rl_framework.environment.batched.batch import SlotStep
from rl_framework.environment.unity.spaces import BehaviorSpaces
from rl_framework.errors import ArgumentError, RLFrameworkError

__all__ = ["BehaviorSlots"]


class BehaviorSlots:
    """The agents of one behaviour in a fixed number of slots.

    ML-Agents gives an agent a new number for every episode, tells the agents that ask for a decision in any order, and
    tells an episode's end apart, in the same message as the first question of the next episode or in an earlier one. An
    agent keeps its slot until its episode ends; one that begins takes a slot that became free in the same step, or else
    the lowest free one. One that has acted and not been asked again is pending.

    Args:
        spaces: Of the behaviour.
        n_slots: How many agents at once.
        adds_group_rewards: Whether the reward of an agent's group is part of its own.

    Attributes:
        observations: What each slot was last shown.
        present: Shape `(n_slots,)`, bool: who asks now.
    """

    def __init__(self, spaces: BehaviorSpaces, n_slots: int, adds_group_rewards: bool = True) -> None:
        self.spaces = spaces
        self.n_slots = n_slots
        self.observation_space, self.action_space = spaces.observation_space, spaces.action_space
        self._adds_group_rewards = adds_group_rewards
        self.empty()

    def empty(self) -> None:
        """Forgets everybody."""
        self._slot_of: dict[int, int] = {}
        self._asking: list[int] = []  # numbers of the agents, in the order in which ML-Agents wants the actions
        self._masks: list[NDArray[np.bool_] | None] = [None] * self.n_slots
        self.observations = [self.spaces.nothing() for _ in range(self.n_slots)]
        self.present = np.zeros(self.n_slots, dtype=np.bool_)

    def begin(self, decisions: Any) -> tuple[list[Any], list[dict[str, Any]], NDArray[np.bool_]]:
        """Takes in who asks first after a reset."""
        self.empty()
        step = self.blank_step()
        self._take_decisions(step, decisions)
        return list(self.observations), step.infos, self.present.copy()

    def blank_step(self) -> SlotStep:
        """Returns a step in which nothing has happened yet."""
        return SlotStep(
            observations=[],
            rewards=np.zeros(self.n_slots),
            terminated=np.zeros(self.n_slots, dtype=np.bool_),
            truncated=np.zeros(self.n_slots, dtype=np.bool_),
            infos=[{} for _ in range(self.n_slots)],
            acted=np.zeros(self.n_slots, dtype=np.bool_),
            present=np.zeros(self.n_slots, dtype=np.bool_),
        )

    def translate(self, actions: Sequence[Any]) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
        """Puts the actions of the slots into ML-Agents' order.

        Args:
            actions: One a slot; those of slots in which nobody asks are ignored.

        Returns:
            See `BehaviorSpaces.actions`.
        """
        slots = [self._slot_of[agent] for agent in self._asking]
        missing = [slot for slot in slots if actions[slot] is None]
        if missing:
            raise ArgumentError("actions", actions, f"slot {missing[0]} asks for an action and gets none")
        translated = self.spaces.actions([actions[slot] for slot in slots], [self._masks[slot] for slot in slots])
        self.present[:] = False
        self._asking = []
        return translated

    def take(self, step: SlotStep, decisions: Any, terminals: Any) -> None:
        """Takes in one message of ML-Agents: first who ended, then who asks."""
        observations = self.spaces.observations(terminals) if len(terminals) else []
        for row, agent in enumerate(map(int, terminals.agent_id)):
            slot = self._slot_of.pop(agent, None)
            if slot is None:
                continue  # its episode ended before it was asked for anything: nothing was done, and nothing came of it
            interrupted = bool(terminals.interrupted[row])
            self._complete(step, slot, terminals, row)
            step.terminated[slot], step.truncated[slot] = not interrupted, interrupted
            step.final_observations[slot] = observations[row]
            self.observations[slot] = self.spaces.nothing()
        self._take_decisions(step, decisions)

    def _complete(self, step: SlotStep, slot: int, steps: Any, row: int) -> None:
        group_reward = float(steps.group_reward[row]) if hasattr(steps, "group_reward") else 0.0
        step.acted[slot] = True
        step.rewards[slot] = float(steps.reward[row]) + (group_reward if self._adds_group_rewards else 0.0)
        step.infos[slot]["agent_id"] = int(steps.agent_id[row])
        if hasattr(steps, "group_id") and int(steps.group_id[row]):
            step.infos[slot] |= {"group_id": int(steps.group_id[row]), "group_reward": group_reward}

    def _take_decisions(self, step: SlotStep, decisions: Any) -> None:
        if not len(decisions):
            return
        observations, masks = self.spaces.observations(decisions), self.spaces.masks(decisions)
        for row, agent in enumerate(map(int, decisions.agent_id)):
            if agent in self._slot_of:
                slot = self._slot_of[agent]
                self._complete(step, slot, decisions, row)
                info = step.infos[slot]
            else:
                slot = self._slot_for(agent, step)
                info = {"agent_id": agent}
                (step.reset_infos if slot in step.final_observations else step.infos)[slot] = info
            info |= self.spaces.mask_info(masks[row])
            self.observations[slot], self._masks[slot] = observations[row], masks[row]
            self.present[slot] = True
            self._asking.append(agent)

    def _slot_for(self, agent: int, step: SlotStep) -> int:
        taken = set(self._slot_of.values())
        free = [slot for slot in range(self.n_slots) if slot not in taken]
        if not free:
            raise RLFrameworkError(
                f"there are more than {self.n_slots} agents of behaviour {self.spaces.name!r} in the scene at once: "
                f"agent {agent} finds no slot. Give as many slots as there can be agents: "
                f'environment_kwargs={{"max_agents": {self.n_slots + 1}}} or more.'
            )
        self._slot_of[agent] = min(free, key=lambda slot: (slot not in step.final_observations, slot))
        return self._slot_of[agent]

    def cut(self, step: SlotStep) -> None:
        """Ends the episodes of all who are in their middle, because their player died.

        What came of their last actions will never be known. So that no episode goes on into another one, each ends,
        truncated, with a reward of 0 where it was last seen.
        """
        for agent, slot in self._slot_of.items():
            step.acted[slot] = step.truncated[slot] = True
            step.infos[slot] = {"agent_id": agent, "player_died": True}
            step.final_observations[slot] = self.observations[slot]

    def begin_again(self, step: SlotStep, decisions: Any) -> None:
        """Takes in who asks first in a new player, in the step in which the old one died."""
        self.empty()
        self._take_decisions(step, decisions)

    def finish(self, step: SlotStep) -> SlotStep:
        """Returns the step as it is to be handed out."""
        occupied = np.zeros(self.n_slots, dtype=np.bool_)
        occupied[list(self._slot_of.values())] = True
        pending = occupied & ~self.present
        step.observations = list(self.observations)
        step.present = self.present.copy()
        step.pending = pending if pending.any() else None
        return step

    @property
    def is_anybody_asking(self) -> bool:
        """Whether an action is needed before the scene can go on."""
        return bool(self._asking)
