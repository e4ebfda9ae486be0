"""PettingZoo's environments behind the door."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from rl_framework.environment.adapter import MultiSlotAdapter
from rl_framework.environment.batched.batch import SlotStep
from rl_framework.environment.pettingzoo.seats import ChangingAgents
from rl_framework.environment.pettingzoo.world import PettingZooWorld
from rl_framework.environment.world.groups import TEAM_KEY

__all__ = ["PettingZooAdapter"]


class PettingZooAdapter(MultiSlotAdapter):
    """A `ParallelEnv`, an `AECEnv` or `ChangingAgents`: one slot an agent, one policy for all of them.

    An agent's episode is what it does until it is terminated or truncated; its slot is then empty until the world
    begins anew. When that happens, the metric `episode/team_return` has the sum of all agents' rewards. Masks that the
    environment gives in its observations (`{"observation": ..., "action_mask": ...}`) become the info "action_mask",
    for algorithms that use them.

    The environment is seeded by its `reset(seed=...)` at the beginning, and goes on with its own random stream. Open
    episodes are not replayed when a training is resumed: new ones begin.
    """

    @classmethod
    def accepts(cls, source: object) -> bool:
        """Tells whether this is an environment of PettingZoo."""
        if isinstance(source, ChangingAgents):
            return True
        # Nobody can hold one without having imported the module that defines it.
        module = sys.modules.get("pettingzoo.utils.env")
        return module is not None and isinstance(source, module.AECEnv | module.ParallelEnv)

    def setup(self, source: Any, max_agents: int | None = None) -> None:  # type: ignore[override]
        """Makes a slot for every possible agent.

        Args:
            source: A `ParallelEnv`, an `AECEnv` or `ChangingAgents`.
            max_agents: Slots for agents that are not known beforehand, as in `ChangingAgents`.

        Raises:
            ArgumentError: The agents are not known beforehand, and neither is how many there are at most.
            SpaceMismatchError: The agents differ in their spaces.
        """
        self._setup(source, {}, max_agents)
        ((_, group),) = self.groups.items()
        self.n_slots = group.n_slots
        self.observation_space, self.action_space = group.observation_space, group.action_space

    def setup_groups(
        self, source: Any, names: Mapping[str, Sequence[str] | None], max_agents: int | None = None
    ) -> None:
        """Makes slots for the agents of several groups; see `GroupedWorld`."""
        self._setup(source, names, max_agents)

    def _setup(self, source: Any, names: Mapping[str, Sequence[str] | None], max_agents: int | None) -> None:
        if max_agents is not None and not isinstance(source, ChangingAgents):
            source = ChangingAgents(source, max_agents)
        self._world = PettingZooWorld(source, names)
        self.groups = self._world.groups
        environment = self._world.environment
        self.metadata = dict(getattr(environment, "metadata", None) or {})  # type: ignore[misc]  # each has its own
        self.render_mode = getattr(environment, "render_mode", None)

    @property
    def environment(self) -> Any:
        """PettingZoo's environment."""
        return self._world.environment

    @property
    def episode_over(self) -> bool:
        """Whether the last step ended an episode of the world."""
        return self._world.episode_over

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        """Starts the world."""
        (begun,) = self._world.reset(seed, options).values()
        return begun

    def step(self, action: Any) -> SlotStep:
        """Advances the world by one decision of everybody who is asked."""
        (name,) = self.groups
        step = self._world.step({name: action})[name]
        if self.episode_over:
            for slot in map(int, np.flatnonzero(step.acted)):
                if TEAM_KEY in step.infos[slot]:
                    step.infos[slot]["step_metric_team_return"] = step.infos[slot][TEAM_KEY]["r"]
        return step

    def reset_groups(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> dict[str, Any]:
        """Starts the world; see `GroupedWorld`."""
        return self._world.reset(seed, options)

    def step_groups(self, actions: Mapping[str, list[Any]]) -> dict[str, SlotStep]:
        """Advances the world; see `GroupedWorld`."""
        return self._world.step(actions)

    def render(self) -> Any:
        """Returns the environment's frame."""
        return self._world.environment.render()

    def close(self) -> None:
        """Closes the environment."""
        self._world.environment.close()
