"""Episodes as plain lists of steps, for code that knows no library. `Episode.from_steps` is the way back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from rl_framework.episode.formats.converted import ConvertedEpisodes
from rl_framework.episode.observation_tree import map_leaves

if TYPE_CHECKING:
    from rl_framework.episode.episode import Episode
    from rl_framework.episode.sequence import EpisodeSequence

__all__ = ["GenericStep", "to_generic_episodes"]

GenericStep = tuple[Any, Any, Any, float, bool, bool, dict[str, Any]]
"""`(observation, action, next_observation, reward, terminated, truncated, info)`"""


def to_generic_episodes(sequence: EpisodeSequence) -> Sequence[list[GenericStep]]:
    """Returns each episode as a list of steps, made when it is asked for.

    Observations and actions are read-only views, or NumPy scalars where a space has no shape. An episode without infos
    has empty ones. `terminated` and `truncated` are False before the last step.

    Args:
        sequence: The episodes.
    """
    return ConvertedEpisodes(sequence, steps_of)


def steps_of(episode: Episode) -> list[GenericStep]:
    """Returns one episode as a list of steps."""
    last = len(episode) - 1
    observations = [_row(episode.observations, row) for row in range(len(episode) + 1)]
    rewards = episode.rewards.tolist()
    infos = [dict(info) for info in episode.infos] if episode.infos is not None else [{} for _ in rewards]
    return [
        (
            observations[step],
            episode.actions[step],
            observations[step + 1],
            rewards[step],
            episode.terminated and step == last,
            episode.truncated and step == last,
            infos[step],
        )
        for step in range(last + 1)
    ]


def _row(observations: Any, row: int) -> Any:
    return map_leaves(lambda leaf: leaf[row], observations)
