"""Several agents, one for each group, in one world."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Self

import numpy as np
from gymnasium import spaces

from rl_framework.agent.base_agent import STATELESS, Agent
from rl_framework.agent.multi_agent import saved
from rl_framework.agent.multi_agent.collecting import collect_by_group
from rl_framework.agent.multi_agent.learning import LearningTogether
from rl_framework.agent.reinforcement_learning_agent import RLAgent
from rl_framework.agent.trainable_agent import TrainableAgent
from rl_framework.agent.training_arguments import TrainingArguments
from rl_framework.bundle import Bundle
from rl_framework.environment import BatchedEnvironment
from rl_framework.environment.door import environment_id_of
from rl_framework.environment.world.groups import group_of
from rl_framework.environment.world.joint import JointEnvironment, by_world, side_by_side
from rl_framework.environment.world.opening import open_worlds
from rl_framework.episode import EpisodeSequence
from rl_framework.errors import ArgumentError, UnknownNameError
from rl_framework.seeding import derive_seed
from rl_framework.training import Training

__all__ = ["MultiAgent"]


class MultiAgent(RLAgent):
    """Agents that are trained in one world, one policy for each group, each with its own algorithm and spaces.

    `multi["prey"]` is the agent of a group: it can be saved, loaded, uploaded and exported like any other. A timestep
    is a step of one world, however many agents act in it; each group's agent counts its own.

    A group's training ends with the rollout in which `total_timesteps` are reached. Checkpoints are written where no
    rollout of any group is open: at common multiples of their `n_steps`. Resuming keeps weights, optimizers, replay
    buffers and random states, and begins new episodes: worlds of several agents are not replayed.

    Args:
        groups: The agent of each group: an agent that learns by reinforcement, or, for a frozen group, any that has
            been trained. Each group has an agent of its own.
        agents: Names of the agents in a group, for groups that are not found by name: the group "prey" has the agents
            "prey", "prey_0", "prey_1" and so on.
        frozen: Names of groups that act and do not learn, such as a fixed opponent.

    Raises:
        ArgumentError: There is no group, or an agent cannot be what it is to be.
        UnknownNameError: `agents` or `frozen` names a group that there is not.
    """

    def __init__(
        self,
        groups: Mapping[str, Agent],
        agents: Mapping[str, Sequence[str]] | None = None,
        frozen: Sequence[str] = (),
    ) -> None:
        if not isinstance(groups, Mapping) or not groups:
            raise ArgumentError("groups", groups, "must be a mapping of names to agents, and not empty")
        self._agents: dict[str, Agent] = dict(groups)
        self._named = {name: tuple(map(str, listed)) for name, listed in dict(agents or {}).items()}
        self.frozen = (frozen,) if isinstance(frozen, str) else tuple(frozen)
        for argument, names in (("agents", self._named), ("frozen", self.frozen)):
            for name in names:
                if name not in self._agents:
                    raise UnknownNameError(argument, name, self._agents)
        saved.check_agents(self._agents, self.frozen)
        for name, agent in self._agents.items():
            if isinstance(agent, MultiAgent):
                raise ArgumentError(f"groups[{name!r}]", agent, "is no agent of one policy")
        self.seed: int | None = None
        self._timesteps = 0

    # What it is

    @property
    def agents(self) -> dict[str, Agent]:
        """The agent of each group, by the group's name."""
        return dict(self._agents)

    def __getitem__(self, group: str) -> Agent:
        if group not in self._agents:
            raise UnknownNameError("group", group, self._agents)
        return self._agents[group]

    def __iter__(self) -> Iterator[str]:
        return iter(self._agents)

    def __len__(self) -> int:
        return len(self._agents)

    @property
    def learning(self) -> dict[str, TrainableAgent[Any]]:
        """The agents that learn, by the group's name."""
        return {
            name: agent
            for name, agent in self._agents.items()
            if name not in self.frozen and isinstance(agent, TrainableAgent)
        }

    @property
    def observation_space(self) -> spaces.Dict:
        """What one agent of each group sees, by group."""
        return spaces.Dict({name: agent.observation_space for name, agent in self._agents.items()})

    @property
    def action_space(self) -> spaces.Dict:
        """What one agent of each group does, by group."""
        return spaces.Dict({name: agent.action_space for name, agent in self._agents.items()})

    @property
    def num_timesteps(self) -> int:
        """Steps of the worlds that the groups have been trained in together."""
        return self._timesteps

    def __repr__(self) -> str:
        return f"MultiAgent({self._agents}, frozen={list(self.frozen)}, num_timesteps={self._timesteps})"

    def describe(self) -> dict[str, Any]:
        """Returns what each group is, as JSON-able data."""
        return {"algorithm": "multi", "groups": saved.describe_groups(self._agents, self._named, self.frozen)}

    def group_of(self, agent: str) -> str:
        """Returns the name of the group that an agent is in.

        Raises:
            UnknownNameError: It is in none.
        """
        listed = [group for group, names in self._named.items() if agent in names]
        found = listed or [group for group in (agent, group_of(agent)) if group in self._agents]
        if not found:
            known = [name for names in self._named.values() for name in names]
            raise UnknownNameError("agent", agent, [*self._agents, *known])
        return found[0]

    # Acting

    @property
    def uses_action_masks(self) -> bool:
        """Whether the agent of any group does."""
        return any(agent.uses_action_masks for agent in self._agents.values())

    def random_generator_owners(self) -> list[Any]:
        """Returns those of all groups."""
        return [owner for agent in self._agents.values() for owner in agent.random_generator_owners()]

    def optimizers(self) -> dict[str, Any]:
        """Returns those of all learning groups, as "prey/policy"."""
        return {
            f"{name}/{key}": optimizer
            for name, agent in self.learning.items()
            for key, optimizer in agent.optimizers().items()
        }

    def choose_action(
        self,
        observation: Mapping[str, Any],
        deterministic: bool = True,
        *,
        state: Any = STATELESS,
        episode_start: Any = None,
        action_masks: Any = None,
    ) -> Any:
        """Chooses an action for each of some agents.

        Args:
            observation: By name of the agent: what it sees.
            deterministic: Whether to take the most likely action instead of a sampled one.
            state: For recurrent agents: what the last call returned, or None at the beginning; by name of the agent.
            episode_start: Whether an episode begins: a bool, or by name of the agent.
            action_masks: By name of the agent, for those whose policy uses them.

        Returns:
            The action of each agent by name; with `state`, these and the next states.
        """
        if not isinstance(observation, Mapping):
            raise ArgumentError("observation", observation, "must be a mapping of names of agents to what they see")
        actions, states = {}, {}
        for name, seen in observation.items():
            agent = self._agents[self.group_of(str(name))]
            begins = episode_start.get(name) if isinstance(episode_start, Mapping) else episode_start
            actions[name], states[name] = agent.choose_action(
                seen,
                deterministic,
                state=None if state is STATELESS or state is None else state.get(name),
                episode_start=begins,
                action_masks=(action_masks or {}).get(name) if agent.uses_action_masks else None,
            )
        return actions if state is STATELESS else (actions, states)

    def predict(
        self,
        observations: Any,
        state: Any = None,
        episode_starts: Any = None,
        deterministic: bool = True,
        action_masks: Any = None,
    ) -> tuple[Any, Any]:
        """Chooses actions for everybody in several worlds; see `JointEnvironment` for the form.

        Args:
            observations: By group: leading axes worlds and slots.
            state: What the last call returned; None at the start.
            episode_starts: Shape `(worlds,)`, bool.
            deterministic: Whether to take the most likely action instead of a sampled one.
            action_masks: By group: shape `(worlds, slots, actions)`.
        """
        if not isinstance(observations, Mapping) or set(observations) != set(self._agents):
            raise ArgumentError(
                "observations",
                observations,
                f"must be a mapping of the groups {list(self._agents)}",
                "Act by choose_action({agent: observation}), evaluate(...) or collect(...).",
            )
        actions, states = {}, {}
        for name, agent in self._agents.items():
            worlds, slots = _leading(observations[name])
            masks = (action_masks or {}).get(name) if agent.uses_action_masks else None
            if agent.uses_action_masks and masks is None:
                raise ArgumentError(
                    "environment", name, f"the agent of the group {name!r} uses action masks, and its group has none"
                )
            starts = None if episode_starts is None else np.repeat(np.asarray(episode_starts), slots)
            chosen, states[name] = agent.predict(
                side_by_side(observations[name]),
                None if state is None else state[name],
                starts,
                deterministic,
                **({} if masks is None else {"action_masks": masks.reshape(worlds * slots, -1)}),
            )
            actions[name] = by_world(chosen, worlds)
        return actions, states

    def open_environments(
        self,
        source: Any,
        n_environments: int | None = None,
        environment_kwargs: Mapping[str, Any] | None = None,
        argument: str = "environment",
    ) -> JointEnvironment:
        """Opens worlds with these groups in them."""
        for name, agent in self._agents.items():
            if agent.wrappers:
                raise ArgumentError(
                    "groups", name, f"its agent was trained in {agent.wrappers}, which cannot go around one of several"
                )
        names = {name: self._named.get(name) for name in self._agents}
        return open_worlds(source, names, n_environments, environment_kwargs, argument)

    def check_spaces(self, batch: BatchedEnvironment, argument: str) -> None:
        """Checks that the groups of a world have the agents' spaces.

        Raises:
            SpaceMismatchError: One has others.
            ArgumentError: The environments were not opened by `open_environments`.
        """
        if not isinstance(batch, JointEnvironment):
            raise ArgumentError(
                argument,
                batch,
                "was opened for one policy, and a MultiAgent has several",
                "Use its own train, evaluate and collect, or one of its agents: multi['prey'].",
            )
        for name, agent in self._agents.items():
            agent.check_spaces(batch.groups[name], argument)

    def collect(
        self,
        environment: Any,
        n_episodes: int,
        seed: int | None = None,
        *,
        deterministic: bool = False,
        n_environments: int | None = None,
        environment_kwargs: dict[str, Any] | None = None,
    ) -> dict[str, EpisodeSequence]:
        """Lets everybody act for whole episodes of the world, and keeps what each agent did.

        Args:
            environment: Where to act; everything that `train` takes.
            n_episodes: How many episodes of the world.
            seed: The same seed, with the same number of worlds, gives the same episodes.
            deterministic: Whether to take the most likely action instead of a sampled one.
            n_environments: How many worlds to make from a factory; None: 8 at most.
            environment_kwargs: Arguments of the factory or the adapter.

        Returns:
            By group, one episode for each agent and episode of the world.
        """
        return collect_by_group(self, environment, n_episodes, seed, deterministic, n_environments, environment_kwargs)

    # Training

    def open_training_environments(self, asked: TrainingArguments, vectorization: str, fresh: bool) -> JointEnvironment:
        """Opens the worlds to train in."""
        if vectorization not in ("auto", "adapter"):
            raise ArgumentError(
                "vectorization", vectorization, "worlds of several agents are stepped in this process", 'Use "auto".'
            )
        if fresh:
            raise ArgumentError("fresh_environments", fresh, "worlds of several agents are not made afresh")
        if asked.wrappers:
            raise ArgumentError(
                "wrappers", asked.wrappers, "go around single environments, and this is a world of several agents"
            )
        batch = self.open_environments(
            asked.training_environments, asked.n_environments, asked.environment_kwargs, "training_environments"
        )
        batch.environment_id = environment_id_of(asked.training_environments) or batch.metadata.get("name")
        return batch

    def choose_threads(self, record: dict[str, Any]) -> AbstractContextManager[None]:
        """Chooses torch's threads for all learning agents together."""
        return saved.choose_threads_for(list(self.learning.values()), record)

    def prepare(self, batch: BatchedEnvironment, seed: int | None) -> int:
        """Builds the algorithm of each learning group for its slots."""
        assert isinstance(batch, JointEnvironment)  # as opened above
        saved.check_frozen(self._agents, self.frozen)
        used = self.choose_seed(seed, None, self.seed)
        for name, agent in self.learning.items():
            begins = seed is not None or agent.num_timesteps == 0
            own = getattr(agent, "algorithm_parameters", {}).get("seed")
            agent.prepare(batch.groups[name], derive_seed(used, "group", name) if begins and own is None else None)
            agent._has_met_environments = True
        for name in self.frozen:
            self._agents[name].check_spaces(batch.groups[name], "training_environments")
        if seed is not None or self.seed is None:
            batch.next_seed = derive_seed(used, "worlds")
        self.seed = used
        return used

    def seed_new_environments(self, batch: BatchedEnvironment, seed: int) -> None:
        """Seeds the worlds alone, at their next reset."""
        assert isinstance(batch, JointEnvironment)  # as opened above
        batch.next_seed = seed

    def learn(self, batch: BatchedEnvironment, training: Training, listeners: Sequence[Any]) -> None:
        """Trains all learning groups in lockstep."""
        assert isinstance(batch, JointEnvironment)  # as opened above
        if not self.learning:
            raise ArgumentError("frozen", self.frozen, "every group is frozen: there is nothing to train")
        for agent in self.learning.values():
            agent._runs = (*agent._runs, training.record)
        LearningTogether(batch, training, self._agents, self.frozen, self._count).run()

    def _count(self, timesteps: int) -> None:
        self._timesteps = timesteps

    def training_members(self, batch: BatchedEnvironment) -> dict[str, Any]:
        """Returns what resuming needs of all learning groups."""
        assert isinstance(batch, JointEnvironment)  # as opened above
        return saved.training_members(self._agents, self.learning, batch)

    def resume(self, checkpoint: Bundle, batch: BatchedEnvironment) -> int:
        """Becomes what is in a checkpoint; new episodes begin."""
        assert isinstance(batch, JointEnvironment)  # as opened above
        config = saved.read_config(checkpoint)
        saved.check_same_groups(config, self._agents, self._named, self.frozen)
        saved.resume_groups(checkpoint, config, self._agents, batch)
        for name in self.frozen:
            self._agents[name].check_spaces(batch.groups[name], "training_environments")
        self.seed, self._timesteps = config.seed, config.num_timesteps
        batch.next_seed = derive_seed(config.seed, "worlds", "resumed", config.num_timesteps)
        return config.seed

    # Saving

    def bundle_members(self) -> dict[str, Any]:
        """Returns the members of every agent, each as a part."""
        return saved.bundle_members(self._agents, self._named, self.frozen, self._timesteps, self.seed)

    @classmethod
    def from_bundle(cls, bundle: Bundle, algorithm_parameters: dict[str, Any] | None = None) -> Self:
        """Builds the agents that are in a bundle; `algorithm_parameters` are by group."""
        config = saved.read_config(bundle)
        agents = saved.agents_in(bundle, config, algorithm_parameters or {})
        multi = cls(agents, {group.name: group.agents for group in config.groups if group.agents}, config.frozen)
        multi.seed, multi._timesteps = config.seed, config.num_timesteps
        return multi

    def restore_members(self, bundle: Bundle, algorithm_parameters: dict[str, Any] | None) -> None:
        """Becomes what is in the bundle; the agents stay the same objects."""
        config = saved.read_config(bundle)
        saved.check_same_groups(config, self._agents, None, None)
        saved.agents_in(bundle, config, algorithm_parameters or {})  # raises before anything is changed
        saved.restore_groups(bundle, config, self._agents, algorithm_parameters or {})
        self._named = {group.name: group.agents for group in config.groups if group.agents}
        self.frozen = config.frozen
        self.seed, self._timesteps = config.seed, config.num_timesteps

    def save_groups(self, directory: str | Path) -> dict[str, Path]:
        """Saves the agent of each group by itself, as `<directory>/<group>.zip`.

        Returns:
            The files by group.
        """
        return {name: agent.save_to_file(Path(directory) / f"{name}.zip") for name, agent in self._agents.items()}


def _leading(value: Any) -> tuple[int, int]:
    while isinstance(value, Mapping):
        value = next(iter(value.values()))
    worlds, slots = np.shape(value)[:2]
    return int(worlds), int(slots)
