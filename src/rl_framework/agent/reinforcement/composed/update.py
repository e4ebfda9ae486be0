"""One optimizer step on the sum of what all parts want to minimise."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from rl_framework.agent.reinforcement.composed.batch import Batch
from rl_framework.agent.reinforcement.composed.contract import check_numbers
from rl_framework.agent.reinforcement.parts.part import Part
from rl_framework.errors import ArgumentError, NonFiniteLossError

__all__ = ["Measured", "Update", "sum_of_losses", "total_norm"]


def sum_of_losses(parts: Mapping[str, Part], batch: Batch, is_first: bool = False) -> tuple[Tensor, dict[str, Tensor]]:
    """Returns the loss of a batch and what to track of it.

    Args:
        parts: By the name under which they are tracked.
        batch: Complete: every part has prepared it.
        is_first: Whether parts have to show first that what they return is what the contract says.

    Returns:
        The sum, a tensor without axes; and each term, as "<part>_<term>_loss" ("<part>_loss" if part and term have
        one name), and each reported number, by its name.

    Raises:
        ArgumentError: No part has a loss, or one returned something else.
    """
    total: Tensor | None = None
    told: dict[str, Tensor] = {}
    for name, part in parts.items():
        terms = part.loss(batch)
        if is_first:
            check_numbers(part, terms, batch.reported)
        for term, value in terms.items():
            total = value if total is None else total + value
            told[f"{name}_loss" if term == part.kind else f"{name}_{term}_loss"] = value.detach()
    if total is None:
        raise ArgumentError("parts", list(parts), "none of them has a loss", "Add one that learns, such as PPO().")
    return total, {**told, **batch.reported, "loss": total.detach()}


class Measured:
    """Gathers numbers of each step without waiting for the device, and adds them up at the end of a round."""

    def __init__(self) -> None:
        self._names: tuple[str, ...] = ()
        self._rows: list[Tensor] = []
        self._sums: dict[str, tuple[float, int]] = {}
        self._steps = 0
        self._not_finite: tuple[int, str, float] | None = None

    def add(self, numbers: Mapping[str, Tensor]) -> None:
        """Takes the numbers of one step."""
        names = tuple(numbers)
        if names != self._names:
            self._count()
            self._names = names
        self._rows.append(torch.stack([number.float() for number in numbers.values()]))

    def end_round(self) -> tuple[int, str, float] | None:
        """Adds up the steps of a round, and returns the first of them whose loss or gradient was not finite.

        Returns:
            Which step of the round, from 0; the name of the number that is to blame; and its value. None: all is well.
        """
        self._count()
        found, self._not_finite = self._not_finite, None
        self._steps = 0
        return found

    def means(self) -> dict[str, float]:
        """Returns the mean of each number, and begins anew."""
        self._count()
        sums, self._sums = self._sums, {}
        return {name: total / count for name, (total, count) in sums.items()}

    def _count(self) -> None:
        if not self._rows:
            return
        table = torch.stack(self._rows)
        sums = dict(zip(self._names, table.double().sum(dim=0).tolist(), strict=True))
        for name, number in sums.items():
            total, count = self._sums.get(name, (0.0, 0))
            self._sums[name] = (total + number, count + len(self._rows))
        if self._not_finite is None and not math.isfinite(sums["loss"] + sums.get("gradient_norm", 0.0)):
            self._not_finite = self._first_of(table)
        self._steps += len(self._rows)
        self._rows = []

    def _first_of(self, table: Tensor) -> tuple[int, str, float] | None:
        # Not what is only looked at. The terms come before their sum, and the gradient after it.
        columns = [
            column for column, name in enumerate(self._names) if name.endswith("loss") or name == "gradient_norm"
        ]
        for step, column in (~table[:, columns].isfinite()).nonzero()[:1].tolist():
            return self._steps + step, self._names[columns[column]], float(table[step, columns[column]])
        return None  # only the sum over the steps is too large for a number


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
        self._is_first = True
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

    def check_finite(self, timestep: int) -> None:
        """Looks at the losses of the round that has ended.

        Args:
            timestep: Environment steps so far.

        Raises:
            NonFiniteLossError: One of them, or a gradient, is NaN or infinite.
        """
        found = self.measured.end_round()
        if found is None:
            return
        batch, number, value = found
        owners = [name for name in self.parts if number == f"{name}_loss" or number.startswith(f"{name}_")]
        part = max(owners, key=len, default=None) if number.endswith("_loss") else None
        raise NonFiniteLossError(part, number, timestep, batch, value)

    def _step(self, batch: Batch) -> dict[str, Tensor]:
        self.optimizer.zero_grad(set_to_none=True)
        loss, told = sum_of_losses(self.parts, batch, self._is_first)
        self._is_first = False
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
