"""Recordings of Unity's ML-Agents (`.demo`), as its Demonstration Recorder writes them.

A file holds messages of Protocol Buffers, each with its length before it: what the recording is, from byte 33 on what
the behaviour is, and then a record for each observation of one agent: observation, reward since the one before, whether
the episode ended, and an action. After as many records as the first message says, the recorder leaves a few bytes that
mean nothing.

**Which action belongs to which observation.** The recorder writes a record before the agent decides, so the action in
it is the one that was chosen at the record before, and the first of every episode is nothing but zeros (`Agent.cs`,
`SendInfoToBrain`; so it is in all 310 episodes of the 26 recordings that were looked at, which people made with the
versions 2.0.1 and 4.0.2 of the package in Unity). Here an action is put to the observation that it was chosen at.
ML-Agents' own trainers take the action of the same record, which is one decision late; `shifted=False` reads files in
that way, for programs that write an action into the record that it was chosen at.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from rl_framework.episode.checks import check_episode
from rl_framework.episode.episode import Episode
from rl_framework.episode.formats.unity_records import DemoFile, Record
from rl_framework.episode.observation_tree import stacked
from rl_framework.episode.storage import temporary_data_set
from rl_framework.episode.storage.stored import StoredEpisodes
from rl_framework.errors import ArgumentError, EnvironmentSourceError, EpisodeDataError, UnsupportedSpaceError

__all__ = ["read_unity_demo"]

_logger = logging.getLogger(__name__)


def read_unity_demo(
    path: str | os.PathLike[str],
    shifted: bool = True,
    visual_observations: str = "uint8",
    hybrid_actions: str = "dict",
    n_bins: int = 5,
    group_rewards: str = "add",
    directory: str | os.PathLike[str] | None = None,
) -> StoredEpisodes:
    """Reads recordings of one behaviour into a temporary data set, an episode at a time.

    Spaces, images and rewards are those that a `UnityEnvironmentAdapter` with the same options gives, so that an agent
    that has learned from the recordings can act there. Continuous actions beyond -1 and 1 are clipped, as there.

    An episode that was open when the recording stopped is a fragment: neither terminated nor truncated. Where actions
    were masked, the masks are in the infos ("action_mask").

    Args:
        path: A file, or a folder with files.
        shifted: Whether the action of a record was chosen at the record before it, as Unity's recorder writes it; see
            the module.
        visual_observations: "uint8", or "float" for sensors with three dimensions that are no images.
        hybrid_actions: "scores" or "bins", for a behaviour with continuous and discrete actions; see
            `UnityEnvironmentAdapter`. Episodes cannot hold what "dict" makes of them.
        n_bins: How many values each continuous action has with "bins"; recorded ones are rounded.
        group_rewards: "add" or "info": whether the reward of the agent's group is part of its own.
        directory: Folder for the temporary data set; None: the system's folder for temporary files.

    Raises:
        ArgumentError: There is no such recording, or an option cannot be used.
        EpisodeDataError: A file is damaged, cut short, hostile or empty, or differs from the others; the message names
            the file and the byte.
        UnsupportedSpaceError: The behaviour has both kinds of actions, and `hybrid_actions` is "dict".
        MissingExtraError: The extra "unity" is not installed.
    """
    from rl_framework.environment.unity.options import make_options
    from rl_framework.environment.unity.protobuf_loader import load_mlagents_envs

    load_mlagents_envs("EpisodeSequence.from_unity_demo")
    options = make_options(
        {
            "visual_observations": visual_observations,
            "hybrid_actions": hybrid_actions,
            "n_bins": n_bins,
            "group_rewards": group_rewards,
        }
    )
    files = [DemoFile(each) for each in _files_of(Path(path))]
    recording = _Recording(files[0], options, shifted)
    for file in files[1:]:
        file.check_alike(files[0])
    count = sum(file.count_episodes() for file in files)
    if not count:
        raise EpisodeDataError(f"{path}: holds no step")
    episodes = (episode for file in files for episode in recording.episodes(file))
    return temporary_data_set(episodes, count, recording.observation_space, recording.action_space, directory)


def _files_of(path: Path) -> list[Path]:
    if path.is_dir():
        files = sorted(each for each in path.iterdir() if each.suffix == ".demo" and each.is_file())
        if not files:
            raise ArgumentError("path", str(path), "there is no file in it whose name ends with .demo")
        return files
    if not path.is_file():
        raise ArgumentError("path", str(path), "there is no such recording")
    return [path]


class _Recording:
    """The translation of records into episodes.

    Args:
        file: One of the recordings, which says what the behaviour is.
        options: Those of an adapter.
        shifted: See `read_unity_demo`.
    """

    def __init__(self, file: DemoFile, options: Any, shifted: bool) -> None:
        from rl_framework.environment.unity.spaces import BehaviorSpaces

        self._options, self._shifted = options, shifted
        self._specification = file.specification()
        try:
            self._spaces = BehaviorSpaces(file.behavior_name, self._specification, options)
        except EnvironmentSourceError as error:
            raise EpisodeDataError(f"{file.path}: {error}") from error
        self.observation_space: gymnasium.Space[Any] = self._spaces.observation_space
        self.action_space: gymnasium.Space[Any] = self._spaces.action_space
        if isinstance(self.action_space, spaces.Dict):
            raise UnsupportedSpaceError(
                "hybrid_actions",
                options.hybrid_actions,
                f"behaviour {file.behavior_name!r} has {self._spaces.n_continuous} continuous actions and the discrete "
                f"branches {self._spaces.branches}, and episodes hold arrays",
                'Give hybrid_actions="scores" or "bins", here and to the UnityEnvironmentAdapter.',
            )

    def episodes(self, file: DemoFile) -> Iterator[Episode]:
        """Yields the episodes of a file."""
        told = False
        for records in file.episodes():
            where = f"{file.path}: the episode at byte {records[0].offset}"
            observations, masks = self._observations(file, records)
            chosen = [record.action for record in (records[1:] if self._shifted else records[:-1])]
            continuous = np.array([each[0] for each in chosen], np.float32).reshape(len(chosen), -1)
            beyond = np.abs(continuous).max(initial=0.0)
            if beyond > 1.0 and not told:
                _logger.warning("%s: actions beyond -1 and 1, such as %g, are clipped", file.path, beyond)
                told = True
            last = records[-1].info
            episode = Episode(
                observations,
                self._actions(continuous, np.array([each[1] for each in chosen], np.int64).reshape(len(chosen), -1)),
                np.array([self._reward(record) for record in records[1:]]),
                terminated=bool(last.done and not last.max_step_reached),
                truncated=bool(last.done and last.max_step_reached),
                infos=masks,
            )
            check_episode(episode, self.observation_space, self.action_space, where)
            yield episode

    def _observations(self, file: DemoFile, records: list[Record]) -> tuple[Any, list[dict[str, Any]] | None]:
        from mlagents_envs.rpc_utils import steps_from_proto

        decoded = None
        try:
            decoded = steps_from_proto([record.info for record in records], self._specification)
        except Exception as error:
            # One by one, to find out which. A sum of infinities, say, is in none of them alone.
            for record in records:
                with file.located(record.offset):
                    steps_from_proto([record.info], self._specification)
            raise EpisodeDataError(f"{file.path}: the episode at byte {records[0].offset}: {error}") from error
        with file.located(records[0].offset):
            rows = [row for steps in decoded if len(steps) for row in self._spaces.observations(steps)]
            masks = self._spaces.masks(decoded[0])
        observations = stacked(rows)
        if not self._spaces.branches or not any(len(record.info.action_mask) for record in records):
            return observations, None
        infos = [self._spaces.mask_info(mask) for mask in masks[1:]]
        return observations, infos + [{} for _ in range(len(records) - 1 - len(infos))]

    def _reward(self, record: Record) -> float:
        own = float(record.info.reward)
        group = float(getattr(record.info, "group_reward", 0.0))
        return own + group if self._options.group_rewards == "add" else own

    def _actions(self, continuous: NDArray[np.float32], discrete: NDArray[np.int64]) -> NDArray[Any]:
        continuous = np.clip(continuous, -1.0, 1.0)
        if not self._spaces.is_hybrid:
            if not self._spaces.branches:
                return continuous
            return discrete[:, 0] if isinstance(self.action_space, spaces.Discrete) else discrete
        if self._options.hybrid_actions == "bins":
            bins = np.rint((continuous + 1.0) / 2.0 * (self._options.n_bins - 1)).astype(np.int64)
            return np.concatenate([bins, discrete], axis=1)
        scores = [
            np.eye(size, dtype=np.float32)[column]
            for size, column in zip(self._spaces.branches, discrete.T, strict=True)
        ]
        return np.concatenate([continuous, *(2.0 * each - 1.0 for each in scores)], axis=1)
