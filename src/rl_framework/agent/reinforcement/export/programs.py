"""Agents as programs for other runtimes: ONNX and `torch.export`; those of Stable-Baselines3, and composed ones.

Both hold everything between the environment and the action: the features extractor's preprocessing stage (if it works
with tensors as it does with arrays), normaliser, preparation of images and discrete observations, policy, and what the
algorithm does to its output (argmax, clipping, squashing and unscaling). They act as
`agent.predict(..., deterministic=True)`. The batch axis is free.

| input | shape and type | when |
|---|---|---|
| `observation` | `(batch, *shape)`, type of the observation space | the observation is no dictionary |
| one for each key, by its name | likewise | it is one; `observation.<key>` where a name below is taken |
| `action_masks` | `(batch, n)`, bool; may be left out in ONNX: nothing is masked | MaskablePPO |
| `state_h`, `state_c` | `(layers, batch, hidden)`, float32; zeros at first | RecurrentPPO |
| `state` | `(batch, hidden)`, float32; zeros at first | a `ComposedAgent` with a recurrent policy |
| `episode_starts` | `(batch,)`, bool: the state of these is taken for zeros | both of these |

| output | shape and type | when |
|---|---|---|
| `action` | `(batch, *shape)`; the type that `predict` gives | always |
| `next_state_h`, `next_state_c`; `next_state` | as the states | RecurrentPPO; a `ComposedAgent` |
"""

from __future__ import annotations

import copy
import json
import logging
import os
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from numpy.typing import NDArray
from torch.distributions import Distribution
from torch.utils._pytree import tree_leaves, tree_map

from rl_framework.agent.record import versions_of_libraries
from rl_framework.agent.reinforcement.export.acting_module import (
    ActingModule,
    ExportedModule,
    MaskableActingModule,
    acting_module,
    parts_of,
)
from rl_framework.agent.reinforcement.export.composed_module import ComposedModule, RecurrentComposedModule
from rl_framework.bundle import encode_space
from rl_framework.errors import ArgumentError, RLFrameworkError, require_extra
from rl_framework.whole_file import written_whole

__all__ = [
    "LARGEST_DIFFERENCE",
    "explained",
    "export_program",
    "input_names",
    "library_module_of",
    "metadata_of",
    "module_of",
    "output_names",
    "sampled_observations",
    "save_as_onnx",
    "save_as_torch_export",
    "without_chatter",
]

_OLDEST_OPSET = 18
_LARGEST_ONNX = 2_000_000_000
"""Bytes of weights in one file; Protocol Buffers end at two gibibytes."""
LARGEST_DIFFERENCE = 1e-3
"""Of the largest value. Rounding stays below 1e-5 in ordinary networks, and grows with the weights of others."""
_Outputs = list[NDArray[Any]]


def save_as_onnx(agent: Any, path: str | os.PathLike[str], opset: int = _OLDEST_OPSET) -> Path:
    """Writes the acting part of an agent to one ONNX file; see the module for its inputs and outputs.

    The file holds the versions of the software, the algorithm and the spaces (as JSON) in its metadata. Before it
    appears under its name, ONNX's checker has accepted it, and onnxruntime has given the agent's actions with it.

    Args:
        agent: An agent with a model.
        path: Where to; ".onnx" by convention. Missing folders are made.
        opset: Version of the ONNX operators, 18 or newer.

    Returns:
        The path.

    Raises:
        NotTrainedError: The agent has no model yet.
        MissingExtraError: onnx or onnxscript is not installed.
        ArgumentError: The opset is too old, or the policy does something that ONNX cannot say, is too large for one
            file, or acts differently as ONNX.
    """
    if opset < _OLDEST_OPSET:
        raise ArgumentError("opset", opset, f"torch writes {_OLDEST_OPSET} and newer")
    require_extra("onnx", "save_as_onnx", "onnx", "onnxscript")
    import onnx
    import onnx_ir.passes.common

    module = module_of(agent)
    size = sum(tensor.nbytes for tensor in module.state_dict().values())
    if size > _LARGEST_ONNX:
        raise ArgumentError(
            "agent", agent, f"has {size / 1e9:.1f} GB of weights, and ONNX holds 2 GB", "Use save_as_torch_export."
        )
    program = _exported(module, agent)
    with explained(agent, "ONNX"), without_chatter():
        converted = torch.onnx.export(
            program,
            input_names=input_names(module),
            output_names=output_names(module),
            opset_version=opset,
            dynamo=True,
            external_data=False,
            verbose=False,
        )
        assert converted is not None
        # An input by the name of a key may meet a value of the same name inside.
        onnx_ir.passes.common.NameFixPass()(converted.model)
        model = converted.model_proto
    _name_batch_axis(model)
    if isinstance(module, MaskableActingModule):
        # An input with an initializer may be left out (ONNX IR 4 and newer).
        unmasked = np.ones((1, module.mask_size), np.bool_)
        model.graph.initializer.append(onnx.numpy_helper.from_array(unmasked, "action_masks"))
    for name, value in metadata_of(agent).items():
        model.metadata_props.add(key=name, value=value)
    with written_whole(path) as temporary:
        temporary.write_bytes(model.SerializeToString())
        try:
            onnx.checker.check_model(str(temporary), full_check=True)
        except onnx.checker.ValidationError as error:
            raise ArgumentError("agent", agent, f"cannot be written as ONNX: {error}") from error
        if find_spec("onnxruntime") is not None:
            _check_acts_alike(agent, module, _onnx_runner(temporary, module), "ONNX")
    return Path(path)


def export_program(agent: Any) -> torch.export.ExportedProgram:
    """Exports the acting part of an agent with `torch.export`; see the module for its inputs and outputs.

    A dictionary of observations is the first argument as it is.

    Args:
        agent: An agent with a model.

    Returns:
        The program; `program.module()(observation)` gives actions.

    Raises:
        NotTrainedError: The agent has no model yet.
        ArgumentError: The policy does something that cannot be exported.
    """
    return _exported(module_of(agent), agent)


def save_as_torch_export(agent: Any, path: str | os.PathLike[str]) -> Path:
    """Writes the acting part of an agent with `torch.export`, for `torch.export.load` and AOTInductor.

    Only load such files from people you trust: torch unpickles some of what they hold.

    Args:
        agent: An agent with a model.
        path: Where to; ".pt2" by convention. Missing folders are made.

    Returns:
        The path.

    Raises:
        NotTrainedError: The agent has no model yet.
        ArgumentError: The policy does something that cannot be exported, or acts differently when exported.
    """
    module = module_of(agent)
    program = _exported(module, agent)
    runner = program.module()
    _check_acts_alike(
        agent, module, lambda arguments: [leaf.numpy() for leaf in tree_leaves(runner(*arguments))], "torch.export"
    )
    # An open file, because torch wants its own ending on a name.
    with written_whole(path) as temporary, without_chatter(), temporary.open("wb") as file:
        torch.export.save(program, file, extra_files=metadata_of(agent))
    return Path(path)


def input_names(module: ExportedModule) -> list[str]:
    """Returns the names of a module's inputs, in the order of `forward`."""
    own: list[str] = []
    if isinstance(module, MaskableActingModule):
        own = ["action_masks"]
    elif module.states:
        own = [*module.states, "episode_starts"]
    if not isinstance(module.observation_space, spaces.Dict):
        return ["observation", *own]
    taken = {*own, *output_names(module), ""}
    keys = parts_of(module.observation_space)
    return [*(f"observation.{key}" if key in taken else key for key in keys), *own]


def output_names(module: ExportedModule) -> list[str]:
    """Returns the names of a module's outputs, in the order of what `forward` returns."""
    return ["action", *(f"next_{name}" for name in module.states)]


def module_of(agent: Any) -> ExportedModule:
    """Returns the acting part of an agent with a model."""
    if hasattr(agent, "composition"):
        kind = RecurrentComposedModule if agent.composition.policy.trunk.state_size else ComposedModule
        return kind(agent.composition, agent.observation_space, agent.action_space)
    return library_module_of(agent)


def library_module_of(agent: Any) -> ActingModule:
    """Returns the acting part of an agent of Stable-Baselines3."""
    return acting_module(
        agent.algorithm, agent.observation_space, agent.action_space, agent.normaliser, agent.features_extractor
    )


def _exported(module: ExportedModule, agent: Any) -> torch.export.ExportedProgram:
    batch = torch.export.Dim("batch")
    axes = tree_map(lambda axis: {axis: batch}, module.batch_axes())
    axes = dict(zip(_arguments_of_forward(module), axes, strict=True))
    # Three, because torch takes a size of one for a constant and could mistake two for one of another axis.
    with explained(agent, "torch.export"), without_chatter(), torch.no_grad():
        program = torch.export.export(module, module.example(3), dynamic_shapes=axes)
    for node in program.graph.nodes:
        node.meta.pop("stack_trace", None)  # names folders of this machine, and would go into the file
    return program


def _arguments_of_forward(module: ExportedModule) -> list[str]:
    names = input_names(module)
    return ["observation", *names[len(parts_of(module.observation_space)) :]]


@contextmanager
def explained(agent: Any, form: str) -> Iterator[None]:
    """Says which policy could not be written, and as what, if something in the block fails.

    Raises:
        ArgumentError: Something failed.
    """
    try:
        yield
    except Exception as error:
        if isinstance(error, RLFrameworkError):
            raise
        raise ArgumentError(
            "agent",
            agent,
            f"its policy {_policy_of(agent)} cannot be written as {form}: "
            f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}",
            "Networks of one's own must not branch on the values of tensors.",
        ) from error


def _policy_of(agent: Any) -> str:
    """Returns what a user would call the network that acts."""
    if hasattr(agent, "composition"):
        return type(agent.composition.policy.trunk.network).__name__
    return type(agent.algorithm.policy).__name__


def _algorithm_of(agent: Any) -> str:
    if hasattr(agent, "composition"):
        return str(agent.describe()["algorithm"])
    name: str = agent.algorithm_class.__name__
    return name


@contextmanager
def without_chatter() -> Iterator[None]:
    """Silences what torch says about its own workings; errors are raised as ever.

    Distributions check their arguments by branching on them, which cannot be exported.
    """
    logger = logging.getLogger("torch.onnx")
    level, validated = logger.level, Distribution._validate_args
    logger.setLevel(logging.ERROR)
    Distribution.set_default_validate_args(False)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
        Distribution.set_default_validate_args(validated)


def _name_batch_axis(model: Any) -> None:
    """Calls the free axis "batch", which torch gives the name of a variable."""
    for value in (*model.graph.input, *model.graph.output, *model.graph.value_info):
        for axis in value.type.tensor_type.shape.dim:
            if axis.dim_param:
                axis.dim_param = "batch"


def metadata_of(agent: Any) -> dict[str, str]:
    """Returns what a file tells about an agent: algorithm, spaces and versions of libraries."""
    return {
        "algorithm": _algorithm_of(agent),
        "observation_space": json.dumps(encode_space(agent.observation_space, "observation_space")),
        "action_space": json.dumps(encode_space(agent.action_space, "action_space")),
        **{f"version/{name}": version for name, version in versions_of_libraries().items() if version is not None},
    }


# Checking what was written


def _check_acts_alike(
    agent: Any, module: ExportedModule, run: Callable[[tuple[Any, ...]], _Outputs], form: str
) -> None:
    """Compares eight actions with the agent's own.

    Raises:
        ArgumentError: They differ.
    """
    size = 8
    observations = sampled_observations(agent.observation_space, size)
    arguments = list(module.example(size))
    arguments[0] = tree_map(torch.from_numpy, observations)
    state = None
    if module.states:
        generator = np.random.default_rng(0)
        parts = [generator.normal(size=part.shape).astype(np.float32) for part in arguments[1:-1]]
        arguments[1:-1] = [torch.from_numpy(part) for part in parts]
        state = tuple(parts) if len(parts) > 1 else parts[0]
    wanted, next_state = agent.predict(observations, state, np.zeros(size, np.bool_), deterministic=True)
    found = run(tuple(arguments))
    expected = [wanted]
    if module.states:
        expected += next_state if isinstance(next_state, tuple) else [next_state]
    for name, one, other in zip(output_names(module), found, expected, strict=True):
        other = np.asarray(other)
        tolerance = (
            LARGEST_DIFFERENCE * max(1.0, float(np.abs(other).max(initial=0.0))) if other.dtype.kind == "f" else 0.0
        )
        # A diverged agent acts with NaN, in any form.
        if one.shape != other.shape or not np.allclose(one, other, rtol=0.0, atol=tolerance, equal_nan=True):
            raise ArgumentError(
                "agent", agent, f"acts differently as {form}: {name} is {one[:1].tolist()}, not {other[:1].tolist()}"
            )


def sampled_observations(space: spaces.Space[Any], size: int) -> Any:
    """Draws observations from a copy of a space, so that its own random stream stays where it is."""
    source = copy.deepcopy(space)
    source.seed(0)
    rows = [source.sample() for _ in range(size)]
    if isinstance(space, spaces.Dict):
        return {key: np.stack([row[key] for row in rows]) for key in space.spaces}
    return np.stack(rows)


def _onnx_runner(path: Path, module: ExportedModule) -> Callable[[tuple[Any, ...]], _Outputs]:
    import onnxruntime  # type: ignore[import-untyped]

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(path.read_bytes(), options, providers=["CPUExecutionProvider"])
    names = input_names(module)

    def run(arguments: tuple[Any, ...]) -> _Outputs:
        fed = dict(zip(names, (tensor.numpy() for tensor in tree_leaves(arguments)), strict=True))
        known = {node.name for node in session.get_inputs()}
        outputs: _Outputs = session.run(None, {name: array for name, array in fed.items() if name in known})
        return outputs

    return run
