"""Where the fragments that are compared come from: what the agent did while it learned, further rollouts, recordings.

How many of which are taken, and in which order, is as in the imitation library's `AgentTrainer`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import replace
from operator import itemgetter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rl_framework.agent.imitation.interactive.collection import Choose, EpisodeCollection
from rl_framework.agent.imitation.library.episode_arrays import episodes_from_arrays, episodes_to_arrays
from rl_framework.bundle import decode_value, encode_value
from rl_framework.environment import BatchedEnvironment, SlotStep
from rl_framework.environment.acting import Policy, choose_actions
from rl_framework.episode import Episode
from rl_framework.episode.observation_tree import map_leaves
from rl_framework.episode.recording.recorder import EpisodeRecorder
from rl_framework.errors import ArgumentError

__all__ = ["Exploration", "TrajectoryRecord", "enough", "roll_out", "trajectory_of"]


def enough(episodes: Sequence[Episode], steps: int) -> list[Episode]:
    """Returns the first episodes that have a number of steps together.

    Raises:
        ArgumentError: They have fewer.
    """
    taken: list[Episode] = []
    count = 0
    for episode in episodes:
        if count >= steps:
            break
        taken.append(episode)
        count += len(episode)
    if count < steps:
        raise ArgumentError(
            "episode_sequence",
            f"{count} steps",
            f"{steps} steps are needed for the fragments of one round",
            "Give more episodes, or ask for fewer comparisons, shorter fragments or less transition_oversampling.",
        )
    return taken


def trajectory_of(episode: Episode) -> Any:
    """Returns a copy of an episode in the library's form, without infos.

    Rewards that are not known are 0 there: the library's fragments always have some, and compares with them what was
    learned, but does not learn from them.
    """
    from imitation.data.types import TrajectoryWithRew, maybe_wrap_in_dictobs

    return TrajectoryWithRew(
        obs=maybe_wrap_in_dictobs(map_leaves(np.array, episode.observations)),
        acts=np.array(episode.actions),
        infos=None,
        terminal=episode.terminated or episode.truncated,
        rews=np.nan_to_num(episode.rewards),
    )


class TrajectoryRecord:
    """What the agent inside did while it learned, with the rewards of the environment.

    Attributes:
        finished: Episodes that ended since the last `take`, the first first.
    """

    def __init__(self) -> None:
        self.finished: list[Episode] = []
        self._open: dict[int, EpisodeRecorder] = {}

    def watch(self, batch: BatchedEnvironment, observations: Any, actions: Any, step: SlotStep) -> None:
        """Takes one step of all slots."""
        for slot in map(int, np.flatnonzero(step.acted)):
            if slot not in self._open:
                self._open[slot] = EpisodeRecorder(batch.observation_of(observations, slot))
            ended = bool(step.terminated[slot] or step.truncated[slot])
            shown = step.final_observations.get(slot) if ended else batch.observation_of(step.observations, slot)
            self._open[slot].add(np.array(actions[slot]), step.rewards[slot], shown, {})
            if ended:
                episode = self._open.pop(slot).finish(bool(step.terminated[slot]), bool(step.truncated[slot]))
                self.finished.append(replace(episode, infos=None))

    def take(self) -> list[Episode]:
        """Returns the finished episodes and forgets them."""
        finished, self.finished = self.finished, []
        return finished

    def forget_open(self) -> None:
        """Forgets open episodes, because the environments are reset."""
        self._open.clear()

    # In a checkpoint

    def to_arrays(self) -> dict[str, NDArray[Any]]:
        """Returns everything as arrays."""
        slots = [slot for slot in sorted(self._open) if len(self._open[slot])]
        opened = [replace(self._open[slot].finish(False, False), infos=None) for slot in slots]
        arrays = episodes_to_arrays([*self.finished, *opened])
        return {**arrays, "slots": np.array(slots, dtype=np.int64)} if arrays else {}

    def from_arrays(self, arrays: Mapping[str, NDArray[Any]], observation_space: Any, n_slots: int) -> None:
        """Takes back what `to_arrays` gave.

        Raises:
            ValueError: It does not fit.
        """
        episodes = episodes_from_arrays(arrays, observation_space)
        slots = arrays["slots"].tolist() if arrays else []
        if (
            len(set(slots)) != len(slots)
            or not all(0 <= slot < n_slots for slot in slots)
            or len(slots) > len(episodes)
        ):
            raise ValueError(f"open episodes are in the slots {slots}")
        count = len(episodes) - len(slots)
        self.finished = episodes[:count]
        self._open = {}
        for slot, episode in zip(slots, episodes[count:], strict=True):
            shown = [map_leaves(itemgetter(row), episode.observations) for row in range(len(episode) + 1)]
            recorder = self._open[slot] = EpisodeRecorder(shown[0])
            for step in range(len(episode)):
                recorder.add(episode.actions[step], float(episode.rewards[step]), shown[step + 1], {})


class Exploration:
    """Acts by turns as a policy does and at random, as the library's `ExplorationWrapper`.

    Args:
        policy: Acts, not deterministically.
        batch: Where it acts.
        generator: Decides whose turn it is, and draws random actions.
        switch_prob: Probability, after each step, that whose turn it is is drawn anew.
        random_prob: Probability that it is the turn of chance.
    """

    def __init__(
        self,
        policy: Policy,
        batch: BatchedEnvironment,
        generator: np.random.Generator,
        switch_prob: float,
        random_prob: float,
    ) -> None:
        self._policy, self._batch, self._generator = policy, batch, generator
        self._switch_prob, self._random_prob = switch_prob, random_prob
        self._space = deepcopy(batch.single_action_space)
        self._space.seed(int(generator.integers(1 << 31)))
        self._at_random = bool(generator.random() < random_prob)

    def __call__(
        self, observations: Any, state: Any, starts: NDArray[np.bool_]
    ) -> tuple[NDArray[Any], NDArray[Any], Any]:
        """Chooses actions; see `Choose`."""
        actions, state = choose_actions(self._policy, self._batch, observations, state, starts, False)
        if self._at_random:
            actions = np.stack([self._space.sample() for _ in range(self._batch.num_envs)])
        if self._generator.random() < self._switch_prob:
            self._at_random = bool(self._generator.random() < self._random_prob)
        return np.asarray(actions), np.asarray(actions), state

    def state(self) -> dict[str, Any]:
        """Returns what goes on, as JSON-able data."""
        return {
            "at_random": self._at_random,
            "generator": encode_value(self._space.np_random.bit_generator.state, "generator"),
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Goes to where `state` was called."""
        if type(state["at_random"]) is not bool:
            raise ValueError("exploration is at nobody's turn")
        self._at_random = state["at_random"]
        self._space.np_random.bit_generator.state = decode_value(state["generator"])


def roll_out(
    batch: BatchedEnvironment, choose: Choose, steps: int, generator: np.random.Generator, seed: int | None = None
) -> list[Episode]:
    """Resets the environments and collects whole episodes with at least so many steps, in a random order.

    Args:
        batch: Where to act.
        choose: Acts.
        steps: How many at least.
        generator: Shuffles.
        seed: For the reset of the environments; None: their generators go on.
    """
    collection = EpisodeCollection(batch, choose, minimum_steps=steps, minimum_episodes=1)
    collection.run(seed, lambda step: True)
    episodes = collection.episodes
    order = generator.permutation(len(episodes))
    return [episodes[index] for index in order]
