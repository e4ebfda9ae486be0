"""Rollouts until there is enough, also such in which an expert says what it would do wherever the learner goes.

The rules are those of `InteractiveTrajectoryCollector` and `generate_trajectories` of the imitation library
(https://imitation.readthedocs.io), which know no dict observations, action masks or empty slots, and write each episode
to a folder.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rl_framework.environment import BatchedEnvironment, SlotStep
from rl_framework.environment.acting import Policy, choose_actions
from rl_framework.episode import Episode
from rl_framework.episode.observation_tree import map_leaves
from rl_framework.episode.recording.recorder import EpisodeRecorder
from rl_framework.errors import RLFrameworkError

__all__ = ["Choose", "EpisodeCollection", "interactive"]

_PATIENCE = 10_000
"""Steps for which all slots may be empty."""


Choose = Callable[[Any, Any, NDArray[np.bool_]], tuple[NDArray[Any], NDArray[Any], Any]]
"""Takes observations, the state that it returned last (None first), and where episodes begin; returns the actions to
record, the actions to do, and the next state."""


class EpisodeCollection:
    """Rollouts until there are enough finished episodes.

    Args:
        batch: Where to act; every slot is reset first.
        choose: Acts.
        minimum_steps: It ends when finished episodes have this many steps,
        minimum_episodes: and are this many. Episodes that are open then are finished, so that long ones are not missed.

    Attributes:
        episodes: The finished episodes, the first that ended first.
    """

    def __init__(
        self, batch: BatchedEnvironment, choose: Choose, minimum_steps: int, minimum_episodes: int = 0
    ) -> None:
        self._batch, self._choose = batch, choose
        self._minimum_steps, self._minimum_episodes = minimum_steps, minimum_episodes
        self._recorders: dict[int, EpisodeRecorder] = {}
        self._waiting: dict[int, NDArray[Any]] = {}
        self._counted_steps = self._counted_episodes = 0
        self.episodes: list[Episode] = []

    def run(self, seed: int | None, on_step: Callable[[SlotStep], bool]) -> None:
        """Collects.

        Args:
            seed: For the reset of the environments; None: their generators go on.
            on_step: Is told of each step, and returns whether to go on.

        Raises:
            RLFrameworkError: Nobody enters any slot, or an episode ends without its last observation.
        """
        batch = self._batch
        observations, _ = batch.reset_slots(seed)
        active = np.ones(batch.num_envs, dtype=np.bool_)
        starts, state = np.ones(batch.num_envs, dtype=np.bool_), None
        empty_for = 0
        while active.any():
            recorded, done, state = self._choose(observations, state, starts)
            asked = batch.present.copy()
            step = batch.step_slots(done)
            waits = np.zeros_like(asked) if step.pending is None else step.pending
            for slot in map(int, np.flatnonzero(waits & asked)):
                self._waiting[slot] = np.array(recorded[slot])
            ended = (step.terminated | step.truncated) & step.acted
            self._record(observations, recorded, step, ended, active)
            if not on_step(step):
                return
            if self._counted_steps >= self._minimum_steps and self._counted_episodes >= self._minimum_episodes:
                active &= ~ended & (step.present | waits)
            starts = (ended | ~step.acted) & ~waits
            observations = step.observations
            empty_for = 0 if step.acted.any() else empty_for + 1
            if empty_for > _PATIENCE:
                raise RLFrameworkError(f"nobody has been in any slot of the environment for {_PATIENCE} steps")

    def _record(
        self,
        observations: Any,
        recorded: NDArray[Any],
        step: SlotStep,
        ended: NDArray[np.bool_],
        active: NDArray[np.bool_],
    ) -> None:
        batch = self._batch
        for slot in map(int, np.flatnonzero(step.acted)):
            if slot not in self._recorders:
                self._recorders[slot] = EpisodeRecorder(batch.observation_of(observations, slot))
            if ended[slot]:
                shown = batch.copy_observation(_last_observation(step, slot))
            else:
                shown = batch.observation_of(step.observations, slot)
            recorder = self._recorders[slot]
            action = self._waiting.pop(slot, recorded[slot])  # what was said when the slot was asked
            recorder.add(np.array(action), step.rewards[slot], shown, {})
            if ended[slot]:
                del self._recorders[slot]
                episode = recorder.finish(bool(step.terminated[slot]), bool(step.truncated[slot]))
                self.episodes.append(replace(episode, infos=None))
                if active[slot]:
                    self._counted_steps += len(episode)
                    self._counted_episodes += 1


def interactive(
    batch: BatchedEnvironment,
    expert: Policy,
    act: Callable[[Any], NDArray[Any]],
    beta: float,
    generator: np.random.Generator,
) -> Choose:
    """Returns who acts in a round of DAgger.

    In every step each slot does what the expert says, or what the learner says. The actions that are
    recorded are always the expert's.

    Args:
        batch: Where they act.
        expert: Says what to do, deterministically.
        act: The learner: takes a batch of observations and returns actions.
        beta: Probability of following the expert.
        generator: Decides whom to follow.
    """

    def choose(observations: Any, state: Any, starts: NDArray[np.bool_]) -> tuple[NDArray[Any], NDArray[Any], Any]:
        asked, state = choose_actions(expert, batch, observations, state, starts, True)
        recorded = np.asarray(asked)
        by_learner = generator.uniform(0, 1, size=(len(recorded),)) > beta
        done = np.array(recorded)
        if by_learner.any():
            done[by_learner] = act(map_leaves(lambda part: part[by_learner], observations))
        return recorded, done, state

    return choose


def _last_observation(step: SlotStep, slot: int) -> Any:
    if slot not in step.final_observations:
        raise RLFrameworkError(
            f"environment {slot} began its next episode without telling the last observation of the one before: "
            "a vector environment has to put it into infos['final_obs'], a VecEnv into infos['terminal_observation']"
        )
    return step.final_observations[slot]
