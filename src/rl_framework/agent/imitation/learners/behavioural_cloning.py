"""Behavioural cloning: no environment, no rewards, only what the expert saw and did."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, ClassVar

import gymnasium
import numpy as np
import torch
from stable_baselines3 import PPO
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.utils import get_device

from rl_framework.agent.imitation.learner import Learner, Setting
from rl_framework.agent.imitation.library.behavioural_cloning import BehaviouralCloning
from rl_framework.agent.imitation.library.cloning_policy import build_bc_policy, policy_form
from rl_framework.agent.imitation.library.quiet_logger import quiet_logger
from rl_framework.agent.reinforcement.library.saved_state import check_tensors
from rl_framework.agent.reinforcement.library.size_limit import limited_parameters
from rl_framework.agent.reinforcement.warm_start import PolicyToContinue
from rl_framework.bundle import Bundle
from rl_framework.errors import ArgumentError, NotTrainedError
from rl_framework.seeding import derive_seed
from rl_framework.training import Training, Updated

__all__ = ["CLONING_DEFAULTS", "BehaviouralCloningLearner", "cloning_arguments", "policy_arguments"]

_POLICY, _STATE, _TENSORS = "policy.safetensors", "cloning.json", "cloning.safetensors"

CLONING_DEFAULTS: dict[str, Any] = {
    "batch_size": 32,
    "minibatch_size": None,
    "optimizer_cls": "adam",
    "optimizer_kwargs": None,
    "ent_weight": 1e-3,
    "l2_weight": 0.0,
}
"""The library's."""

_AMOUNT = "Say how long with train(total_timesteps=n_epochs * episode_sequence.n_transitions)."


def policy_arguments(policy: Any) -> dict[str, Any]:
    """Turns the parameter `policy` into the arguments `policy` and `policy_kwargs` of `build_bc_policy`.

    Args:
        policy: None, the name or class of a policy, or `{"type": name, ...}` with its arguments.

    Raises:
        ArgumentError: It is a policy that was built already, or something else.
    """
    if isinstance(policy, dict):
        kwargs = dict(policy)
        return {"policy": kwargs.pop("type", None), "policy_kwargs": kwargs or None}
    if policy is None or isinstance(policy, str | type):
        return {"policy": policy, "policy_kwargs": None}
    raise ArgumentError(
        "algorithm_parameters['policy']",
        policy,
        "is an object, of which a saved agent could not tell how it was made",
        'Describe it: {"type": "MlpPolicy", "net_arch": [64, 64]}; to go on with its weights, use from_agent(...).',
    )


def cloning_arguments(parameters: dict[str, Any]) -> dict[str, Any]:
    """Returns the arguments of `BehaviouralCloning` besides the policy, the transitions and the seed."""
    return {name: parameters.get(name, default) for name, default in CLONING_DEFAULTS.items()}


class BehaviouralCloningLearner(Learner):
    """BC with the loss, the metrics and the defaults of the library, and steps that cost less."""

    measures_validation = True
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
        self._policy: ActorCriticPolicy | None = None
        self._cloning: BehaviouralCloning | None = None
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

    # Before training

    def prepare(self, setting: Setting) -> None:
        """Builds the policy, if there is none yet, and reads the episodes."""
        if self._policy is None:
            seed = derive_seed(setting.seed, "policy")
            self._policy = self._build(setting.observation_space, setting.action_space, seed)
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

    def _build(
        self, observation_space: gymnasium.Space[Any], action_space: gymnasium.Space[Any], seed: int
    ) -> ActorCriticPolicy:
        described = policy_arguments(self.parameters.get("policy"))
        return build_bc_policy(observation_space, action_space, **described, seed=seed, device=self.device)

    def _library_object(self, setting: Setting) -> Any:
        """Returns the library's object around the policy and the optimizer that are trained here."""
        assert self._policy is not None
        assert self._cloning is not None
        trainer = self.library_class(
            observation_space=self._policy.observation_space,
            action_space=self._policy.action_space,
            rng=np.random.default_rng(setting.seed),
            policy=self._policy,
            device=self.device,
            custom_logger=quiet_logger(),
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

    # Acting

    def predict(
        self,
        observations: Any,
        state: Any = None,
        episode_starts: Any = None,
        deterministic: bool = True,
        action_masks: Any = None,
    ) -> tuple[Any, Any]:
        """Chooses one action for each observation of a batch."""
        return self.policy.predict(observations, state, episode_starts, deterministic)

    @property
    def policy(self) -> ActorCriticPolicy:
        """The policy that is trained.

        Raises:
            NotTrainedError: There is none yet.
        """
        if self._policy is None:
            raise NotTrainedError("a policy")
        return self._policy

    def policy_to_continue(self) -> PolicyToContinue:
        """Returns the policy as one of PPO, whose value network has not learned anything."""
        form = policy_form(self.policy.observation_space, **policy_arguments(self.parameters.get("policy")))
        described = {name: value for name, value in zip(("policy", "policy_kwargs"), form, strict=True) if value}
        weights = {name: tensor.detach().clone() for name, tensor in self.policy.state_dict().items()}
        return PolicyToContinue(PPO, described, None, False, False, None, weights)

    def optimizers(self) -> dict[str, torch.optim.Optimizer]:
        """Returns the one that changes the policy."""
        return {} if self._cloning is None else {"policy": self._cloning.optimizer}

    def networks(self) -> Iterable[torch.nn.Module]:
        """Returns the policy."""
        return [self.policy]

    @property
    def device(self) -> torch.device:
        """Where the policy runs."""
        return get_device(self.parameters.get("device", "auto"))

    # On disk

    def members(self) -> dict[str, Any]:
        """Returns the policy's weights."""
        return {_POLICY: self.policy.state_dict()}

    def restore(
        self, bundle: Bundle, observation_space: gymnasium.Space[Any], action_space: gymnasium.Space[Any]
    ) -> None:
        """Builds the policy and gives it its weights."""
        tensors = bundle.tensors(_POLICY)
        with limited_parameters(tensors):
            policy = self._build(observation_space, action_space, 0)
        check_tensors(tensors, policy.state_dict())
        policy.load_state_dict(tensors)
        self._policy = policy

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
