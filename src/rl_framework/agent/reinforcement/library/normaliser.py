"""Observation statistics that belong to the agent: learned while training, frozen while acting."""

from __future__ import annotations

import math
from collections import OrderedDict
from dataclasses import dataclass
from typing import Any

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray
from stable_baselines3.common.preprocessing import is_image_space
from stable_baselines3.common.vec_env import VecEnv, VecNormalize

from rl_framework.errors import ArgumentError, BundleError, UnsupportedSpaceError

__all__ = ["Normaliser", "keys_to_normalise", "normalised"]


@dataclass
class Normaliser:
    """Running means and variances in the form of SB3's `VecNormalize`.

    Attributes:
        observation: By key ("" for an observation that is no dictionary): mean, variance, count.
        reward: Mean, variance and count of the discounted return, by which rewards are scaled.
        clip_observation: Normalised observations are clipped to this size.
        epsilon: Added to the variance.
    """

    observation: dict[str, tuple[NDArray[np.float64], NDArray[np.float64], float]]
    reward: tuple[float, float, float]
    clip_observation: float
    epsilon: float

    @classmethod
    def from_vec_normalize(cls, vec_normalize: Any) -> Normaliser:
        """Copies the statistics of a `VecNormalize`."""
        statistics: dict[str, tuple[NDArray[np.float64], NDArray[np.float64], float]] = {}
        if vec_normalize.norm_obs:
            by_key = vec_normalize.obs_rms if isinstance(vec_normalize.obs_rms, dict) else {"": vec_normalize.obs_rms}
            statistics = {key: (rms.mean.copy(), rms.var.copy(), float(rms.count)) for key, rms in by_key.items()}
        returns = vec_normalize.ret_rms
        return cls(
            observation=statistics,
            reward=(float(returns.mean), float(returns.var), float(returns.count)),
            clip_observation=float(vec_normalize.clip_obs),
            epsilon=float(vec_normalize.epsilon),
        )

    def restore(self, vec_normalize: Any) -> None:
        """Puts the statistics into a `VecNormalize`, so that training goes on with them."""
        if vec_normalize.norm_obs:  # otherwise it has no observation statistics at all
            by_key = vec_normalize.obs_rms if isinstance(vec_normalize.obs_rms, dict) else {"": vec_normalize.obs_rms}
            for key, (mean, variance, count) in self.observation.items():
                by_key[key].mean, by_key[key].var, by_key[key].count = mean.copy(), variance.copy(), count
        returns = vec_normalize.ret_rms
        returns.mean, returns.var = np.float64(self.reward[0]), np.float64(self.reward[1])
        returns.count = self.reward[2]

    def normalise(self, observations: Any) -> Any:
        """Normalises observations; keys without statistics stay as they are."""
        if isinstance(observations, dict):
            return {
                key: self._normalise(value, key) if key in self.observation else value
                for key, value in observations.items()
            }
        return self._normalise(observations, "") if "" in self.observation else observations

    def _normalise(self, observations: Any, key: str) -> NDArray[np.float32]:
        mean, variance, _ = self.observation[key]
        scaled = (observations - mean) / np.sqrt(variance + self.epsilon)
        return np.clip(scaled, -self.clip_observation, self.clip_observation).astype(np.float32)

    def to_arrays(self) -> dict[str, NDArray[Any]]:
        """Returns the statistics as arrays, for a bundle."""
        arrays: dict[str, NDArray[Any]] = {
            "reward": np.array(self.reward),
            "clip_observation": np.array(self.clip_observation),
            "epsilon": np.array(self.epsilon),
        }
        for key, (mean, variance, count) in self.observation.items():
            arrays |= {f"mean/{key}": mean, f"variance/{key}": variance, f"count/{key}": np.array(count)}
        return arrays

    @classmethod
    def from_arrays(cls, arrays: dict[str, NDArray[Any]], shapes: dict[str, tuple[int, ...]]) -> Normaliser:
        """Reads statistics back.

        Args:
            arrays: What `to_arrays` gave.
            shapes: Shape of the observation under each key that may have statistics.

        Raises:
            BundleError: Something is missing, of the wrong shape, or not finite.
        """
        try:
            observation = {}
            for name in arrays:
                part, _, key = name.partition("/")
                if part != "mean":
                    continue
                mean, variance = (np.asarray(arrays[f"{p}/{key}"], dtype=np.float64) for p in ("mean", "variance"))
                if mean.shape != shapes[key] or variance.shape != shapes[key]:
                    raise ValueError(f"statistics for {key!r} have shape {mean.shape}, expected {shapes[key]}")
                if not (np.isfinite(mean).all() and np.isfinite(variance).all() and (variance >= 0).all()):
                    raise ValueError(f"statistics for {key!r} are no means and variances")
                observation[key] = (mean, variance, float(arrays[f"count/{key}"]))
            reward_mean, reward_variance, reward_count = (float(value) for value in arrays["reward"])
            clip_observation, epsilon = (float(arrays[name]) for name in ("clip_observation", "epsilon"))
            numbers = [reward_mean, reward_variance, reward_count, epsilon]
            numbers += [count for _, _, count in observation.values()]
            if not all(map(math.isfinite, numbers)) or min(reward_variance, epsilon) < 0:
                raise ValueError("a number in it is not finite, or negative")
            if not clip_observation > 0:  # infinity is how a user switches clipping off
                raise ValueError(f"clip_observation is {clip_observation}")
            return cls(
                observation=observation,
                reward=(reward_mean, reward_variance, reward_count),
                clip_observation=clip_observation,
                epsilon=epsilon,
            )
        except (KeyError, TypeError, ValueError) as error:
            raise BundleError(f"the normaliser in the bundle is damaged: {error}") from error


def keys_to_normalise(space: spaces.Space[Any]) -> list[str]:
    """Returns the keys of a dictionary that can be normalised; `[""]` for an observation that is no dictionary.

    Raises:
        UnsupportedSpaceError: There is nothing to normalise.
    """
    parts = space.spaces if isinstance(space, spaces.Dict) else {"": space}
    keys = [key for key, part in parts.items() if isinstance(part, spaces.Box) and not is_image_space(part)]
    if not keys:
        raise UnsupportedSpaceError(
            "normalize_observations",
            True,
            f"there is nothing to normalise in {space}",
            "Images are scaled by the policy itself; discrete observations are one-hot.",
        )
    return keys


def make_vec_normalize(vec_env: VecEnv, observations: list[str] | None, rewards: bool, gamma: float) -> VecNormalize:
    """Wraps environments so that what comes out of them is normalised.

    Args:
        vec_env: The environments.
        observations: Keys to normalise, `[""]` for an observation that is no dictionary; None: no observations.
        rewards: Whether rewards are scaled.
        gamma: Discount of the return by whose deviation rewards are scaled.
    """
    is_dict = isinstance(vec_env.observation_space, spaces.Dict)
    normalize = VecNormalize(
        vec_env,
        norm_obs=observations is not None,
        norm_reward=rewards,
        gamma=gamma,
        norm_obs_keys=observations if is_dict else None,
    )
    if observations is not None:
        normalize.observation_space = _as_floats(normalize.observation_space, observations, normalize.clip_obs)
    return normalize


def _as_floats(space: spaces.Space[Any], keys: list[str], bound: float) -> spaces.Space[Any]:
    # The library keeps the space of integer observations, and would cut normalised ones to integers in its buffers.
    if isinstance(space, spaces.Dict):
        # gymnasium sorts the keys of any other dictionary, and the order of the keys is the order of the features.
        parts = OrderedDict(space.spaces)
        parts.update({key: _as_floats(parts[key], [""], bound) for key in keys})
        return spaces.Dict(parts)
    if isinstance(space, spaces.Box) and np.dtype(space.dtype).kind != "f":
        return spaces.Box(-bound, bound, space.shape, np.float32)
    return space


def normalised(
    vec_env: VecEnv, normaliser: Normaliser | None, observations: bool, rewards: bool, gamma: float
) -> tuple[VecEnv, VecNormalize | None]:
    """Wraps environments in `VecNormalize` if asked.

    Args:
        vec_env: The environments.
        normaliser: Statistics that the agent has already.
        observations: Whether to normalise observations.
        rewards: Whether to scale rewards.
        gamma: Discount factor of the return by whose deviation rewards are scaled.

    Returns:
        What to train on, and whose statistics are the agent's.

    Raises:
        ArgumentError: The environments and the agent disagree about who normalises.
    """
    if isinstance(vec_env, VecNormalize):
        if observations or rewards:
            raise ArgumentError(
                "normalize_observations",
                True,
                "the training environments are wrapped in VecNormalize already",
                "Use one of the two.",
            )
        return vec_env, vec_env
    if not observations and not rewards:
        if normaliser is not None and normaliser.observation:
            raise ArgumentError(
                "training_environments",
                vec_env,
                "the agent was trained on the observations of a VecNormalize, and these are not wrapped in one",
                "Wrap them in a VecNormalize with the same statistics.",
            )
        return vec_env, None
    keys = keys_to_normalise(vec_env.observation_space) if observations else None
    normalize = make_vec_normalize(vec_env, keys, rewards, gamma)
    if normaliser is not None:
        normaliser.restore(normalize)
    return normalize, normalize
