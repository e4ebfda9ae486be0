"""An algorithm of d3rlpy as a `Learner`: built from data, trained batch by batch, saved without pickle."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any, ClassVar

import gymnasium
import numpy as np
import torch
from stable_baselines3.common.utils import get_device

from rl_framework.agent.imitation.learner import Learner, Setting
from rl_framework.agent.imitation.offline_library import saved_state
from rl_framework.agent.imitation.offline_library.acting import Memory, act, act_on_memory
from rl_framework.agent.imitation.offline_library.algorithms import (
    configuration_class,
    discrete_variant,
    fitting_algorithm,
    is_transformer,
    needs_rewards,
    takes_images,
    uses_next_actions,
)
from rl_framework.agent.imitation.offline_library.batches import StretchBatches, TransitionBatches
from rl_framework.agent.imitation.offline_library.forms import ActionForm, ObservationForm
from rl_framework.agent.imitation.offline_library.neighbours import fit_neighbours, own_neighbours
from rl_framework.agent.imitation.offline_library.parameters import build_configuration, fields_of, to_data
from rl_framework.agent.imitation.offline_library.scalers import SCALERS, add_default_scalers, fit_scalers
from rl_framework.agent.imitation.offline_library.validation import measure
from rl_framework.agent.notebook import constructor_defaults
from rl_framework.agent.reinforcement.library.state.size_limit import limited_parameters
from rl_framework.bundle import Bundle
from rl_framework.errors import ArgumentError, BundleError, NotTrainedError, RLFrameworkError, UnsupportedSpaceError
from rl_framework.seeding import derive_seed, isolated_random_state
from rl_framework.training import Training, Updated

__all__ = ["OfflineLearner"]

_NETWORKS, _STATISTICS, _LEARNED = "networks.safetensors", "scalers.npz", "learned.json"
_STATE, _TENSORS = "offline.json", "optimizers.safetensors"
_BATCHES_BETWEEN_REPORTS = 100
_LARGEST_BATCH = 1 << 20
_PARAMETERS = "algorithm_parameters"


class OfflineLearner(Learner):
    """Trains an algorithm of d3rlpy on recorded episodes, and never acts while it does.

    Of the episodes only what makes a batch is in memory, but for PRDC, which looks for the nearest of all transitions.
    """

    measures_validation = True
    needs_environment = False
    local: ClassVar[tuple[str, ...]] = ("device",)

    def __init__(self, library_class: type[Any], parameters: dict[str, Any]) -> None:
        self._observations: ObservationForm | None = None
        self._actions: ActionForm | None = None
        self._chosen = library_class
        self._setting: Setting | None = None
        self._batches: Any = None
        self._validation_stretches: StretchBatches | None = None
        self._fitted: tuple[str, ...] = ()
        self._target_return = 0.0
        self._reward_per_step = 0.0
        self._losses: dict[str, float] = defaultdict(float)
        self._n_losses = 0
        data = {name: to_data(value, f"{_PARAMETERS}[{name!r}]") for name, value in parameters.items()}
        super().__init__(library_class, data)

    # Before training

    def known_parameters(self) -> set[str]:
        """Returns the fields of the configurations that may be used, and what is ours: device, target return."""
        ours = {"device", "target_return"} if is_transformer(self.library_class) else {"device"}
        return ours.union(*(fields_of(configuration_class(candidate)) for candidate in self._candidates()))

    def default_parameters(self) -> dict[str, Any]:
        """Returns the defaults of the configuration; for discrete actions, where they are other actions' too."""
        return {"device": "auto", **constructor_defaults(configuration_class(self.library_class))}

    def _candidates(self) -> list[type[Any]]:
        variant = discrete_variant(self.library_class)
        return [self.library_class] if variant is None else [self.library_class, variant]

    def check_parameters(self) -> None:
        """Checks the values, as far as that is possible before the actions are known to be discrete or not."""
        target = self.parameters.get("target_return")
        if target is not None and (type(target) not in (int, float) or not np.isfinite(target)):
            raise ArgumentError(f"{_PARAMETERS}['target_return']", target, "must be a number or None")
        given, size = self._given(), self.parameters.get("batch_size", 1)
        if type(size) is int and not 1 <= size <= _LARGEST_BATCH:
            raise ArgumentError(f"{_PARAMETERS}['batch_size']", size, f"must be from 1 to {_LARGEST_BATCH}")
        fitting = [c for c in self._candidates() if given.keys() <= fields_of(configuration_class(c))]
        for candidate in fitting or [self.library_class]:
            build_configuration(configuration_class(candidate), given, _PARAMETERS)
        self._device_name()

    def _given(self) -> dict[str, Any]:
        return {name: value for name, value in self.parameters.items() if name not in ("device", "target_return")}

    def _device_name(self) -> str:
        try:
            device = get_device(self.parameters.get("device", "auto"))
        except (RuntimeError, TypeError) as error:
            raise ArgumentError(f"{_PARAMETERS}['device']", self.parameters["device"], str(error)) from error
        return f"{device.type}:{device.index or 0}"

    def prepare(self, setting: Setting) -> None:
        """Builds the algorithm, if there is none yet, and looks at the episodes."""
        episodes = setting.episodes
        assert episodes is not None  # `needs_episodes`
        if needs_rewards(self.library_class) and not np.isfinite(episodes.returns).all():
            raise ArgumentError(
                "episode_sequence",
                episodes,
                f"rewards are not known, and {self.library_class.__name__} learns from them",
                'Give episodes with rewards, or learn with "bc".',
            )
        if self.algorithm is None:
            config = self._configure(setting.observation_space, setting.action_space)
            self._fitted = tuple(n for n in SCALERS if getattr(config, n) is not None and not getattr(config, n).built)
            fit_scalers(config, episodes, self.observation_form, self.action_form)
            self._build(config)
            self._choose_target(setting)
        self._setting = setting
        self._batches = self._batches_of(episodes, derive_seed(setting.seed, "batches"))
        self._validation_stretches = None
        if setting.validation_episodes is not None and is_transformer(self._chosen):
            self._validation_stretches = self._batches_of(setting.validation_episodes, 0)
        fit_neighbours(self.algorithm, self._batches, episodes.n_transitions)

    def _configure(self, observation_space: gymnasium.Space[Any], action_space: gymnasium.Space[Any]) -> Any:
        self._observations, self._actions = ObservationForm(observation_space), ActionForm(action_space)
        self._chosen = fitting_algorithm(self.library_class, action_space)
        if len(self._observations.shape) > 1 and not takes_images(self._chosen):
            raise UnsupportedSpaceError(
                "observation_space", observation_space, f"{self._chosen.__name__} of d3rlpy takes no images"
            )
        data = add_default_scalers(self._given(), self._observations, self._actions)
        return build_configuration(configuration_class(self._chosen), data, _PARAMETERS)

    def _build(self, config: Any) -> None:
        try:
            algorithm = own_neighbours(config.create(self._device_name()))
            algorithm.create_impl(self.observation_form.shape, self.action_form.size)
        except RLFrameworkError:
            raise
        except (AssertionError, KeyError, RuntimeError, TypeError, ValueError) as error:
            name = self._chosen.__name__
            raise ArgumentError(_PARAMETERS, self.parameters, f"{name} does not take them: {error!r}") from error
        self.algorithm = algorithm

    def _choose_target(self, setting: Setting) -> None:
        """Chooses what a transformer is to aim at: the best of the data, at the pace of the best."""
        if not is_transformer(self._chosen) or setting.episodes is None:
            return
        best = int(np.argmax(setting.episodes.returns))
        highest = float(setting.episodes.returns[best])
        target = self.parameters.get("target_return")
        self._target_return = highest if target is None else float(target)
        self._reward_per_step = highest / int(setting.episodes.lengths[best])

    def _batches_of(self, episodes: Any, seed: int) -> Any:
        forms = self.observation_form, self.action_form
        if is_transformer(self._chosen):
            return StretchBatches(episodes, *forms, self.algorithm, seed)
        return TransitionBatches(episodes, *forms, self.algorithm, seed, uses_next_actions(self._chosen))

    @property
    def observation_form(self) -> ObservationForm:
        """How observations are given to the library."""
        if self._observations is None:
            raise NotTrainedError("an action")
        return self._observations

    @property
    def action_form(self) -> ActionForm:
        """How actions are given to the library and taken from it."""
        if self._actions is None:
            raise NotTrainedError("an action")
        return self._actions

    # Training

    def learn(self, training: Training, listeners: Sequence[Any]) -> None:
        """Makes one gradient step after another; each counts as many timesteps as its batch has transitions."""
        while training.stop_reason is None:
            training.boundary(self.num_timesteps)
            if self.num_timesteps >= training.total_timesteps or training.stop_reason is not None:
                break
            self._update()
            if self._n_losses == _BATCHES_BETWEEN_REPORTS:
                self._report(training)
            training.step(self.num_timesteps)
        if self._n_losses:
            self._report(training)

    def _update(self) -> None:
        algorithm, size = self.algorithm, int(self.algorithm.batch_size)
        if algorithm.impl is not None:
            batch = self._batches.draw(algorithm.grad_step, size)
            for name, loss in algorithm.impl.update(batch, algorithm.grad_step).items():
                self._losses[name] += float(loss)
        algorithm.set_grad_step(algorithm.grad_step + 1)
        self._n_losses += 1
        self.num_timesteps += size

    def _report(self, training: Training) -> None:
        metrics = {f"train/{name}": total / self._n_losses for name, total in self._losses.items()}
        self._losses.clear()
        self._n_losses = 0
        if not training.is_heard(Updated):
            return
        metrics |= {f"validation/{name}": value for name, value in self._measure().items()}
        training.emit(Updated(timestep=self.num_timesteps, metrics=metrics, n_updates=self.algorithm.grad_step))

    def _measure(self) -> dict[str, float]:
        setting = self._setting
        if setting is None or setting.validation_episodes is None:
            return {}
        stretches = self._validation_stretches
        # Some algorithms sample when they are asked for their best action.
        with isolated_random_state(derive_seed(setting.seed, "validation", self.algorithm.grad_step)):
            return measure(
                self.algorithm,
                setting.validation_episodes,
                self.observation_form,
                self.action_form,
                stretches,
                has_values=stretches is None and needs_rewards(self._chosen),
            )

    # Acting

    def predict(
        self,
        observations: Any,
        state: Any = None,
        episode_starts: Any = None,
        deterministic: bool = True,
        action_masks: Any = None,
    ) -> tuple[Any, Any]:
        """Chooses one action for each observation of a batch; a transformer's state is what it remembers."""
        form, actions = self.observation_form, self.action_form
        given = form(observations)
        if not is_transformer(self._chosen):
            return act(self.algorithm, given, actions, deterministic), state
        memory = state
        if not isinstance(memory, Memory) or len(memory.steps) != len(given):
            memory = Memory.empty(len(given), int(self.algorithm.config.context_size), form, actions)
        elif episode_starts is not None:
            memory = memory.forgetting(np.asarray(episode_starts, dtype=np.bool_))
        return act_on_memory(
            self.algorithm,
            memory.seeing(given),
            actions,
            deterministic,
            self._target_return,
            self._reward_per_step,
        )

    def networks(self) -> Iterable[torch.nn.Module]:
        """Returns the networks that are trained."""
        return [] if self.algorithm is None else saved_state.networks_of(self.algorithm).values()

    @property
    def device(self) -> torch.device:
        """Where the networks run."""
        return torch.device(self._device_name())

    # On disk

    def members(self) -> dict[str, Any]:
        """Returns all networks, the statistics of the scalers, and what a transformer aims at."""
        learned = {
            "n_updates": int(self.algorithm.grad_step),
            "target_return": self._target_return,
            "reward_per_step": self._reward_per_step,
        }
        return {
            _LEARNED: learned,
            _NETWORKS: saved_state.take_networks(self.algorithm),
            _STATISTICS: saved_state.take_scalers(self.algorithm.config, self._fitted),
        }

    def restore(
        self, bundle: Bundle, observation_space: gymnasium.Space[Any], action_space: gymnasium.Space[Any]
    ) -> None:
        """Builds the algorithm as it was."""
        tensors, learned = bundle.tensors(_NETWORKS), bundle.json(_LEARNED)
        config = self._configure(observation_space, action_space)
        saved_state.check_sizes(config, tensors)
        self._fitted = tuple(n for n in SCALERS if getattr(config, n) is not None and not getattr(config, n).built)
        shapes = {
            "observation_scaler": self.observation_form.shape,
            "action_scaler": (self.action_form.size,),
            "reward_scaler": (),
        }
        saved_state.give_scalers(config, bundle.arrays(_STATISTICS), shapes)
        with limited_parameters(tensors):
            self._build(config)
        saved_state.give_networks(self.algorithm, tensors)
        n_updates, numbers = learned["n_updates"], [learned["target_return"], learned["reward_per_step"]]
        if type(n_updates) is not int or not 0 <= n_updates < 1 << 63:
            raise BundleError(f"the bundle says that there were {n_updates!r} updates")
        if not all(isinstance(number, int | float) and np.isfinite(number) for number in numbers):
            raise BundleError(f"the bundle aims at {numbers}")
        self.algorithm.set_grad_step(n_updates)
        target = self.parameters.get("target_return")
        self._target_return = float(numbers[0] if target is None else target)
        self._reward_per_step = float(numbers[1])

    def training_members(self) -> dict[str, Any]:
        """Returns the state of optimizers and schedules, and what was not reported yet."""
        tensors: dict[str, torch.Tensor] = {}
        state = {
            "optimizers": saved_state.take_optimizers(self.algorithm, tensors),
            "losses": dict(self._losses),
            "n_losses": self._n_losses,
            # Of the discrete decision transformer, whose learning rate follows it.
            "tokens": getattr(self.algorithm.impl, "_tokens", None),
        }
        return {_STATE: state, _TENSORS: tensors}

    def resume(self, checkpoint: Bundle, setting: Setting) -> None:
        """Goes on with the batch that comes next."""
        self.prepare(setting)
        state = checkpoint.json(_STATE)
        saved_state.give_optimizers(self.algorithm, state["optimizers"], checkpoint.tensors(_TENSORS))
        tokens, n_losses = state["tokens"], state["n_losses"]
        if type(n_losses) is not int or not 0 <= n_losses < _BATCHES_BETWEEN_REPORTS:
            raise ValueError(f"{n_losses!r} losses wait to be reported")
        if hasattr(self.algorithm.impl, "_tokens"):
            if type(tokens) is not int or not 0 <= tokens < 1 << 63:
                raise ValueError(f"there were {tokens!r} tokens")
            self.algorithm.impl._tokens = tokens
        self._n_losses = n_losses
        self._losses.update({str(name): float(total) for name, total in state["losses"].items()})
