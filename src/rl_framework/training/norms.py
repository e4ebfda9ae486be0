"""Norms of gradients, weights and updates, as an optimizer meets them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from rl_framework.errors import ArgumentError
from rl_framework.training.callback import Callback, Training
from rl_framework.training.events import TrainingEnded, TrainingFailed, TrainingStarted, Updated

__all__ = ["TrackNorms"]


class TrackNorms(Callback):
    """Tracks how large gradients, weights and updates are, for every optimizer of an agent.

    Every `every` timesteps it measures the next `samples` steps of each optimizer, and tells all connectors, as an
    `Updated` event, of the means (and, with more than one sample, of the distribution, as histograms) of

    - `norms/<network>_gradient`: Euclidean norm of all its gradients, before they are clipped,
    - `norms/<network>_clipped_gradient`: the same of what the optimizer was given,
    - `norms/<network>_weights`: of the weights, after the step,
    - `norms/<network>_update`: of the change that the step made,
    - `norms/<network>_learning_rate` (no histogram).

    Where gradients are not made by automatic differentiation (behavioural cloning of plain networks), there is no
    clipping either, and only the second one, which is then the first too. Reading changes nothing: the weights are
    those of a training without it. A measured step takes about twice as long as another one.

    Args:
        every: Timesteps between measurements.
        samples: Steps of each optimizer to measure each time.

    Raises:
        ArgumentError: An argument is no integer of at least 1.
    """

    def __init__(self, every: int = 5_000, samples: int = 5) -> None:
        for argument, value in (("every", every), ("samples", samples)):
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise ArgumentError(argument, value, "must be an integer of at least 1")
        self.every = every
        self.samples = samples
        self._watched: dict[int, _Watched] = {}
        self._periods = 0
        self._n_updates = 0

    def on_training_start(self, event: TrainingStarted, training: Training) -> None:
        """Looks for optimizers.

        Raises:
            ArgumentError: The agent has none, and will have none.
        """
        self._periods = event.timestep // self.every
        self._n_updates = 0
        if getattr(training.agent, "optimizers", None) is None:
            raise ArgumentError("callbacks", training.agent, "TrackNorms needs an agent with a method optimizers()")
        self._attach(training)

    def on_step(self, training: Training) -> None:
        """Tells of what was measured, and begins to measure when it is time."""
        self._report(training, whole=True)
        periods = training.timestep // self.every
        if periods > self._periods:
            self._periods = periods
            self._report(training, whole=False)
            self._attach(training)

    def on_update(self, event: Updated, training: Training) -> None:
        """Takes note of the algorithm's own count."""
        self._n_updates = max(self._n_updates, event.n_updates)

    def on_boundary(self, training: Training) -> None:
        """Tells of the rest when training is finished, while everybody still listens."""
        if training.timestep >= training.total_timesteps:
            self._report(training, whole=False)

    def on_training_end(self, event: TrainingEnded, training: Training) -> None:
        """Lets the optimizers go."""
        self._detach()

    def on_failure(self, event: TrainingFailed, training: Training) -> None:
        """Lets the optimizers go."""
        self._detach()

    def _attach(self, training: Training) -> None:
        """Measures the next steps of all optimizers that there are now; some are made during training."""
        for name, optimizer in training.agent.optimizers().items():
            if id(optimizer) not in self._watched:
                self._watched[id(optimizer)] = _Watched(name, optimizer)
            self._watched[id(optimizer)].wanted = self.samples

    def _detach(self) -> None:
        for watched in self._watched.values():
            watched.close()
        self._watched = {}

    def _report(self, training: Training, whole: bool) -> None:
        """Tells of the optimizers that have made all wanted steps, or any."""
        metrics: dict[str, float] = {}
        histograms: dict[str, Any] = {}
        for watched in self._watched.values():
            if watched.measured and not (whole and watched.wanted):
                watched.take(metrics, histograms)
        if metrics:
            training.emit(
                Updated(timestep=training.timestep, metrics=metrics, histograms=histograms, n_updates=self._n_updates)
            )


class _Watched:
    """One optimizer with hooks around its steps.

    Attributes:
        wanted: Steps that are still to be measured.
        measured: Steps that were measured and not told of.
    """

    def __init__(self, name: str, optimizer: Any) -> None:
        self.name = name
        self.measured = 0
        self._optimizer = optimizer
        self._wanted = 0
        self._values: dict[str, list[float]] = {}
        self._before: list[Any] | None = None
        self._raw: dict[int, Any] = {}
        self._gradient_hooks: list[Any] = []
        self._hooks = [
            optimizer.register_step_pre_hook(lambda *_: self._before_step()),
            optimizer.register_step_post_hook(lambda *_: self._after_step()),
        ]

    @property
    def wanted(self) -> int:
        return self._wanted

    @wanted.setter
    def wanted(self, count: int) -> None:
        self._wanted = count
        if count and not self._gradient_hooks:
            self._gradient_hooks = [
                parameter.register_post_accumulate_grad_hook(self._on_gradient) for parameter in self._parameters()
            ]

    def _parameters(self) -> list[Any]:
        groups = self._optimizer.param_groups
        return [parameter for group in groups for parameter in group["params"] if parameter.requires_grad]

    def _on_gradient(self, parameter: Any) -> None:
        # Of several backward passes the last has the whole gradient.
        self._raw[id(parameter)] = parameter.grad.detach().norm()

    def _before_step(self) -> None:
        if self._wanted:
            self._before = [parameter.detach().clone() for parameter in self._parameters()]

    def _after_step(self) -> None:
        if self._before is None:
            return
        before, self._before = self._before, None
        parameters = self._parameters()
        if self._raw:
            self._note("gradient", _norm(self._raw.values()))
        self._note("clipped_gradient", _norm(_each(parameters, lambda parameter: parameter.grad)))
        self._note("weights", _norm(_each(parameters, lambda parameter: parameter)))
        changes = [parameter.detach() - old for parameter, old in zip(parameters, before, strict=True)]
        self._note("update", _norm(change.norm() for change in changes))
        self._raw = {}
        self.measured += 1
        self._wanted -= 1
        if not self._wanted:
            self._remove_gradient_hooks()

    def _note(self, kind: str, value: float) -> None:
        self._values.setdefault(kind, []).append(value)

    def take(self, metrics: dict[str, float], histograms: dict[str, Any]) -> None:
        """Hands over what was measured, and begins anew."""
        for kind, values in self._values.items():
            metrics[f"norms/{self.name}_{kind}"] = float(np.mean(values))
            if len(values) > 1:
                histograms[f"norms/{self.name}_{kind}"] = np.array(values)
        metrics[f"norms/{self.name}_learning_rate"] = float(self._optimizer.param_groups[0]["lr"])
        self._values, self.measured = {}, 0

    def _remove_gradient_hooks(self) -> None:
        for hook in self._gradient_hooks:
            hook.remove()
        self._gradient_hooks = []

    def close(self) -> None:
        """Leaves the optimizer as it was."""
        self._remove_gradient_hooks()
        for hook in self._hooks:
            hook.remove()


def _each(parameters: Sequence[Any], tensor_of: Callable[[Any], Any]) -> Iterable[Any]:
    for parameter in parameters:
        tensor = tensor_of(parameter)
        if tensor is not None:
            yield tensor.detach().norm()


def _norm(norms: Iterable[Any]) -> float:
    """Returns the norm of a whole, of the norms of its parts."""
    return float(sum(norm.double() ** 2 for norm in norms) ** 0.5)
