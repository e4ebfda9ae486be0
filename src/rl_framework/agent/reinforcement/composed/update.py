"""One optimizer step on the sum of what all parts want to minimise."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from rl_framework.agent.reinforcement.composed.batch import Batch
from rl_framework.agent.reinforcement.parts.part import Part
from rl_framework.errors import ArgumentError

__all__ = ["Measured", "Update", "sum_of_losses", "total_norm"]


def sum_of_losses(parts: Mapping[str, Part], batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
    """Returns the loss of a batch and what to track of it.

    Args:
        parts: By the name under which they are tracked.
        batch: Complete: every part has prepared it.

    Returns:
        The sum, a tensor without axes; and each term, as "<part>_<term>_loss" ("<part>_loss" if part and term have
        one name), and each reported number, by its name.
    """
    total: Tensor | None = None
    told: dict[str, Tensor] = {}
    for name, part in parts.items():
        for term, value in part.loss(batch).items():
            total = value if total is None else total + value
            told[f"{name}_loss" if term == part.name else f"{name}_{term}_loss"] = value.detach()
    if total is None:
        raise ArgumentError("parts", list(parts), "none of them has a loss", "Add one that learns, such as PPO().")
    return total, {**told, **batch.reported, "loss": total.detach()}


class Measured:
    """Gathers numbers of each step without waiting for the device, and averages them at the end of a round."""

    def __init__(self) -> None:
        self._names: tuple[str, ...] = ()
        self._rows: list[Tensor] = []
        self._sums: dict[str, tuple[float, int]] = {}

    def add(self, numbers: Mapping[str, Tensor]) -> None:
        """Takes the numbers of one step."""
        names = tuple(numbers)
        if names != self._names:
            self._count()
            self._names = names
        self._rows.append(torch.stack([number.float() for number in numbers.values()]))

    def means(self) -> dict[str, float]:
        """Returns the mean of each number, and begins anew."""
        self._count()
        sums, self._sums = self._sums, {}
        return {name: total / count for name, (total, count) in sums.items()}

    def _count(self) -> None:
        if not self._rows:
            return
        sums = torch.stack(self._rows).double().sum(dim=0).tolist()
        for name, number in zip(self._names, sums, strict=True):
            total, count = self._sums.get(name, (0.0, 0))
            self._sums[name] = (total + number, count + len(self._rows))
        self._rows = []


class Update:
    """Takes optimizer steps.

    Args:
        parts: By the name under which they are tracked.
        optimizer: Over all networks.
        max_grad_norm: To which the norm of all gradients together is limited; None: it is not.

    Attributes:
        count: Steps taken so far.
        measured: What was told about them.
    """

    def __init__(
        self, parts: Mapping[str, Part], optimizer: torch.optim.Optimizer, max_grad_norm: float | None = None
    ) -> None:
        self.parts = dict(parts)
        self.optimizer = optimizer
        self.max_grad_norm = max_grad_norm
        self.measured = Measured()
        self.count = 0
        self._parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]

    def __call__(self, batch: Batch) -> None:
        """Takes one step, unless a part refuses it."""
        for part in self.parts.values():
            part.prepare(batch)
        told = self._step(batch)
        self.measured.add(told)
        if batch.vetoed:
            return
        self.count += 1
        for part in self.parts.values():
            part.after_update()

    def finish(self) -> None:
        """Brings everything to where others look for it, at the end of a round."""

    def _step(self, batch: Batch) -> dict[str, Tensor]:
        self.optimizer.zero_grad(set_to_none=True)
        loss, told = sum_of_losses(self.parts, batch)
        if batch.veto is not None and bool(batch.veto):
            batch.vetoed = True
            return told
        loss.backward()
        gradients = [parameter.grad for parameter in self._parameters if parameter.grad is not None]
        norm = total_norm(gradients)
        if self.max_grad_norm is not None:
            scale = torch.clamp(self.max_grad_norm / (norm + 1e-6), max=1.0)
            torch._foreach_mul_(gradients, scale)
        self.optimizer.step()
        return {**told, "gradient_norm": norm}


def total_norm(gradients: list[Tensor]) -> Tensor:
    """Returns the norm of all gradients together."""
    return torch.stack(torch._foreach_norm(gradients)).norm()
