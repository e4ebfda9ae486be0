"""The contract of a part: one ingredient of a composed algorithm.

The trainer knows no part by name. In every round it

1. collects `rollout_length` steps of every slot with the policy (`explore` may change the actions),
2. lets every part change the rewards (`reward`), then add what it learns from (`annotate`: advantages, targets),
3. takes the batches of the one part that offers them (`batches`), and for each lets every part add what has no
   gradient (`prepare`), sums the losses (`loss`), takes one optimizer step, and tells every part (`after_update`),
4. tracks their `metrics`.

A part is a `torch.nn.Module`: what it assigns to itself in `build` (networks, buffers) is trained, moved between
devices, saved and resumed without a further line. Networks that several parts share are asked for by name
(`setup.policy()`, `setup.value()`, `setup.trunk("trunk")`): who asks first builds them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, Self

import torch
from torch import Tensor, nn

from rl_framework import registry
from rl_framework.agent.network.arguments import note_arguments
from rl_framework.agent.reinforcement.schedules import to_schedule
from rl_framework.bundle import encode_value
from rl_framework.errors import UnsavableError

if TYPE_CHECKING:
    from rl_framework.agent.reinforcement.composed.batch import Batch
    from rl_framework.agent.reinforcement.composed.rollout import Rollout
    from rl_framework.agent.reinforcement.composed.setup import Setup

__all__ = ["Part"]


class Part(nn.Module):
    """One ingredient of an algorithm. Override what it needs; every method does nothing by default.

    Example:
        ```python
        class EntropyBonus(Part):
            needs = frozenset({"policy"})

            def __init__(self, weight: float = 0.01) -> None:
                super().__init__()
                self.weight = weight

            def build(self, setup):
                self.policy = setup.policy()

            def loss(self, batch):
                return {"entropy": -self.weight * self.policy(batch).entropy().mean()}
        ```

    Attributes:
        records: What it needs recorded besides observations, actions, rewards, terminated and truncated:
            "next_observations".
        provides: What it offers to others: "policy" (it makes the policy that acts), "advantages" (somebody learns
            from what is added to `rollout["advantages"]`), "batches" (it decides what is learned from), "replay" (its
            batches are transitions of any time), and what it adds to rollouts ("values", "returns", "log_probs").
        needs: What some part has to offer for this one to work, by the same names.
        schedules: Constructor arguments that may be schedules (`{"type": "linear", ...}`): `self.now[name]` is the
            value at this point of the training, a tensor without axes.
        max_grad_norm: To which the norm of all gradients is limited unless the user says, if this part decides.
        compilable: Whether `torch.compile` can take its loss.
        arguments: What the constructor was given, by name; with it a bundle rebuilds the part.
        has_agent: Whether an agent was built with it; a part belongs to one agent.
    """

    records: ClassVar[frozenset[str]] = frozenset()
    provides: ClassVar[frozenset[str]] = frozenset()
    needs: ClassVar[frozenset[str]] = frozenset()
    schedules: ClassVar[tuple[str, ...]] = ()
    max_grad_norm: ClassVar[float | None] = None
    compilable: ClassVar[bool] = True
    arguments: dict[str, Any]
    has_agent: bool = False

    def __new__(cls, *args: Any, **kwargs: Any) -> Self:
        """Notes the arguments, by which a bundle rebuilds the part."""
        self = super().__new__(cls)
        self.arguments = note_arguments(cls, self, args, kwargs, "parts")
        return self

    # What a subclass overrides

    def join(self, parts: Sequence[Part]) -> None:
        """Tells it all parts of the composition, itself among them. Precedes everything else."""

    def build(self, setup: Setup) -> None:
        """Makes or asks for networks and buffers, now that the spaces are known. Called once, before all else."""

    def start(self) -> None:
        """Precedes each training, when weights and state of an earlier one are back; raises if something is missing."""

    @property
    def rollout_length(self) -> int | None:
        """Steps of every slot to collect before each round of learning; None: another part decides."""
        return None

    def updates_per_round(self, n_slots: int) -> int:
        """Returns how many batches come of each rollout, for the part that provides them; it tells what is worthwhile.

        Args:
            n_slots: How many slots there are.
        """
        return 0

    def explore(self, actions: Tensor, timestep: int) -> Tensor:
        """Returns the actions to take instead of those that the policy sampled (random ones at first, noise).

        Args:
            actions: Shape `(n_slots, *shape)`, as the policy gives them.
            timestep: Environment steps so far.
        """
        return actions

    def reward(self, rollout: Rollout) -> None:
        """Changes `rollout["rewards"]` before anybody computes advantages from them (an intrinsic reward)."""

    def annotate(self, rollout: Rollout) -> None:
        """Adds what its loss needs to the rollout, `(n_steps, n_slots)` tensors by name: advantages, targets.

        What several parts contribute to is added up: `rollout.add("advantages", mine)`; the order of the parts does
        not matter. Called without gradients.
        """

    def batches(self, rollout: Rollout) -> Iterator[Batch]:
        """Yields what to learn from, one optimizer step a batch. For the part that provides "batches"; others never.

        When the generator goes on, the step was taken: `batch.vetoed` tells whether a part refused it.
        """
        return iter(())

    def prepare(self, batch: Batch) -> None:
        """Adds to a batch what the loss needs and has no gradient: noise, targets, rows from elsewhere.

        Everything random and everything outside of torch belongs here: `loss` may be compiled.
        """

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        """Returns the terms of the loss by name, each with its weight: tensors without axes. Their sum is minimised.

        It must depend on nothing but the batch, networks, buffers and `self.now` (any other number that changes has a
        compiled step compiled anew), and must not change anything; numbers to look at go to
        `batch.report(name, value)`.
        """
        return {}

    def after_update(self) -> None:
        """Follows a step of the optimizer: moves a target network, counts."""

    def metrics(self) -> dict[str, float]:
        """Returns further numbers to track once a round, besides losses and what was reported, by name."""
        return {}

    def training_state(self) -> dict[str, Any]:
        """Returns what only resuming a training needs, as arrays by name: a replay buffer, a counter.

        What acting needs belongs into networks and buffers instead.
        """
        return {}

    def set_training_state(self, state: dict[str, Any]) -> None:
        """Takes back what `training_state` gave; raises ValueError or KeyError if it does not fit."""

    # What every part has

    @cached_property
    def kind(self) -> str:
        """The registered name of its class, or that of the class in lower case."""
        return registry.parts.name_of(type(self)) or type(self).__name__.lower()

    @cached_property
    def name(self) -> str:
        """What it is called: its `kind`, in an agent with several of them with a number ("rnd_2") from the second on.

        Losses and metrics are tracked under it, and it belongs before the names of what a part adds to rollouts and
        batches for itself (`batch[f"{self.name}/noise"]`), so that two of them do not take each other's.
        """
        return self.kind

    @property
    def now(self) -> dict[str, Tensor]:
        """The present value of each argument in `schedules`."""
        return {name: getattr(self, f"now_{name}") for name in self.schedules}

    def start_schedules(self, device: torch.device) -> None:
        """Makes the tensors behind `now`. Called by the trainer before `build`."""
        for name in self.schedules:
            value = torch.zeros((), dtype=torch.float32, device=device)
            self.register_buffer(f"now_{name}", value, persistent=False)
        self.follow_schedules(1.0)

    def follow_schedules(self, progress_remaining: float) -> None:
        """Sets `now` to this point of the training, which falls from 1 to 0. Called by the trainer every round."""
        for name in self.schedules:
            value = to_schedule(getattr(self, name), f"{self.name}.{name}")
            number = value(progress_remaining) if callable(value) else value
            getattr(self, f"now_{name}").fill_(0.0 if number is None else float(number))

    def unbuilt(self) -> Self:
        """Returns a part of the same configuration that belongs to no agent."""
        return type(self)(**self.arguments)

    def to_data(self) -> dict[str, Any]:
        """Returns name and arguments as JSON-able data.

        Raises:
            UnsavableError: The class or an argument has no registered name.
        """
        name = registry.parts.name_of(type(self))
        if name is None:
            own = type(self).__name__
            raise UnsavableError(
                "parts",
                self,
                f"the part {own} has no registered name, so that an agent with it could not be saved",
                f"Register it first: rl_framework.register_part({own.lower()!r}, {own})",
            )
        return {"type": name, **encode_value(self.saved_arguments(), f"parts[{name}]")}

    def saved_arguments(self) -> dict[str, Any]:
        """Returns the constructor's arguments as they are saved. Override it to leave out what is data of the user."""
        return self.arguments
