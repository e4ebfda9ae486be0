"""From observations to features: the part of a network that policies, values and others can share."""

from __future__ import annotations

from typing import Any

import torch
from gymnasium import spaces
from torch import Tensor, nn

from rl_framework.agent.network.dict_inputs import features_dim_of
from rl_framework.agent.network.preprocessing import (
    is_visual,
    observation_encoder,
    one_step,
    with_steps,
    without_steps,
)
from rl_framework.agent.network.specification import build_network
from rl_framework.errors import RLFrameworkError

__all__ = ["Trunk", "build_trunk", "is_visual"]

_SEQUENCE_LENGTH = 16


class Trunk(nn.Module):
    """A network with all that turns observations into its input.

    Args:
        name: By which it is shared.
        network: Maps encoded observations to features; see `build_network`.
        observation_space: Space of one observation.
        normaliser: Applied to observations before all else; belongs to somebody else, who trains, moves and saves it.

    Attributes:
        name: By which it is shared.
        features_dim: Number of features.
        state_size: Length of the state of a recurrent network; 0: it has none.
        sequence_length: How many steps in a row a recurrent network learns from; 1: it is not recurrent.
    """

    def __init__(
        self,
        name: str,
        network: nn.Module,
        observation_space: spaces.Space[Any],
        normaliser: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.name = name
        self.network = network
        self.features_dim = features_dim_of(network)
        self.state_size: int = getattr(network, "state_size", 0)
        self.sequence_length: int = getattr(network, "sequence_length", _SEQUENCE_LENGTH) if self.state_size else 1
        self._encode, _ = observation_encoder(observation_space)
        self._normaliser = _Lent(normaliser)

    def forward(self, observations: Any) -> Tensor:
        """Returns features, `(rows, features_dim)`; only for networks without a state.

        Args:
            observations: A tensor, or a dict of them, as the environment gives them; leading axis: rows.

        Raises:
            RLFrameworkError: The network is recurrent.
        """
        if self.state_size:
            raise RLFrameworkError(
                f"the network {self.name!r} is recurrent, and is used here without its state: give "
                f"networks[{self.name!r}] another type (who writes a part: use batch.features(trunk))"
            )
        features: Tensor = self.network(self.encode(observations))
        return features

    def step(self, observations: Any, state: Tensor | None, starts: Tensor | None) -> tuple[Tensor, Tensor]:
        """Takes one step of a recurrent network.

        Args:
            observations: Leading axis: rows.
            state: Shape `(rows, state_size)`; None: all begin an episode.
            starts: Shape `(rows,)`, bool: who begins an episode and forgets its state; None: nobody.

        Returns:
            Features `(rows, features_dim)`, and the next state.
        """
        encoded = self.encode(observations)
        if state is None:
            first = next(iter(encoded.values())) if isinstance(encoded, dict) else encoded
            state = first.new_zeros(len(first), self.state_size)
        elif starts is not None:
            state = state.masked_fill(starts.unsqueeze(1), 0.0)
        features, state = self.network(encoded, state)
        return features, state

    def unroll(
        self, observations: Any, state: Tensor, starts: Tensor, acted: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Takes many steps of a recurrent network in a row.

        Args:
            observations: Leading axes: steps and rows.
            state: Before the first step, `(rows, state_size)`.
            starts: Shape `(steps, rows)`, bool: the step is the first of an episode.
            acted: Shape `(steps, rows)`, bool: where it is False nothing was seen, and the state stays as it is; None:
                it is True everywhere.

        Returns:
            Features `(steps, rows, features_dim)`, and the state after the last step.
        """
        steps = len(starts)
        encoded = with_steps(self.encode(without_steps(observations)), steps)
        if acted is None and hasattr(self.network, "unroll"):
            features, state = self.network.unroll(encoded, state, starts)  # type: ignore[operator]
            return features, state
        collected = []
        for step in range(steps):
            state = state.masked_fill(starts[step].unsqueeze(1), 0.0)
            features, following = self.network(one_step(encoded, step), state)
            state = following if acted is None else torch.where(acted[step].unsqueeze(1), following, state)
            collected.append(features)
        return torch.stack(collected), state

    def initial_state(self, n: int) -> Tensor:
        """Returns the state of `n` rows that begin an episode, `(n, state_size)`."""
        like = next(self.parameters(), None)
        return torch.zeros(n, self.state_size, device=None if like is None else like.device)

    def encode(self, observations: Any) -> Any:
        """Returns the input of the network: normalised, as float tensors."""
        normaliser = self._normaliser.module
        return self._encode(observations if normaliser is None else normaliser(observations))


class _Lent:
    """Holds a module that belongs to somebody else, out of sight of torch."""

    def __init__(self, module: nn.Module | None) -> None:
        self.module = module

    def __deepcopy__(self, memo: dict[int, Any]) -> _Lent:
        # A target network goes on to see what its original sees; only a copy of everything copies the module too.
        return _Lent(memo.get(id(self.module), self.module))


def build_trunk(
    name: str,
    specification: Any,
    observation_space: spaces.Space[Any],
    normaliser: nn.Module | None = None,
) -> Trunk:
    """Builds a trunk.

    Args:
        name: By which it is shared.
        specification: A registered name, a class, `{"type": name or class, ...}` or None; see `build_network`.
        observation_space: Space of one observation.
        normaliser: Applied to observations before all else, or None.

    Raises:
        UnknownNameError: There is no such network, or it has no such parameter.
        ArgumentError: A value cannot be used.
        UnsupportedSpaceError: No network takes such observations.
    """
    _, input_space = observation_encoder(observation_space)
    network = build_network(specification, input_space, f"networks[{name!r}]")
    return Trunk(name, network, observation_space, normaliser)
