"""Statistics of the data for d3rlpy's scalers, without holding the data in memory."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rl_framework.agent.imitation.offline_library.forms import ActionForm, ObservationForm
from rl_framework.episode import EpisodeSequence
from rl_framework.errors import ArgumentError

__all__ = ["SCALERS", "add_default_scalers", "fit_scalers"]

SCALERS = ("observation_scaler", "action_scaler", "reward_scaler")
_BYTES_AT_ONCE = 4 << 20


def add_default_scalers(
    parameters: dict[str, Any], observations: ObservationForm, actions: ActionForm
) -> dict[str, Any]:
    """Returns parameters with the scalers that networks need and the user has not spoken about.

    Images of bytes are divided by 255, and actions are scaled from the bounds of their space to -1 and 1, between
    which the library's policies act.
    """
    defaults: dict[str, Any] = {}
    if observations.holds_pixels:
        defaults["observation_scaler"] = "pixel"
    action_scaler = actions.scaler()
    if action_scaler is not None:
        defaults["action_scaler"] = action_scaler
    return {**defaults, **parameters}


def fit_scalers(
    configuration: Any, episodes: EpisodeSequence, observations: ObservationForm, actions: ActionForm
) -> None:
    """Gives the scalers of a configuration the statistics that they still lack; reads the data a piece at a time.

    Args:
        configuration: Of an algorithm; its scalers are changed.
        episodes: What the statistics are of.
        observations: The library's form of observations.
        actions: The library's form of actions.

    Raises:
        ArgumentError: A scaler of the user's own has no statistics.
    """
    columns: dict[str, Any] = {
        "observation_scaler": lambda batch: observations(batch.observations),
        "action_scaler": lambda batch: actions(batch.actions),
        "reward_scaler": lambda batch: np.asarray(batch.rewards, np.float64),
    }
    rows_at_once = max(1, _BYTES_AT_ONCE // (8 * math.prod(observations.shape)))
    for name in SCALERS:
        scaler = getattr(configuration, name)
        if scaler is None or scaler.built:
            continue
        kind = scaler.get_type()
        if kind == "return":
            scaler.return_min, scaler.return_max = _apart(float(episodes.returns.min()), float(episodes.returns.max()))
        elif kind == "min_max":
            low, high = _extremes(_pieces(episodes, columns[name], rows_at_once))
            scaler.minimum, scaler.maximum = _plain(name, *_apart(low, high))
        elif kind == "standard":
            scaler.mean, scaler.std = _plain(name, *_moments(_pieces(episodes, columns[name], rows_at_once)))
        if not scaler.built:
            raise ArgumentError(
                f"algorithm_parameters[{name!r}]", scaler, "has no statistics yet", "Fit it to the data beforehand."
            )


def _pieces(episodes: EpisodeSequence, column: Any, rows_at_once: int) -> Iterator[NDArray[Any]]:
    transitions = episodes.transitions()
    for start in range(0, len(transitions), rows_at_once):
        yield column(transitions.gather(np.arange(start, min(start + rows_at_once, len(transitions)))))


def _extremes(pieces: Iterator[NDArray[Any]]) -> tuple[Any, Any]:
    low, high = next((piece.min(axis=0), piece.max(axis=0)) for piece in pieces)
    for piece in pieces:
        low, high = np.minimum(low, piece.min(axis=0)), np.maximum(high, piece.max(axis=0))
    return low, high


def _moments(pieces: Iterator[NDArray[Any]]) -> tuple[Any, Any]:
    """Returns mean and standard deviation, merged in a way that does not lose digits where the mean is large."""
    count, mean, squares = 0, np.float64(0), np.float64(0)
    for piece in pieces:
        numbers = piece.astype(np.float64)
        total, of_piece = count + len(numbers), numbers.mean(axis=0)
        shift = of_piece - mean
        mean = mean + shift * (len(numbers) / total)
        squares = squares + ((numbers - of_piece) ** 2).sum(axis=0) + shift**2 * (count * len(numbers) / total)
        count = total
    return mean, np.sqrt(squares / count)


def _apart(low: Any, high: Any) -> tuple[Any, Any]:
    """Keeps what is always the same from being divided by zero."""
    return low, np.where(high > low, high, low + 1) if np.ndim(high) else (high if high > low else low + 1)


def _plain(name: str, *statistics: Any) -> tuple[Any, ...]:
    if name == "reward_scaler":
        return tuple(float(statistic) for statistic in statistics)
    return tuple(np.asarray(statistic, np.float64) for statistic in statistics)
