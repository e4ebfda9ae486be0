"""What recorded episodes exchange with other libraries and with the Hugging Face Hub."""

from __future__ import annotations

import os
from abc import abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Self, cast

import gymnasium

from rl_framework.episode.episode import Episode
from rl_framework.episode.storage import EpisodeStorage

if TYPE_CHECKING:
    import d3rlpy
    from imitation.data.types import TrajectoryWithRew

    from rl_framework.episode.sequence import EpisodeSequence

__all__ = ["Exchange"]

Space = gymnasium.Space[Any]
GenericStep = tuple[Any, Any, Any, float, bool, bool, dict[str, Any]]


class Exchange(Sequence[Episode]):
    """Methods of `EpisodeSequence` that lead to and from elsewhere; each loads what it needs when it is called."""

    @classmethod
    @abstractmethod
    def from_storage(cls, storage: EpisodeStorage) -> Self:
        """Returns all episodes of a storage."""

    @property
    def _all(self) -> EpisodeSequence:
        return cast("EpisodeSequence", self)

    @classmethod
    def from_minari(cls, name_or_path: str | os.PathLike[str], **options: Any) -> Self:
        """Opens a data set of Minari.

        Args:
            name_or_path: Name of a local data set, or its folder.
            options: Passed to `rl_framework.episode.formats.minari.read_minari`.

        Raises:
            EpisodeDataError: The data is damaged.
            MissingExtraError: Minari is not installed.
        """
        from rl_framework.episode.formats.minari import read_minari

        return cls.from_storage(read_minari(name_or_path, **options))

    @classmethod
    def from_unity_demo(cls, path: str | os.PathLike[str], **options: Any) -> Self:
        """Reads recordings of Unity's ML-Agents (`.demo`) into a temporary data set.

        Spaces are those of a `UnityEnvironmentAdapter` with the same options, so that an `ImitationAgent` that learns
        from the recordings can act there.

        Args:
            path: A file, or a folder with files of one behaviour.
            options: `shifted`, `visual_observations`, `hybrid_actions`, `n_bins`, `group_rewards`, `directory`; see
                `rl_framework.episode.formats.unity_demo.read_unity_demo`, also for what it raises.

        Raises:
            EpisodeDataError: A file is damaged, cut short or hostile; the message names it and the byte.
            MissingExtraError: The extra "unity" is not installed.
        """
        from rl_framework.episode.formats.unity_demo import read_unity_demo

        return cls.from_storage(read_unity_demo(path, **options))

    @classmethod
    def from_hub(
        cls,
        repository_id: str,
        revision: str | None = None,
        trust: bool = False,
        observation_space: Space | None = None,
        action_space: Space | None = None,
        **options: Any,
    ) -> Self:
        """Opens a data set on the Hugging Face Hub: what `push_to_hub` sent, or one of the imitation library.

        Files are fetched once, into the cache of the Hub's client, and their sizes and checksums are compared with
        those that the Hub tells.

        Args:
            repository_id: Such as "user/name" or "HumanCompatibleAI/ppo-seals-CartPole-v0".
            revision: Branch, tag or commit; None: the newest.
            trust: Whether pickled parts may be loaded, as in `from_dataset`.
            observation_space: Space of the observations, where the data does not say it; None: guessed.
            action_space: The same for actions.
            options: `token`, `endpoint`, `retry`; see `rl_framework.episode.formats.hub.push_to_hub`.

        Raises:
            ConnectorError: It could not be fetched.
            EpisodeDataError: It holds no episodes, or they are damaged or hostile.
            MissingExtraError: The extra "huggingface" is not installed.
        """
        from rl_framework.episode.formats.hub import read_from_hub

        return cls.from_storage(
            read_from_hub(repository_id, revision, trust, observation_space, action_space, **options)
        )

    def push_to_hub(self, repository_id: str, **options: Any) -> str:
        """Sends the episodes to the Hugging Face Hub, as a data set with a page, in one commit.

        Args:
            repository_id: "user/name" or "organisation/name"; made if it is missing.
            options: `private`, `revision`, `commit_message`, `information`, `token`; see
                `rl_framework.episode.formats.hub.push_to_hub`, also for what it raises.

        Returns:
            The address of the commit.
        """
        from rl_framework.episode.formats.hub import push_to_hub

        return push_to_hub(self._all, repository_id, **options)

    def save_minari(self, name: str, **options: Any) -> Any:
        """Writes a local data set of Minari.

        Args:
            name: Its name, such as `"cartpole/expert-v0"`.
            options: Passed to `rl_framework.episode.formats.minari.save_minari`.

        Raises:
            MissingExtraError: Minari is not installed.
        """
        from rl_framework.episode.formats.minari import save_minari

        return save_minari(self._all, name, **options)

    def to_imitation_episodes(self) -> Sequence[TrajectoryWithRew]:
        """Returns the episodes as the imitation library takes them, each made when it is asked for.

        Raises:
            MissingExtraError: imitation is not installed.
        """
        from rl_framework.episode.formats.imitation import to_imitation_episodes

        return to_imitation_episodes(self._all)

    def to_d3rlpy_episodes(self) -> Sequence[d3rlpy.dataset.Episode]:
        """Returns the episodes as d3rlpy takes them.

        Raises:
            MissingExtraError: d3rlpy is not installed.
        """
        from rl_framework.episode.formats.d3rlpy import to_d3rlpy_episodes

        return to_d3rlpy_episodes(self._all)

    def to_generic_episodes(self) -> Sequence[Sequence[GenericStep]]:
        """Returns the episodes as lists of steps: observation, action, next, reward, terminated, truncated, info."""
        from rl_framework.episode.formats.generic import to_generic_episodes

        return to_generic_episodes(self._all)
