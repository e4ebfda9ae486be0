"""What every agent can do, whatever it learns from and whichever library does the learning."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import gymnasium
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from rl_framework import registry
from rl_framework.agent.notebook import agent_html
from rl_framework.agent.record import versions_of_libraries
from rl_framework.agent.saved_wrappers import read_wrappers, wrapper_members
from rl_framework.agent.stores import Store, check_store, upload_agent
from rl_framework.bundle import Bundle, read_bundle, write_bundle
from rl_framework.environment import BatchedEnvironment
from rl_framework.environment.batched.action_masks import mask_width
from rl_framework.environment.door import can_be_made_afresh, environment_id_of, open_environments
from rl_framework.environment.wrappers import wrap_environment
from rl_framework.errors import ArgumentError, BundleError, SpaceMismatchError, UnsavableError
from rl_framework.evaluation import EvaluationResult, evaluate_policy
from rl_framework.evaluation.evaluate import check_n_eval_episodes
from rl_framework.progress import progress_bar
from rl_framework.secrecy import redact
from rl_framework.seeding import check_seed, derive_seed, fresh_seed, isolated_random_state

__all__ = ["STATELESS", "Agent", "Store"]

_ENVIRONMENTS_TO_EVALUATE_IN = 8


STATELESS: Any = object()
"""Stands for a state that was not given to `choose_action`, which None would not: that is a state's beginning."""


class Agent(ABC):
    """Something that can be trained, evaluated, asked for an action, saved and shared.

    A subclass implements `predict` and the three methods around its bundle; `RLAgent` and `ILAgent` add `train`.
    """

    _runs: tuple[dict[str, Any], ...] = ()
    _wrappers: tuple[dict[str, Any], ...] = ()

    # What a subclass implements

    @property
    @abstractmethod
    def observation_space(self) -> gymnasium.Space[Any]:
        """Space of one observation, as the environment gives it.

        Raises:
            NotTrainedError: The agent has not met an environment yet.
        """

    @property
    @abstractmethod
    def action_space(self) -> gymnasium.Space[Any]:
        """Space of one action.

        Raises:
            NotTrainedError: The agent has not met an environment yet.
        """

    @abstractmethod
    def predict(
        self,
        observations: Any,
        state: Any = None,
        episode_starts: Any = None,
        deterministic: bool = True,
        action_masks: Any = None,
    ) -> tuple[Any, Any]:
        """Chooses one action for each observation of a batch; see `rl_framework.evaluation.Policy`.

        Only agents whose `uses_action_masks` is True are given `action_masks`.
        """

    @abstractmethod
    def bundle_members(self) -> dict[str, Any]:
        """Returns what `save_to_file` writes: values, tensors and arrays by member name."""

    @abstractmethod
    def restore_members(self, bundle: Bundle, algorithm_parameters: dict[str, Any] | None) -> None:
        """Becomes the agent in the bundle; changes nothing of itself if that fails."""

    @classmethod
    @abstractmethod
    def from_bundle(cls, bundle: Bundle, algorithm_parameters: dict[str, Any] | None = None) -> Self:
        """Builds the agent that is in a bundle."""

    def history(self) -> dict[str, Any]:
        """Returns the record of every training, the oldest first, as JSON-able data for a bundle."""
        return {"runs": [dict(run) for run in self._runs]}

    def take_history(self, bundle: Bundle) -> None:
        """Takes over the records of the trainings behind the agent in a bundle."""
        runs = bundle.information.get("runs", [])
        self._runs = tuple(run for run in runs if isinstance(run, dict)) if isinstance(runs, list) else ()

    @property
    def uses_action_masks(self) -> bool:
        """Whether `predict` takes `action_masks`: which actions are allowed, where the environment tells."""
        return False

    def random_generator_owners(self) -> list[Any]:
        """Returns the objects whose `np_random` the policy draws from when it samples actions."""
        return []

    def estimate_value(self, observations: Any) -> NDArray[np.float64] | None:
        """Returns what the agent expects to earn from here on, by its own account, for people to look at.

        Args:
            observations: Batched observation, as the environment gives it.

        Returns:
            Shape `(batch,)`: discounted, in units of the rewards that it was trained on (which may be normalised);
            None if it estimates no values.
        """
        return None

    def optimizers(self) -> dict[str, Any]:
        """Returns the `torch.optim.Optimizer` of each network that is being trained, by name, such as "policy"."""
        return {}

    # What everybody uses

    @property
    def wrappers(self) -> list[dict[str, Any]]:
        """What the agent was trained in, the innermost first: `{"type": name, ...}` each.

        They are saved with the agent, and put around every environment in which it acts.
        """
        return [dict(wrapper) for wrapper in self._wrappers]

    def wrap(self, environment: gymnasium.Env[Any, Any]) -> gymnasium.Env[Any, Any]:
        """Returns an environment in the form in which the agent sees it, for loops of your own.

        `evaluate`, `record_video` and `collect` put the agent's wrappers on by themselves; `choose_action` takes
        observations as the wrapped environment gives them.

        Args:
            environment: An environment without these wrappers. It stays as it is.

        Raises:
            ArgumentError: A wrapper cannot be put around this environment.
        """
        return wrap_environment(environment, self._wrappers)

    @classmethod
    def kind(cls) -> str:
        """Returns the registered name of this class of agents, by which a bundle is opened again.

        Raises:
            UnsavableError: It has none.
        """
        kind = registry.agents.name_of(cls)
        if kind is None:
            own = cls.__name__
            raise UnsavableError(
                "agent",
                cls,
                "this class of agents has no registered name, so that one of them could not be saved",
                f"Register it first: rl_framework.register_agent({own.lower()!r}, {own})",
            )
        return kind

    def choose_action(
        self,
        observation: Any,
        deterministic: bool = True,
        *,
        state: Any = STATELESS,
        episode_start: Any = None,
        action_masks: Any = None,
    ) -> Any:
        """Chooses an action.

        Args:
            observation: One observation, or a batch with a leading axis, as the environment gives it (normalisation
                is the agent's own business). For an agent that was trained in `wrappers`, this is the wrapped
                environment: `agent.wrap(environment)`.
            deterministic: Whether to take the most likely action instead of a sampled one.
            state: For recurrent agents: what the last call returned, or None at the start of an episode. Given at
                all, the call returns `(action, state)`.
            episode_start: Whether the observation is the first of an episode, in which case the state begins anew; a
                bool, or shape `(batch,)`.
            action_masks: For agents that use them: shape `(n_actions,)`, or `(batch, n_actions)`, bool: which
                actions are allowed.

        Returns:
            An action that the environment's `step` takes: an int for a discrete space, otherwise an array; for a
            batch, an array with a leading axis. With `state`, the action and the next state.

        Raises:
            NotTrainedError: The agent has no model yet.
            SpaceMismatchError: The observation does not fit the observation space.
        """
        batch, single = self._as_batch(observation)
        starts = None if episode_start is None else np.atleast_1d(np.asarray(episode_start, dtype=np.bool_))
        if action_masks is not None:
            if not self.uses_action_masks:
                raise ArgumentError(
                    "action_masks", action_masks, "this agent does not use them", 'Train "maskable_ppo", which does.'
                )
            action_masks = _as_masks(action_masks, self.action_space, single, _batch_size(batch))
        previous = None if state is STATELESS else state
        actions, next_state = self.predict(batch, previous, starts, deterministic, action_masks)
        action = actions
        if single:
            action = int(actions[0]) if isinstance(self.action_space, spaces.Discrete) else actions[0]
        return action if state is STATELESS else (action, next_state)

    def evaluate(
        self,
        evaluation_environment: Any = None,
        n_eval_episodes: int = 100,
        deterministic: bool = False,
        seed: int | None = None,
        *,
        n_environments: int | None = None,
        environment_kwargs: dict[str, Any] | None = None,
        evaluation_environments: Any = None,
    ) -> EvaluationResult:
        """Runs the agent for exactly `n_eval_episodes` episodes.

        Every environment gives a fixed quota of episodes, so that short episodes are not counted more often. Returns
        are undiscounted, before normalisation and before wrappers that change rewards. The agent, the global random
        generators and the caller's environments (but for their episodes) stay as they were.

        Args:
            evaluation_environment: Where to act; everything that `train` takes.
            n_eval_episodes: How many episodes to run.
            deterministic: Whether to take the most likely action instead of a sampled one.
            seed: The same seed gives the same result; None draws one, which the result tells.
            n_environments: How many environments to make from an id or a factory; None: 8 at most.
            environment_kwargs: Arguments for `gymnasium.make` or the factory.
            evaluation_environments: Another spelling of `evaluation_environment`.

        Returns:
            The result; it unpacks into mean and standard deviation of the return.

        Raises:
            NotTrainedError: The agent has no model yet.
            ArgumentError: Fewer than one episode, or no environment.
            SpaceMismatchError: The environment's spaces are not the agent's.
            NonFiniteError: The environment returned NaN or infinity.
        """
        if evaluation_environment is not None and evaluation_environments is not None:
            raise ArgumentError(
                "evaluation_environments",
                evaluation_environments,
                "is another spelling of evaluation_environment, which is given too",
                "Pass one of the two.",
            )
        source = evaluation_environments if evaluation_environment is None else evaluation_environment
        n_eval_episodes = check_n_eval_episodes(n_eval_episodes)
        seed = check_seed(seed)
        seed = fresh_seed() if seed is None else seed
        if n_environments is None and can_be_made_afresh(source) and not isinstance(source, list):
            n_environments = min(_ENVIRONMENTS_TO_EVALUATE_IN, n_eval_episodes)
        # A factory, or an environment's constructor, may draw from the global generators.
        with isolated_random_state(derive_seed(seed, "construction")):
            batch = self.open_environments(
                source, n_environments, environment_kwargs, argument="evaluation_environment"
            )
            try:
                self.check_spaces(batch, "evaluation_environment")
                return evaluate_policy(
                    self,
                    batch,
                    n_eval_episodes,
                    deterministic=deterministic,
                    seed=seed,
                    generator_owners=self.random_generator_owners(),
                    environment_id=environment_id_of(source),
                )
            finally:
                batch.close()

    def open_environments(
        self,
        source: Any,
        n_environments: int | None = None,
        environment_kwargs: dict[str, Any] | None = None,
        argument: str = "environment",
    ) -> BatchedEnvironment:
        """Opens environments in the form in which this agent acts in them; see `door.open_environments`."""
        return open_environments(source, n_environments, environment_kwargs, argument=argument, wrappers=self._wrappers)

    def save_to_file(self, path: str | Path) -> Path:
        """Writes the agent to one file that is safe to open: no pickle, no code.

        The file is written under a temporary name and then renamed, so that a failure never damages an older one.

        Args:
            path: Where to; ".zip" by convention. Missing folders are made.

        Returns:
            The path.

        Raises:
            NotTrainedError: The agent has no model yet.
            UnsavableError: The agent holds something without a registered name.
        """
        information = {"versions": versions_of_libraries(), **self.history()}
        return write_bundle(path, kind=self.kind(), members=self.saved_members(), information=information)

    def saved_members(self) -> dict[str, Any]:
        """Returns `bundle_members` and what every kind of agent has besides: its wrappers."""
        return {**self.bundle_members(), **wrapper_members(self._wrappers)}

    def load_from_file(self, path: str | Path, algorithm_parameters: dict[str, Any] | None = None) -> Self:
        """Becomes the agent in a file written by `save_to_file`.

        Args:
            path: The file, or an address such as "s3://bucket/run" (see `rl_framework.stores`).
            algorithm_parameters: Parameters to use instead of the stored ones, such as another learning rate.

        Returns:
            This agent.

        Raises:
            BundleError: The file is damaged, hostile, from a newer version, or holds another kind of agent. This
                agent is then as it was before.
            ConnectorError: It could not be fetched from the address.
        """
        bundle = read_bundle(path)
        if bundle.kind != self.kind():
            raise BundleError(
                f"{redact(str(path))} holds an agent of kind {bundle.kind!r} and this one is {self.kind()!r}: "
                "open it with rl_framework.load_agent(path)"
            )
        wrappers = read_wrappers(bundle)
        self.restore_members(bundle, algorithm_parameters)
        self._wrappers = wrappers
        self.take_history(bundle)
        return self

    def upload(self, connector: Store | Sequence[Store], video_recording_environment: Any = None) -> Any:
        """Hands the agent over to a connector, or to each of a list that keeps agents.

        Args:
            connector: Where to.
            video_recording_environment: Where to film a replay, if the connector keeps one: an id, a factory, or an
                environment made with `render_mode="rgb_array"`.

        Returns:
            What the connector says about the place; of a list, a list.

        Raises:
            ArgumentError: It is no connector.
            ConnectorError: It could not be delivered; the local copy stays, and the others of a list have got it.
        """
        return upload_agent(self, connector, video_recording_environment)

    def download(self, connector: Store) -> Self:
        """Becomes the agent that a connector fetches.

        Raises:
            ArgumentError: It is no connector.
            ConnectorError: It could not be fetched.
            BundleError: What was fetched is not safe to open.
        """
        check_store(connector)
        with progress_bar(1, "downloading", "agent") as bar:
            connector.download(self)
            bar.update()
        return self

    def check_spaces(self, batch: BatchedEnvironment, argument: str) -> None:
        """Checks that environments have the agent's spaces.

        Raises:
            SpaceMismatchError: They have others.
        """
        for kind in ("observation_space", "action_space"):
            mine, theirs = getattr(self, kind), getattr(batch, f"single_{kind}")
            if mine != theirs:
                raise SpaceMismatchError(argument, batch, f"its {kind} is {theirs}; the agent was built for {mine}")

    def _repr_html_(self) -> str:
        return agent_html(self)

    def _as_batch(self, observation: Any) -> tuple[Any, bool]:
        space = self.observation_space
        if isinstance(space, spaces.Dict):
            if not isinstance(observation, dict) or set(observation) != set(space.spaces):
                raise SpaceMismatchError("observation", observation, f"must be a dictionary of {list(space.spaces)}")
            parts = {key: _leaf_as_batch(observation[key], space.spaces[key], key) for key in space.spaces}
            single = all(is_single for _, is_single in parts.values())
            return {key: part for key, (part, _) in parts.items()}, single
        return _leaf_as_batch(observation, space, "observation")


def _batch_size(batch: Any) -> int:
    return len(next(iter(batch.values())) if isinstance(batch, dict) else batch)


def _as_masks(masks: Any, space: gymnasium.Space[Any], single: bool, batch_size: int) -> Any:
    masks = np.asarray(masks, dtype=np.bool_)
    masks = masks[None] if single and masks.ndim == 1 else masks
    width = mask_width(space)
    if width and masks.shape != (batch_size, width):
        wanted = (width,) if single else (batch_size, width)
        raise ArgumentError("action_masks", masks, f"has shape {masks.shape}", f"For {space} give {wanted}.")
    return masks


def _leaf_as_batch(observation: Any, space: gymnasium.Space[Any], argument: str) -> tuple[Any, bool]:
    array = np.asarray(observation)
    if array.dtype.kind not in "biuf":
        raise SpaceMismatchError(argument, observation, f"holds {array.dtype}, which are no numbers")
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise ArgumentError(argument, observation, "holds NaN or infinity")
    shape = space.shape or ()
    shapes = [shape]
    if len(shape) == 3:  # images are taken with the channels first or last
        shapes += [(shape[2], shape[0], shape[1]), (shape[1], shape[2], shape[0])]
    if array.shape in shapes:
        _check_counts(array, space, argument)
        return array[None], True
    if array.ndim and array.shape[1:] in shapes and len(array):
        _check_counts(array, space, argument)
        return array, False
    raise SpaceMismatchError(
        argument, observation, f"has shape {array.shape}", f"The agent's observations have shape {shape}."
    )


def _check_counts(array: Any, space: gymnasium.Space[Any], argument: str) -> None:
    """Checks observations that stand for places in a one-hot vector, where any other number has no place."""
    if isinstance(space, spaces.Discrete | spaces.MultiDiscrete):
        sizes: Any = space.n if isinstance(space, spaces.Discrete) else space.nvec
        if ((array < space.start) | (array >= space.start + sizes)).any():
            raise SpaceMismatchError(argument, array, f"is not in {space}")
