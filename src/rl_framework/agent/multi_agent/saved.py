"""Several agents in one bundle, each a part of it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

from rl_framework import registry
from rl_framework.agent.base_agent import Agent
from rl_framework.agent.reinforcement_learning_agent import RLAgent
from rl_framework.agent.trainable_agent import TrainableAgent
from rl_framework.bundle import Bundle, BundlePart, part_members
from rl_framework.environment.world.joint import JointEnvironment
from rl_framework.errors import ArgumentError, BundleError, NotTrainedError, UnknownNameError

__all__ = [
    "SavedGroups",
    "agents_in",
    "bundle_members",
    "check_agents",
    "check_same_groups",
    "choose_threads_for",
    "describe_groups",
    "read_config",
    "restore_groups",
    "resume_groups",
    "training_members",
]

_CONFIG = "multi_agent.json"
_KIND = "multi"
_MOST_GROUPS = 1_000


@dataclass(frozen=True)
class _SavedGroup:
    name: str
    kind: str
    agents: tuple[str, ...]
    frozen: bool
    part: str


@dataclass(frozen=True)
class SavedGroups:
    """What a bundle says of its groups."""

    groups: tuple[_SavedGroup, ...]
    num_timesteps: int
    seed: int

    @property
    def frozen(self) -> tuple[str, ...]:
        """Names of the groups that do not learn."""
        return tuple(group.name for group in self.groups if group.frozen)


def check_agents(agents: Mapping[str, Agent], frozen: Sequence[str]) -> None:
    """Checks that each group has an agent of its own that can be what it is to be.

    Raises:
        ArgumentError: One cannot.
    """
    for name, agent in agents.items():
        if not isinstance(name, str) or not name:
            raise ArgumentError("groups", name, "the name of a group must be a text, and not empty")
        if not isinstance(agent, Agent):
            raise ArgumentError(f"groups[{name!r}]", agent, "is no agent")
        if name not in frozen and not isinstance(agent, RLAgent):
            raise ArgumentError(
                f"groups[{name!r}]",
                agent,
                "does not learn by reinforcement",
                f'It can act without learning: frozen=["{name}"].',
            )
    if len({id(agent) for agent in agents.values()}) != len(agents):
        raise ArgumentError(
            "groups", agents, "one agent is in two groups", "Put the agents that share a policy into one group."
        )


def check_frozen(agents: Mapping[str, Agent], frozen: Sequence[str]) -> None:
    """Checks that the groups that do not learn can act.

    Raises:
        NotTrainedError: One was never trained; the message names it.
    """
    for name in frozen:
        try:
            _ = agents[name].action_space
        except NotTrainedError as error:
            raise NotTrainedError(f"the frozen group {name!r}") from error


def describe_groups(
    agents: Mapping[str, Agent], named: Mapping[str, Sequence[str]], frozen: Sequence[str]
) -> dict[str, Any]:
    """Returns what each group is, as JSON-able data."""
    described = {}
    for name, agent in agents.items():
        own = agent.describe() if isinstance(agent, TrainableAgent) else {}
        described[name] = {
            "agent": type(agent).__name__,
            "agents": list(named[name]) if name in named else None,
            "frozen": name in frozen,
            **own,
        }
    return described


def choose_threads_for(agents: Iterable[Agent], record: dict[str, Any]) -> AbstractContextManager[None]:
    """Chooses torch's threads for several agents; those without networks do not count."""
    from rl_framework.agent.reinforcement.stable_baselines import StableBaselinesAgent
    from rl_framework.agent.reinforcement.threads import choose_threads

    algorithms = [agent.algorithm for agent in agents if isinstance(agent, StableBaselinesAgent)]
    if not algorithms:
        return nullcontext()
    return choose_threads([algorithm.policy for algorithm in algorithms], algorithms[0].device, record)


def bundle_members(
    agents: Mapping[str, Agent],
    named: Mapping[str, Sequence[str]],
    frozen: Sequence[str],
    num_timesteps: int,
    seed: int | None,
) -> dict[str, Any]:
    """Returns the members of a bundle of several agents."""
    members: dict[str, Any] = {}
    groups = []
    for index, (name, agent) in enumerate(agents.items()):
        listed = list(named[name]) if name in named else None
        groups.append({"name": name, "kind": agent.kind(), "agents": listed, "frozen": name in frozen})
        members |= part_members(_part(index), agent.bundle_members())
    return {_CONFIG: {"groups": groups, "num_timesteps": num_timesteps, "seed": seed}, **members}


def _part(index: int) -> str:
    # Not by name: a group may have a name that no file can have.
    return f"groups/{index}"


def read_config(bundle: Bundle) -> SavedGroups:
    """Reads which groups are in a bundle.

    Raises:
        BundleError: That is not told in the way in which it is written.
    """
    try:
        config = bundle.json(_CONFIG)
        groups = tuple(_read_group(index, group) for index, group in enumerate(config["groups"]))
        timesteps, seed = config["num_timesteps"], config["seed"]
        if not 1 <= len(groups) <= _MOST_GROUPS or len({group.name for group in groups}) != len(groups):
            raise ValueError("groups are missing, or have the same name")
        if type(timesteps) is not int or timesteps < 0 or (seed is not None and (type(seed) is not int or seed < 0)):
            raise ValueError("a count or a seed is no number")
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise BundleError(f"{bundle.path}: its groups are not described as they should be: {error}") from error
    return SavedGroups(groups, timesteps, 0 if seed is None else seed)


def _read_group(index: int, group: Any) -> _SavedGroup:
    name, kind, agents, frozen = group["name"], group["kind"], group["agents"], group["frozen"]
    named = agents is None or (isinstance(agents, list) and all(isinstance(agent, str) for agent in agents))
    if not isinstance(name, str) or not name or not isinstance(kind, str) or not isinstance(frozen, bool) or not named:
        raise TypeError(f"group {index} has something else than names")
    if kind == _KIND:
        raise ValueError(f"group {index} holds several agents itself")
    return _SavedGroup(name, kind, tuple(agents or ()), frozen, _part(index))


def _check_parameters(parameters: Mapping[str, Any], config: SavedGroups) -> None:
    for name, changed in parameters.items():
        if name not in {group.name for group in config.groups}:
            raise UnknownNameError("algorithm_parameters", str(name), [group.name for group in config.groups])
        if not isinstance(changed, dict):
            raise ArgumentError(f"algorithm_parameters[{name!r}]", changed, "must be a dictionary")


def agents_in(bundle: Bundle, config: SavedGroups, parameters: Mapping[str, Any]) -> dict[str, Agent]:
    """Builds the agents in a bundle.

    Args:
        bundle: The bundle.
        config: What `read_config` returned.
        parameters: By group: parameters to use instead of the stored ones.
    """
    _check_parameters(parameters, config)
    agents = {}
    for group in config.groups:
        try:
            agent_class: type[Agent] = registry.agents.get(group.kind, "kind")
        except UnknownNameError as error:
            raise BundleError(f"{bundle.path}: the group {group.name!r} is of an unknown kind: {error}") from error
        agents[group.name] = agent_class.from_bundle(
            BundlePart(bundle, group.part, group.kind), parameters.get(group.name)
        )
    return agents


def restore_groups(
    bundle: Bundle, config: SavedGroups, agents: Mapping[str, Agent], parameters: Mapping[str, Any]
) -> None:
    """Lets each agent become the one in the bundle."""
    for group in config.groups:
        agents[group.name].restore_members(BundlePart(bundle, group.part, group.kind), parameters.get(group.name))


def check_same_groups(
    config: SavedGroups,
    agents: Mapping[str, Agent],
    named: Mapping[str, Sequence[str]] | None,
    frozen: Sequence[str] | None,
) -> None:
    """Checks that a bundle has these groups.

    Args:
        config: What `read_config` returned.
        agents: The agents.
        named: Which agents of the world each group has; None: not compared.
        frozen: Which groups do not learn; None: not compared.

    Raises:
        BundleError: It has others.
        ArgumentError: They are configured otherwise.
    """
    theirs = {group.name: group.kind for group in config.groups}
    mine = {name: agent.kind() for name, agent in agents.items()}
    if theirs != mine:
        raise BundleError(f"the bundle holds the groups {theirs}, and these are {mine}: open it with load_agent(path)")
    if frozen is not None and set(config.frozen) != set(frozen):
        raise ArgumentError("frozen", frozen, f"the checkpoint was made with {config.frozen}")
    if named is not None:
        saved = {group.name: group.agents for group in config.groups if group.agents}
        if saved != {name: tuple(listed) for name, listed in named.items()}:
            raise ArgumentError("agents", named, f"the checkpoint was made with {saved}")


def training_members(
    agents: Mapping[str, Agent], learning: Mapping[str, TrainableAgent[Any]], batch: JointEnvironment
) -> dict[str, Any]:
    """Returns what resuming needs besides what acting needs."""
    members: dict[str, Any] = {}
    for index, name in enumerate(agents):
        if name in learning:
            members |= part_members(_part(index), learning[name].training_members(batch.groups[name]))
    return members


def resume_groups(
    checkpoint: Bundle, config: SavedGroups, agents: Mapping[str, Agent], batch: JointEnvironment
) -> None:
    """Lets each agent become the one in a checkpoint, in the middle of its training if it learns."""
    for group in config.groups:
        part, agent = BundlePart(checkpoint, group.part, group.kind), agents[group.name]
        if isinstance(agent, TrainableAgent) and not group.frozen:
            agent.resume(part, batch.groups[group.name])
            agent._has_met_environments = True
        else:
            agent.restore_members(part, None)
