"""Algorithms put together from parts: `ComposedAgent([PPO(), RND()])`."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, Self

import gymnasium
import numpy as np
import torch
from numpy.typing import NDArray

from rl_framework.agent.reinforcement.composed import saved
from rl_framework.agent.reinforcement.composed.collector import Collector, as_tensors
from rl_framework.agent.reinforcement.composed.compiled import CompiledUpdate, choose_compiled, obstacle_to_compiling
from rl_framework.agent.reinforcement.composed.composition import Composition, check_together, resolve_parts
from rl_framework.agent.reinforcement.composed.settings import Settings, choose_device
from rl_framework.agent.reinforcement.composed.tensor_collector import TensorCollector
from rl_framework.agent.reinforcement.composed.update import Update
from rl_framework.agent.reinforcement.export.exports import ProgramExports
from rl_framework.agent.reinforcement.library.state.size_limit import limited_parameters
from rl_framework.agent.reinforcement.parts.part import Part
from rl_framework.agent.reinforcement.threads import choose_threads, threads_before
from rl_framework.agent.reinforcement_learning_agent import RLAgent
from rl_framework.bundle import Bundle, decode_space, decode_value, encode_space
from rl_framework.environment import BatchedEnvironment
from rl_framework.environment.tensor.environments import TensorEnvironments
from rl_framework.errors import ArgumentError, BundleError, NotTrainedError, RLFrameworkError
from rl_framework.seeding import check_seed, derive_seed, isolated_random_state, restore_global_state
from rl_framework.training import Training, Updated

__all__ = ["ComposedAgent"]

logger = logging.getLogger(__name__)

_CONFIG = "config.json"
_REPORT_EVERY = 1_000
"""Timesteps to a report of losses, for algorithms that learn more often."""


class ComposedAgent(ProgramExports, RLAgent):
    """An agent whose algorithm is put together from parts, which share one rollout and one optimizer step.

    Example:
        ```python
        agent = ComposedAgent(parts=[PPO(n_steps=128), RND()])
        agent.train("MiniGrid-DoorKey-8x8-v0", total_timesteps=1_000_000, n_environments=16)
        ```

    Args:
        parts: `Part`s, their registered names ("ppo"), or data (`{"type": "ppo", "n_steps": 128}`). Exactly one
            decides what is collected and learned from. Their order does not matter.
        networks: How trunks are built: one specification for all ("mlp", `{"type": "mlp", "hidden_sizes": [256,
            256]}`, a registered class), or a dictionary of them by trunk name ("policy", "value", whatever parts were
            told; "default" for the others). None: as suits the observations.
        optimizer: A registered name, or `{"type": "adam", ...}` with its arguments.
        learning_rate: A number or a schedule.
        max_grad_norm: To which the norm of all gradients together is limited; None: it is not; "auto": as is usual for
            the part that decides: 0.5 for PPO and A2C, not at all for replay buffers.
        normalize_observations: Whether observations are normalised by running means and variances, which are saved
            with the agent and frozen in `choose_action` and `evaluate`.
        normalize_rewards: Whether rewards are scaled by the running deviation of the discounted return.
        compiled: Whether each optimizer step is one compiled program: True, False, or "auto": where that can be done
            and pays; see `choose_compiled`. The numbers are the same but for rounding.
        device: "auto", "cpu", "cuda", or a `torch.device`.

    Raises:
        UnknownNameError: A part, network or optimizer is not known.
        ArgumentError: The parts do not go together, or an argument cannot be used.
    """

    def __init__(
        self,
        parts: Sequence[Part | str | Mapping[str, Any]] | Part | str,
        networks: Any = None,
        optimizer: str | Mapping[str, Any] = "adam",
        learning_rate: Any = 3e-4,
        max_grad_norm: float | str | None = "auto",
        normalize_observations: bool = False,
        normalize_rewards: bool = False,
        compiled: bool | str = "auto",
        device: str | torch.device = "auto",
    ) -> None:
        self._parts = resolve_parts(parts)
        check_together(self._parts)
        self.settings = Settings.of(
            networks, optimizer, learning_rate, max_grad_norm, normalize_observations, normalize_rewards
        )
        if compiled not in (True, False, "auto"):
            raise ArgumentError("compiled", compiled, 'must be True, False or "auto"')
        self.compiled = compiled
        self.device = choose_device(device)
        self._device_is_free = device == "auto"
        self.seed: int | None = None
        self.environment_id: str | None = None
        self._composition: Composition | None = None
        self._timesteps = 0
        self._n_updates = 0
        self._reported_at = 0
        self._reset_seed: int | None = None
        self._collector: Collector | None = None
        self._interrupted: saved.Interrupted | None = None
        self._threads: int | None = None
        self._compiled_update: CompiledUpdate | None = None

    # What it is

    @property
    def parts(self) -> tuple[Part, ...]:
        """The parts, in their order."""
        return tuple(self._parts)

    @property
    def composition(self) -> Composition:
        """Networks, parts and optimizer.

        Raises:
            NotTrainedError: There are none before the first `train` or `load_from_file`.
        """
        if self._composition is None:
            raise NotTrainedError("an action, an evaluation or the networks")
        return self._composition

    @property
    def num_timesteps(self) -> int:
        """Environment steps the agent has been trained on."""
        return self._timesteps

    def __repr__(self) -> str:
        """Says what it is in one line."""
        return f"ComposedAgent(parts={[part.name for part in self._parts]}, num_timesteps={self._timesteps})"

    def describe(self) -> dict[str, Any]:
        """Returns parts and settings as JSON-able data."""
        return {
            "algorithm": "+".join(part.kind for part in self._parts),
            "parts": [part.to_data() for part in self._parts],
            **self.settings.to_data(),
        }

    def optimizers(self) -> dict[str, Any]:
        """Returns the one optimizer."""
        return {} if self._composition is None else {"all": self._composition.optimizer}

    def estimate_value(self, observations: Any) -> NDArray[np.float64] | None:
        """Returns what the value network says, or None if there is none, or one that depends on what came before."""
        value: Any = dict(self.composition.networks.items()).get("value")
        if value is None or value.trunk.state_size:
            return None
        with torch.no_grad():
            values = value.of(as_tensors(observations, self.device))
        return values.double().cpu().numpy()

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
        policy, device = self.composition.policy, self.device
        tensors = as_tensors(observations, device)
        count = len(next(iter(tensors.values())) if isinstance(tensors, dict) else tensors)
        if policy.trunk.state_size:
            state = policy.trunk.initial_state(count) if state is None else torch.as_tensor(state)
            state = state.to(device)
        starts = np.zeros(count, dtype=np.bool_) if episode_starts is None else np.asarray(episode_starts, np.bool_)
        with torch.no_grad():
            actions, state = policy.act(tensors, state, torch.from_numpy(starts).to(device), deterministic, None)
            given = policy.to_environment(actions).cpu().numpy()
        return given, None if state is None else state.cpu().numpy()

    # Training

    def prepare(self, batch: BatchedEnvironment, seed: int | None) -> int:
        """Builds networks and optimizer, or checks that the existing ones go on with these environments."""
        used = self.choose_seed(seed, None, self.seed)
        self.describe()  # raises if the agent could not be saved
        spaces = (batch.single_observation_space, batch.single_action_space)
        encode_space(spaces[0], "observation_space")
        encode_space(spaces[1], "action_space")
        self._follow_device(batch)
        if self._composition is None:
            self._build(*spaces, derive_seed(used, "composition"))
        else:
            self.check_spaces(batch, "training_environments")
            if seed is not None:
                self.composition.seed(derive_seed(used, "composition"))
        self.composition.start(batch.num_envs)
        self._reset_seed = used if seed is not None or self._timesteps == 0 else None
        self.seed, self.environment_id = used, batch.environment_id
        return used

    def _follow_device(self, batch: BatchedEnvironment) -> None:
        if not isinstance(batch, TensorEnvironments) or batch.device == self.device:
            return
        if not self._device_is_free or self._composition is not None:
            raise ArgumentError(
                "device",
                str(self.device),
                f"the environments are on {batch.device}",
                "Make them on the same device: environment_kwargs={'device': ...}.",
            )
        self.device = batch.device

    def seed_new_environments(self, batch: BatchedEnvironment, seed: int) -> None:
        """Seeds the environments alone, at their next reset."""
        self._reset_seed = seed

    def choose_threads(self, record: dict[str, Any]) -> AbstractContextManager[None]:
        """Chooses torch's threads; see `choose_threads` in `threads`."""
        earlier, self._threads = self._threads, None
        return choose_threads([self.composition], self.device, record, earlier)

    def learn(self, batch: BatchedEnvironment, training: Training, listeners: Sequence[Any]) -> None:
        """Collects and learns, round after round."""
        composition = self.composition
        update = self._update(batch, training)
        for part in self._parts:
            part.start()
        interrupted, self._interrupted = self._interrupted, None
        kind = TensorCollector if isinstance(batch, TensorEnvironments) else Collector
        self._collector = collector = kind(
            batch, composition.policy, self._parts, composition.trunks, composition.generators, self._timesteps
        )
        if interrupted is None:
            self._n_updates, self._reported_at = 0, self._timesteps
        else:
            self._n_updates, self._reported_at = interrupted.n_updates, interrupted.reported_at
        observations = None if interrupted is None else interrupted.observations
        if interrupted is not None:
            if observations is not None:
                collector.load_state_dict(interrupted.collector)
            restore_global_state(interrupted.random)
        if observations is None:
            observations = collector.reset(self._reset_seed)
        collector.begin(observations, training)
        update.count = self._n_updates
        length = training.total_timesteps - training.start
        while self._timesteps < training.total_timesteps and training.stop_reason is None:
            training.boundary(self._timesteps)
            steps = composition.source.rollout_length
            assert steps is not None  # of the part that decides
            with torch.no_grad():
                rollout = collector.collect(steps)
            self._timesteps = collector.timesteps
            if rollout is None:
                break
            composition.follow_schedules(max(0.0, 1.0 - (self._timesteps - training.start) / length))
            composition.learn_from(rollout, update)
            collector.follow(rollout)
            self._n_updates = update.count
            update.check_finite(self._timesteps)
            self._report(training, update, steps)

    def _update(self, batch: BatchedEnvironment, training: Training) -> Update:
        composition = self.composition
        limit = composition.max_grad_norm
        steps = composition.source.rollout_length
        assert steps is not None  # of the part that decides
        rounds = -(-(training.total_timesteps - training.start) // (steps * batch.num_envs))
        n_updates = rounds * composition.source.updates_per_round(batch.num_envs)
        obstacle = obstacle_to_compiling(composition, composition.named, composition.optimizer, self.device)
        if obstacle is None and batch.may_be_absent:
            obstacle = "batches have many sizes where slots can be empty"
        update = self._compiled_update
        if update is not None and update.optimizer is not composition.optimizer:
            update = None
        if obstacle is None and update is not None:
            obstacle = update.failure
        compiled, reason = choose_compiled(self.compiled, obstacle, n_updates)
        choices = training.record.setdefault("choices", {})
        choices["compiled"] = {"value": compiled, "reason": reason}
        if not compiled:
            return Update(composition.named, composition.optimizer, limit)
        if update is None:
            update = CompiledUpdate(composition, composition.named, composition.optimizer, limit)
        if self.compiled == "auto":
            update.given_up = lambda why: choices.update(compiled={"value": False, "reason": why})
        update.start()
        self._compiled_update = update
        return update

    def _report(self, training: Training, update: Update, steps: int) -> None:
        if self._timesteps - self._reported_at < _REPORT_EVERY and steps < _REPORT_EVERY:
            return
        self._reported_at = self._timesteps
        told = update.measured.means()
        if not told:
            return
        if training.is_heard(Updated):
            metrics = {f"train/{name}": value for name, value in told.items()} | self.composition.metrics()
            training.emit(Updated(timestep=self._timesteps, metrics=metrics, n_updates=self._n_updates))

    def training_members(self, batch: BatchedEnvironment) -> dict[str, Any]:
        """Returns what resuming needs besides what acting needs."""
        assert self._collector is not None  # training has begun
        return saved.take_training(self.composition, self._collector, batch, self._n_updates, self._reported_at)

    def resume(self, checkpoint: Bundle, batch: BatchedEnvironment) -> int:
        """Becomes the agent in a checkpoint, with its environments where they were."""
        config = checkpoint.json(_CONFIG)
        for name, value in self.describe().items():
            if isinstance(config, dict) and config.get(name) != value:
                raise ArgumentError(
                    name,
                    value,
                    f"the checkpoint was made with {config.get(name)!r}",
                    "Resume with an agent of the same configuration, or load_from_file(...) the checkpoint.",
                )
        self._follow_device(batch)
        # Of this agent's own parts, which may hold what no bundle does, such as episodes.
        loaded = self._filled(checkpoint, self.untrained())
        try:
            count = checkpoint.json("training_state/state.json")["n_environments"]
            if count != batch.num_envs:
                raise ArgumentError("n_environments", batch.num_envs, f"the checkpoint was made with {count}")
            seed = loaded.prepare(batch, None)
            loaded._reset_seed = derive_seed(seed, "resumed", loaded.num_timesteps)
            interrupted = saved.give_training(checkpoint, loaded.composition, batch, loaded._reset_seed)
            with isolated_random_state():
                restore_global_state(interrupted.random)  # when training begins this must not fail
            if interrupted.observations is None:
                logger.warning("these environments cannot be replayed: training goes on with new episodes")
            loaded._interrupted = interrupted
            loaded._threads = threads_before(checkpoint.information["record"])
        except RLFrameworkError:
            raise
        # What a crafted state makes others raise is of many types, and all of them mean the same.
        except Exception as error:
            raise BundleError(f"{checkpoint.path}: its training state does not fit: {error!r}") from error
        vars(self).update(vars(loaded))
        return seed

    def untrained(self) -> Self:
        """Returns an agent of the same configuration, with parts of its own, that has met no environment."""
        parts = [part.unbuilt() for part in self._parts]
        return type(self)(parts, **self.settings.arguments(), compiled=self.compiled, device=self.device)

    def _build(self, observation_space: gymnasium.Space[Any], action_space: gymnasium.Space[Any], seed: int) -> None:
        self._composition = Composition(
            self._parts, self.settings, observation_space, action_space, self.device, seed
        ).eval()
        self._spaces = (observation_space, action_space)

    # Saving

    def bundle_members(self) -> dict[str, Any]:
        """Returns configuration, networks, and the state of the optimizer."""
        identifier = self.environment_id
        config = {
            **self.describe(),
            "observation_space": encode_space(self.observation_space),
            "action_space": encode_space(self.action_space),
            # Adapters may have names with a colon, which a reader has to take for a module that would be imported.
            "environment_id": None if identifier is None or ":" in identifier else identifier,
            "seed": self.seed,
            "num_timesteps": self._timesteps,
            "compiled": self.compiled,
        }
        return {_CONFIG: config, **saved.take_networks(self.composition)}

    @classmethod
    def from_bundle(cls, bundle: Bundle, algorithm_parameters: dict[str, Any] | None = None) -> Self:
        """Builds the agent that is in a bundle.

        Args:
            bundle: The bundle.
            algorithm_parameters: Arguments of the constructor to use instead of the stored ones, such as
                `learning_rate` or `device`; `parts` cannot be exchanged.
        """
        changed = dict(algorithm_parameters or {})
        if "parts" in changed:
            raise ArgumentError("algorithm_parameters['parts']", changed["parts"], "cannot be exchanged")
        config = bundle.json(_CONFIG)
        try:
            parts = [decode_value(part) for part in config["parts"]]
            kept = {**Settings.arguments_from_data(config), "compiled": config["compiled"]}
            agent = cls(parts, **{**kept, **changed})
            return cls._filled(bundle, agent)
        except BundleError:
            raise
        # What a crafted bundle makes others raise is of many types, and all of them mean the same.
        except Exception as error:
            if changed and isinstance(error, RLFrameworkError):  # then the mistake may be the caller's
                raise
            raise BundleError(f"the bundle cannot be used here: {error!r}") from error

    @staticmethod
    def _filled(bundle: Bundle, agent: Any) -> Any:
        config = bundle.json(_CONFIG)
        agent._timesteps = int(config["num_timesteps"])
        if agent._timesteps < 0:
            raise BundleError(f"the configuration in the bundle is damaged: num_timesteps={agent._timesteps}")
        agent.seed, agent.environment_id = check_seed(config["seed"]), config["environment_id"]
        if agent.environment_id is not None and ":" in agent.environment_id:
            raise BundleError(f"the bundle names the environment {agent.environment_id!r}, which imports a module")
        observation_space, action_space = (decode_space(config[name]) for name in ("observation_space", "action_space"))
        # With the seed of the beginning it would explore the same way again.
        seed = derive_seed(agent.seed or 0, "continued", agent._timesteps)
        with limited_parameters(saved.networks_in(bundle)):
            agent._build(observation_space, action_space, seed)
        saved.give_networks(bundle, agent.composition)
        return agent

    def restore_members(self, bundle: Bundle, algorithm_parameters: dict[str, Any] | None) -> None:
        """Becomes the agent in the bundle."""
        loaded = type(self).from_bundle(bundle, {"device": self.device, **(algorithm_parameters or {})})
        theirs, mine = ([type(part) for part in each._parts] for each in (loaded, self))
        if theirs != mine:
            raise BundleError(
                f"the bundle holds {loaded!r}, this agent is {self!r}: open it with rl_framework.load_agent(path)"
            )
        vars(self).update(vars(loaded))
