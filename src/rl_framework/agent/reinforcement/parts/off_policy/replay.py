"""A replay buffer, as a part: what is learned from are transitions of any time."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import torch
from gymnasium import spaces
from torch import Tensor

from rl_framework.agent.reinforcement.composed.batch import Batch, rows_of
from rl_framework.agent.reinforcement.composed.rollout import flattened
from rl_framework.agent.reinforcement.parts.checks import check_number, check_positive_integer, check_without_state
from rl_framework.agent.reinforcement.parts.off_policy.transition_store import TransitionStore
from rl_framework.agent.reinforcement.parts.part import Part

if TYPE_CHECKING:
    from rl_framework.agent.reinforcement.composed.rollout import Rollout
    from rl_framework.agent.reinforcement.composed.setup import Setup

__all__ = ["Replay"]

_KEPT = ("observations", "actions", "rewards", "next_observations", "terminated")


class Replay(Part):
    """Keeps transitions and learns from random ones of them (Lin 1992; Mnih et al. 2015); for off-policy parts.

    Batches have "observations", "actions", "rewards", "next_observations" (at the end of an episode its last
    observation) and "terminated": an episode that a time limit cut is not marked, so that its last transition is
    bootstrapped like any other. Rewards are kept as they are when the round is learned from, normalised if the agent
    does that, and with what other parts added to them.

    Everything lies on the device, images as uint8. Memory is taken at the first transition. Observations count twice,
    so that a million images of 84 by 84 by 4 need 56 GB: choose a smaller `capacity` for them.

    Args:
        capacity: Transitions to keep; the oldest give way.
        batch_size: Transitions of a batch, drawn with replacement.
        n_steps: Steps of every slot between two rounds of learning.
        learning_starts: Transitions before learning starts. So many steps at the beginning of the training are taken at
            random, uniformly within the action space; where it has no bounds, by the policy.
        replay_ratio: Optimizer steps for each transition that comes in; below 1, every so many transitions.
    """

    records = frozenset({"next_observations"})
    provides = frozenset({"batches", "replay"})
    needs = frozenset({"policy"})

    def __init__(
        self,
        capacity: int = 1_000_000,
        batch_size: int = 256,
        n_steps: int = 1,
        learning_starts: int = 100,
        replay_ratio: float = 1.0,
    ) -> None:
        super().__init__()
        self.capacity, self.batch_size, self.n_steps = capacity, batch_size, n_steps
        self.learning_starts, self.replay_ratio = learning_starts, replay_ratio
        for argument in ("capacity", "batch_size", "n_steps"):
            check_positive_integer(self, argument)
        check_number(self, "learning_starts", 0)
        check_number(self, "replay_ratio", 0.0)
        self._due = 0.0

    def build(self, setup: Setup) -> None:
        """Asks for the policy, in whose form actions are.

        Raises:
            ArgumentError: The policy is recurrent.
        """
        self.policy = setup.policy()
        check_without_state(self.policy.trunk, "a replay buffer gives single transitions")
        self._space, self._device, self._generator = setup.action_space, setup.device, setup.generator
        self.transitions = TransitionStore(self.capacity, setup.device)

    @property
    def rollout_length(self) -> int:
        """Steps of every slot between two rounds of learning."""
        return self.n_steps

    def updates_per_round(self, n_slots: int) -> int:
        """Returns how many batches come of each rollout."""
        return round(self.n_steps * n_slots * self.replay_ratio)

    def explore(self, actions: Tensor, timestep: int) -> Tensor:
        """Returns random actions at the beginning of the training."""
        if timestep >= self.learning_starts:
            return actions
        chosen = self._random_actions(len(actions))
        return actions if chosen is None else self.policy.from_environment(chosen).to(actions.dtype)

    def batches(self, rollout: Rollout) -> Iterator[Batch]:
        """Stores the rollout and yields random batches, as many as `replay_ratio` says."""
        count = self.store(rollout)
        if self.transitions.seen <= self.learning_starts:
            return
        self._due += count * self.replay_ratio
        while self._due >= 1.0:
            self._due -= 1.0
            yield self.sample()

    def store(self, rollout: Rollout) -> int:
        """Stores the transitions of a rollout and returns how many there were."""
        rows = {name: flattened(rollout[name]) for name in _KEPT}
        if rollout.acted is not None:
            acted = rollout.acted.reshape(-1).nonzero()[:, 0]
            rows = {name: rows_of(value, acted) for name, value in rows.items()}
        return self.transitions.add(rows)

    def sample(self) -> Batch:
        """Returns random transitions, each as likely as any other."""
        count, device = len(self.transitions), self._device
        return Batch(
            self.transitions.rows(torch.randint(count, (self.batch_size,), generator=self._generator, device=device))
        )

    def metrics(self) -> dict[str, float]:
        """Returns how many transitions there are."""
        return {"train/replay_size": float(len(self.transitions))}

    def training_state(self) -> dict[str, Any]:
        """Returns the transitions, and how much of an optimizer step is due."""
        return {**self.transitions.state(), "due": self._due}

    def set_training_state(self, state: dict[str, Any]) -> None:
        """Takes back what `training_state` gave.

        Raises:
            ValueError: It does not fit.
            KeyError: Something is missing.
        """
        due = float(state["due"])
        if not 0 <= due < 1:
            raise ValueError(f"{due} optimizer steps were due")
        self.transitions.restore(state)
        self._due = due

    def _random_actions(self, count: int) -> Tensor | None:
        space = self._space
        if isinstance(space, spaces.Box):
            if not space.is_bounded():
                return None
            low, high = (torch.as_tensor(bound, device=self._device).float() for bound in (space.low, space.high))
            return low + (high - low) * self._uniform(count, space.shape)
        if isinstance(space, spaces.MultiBinary):
            return (self._uniform(count, space.shape) < 0.5).to(torch.int8)
        assert isinstance(space, spaces.Discrete | spaces.MultiDiscrete)
        sizes = torch.as_tensor(space.nvec if isinstance(space, spaces.MultiDiscrete) else space.n, device=self._device)
        return (self._uniform(count, space.shape) * sizes).long() + torch.as_tensor(space.start, device=self._device)

    def _uniform(self, count: int, shape: tuple[int, ...] | None) -> Tensor:
        assert shape is not None  # only spaces of spaces have none
        return torch.rand((count, *shape), generator=self._generator, device=self._device)
