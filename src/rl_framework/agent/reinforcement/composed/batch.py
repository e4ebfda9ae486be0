"""What one optimizer step learns from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from torch import Tensor

from rl_framework.episode.observation_tree import map_leaves
from rl_framework.errors import ArgumentError

if TYPE_CHECKING:
    from rl_framework.agent.network.trunk import Trunk

__all__ = ["Batch", "recorded", "rows_of"]


class Batch:
    """Rows of a rollout, a replay buffer or recorded episodes, as tensors by name; leading axis: rows.

    Args:
        tensors: By name: "observations" (a tensor, or a dict of them), "actions", "rewards", and what parts added.
        sequence_length: For recurrent networks: how many steps in a row belong together. Row `t * n + i` is then step
            `t` of sequence `i` of `n`; "starts" tells where episodes begin, and "state/<trunk>", `(n, state_size)`,
            in which state each sequence begins.
        sequences: Where some rows of the sequences are no transitions, and `tensors` is without them: "observations",
            "starts" and "acted" of all rows, by which recurrent networks find their way through the others; None:
            there are no such rows.

    Attributes:
        reported: Numbers to look at, by name; see `report`.
        veto: Whether a part refuses the optimizer step, a bool tensor without axes, or None; see `refuse_if`.
        vetoed: Whether the optimizer step was refused; known after it.
    """

    def __init__(
        self, tensors: Mapping[str, Any], sequence_length: int = 1, sequences: Mapping[str, Any] | None = None
    ) -> None:
        self.tensors = dict(tensors)
        self.sequence_length = sequence_length
        self.sequences = sequences
        self.reported: dict[str, Tensor] = {}
        self.veto: Tensor | None = None
        self.vetoed = False
        self._features: dict[str, Tensor] = {}

    def __getitem__(self, name: str) -> Any:
        """Returns the tensor of that name.

        Raises:
            ArgumentError: Nobody has recorded it.
        """
        return recorded(self.tensors, name)

    def __setitem__(self, name: str, tensor: Any) -> None:
        self.tensors[name] = tensor

    def __contains__(self, name: object) -> bool:
        return name in self.tensors

    def __iter__(self) -> Iterator[str]:
        return iter(self.tensors)

    def __len__(self) -> int:
        observations = self.tensors["observations"]
        return len(next(iter(observations.values())) if isinstance(observations, dict) else observations)

    @property
    def observations(self) -> Any:
        """The observations: a tensor, or a dict of them."""
        return self.tensors["observations"]

    def features(self, trunk: Trunk) -> Tensor:
        """Returns what a trunk makes of the observations, `(rows, features_dim)`; computed once, however many ask."""
        if trunk.name not in self._features:
            self._features[trunk.name] = self._computed(trunk)
        return self._features[trunk.name]

    def report(self, name: str, value: Tensor) -> None:
        """Tracks a number: a tensor without axes, averaged over the steps of a round under "train/<name>"."""
        self.reported[name] = value.detach() if isinstance(value, Tensor) else value

    def refuse_if(self, condition: Tensor) -> None:
        """Refuses the optimizer step of this batch where the condition, a bool tensor without axes, holds."""
        condition = condition.detach()
        self.veto = condition if self.veto is None else self.veto | condition

    def _computed(self, trunk: Trunk) -> Tensor:
        if not trunk.state_size:
            return trunk(self.observations)
        whole = self.tensors if self.sequences is None else self.sequences
        shape = (self.sequence_length, len(whole["starts"]) // self.sequence_length)
        steps = map_leaves(lambda tensor: tensor.reshape(*shape, *tensor.shape[1:]), whole["observations"])
        starts, state = whole["starts"].reshape(shape), self.tensors[f"state/{trunk.name}"]
        if self.sequences is None:
            features, _ = trunk.unroll(steps, state, starts)
            return features.flatten(0, 1)
        acted = whole["acted"].reshape(shape)
        features, _ = trunk.unroll(steps, state, starts, acted)
        return features[acted]


def recorded(tensors: Mapping[str, Any], name: str) -> Any:
    """Returns the tensor of that name.

    Raises:
        ArgumentError: There is none.
    """
    if name not in tensors:
        raise ArgumentError(
            "parts",
            name,
            f"a part asks for it and nobody has recorded it; there are {', '.join(sorted(tensors))}",
            "Let the part say what it `needs` of others or `records`, or add it in `annotate` or `prepare`.",
        )
    return tensors[name]


def rows_of(value: Any, rows: Tensor) -> Any:
    """Returns some rows of a tensor, or of each tensor of a dict."""
    return map_leaves(lambda tensor: tensor.index_select(0, rows), value)
