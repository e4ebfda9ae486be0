"""The state of an optimizer as tensors and JSON-able data, and back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from rl_framework.agent.reinforcement.library.state.state_checks import check_optimizer
from rl_framework.bundle import decode_value, encode_value

__all__ = ["give_optimizer", "take_optimizer"]


def take_optimizer(name: str, optimizer: torch.optim.Optimizer, tensors: dict[str, torch.Tensor]) -> dict[str, Any]:
    """Takes the state of an optimizer.

    Args:
        name: Tells this optimizer from others in the same checkpoint.
        optimizer: Whose state it is.
        tensors: Receives its tensors, under `optimizer/{name}/{parameter}/{entry}`.

    Returns:
        The rest, as JSON-able data.
    """
    data = optimizer.state_dict()
    scalars: dict[str, dict[str, Any]] = {}
    for index, entries in data["state"].items():
        for key, value in entries.items():
            if isinstance(value, torch.Tensor):
                tensors[f"optimizer/{name}/{index}/{key}"] = value.detach()
            else:
                scalars.setdefault(str(index), {})[key] = encode_value(value, key)
    groups = [
        {key: encode_value(value, key) for key, value in group.items() if key != "params"}
        for group in data["param_groups"]
    ]
    return {
        "scalars": scalars,
        "groups": groups,
        "parameters": [len(group["params"]) for group in data["param_groups"]],
    }


def give_optimizer(
    name: str, optimizer: torch.optim.Optimizer, saved: dict[str, Any], tensors: Mapping[str, torch.Tensor]
) -> None:
    """Gives an optimizer the state that `take_optimizer` took.

    Args:
        name: The name it was taken under.
        optimizer: An optimizer of the same kind over parameters of the same shapes.
        saved: What `take_optimizer` returned.
        tensors: The tensors of the checkpoint; those of others are passed over.

    Raises:
        ValueError: The state does not fit. What a crafted state can raise besides is of any type.
    """
    data = optimizer.state_dict()
    if [len(group["params"]) for group in data["param_groups"]] != saved["parameters"]:
        raise ValueError(f"{name} has another number of parameters")
    state: dict[int, dict[str, Any]] = {}
    prefix = f"optimizer/{name}/"
    for key, tensor in tensors.items():
        if key.startswith(prefix):
            index, _, entry = key[len(prefix) :].partition("/")
            state.setdefault(int(index), {})[entry] = tensor
    for index, entries in saved["scalars"].items():
        for entry, value in entries.items():
            state.setdefault(int(index), {})[entry] = decode_value(value)
    groups = [
        {**{key: decode_value(value) for key, value in group.items()}, "params": own["params"]}
        for group, own in zip(saved["groups"], data["param_groups"], strict=True)
    ]
    check_optimizer(name, data, state, groups, [p for group in optimizer.param_groups for p in group["params"]])
    optimizer.load_state_dict({"state": state, "param_groups": groups})
