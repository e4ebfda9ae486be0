"""Who shows the episodes whose fragments are compared."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rl_framework.agent.imitation.interactive.collection import Choose
from rl_framework.agent.imitation.preference.trajectories import Exploration, TrajectoryRecord, enough, roll_out
from rl_framework.agent.reinforcement.stable_baselines import StableBaselinesAgent
from rl_framework.bundle import encode_value
from rl_framework.environment import BatchedEnvironment
from rl_framework.environment.acting import choose_actions
from rl_framework.episode import Episode, EpisodeSequence
from rl_framework.errors import ArgumentError
from rl_framework.seeding import check_seed

__all__ = ["TrajectorySource"]

_EXPLORATION = {"exploration_frac": 0.0, "switch_prob": 0.5, "random_prob": 0.5}
"""The library's defaults."""


class TrajectorySource:
    """The episodes of the agent inside, further rollouts of it, and recorded ones.

    Args:
        described: The parameter `trajectory_generator` as data.
        agent: The agent inside.
        batch: Its environments, which pay the true rewards.
        recorded: Recorded episodes, or None.
        generator: Draws.
        reset_seed: For the first reset of the environments; None: their generators go on.
        needs_rewards: Whether true rewards are compared.

    Attributes:
        record: What the agent did while it learned; to be told of each of its steps.
        reset_seed: For the next reset, if there was none yet.
    """

    def __init__(
        self,
        described: Mapping[str, Any],
        agent: StableBaselinesAgent,
        batch: BatchedEnvironment,
        recorded: EpisodeSequence | None,
        generator: np.random.Generator,
        reset_seed: int | None,
        needs_rewards: bool,
    ) -> None:
        self._from_dataset = described["type"] == "dataset"
        if self._from_dataset and recorded is None:
            raise ArgumentError(
                "episode_sequence", None, "trajectory_generator='dataset' compares recorded episodes", "Give some."
            )
        if recorded is not None and needs_rewards and np.isnan(recorded.returns).any():
            raise ArgumentError(
                "episode_sequence",
                recorded,
                "its rewards are not known, by which the synthetic gatherer prefers",
                "Give episodes with rewards, or a preference_gatherer of your own.",
            )
        self._agent, self._batch, self._recorded, self._generator = agent, batch, recorded, generator
        self.record = TrajectoryRecord()
        self.reset_seed = reset_seed
        chances = {name: described.get(name, default) for name, default in _EXPLORATION.items()}
        self._exploring = float(chances.pop("exploration_frac"))
        self._exploration = Exploration(agent, batch, generator, **chances)

    def sample(self, steps: int, is_first: bool) -> list[Episode]:
        """Returns episodes with at least so many steps, the latest of the agent first.

        Args:
            steps: How many.
            is_first: Whether it is for the first comparisons, in which recorded episodes take part.

        Raises:
            ArgumentError: Only recorded episodes are asked for, and they are too few.
        """
        own = self.record.take()[::-1]
        recorded: list[Episode] = []
        if self._recorded is not None and (is_first or self._from_dataset):
            recorded = list(self._recorded.shuffled(int(self._generator.integers(1 << 31))))
        if self._from_dataset:
            return enough(recorded, steps)
        exploring = int(self._exploring * steps)
        episodes = self._topped_up(own, steps - exploring, self._act)
        if exploring:
            episodes += self._topped_up([], exploring, self._exploration)
        return [*episodes, *recorded]

    def _topped_up(self, episodes: list[Episode], steps: int, choose: Choose) -> list[Episode]:
        """Returns enough of these episodes, after further rollouts if there are too few."""
        missing = steps - sum(map(len, episodes))
        if missing > 0:
            seed, self.reset_seed = self.reset_seed, None
            episodes = episodes + roll_out(self._batch, choose, missing, self._generator, seed)
            # The environments are elsewhere now: the agent begins new episodes.
            self.record.forget_open()
            algorithm: Any = self._agent.algorithm
            algorithm._last_obs = None
        return enough(episodes, steps)

    def _act(self, observations: Any, state: Any, starts: NDArray[np.bool_]) -> tuple[NDArray[Any], NDArray[Any], Any]:
        actions, state = choose_actions(self._agent, self._batch, observations, state, starts, False)
        return np.asarray(actions), np.asarray(actions), state

    # In a checkpoint

    def state(self) -> dict[str, Any]:
        """Returns what goes on besides the record, as JSON-able data."""
        return {
            "reset_seed": self.reset_seed,
            "generator": encode_value(self._generator.bit_generator.state, "generator"),
            "exploration": self._exploration.state(),
        }

    def restore(self, state: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> None:
        """Goes to where `state` was called; the generator is its owner's to put back.

        Args:
            state: What `state` returned.
            arrays: What `record.to_arrays` returned.

        Raises:
            ValueError: It does not fit. What a crafted state can raise besides is of any type.
        """
        self.reset_seed = check_seed(state["reset_seed"])
        self._exploration.restore(state["exploration"])
        self.record.from_arrays(arrays, self._batch.single_observation_space, self._batch.num_envs)
