"""Maximum causal entropy inverse reinforcement learning, in environments of few states and known dynamics."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Iterable, Sequence
from typing import Any, ClassVar

import gymnasium
import numpy as np
import torch
from gymnasium import spaces
from numpy.typing import NDArray

from rl_framework import registry
from rl_framework.agent.imitation.learner import Learner, Setting, constructor_parameters
from rl_framework.agent.imitation.reward_networks import build_reward_network, reward_network_data
from rl_framework.agent.imitation.tabular.model import StateIndex, model_of, state_trajectories
from rl_framework.agent.imitation.tabular.policy import TablePolicy
from rl_framework.agent.reinforcement.library.state.optimizer_state import give_optimizer, take_optimizer
from rl_framework.agent.reinforcement.library.state.saved_state import check_tensors
from rl_framework.agent.reinforcement.library.state.size_limit import limited_parameters
from rl_framework.bundle import Bundle
from rl_framework.errors import ArgumentError, NotTrainedError, UnsupportedSpaceError
from rl_framework.training import Training, Updated

__all__ = ["TabularLearner"]

logger = logging.getLogger(__name__)

_TABLE, _REWARD, _STATE, _TENSORS = "policy.npz", "reward_net.safetensors", "mce_irl.json", "mce_irl.safetensors"
_STATE_ONLY = {"type": "basic", "hid_sizes": [256], "use_action": False, "use_next_state": False, "use_done": False}
"""Of the library's documentation; MCE IRL calls it with states alone."""


class TabularLearner(Learner):
    """`MCEIRL`: finds the reward for which the expert's way through the states would be the best of all random ones.

    Nothing is acted: the environment (`seals.base_envs.TabularModelPOMDP` or `TabularModelMDP`) is asked for its
    dynamics, and `total_timesteps` counts steps of the gradient. Training ends before that when the states are visited
    as the expert does (`linf_eps`) or the gradient is small (`grad_l2_eps`).

    The expert is the episodes, with the observations that the environment gives, or, as the parameter
    `demonstrations`, how often it visits each state: shape `(states,)`, for an episode.
    """

    needs_episodes = False
    owned: ClassVar[dict[str, str]] = {
        "env": "Pass the environment to train(training_environments=...).",
        "rng": "Pass a seed to train(seed=...).",
        "custom_logger": "Pass connectors or callbacks to train(...).",
    }

    def __init__(self, library_class: type[Any], parameters: dict[str, Any]) -> None:
        self._reward_net: Any = None
        self._policy: TablePolicy | None = None
        self._rewards: NDArray[Any] | None = None  # with which the table is planned, None: it is up to date
        self._states: StateIndex | None = None
        self._seen: NDArray[Any] | None = None
        super().__init__(library_class, parameters)

    def known_parameters(self) -> set[str]:
        """Returns the names of the parameters that the library takes."""
        return constructor_parameters(self.library_class) | {"device"}

    def check_parameters(self) -> None:
        """Checks the reward network and the numbers."""
        given = self.parameters.get("reward_net")
        self._reward_data = reward_network_data(
            _STATE_ONLY if given is None else given, "algorithm_parameters['reward_net']"
        )
        if given is not None:
            self.parameters["reward_net"] = self._reward_data
        optimizer = self.parameters.get("optimizer_cls")
        if isinstance(optimizer, str):
            registry.optimizers.get(optimizer, "algorithm_parameters['optimizer_cls']")
        for name in ("discount", "linf_eps", "grad_l2_eps"):
            value = self.parameters.get(name, 0)
            if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < np.inf:
                raise ArgumentError(f"algorithm_parameters[{name!r}]", value, "must be a number from 0")
        interval = self.parameters.get("log_interval")
        if interval is not None and (type(interval) is not int or interval < 1):
            raise ArgumentError("algorithm_parameters['log_interval']", interval, "must be a number of steps, or None")
        visits = self.parameters.get("demonstrations")
        if visits is not None and (np.ndim(visits) != 1 or np.asarray(visits).dtype.kind not in "fiu"):
            raise ArgumentError(
                "algorithm_parameters['demonstrations']",
                visits,
                "must be how often the expert visits each state",
                "Pass episodes to train(episode_sequence=...).",
            )

    # Before training

    def prepare(self, setting: Setting) -> None:
        """Asks the environment for its dynamics and makes the library's object."""
        assert setting.batch is not None  # `needs_environment`
        model = model_of(setting.batch)
        self._states = StateIndex(setting.observation_space, model.observation_matrix)
        if self._reward_net is None:
            self._reward_net = self._build(model.observation_space, setting.action_space)
        if self._policy is not None and self._policy.table.shape != (model.horizon, model.state_dim, model.action_dim):
            raise ArgumentError(
                "training_environments", setting.batch, f"the agent's table has the shape {self._policy.table.shape}"
            )
        earlier, self.algorithm = self.algorithm, self._library_object(setting, model)
        if earlier is not None:
            self.algorithm.optimizer = earlier.optimizer
        if self._policy is None:
            assert isinstance(setting.action_space, spaces.Discrete)  # so are those of tabular environments
            self._policy = TablePolicy(self.algorithm.policy.pi, self._states, setting.action_space)

    def _build(self, observation_space: gymnasium.Space[Any], action_space: gymnasium.Space[Any]) -> Any:
        argument = "algorithm_parameters['reward_net']"
        network = build_reward_network(self._reward_data, observation_space, action_space, argument)
        return network.to(self.device)

    def _library_object(self, setting: Setting, model: Any) -> Any:
        from rl_framework.agent.imitation.library.event_logger import EventLogger

        visits = self.parameters.get("demonstrations")
        if setting.episodes is None and visits is None:
            raise ArgumentError(
                "episode_sequence", None, "'mce_irl' learns from episodes", "Or give the parameter demonstrations."
            )
        if visits is not None and np.shape(visits) != (model.state_dim,):
            raise ArgumentError(
                "algorithm_parameters['demonstrations']", visits, f"the environment has {model.state_dim} states"
            )
        if setting.episodes is not None:
            assert self._states is not None
            visits = state_trajectories(setting.episodes, self._states, model.horizon)
        defaults = inspect.signature(self.library_class).parameters
        names = ("optimizer_cls", "optimizer_kwargs", "discount", "linf_eps", "grad_l2_eps", "log_interval")
        arguments = {name: self.parameters.get(name, defaults[name].default) for name in names}
        if isinstance(arguments["optimizer_cls"], str):
            arguments["optimizer_cls"] = registry.optimizers.get(arguments["optimizer_cls"])
        try:
            return self.library_class(
                demonstrations=visits if isinstance(visits, list) else np.asarray(visits, dtype=np.float64),
                env=model,
                reward_net=self._reward_net,
                rng=np.random.default_rng(setting.seed),
                custom_logger=EventLogger(),
                **arguments,
            )
        except (TypeError, ValueError) as error:
            raise ArgumentError("algorithm_parameters", arguments, f"MCEIRL does not take them: {error}") from error

    # Training

    def learn(self, training: Training, listeners: Sequence[Any]) -> None:
        """Follows the gradient, step by step."""
        from imitation.util.networks import training as in_training_mode

        algorithm = self.algorithm
        observations = torch.as_tensor(
            algorithm.env.observation_matrix, dtype=self._reward_net.dtype, device=self._reward_net.device
        )
        first = self.num_timesteps
        with in_training_mode(self._reward_net):
            while training.stop_reason is None:
                training.boundary(self.num_timesteps)
                if self.num_timesteps >= training.total_timesteps or training.stop_reason is not None:
                    break
                self._rewards, visits = self._step(observations)
                self.num_timesteps += 1
                metrics = self._metrics(visits)
                converged = (
                    metrics["mce_irl/linf_delta"] <= algorithm.linf_eps
                    or metrics["mce_irl/grad_norm"] <= algorithm.grad_l2_eps
                )
                interval, count = algorithm.log_interval, self.num_timesteps
                due = interval is not None and (count - first - 1) % interval == 0
                if converged or due or count == training.total_timesteps:
                    training.emit(Updated(timestep=count, metrics=metrics, n_updates=count))
                training.step(count)
                if converged:
                    logger.info("converged after %d steps", count)
                    break
        algorithm.policy.set_pi(self.policy.table)

    def _step(self, observations: torch.Tensor) -> tuple[NDArray[Any], NDArray[Any]]:
        try:
            rewards, visits = self.algorithm._train_step(observations)
        except (AssertionError, AttributeError, RuntimeError, TypeError) as error:
            raise ArgumentError(
                "algorithm_parameters['reward_net']",
                self._reward_data,
                f"MCE IRL calls it with states alone, which it does not take: {error}",
                f"Such as {_STATE_ONLY}.",
            ) from error
        return rewards, visits

    def _metrics(self, visits: NDArray[Any]) -> dict[str, float]:
        parameters = list(self._reward_net.parameters())
        return {
            "mce_irl/linf_delta": float(np.max(np.abs(self.algorithm.demo_state_om - visits))),
            "mce_irl/weight_norm": _norm(parameters),
            "mce_irl/grad_norm": _norm([parameter.grad for parameter in parameters]),
        }

    # Acting

    @property
    def policy(self) -> TablePolicy:
        """The policy for the reward as it stands; planned when it is asked for.

        Raises:
            NotTrainedError: There is none yet.
        """
        if self._policy is None:
            raise NotTrainedError("a policy")
        if self._rewards is not None:
            from imitation.algorithms.mce_irl import mce_partition_fh

            algorithm, rewards = self.algorithm, self._rewards
            self._policy.table = mce_partition_fh(algorithm.env, reward=rewards, discount=algorithm.discount)[2]
            self._rewards = None
        return self._policy

    def predict(
        self,
        observations: Any,
        state: Any = None,
        episode_starts: Any = None,
        deterministic: bool = True,
        action_masks: Any = None,
    ) -> tuple[Any, Any]:
        """Chooses one action for each observation of a batch; see `TablePolicy`."""
        return self.policy.predict(observations, state, episode_starts, deterministic)

    def random_generator_owners(self) -> list[Any]:
        """Returns the action space that actions are drawn with."""
        return [self.policy.action_space]

    def reward(self) -> NDArray[np.float32]:
        """Returns the learned reward of each state, shape `(states,)`.

        Raises:
            NotTrainedError: The agent was loaded, and has not met its environment yet.
        """
        if self.algorithm is None:
            raise NotTrainedError("the reward of each state")
        observations = torch.as_tensor(
            self.algorithm.env.observation_matrix, dtype=self._reward_net.dtype, device=self._reward_net.device
        )
        with torch.no_grad():
            rewards: NDArray[np.float32] = self._reward_net(observations, None, None, None).cpu().numpy().reshape(-1)
        return rewards

    def optimizers(self) -> dict[str, torch.optim.Optimizer]:
        """Returns the one that changes the reward network."""
        return {} if self.algorithm is None else {"reward": self.algorithm.optimizer}

    def networks(self) -> Iterable[torch.nn.Module]:
        """Returns the reward network."""
        return [self._reward_net]

    # On disk

    def members(self) -> dict[str, Any]:
        """Returns the table, what each state shows, and the reward network."""
        table = {"table": self.policy.table, "observations": self._observations()}
        return {_TABLE: table, _REWARD: self._reward_net.state_dict()}

    def _observations(self) -> NDArray[Any]:
        """Returns what the reward network sees of each state."""
        if self.algorithm is not None:
            return np.asarray(self.algorithm.env.observation_matrix)
        assert self._seen is not None
        return self._seen

    def restore(
        self, bundle: Bundle, observation_space: gymnasium.Space[Any], action_space: gymnasium.Space[Any]
    ) -> None:
        """Takes the table, and builds the reward network."""
        arrays, tensors = bundle.arrays(_TABLE), bundle.tensors(_REWARD)
        table, seen = arrays["table"], arrays["observations"]
        if not isinstance(action_space, spaces.Discrete):
            raise UnsupportedSpaceError("action_space", action_space, "a table has an entry for each action")
        n_states = observation_space.n if isinstance(observation_space, spaces.Discrete) else len(seen)
        fits = table.ndim == 3 and table.dtype == np.float64 and table.shape[1:] == (n_states, action_space.n)
        if not fits or not len(table) or not (table >= 0).all() or not np.allclose(table.sum(axis=2), 1):
            raise ValueError(f"the table has the shape {table.shape}, or entries that are no probabilities")
        if seen.ndim != 2 or seen.dtype.kind not in "fiu" or len(seen) != n_states or not np.isfinite(seen).all():
            raise ValueError(f"the states show something of the shape {seen.shape}")
        self._seen, self._states = seen, StateIndex(observation_space, seen)
        with limited_parameters(tensors):
            network = self._build(spaces.Box(-np.inf, np.inf, seen.shape[1:], np.float32), action_space)
        check_tensors(tensors, network.state_dict(), _REWARD)
        network.load_state_dict(tensors)
        self._reward_net = network
        self._policy = TablePolicy(table, self._states, action_space)

    def training_members(self) -> dict[str, Any]:
        """Returns the optimizer."""
        tensors: dict[str, torch.Tensor] = {}
        return {_STATE: take_optimizer("reward", self.algorithm.optimizer, tensors), _TENSORS: tensors}

    def resume(self, checkpoint: Bundle, setting: Setting) -> None:
        """Goes on with the next step."""
        self.prepare(setting)
        give_optimizer("reward", self.algorithm.optimizer, checkpoint.json(_STATE), checkpoint.tensors(_TENSORS))


def _norm(tensors: Sequence[torch.Tensor]) -> float:
    """Returns the Euclidean norm of all numbers together."""
    return float(
        torch.linalg.vector_norm(torch.stack([torch.linalg.vector_norm(tensor.detach()) for tensor in tensors]))
    )
