"""Behavioural cloning: no environment, no rewards, only what the expert saw and did."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
import torch

from rl_framework.agent.imitation.cloned_policy_learner import (
    ClonedPolicyLearner,
    check_cloning_values,
    cloning_arguments,
    policy_arguments,
)
from rl_framework.agent.imitation.learner import Setting
from rl_framework.agent.imitation.library.behavioural_cloning import BehaviouralCloning
from rl_framework.bundle import Bundle
from rl_framework.errors import ArgumentError
from rl_framework.seeding import derive_seed
from rl_framework.training import Training, Updated

__all__ = ["BehaviouralCloningLearner"]

_STATE, _TENSORS = "cloning.json", "cloning.safetensors"

_AMOUNT = "Say how long with train(total_timesteps=n_epochs * episode_sequence.n_transitions)."


class BehaviouralCloningLearner(ClonedPolicyLearner):
    """BC with the loss, the metrics and the defaults of the library, and steps that cost less."""

    needs_environment = False
    owned: ClassVar[dict[str, str]] = {
        "observation_space": "It comes from the environments or the episodes.",
        "action_space": "It comes from the environments or the episodes.",
        "demonstrations": "Pass them to train(episode_sequence=...).",
        "rng": "Pass a seed to train(seed=...).",
        "custom_logger": "Pass connectors or callbacks to train(...).",
        "n_epochs": _AMOUNT,
        "n_batches": _AMOUNT,
        "progress_bar": "Pass it to train(...).",
        "on_epoch_end": "Pass callbacks to train(...).",
        "on_batch_end": "Pass callbacks to train(...).",
        "log_rollouts_venv": "Use train(evaluate_every=..., evaluation_environment=...).",
        "log_rollouts_n_episodes": "Use train(n_eval_episodes=...).",
        "reset_tensorboard": "Connectors go on with a run by themselves.",
    }

    def __init__(self, library_class: type[Any], parameters: dict[str, Any]) -> None:
        self._setting: Setting | None = None
        super().__init__(library_class, parameters)

    def known_parameters(self) -> set[str]:
        """Returns the names of the parameters of the constructor, and of `train`'s `log_interval`."""
        return super().known_parameters() | set(self.owned) | {"log_interval"}

    def check_parameters(self) -> None:
        """Checks the policy's description and how often to report."""
        policy_arguments(self.parameters.get("policy"))
        interval = self.parameters.get("log_interval", 500)
        if type(interval) is not int or interval < 1:
            raise ArgumentError("algorithm_parameters['log_interval']", interval, "must be a number of batches")
        check_cloning_values(self.parameters)

    # Before training

    def prepare(self, setting: Setting) -> None:
        """Builds the policy, if there is none yet, and reads the episodes."""
        if self._policy is None:
            seed = derive_seed(setting.seed, "policy")
            self._policy = self.build_policy(setting.observation_space, setting.action_space, seed)
        assert setting.episodes is not None  # `needs_episodes`
        before = self._cloning
        transitions = setting.episodes.transitions()
        seed = derive_seed(setting.seed, "batches", self.num_timesteps)
        self._cloning = BehaviouralCloning(self._policy, transitions, seed=seed, **cloning_arguments(self.parameters))
        if before is not None:
            self._cloning.optimizer.load_state_dict(before.optimizer.state_dict())
            self._cloning.n_batches = before.n_batches
        self._setting = setting
        self.algorithm = self._library_object(setting)

    def _library_object(self, setting: Setting) -> Any:
        """Returns the library's object around the policy and the optimizer that are trained here."""
        from rl_framework.agent.imitation.library.event_logger import EventLogger

        assert self._policy is not None
        assert self._cloning is not None
        trainer = self.library_class(
            observation_space=self._policy.observation_space,
            action_space=self._policy.action_space,
            rng=np.random.default_rng(setting.seed),
            policy=self._policy,
            device=self.device,
            custom_logger=EventLogger(),
        )
        trainer.optimizer = self._cloning.optimizer
        return trainer

    # Training

    def learn(self, training: Training, listeners: Sequence[Any]) -> None:
        """Trains batch by batch; nothing is half done after any of them."""
        cloning, interval = self._cloning, self.parameters.get("log_interval", 500)
        assert cloning is not None  # `prepare` came before
        validation = None if self._setting is None else self._setting.validation_episodes
        validating = None if validation is None else validation.transitions()
        heard = training.is_heard(Updated)
        while training.stop_reason is None:
            training.boundary(self.num_timesteps)
            if self.num_timesteps >= training.total_timesteps or training.stop_reason is not None:
                break
            metrics = cloning.train_batch(measure=heard and cloning.n_batches % interval == 0)
            self.num_timesteps += cloning.batch_size
            if metrics is not None:
                if validating is not None:
                    measured = cloning.evaluate(validating)
                    metrics |= {f"validation/{name}": value for name, value in measured.items()}
                training.emit(Updated(timestep=self.num_timesteps, metrics=metrics, n_updates=cloning.n_batches))
            training.step(self.num_timesteps)
        cloning.check_finite()
        cloning.policy.set_training_mode(False)

    # On disk

    def training_members(self) -> dict[str, Any]:
        """Returns the optimizer, and where the data stands."""
        assert self._cloning is not None  # training runs
        tensors: dict[str, torch.Tensor] = {}
        state = self._cloning.state(tensors)
        return {_STATE: state, _TENSORS: tensors}

    def resume(self, checkpoint: Bundle, setting: Setting) -> None:
        """Goes on with the next batch."""
        state = checkpoint.json(_STATE)
        self.prepare(setting)
        assert self._cloning is not None
        self._cloning.seed = state["seed"]
        self._cloning.restore(state, checkpoint.tensors(_TENSORS))
