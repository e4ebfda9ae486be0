"""Preference comparisons: a reward learned from which of two fragments is better, and an agent that learns from it."""

from __future__ import annotations

import io
import math
from collections.abc import Iterable, Mapping, Sequence
from contextlib import redirect_stderr
from dataclasses import replace
from typing import Any, ClassVar

import gymnasium
import numpy as np
import torch
from numpy.typing import NDArray

from rl_framework.agent.imitation.learner import Setting, constructor_parameters
from rl_framework.agent.imitation.library.observation_rows import ObservationRows, as_one_array, rows_of
from rl_framework.agent.imitation.preference.parts import (
    CUSTOM,
    build_fragmenter,
    build_gatherer,
    build_reward_trainer,
    part_data,
)
from rl_framework.agent.imitation.preference.regularizer import (
    check_enough_comparisons,
    give_strengths,
    take_strengths,
)
from rl_framework.agent.imitation.preference.source import TrajectorySource
from rl_framework.agent.imitation.preference.state import give_comparisons, take_comparisons, trainers_of
from rl_framework.agent.imitation.preference.trajectories import trajectory_of
from rl_framework.agent.imitation.reinforced_learner import ReinforcedLearner
from rl_framework.agent.imitation.relabelled import RelabelledEnvironments
from rl_framework.agent.imitation.reward_networks import build_reward_network, reward_network_data
from rl_framework.agent.reinforcement.library.state.saved_state import check_tensors
from rl_framework.agent.reinforcement.library.state.size_limit import limited_parameters
from rl_framework.bundle import Bundle, decode_value
from rl_framework.environment import BatchedEnvironment, SlotStep
from rl_framework.errors import ArgumentError, NotTrainedError, UnknownNameError
from rl_framework.seeding import derive_seed
from rl_framework.training import RolloutEnded, Training

__all__ = ["PreferencesLearner"]

_REWARD, _STATE, _TENSORS = "reward_model.safetensors", "preferences.json", "reward_trainer.safetensors"
_COMPARISONS, _TRAJECTORIES, _REPLACED = "comparisons.npz", "trajectories.npz", "replaced_rewards.npz"

_DEFAULTS: dict[str, Any] = {
    "num_iterations": 5,
    "total_comparisons": 200,
    "fragment_length": 100,
    "transition_oversampling": 1,
    "initial_comparison_frac": 0.1,
    "initial_epoch_multiplier": 200.0,
    "comparison_queue_size": None,
    "query_schedule": "hyperbolic",
    "allow_variable_horizon": False,
}
"""The library's; the first two, which it has none for, are those of its documentation."""

_SCHEDULES = ("constant", "hyperbolic", "inverse_quadratic")


class PreferencesLearner(ReinforcedLearner):
    """`PreferenceComparisons`: in every iteration fragments are compared, the reward and then the agent inside learn.

    The agent inside (`rl_algo`) always learns in the environments. The fragments are what it did there, and for the
    first comparisons also the recorded episodes, if there are some; with `trajectory_generator="dataset"` they are
    those of the recorded episodes alone. The synthetic gatherer prefers what has the higher true return, so that the
    episodes have to have rewards; a function of your own is given pairs of the library's `TrajectoryWithRew`.

    `total_timesteps` are those in which the agent learns, divided between the iterations. Further steps, in which it
    only shows what it does, are made when it has not shown enough.

    Where observations are dicts, the agent inside and a function that prefers see them, and the reward network one row
    of all their parts.
    """

    needs_episodes = False
    inner_argument = "rl_algo"
    may_normalize = may_normalize_rewards = True  # rewards are replaced below of what the agent inside normalises
    owned: ClassVar[dict[str, str]] = {
        "rng": "Pass a seed to train(seed=...).",
        "custom_logger": "Pass connectors or callbacks to train(...).",
    }

    def __init__(self, library_class: type[Any], parameters: dict[str, Any]) -> None:
        self._reward_net: Any = None
        self._rows: ObservationRows | None = None
        self._source: TrajectorySource | None = None
        self._relabelled: RelabelledEnvironments | None = None
        self._generator = np.random.default_rng()
        self._next = 0
        super().__init__(library_class, parameters)

    # Parameters

    def known_parameters(self) -> set[str]:
        """Returns the names of the parameters of the constructor, of the agent inside, and `total_comparisons`."""
        return constructor_parameters(self.library_class) | {"total_comparisons", self.inner_argument}

    def check_parameters(self) -> None:
        """Checks the parts and the amounts, and makes the agent inside."""
        given = self.parameters.get("reward_model")
        given = {"type": "basic", "normalize_input_layer": "running_norm"} if given is None else given
        self._reward_data = reward_network_data(given, "algorithm_parameters['reward_model']")
        if "reward_model" in self.parameters:
            self.parameters["reward_model"] = self._reward_data
        for name in ("trajectory_generator", "fragmenter", "reward_trainer", "preference_gatherer"):
            if self.parameters.get(name) is not None and not (name == "preference_gatherer" and self._asks_user):
                self.parameters[name] = part_data(name, self.parameters[name])
        for name in ("num_iterations", "total_comparisons", "fragment_length"):
            value = self._value(name)
            if type(value) is not int or value < 1:
                raise ArgumentError(f"algorithm_parameters[{name!r}]", value, "must be an integer of at least 1")
        if self._value("query_schedule") not in _SCHEDULES:
            raise UnknownNameError(
                "algorithm_parameters['query_schedule']", str(self._value("query_schedule")), _SCHEDULES
            )
        fraction = self._value("initial_comparison_frac")
        if not isinstance(fraction, int | float) or not 0 <= fraction <= 1:
            raise ArgumentError("algorithm_parameters['initial_comparison_frac']", fraction, "must be from 0 to 1")
        super().check_parameters()

    def _value(self, name: str) -> Any:
        return self.parameters.get(name, _DEFAULTS[name])

    @property
    def _asks_user(self) -> bool:
        """Whether preferences come from an object or a function."""
        given = self.parameters.get("preference_gatherer")
        return given is not None and not isinstance(given, str | Mapping)

    def describe(self) -> dict[str, Any]:
        """Returns the parameters as JSON-able data; of a gatherer of the user's only that there is one."""
        if not self._asks_user:
            return super().describe()
        given, self.parameters["preference_gatherer"] = self.parameters["preference_gatherer"], dict(CUSTOM)
        try:
            return super().describe()
        finally:
            self.parameters["preference_gatherer"] = given

    def local_parameters(self) -> dict[str, Any]:
        """Returns the parameters that belong to this machine or session, among them a gatherer of the user's."""
        local = super().local_parameters()
        return {**local, "preference_gatherer": self.parameters["preference_gatherer"]} if self._asks_user else local

    # Before training

    def prepare(self, setting: Setting) -> None:
        """Builds the reward network and puts it between the environments and the agent inside."""
        batch = setting.batch
        assert batch is not None  # `needs_environment`
        if setting.reseed:
            self._generator = np.random.default_rng(derive_seed(setting.seed, "preferences"))
        self._next = 0
        self._relabelled = RelabelledEnvironments(
            batch,
            self._pay,
            self._value("allow_variable_horizon"),
            lambda state, action, step: self._watch(batch, state, action, step),
        )
        self.prepare_inner(replace(setting, batch=self._relabelled))
        if self._reward_net is None:
            self._reward_net = self._build_network(setting.observation_space, setting.action_space)
        self._reward_net.to(self.device)
        self._source = TrajectorySource(
            part_data("trajectory_generator", self.parameters.get("trajectory_generator")),
            self.inner,
            batch,
            setting.episodes,
            self._generator,
            derive_seed(setting.seed, "sampling") if setting.reseed else None,
            needs_rewards=not self._asks_user,
        )
        self.algorithm = self._library_object()

    def _pay(self, observations: Any, actions: Any, following: Any, ended: NDArray[np.bool_], _: Any) -> NDArray[Any]:
        shown = as_one_array(observations, self._rows), actions, as_one_array(following, self._rows)
        rewards: NDArray[Any] = self._network.predict_processed(*shown, ended)
        return rewards

    def _watch(self, batch: BatchedEnvironment, observations: Any, actions: Any, step: SlotStep) -> None:
        self.source.record.watch(batch, observations, actions, step)

    @property
    def source(self) -> TrajectorySource:
        """Who shows the episodes whose fragments are compared."""
        if self._source is None:
            raise NotTrainedError("a source of episodes")
        return self._source

    def seed_new_environments(self, seed: int) -> None:
        """Seeds environments that were made for a later call of `train`."""
        super().seed_new_environments(seed)
        self.source.reset_seed = seed

    def _build_network(
        self, observation_space: gymnasium.Space[Any], action_space: gymnasium.Space[Any]
    ) -> torch.nn.Module:
        argument = "algorithm_parameters['reward_model']"
        self._rows = rows_of(observation_space)
        seen = observation_space if self._rows is None else self._rows.space
        network: torch.nn.Module = build_reward_network(self._reward_data, seen, action_space, argument)
        return network

    @property
    def _network(self) -> Any:
        if self._reward_net is None:
            raise NotTrainedError("a learned reward")
        return self._reward_net

    def _library_object(self) -> Any:
        from imitation.algorithms.preference_comparisons import TrajectoryDataset

        from rl_framework.agent.imitation.library.event_logger import EventLogger

        earlier, parameters = self.algorithm, self.parameters
        trainer_data = parameters.get("reward_trainer")
        logger = EventLogger()
        trainer, model = build_reward_trainer(trainer_data, self._network, self._generator, logger, self._rows)
        if earlier is not None:
            trainer = earlier.reward_trainer
            model = trainer._preference_model
        fragmenter = part_data("fragmenter", parameters.get("fragmenter"))
        names = ("num_iterations", "fragment_length", "transition_oversampling", "initial_comparison_frac",
                 "initial_epoch_multiplier", "comparison_queue_size", "query_schedule",
                 "allow_variable_horizon")  # fmt: skip
        algorithm = self.library_class(
            # What is sampled comes from `source`.
            trajectory_generator=TrajectoryDataset([], self._generator, custom_logger=logger),
            reward_model=self._network,
            fragmenter=build_fragmenter(fragmenter, model, self._generator, logger),
            preference_gatherer=build_gatherer(parameters.get("preference_gatherer"), self._generator, logger),
            reward_trainer=trainer,
            custom_logger=logger,
            **{name: self._value(name) for name in names},
        )
        if earlier is not None:
            algorithm.dataset, algorithm._iteration = earlier.dataset, earlier._iteration
            for one in trainers_of(algorithm):
                if one.regularizer is not None:
                    one.regularizer.logger = logger
        return algorithm

    # Training

    def learn(self, training: Training, listeners: Sequence[Any]) -> None:
        """Trains iteration by iteration."""
        schedule, length = self._comparisons_per_iteration(), training.total_timesteps - training.start
        self.put_back_pending()
        logger = self.algorithm.logger
        logger.training = training
        logger.forget()
        with self.learning(training, logger) as listener:
            try:
                while self._next < len(schedule):
                    if self._next:  # before, there is nothing that could go on
                        training.boundary(self.num_timesteps)
                    if training.stop_reason is not None:
                        break
                    self._compare(schedule[self._next])
                    target = training.start + round(length * (self._next + 1) / len(schedule))
                    if target > self.num_timesteps:
                        training.emit(RolloutEnded(timestep=self.num_timesteps))
                        with logger.accumulate_means("agent"):
                            self.inner.algorithm.learn(
                                target - self.num_timesteps, callback=[listener, *listeners], reset_num_timesteps=False
                            )
                    if training.stop_reason is None:
                        self._next += 1
                        self._tell(logger)
            finally:
                logger.training = None

    def _comparisons_per_iteration(self) -> list[int]:
        """As in the library: some at the beginning, the others by the schedule."""
        from imitation.algorithms.preference_comparisons import QUERY_SCHEDULES
        from imitation.util.util import oric

        total = self._value("total_comparisons")
        initial = int(total * self._value("initial_comparison_frac"))
        times = np.linspace(0, 1, self._value("num_iterations"))
        shares = np.array([QUERY_SCHEDULES[self._value("query_schedule")](time) for time in times])
        return [initial, *oric(shares / shares.sum() * (total - initial)).tolist()]

    def _compare(self, n_pairs: int) -> None:
        """Gathers preferences and trains the reward network on all that there are."""
        library = self.algorithm
        if n_pairs:
            steps = math.ceil(library.transition_oversampling * 2 * n_pairs * library.fragment_length)
            fragments = self._fragments(steps, n_pairs)
            with library.logger.accumulate_means("preferences"):
                preferences = np.asarray(library.preference_gatherer(fragments))
            if preferences.shape != (n_pairs,) or not ((preferences >= 0) & (preferences <= 1)).all():
                raise ArgumentError(
                    "algorithm_parameters['preference_gatherer']",
                    preferences,
                    f"it returned this for {n_pairs} pairs of fragments, which need as many probabilities",
                    "Return the probability that the first fragment is better, from 0 to 1, for each pair.",
                )
            library.dataset.push(fragments, preferences.astype(np.float32))
        if len(library.dataset):
            check_enough_comparisons(library.reward_trainer, len(library.dataset))
            longer = library.initial_epoch_multiplier if self._next == 0 else 1.0
            with redirect_stderr(io.StringIO()):  # the library shows a progress bar for every training
                library.reward_trainer.train(library.dataset, epoch_multiplier=longer)

    def _fragments(self, steps: int, n_pairs: int) -> Any:
        length = self.algorithm.fragment_length
        episodes = self.source.sample(steps, is_first=self._next == 0)
        if all(len(episode) < length for episode in episodes):
            longest = max(len(episode) for episode in episodes)
            raise ArgumentError(
                "algorithm_parameters['fragment_length']", length, f"the longest episode has {longest} steps"
            )
        return self.algorithm.fragmenter([trajectory_of(episode) for episode in episodes], length, n_pairs)

    def _tell(self, logger: Any) -> None:
        logger.record("preferences/n_comparisons", len(self.algorithm.dataset))
        kept = {name: value for name, value in logger.name_to_value.items() if "/epoch-" not in name}
        logger.name_to_value.clear()
        logger.name_to_value.update(kept)
        logger.n_updates = int(getattr(self.inner.algorithm, "_n_updates", 0))
        logger.dump(self.algorithm._iteration)
        self.algorithm._iteration += 1

    # What was learned

    def reward(self, observations: Any, actions: Any, next_observations: Any, dones: Any) -> NDArray[np.float32]:
        """Returns the learned reward of transitions.

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
        flags = np.asarray(dones, dtype=np.bool_)
        rewards: NDArray[np.float32] = self._network.predict(
            as_one_array(observations, self._rows),
            np.asarray(actions),
            as_one_array(next_observations, self._rows),
            flags,
        )
        return rewards

    def optimizers(self) -> dict[str, torch.optim.Optimizer]:
        """Returns those of the agent inside and of the reward network."""
        own = {} if self.algorithm is None else {"reward": self.algorithm.reward_trainer.optim}
        return {**super().optimizers(), **own}

    def networks(self) -> Iterable[torch.nn.Module]:
        """Returns the policy and the reward network."""
        return [*super().networks(), self._network]

    # On disk

    def members(self) -> dict[str, Any]:
        """Returns the agent inside and the reward network."""
        return {**super().members(), _REWARD: self._network.state_dict()}

    def restore(
        self, bundle: Bundle, observation_space: gymnasium.Space[Any], action_space: gymnasium.Space[Any]
    ) -> None:
        """Makes the agent inside and the reward network."""
        super().restore(bundle, observation_space, action_space)
        tensors = bundle.tensors(_REWARD)
        with limited_parameters(tensors):
            network = self._build_network(observation_space, action_space)
        check_tensors(tensors, network.state_dict(), _REWARD)
        network.load_state_dict(tensors)
        self._reward_net = network.to(self.device)

    def training_members(self) -> dict[str, Any]:
        """Returns the comparisons, the trainer of the reward, what the agent has shown, and its own state."""
        assert self._relabelled is not None  # training runs
        tensors: dict[str, torch.Tensor] = {}
        arrays, trainers = take_comparisons(self.algorithm, tensors)
        state = {
            "next": self._next,
            "iteration": self.algorithm._iteration,
            "source": self.source.state(),
            "trainers": trainers,
            "strengths": take_strengths(trainers_of(self.algorithm)),
        }
        return {
            **super().training_members(),
            _STATE: state,
            _TENSORS: tensors,
            _COMPARISONS: arrays,
            _TRAJECTORIES: self.source.record.to_arrays(),
            _REPLACED: self._relabelled.state(),
        }

    def check_resumable(self, checkpoint: Bundle, setting: Setting) -> None:
        """Checks the number of environments, and that a gatherer of the user's is there."""
        super().check_resumable(checkpoint, setting)
        from rl_framework.agent.imitation.library.event_logger import EventLogger

        build_gatherer(self.parameters.get("preference_gatherer"), self._generator, EventLogger())

    def resume(self, checkpoint: Bundle, setting: Setting) -> None:
        """Goes on with the next iteration."""
        state = checkpoint.json(_STATE)
        self.prepare(setting)
        assert self._relabelled is not None
        assert self.inner._vec_env is not None
        give_comparisons(
            self.algorithm, checkpoint.arrays(_COMPARISONS), state["trainers"], checkpoint.tensors(_TENSORS), setting
        )
        give_strengths(trainers_of(self.algorithm), state["strengths"])
        self.resume_inner(checkpoint, setting.seed)
        self.inner._vec_env._reset_seeds()  # the next reset goes on with the generators
        self._relabelled.restore(checkpoint.arrays(_REPLACED))
        self.source.restore(state["source"], checkpoint.arrays(_TRAJECTORIES))
        counters = state["next"], state["iteration"]
        if not all(type(counter) is int and 0 <= counter < 1 << 31 for counter in counters):
            raise ValueError(f"the next iterations are {counters}")
        self._next, self.algorithm._iteration = counters
        self._generator.bit_generator.state = decode_value(state["source"]["generator"])
