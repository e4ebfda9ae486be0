"""DAgger: the learner acts, the expert says what it should have done, and behavioural cloning learns from all of it."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import gymnasium
import numpy as np
import torch
from stable_baselines3.common.vec_env import VecTransposeImage

from rl_framework.agent.imitation.cloned_policy_learner import ClonedPolicyLearner, cloning_arguments
from rl_framework.agent.imitation.interactive.beta_schedules import build_beta_schedule, describe_beta_schedule
from rl_framework.agent.imitation.interactive.collection import EpisodeCollection, interactive
from rl_framework.agent.imitation.interactive.expert import ExpertPolicy, as_expert, identity_of, resolve_expert
from rl_framework.agent.imitation.learner import Setting, constructor_parameters
from rl_framework.agent.imitation.learners.behavioural_cloning import BehaviouralCloningLearner
from rl_framework.agent.imitation.library.behavioural_cloning import BehaviouralCloning
from rl_framework.agent.imitation.library.episode_arrays import episodes_from_arrays, episodes_to_arrays
from rl_framework.agent.reinforcement.library.state.open_episodes import can_replay, replay_episodes, take_episodes
from rl_framework.bundle import Bundle, decode_value, encode_value
from rl_framework.environment import SlotStep
from rl_framework.environment.sb3 import export_to_vec_env
from rl_framework.episode import Episode, EpisodeSequence
from rl_framework.errors import ArgumentError, UnknownNameError
from rl_framework.seeding import check_seed, derive_seed
from rl_framework.training import EpisodeEnded, RolloutEnded, Training, Updated

__all__ = ["DAggerLearner"]

logger = logging.getLogger(__name__)

_PROGRESS, _STATE = "progress.json", "dagger.json"
_TENSORS, _DEMONSTRATIONS, _OPEN = "dagger.safetensors", "demonstrations.npz", "open_episodes.npz"

_ROUND = {"rollout_round_min_episodes": 3, "rollout_round_min_timesteps": 500}
_CLONING: dict[str, Any] = {"n_epochs": 4, "n_batches": None, "log_interval": 500}
"""The library's defaults."""


class DAggerLearner(ClonedPolicyLearner):
    """`SimpleDAggerTrainer`, with demonstrations that stay in memory and in checkpoints instead of a folder of files.

    In every round the environments are reset, and in each step each of them does with probability beta what the expert
    says, and else what the learner says. The expert's actions are recorded for all observations, and the policy is
    trained on all demonstrations so far. Between rounds nothing is half done.

    A saved agent has its policy and the number of its rounds; the demonstrations are in checkpoints only.
    """

    needs_episodes = False
    local: ClassVar[tuple[str, ...]] = ("device", "expert_policy")
    owned: ClassVar[dict[str, str]] = {
        "venv": "Pass environments to train(training_environments=...).",
        "expert_trajs": "Pass them to train(episode_sequence=...).",
        "scratch_dir": "Demonstrations are kept by the agent, and in its checkpoints.",
        "rng": "Pass a seed to train(seed=...).",
        "custom_logger": "Pass connectors or callbacks to train(...).",
    }

    def __init__(self, library_class: type[Any], parameters: dict[str, Any]) -> None:
        self._setting: Setting | None = None
        self._collected: list[Episode] = []
        self._demonstrations: EpisodeSequence | None = None
        self._generator = np.random.default_rng()
        self._reset_seed: int | None = None
        self._expert: Any = None
        self._identity: dict[str, str | None] = {}
        self._round = 0
        super().__init__(library_class, parameters)

    # Parameters

    def known_parameters(self) -> set[str]:
        """Returns the names of the parameters of the constructor and of `train`."""
        return constructor_parameters(self.library_class) | {*_ROUND, "bc_train_kwargs", "device"}

    def check_parameters(self) -> None:
        """Checks the schedule, the amounts, and the parameters of the behavioural cloning inside."""
        cloning = self.parameters.get("bc_trainer")
        if cloning is not None and not isinstance(cloning, dict):
            raise ArgumentError(
                "algorithm_parameters['bc_trainer']", cloning, "must be a dictionary: what ImitationAgent('bc') takes"
            )
        cloning = dict(cloning or {})
        if "device" in cloning:  # belongs to the machine, and is not saved
            self.parameters["device"] = cloning.pop("device")
        if "bc_trainer" in self.parameters:
            self.parameters["bc_trainer"] = cloning
        from imitation.algorithms.bc import BC

        BehaviouralCloningLearner(BC, dict(cloning))  # raises if it does not take them
        if "beta_schedule" in self.parameters:
            self.parameters["beta_schedule"] = describe_beta_schedule(self.parameters["beta_schedule"])
        for name in _ROUND:
            _check_count(f"algorithm_parameters[{name!r}]", self.parameters.get(name, 1))
        given = self.parameters.get("bc_train_kwargs") or {}
        for name in given:
            if name not in _CLONING:
                raise UnknownNameError("algorithm_parameters['bc_train_kwargs']", name, _CLONING)
            if given[name] is not None:
                _check_count(f"algorithm_parameters['bc_train_kwargs'][{name!r}]", given[name])
        if given.get("n_epochs") is not None and given.get("n_batches") is not None:
            raise ArgumentError(
                "algorithm_parameters['bc_train_kwargs']", given, "tells n_epochs and n_batches", "Give one of them."
            )

    @property
    def cloning_parameters(self) -> dict[str, Any]:
        """The parameters of the behavioural cloning inside."""
        return self.parameters.get("bc_trainer") or {}

    # Before training

    def prepare(self, setting: Setting) -> None:
        """Builds the policy, if there is none yet, and the library's object around it."""
        batch = setting.batch
        assert batch is not None  # `needs_environment`
        expert = resolve_expert(self.parameters.get("expert_policy"))
        actor = as_expert(expert, batch, derive_seed(setting.seed, "expert"))
        if self._policy is None:
            seed = derive_seed(setting.seed, "policy")
            self._policy = self.build_policy(setting.observation_space, setting.action_space, seed)
        if setting.reseed:
            self._generator = np.random.default_rng(derive_seed(setting.seed, "dagger"))
        self._reset_seed = setting.seed if setting.reseed else None
        self._setting, self._expert, self._identity = setting, actor, identity_of(expert)
        self._take_demonstrations(setting.episodes)
        self.algorithm = self._library_object(setting)

    def seed_new_environments(self, seed: int) -> None:
        """Seeds the environments alone, at their next reset."""
        self._reset_seed = seed

    def _take_demonstrations(self, given: EpisodeSequence | None) -> None:
        """Puts the given episodes before the collected ones."""
        assert self._setting is not None
        self._demonstrations = given
        if self._collected:
            self._add(self._collected)

    def _add(self, episodes: list[Episode]) -> None:
        assert self._setting is not None
        spaces = self._setting.observation_space, self._setting.action_space
        added = EpisodeSequence.from_episodes(episodes, *spaces)
        self._demonstrations = added if self._demonstrations is None else self._demonstrations + added

    def _library_object(self, setting: Setting) -> Any:
        """Returns the library's trainer around what is trained here; its `round_num` is the one that counts."""
        from imitation.algorithms.bc import BC

        from rl_framework.agent.imitation.library.event_logger import EventLogger

        assert setting.batch is not None
        policy = self.policy
        venv = export_to_vec_env(setting.batch)
        if policy.observation_space != venv.observation_space:
            venv = VecTransposeImage(venv)
        cloning = BC(
            observation_space=policy.observation_space,
            action_space=policy.action_space,
            rng=self._generator,
            policy=policy,
            batch_size=cloning_arguments(self.cloning_parameters)["batch_size"],
            device=self.device,
            custom_logger=EventLogger(),
        )
        if self._cloning is not None:
            cloning.optimizer = self._cloning.optimizer
        trainer = self.library_class(
            venv=venv,
            scratch_dir=Path(tempfile.gettempdir()) / "rl_framework_dagger",  # nothing is written there
            expert_policy=ExpertPolicy(self._expert, venv.observation_space, venv.action_space),
            rng=self._generator,
            beta_schedule=build_beta_schedule(describe_beta_schedule(self.parameters.get("beta_schedule"))),
            bc_trainer=cloning,
            custom_logger=EventLogger(),
        )
        trainer.round_num = self._round
        return trainer

    # Training

    def learn(self, training: Training, listeners: Sequence[Any]) -> None:
        """Trains round by round; the last one is finished, so that there may be more steps than asked for."""
        while True:
            training.boundary(self.num_timesteps)
            if self.num_timesteps >= training.total_timesteps or training.stop_reason is not None:
                break
            metrics = self._collect(training)
            if metrics is None:
                break
            training.emit(RolloutEnded(timestep=self.num_timesteps))
            self._clone(training, metrics)
            self._round += 1
            self.algorithm.round_num = self._round
        self.policy.set_training_mode(False)

    def _collect(self, training: Training) -> dict[str, float] | None:
        """Collects the demonstrations of a round.

        Returns:
            What there is to tell of it; None if a callback stopped it.
        """
        setting = self._setting
        assert setting is not None  # `prepare` came before
        assert setting.batch is not None
        amounts = {name: self.parameters.get(name, default) for name, default in _ROUND.items()}
        beta = float(self.algorithm.beta_schedule(self._round))
        act = lambda observations: self.policy.predict(observations)[0]  # noqa: E731
        collection = EpisodeCollection(
            setting.batch,
            interactive(setting.batch, self._expert, act, beta, self._generator),
            minimum_steps=max(amounts["rollout_round_min_timesteps"], self.algorithm.batch_size),
            minimum_episodes=amounts["rollout_round_min_episodes"],
        )
        before = self.num_timesteps

        def on_step(step: SlotStep) -> bool:
            self.num_timesteps += int(step.acted.sum())
            for slot in np.flatnonzero((step.terminated | step.truncated) & step.acted):
                training.emit(EpisodeEnded.from_info(self.num_timesteps, int(slot), step.infos[slot]))
            training.step(self.num_timesteps)
            return training.stop_reason is None

        seed, self._reset_seed = self._reset_seed, None
        collection.run(seed, on_step)
        if collection.episodes:
            self._collected += collection.episodes
            self._add(collection.episodes)
        if training.stop_reason is not None:
            return None
        returns = [episode.episode_return for episode in collection.episodes]
        return {
            "dagger/round": float(self._round),
            "dagger/beta": beta,
            "dagger/mean_episode_reward": float(np.mean(returns)),
            "dagger/round_episode_count": float(len(returns)),
            "dagger/round_timestep_count": float(self.num_timesteps - before),
        }

    def _clone(self, training: Training, metrics: dict[str, float]) -> None:
        """Trains the policy on all demonstrations so far."""
        assert self._setting is not None
        assert self._demonstrations is not None  # there was a round
        transitions = self._demonstrations.transitions()
        if self._cloning is None:
            self._cloning = self._new_cloning(derive_seed(self._setting.seed, "batches"))
            self.algorithm.bc_trainer.optimizer = self._cloning.optimizer
        else:
            self._cloning.set_transitions(transitions)
        cloning = self._cloning
        asked: dict[str, Any] = {**_CLONING, **(self.parameters.get("bc_train_kwargs") or {})}
        n_batches = asked["n_batches"] or cloning.batches_in(asked["n_epochs"])
        validation = self._setting.validation_episodes
        heard = training.is_heard(Updated)
        # The library reports the first batch of a round and every `log_interval`-th; the last tells what was reached.
        for index in range(n_batches):
            last = index == n_batches - 1
            measured = cloning.train_batch(measure=heard and (index % asked["log_interval"] == 0 or last))
            if measured is None:
                continue
            if last:
                measured |= {**metrics, "dagger/n_transitions": float(len(transitions))}
                if validation is not None:
                    found = cloning.evaluate(validation.transitions())
                    measured |= {f"validation/{name}": value for name, value in found.items()}
            training.emit(Updated(timestep=self.num_timesteps, metrics=measured, n_updates=cloning.n_batches))

    def _new_cloning(self, seed: int) -> BehaviouralCloning:
        assert self._demonstrations is not None
        arguments = cloning_arguments(self.cloning_parameters)
        return BehaviouralCloning(self.policy, self._demonstrations.transitions(), seed=seed, **arguments)

    @property
    def demonstrations(self) -> EpisodeSequence | None:
        """The given episodes and those that were collected, with the expert's actions; None before the first round."""
        return self._demonstrations

    # On disk

    def members(self) -> dict[str, Any]:
        """Returns the policy's weights, and how many rounds there were."""
        return {**super().members(), _PROGRESS: {"round": self._round}}

    def restore(
        self, bundle: Bundle, observation_space: gymnasium.Space[Any], action_space: gymnasium.Space[Any]
    ) -> None:
        """Builds the policy and gives it its weights."""
        super().restore(bundle, observation_space, action_space)
        self._round = _counter("round", bundle.json(_PROGRESS)["round"])

    def training_members(self) -> dict[str, Any]:
        """Returns demonstrations, optimizer, generators and the environments' open episodes, between two rounds."""
        assert self._setting is not None  # training runs
        assert self._setting.batch is not None
        tensors: dict[str, torch.Tensor] = {}
        arrays: dict[str, Any] = {}
        state: dict[str, Any] = {
            "reset_seed": self._reset_seed,
            "generator": encode_value(self._generator.bit_generator.state, "generator"),
            "expert": self._identity,
            "n_environments": self._setting.batch.num_envs,
            "cloning": None if self._cloning is None else self._cloning.state(tensors),
        }
        # The next round resets them; what goes on are their generators.
        take_episodes(self._setting.batch, arrays, state)
        demonstrations = episodes_to_arrays(self._collected)
        return {_STATE: state, _TENSORS: tensors, _OPEN: arrays, _DEMONSTRATIONS: demonstrations}

    def check_resumable(self, checkpoint: Bundle, setting: Setting) -> None:
        """Checks the expert, and the number of environments."""
        expert = identity_of(resolve_expert(self.parameters.get("expert_policy")))
        state = checkpoint.json(_STATE) if _STATE in checkpoint else None
        before = state.get("expert") if isinstance(state, dict) else None
        if isinstance(before, dict) and before != expert:
            raise ArgumentError(
                "algorithm_parameters['expert_policy']",
                self.parameters["expert_policy"],
                f"is not the expert of the checkpoint: {expert} instead of {before}",
                "Give the same one, or load_from_file(...) the checkpoint and train on with another.",
            )
        n_environments = state.get("n_environments") if isinstance(state, dict) else None
        if setting.batch is not None and n_environments != setting.batch.num_envs:
            raise ArgumentError(
                "n_environments", setting.batch.num_envs, f"the checkpoint was made with {n_environments}"
            )

    def resume(self, checkpoint: Bundle, setting: Setting) -> None:
        """Goes on with the next round."""
        state = checkpoint.json(_STATE)
        self._collected = episodes_from_arrays(checkpoint.arrays(_DEMONSTRATIONS), setting.observation_space)
        self.prepare(setting)
        if state["cloning"] is not None:
            self._cloning = self._new_cloning(_counter("seed", state["cloning"]["seed"]))
            self._cloning.restore(state["cloning"], checkpoint.tensors(_TENSORS))
            self.algorithm.bc_trainer.optimizer = self._cloning.optimizer
        self._reset_seed = check_seed(state["reset_seed"])
        batch = setting.batch
        if can_replay(batch, state):
            assert batch is not None
            seed = derive_seed(setting.seed, "resumed", self.num_timesteps)
            replay_episodes(batch, checkpoint.arrays(_OPEN), state, seed)
        elif self._reset_seed is None:
            logger.warning("these environments cannot be replayed: training goes on with other episodes")
            self._reset_seed = derive_seed(setting.seed, "resumed", self.num_timesteps)
        self._generator.bit_generator.state = decode_value(state["generator"])


def _check_count(argument: str, value: Any) -> None:
    if type(value) is not int or value < 1:
        raise ArgumentError(argument, value, "must be an integer of at least 1")


def _counter(name: str, value: Any) -> int:
    if type(value) is not int or not 0 <= value < 1 << 63:
        raise ValueError(f"{name} is {value!r}")
    return value
