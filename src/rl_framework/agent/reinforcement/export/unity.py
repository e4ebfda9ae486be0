"""Agents as the ONNX files that Unity's ML-Agents takes for a model: its names, its shapes, and its old operators.

The names and shapes are those that the serializer of ML-Agents' own trainers writes (mlagents 0.28.0,
`model_serialization.py` and `networks.py`; the same in later versions), and that the package in Unity looks for
(`TensorNames.cs`, `SentisModelParamLoader.cs`).

| input | shape and type | when |
|---|---|---|
| `obs_0`, `obs_1`, ... | `(batch, *shape)`, float32; images `(batch, channels, height, width)`, 0 to 1 | each sensor |
| `action_masks` | `(batch, sum of the branches)`, float32: 1 allows, 0 forbids | discrete actions |
| `recurrent_in` | `(batch, 1, memory_size)`, float32 | RecurrentPPO |

| output | shape and type | when |
|---|---|---|
| `version_number` | `(1,)`, float32: 3, the scheme of ML-Agents 2.0 and later | always |
| `memory_size` | `(1,)`, float32: 0, or hidden and cell states of all layers | always |
| `continuous_actions` | `(batch, n)`, float32 from -1 to 1 | continuous actions |
| `continuous_action_output_shape` | `(1,)`, float32: n | continuous actions |
| `discrete_actions` | `(batch, branches)`, int64 | discrete actions |
| `discrete_action_output_shape` | `(1, branches)`, float32: the size of each | discrete actions |
| `deterministic_continuous_actions`, `deterministic_discrete_actions` | the same actions again | as the others |
| `recurrent_out` | as `recurrent_in` | RecurrentPPO |

Both kinds of actions are the deterministic ones. No Unity build was run with such a file.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch

from rl_framework.agent.reinforcement.export.programs import (
    LARGEST_DIFFERENCE,
    explained,
    library_module_of,
    metadata_of,
    sampled_observations,
    without_chatter,
)
from rl_framework.agent.reinforcement.export.unity_graph import finish_graph, operators_unknown_to_unity
from rl_framework.agent.reinforcement.export.unity_module import UnityModule
from rl_framework.errors import ArgumentError, require_extra
from rl_framework.whole_file import written_whole

__all__ = ["save_for_unity"]

_OPSETS = range(9, 16)
_logger = logging.getLogger(__name__)


def save_for_unity(
    agent: Any,
    path: str | os.PathLike[str],
    opset: int = 9,
    channels_first: bool | None = None,
    hybrid_actions: tuple[int, Sequence[int]] | None = None,
) -> Path:
    """Writes the acting part of an agent as a model for ML-Agents; see the module for its inputs and outputs.

    Before the file appears under its name, ONNX's checker has accepted it, and onnxruntime (if it is installed) has
    given the agent's actions with it.

    Args:
        agent: An agent with a model, whose spaces are those of a `UnityEnvironmentAdapter`.
        path: Where to; ".onnx" is what Unity imports. Missing folders are made.
        opset: Version of ONNX's operators. 9 is what ML-Agents' trainers write: Barracuda reads it, and Sentis
            (Inference Engine), which takes 7 to 15 and in later versions more.
        channels_first: Whether three-dimensional observations have their channels in front, as ML-Agents 3 and later
            sends them; None: told from the shape, whose smallest axis is taken for the channels.
        hybrid_actions: For an agent that learned a behaviour with both kinds of actions through
            `UnityEnvironmentAdapter(hybrid_actions="scores")` or `"bins"`: how many continuous actions there are, and
            the sizes of the discrete branches.

    Returns:
        The path.

    Raises:
        NotTrainedError: The agent has no model yet.
        MissingExtraError: onnx is not installed.
        UnsupportedSpaceError: The observations or actions are none that a behaviour in Unity can have.
        ArgumentError: An argument cannot be used, or the policy does something that ONNX cannot say, or it acts
            differently as ONNX.
    """
    if opset not in _OPSETS:
        raise ArgumentError("opset", opset, f"must be from {_OPSETS[0]} to {_OPSETS[-1]}, which Unity's importers take")
    require_extra("onnx", "save_for_unity", "onnx")
    import onnx

    module = UnityModule(library_module_of(agent), channels_first, hybrid_actions)
    with written_whole(path) as temporary:
        with explained(agent, "ONNX"), without_chatter(), torch.no_grad():
            torch.onnx.export(
                module,
                module.example(3),
                str(temporary),
                opset_version=opset,
                input_names=module.input_names,
                output_names=module.output_names,
                dynamic_axes={name: {0: "batch"} for name in (*module.input_names, *module.output_names)},
                # torch's newer exporter begins at opset 18, and ONNX's converter knows no way down from there.
                dynamo=False,
            )
        model = onnx.load(str(temporary))
        finish_graph(model, module.constants, module.widths, module.mask_size)
        for name, value in metadata_of(agent).items():
            model.metadata_props.add(key=name, value=value)
        if unknown := operators_unknown_to_unity(model):
            _logger.warning(
                "%s uses %s, which Barracuda's list of operators lacks; Sentis (Inference Engine) may have it",
                type(agent.algorithm.policy).__name__,
                ", ".join(unknown),
            )
        temporary.write_bytes(model.SerializeToString())
        try:
            onnx.checker.check_model(str(temporary), full_check=True)
        except onnx.checker.ValidationError as error:
            raise ArgumentError("agent", agent, f"cannot be written as ONNX: {error}") from error
        if find_spec("onnxruntime") is not None:
            for batch_size in (1, 8):
                _check_acts_alike(agent, module, temporary, batch_size)
    return Path(path)


def _check_acts_alike(agent: Any, module: UnityModule, path: Path, batch_size: int) -> None:
    """Compares actions of the file with the agent's own.

    Raises:
        ArgumentError: They differ.
    """
    import onnxruntime  # type: ignore[import-untyped]

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(path.read_bytes(), options, providers=["CPUExecutionProvider"])
    observations = sampled_observations(agent.observation_space, batch_size)
    arguments = [*module.as_unity_gives(observations), *module.example(batch_size)[len(module.sensors) :]]
    fed = {name: tensor.numpy() for name, tensor in zip(module.input_names, arguments, strict=True)}
    if module.branches and not module.uses_masks:
        fed["action_masks"] = np.ones((batch_size, module.mask_size), np.float32)
    state = None
    if module.memory_size:
        fed["recurrent_in"] = np.random.default_rng(0).normal(size=fed["recurrent_in"].shape).astype(np.float32)
        state = tuple(part.numpy() for part in module.states_in(torch.from_numpy(fed["recurrent_in"])))
    found = dict(zip([node.name for node in session.get_outputs()], session.run(None, fed), strict=True))
    actions, next_state = agent.predict(observations, state, np.zeros(batch_size, np.bool_), deterministic=True)
    masks = torch.ones((batch_size, module.mask_size))
    expected = [tensor.numpy() for tensor in module.for_unity(torch.from_numpy(np.asarray(actions)), masks)]
    if module.memory_size:
        expected.append(module.memory_of(*(torch.from_numpy(part) for part in next_state)).numpy())
    for name, wanted in zip(module.output_names, expected, strict=True):
        one = found[name]
        tolerance = LARGEST_DIFFERENCE * max(1.0, float(np.abs(wanted).max(initial=0.0)))
        tolerance = tolerance if wanted.dtype.kind == "f" else 0.0
        if one.shape != wanted.shape or not np.allclose(one, wanted, rtol=0.0, atol=tolerance, equal_nan=True):
            raise ArgumentError(
                "agent", agent, f"acts differently in Unity: {name} is {one[:1].tolist()}, not {wanted[:1].tolist()}"
            )
