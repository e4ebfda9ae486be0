"""SQIL: an off-policy algorithm that is paid 1 for what the expert did and 0 for what it does itself.

Reddy, Dragan and Levine 2020, https://arxiv.org/abs/1905.11108; imitation, https://imitation.readthedocs.io. The class
of the library makes its algorithm with a replay buffer that fails on Stable-Baselines3 2.9, so that the algorithm is
made here.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from gymnasium import spaces
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm
from stable_baselines3.common.vec_env import VecEnv

from rl_framework.agent.imitation.inner_agent import describe_inner_agent
from rl_framework.agent.imitation.learner import Setting
from rl_framework.agent.imitation.library.expert_transitions import ExpertTransitions
from rl_framework.agent.imitation.library.sqil_buffer import SQILDictReplayBuffer, SQILReplayBuffer
from rl_framework.agent.imitation.reinforced_learner import ReinforcedLearner
from rl_framework.agent.reinforcement.library.parameters import local_parameters, portable_parameters
from rl_framework.agent.reinforcement.stable_baselines import StableBaselinesAgent
from rl_framework.bundle import Bundle
from rl_framework.errors import ArgumentError
from rl_framework.training import Training

__all__ = ["SQILAgent", "SQILLearner"]

_PLACE = "algorithm_parameters['rl_kwargs']"
_BUFFER = "SQIL has a replay buffer of its own, half of whose batches are the expert's."


class SQILAgent(StableBaselinesAgent):
    """The agent inside SQIL; saved by itself, it is an ordinary `StableBaselinesAgent`."""

    @classmethod
    def kind(cls) -> str:
        """Returns the name of ordinary agents, as which it can be opened and trained on."""
        return StableBaselinesAgent.kind()

    def _construct(
        self,
        vec_env: VecEnv,
        observation_space: spaces.Space[Any],
        action_space: spaces.Space[Any],
        seed: int | None,
        overrides: dict[str, Any],
    ) -> BaseAlgorithm:
        is_dict = isinstance(observation_space, spaces.Dict)
        buffer = SQILDictReplayBuffer if is_dict else SQILReplayBuffer
        overrides = {**overrides, "replay_buffer_class": buffer}
        return super()._construct(vec_env, observation_space, action_space, seed, overrides)


class SQILLearner(ReinforcedLearner):
    """SQIL. Parameters are the library's: `policy`, `rl_algo_class` (default "dqn") and `rl_kwargs`.

    `rl_kwargs` is what `StableBaselinesAgent` takes as `algorithm_parameters`: schedules and noise are data, classes
    may be given by registered name. The metrics are those of the algorithm.
    """

    inner_argument: ClassVar[str] = "rl_kwargs"

    owned: ClassVar[dict[str, str]] = {
        "venv": "Pass the environments to train(training_environments=...).",
        "demonstrations": "Pass the episodes to train(episode_sequence=...).",
        "custom_logger": "Metrics go to train(connector=...) and to callbacks.",
    }

    # The agent inside

    def make_inner(self) -> StableBaselinesAgent:
        """Makes the agent inside of the library's three parameters."""
        given = self.parameters.get("rl_kwargs")
        if given is not None and not isinstance(given, dict):
            raise ArgumentError(_PLACE, given, "must be a dictionary")
        parameters = dict(given or {})
        for name in ("replay_buffer_class", "replay_buffer_kwargs"):
            if parameters.get(name) is not None:
                raise ArgumentError(f"{_PLACE}[{name!r}]", parameters[name], "cannot be set here", _BUFFER)
        if parameters.get("n_steps", 1) != 1:
            raise ArgumentError(
                f"{_PLACE}['n_steps']", parameters["n_steps"], "returns of several steps cannot be used", _BUFFER
            )
        if "policy" in parameters:
            raise ArgumentError(f"{_PLACE}['policy']", parameters["policy"], "belongs beside rl_kwargs, as 'policy'")
        policy = self.parameters.get("policy")
        if policy is not None:
            parameters["policy"] = policy
        return SQILAgent(self.parameters.get("rl_algo_class") or "dqn", parameters)

    def check_inner(self, inner: StableBaselinesAgent) -> None:
        """Checks that the algorithm has a replay buffer."""
        super().check_inner(inner)
        if not issubclass(inner.algorithm_class, OffPolicyAlgorithm):
            raise ArgumentError(
                "algorithm_parameters['rl_algo_class']",
                inner.algorithm_class.__name__,
                "learns from its own transitions alone",
                "Take an off-policy algorithm: dqn, sac, td3, ...",
            )

    def describe_inner(self) -> dict[str, Any]:
        """Returns the library's three parameters as JSON-able data."""
        described = describe_inner_agent(self.inner)
        parameters = described["algorithm_parameters"]
        policy = parameters.pop("policy", None)
        return {
            **({} if policy is None else {"policy": policy}),
            "rl_algo_class": described["algorithm_class"],
            "rl_kwargs": parameters,
        }

    def local_parameters(self) -> dict[str, Any]:
        """Returns the parameters that belong to this machine."""
        local = local_parameters(self.inner.algorithm_parameters)
        return {"rl_kwargs": local} if local else {}

    def with_local_parameters(self, changed: dict[str, Any]) -> dict[str, Any]:
        """Returns parameters to use instead of those of a file, and those of this machine where they do not say."""
        local = self.local_parameters().get("rl_kwargs", {})
        kwargs = {**local, **dict(changed.get("rl_kwargs") or {})}
        return {**changed, "rl_kwargs": kwargs} if kwargs else changed

    @classmethod
    def parameters_from_file(cls, saved: dict[str, Any], changed: dict[str, Any]) -> dict[str, Any]:
        """Returns what a file says with the user's changes; `changed["rl_kwargs"]` may hold single values."""
        inner = {**portable_parameters(dict(saved["rl_kwargs"])), **dict(changed.get("rl_kwargs") or {})}
        return {**saved, **changed, "rl_kwargs": inner}

    # Training

    def prepare(self, setting: Setting) -> None:
        """Builds the algorithm, or lets it go on with these episodes and environments."""
        vec_env = self.prepare_inner(setting)
        self._attach(setting)
        self.algorithm = _library_object(self.library_class, vec_env, self.inner.algorithm)

    def _attach(self, setting: Setting) -> None:
        algorithm: Any = self.inner.algorithm
        assert setting.episodes is not None  # `needs_episodes`
        expert = ExpertTransitions(
            setting.episodes.transitions(),
            self.inner.features_extractor,
            algorithm.observation_space,
            algorithm.action_space,
        )
        algorithm.replay_buffer.set_expert(expert)

    def learn(self, training: Training, listeners: Sequence[Any]) -> None:
        """Trains with the algorithm's own `learn`; returns of episodes are the environment's."""
        assert self._batch is not None  # `prepare` came before
        self.inner.learn(self._batch, training, listeners)

    def resume(self, checkpoint: Bundle, setting: Setting) -> None:
        """Goes on as if nothing had been; the expert's half comes from the same episodes."""
        self.prepare(setting)
        self.resume_inner(checkpoint, setting.seed)


def _library_object(library_class: type[Any], vec_env: VecEnv, algorithm: Any) -> Any:
    """Returns an object of the library's class around an algorithm that was made with our replay buffer."""
    from imitation.algorithms.base import DemonstrationAlgorithm

    from rl_framework.agent.imitation.library.event_logger import EventLogger

    class OverOurBuffer(library_class):
        def __init__(self) -> None:
            self.venv, self.rl_algo = vec_env, algorithm
            # Not the class's own constructor, which would make an algorithm with its own buffer.
            DemonstrationAlgorithm.__init__(self, demonstrations=None, custom_logger=EventLogger())

        def set_demonstrations(self, demonstrations: Any) -> None:
            raise ArgumentError(
                "demonstrations", demonstrations, "cannot be set here", "Pass them to train(episode_sequence=...)."
            )

    OverOurBuffer.__name__ = OverOurBuffer.__qualname__ = library_class.__name__
    return OverOurBuffer()
