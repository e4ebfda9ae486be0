"""GAIL and AIRL: a policy and a discriminator that tells its transitions from the expert's, trained in turns.

The updates are the library's own `train_gen` and `train_disc` (Ho and Ermon 2016, https://arxiv.org/abs/1606.03476; Fu
et al. 2018, https://arxiv.org/abs/1710.11248; imitation, https://imitation.readthedocs.io). The loop around them is
ours, so that it can be watched, stopped and resumed, and so that the order of the expert's transitions is a function of
the seed.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, ClassVar

import gymnasium
import numpy as np
import torch
from numpy.typing import NDArray
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm
from stable_baselines3.common.vec_env import VecEnv

from rl_framework import registry
from rl_framework.agent.imitation.learner import Setting
from rl_framework.agent.imitation.library.adversarial_state import give_adversarial_state, take_adversarial_state
from rl_framework.agent.imitation.library.batch_order import BatchOrder
from rl_framework.agent.imitation.library.expert_transitions import ExpertTransitions, as_learner_sees
from rl_framework.agent.imitation.library.generator_in_parts import GeneratorOverRows, ShownAsRows, trainer_class
from rl_framework.agent.imitation.library.observation_rows import ObservationRows, as_one_array, rows_of
from rl_framework.agent.imitation.reinforced_learner import ReinforcedLearner
from rl_framework.agent.imitation.reward_networks import (
    build_reward_network,
    reward_network_data,
)
from rl_framework.agent.reinforcement.library.state.saved_state import check_tensors
from rl_framework.agent.reinforcement.library.state.size_limit import limited_parameters
from rl_framework.agent.reinforcement.stable_baselines import StableBaselinesAgent
from rl_framework.bundle import Bundle
from rl_framework.errors import ArgumentError, BundleError, NotTrainedError
from rl_framework.training import Training

__all__ = ["AdversarialLearner"]

_REWARD_NET, _COUNTERS = "reward_net.safetensors", "counters.json"
_DEFAULT_REWARD_NETS = {"GAIL": "basic", "AIRL": "basic_shaped"}
_NO_FILES = "Metrics go to train(connector=TensorBoardConnector(...)) and to callbacks."
_INTEGERS = (
    "demo_batch_size",
    "demo_minibatch_size",
    "n_disc_updates_per_round",
    "gen_train_timesteps",
    "gen_replay_buffer_capacity",
)
_UNSUITABLE = {
    "ars": "it does not step all environments alike",
    "recurrent_ppo": "the discriminator asks it for probabilities without its state",
}


class AdversarialLearner(ReinforcedLearner):
    """GAIL or AIRL.

    A round is `gen_train_timesteps` steps of the generator (of one rollout, if not given) and then
    `n_disc_updates_per_round` updates of the discriminator; training goes on in whole rounds until at least
    `total_timesteps` steps were made. Schedules of the generator see the whole training. The metrics of a round are
    reported as "gen/..." and "disc/..."; the returns of episodes are the environment's and not the learned reward's.

    With `allow_variable_horizon=False`, the library's default, episodes must be of one length: where episodes end
    early, a reward that is positive everywhere rewards staying alive whatever the expert does.

    Where observations are dicts, the generator sees them, and the discriminator one row of all their parts.
    """

    inner_argument: ClassVar[str] = "gen_algo"
    default_inner: ClassVar[dict[str, Any] | None] = {
        "algorithm_class": "ppo",
        "algorithm_parameters": {"n_steps": 256, "batch_size": 64, "ent_coef": 0.0, "learning_rate": 4e-4,
                                 "gamma": 0.95, "n_epochs": 5},
    }  # fmt: skip
    default_demo_batch_size: ClassVar[int] = 256

    owned: ClassVar[dict[str, str]] = {
        "venv": "Pass the environments to train(training_environments=...).",
        "demonstrations": "Pass the episodes to train(episode_sequence=...).",
        "custom_logger": _NO_FILES,
        "log_dir": _NO_FILES,
        "init_tensorboard": _NO_FILES,
        "init_tensorboard_graph": _NO_FILES,
    }

    _reward_net: Any = None
    _counters: dict[str, int]
    _expert: ExpertTransitions
    _order: BatchOrder
    _rows: ObservationRows | None = None

    # Before training

    def check_parameters(self) -> None:
        """Checks the agent inside, the reward network, the optimizer and the counts."""
        super().check_parameters()
        self._counters = {"global_step": 0, "disc_step": 0}
        given = self.parameters.get("reward_net")
        if given is None:
            kind = _DEFAULT_REWARD_NETS[self.library_class.__name__]
            given = {"type": kind, "normalize_input_layer": "running_norm"}
        self._reward_data = reward_network_data(given, "algorithm_parameters['reward_net']")
        if "reward_net" in self.parameters:
            self.parameters["reward_net"] = self._reward_data
        if _holds_ensemble(self._reward_data):
            raise ArgumentError(
                "algorithm_parameters['reward_net']",
                given,
                "an ensemble cannot be a discriminator",
                "Give one network.",
            )
        for name in _INTEGERS:
            value = self.parameters.get(name)
            if value is not None and (type(value) is not int or value < 1):
                raise ArgumentError(f"algorithm_parameters[{name!r}]", value, "must be an integer of at least 1")
        minibatch = self.parameters.get("demo_minibatch_size")
        if minibatch is not None and self.demo_batch_size % minibatch:
            raise ArgumentError(
                "algorithm_parameters['demo_minibatch_size']",
                minibatch,
                f"must divide demo_batch_size={self.demo_batch_size}",
            )
        self._optimizer_class()

    def check_inner(self, inner: StableBaselinesAgent) -> None:
        """Checks that the generator can be one."""
        super().check_inner(inner)
        name = registry.algorithms.name_of(inner.algorithm_class)
        if name in _UNSUITABLE:
            raise ArgumentError(
                f"algorithm_parameters[{self.inner_argument!r}]", name, f"cannot be a generator: {_UNSUITABLE[name]}"
            )

    @property
    def demo_batch_size(self) -> int:
        """Transitions of the expert in an update of the discriminator, which has as many of the generator."""
        return int(self.parameters.get("demo_batch_size") or self.default_demo_batch_size)

    def _optimizer_class(self) -> Any:
        given = self.parameters.get("disc_opt_cls", "adam")
        argument = "algorithm_parameters['disc_opt_cls']"
        if isinstance(given, str):
            given = registry.optimizers.get(given, argument)
        if registry.optimizers.name_of(given) is None:
            raise ArgumentError(argument, given, "is no registered optimizer", registry.optimizers.register_call)
        return given

    def prepare(self, setting: Setting) -> None:
        """Builds generator and discriminator, or goes on with them in other environments."""
        self._build(setting, self.prepare_inner(setting))

    def _build(self, setting: Setting, vec_env: VecEnv) -> None:
        from rl_framework.agent.imitation.library.event_logger import EventLogger

        observation_space, action_space = vec_env.observation_space, vec_env.action_space
        self._check_stochastic()
        assert setting.episodes is not None  # `needs_episodes`
        transitions = setting.episodes.transitions()
        if len(transitions) < self.demo_batch_size:
            raise ArgumentError(
                "algorithm_parameters['demo_batch_size']",
                self.demo_batch_size,
                f"the episodes have {len(transitions)} transitions",
                "Give a smaller one, or more episodes.",
            )
        if self._reward_net is None:
            self._reward_net = self._build_network()
        self._expert = ExpertTransitions(transitions, self.inner.features_extractor, observation_space, action_space)
        self._order = BatchOrder(len(transitions), self.demo_batch_size, setting.seed)
        earlier, self.algorithm = self.algorithm, self._trainer(vec_env, EventLogger())
        self.algorithm._global_step = self._counters["global_step"]
        self.algorithm._disc_step = self._counters["disc_step"]
        if earlier is not None:
            self.algorithm._disc_opt.load_state_dict(earlier._disc_opt.state_dict())
            if earlier._gen_replay_buffer.capacity == self.algorithm._gen_replay_buffer.capacity:
                self.algorithm._gen_replay_buffer = earlier._gen_replay_buffer

    def _check_stochastic(self) -> None:
        if self.library_class.__name__ != "AIRL":
            return
        from imitation.algorithms.adversarial.airl import STOCHASTIC_POLICIES

        if not isinstance(self.inner.algorithm.policy, STOCHASTIC_POLICIES):
            raise ArgumentError(
                f"algorithm_parameters[{self.inner_argument!r}]",
                self.inner.algorithm_class.__name__,
                "AIRL needs the probabilities of its actions, which this policy does not give",
                "Take PPO, A2C, TRPO or SAC, or GAIL.",
            )

    def _build_network(self) -> Any:
        observation_space = self.inner.algorithm.observation_space
        self._rows = rows_of(observation_space)
        seen = observation_space if self._rows is None else self._rows.space
        return build_reward_network(self._reward_data, seen, self.inner.algorithm.action_space)

    def _trainer(self, vec_env: VecEnv, logger: Any) -> Any:
        arguments = {name: value for name, value in self.parameters.items() if name not in ("gen_algo", "reward_net")}
        arguments["disc_opt_cls"] = self._optimizer_class()
        arguments["demo_batch_size"] = self.demo_batch_size
        generator: Any = self.inner.algorithm
        if self._rows is not None:
            vec_env = ShownAsRows(vec_env, self._rows)
            generator = GeneratorOverRows(generator, vec_env)
            if arguments.get("gen_train_timesteps") is None:  # the library tells by the generator's type
                n_steps = generator.n_steps if isinstance(self.inner.algorithm, OnPolicyAlgorithm) else 1
                arguments["gen_train_timesteps"] = vec_env.num_envs * n_steps
        try:
            trainer = trainer_class(self.library_class, self._rows, vec_env.action_space)(
                demonstrations=None,
                venv=vec_env,
                gen_algo=generator,
                reward_net=self._reward_net,
                custom_logger=logger,
                **arguments,
            )
        except (AssertionError, TypeError, ValueError) as error:
            raise ArgumentError(
                "algorithm_parameters",
                self.parameters,
                f"{self.library_class.__name__} does not take them: {error}",
            ) from error
        trainer.gen_algo = self.inner.algorithm
        return trainer

    # Training

    def learn(self, training: Training, listeners: Sequence[Any]) -> None:
        """Trains in whole rounds; callbacks of Stable-Baselines3 are told of the beginning and end of every round."""
        trainer = self.algorithm
        self._check_enough(training)
        self.put_back_pending()
        logger = trainer.logger
        logger.training = training
        logger.forget()
        told_by_library = trainer.gen_callback
        with self.learning(training, logger) as listener:
            if not trainer.allow_variable_horizon:
                listener.after_step = self._check_horizon
            callbacks = [] if told_by_library is None else [told_by_library]
            trainer.gen_callback = [listener, *callbacks, *listeners]
            try:
                while self._goes_on(training):
                    training.boundary(self.num_timesteps)
                    if self._goes_on(training):
                        self._round(training)
            finally:
                trainer.gen_callback = told_by_library
                logger.training = None
                self._note_counters()

    def _goes_on(self, training: Training) -> bool:
        return training.stop_reason is None and self.num_timesteps < training.total_timesteps

    def _round(self, training: Training) -> None:
        from imitation.util.networks import training as in_training_mode

        trainer = self.algorithm
        trainer.train_gen()
        if training.stop_reason is not None:  # in the middle of the round
            return
        for _ in range(trainer.n_disc_updates_per_round):
            with in_training_mode(trainer.reward_train):
                trainer.train_disc(expert_samples=self._expert_batch(trainer._disc_step))
        self._note_counters()
        trainer.logger.n_updates = int(getattr(self.inner.algorithm, "_n_updates", 0))
        trainer.logger.dump(trainer._global_step)

    def _expert_batch(self, index: int) -> dict[str, NDArray[Any]]:
        batch = self._expert.gather(self._order.rows(index).numpy().astype(np.int64))
        return {
            "obs": as_one_array(batch.observations, self._rows),
            "acts": batch.actions,
            "next_obs": as_one_array(batch.next_observations, self._rows),
            # What the library knows of the generator's episodes is that they ended, not why.
            "dones": batch.terminated | batch.truncated,
        }

    def _note_counters(self) -> None:
        self._counters = {"global_step": self.algorithm._global_step, "disc_step": self.algorithm._disc_step}

    def _check_enough(self, training: Training) -> None:
        round_length = self.algorithm.gen_train_timesteps
        asked = training.total_timesteps - training.start
        if asked < round_length:
            raise ArgumentError(
                "total_timesteps",
                asked,
                f"is less than one round of {round_length} steps, after which the discriminator learns for the first "
                "time",
                f"Ask for at least {round_length}, or make rounds shorter: fewer environments, a smaller n_steps of "
                "gen_algo, or gen_train_timesteps.",
            )

    def _check_horizon(self) -> None:
        trainer = self.algorithm
        lengths = {int(length) for length in trainer.venv_buffering._ep_lens}
        if trainer._horizon is not None:
            lengths.add(int(trainer._horizon))
        if len(lengths) > 1:
            raise ArgumentError(
                "algorithm_parameters['allow_variable_horizon']",
                False,
                f"episodes of this environment are of different lengths ({sorted(lengths)}), so that their ends tell "
                "of the reward: a policy may learn to stay alive, or to end early, from that alone",
                "Give True if you accept that, or an environment whose episodes are all of one length.",
            )

    # What was learned

    def reward(self, observations: Any, actions: Any, next_observations: Any, dones: Any) -> NDArray[np.float32]:
        """Returns the learned reward of transitions, as the library's `reward_test` gives it.

        For AIRL without the shaping, which belongs to the environment it was trained in.

        Args:
            observations: Shape `(B, *shape)`, as the environment gives them.
            actions: Shape `(B, *shape)`.
            next_observations: As `observations`.
            dones: Shape `(B,)`, bool: the episode ended with the transition.

        Returns:
            Shape `(B,)`.

        Raises:
            NotTrainedError: Nothing was learned yet.
        """
        if self._reward_net is None:
            raise NotTrainedError("a learned reward")
        network, space = self._test_network(), self.inner.algorithm.observation_space
        seen = [
            as_one_array(as_learner_sees(part, self.inner.features_extractor, space), self._rows)
            for part in (observations, next_observations)
        ]
        dones = np.asarray(dones, dtype=np.bool_)
        rewards: NDArray[np.float32] = network.predict(seen[0], np.asarray(actions), seen[1], dones)
        return rewards

    def _test_network(self) -> Any:
        if self.algorithm is not None:
            return self.algorithm.reward_test
        from imitation.algorithms.adversarial.gail import RewardNetFromDiscriminatorLogit
        from imitation.rewards.reward_nets import RewardNetWrapper

        network = self._reward_net
        if self.library_class.__name__ == "GAIL":
            return RewardNetFromDiscriminatorLogit(network)
        while isinstance(network, RewardNetWrapper):
            network = network.base
        return network

    def optimizers(self) -> dict[str, torch.optim.Optimizer]:
        """Returns those of the agent inside and the discriminator's."""
        own = {} if self.algorithm is None else {"discriminator": self.algorithm._disc_opt}
        return {**super().optimizers(), **own}

    def networks(self) -> Iterable[torch.nn.Module]:
        """Returns the policy and the reward network."""
        return [*super().networks(), self._reward_net]

    # On disk

    def members(self) -> dict[str, Any]:
        """Returns the agent inside, the reward network, and the counters of the rounds."""
        return {**super().members(), _REWARD_NET: self._reward_net.state_dict(), _COUNTERS: dict(self._counters)}

    def restore(
        self, bundle: Bundle, observation_space: gymnasium.Space[Any], action_space: gymnasium.Space[Any]
    ) -> None:
        """Makes the agent inside and the reward network."""
        super().restore(bundle, observation_space, action_space)
        algorithm = self.inner.algorithm
        tensors, counters = bundle.tensors(_REWARD_NET), bundle.json(_COUNTERS)
        with limited_parameters(tensors):
            network = self._build_network()
        check_tensors(tensors, network.state_dict(), _REWARD_NET)
        network.load_state_dict(tensors)
        if not isinstance(counters, dict) or counters.keys() != self._counters.keys():
            raise BundleError(f"{_COUNTERS}: {counters}")
        if not all(type(count) is int and 0 <= count < 1 << 31 for count in counters.values()):
            raise BundleError(f"{_COUNTERS}: {counters}")
        self._reward_net, self._counters = network.to(algorithm.device), counters

    def training_members(self) -> dict[str, Any]:
        """Returns what resuming needs: of the agent inside, of the discriminator, and of the wrappers between them."""
        return {**super().training_members(), **take_adversarial_state(self.algorithm)}

    def resume(self, checkpoint: Bundle, setting: Setting) -> None:
        """Goes on as if nothing had been."""
        assert setting.batch is not None  # `needs_environment`
        self.prepare(setting)
        self.resume_inner(checkpoint, setting.seed)
        give_adversarial_state(self.algorithm, checkpoint, setting.batch, self._rows)


def _holds_ensemble(data: dict[str, Any]) -> bool:
    inside = data.get("base")
    return data["type"] in ("ensemble", "add_std") or (inside is not None and _holds_ensemble(inside))
