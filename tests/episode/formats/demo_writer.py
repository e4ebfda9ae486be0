"""Writes `.demo` files with ML-Agents' own messages, as its recorder in Unity does (and no recorder in Unity was run).

Facts: `DemonstrationWriter.cs` and `Agent.cs` of the package in Unity, and recordings that people made with it. A
record is written before the agent decides, so it holds the action before; the first of an episode holds zeros. When the
recorder is closed, it writes the description again, at the end and over the one at the beginning.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from rl_framework.environment.unity import load_mlagents_envs

__all__ = ["Shown", "delimited", "write_demo"]


@dataclass
class Shown:
    """An episode: per sensor T + 1 observations, T actions (continuous, discrete) and T rewards."""

    observations: Sequence[Any]
    continuous: Any
    discrete: Any
    rewards: Sequence[float]
    end: str = "terminated"
    agent: int = 0
    masks: Sequence[Sequence[bool]] = ()
    group_rewards: Sequence[float] = field(default_factory=tuple)

    def __len__(self) -> int:
        return len(self.rewards)


def delimited(message: Any) -> bytes:
    data = message.SerializeToString()
    length, head = len(data), bytearray()
    while length > 0x7F:
        head.append(length & 0x7F | 0x80)
        length >>= 7
    return bytes(head) + bytes([length]) + data


def write_demo(
    path: Path,
    episodes: Sequence[Shown],
    n_continuous: int = 0,
    branches: Sequence[int] = (),
    *,
    interleaved: bool = False,
    closed: bool = True,
    shifted: bool = True,
    old: bool = False,
    name: str = "Reach?team=0",
) -> list[int]:
    """Writes a recording; returns where its records begin.

    Args:
        path: Where to.
        episodes: What was shown.
        n_continuous: Continuous actions.
        branches: Discrete ones.
        interleaved: Whether the agents take turns.
        closed: Whether the recorder was closed.
        shifted: Whether actions stand one record late, as they do.
        old: Whether to say actions in the fields of the protocol before version 1.3.
        name: Of the behaviour.
    """
    load_mlagents_envs()
    from mlagents_envs.communicator_objects import brain_parameters_pb2, demonstration_meta_pb2

    form = n_continuous, branches, shifted, old
    records = [[_record(each, step, *form) for step in range(len(each) + 1)] for each in episodes]
    if interleaved:
        longest = max(map(len, records))
        ordered = [mine[step] for step in range(longest) for mine in records if step < len(mine)]
    else:
        ordered = [record for mine in records for record in mine]
    parameters = brain_parameters_pb2.BrainParametersProto(brain_name=name)
    if old:
        parameters.vector_action_size_deprecated.extend([n_continuous] if n_continuous else branches)
        parameters.vector_action_space_type_deprecated = 1 if n_continuous else 0
    else:
        parameters.action_spec.num_continuous_actions = n_continuous
        parameters.action_spec.num_discrete_actions = len(branches)
        parameters.action_spec.discrete_branch_sizes.extend(branches)
    about = demonstration_meta_pb2.DemonstrationMetaProto(api_version=0 if old else 1, demonstration_name="Shown")
    if closed:
        about.number_steps, about.number_episodes = len(ordered), len(episodes) + 1
    data = delimited(about).ljust(33, b"\0") + delimited(parameters)
    offsets = []
    for record in ordered:
        offsets.append(len(data))
        data += delimited(record)
    path.write_bytes(data + (about.SerializeToString() if closed else b""))
    return offsets


def _record(episode: Shown, step: int, n_continuous: int, branches: Sequence[int], shifted: bool, old: bool) -> Any:
    from mlagents_envs.communicator_objects import agent_info_action_pair_pb2

    pair = agent_info_action_pair_pb2.AgentInfoActionPairProto()
    info, ended = pair.agent_info, step == len(episode) and episode.end != "open"
    info.id, info.done, info.max_step_reached = episode.agent, ended, ended and episode.end == "truncated"
    info.reward = episode.rewards[step - 1] if step else 0.0
    if episode.group_rewards:
        info.group_reward = episode.group_rewards[step - 1] if step else 0.0
    if len(episode.masks) and not ended:
        info.action_mask.extend(episode.masks[step])
    info.observations.extend(_observation(sensor[step]) for sensor in episode.observations)
    chosen = step - 1 if shifted else step
    continuous, discrete = [0.0] * n_continuous, [0] * len(branches)
    if 0 <= chosen < len(episode):
        continuous = np.reshape(episode.continuous[chosen], -1).tolist() if n_continuous else []
        discrete = np.reshape(episode.discrete[chosen], -1).tolist() if branches else []
    if old:
        pair.action_info.vector_actions_deprecated.extend([*continuous, *discrete])
    else:
        pair.action_info.continuous_actions.extend(continuous)
        pair.action_info.discrete_actions.extend(discrete)
    return pair


def _observation(array: Any) -> Any:
    from mlagents_envs.communicator_objects import observation_pb2
    from PIL import Image

    made = observation_pb2.ObservationProto(shape=array.shape, name="Sensor")
    if array.dtype == np.uint8:
        picture = io.BytesIO()
        Image.fromarray(array).save(picture, "PNG")
        made.compression_type, made.compressed_data = observation_pb2.PNG, picture.getvalue()
        made.compressed_channel_mapping.extend([0, 1, 2])
    else:
        made.float_data.data.extend(array.reshape(-1).tolist())
    return made
