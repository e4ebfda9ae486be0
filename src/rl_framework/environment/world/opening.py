"""The way in for worlds with several groups of agents."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from typing import Any

from rl_framework.environment.adapter import EnvironmentAdapter
from rl_framework.environment.batched.in_process import check_instance_count
from rl_framework.environment.door import can_be_made_afresh, check_all_different, check_environment_count
from rl_framework.environment.making import adapter_class_for, check_factory, closed_on_failure
from rl_framework.environment.world.groups import GroupedWorld
from rl_framework.environment.world.joint import JointEnvironment
from rl_framework.errors import EnvironmentSourceError

__all__ = ["open_worlds"]


def open_worlds(
    source: Any,
    groups: Mapping[str, Sequence[str] | None],
    n_environments: int | None = None,
    environment_kwargs: Mapping[str, Any] | None = None,
    argument: str = "environments",
) -> JointEnvironment:
    """Opens worlds in which several groups of agents act.

    Args:
        source: What a registered adapter with groups accepts (an environment of PettingZoo, Unity), its name, a
            factory, or a list of these.
        groups: Names of the groups, and of their agents; see `GroupedWorld.setup_groups`.
        n_environments: How many to make from a name or a factory; None: one.
        environment_kwargs: Arguments of the factory, or of the adapter.
        argument: Name of the argument the source came from, for errors.

    Returns:
        The worlds. Closing it closes what was made here and nothing of the caller's.

    Raises:
        EnvironmentSourceError: There are no groups of agents in the source, or one world is there twice.
        ArgumentError: The world has other agents than the groups, or the factory takes other arguments.
        SpaceMismatchError: Agents of a group, or the worlds, differ in their spaces.
    """
    check_environment_count(n_environments)
    if isinstance(source, list | tuple):
        if not source:
            raise EnvironmentSourceError(argument, source, "holds no environment")
        check_instance_count(n_environments, len(source), argument, source)
        check_all_different([each for each in source if not _is_made_here(each)], argument, source)
        sources = list(source)
    elif _is_made_here(source):
        sources = [source] * (n_environments or 1)
    else:
        check_instance_count(n_environments, 1, argument, source)
        sources = [source]
    worlds: list[GroupedWorld] = []
    owned: list[bool] = []
    try:
        for each in sources:
            world, is_owned = _open(each, groups, dict(environment_kwargs or {}), argument)
            worlds.append(world)
            owned.append(is_owned)
        return JointEnvironment(worlds, owned, argument)
    except BaseException:
        with ExitStack() as closing:
            for world, is_owned in zip(worlds, owned, strict=True):
                if is_owned:
                    closing.callback(world.close)
        raise


def _is_made_here(source: Any) -> bool:
    return can_be_made_afresh(source) or isinstance(source, os.PathLike)


def _open(
    source: Any, groups: Mapping[str, Sequence[str] | None], kwargs: dict[str, Any], argument: str
) -> tuple[GroupedWorld, bool]:
    if isinstance(source, EnvironmentAdapter) and hasattr(source, "setup_groups"):
        adapter: Any = source  # the user made it, with options of its own
        adapter.setup_groups(source, groups, **kwargs)
        return adapter, False
    owned = _is_made_here(source)
    adapter_class = adapter_class_for(source)
    made: Any = None
    if adapter_class is None and callable(source):
        check_factory(source, kwargs, argument)
        made = source = source(**kwargs)
        kwargs, adapter_class = {}, adapter_class_for(source)
    with closed_on_failure(made):
        if adapter_class is None or not hasattr(adapter_class, "setup_groups"):
            raise EnvironmentSourceError(
                argument,
                source,
                f"a {type(source).__name__} has no groups of agents",
                "Give an environment of PettingZoo or Unity, a factory, or a list of these.",
            )
        world: Any = adapter_class()
        # What a factory has made is closed itself: the adapter may not have got hold of it yet.
        with closed_on_failure(world if owned and made is None else None):
            world.setup_groups(source, groups, **kwargs)
    return world, owned
