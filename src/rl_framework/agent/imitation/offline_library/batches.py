"""Batches for d3rlpy, drawn from recorded episodes that stay where they are.

Which transitions make a batch is a function of the seed and the number of the batch, so that an interrupted training
goes on with the batch that comes next. They are drawn evenly and with replacement, as d3rlpy's own buffer does.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from rl_framework.agent.imitation.offline_library.forms import ActionForm, ObservationForm
from rl_framework.episode import EpisodeSequence
from rl_framework.episode.observation_tree import leaves
from rl_framework.errors import ArgumentError, EpisodeDataError

__all__ = ["StretchBatches", "TransitionBatches"]


class _Batches:
    """What both kinds share.

    Args:
        episodes: Where they come from.
        observations: The library's form of observations.
        actions: The library's form of actions.
        algorithm: The library's object, which has the scalers, the discount and the device.
        seed: Gives the order.
    """

    def __init__(
        self, episodes: EpisodeSequence, observations: ObservationForm, actions: ActionForm, algorithm: Any, seed: int
    ) -> None:
        self._transitions = episodes.transitions()
        self._episodes = episodes
        self._observations = observations
        self._actions = actions
        self._algorithm = algorithm
        self._seed = seed
        self._ends = np.cumsum(episodes.lengths)
        self._starts = self._ends - episodes.lengths
        self._drawable: NDArray[np.int64] | None = None

    def draw(self, number: int, size: int) -> Any:
        """Returns a batch as the library's algorithms take it.

        Args:
            number: Which batch, counted from 0.
            size: How many it is made of.
        """
        generator = np.random.Generator(np.random.Philox(key=self._seed, counter=[0, 0, 0, number]))
        count = len(self._transitions) if self._drawable is None else len(self._drawable)
        rows = generator.integers(0, count, size)
        return self.at(rows if self._drawable is None else self._drawable[rows])

    def at(self, rows: NDArray[np.int64]) -> Any:
        """Returns the batch of these transitions.

        Args:
            rows: Shape `(B,)`: which, counted from 0 over all episodes.
        """
        raise NotImplementedError

    def _gathered(self, rows: NDArray[np.int64]) -> Any:
        """Reads transitions, and looks whether they can be learned from: one NaN makes all weights NaN."""
        batch = self._transitions.gather(rows)
        for name, tree in (("observations", batch.observations), ("actions", batch.actions)):
            for _, array in leaves(tree):
                if array.dtype.kind == "f" and not np.isfinite(array).all():
                    raise EpisodeDataError(f"the {name} of the episodes hold NaN or infinity")
        return batch

    def _scaled(self, kind: str, array: NDArray[np.float32]) -> torch.Tensor:
        tensor = torch.from_numpy(array).to(self._algorithm._device)
        scaler = getattr(self._algorithm.config, f"{kind}_scaler")
        return tensor if scaler is None else scaler.transform(tensor)

    def _tensor(self, values: Any) -> torch.Tensor:
        """Makes a column of numbers."""
        array = np.asarray(values, np.float32).reshape(-1, 1)
        return torch.from_numpy(array).to(self._algorithm._device)

    def _rewards(self) -> NDArray[np.float64]:
        return np.concatenate([np.asarray(episode.rewards, np.float64) for episode in self._episodes])

    def _sums_to_the_end(self, rewards: NDArray[np.float64], gamma: float) -> NDArray[np.float32]:
        """Returns for each transition what is earned from it to the end of its episode."""
        sums = np.empty(len(rewards), np.float32)
        for start, end in zip(self._starts, self._ends, strict=True):
            if gamma == 1.0:
                sums[start:end] = np.cumsum(rewards[start:end][::-1])[::-1]
                continue
            total = 0.0
            for row in range(end - 1, start - 1, -1):
                total = rewards[row] + gamma * total
                sums[row] = total
        return sums


class TransitionBatches(_Batches):
    """Batches of single transitions; see `_Batches`.

    Args:
        uses_next_actions: Whether the algorithm looks at the action after the next observation. Where an episode was
            cut there is none, and such transitions are not drawn.
    """

    def __init__(
        self,
        episodes: EpisodeSequence,
        observations: ObservationForm,
        actions: ActionForm,
        algorithm: Any,
        seed: int,
        uses_next_actions: bool = False,
    ) -> None:
        super().__init__(episodes, observations, actions, algorithm, seed)
        self._uses_next_actions = uses_next_actions
        if uses_next_actions:
            last = self._ends - 1
            is_cut = np.zeros(len(self._transitions), np.bool_)
            is_cut[last] = ~self._transitions.gather(last).terminated
            self._drawable = np.flatnonzero(~is_cut)
            if not len(self._drawable):
                raise ArgumentError("episode_sequence", episodes, "has no transition with another one after it")
        self._returns_to_go: NDArray[np.float32] | None = None
        if algorithm.need_returns_to_go:
            rewards, scaler = self._rewards(), algorithm.config.reward_scaler
            rewards = rewards if scaler is None else np.asarray(_scaled_rewards(scaler, rewards), np.float64)
            self._returns_to_go = self._sums_to_the_end(rewards, float(algorithm.config.gamma))

    def at(self, rows: NDArray[np.int64]) -> Any:
        """Returns the batch of these transitions, as the library's `TorchMiniBatch`."""
        from d3rlpy.torch_utility import TorchMiniBatch

        batch = self._gathered(rows)
        actions = self._scaled("action", self._actions(batch.actions))
        next_actions = torch.zeros_like(actions)
        if self._uses_next_actions:
            following = self._transitions.gather(np.minimum(rows + 1, len(self._transitions) - 1)).actions
            next_actions = self._scaled("action", self._actions(following))
        rewards = self._scaled("reward", np.asarray(batch.rewards, np.float32).reshape(-1, 1))
        returns = torch.zeros_like(rewards) if self._returns_to_go is None else self._tensor(self._returns_to_go[rows])
        return TorchMiniBatch(
            observations=self._scaled("observation", self._observations(batch.observations)),
            actions=actions,
            rewards=rewards,
            next_observations=self._scaled("observation", self._observations(batch.next_observations)),
            next_actions=next_actions,
            returns_to_go=returns,
            terminals=self._tensor(batch.terminated),
            intervals=torch.ones_like(rewards),
            device=self._algorithm._device,
        )


class StretchBatches(_Batches):
    """Batches of stretches of episodes, as long as a transformer's context; see `_Batches`.

    A stretch ends with the transition that was drawn. What would lie before its episode is zero and masked.

    Raises:
        ArgumentError: An episode is longer than the transformer can count.
    """

    def __init__(
        self, episodes: EpisodeSequence, observations: ObservationForm, actions: ActionForm, algorithm: Any, seed: int
    ) -> None:
        super().__init__(episodes, observations, actions, algorithm, seed)
        longest, most = int(episodes.lengths.max()), int(algorithm.config.max_timestep)
        if longest > most:
            raise ArgumentError(
                "algorithm_parameters['max_timestep']",
                most,
                f"the longest episode has {longest} steps",
                f"Give {longest} or more.",
            )
        self._length = int(algorithm.config.context_size)
        self._rewards_of_all = self._rewards()
        self._returns_to_go = self._sums_to_the_end(self._rewards_of_all, 1.0)

    def at(self, rows: NDArray[np.int64]) -> Any:
        """Returns the stretches that end with these transitions, as the library's `TorchTrajectoryMiniBatch`."""
        from d3rlpy.torch_utility import TorchTrajectoryMiniBatch

        starts = self._starts[np.searchsorted(self._ends, rows, side="right")][:, None]
        places = rows[:, None] + np.arange(1 - self._length, 1)
        inside = places >= starts
        flat = np.maximum(places, starts)
        batch = self._gathered(flat.reshape(-1))

        def shaped(values: NDArray[Any]) -> NDArray[np.float32]:
            array = values.reshape(*inside.shape, *values.shape[1:]).astype(np.float32, copy=False)
            return np.where(inside.reshape(*inside.shape, *[1] * (array.ndim - 2)), array, np.float32(0))

        device = self._algorithm._device
        return TorchTrajectoryMiniBatch(
            observations=self._scaled("observation", shaped(self._observations(batch.observations))),
            actions=self._scaled("action", shaped(self._actions(batch.actions))),
            rewards=self._scaled("reward", shaped(self._rewards_of_all[flat].reshape(-1, 1))),
            returns_to_go=self._scaled("reward", shaped(self._returns_to_go[flat].reshape(-1, 1))),
            terminals=torch.from_numpy(shaped(batch.terminated.reshape(-1, 1))).to(device),
            timesteps=torch.from_numpy(np.where(inside, places - starts + 1, 0)).to(device),
            masks=torch.from_numpy(inside.astype(np.float32)).to(device),
            device=device,
        )


def _scaled_rewards(scaler: Any, rewards: NDArray[np.float64]) -> Any:
    return scaler.transform_numpy(rewards.reshape(-1, 1)).reshape(-1)
