"""The only way in for environments: whatever the user has becomes one `BatchedEnvironment`."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from types import ModuleType
from typing import Any

import gymnasium
import numpy as np
from gymnasium.envs.registration import EnvSpec
from gymnasium.vector import VectorEnv

from rl_framework import registry
from rl_framework.environment.adapter import AdaptedSlots, MultiSlotAdapter
from rl_framework.environment.batched.batch import BatchedEnvironment
from rl_framework.environment.batched.in_process import InProcessEnvironments, check_instance_count, record_raw_return
from rl_framework.environment.batched.vector import VectorEnvironments
from rl_framework.environment.batched.workers import Workers
from rl_framework.environment.known_packages import register_package_of
from rl_framework.environment.making import (
    Made,
    adapter_class_for,
    check_factory,
    gymnasium_errors,
    make_adapted,
    make_from_factory,
    make_from_id,
    make_wrapped,
)
from rl_framework.environment.replay import ReplayableEnvironment
from rl_framework.environment.wrappers import WrapperSpecification, check_wrappers, wrap_environment
from rl_framework.errors import ArgumentError, EnvironmentSourceError, SpaceMismatchError

__all__ = [
    "VECTORIZATIONS",
    "can_be_made_afresh",
    "check_all_different",
    "check_environment_count",
    "choose_vectorization",
    "environment_id_of",
    "open_environments",
]

logger = logging.getLogger(__name__)

VECTORIZATIONS = ("auto", "sync", "subprocess", "native")

_ACCEPTED = (
    "an environment id, a gymnasium.Env, a list of environments, a zero-argument factory or a list of these, "
    "a (stub_environment, factory) pair, a gymnasium VectorEnv, or a Stable-Baselines3 VecEnv"
)


@dataclass(frozen=True)
class _Single:
    """One environment to be: made by a call, or there already."""

    make: Callable[[], Made] | None = None
    instance: gymnasium.Env[Any, Any] | None = None
    simulator: Any = None  # what the caller holds and an adapter is put around

    @property
    def is_made_here(self) -> bool:
        return self.instance is None and self.simulator is None

    def wrapped(self, wrappers: list[dict[str, Any]], training: bool, argument: str) -> _Single:
        """Returns the same with wrappers around it."""
        if self.instance is not None:
            return replace(self, instance=wrap_environment(self.instance, wrappers, training))
        assert self.make is not None  # one of the two is there
        return replace(self, make=partial(make_wrapped, self.make, wrappers, training, argument, self.is_made_here))


def open_environments(
    source: Any,
    n_environments: int | None = None,
    environment_kwargs: dict[str, Any] | None = None,
    vectorization: str = "auto",
    argument: str = "environments",
    replayable: bool = False,
    fresh_environments: bool = False,
    wrappers: Sequence[WrapperSpecification] | None = None,
    training: bool = False,
) -> BatchedEnvironment:
    """Turns whatever the user has into one batched environment.

    Args:
        source: An environment id or `EnvSpec`, one `gymnasium.Env`, a list of environments, a zero-argument factory
            or a list of these, a `(stub_environment, factory)` pair, a `VectorEnv` of any autoreset mode, an SB3
            `VecEnv`, the name of a registered adapter, or an object that a registered adapter accepts.
        n_environments: How many to make from an id or a factory; None: one.
        environment_kwargs: Arguments for `gymnasium.make`, for the factory, or for the adapter's `setup`.
        vectorization: "sync" (one after the other in this process), "subprocess" (a process each), "native" (the
            environment's own vectorized form, whose random stream differs), or "auto"; see `choose_vectorization`.
        argument: Name of the argument the source came from, for errors.
        replayable: Whether to note what the open episodes follow from, so that they can be replayed. Single
            environments can; what comes vectorized cannot (`replayable` of the batch tells). An environment or
            adapter whose actions must not be repeated unasked, such as a robot, says so in its metadata:
            `{"replayable": False}`.
        fresh_environments: Whether every episode begins in an environment made for it, which goes on with the random
            generators of the last one. For simulators that remember earlier episodes; needs an id or factories.
        wrappers: What to put around every single environment, the innermost first: registered names, or `{"type":
            name, ...}`; see `rl_framework.environment.wrappers`. An environment that the caller made stays as it is.
        training: Whether an agent learns there, which some wrappers want to know.

    Returns:
        The batch. Closing it closes what was made here and nothing of the caller's.

    Raises:
        EnvironmentSourceError: The source is empty, unknown, or nothing that the door knows.
        SpaceMismatchError: The environments differ in their spaces.
        ArgumentError: An argument does not fit the source.
    """
    if vectorization not in VECTORIZATIONS:
        raise ArgumentError("vectorization", vectorization, f"must be one of {', '.join(VECTORIZATIONS)}")
    check_environment_count(n_environments)
    if environment_kwargs is not None and not isinstance(environment_kwargs, dict):
        raise ArgumentError("environment_kwargs", environment_kwargs, "must be a dictionary of keyword arguments")
    if isinstance(source, BatchedEnvironment):
        raise EnvironmentSourceError(argument, source, "this batch is open already", f"Give {_ACCEPTED}.")
    specifications = check_wrappers(wrappers)
    if fresh_environments and (vectorization == "native" or not can_be_made_afresh(source)):
        raise ArgumentError(
            "fresh_environments",
            fresh_environments,
            f"no environments of their own can be made from {argument}={source!r}",
            'Give an id or a factory, and vectorization="auto".',
        )
    replayable = replayable or fresh_environments
    kwargs = dict(environment_kwargs or {})
    vectorized = _open_vectorized(source, n_environments, kwargs, vectorization, argument, specifications)
    if vectorized is not None:
        return vectorized
    if vectorization == "native" or (vectorization == "auto" and _is_only_native(source)):
        _refuse_wrappers(specifications, 'vectorization="native" steps all environments as one', 'Use "sync".')
        return _open_native(source, n_environments or 1, kwargs, argument)
    stub, singles = _list_singles(source, n_environments, kwargs, argument)
    if specifications:
        singles = [single.wrapped(specifications, training, argument) for single in singles]
        stub = None if stub is None else wrap_environment(stub, specifications, training)
    chosen, reason = choose_vectorization(vectorization, len(singles))
    if chosen == "subprocess":
        batch: BatchedEnvironment = _open_subprocesses(singles, argument, replayable, fresh_environments)
    else:
        batch = _open_in_process(singles, argument, replayable, fresh_environments)
    if not isinstance(batch, AdaptedSlots):
        batch.vectorization, batch.vectorization_reason = chosen, reason
    if stub is not None:
        _check_against_stub(stub, batch, argument)
    return batch


def choose_vectorization(asked: str, n_environments: int) -> tuple[str, str]:
    """The rule behind `vectorization="auto"`.

    In-process stepping is chosen always: with cheap environments, processes were measured to be 3 to 10 times
    slower, and what an environment costs cannot be known without stepping it, which would disturb its random
    stream. Training measures the cost and says in the log when processes are worth trying. The native form is never
    chosen, because its random stream differs from that of single environments.

    Args:
        asked: What the user asked for.
        n_environments: How many environments there will be.

    Returns:
        The choice and the reason for it, both of which are recorded with the run.
    """
    if asked != "auto":
        return asked, "asked for"
    if n_environments == 1:
        return "sync", "there is one environment"
    return "sync", "processes cost more than they gain unless a step is expensive; training measures that and says so"


def can_be_made_afresh(source: Any) -> bool:
    """Tells whether environments of their own can be made from a source, apart from those that are in use."""
    if isinstance(source, str | EnvSpec):
        return True
    if _is_pair(source):
        return True
    if isinstance(source, list | tuple):
        return bool(source) and all(can_be_made_afresh(part) for part in source)
    return _is_factory(source)


def check_environment_count(n_environments: int | None) -> None:
    """Refuses an `n_environments` that is no number of environments."""
    is_number = isinstance(n_environments, int | np.integer) and not isinstance(n_environments, bool)
    if n_environments is not None and (not is_number or n_environments < 1):
        raise ArgumentError("n_environments", n_environments, "must be an integer of at least 1")


def check_all_different(simulators: Sequence[Any], argument: str, source: object) -> None:
    """Refuses a list of simulators in which one is there twice: it would be stepped twice as often."""
    if len({id(simulator) for simulator in simulators}) != len(simulators):
        raise EnvironmentSourceError(argument, source, "the same object is there more than once")


def environment_id_of(source: Any) -> str | None:
    """Returns the gymnasium id behind a source, if it can be told without making an environment."""
    if isinstance(source, str):
        name = source.rpartition(":")[2]  # "module:Name-v0" says what to import first
        return name if name in gymnasium.registry else source
    if isinstance(source, EnvSpec):
        return source.id
    if isinstance(source, list | tuple) and source:
        return environment_id_of(source[0])
    spec = getattr(source, "spec", None)
    return spec.id if isinstance(spec, EnvSpec) else None


def _is_factory(source: Any) -> bool:
    return callable(source) and not isinstance(source, gymnasium.Env | VectorEnv)


def _is_pair(source: Any) -> bool:
    return (
        isinstance(source, tuple)
        and len(source) == 2
        and isinstance(source[0], gymnasium.Env)
        and _is_factory(source[1])
    )


def _is_vec_env(source: Any) -> bool:
    # Nobody can hold a VecEnv without having imported the module that defines it.
    base = sys.modules.get("stable_baselines3.common.vec_env.base_vec_env")
    return base is not None and isinstance(source, base.VecEnv)


def _open_vectorized(
    source: Any,
    n_environments: int | None,
    kwargs: dict[str, Any],
    vectorization: str,
    argument: str,
    wrappers: list[dict[str, Any]],
) -> BatchedEnvironment | None:
    if isinstance(source, VectorEnv) or _is_vec_env(source):
        _refuse_wrappers(
            wrappers,
            f"{argument} is vectorized already, and wrappers go around single environments",
            "Give an id, a factory, or a list of environments.",
        )
    if isinstance(source, VectorEnv):
        batch = _batch_of(source, owned=False, argument=argument)
    elif _is_vec_env(source):
        from rl_framework.environment.sb3 import VecEnvSlots

        batch = VecEnvSlots(source)
    else:
        return None
    check_instance_count(n_environments, batch.num_envs, argument, source)
    _refuse_kwargs(kwargs, argument)
    if vectorization != "auto":
        raise ArgumentError(
            "vectorization", vectorization, f"{argument} is vectorized already", 'Leave vectorization="auto".'
        )
    return batch


def _list_singles(
    source: Any, n_environments: int | None, kwargs: dict[str, Any], argument: str
) -> tuple[gymnasium.Env[Any, Any] | None, list[_Single]]:
    if _is_pair(source):
        stub, factory = source
        return stub, [_single(factory, kwargs, argument)] * (n_environments or 1)
    if isinstance(source, list | tuple):
        if not source:
            raise EnvironmentSourceError(argument, source, "holds no environment", f"Give {_ACCEPTED}.")
        check_instance_count(n_environments, len(source), argument, source)
        singles = [_single(part, kwargs, argument) for part in source]
        simulators = [single.simulator for single in singles if single.simulator is not None]
        check_all_different(simulators, argument, source)
        return None, singles
    single = _single(source, kwargs, argument)
    if not single.is_made_here:
        check_instance_count(n_environments, 1, argument, source)
        return None, [single]
    return None, [single] * (n_environments or 1)


def _single(source: Any, kwargs: dict[str, Any], argument: str) -> _Single:
    if isinstance(source, gymnasium.Env):
        _refuse_kwargs(kwargs, argument)
        return _Single(instance=source)
    if isinstance(source, VectorEnv) or _is_vec_env(source):
        raise EnvironmentSourceError(
            argument, source, "a vectorized environment cannot be one of a list", "Give it alone."
        )
    adapter_class = adapter_class_for(source)
    if adapter_class is not None:
        names_it = isinstance(source, str | os.PathLike | type)
        make = partial(make_adapted, adapter_class, source, kwargs, names_it)
        return _Single(make=make, simulator=None if names_it else source)
    if isinstance(source, str | EnvSpec):
        return _Single(make=partial(make_from_id, source, kwargs, argument))
    if _is_pair(source):
        return _single(source[1], kwargs, argument)
    if _is_factory(source):
        check_factory(source, kwargs, argument)
        return _Single(make=partial(make_from_factory, source, kwargs, argument))
    problem = "there is no environment" if source is None else f"a {type(source).__name__} is no environment"
    remedy = f"Give {_ACCEPTED}, or register an adapter for it (EnvironmentAdapter)."
    if isinstance(source, ModuleType) and hasattr(source, "parallel_env"):  # as PettingZoo's worlds are imported
        remedy = f"Give {source.__name__.rpartition('.')[2]}.parallel_env."
    raise EnvironmentSourceError(argument, source, problem, remedy)


def _refuse_kwargs(kwargs: dict[str, Any], argument: str) -> None:
    if kwargs:
        raise ArgumentError(
            "environment_kwargs", kwargs, f"{argument} is made already", "Give an id or a factory instead."
        )


def _open_in_process(singles: Sequence[_Single], argument: str, replayable: bool, fresh: bool) -> BatchedEnvironment:
    made: list[Made] = []
    owned: list[bool] = []
    try:
        for single in singles:
            made.append(single.make() if single.make is not None else single.instance)  # type: ignore[arg-type]
            owned.append(single.is_made_here)
        worlds = [world for world in made if isinstance(world, MultiSlotAdapter)]
        environments = [environment for environment in made if isinstance(environment, gymnasium.Env)]
        if worlds and environments:
            raise EnvironmentSourceError(
                argument, made, "some have several slots and some have one", "Train on one kind at a time."
            )
        if worlds:
            return AdaptedSlots(worlds, owned, argument)
        if replayable:
            environments = [
                ReplayableEnvironment(environment, partial(_make_another, single) if fresh else None)
                for environment, single in zip(environments, singles, strict=True)
            ]
        batch = InProcessEnvironments(environments, owned, argument)
        batch.replayable = replayable and all(_may_be_replayed(each.metadata) for each in environments)
        return batch
    except BaseException:
        with ExitStack() as closing:
            # A factory may have returned one object several times.
            for each in {id(each): each for each, is_owned in zip(made, owned, strict=False) if is_owned}.values():
                closing.callback(each.close)
        raise


def _may_be_replayed(metadata: dict[str, Any] | None) -> bool:
    return bool((metadata or {}).get("replayable", True))


def _make_another(single: _Single) -> gymnasium.Env[Any, Any]:
    """Makes one more environment, with the account of rewards that the door gives to every environment."""
    assert single.make is not None  # checked by `open_environments`
    environment = single.make()
    assert isinstance(environment, gymnasium.Env)  # as the first one was
    record_raw_return(environment)
    return environment


def _open_subprocesses(singles: Sequence[_Single], argument: str, replayable: bool, fresh: bool) -> BatchedEnvironment:
    factories = []
    for single in singles:
        if single.make is None or not single.is_made_here:
            raise ArgumentError(
                "vectorization",
                "subprocess",
                f"{argument} holds environments that live in this process",
                "Give an id or a zero-argument factory.",
            )
        factories.append(single.make)
    try:
        workers = Workers(factories, argument, replayable, fresh)
    except RuntimeError as error:
        if "space" not in str(error):
            raise
        raise SpaceMismatchError(
            argument, factories, str(error), "Environments trained or evaluated together need equal spaces."
        ) from error
    batch = VectorEnvironments(workers, owned=True, argument=argument)
    batch.environment_id = workers.environment_id
    batch.replayable = replayable and _may_be_replayed(batch.metadata)
    return batch


def _refuse_wrappers(wrappers: list[dict[str, Any]], problem: str, remedy: str) -> None:
    if wrappers:
        raise ArgumentError("wrappers", wrappers, problem, remedy)


def _open_native(source: Any, count: int, kwargs: dict[str, Any], argument: str) -> BatchedEnvironment:
    spec = source if isinstance(source, EnvSpec) else None
    if isinstance(source, str) and source not in registry.environment_adapters:
        register_package_of(source, argument)
        with gymnasium_errors(source, argument):
            spec = gymnasium.spec(source)
    if spec is None or spec.vector_entry_point is None:
        raise ArgumentError(
            "vectorization", "native", f"{argument}={source!r} has no vectorized form of its own", 'Use "sync".'
        )
    with gymnasium_errors(source, argument):
        vector = gymnasium.make_vec(spec, num_envs=count, vectorization_mode="vector_entry_point", **kwargs)
    batch = _batch_of(vector, owned=True, argument=argument)
    batch.environment_id = spec.id
    batch.vectorization = "native"
    batch.vectorization_reason = "asked for" if spec.entry_point is not None else "there is no other form of it"
    return batch


def _batch_of(vector: VectorEnv[Any, Any, Any], owned: bool, argument: str) -> BatchedEnvironment:
    if (vector.metadata or {}).get("tensors"):
        from rl_framework.environment.tensor.environments import TensorEnvironments

        return TensorEnvironments(vector, owned)  # type: ignore[arg-type]
    return VectorEnvironments(vector, owned=owned, argument=argument)


def _is_only_native(source: Any) -> bool:
    """Tells whether an id has nothing but a vectorized form."""
    spec = gymnasium.registry.get(source) if isinstance(source, str) else source
    return isinstance(spec, EnvSpec) and spec.entry_point is None and spec.vector_entry_point is not None


def _check_against_stub(stub: gymnasium.Env[Any, Any], batch: BatchedEnvironment, argument: str) -> None:
    for kind in ("observation_space", "action_space"):
        promised, found = getattr(stub, kind), getattr(batch, f"single_{kind}")
        if promised != found:
            batch.close()
            raise SpaceMismatchError(
                argument, stub, f"the stub environment has {kind} {promised}, the factory makes {found}"
            )
