"""Building a network from somebody else's description without trusting its sizes."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch.nn.modules.module import register_module_parameter_registration_hook

from rl_framework.errors import BundleError

__all__ = ["NoRolloutBuffer", "limited_parameters"]


@contextmanager
def limited_parameters(tensors: dict[str, torch.Tensor]) -> Iterator[None]:
    """Ends the building of networks as soon as they have more parameters than these tensors could fill.

    A file of a few kilobytes can ask for a layer of terabytes, or for a billion layers. A parameter is registered
    with its module after its memory was reserved and before the first number is written into it, which is when the
    operating system would have to provide the memory.

    Args:
        tensors: What the networks are going to be filled with.

    Raises:
        BundleError: Inside the block, when the limit is passed.
    """
    # Twice, for policies that build something and put it aside.
    most_parameters = 2 * len(tensors)
    most_elements = 2 * sum(tensor.numel() for tensor in tensors.values())
    parameters = elements = 0
    thread = threading.get_ident()

    def count(module: torch.nn.Module, name: str, parameter: torch.nn.Parameter | None) -> None:
        nonlocal parameters, elements
        if parameter is None or threading.get_ident() != thread:
            return
        parameters += 1
        if not torch.nn.parameter.is_lazy(parameter):  # such a one has no size yet
            elements += parameter.numel()
        if parameters > most_parameters or elements > most_elements:
            raise BundleError("the configuration in the bundle describes larger networks than the bundle holds")

    hook = register_module_parameter_registration_hook(count)
    try:
        yield
    finally:
        hook.remove()


class NoRolloutBuffer:
    """Stands where an algorithm that only acts would have reserved memory for a rollout."""

    def __init__(self, *arguments: object, **keyword_arguments: object) -> None:
        """Takes what a rollout buffer takes and keeps nothing."""
