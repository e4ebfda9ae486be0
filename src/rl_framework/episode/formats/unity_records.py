"""The records in a `.demo` file, checked before anything is made of them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np

from rl_framework.errors import EpisodeDataError, shorten

__all__ = ["DemoFile", "Record"]

_VERSIONS = (0, 1)
_HEAD = 33
"""Bytes that are reserved for the first message and its length."""
_LARGEST_OBSERVATION = 1 << 26
_LARGEST_BRANCHES = 1 << 16
_PNG = b"\x89PNG\r\n\x1a\n"


@dataclass(frozen=True)
class Record:
    """What was recorded of an agent at one moment.

    Attributes:
        offset: Of its first byte in the file.
        info: ML-Agents' `AgentInfoProto`.
        action: Continuous and discrete actions.
    """

    offset: int
    info: Any
    action: tuple[list[float], list[int]]


class DemoFile:
    """One recording.

    `mlagents_envs` has to be loaded before.

    Args:
        path: The file.

    Attributes:
        path: The file.
        behavior_name: What the behaviour is called in Unity.

    Raises:
        EpisodeDataError: It is no recording, or holds no record.
    """

    def __init__(self, path: Path) -> None:
        from mlagents_envs.communicator_objects.brain_parameters_pb2 import BrainParametersProto
        from mlagents_envs.communicator_objects.demonstration_meta_pb2 import DemonstrationMetaProto

        self.path = path
        with path.open("rb") as file:
            self._size = path.stat().st_size
            about = self._message(file, DemonstrationMetaProto, "the description of the recording", _HEAD)
            if about.api_version not in _VERSIONS:
                raise self._error(0, f"version {about.api_version} of the format is not known, only 0 and 1 are")
            if about.number_steps < 0:
                raise self._error(0, f"says that it holds {about.number_steps} records")
            self._count = int(about.number_steps)
            file.seek(_HEAD)
            self._parameters = self._message(file, BrainParametersProto, "the description of the behaviour")
            self._start = file.tell()
        self.behavior_name = str(self._parameters.brain_name)
        self._learn_actions()
        self._form: list[tuple[int, ...]] | None = None
        first = next(self.records(), None)
        if first is None:
            raise EpisodeDataError(f"{path}: holds no record")
        self._first = first

    def _learn_actions(self) -> None:
        given = self._parameters.action_spec
        self._n_continuous, self._branches = int(given.num_continuous_actions), list(given.discrete_branch_sizes)
        if not self._n_continuous and not given.num_discrete_actions:
            # Before version 1.3 of the protocol a behaviour had one kind, said in other fields; 1 is continuous.
            sizes = list(self._parameters.vector_action_size_deprecated)
            if self._parameters.vector_action_space_type_deprecated == 1:
                self._n_continuous, self._branches = (sizes[0] if sizes else 0), []
            else:
                self._branches = sizes
        total = sum(self._branches)
        if self._n_continuous < 0 or any(size < 1 for size in self._branches) or total > _LARGEST_BRANCHES:
            raise self._error(
                _HEAD, f"says {self._n_continuous} continuous actions and branches of {shorten(self._branches)}"
            )
        if not self._n_continuous and not self._branches:
            raise self._error(_HEAD, f"behaviour {self.behavior_name!r} has no actions")

    def specification(self) -> Any:
        """Returns ML-Agents' `BehaviorSpec`."""
        from mlagents_envs.rpc_utils import behavior_spec_from_proto

        with self.located(self._first.offset):
            return behavior_spec_from_proto(self._parameters, self._first.info)

    def check_alike(self, other: DemoFile) -> None:
        """Checks that another recording is of the same behaviour, or one alike.

        Raises:
            EpisodeDataError: It is not.
        """
        mine, others = ((each._form, each._n_continuous, each._branches) for each in (self, other))
        if mine != others:
            said = "observations {}, {} continuous actions and the branches {}"
            raise EpisodeDataError(f"{self.path}: has {said.format(*mine)}; {other.path} has {said.format(*others)}")

    def count_episodes(self) -> int:
        """Returns how many episodes there are, each with a step at least."""
        return sum(1 for _ in self.episodes())

    def episodes(self) -> Iterator[list[Record]]:
        """Yields the records of each episode, in the order of their ends."""
        going_on: dict[int, list[Record]] = {}
        for record in self.records():
            mine = going_on.setdefault(record.info.id, [])
            mine.append(record)
            if record.info.done:
                del going_on[record.info.id]
                if len(mine) > 1:  # one whose only record is its end has no step
                    yield mine
        yield from (mine for mine in going_on.values() if len(mine) > 1)

    def records(self) -> Iterator[Record]:
        """Yields the records in order, read and checked as they are asked for.

        Raises:
            EpisodeDataError: One is damaged, cut short or not like the first.
        """
        from mlagents_envs.communicator_objects.agent_info_action_pair_pb2 import AgentInfoActionPairProto

        with self.path.open("rb") as file:
            file.seek(self._start)
            number = 0
            # A recorder that was not closed has left 0 records in the first message, and nothing after the last one.
            while number < self._count or (not self._count and file.tell() < self._size):
                offset = file.tell()
                if offset >= self._size:
                    raise self._error(offset, f"is cut short: it holds {number} of {self._count} records")
                pair = self._message(file, AgentInfoActionPairProto, f"record {number}")
                yield Record(offset, pair.agent_info, self._checked(pair, offset))
                number += 1

    def _checked(self, pair: Any, offset: int) -> tuple[list[float], list[int]]:
        info, given = pair.agent_info, pair.action_info
        form = [tuple(each.shape) for each in info.observations]
        if self._form is None:
            if any(not 1 <= len(shape) <= 3 or any(size < 1 for size in shape) for shape in form):
                raise self._error(offset, f"observations of the shapes {shorten(form)} are none")
            self._form = form
        if form != self._form:
            raise self._error(offset, f"observations of the shapes {shorten(form)}, not {self._form} as at first")
        for number, (shape, each) in enumerate(zip(form, info.observations, strict=True)):
            self._check_observation(each, shape, f"obs_{number}", offset)
        continuous, discrete = list(given.continuous_actions), list(given.discrete_actions)
        if not continuous and not discrete:
            old = list(given.vector_actions_deprecated)
            continuous, discrete = (old, []) if self._n_continuous else ([], [int(each) for each in old])
        if not continuous and not discrete and info.done:
            continuous, discrete = [0.0] * self._n_continuous, [0] * len(self._branches)
        if (len(continuous), len(discrete)) != (self._n_continuous, len(self._branches)):
            raise self._error(
                offset,
                f"{len(continuous)} continuous and {len(discrete)} discrete actions, but behaviour "
                f"{self.behavior_name!r} has {self._n_continuous} and {len(self._branches)}",
            )
        if not np.isfinite(continuous).all():
            raise self._error(offset, f"an action is not finite: {shorten(continuous)}")
        if any(not 0 <= choice < size for choice, size in zip(discrete, self._branches, strict=True)):
            raise self._error(
                offset,
                f"the choices {shorten(discrete)} are not in branches of {self._branches}, from 0. The agent's "
                "Heuristic() has made them; give it larger branches, or correct it, and record again",
            )
        if len(info.action_mask) not in (0, sum(self._branches)):
            raise self._error(offset, f"a mask of {len(info.action_mask)} for branches of {self._branches}")
        return continuous, discrete

    def _check_observation(self, observation: Any, shape: tuple[int, ...], name: str, offset: int) -> None:
        values = int(np.prod(shape, dtype=object))
        if values > _LARGEST_OBSERVATION:
            raise self._error(offset, f"{name} says that it has the shape {shape}")
        if observation.compression_type == 0:
            if len(observation.float_data.data) != values:
                raise self._error(offset, f"{name} has {len(observation.float_data.data)} values for the shape {shape}")
            return
        # Sizes are compared before anything is decompressed: a small image may say that it is a huge one.
        data, place, images = observation.compressed_data, 0, 0
        if len(shape) != 3 or not data.startswith(_PNG):
            raise self._error(offset, f"{name} is compressed and no PNG of a shape like {shape}")
        while place >= 0:
            size = tuple(int.from_bytes(data[place + start : place + start + 4], "big") for start in (16, 20))
            if size not in ((shape[1], shape[0]), (shape[2], shape[1])):
                raise self._error(offset, f"{name} holds an image of the size {size} for the shape {shape}")
            images += 1
            place = data.find(_PNG, place + len(_PNG))
        if images > max(shape[0], shape[2]) + len(observation.compressed_channel_mapping):
            raise self._error(offset, f"{name} holds {images} images for the shape {shape}")

    def _message(self, file: IO[bytes], kind: Any, what: str, end: int | None = None) -> Any:
        """Reads a message and the length before it."""
        from google.protobuf.message import DecodeError

        offset, length, shift = file.tell(), 0, 0
        while True:
            byte = file.read(1)
            if not byte or shift > 28:
                raise self._error(offset, f"{what} is cut short" if not byte else f"{what} has no length: no recording")
            length |= (byte[0] & 0x7F) << shift
            shift += 7
            if byte[0] < 0x80:
                break
        if length > (self._size if end is None else min(end, self._size)) - file.tell():
            raise self._error(offset, f"{what} says that it has {length} bytes, which are not there")
        try:
            return kind.FromString(file.read(length))
        except DecodeError as error:
            raise self._error(offset, f"{what} is damaged: {error}") from error

    def _error(self, offset: int, problem: str) -> EpisodeDataError:
        return EpisodeDataError(f"{self.path}: at byte {offset}: {problem}")

    @contextmanager
    def located(self, offset: int) -> Iterator[None]:
        """Says in errors of the block which file and byte they are about.

        Raises:
            EpisodeDataError: Something in the block failed.
        """
        try:
            yield
        except Exception as error:
            raise self._error(offset, f"is damaged: {type(error).__name__}: {error}") from error
