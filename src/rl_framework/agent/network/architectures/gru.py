"""A recurrent network: memory for what a single observation does not show."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from gymnasium import spaces
from torch import Tensor, nn
from torch.nn import functional

from rl_framework.agent.network.architectures.sizes import check_size, check_sizes
from rl_framework.agent.network.dict_inputs import features_dim_of
from rl_framework.agent.network.preprocessing import is_visual, without_steps
from rl_framework.agent.network.specification import build_network
from rl_framework.errors import ArgumentError

__all__ = ["GRU"]


class GRU(nn.Module):
    """An encoder, and a gated recurrent unit (Cho et al. 2014), the state of which is the features.

    Args:
        input_space: Space of one encoded observation.
        hidden_size: Length of the state.
        encoder_sizes: Width of each layer of an "mlp" between observation and cell; None: [64], and for images what
            suits them.
        sequence_length: How many steps in a row it learns from.
        encoder: Another network between observation and cell, as in `build_network`; without `encoder_sizes`.

    Raises:
        ArgumentError: A size is none, both encoders are given, or the encoder is itself recurrent.
    """

    takes_dicts: ClassVar[bool] = True
    inner_networks: ClassVar[tuple[str, ...]] = ("encoder",)

    def __init__(
        self,
        input_space: spaces.Box | spaces.Dict,
        hidden_size: int = 64,
        encoder_sizes: Sequence[int] | None = None,
        sequence_length: int = 16,
        encoder: Any = None,
    ) -> None:
        super().__init__()
        self.features_dim = self.state_size = check_size("hidden_size", hidden_size)
        self.sequence_length = check_size("sequence_length", sequence_length)
        if encoder_sizes is not None:
            check_sizes("encoder_sizes", encoder_sizes)
            if encoder is not None:
                raise ArgumentError("encoder", encoder, "encoder_sizes is given too", "Pass one of the two.")
        if encoder is None and (encoder_sizes is not None or not is_visual(input_space)):
            encoder = {"type": "mlp", "hidden_sizes": (64,) if encoder_sizes is None else encoder_sizes}
        self.encoder = build_network(encoder, input_space, "encoder")
        if getattr(self.encoder, "state_size", 0):
            raise ArgumentError("encoder", encoder, "is recurrent itself")
        self.cell = nn.GRUCell(features_dim_of(self.encoder), hidden_size)
        for weight, bias in ((self.cell.weight_ih, self.cell.bias_ih), (self.cell.weight_hh, self.cell.bias_hh)):
            # Each gate by itself: the three have nothing to be orthogonal about.
            for gate in weight.detach().chunk(3):
                nn.init.orthogonal_(gate)
            nn.init.zeros_(bias)

    def forward(self, observations: Any, state: Tensor) -> tuple[Tensor, Tensor]:
        """Returns features `(rows, features_dim)` and the next state `(rows, state_size)`: the same tensor."""
        state = self._next(self._gates(observations), state)
        return state, state

    def unroll(self, observations: Any, state: Tensor, starts: Tensor) -> tuple[Tensor, Tensor]:
        """Takes many steps in a row; see `Trunk.unroll`. All but the cell is computed for all steps at once."""
        steps, rows = starts.shape
        gates = self._gates(without_steps(observations)).unflatten(0, (steps, rows))
        states = []
        for step in range(steps):
            state = self._next(gates[step], state.masked_fill(starts[step].unsqueeze(1), 0.0))
            states.append(state)
        return torch.stack(states), state

    def _gates(self, observations: Any) -> Tensor:
        return functional.linear(self.encoder(observations), self.cell.weight_ih, self.cell.bias_ih)

    def _next(self, gates: Tensor, state: Tensor) -> Tensor:
        recurrent = functional.linear(state, self.cell.weight_hh, self.cell.bias_hh)
        reset_in, update_in, new_in = gates.chunk(3, -1)
        reset_from, update_from, new_from = recurrent.chunk(3, -1)
        reset = torch.sigmoid(reset_in + reset_from)
        update = torch.sigmoid(update_in + update_from)
        new = torch.tanh(new_in + reset * new_from)
        return torch.lerp(new, state, update)
