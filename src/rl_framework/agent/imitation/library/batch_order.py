"""The order of batches as a function of a seed, so that any batch can be the next one."""

from __future__ import annotations

import numpy as np
import torch

from rl_framework.errors import ArgumentError

__all__ = ["BatchOrder"]


class BatchOrder:
    """Which transitions each batch holds.

    Every epoch has an order of its own, which depends on the seed and the number of the epoch only. A transition comes
    once in an epoch; what is left at its end and fills no batch is left out, as in the imitation library.

    Memory is one index for each transition.

    Args:
        n_transitions: How many there are.
        batch_size: How many make a batch.
        *seed: Numbers that give the orders.

    Raises:
        ArgumentError: There are too few transitions for one batch.

    Attributes:
        batches_per_epoch: Whole batches in an epoch.
    """

    def __init__(self, n_transitions: int, batch_size: int, *seed: int) -> None:
        if batch_size < 1 or batch_size > n_transitions:
            raise ArgumentError(
                "batch_size",
                batch_size,
                f"there are {n_transitions} transitions",
                f"Give a number from 1 to {n_transitions}, or more episodes.",
            )
        self.n_transitions = n_transitions
        self.batch_size = batch_size
        self.batches_per_epoch = n_transitions // batch_size
        self._seed = seed
        self._epoch = -1
        self._order = torch.empty(0, dtype=torch.int64)

    def rows(self, index: int) -> torch.Tensor:
        """Returns the transitions of a batch.

        Args:
            index: Which batch, counted from 0 over all epochs.

        Returns:
            Shape `(batch_size,)`, integers.
        """
        epoch, batch = divmod(index, self.batches_per_epoch)
        if epoch != self._epoch:
            dtype = np.int32 if self.n_transitions <= np.iinfo(np.int32).max else np.int64
            order = np.arange(self.n_transitions, dtype=dtype)
            np.random.default_rng([*self._seed, epoch]).shuffle(order)
            self._epoch, self._order = epoch, torch.from_numpy(order)
        return self._order[batch * self.batch_size : (batch + 1) * self.batch_size]
