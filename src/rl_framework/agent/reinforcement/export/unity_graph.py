"""What is changed in the graph of an ONNX file for Unity after torch has written it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["finish_graph", "operators_unknown_to_unity"]

# From the page "Supported ONNX operators" of Barracuda 2.0. Sentis (Inference Engine) has all of them and more.
_BARRACUDA = (
    " Abs Acos Acosh Add And ArgMax ArgMin Asin Asinh Atan Atanh AveragePool BatchNormalization Cast Ceil Clip Concat "
    " Constant ConstantOfShape Conv ConvTranspose Cos Cosh DepthToSpace Div Dropout Elu Equal Exp Expand Flatten Floor "
    " Gather Gemm GlobalAveragePool GlobalMaxPool Greater Identity ImageScaler InstanceNormalization LRN LSTM "
    " LeakyRelu Less LessOrEqual Log LogSoftmax MatMul Max MaxPool Mean Min Mul Multinomial Neg NonMaxSuppression "
    " NonZero Not OneHot Or PRelu Pad Pow RandomNormal RandomNormalLike RandomUniform RandomUniformLike Reciprocal "
    " ReduceMax ReduceMean ReduceMin ReduceProd ReduceSum Relu Reshape Resize Round Selu Shape Sigmoid Sin Sinh Slice "
    " Softmax SpaceToDepth Split Sqrt Squeeze Sub Sum Tan Tanh Tile TopK Transpose Unsqueeze Upsample Where Xor "
)


def finish_graph(
    model: Any, constants: Mapping[str, NDArray[np.float32]], actions: Mapping[str, int], mask_size: int
) -> None:
    """Completes the inputs and outputs of a model, in the order in which ML-Agents' trainers write them.

    Args:
        model: ONNX's; changed in place.
        constants: Outputs that do not depend on anything. They become constants by their name, which older versions
            of the package in Unity look for; later ones ask for the outputs.
        actions: Outputs that are actions, and how many numbers each has. They are said again as the deterministic ones.
        mask_size: Length of the masks that discrete actions have to take, even if nothing comes of them; 0: none.
    """
    from onnx import TensorProto, helper, numpy_helper

    graph = model.graph
    _drop_what_leads_nowhere(graph)
    if mask_size and all(value.name != "action_masks" for value in graph.input):
        masks = helper.make_tensor_value_info("action_masks", TensorProto.FLOAT, ["batch", mask_size])
        inputs = list(graph.input)
        place = next((i for i, value in enumerate(inputs) if value.name == "recurrent_in"), len(inputs))
        inputs.insert(place, masks)
        del graph.input[:]
        graph.input.extend(inputs)
    outputs = {value.name: value for value in graph.output}
    for name, array in constants.items():
        graph.node.append(
            helper.make_node("Constant", [], [name], value=numpy_helper.from_array(array, f"{name}.value"))
        )
        outputs[name] = helper.make_tensor_value_info(name, TensorProto.FLOAT, array.shape)
    for name, size in actions.items():
        outputs[name].type.tensor_type.shape.dim[1].dim_value = size
        again = f"deterministic_{name}"
        graph.node.append(helper.make_node("Identity", [name], [again]))
        outputs[again] = type(outputs[name])()
        outputs[again].CopyFrom(outputs[name])
        outputs[again].name = again
    order = ["version_number", "memory_size"]
    for kind in ("continuous", "discrete"):
        order += [f"{kind}_actions", f"{kind}_action_output_shape", f"deterministic_{kind}_actions"]
    order.append("recurrent_out")
    del graph.output[:]
    graph.output.extend(outputs[name] for name in order if name in outputs)


def _drop_what_leads_nowhere(graph: Any) -> None:
    """Removes nodes that nothing depends on, such as the standard deviation of a deterministic action."""
    needed = {value.name for value in graph.output}
    kept = []
    for node in reversed(graph.node):  # ONNX demands that they are in the order of computation
        if needed.intersection(node.output):
            needed.update(node.input)
            kept.append(node)
    del graph.node[:]
    graph.node.extend(reversed(kept))
    weights = [tensor for tensor in graph.initializer if tensor.name in needed]
    del graph.initializer[:]
    graph.initializer.extend(weights)


def operators_unknown_to_unity(model: Any) -> list[str]:
    """Returns the operators in a model that Barracuda's documentation does not list."""
    used = {node.op_type for node in model.graph.node}
    return sorted(name for name in used if f" {name} " not in _BARRACUDA)
