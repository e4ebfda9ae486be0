"""What was collected in one round, and what parts noted about it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from operator import itemgetter
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from rl_framework.agent.reinforcement.composed.batch import Batch, recorded, rows_of
from rl_framework.episode.observation_tree import leaves, map_leaves
from rl_framework.errors import ArgumentError, RLFrameworkError

if TYPE_CHECKING:
    from rl_framework.agent.network.trunk import Trunk

__all__ = ["Rollout", "flattened", "in_chunks"]

_ROWS_AT_ONCE = 8192
"""Rows that a network is given at once outside of training, so that images fit into memory."""


class Rollout:
    """Steps of all slots, as tensors by name; leading axes: `(n_steps, n_slots)`.

    "observations" (before the step; a tensor, or a dict of them), "actions" (as the policy gave them, which need not
    be what the environment got), "rewards", "terminated", "truncated", "starts" (the step is the first of an
    episode), "next_observations" if a part records them, and what parts add.

    Args:
        tensors: What was collected.
        last_observations: What followed the last step, leading axis `n_slots`.
        final_rows: Flat index `step * n_slots + slot` of each step that ended an episode; None: "next_observations" has
            what followed every step.
        final_observations: The last observation of each of these episodes; leading axis as `final_rows`.
        acted: Shape `(n_steps, n_slots)`, bool: which rows are transitions; None: all.
        states: The state of each recurrent trunk before the first step, `(n_slots, state_size)` by trunk name.
        sequence_length: How many steps in a row recurrent networks learn from, a divisor of the number of steps; 1 if
            there are none.
        generator: Where the order of batches comes from; on the CPU.
        timestep: Environment steps at the end of the rollout.
    """

    def __init__(
        self,
        tensors: dict[str, Any],
        last_observations: Any,
        final_rows: Tensor | None,
        final_observations: Any,
        acted: Tensor | None,
        states: dict[str, Tensor],
        sequence_length: int,
        generator: torch.Generator,
        timestep: int = 0,
    ) -> None:
        self.tensors = tensors
        self.last_observations = last_observations
        self.final_rows, self.final_observations = final_rows, final_observations
        self.acted = acted
        self.states = states
        self.sequence_length = sequence_length
        self.generator = generator
        self.timestep = timestep
        self.n_steps, self.n_slots = tensors["rewards"].shape
        self._features: dict[str, Tensor] = {}
        self._flat: dict[str, Any] | None = None

    def __getitem__(self, name: str) -> Any:
        """Returns the tensor of that name.

        Raises:
            ArgumentError: Nobody has recorded it.
        """
        return recorded(self.tensors, name)

    def __setitem__(self, name: str, tensor: Any) -> None:
        for _, leaf in leaves(tensor):
            if not isinstance(leaf, Tensor) or leaf.shape[:2] != (self.n_steps, self.n_slots):
                raise ArgumentError(
                    f"rollout[{name!r}]",
                    tuple(leaf.shape) if isinstance(leaf, Tensor) else leaf,
                    f"must be a tensor with the axes (n_steps, n_slots) first, here ({self.n_steps}, {self.n_slots})",
                    "Of rows, such as rollout.observations gives: rows.reshape(rollout.n_steps, rollout.n_slots).",
                )
        self.tensors[name] = tensor
        self._flat = None

    def __contains__(self, name: object) -> bool:
        return name in self.tensors

    def add(self, name: str, tensor: Tensor) -> None:
        """Adds to what parts before may have contributed under that name."""
        before = self.tensors.get(name)
        self[name] = tensor
        if before is not None:
            self[name] = before + tensor

    @property
    def observations(self) -> Any:
        """Observations of all steps as rows, `(n_steps * n_slots, *shape)`."""
        return flattened(self.tensors["observations"])

    def seen(self) -> Any:
        """Returns the observations of all transitions as rows: without those of slots that held nobody."""
        if self.acted is None:
            return self.observations
        return rows_of(self.observations, self.acted.reshape(-1).nonzero()[:, 0])

    @property
    def ended(self) -> Tensor:
        """Shape `(n_steps, n_slots)`, bool: the step ended an episode."""
        return self.tensors["terminated"] | self.tensors["truncated"]

    # Networks over the whole rollout, without gradients

    def features(self, trunk: Trunk) -> Tensor:
        """Returns what a trunk makes of every step, as rows; computed once as long as the trunk does not learn."""
        if trunk.name not in self._features:
            if trunk.state_size:
                self._unroll(trunk)
            else:
                self._features[trunk.name] = in_chunks(trunk, self.observations)
        return self._features[trunk.name]

    def values(self, value: Any) -> Tensor:
        """Returns what a value network says of the observation of each step, `(n_steps, n_slots)`."""
        return value.of_features(self.features(value.trunk)).reshape(self.n_steps, self.n_slots)

    def next_values(self, value: Any, values: Tensor, episodic: bool = True) -> Tensor:
        """Returns what a value network says of what followed each step, `(n_steps, n_slots)`.

        Args:
            value: The value network.
            values: What `values` gave for it.
            episodic: Whether the end of an episode is an end: what follows is then its last observation (which counts
                only where it was truncated), otherwise the first one of the next episode.
        """
        state = None
        if value.trunk.state_size:
            self.features(value.trunk)
            state = (self._last_states[value.trunk.name], self.ended[-1])
        following = self.following(values, value.of(self.last_observations, state))
        if not episodic:
            return following
        if self.final_rows is None:
            observations = flattened(self.tensors["next_observations"])
            if value.trunk.state_size:
                before = self._states_after[value.trunk.name]
                after = value.of(observations, (before, torch.zeros_like(self.ended.flatten())))
            else:
                after = in_chunks(value.of, observations)
            return torch.where(self.ended, after.reshape(values.shape), following)
        if len(self.final_rows):
            states = None
            if value.trunk.state_size:
                before = self._states_after[value.trunk.name][self.final_rows]
                states = (before, torch.zeros(len(before), dtype=torch.bool, device=before.device))
            following.view(-1)[self.final_rows] = value.of(self.final_observations, states)
        return following

    def following(self, numbers: Tensor, last: Tensor) -> Tensor:
        """Returns for each step the number of the next observation of its slot, `(n_steps, n_slots)`.

        At the end of an episode this is the first observation of the next one.

        Args:
            numbers: One for each observation, `(n_steps, n_slots)`.
            last: Those of `last_observations`, `(n_slots,)`.
        """
        if self.acted is None:
            return torch.cat([numbers[1:], last[None]])
        following = torch.empty_like(numbers)
        upcoming = last
        for step in reversed(range(self.n_steps)):
            following[step] = upcoming
            upcoming = torch.where(self.acted[step], numbers[step], upcoming)
        return following

    # Recurrent trunks

    def _unroll(self, trunk: Trunk) -> None:
        if not hasattr(self, "_last_states"):
            self._last_states: dict[str, Tensor] = {}
            self._states_after: dict[str, Tensor] = {}
        observations, starts = self.tensors["observations"], self.tensors["starts"]
        state = self.states[trunk.name]
        at_starts, after, features = [], [], []
        for step in range(self.n_steps):
            if step % self.sequence_length == 0:
                at_starts.append(state)
            one = _slice(observations, step, step + 1)
            feature, new_state = trunk.unroll(one, state, starts[step : step + 1])
            state = new_state if self.acted is None else torch.where(self.acted[step][:, None], new_state, state)
            features.append(feature[0])
            after.append(state)
        self._features[trunk.name] = torch.cat(features)
        self._states_after[trunk.name] = torch.cat(after)
        self._last_states[trunk.name] = state
        self.tensors[f"state/{trunk.name}"] = torch.stack(at_starts)

    def last_states(self) -> dict[str, Tensor]:
        """Returns the state of each recurrent trunk after the last step, by trunk name."""
        return getattr(self, "_last_states", {})

    # Batches

    def batch(self) -> Batch:
        """Returns all transitions as one batch."""
        return next(self.minibatches(None))

    def minibatches(self, batch_size: int | None, n_epochs: int = 1) -> Iterator[Batch]:
        """Yields all transitions in random order, `n_epochs` times.

        Args:
            batch_size: Rows of each batch; the last of an epoch may be smaller. None: all in one, in their order.
            n_epochs: How often.
        """
        rows = None if self.acted is None else self.acted.reshape(-1).nonzero()[:, 0]
        count = self.n_steps * self.n_slots if rows is None else len(rows)
        if count == 0:
            raise RLFrameworkError(
                f"nobody was there for a whole rollout of {self.n_steps} steps: there is nothing to learn from; "
                "collect longer rollouts"
            )
        if self.states:
            yield from self._sequences(batch_size, n_epochs)
            return
        flat = self._rows()
        device = self.tensors["rewards"].device
        for _ in range(n_epochs):
            if batch_size is None:
                chosen = flat if rows is None else {name: rows_of(value, rows) for name, value in flat.items()}
                yield Batch(chosen)
                continue
            order = torch.randperm(count, generator=self.generator).to(device)
            order = order if rows is None else rows[order]
            shuffled = {name: rows_of(value, order) for name, value in flat.items()}
            for start in range(0, count, batch_size):
                # A single row has no standard deviation, by which advantages are divided.
                if count - start == 1 < batch_size and start > 0:
                    continue
                yield Batch({name: _slice(value, start, start + batch_size) for name, value in shuffled.items()})

    def _rows(self) -> dict[str, Any]:
        if self._flat is None:
            states = {name for name in self.tensors if name.startswith("state/")}
            self._flat = {name: flattened(value) for name, value in self.tensors.items() if name not in states}
        return self._flat

    def _sequences(self, batch_size: int | None, n_epochs: int) -> Iterator[Batch]:
        length = self.sequence_length
        chunks = self.n_steps // length
        count = chunks * self.n_slots
        each = count if batch_size is None else max(1, batch_size // length)
        device = self.tensors["rewards"].device
        for _ in range(n_epochs):
            order = torch.arange(count) if batch_size is None else torch.randperm(count, generator=self.generator)
            for start in range(0, count, each):
                chosen = order[start : start + each].to(device)
                tensors = {
                    name: self._sequence_rows(name, value, chosen, chunks) for name, value in self.tensors.items()
                }
                if self.acted is None:
                    yield Batch(tensors, length)
                    continue
                acted = self._sequence_rows("acted", self.acted, chosen, chunks)
                rows = acted.nonzero()[:, 0]
                # A single row has no standard deviation, by which advantages are divided.
                if len(rows) > 1 or count <= each:
                    whole = {"observations": tensors["observations"], "starts": tensors["starts"], "acted": acted}
                    there = {
                        name: value if name.startswith("state/") else rows_of(value, rows)
                        for name, value in tensors.items()
                    }
                    yield Batch(there, length, whole)

    def _sequence_rows(self, name: str, value: Any, chosen: Tensor, chunks: int) -> Any:
        if isinstance(value, dict):
            return {key: self._sequence_rows(name, part, chosen, chunks) for key, part in value.items()}
        if name.startswith("state/"):
            return value.reshape(-1, value.shape[-1])[chosen]
        length = self.sequence_length
        split = value.reshape(chunks, length, self.n_slots, *value.shape[2:]).transpose(1, 2)
        rows = split.reshape(chunks * self.n_slots, length, *value.shape[2:])[chosen]
        return rows.transpose(0, 1).reshape(length * len(chosen), *value.shape[2:])


def in_chunks(network: Callable[[Any], Tensor], observations: Any) -> Tensor:
    """Applies a network to many rows, a part at a time."""
    first = next(iter(observations.values())) if isinstance(observations, dict) else observations
    if len(first) <= _ROWS_AT_ONCE:
        return network(observations)
    starts = range(0, len(first), _ROWS_AT_ONCE)
    return torch.cat([network(_slice(observations, start, start + _ROWS_AT_ONCE)) for start in starts])


def flattened(value: Any) -> Any:
    """Joins the axes of steps and slots into rows."""
    return map_leaves(lambda tensor: tensor.flatten(0, 1), value)


def _slice(value: Any, start: int, end: int) -> Any:
    return map_leaves(itemgetter(slice(start, end)), value)
