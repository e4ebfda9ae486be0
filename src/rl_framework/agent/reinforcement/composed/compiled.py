"""The whole optimizer step as one compiled program: losses, gradients, their norm, and Adam.

For small networks most of the time of a step goes into starting hundreds of small operations. Compiled together they
take about a quarter of it. Compiling costs 10 to 20 seconds when it is done for the first time on a machine and needs a
C++ compiler, so that short trainings do without.
"""

from __future__ import annotations

import logging
import os
import shutil
import sys
import types
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from rl_framework.agent.reinforcement.composed.batch import Batch
from rl_framework.agent.reinforcement.composed.update import Update, sum_of_losses
from rl_framework.agent.reinforcement.parts.part import Part
from rl_framework.errors import ArgumentError, RLFrameworkError

__all__ = ["CompiledUpdate", "choose_compiled", "obstacle_to_compiling"]

logger = logging.getLogger(__name__)

_WORTH_IT = 60_000
"""Optimizer steps from which compiling was measured to pay: each saves about a quarter of a millisecond."""
_KNOWN = (torch.optim.Adam, torch.optim.AdamW)


def choose_compiled(asked: bool | str, obstacle: str | None, n_updates: int) -> tuple[bool, str]:
    """The rule behind `compiled="auto"`.

    Args:
        asked: What the user asked for.
        obstacle: Why it cannot be done, or None.
        n_updates: Optimizer steps that the training is going to take.

    Returns:
        The choice and the reason for it, both of which are recorded with the run.

    Raises:
        ArgumentError: It was asked for and cannot be done.
    """
    if asked is False:
        return False, "asked for"
    if obstacle is not None:
        if asked is True:
            raise ArgumentError("compiled", asked, obstacle, 'Use "auto" or False.')
        return False, obstacle
    if asked is True:
        return True, "asked for"
    if n_updates < _WORTH_IT:
        return False, f"compiling takes longer than it saves in {n_updates} optimizer steps"
    return True, f"it pays from {_WORTH_IT} optimizer steps on, and there are going to be {n_updates}"


def obstacle_to_compiling(
    module: nn.Module, parts: Mapping[str, Part], optimizer: torch.optim.Optimizer, device: torch.device
) -> str | None:
    """Returns why a step cannot be compiled, in words, or None."""
    group = optimizer.param_groups[0]
    if type(optimizer) not in _KNOWN or len(optimizer.param_groups) > 1 or group["amsgrad"] or group["maximize"]:
        return f"a step of {type(optimizer).__name__} with these options is not known; Adam and AdamW are"
    if any(not part.compilable for part in parts.values()):
        names = [name for name, part in parts.items() if not part.compilable]
        return f"the losses of {', '.join(names)} cannot be compiled"
    if any(isinstance(layer, nn.Conv2d) for layer in module.modules()):
        return "convolutions take their time in the operations themselves"
    if any(getattr(layer, "state_size", 0) for layer in module.modules()):
        return "recurrent networks are not compiled"
    if device.type == "cpu" and shutil.which(compiler := _cpp_compiler()) is None:
        return f"there is no C++ compiler: torch looks for {compiler}, or for what the variable CXX names"
    return None


def _cpp_compiler() -> str:
    """Returns the name of the compiler that torch is going to call, by its own rule."""
    usual = {"darwin": "clang++", "win32": "cl"}.get(sys.platform, "g++")
    return os.environ.get("CXX", usual)


class _Losses(nn.Module):
    """The sum of losses as a function of the parameters and a batch."""

    def __init__(self, module: nn.Module, parts: Mapping[str, Part]) -> None:
        super().__init__()
        self.module = module
        self._parts_by_name = dict(parts)

    def forward(self, tensors: dict[str, Any]) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        batch = Batch(tensors)
        loss, told = sum_of_losses(self._parts_by_name, batch)
        veto = torch.zeros((), dtype=torch.bool, device=loss.device) if batch.veto is None else batch.veto
        return loss, (torch.stack([number.float() for number in told.values()]), veto)


class CompiledUpdate(Update):
    """Takes optimizer steps, each in one compiled program; the numbers are those of `Update` but for rounding.

    Args:
        module: Holds all networks and parts.
        parts: By the name under which they are tracked.
        optimizer: Adam or AdamW; its state is where it always is, after `finish`.
        max_grad_norm: To which the norm of all gradients together is limited; None: it is not.
        given_up: Told why, if torch turns out not to be able to compile a step (a broken compiler, a network that
            branches on numbers): from there on steps are taken as `Update` does. None: that is an error.
        backend: What compiles, for tests.

    Attributes:
        failure: Why torch could not compile a step; None: it could, as far as it was tried.

    Raises:
        ArgumentError: When a step is taken: torch cannot compile it, and nobody is to be told instead.
    """

    def __init__(
        self,
        module: nn.Module,
        parts: Mapping[str, Part],
        optimizer: torch.optim.Optimizer,
        max_grad_norm: float | None = None,
        given_up: Callable[[str], None] | None = None,
        backend: str = "inductor",
    ) -> None:
        super().__init__(parts, optimizer, max_grad_norm)
        self.given_up = given_up
        self.failure: str | None = None
        losses = _Losses(module, parts)
        wanted = {id(parameter) for parameter in self._parameters}
        real = {name: p for name, p in losses.named_parameters() if id(p) in wanted}
        for parameter in real.values():
            if not optimizer.state[parameter]:
                optimizer.state[parameter].update(
                    step=torch.zeros((), dtype=torch.float32, device=parameter.device),
                    exp_avg=torch.zeros_like(parameter),
                    exp_avg_sq=torch.zeros_like(parameter),
                )
        self._values = {name: parameter.detach() for name, parameter in real.items()}  # the same memory
        self._first = {name: optimizer.state[p]["exp_avg"] for name, p in real.items()}
        self._second = {name: optimizer.state[p]["exp_avg_sq"] for name, p in real.items()}
        self._counts = [optimizer.state[p]["step"] for p in real.values()]
        # One axis: an update of a number without axes was seen to be lost.
        self._count = self._counts[0].detach().clone().reshape(1)
        device = self._count.device
        self._rate = torch.zeros((), device=device)
        self._names: tuple[str, ...] = ()
        self._losses, self._backend = losses, backend
        self._vetoes = False
        self._compiled: Any = None

    def start(self) -> None:
        """Precedes each training, between two of which steps may have been taken by others."""
        self._count.fill_(self._counts[0])

    def finish(self) -> None:
        """Tells the optimizer how many steps were taken."""
        if self.failure is None:
            for count in self._counts:
                count.fill_(self._count[0])

    def _step(self, batch: Batch) -> dict[str, Tensor]:
        if self.failure is not None:
            return super()._step(batch)
        if self._compiled is None:
            self._compile(batch)
        self._rate.fill_(self.optimizer.param_groups[0]["lr"])
        try:
            with torch.no_grad():
                told, veto = self._compiled(
                    self._values, self._first, self._second, self._count, self._rate, batch.tensors
                )
        except RLFrameworkError:
            raise
        # torch fails in many ways, always before the step is taken; a mistake in a loss comes again without it.
        except Exception as error:  # noqa: BLE001  # told, or raised as another one
            self._give_up(error)
            return super()._step(batch)
        batch.vetoed = self._vetoes and bool(veto)
        numbers = dict(zip(self._names, told.unbind(), strict=True))
        return {name: numbers[name] for name in self._names[:-1]} if batch.vetoed else numbers

    def _give_up(self, error: Exception) -> None:
        lines = [line for line in str(error).splitlines() if line.strip()]
        reason = f"torch could not compile a step: {lines[0].strip() if lines else type(error).__name__}"
        if self.given_up is None:
            raise ArgumentError("compiled", True, reason, 'Use "auto" or False.') from error
        self.finish()
        self.failure = reason
        logger.warning("%s; training goes on without, as with compiled=False", reason)
        logger.debug("why it could not be compiled", exc_info=error)
        self.given_up(reason)

    def _compile(self, batch: Batch) -> None:
        with torch.no_grad():
            probe = Batch(batch.tensors)
            self._names = (*sum_of_losses(self.parts, probe, is_first=True)[1], "gradient_norm")
        self._vetoes = probe.veto is not None
        step = _step_of(self._losses, self.optimizer.param_groups[0], self.max_grad_norm, self._vetoes)
        self._compiled = torch.compile(_own_code(step), dynamic=False, fullgraph=True, backend=self._backend)


def _step_of(losses: nn.Module, group: Mapping[str, Any], max_grad_norm: float | None, vetoes: bool) -> Any:
    (beta1, beta2), epsilon, decay = group["betas"], group["eps"], group["weight_decay"]
    decoupled = bool(group.get("decoupled_weight_decay", False))

    def loss_of(values: dict[str, Tensor], tensors: dict[str, Any]) -> Any:
        return torch.func.functional_call(losses, values, (tensors,), tie_weights=False)

    differentiated = torch.func.grad(loss_of, has_aux=True)

    def step(
        values: dict[str, Tensor],
        first: dict[str, Tensor],
        second: dict[str, Tensor],
        count: Tensor,
        rate: Tensor,
        tensors: dict[str, Any],
    ) -> tuple[Tensor, Tensor]:
        gradients, (told, veto) = differentiated(values, tensors)
        norm = torch.stack([gradient.norm() for gradient in gradients.values()]).norm()
        scale = 1.0 if max_grad_norm is None else (max_grad_norm / (norm + 1e-6)).clamp(max=1.0)
        new_count = count + 1
        correction1, correction2 = 1 - beta1**new_count, (1 - beta2**new_count).sqrt()
        for name, value in values.items():
            gradient, new_value = gradients[name] * scale, value
            if decay and decoupled:
                new_value = value * (1 - rate * decay)
            elif decay:
                gradient = gradient + decay * value
            mean = first[name] + (gradient - first[name]) * (1 - beta1)
            square = second[name] * beta2 + (1 - beta2) * gradient * gradient
            new_value = new_value - (rate / correction1) * (mean / (square.sqrt() / correction2 + epsilon))
            if vetoes:
                new_value = torch.where(veto, value, new_value)
                mean, square = torch.where(veto, first[name], mean), torch.where(veto, second[name], square)
            # The counter has an axis, which a parameter without any would take over.
            value.copy_(new_value.reshape(value.shape))
            first[name].copy_(mean)
            second[name].copy_(square)
        count.copy_(torch.where(veto, count, new_count) if vetoes else new_count)
        return torch.cat([told, norm.reshape(1)]), veto

    return step


def _own_code(function: Any) -> Any:
    """Copies a function with its code, for which torch counts recompilations over all agents of a process."""
    return types.FunctionType(
        function.__code__.replace(),
        function.__globals__,
        function.__name__,
        function.__defaults__,
        function.__closure__,
    )
