"""Whatever chooses actions, in the one form in which it can act."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from copy import deepcopy
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from rl_framework.environment import BatchedEnvironment
from rl_framework.environment.adapter import AdaptedSlots
from rl_framework.environment.batched.in_process import InProcessEnvironments
from rl_framework.errors import ArgumentError

__all__ = ["Actor", "actor_for", "generator_owners_of"]

_ARGUMENT = "agent_or_policy"
_Choose = Callable[[Any, Any, Any, bool, Any], tuple[Any, Any]]

_WHOLE = ("b", "u", "i")
_SAFE_KINDS = {"f": (*_WHOLE, "f"), "i": _WHOLE, "u": _WHOLE, "b": ("b",)}
"""For each kind of action, the kinds of numbers that can be taken for it."""


class Actor:
    """A `rl_framework.environment.acting.Policy` that acts on copies, and gives actions as they will be received.

    Args:
        choose: Takes observations, state, episode starts, whether to be deterministic, and action masks.
        batch: Where it acts.
        uses_action_masks: Whether `choose` wants action masks.
    """

    def __init__(self, choose: _Choose, batch: BatchedEnvironment, uses_action_masks: bool = False) -> None:
        self.uses_action_masks = uses_action_masks
        self._choose = choose
        self._space = batch.single_action_space
        self._shape = (batch.num_envs, *(self._space.shape or ()))

    def predict(
        self,
        observations: Any,
        state: Any = None,
        episode_starts: Any = None,
        deterministic: bool = True,
        action_masks: Any = None,
    ) -> tuple[NDArray[Any], Any]:
        """Chooses one action a slot."""
        # What acts may change what it is given, which is also what is recorded.
        actions, state = self._choose(deepcopy(observations), state, episode_starts, deterministic, action_masks)
        return self._checked(actions), state

    def _checked(self, actions: Any) -> NDArray[Any]:
        array = np.asarray(actions)
        dtype = np.dtype(self._space.dtype)
        if array.shape != self._shape:
            raise ArgumentError(
                _ARGUMENT,
                actions,
                f"it returned actions of the shape {array.shape} for {self._shape[0]} observations, which need "
                f"{self._shape}",
                "A function is given a batch of observations, and returns as many actions.",
            )
        if array.dtype.kind not in _SAFE_KINDS.get(dtype.kind, ()):
            raise ArgumentError(_ARGUMENT, actions, f"it returned actions of {array.dtype}; {self._space} has {dtype}")
        # A copy, since a policy may write its next actions into the same array.
        array = np.array(array, dtype=dtype)
        if isinstance(self._space, spaces.Box):
            clipped = np.clip(array, self._space.low, self._space.high)
            # What is outside by rounding alone stays what an evaluation would give to the environment.
            if not np.allclose(clipped, array, rtol=1e-6, atol=1e-6, equal_nan=True):
                return clipped
        return array


def actor_for(agent_or_policy: Any, batch: BatchedEnvironment, seed: int) -> Actor:
    """Returns what acts, whatever its form is.

    Args:
        agent_or_policy: See `collect_episodes`.
        batch: Where it is going to act.
        seed: For random actions.

    Raises:
        ArgumentError: It does not act.
        NotTrainedError: It is an agent without a model.
        SpaceMismatchError: It is an agent, and the environment's spaces are not its own.
    """
    policy = agent_or_policy
    if policy is None or (isinstance(policy, str) and policy == "random"):
        return Actor(_RandomChoice(batch, seed), batch)
    if not isinstance(policy, type | str):
        if callable(getattr(policy, "predict", None)):
            return _predicting(policy, batch)
        if callable(getattr(policy, "choose_action", None)):
            return Actor(_choosing(policy, batch), batch)
        if callable(policy):
            normalise = _normalisation(policy, batch)
            return Actor(lambda observations, state, *_: (policy(normalise(observations)), state), batch)
    raise ArgumentError(
        _ARGUMENT,
        policy,
        "does not act",
        'Give an agent, an object with predict or choose_action, a function from observations to actions, or "random".',
    )


def generator_owners_of(agent_or_policy: Any) -> list[Any]:
    """Returns the objects whose `np_random` it draws from when it samples actions."""
    owners = getattr(agent_or_policy, "random_generator_owners", None)
    if callable(owners):
        return list(owners())
    # The value-based algorithms of Stable-Baselines3 explore with their action space.
    space = getattr(agent_or_policy, "action_space", None)
    return [space] if isinstance(space, gymnasium.Space) else []


def _predicting(policy: Any, batch: BatchedEnvironment) -> Actor:
    check_spaces = getattr(policy, "check_spaces", None)
    if callable(check_spaces):
        check_spaces(batch, "environment")
    uses_masks = getattr(policy, "uses_action_masks", None)
    if uses_masks is None:
        uses_masks = "action_masks" in inspect.signature(policy.predict).parameters
    normalise = _normalisation(policy, batch)

    def choose(observations: Any, state: Any, starts: Any, deterministic: bool, masks: Any) -> tuple[Any, Any]:
        extra = {"action_masks": masks} if uses_masks else {}
        answer: tuple[Any, Any] = policy.predict(normalise(observations), state, starts, deterministic, **extra)
        return answer

    return Actor(choose, batch, bool(uses_masks))


def _choosing(policy: Any, batch: BatchedEnvironment) -> _Choose:
    def choose(observations: Any, state: Any, starts: Any, deterministic: bool, masks: Any) -> tuple[Any, Any]:
        rows = [batch.observation_of(observations, slot) for slot in range(batch.num_envs)]
        return [policy.choose_action(row, deterministic=deterministic) for row in rows], state

    return choose


def _normalisation(policy: Any, batch: BatchedEnvironment) -> Callable[[Any], Any]:
    """Returns what is between an environment and a policy that was trained behind a `VecNormalize`.

    Agents normalise by themselves. A model of Stable-Baselines3 does not, and the door gives the observations from
    before the `VecNormalize`, which are the ones to record.
    """
    if callable(getattr(policy, "choose_action", None)):
        return _unchanged
    vec_env = getattr(batch, "vec_env", None)
    own = getattr(policy, "get_vec_normalize_env", None)
    if vec_env is None and own is None:
        return _unchanged
    from stable_baselines3.common.vec_env import VecNormalize

    if isinstance(vec_env, VecNormalize):
        return vec_env.normalize_obs
    normalize = own() if callable(own) else None
    if isinstance(normalize, VecNormalize) and not getattr(batch, "normalizes", False):
        return normalize.normalize_obs
    return _unchanged


def _unchanged(observations: Any) -> Any:
    return observations


class _RandomChoice:
    """Draws actions from a copy of the action space, whose generator belongs to the environment."""

    def __init__(self, batch: BatchedEnvironment, seed: int) -> None:
        self._batch = batch
        self._space = deepcopy(batch.single_action_space)
        self._space.seed(seed)

    def __call__(self, observations: Any, state: Any, *_: Any) -> tuple[Any, Any]:
        masks = self._masks()
        return np.stack([self._draw(None if masks is None else masks[slot]) for slot in self._slots()]), state

    def _slots(self) -> range:
        return range(self._batch.num_envs)

    def _draw(self, mask: Any) -> Any:
        space = self._space
        if mask is not None and isinstance(space, spaces.Discrete):
            return space.sample(mask=np.asarray(mask, dtype=np.int8))
        if mask is not None and isinstance(space, spaces.MultiDiscrete) and space.nvec.ndim == 1:
            # As sb3-contrib has it, the masks of all parts lie behind one another.
            parts = np.split(np.asarray(mask, dtype=np.int8), np.cumsum(space.nvec)[:-1])
            return space.sample(mask=tuple(parts))
        return space.sample()

    def _masks(self) -> Any:
        # Asking other processes for a method that is not there can end them.
        if not isinstance(self._batch, InProcessEnvironments | AdaptedSlots):
            return None
        try:
            return self._batch.action_masks()
        except AttributeError:
            return None
