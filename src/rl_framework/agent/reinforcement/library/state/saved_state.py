"""What of a Stable-Baselines3 algorithm goes into a bundle, and back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import gymnasium
import torch
from gymnasium import spaces

from rl_framework.agent.reinforcement.library.normaliser import Normaliser, keys_to_normalise
from rl_framework.agent.reinforcement.library.parameters import portable_parameters
from rl_framework.bundle import Bundle, decode_space, decode_value
from rl_framework.errors import BundleError
from rl_framework.seeding import check_seed

__all__ = [
    "SavedConfig",
    "check_tensors",
    "gsde_distribution",
    "members_of",
    "read_config",
    "read_normaliser",
    "read_policy",
    "restore",
    "transfer",
]

_CONFIG, _POLICY, _ACTING, _NORMALISER = "config.json", "policy.safetensors", "acting.safetensors", "normaliser.npz"

# What acting depends on besides the weights: the share of random actions, and the noise of gSDE.
_ACTING_NUMBERS = ("exploration_rate",)
_GSDE = ("exploration_mat", "exploration_matrices")
_COUNTERS = ("num_timesteps", "_n_updates", "_episode_num")
_MOST_ENVIRONMENTS = 1 << 16


@dataclass(frozen=True)
class SavedConfig:
    """`config.json` of a bundle, decoded."""

    algorithm: str
    algorithm_parameters: dict[str, Any]
    features_extractor: Any
    normalize_observations: bool
    normalize_rewards: bool
    has_foreign_normaliser: bool
    observation_space: gymnasium.Space[Any]
    action_space: gymnasium.Space[Any]
    n_environments: int
    environment_id: str | None
    seed: int | None
    counters: dict[str, int]
    acting: dict[str, float]


def gsde_distribution(algorithm: Any) -> Any:
    """Returns the distribution that holds the exploration matrices of gSDE, or None."""
    policy = algorithm.policy
    for owner in (policy, getattr(policy, "actor", None)):
        distribution = getattr(owner, "action_dist", None)
        if distribution is not None and hasattr(distribution, "exploration_mat"):
            return distribution
    return None


def members_of(algorithm: Any, description: dict[str, Any], normaliser: Normaliser | None) -> dict[str, Any]:
    """Returns the members of a bundle's deployable part.

    Args:
        algorithm: The library's object.
        description: What the agent says of itself, as JSON-able data.
        normaliser: The observation statistics, if there are some.
    """
    config = {
        **description,
        "n_environments": int(algorithm.n_envs),
        "counters": {name: int(getattr(algorithm, name)) for name in _COUNTERS},
        "acting": {name: float(getattr(algorithm, name)) for name in _ACTING_NUMBERS if hasattr(algorithm, name)},
    }
    members: dict[str, Any] = {_CONFIG: config, _POLICY: algorithm.policy.state_dict()}
    distribution = gsde_distribution(algorithm)
    if distribution is not None:
        members[_ACTING] = {name: getattr(distribution, name).detach() for name in _GSDE}
    if normaliser is not None:
        members[_NORMALISER] = normaliser.to_arrays()
    return members


def read_config(bundle: Bundle) -> SavedConfig:
    """Decodes the configuration.

    Raises:
        BundleError: Something is missing, of the wrong type, or names an unknown class.
    """
    data = bundle.json(_CONFIG)
    try:
        config = SavedConfig(
            algorithm=_typed(data, "algorithm", str),
            # A file does not choose the device, or where this machine writes its logs.
            algorithm_parameters=portable_parameters(_decoded(data, "algorithm_parameters", dict)),
            features_extractor=_without_path(decode_value(data["features_extractor"])),
            normalize_observations=_typed(data, "normalize_observations", bool),
            normalize_rewards=_typed(data, "normalize_rewards", bool),
            has_foreign_normaliser=_typed(data, "has_foreign_normaliser", bool),
            observation_space=decode_space(data["observation_space"]),
            action_space=decode_space(data["action_space"]),
            n_environments=_typed(data, "n_environments", int),
            environment_id=_typed(data, "environment_id", str | None),
            seed=_typed(data, "seed", int | None),
            counters={name: _typed(data["counters"], name, int) for name in _COUNTERS},
            acting={name: float(value) for name, value in _typed(data, "acting", dict).items()},
        )
        _check_ranges(config)
    except BundleError:
        raise
    except Exception as error:
        raise BundleError(f"the configuration in the bundle is damaged: {error!r}") from error
    if not 1 <= config.n_environments <= _MOST_ENVIRONMENTS:
        raise BundleError(f"the configuration in the bundle is damaged: n_environments={config.n_environments}")
    identifier = config.environment_id
    if identifier is not None and ":" in identifier:
        raise BundleError(
            f"the bundle names the environment {identifier!r}: an id with a module prefix would import that module"
        )
    return config


def _check_ranges(config: SavedConfig) -> None:
    if any(not 0 <= value < 1 << 63 for value in config.counters.values()):
        raise ValueError(f"counters are {config.counters}")
    if any(not 0 <= value <= 1 for value in config.acting.values()):
        raise ValueError(f"acting is {config.acting}")
    check_seed(config.seed)


def _without_path(extractor: Any) -> Any:
    """Leaves out where pre-trained weights came from: the bundle holds them, and a file must not choose a path."""
    if isinstance(extractor, dict):
        return {key: value for key, value in extractor.items() if key != "weights"}
    return extractor


def _typed(data: Any, name: str, kind: Any) -> Any:
    value = data[name]
    if not isinstance(value, kind) or (kind is not bool and isinstance(value, bool)):
        raise TypeError(f"{name} is {value!r}")
    return value


def _decoded(data: Any, name: str, kind: type[Any]) -> Any:
    value = decode_value(data[name])
    if not isinstance(value, kind):
        raise TypeError(f"{name} is {value!r}")
    return value


def read_policy(bundle: Bundle) -> dict[str, torch.Tensor]:
    """Reads the tensors of the policy."""
    return bundle.tensors(_POLICY)


def restore(bundle: Bundle, config: SavedConfig, tensors: dict[str, torch.Tensor], algorithm: Any) -> None:
    """Puts the weights and the acting state of a bundle into an algorithm built from its configuration.

    Raises:
        BundleError: The tensors do not fit.
    """
    expected = algorithm.policy.state_dict()
    check_tensors(tensors, expected)
    algorithm.policy.load_state_dict(tensors, strict=True)
    if isinstance(getattr(algorithm, "weights", None), torch.Tensor):  # ARS learns on a copy
        algorithm.weights = torch.nn.utils.parameters_to_vector(algorithm.policy.parameters()).detach()
    distribution = gsde_distribution(algorithm)
    if distribution is not None:
        acting = bundle.tensors(_ACTING)
        for name in _GSDE:
            expected_matrix = getattr(distribution, name)
            # There is one exploration matrix for each environment of the training.
            shape = expected_matrix.shape if name == "exploration_mat" else (-1, *expected_matrix.shape[1:])
            found = acting.get(name)
            if found is None or found.dtype != expected_matrix.dtype or not _has_shape(found, shape):
                raise BundleError(f"{_ACTING}: {name} is missing, or has the wrong shape or type")
            setattr(distribution, name, acting[name].to(algorithm.device))
    for name, value in config.counters.items():
        setattr(algorithm, name, value)
    for name in _ACTING_NUMBERS:
        if name in config.acting and hasattr(algorithm, name):
            setattr(algorithm, name, config.acting[name])


def _has_shape(tensor: torch.Tensor, shape: tuple[int, ...]) -> bool:
    """Tells whether a tensor has a shape in which -1 stands for any size but 0."""
    same_rank = tensor.ndim == len(shape)
    return same_rank and all(
        found == size or (size == -1 and found > 0) for found, size in zip(tensor.shape, shape, strict=True)
    )


def check_tensors(tensors: dict[str, torch.Tensor], expected: dict[str, torch.Tensor], member: str = _POLICY) -> None:
    """Checks that the tensors of a bundle are those that a network has.

    Args:
        tensors: From the bundle.
        expected: The network's own.
        member: Of the bundle that they are from, for errors.

    Raises:
        BundleError: One is missing, unexpected, or of another shape or type.
    """
    differing = set(tensors) ^ set(expected)
    if differing:
        raise BundleError(f"{member}: missing or unexpected tensors: {', '.join(sorted(differing)[:5])}")
    for name, tensor in tensors.items():
        if tensor.shape != expected[name].shape or tensor.dtype != expected[name].dtype:
            raise BundleError(
                f"{member}: {name} is {tuple(tensor.shape)} {tensor.dtype}, "
                f"the configuration asks for {tuple(expected[name].shape)} {expected[name].dtype}"
            )


def read_normaliser(bundle: Bundle, config: SavedConfig, space: gymnasium.Space[Any]) -> Normaliser | None:
    """Reads the statistics of observations of a space, if the agent normalises.

    Raises:
        BundleError: They are missing or damaged: without them the agent would act on numbers that it never saw.
    """
    asked = config.normalize_observations or config.normalize_rewards or config.has_foreign_normaliser
    if asked != (_NORMALISER in bundle):
        raise BundleError(f"{_NORMALISER} is {'missing' if asked else 'there'}, which the configuration contradicts")
    if not asked:
        return None
    parts = space.spaces if isinstance(space, spaces.Dict) else {"": space}
    shapes = {key: part.shape or () for key, part in parts.items() if isinstance(part, spaces.Box)}
    normaliser = Normaliser.from_arrays(bundle.arrays(_NORMALISER), shapes)
    needed = set(keys_to_normalise(space)) if config.normalize_observations else set()
    if not config.has_foreign_normaliser and set(normaliser.observation) != needed:
        raise BundleError(f"{_NORMALISER}: statistics for {sorted(normaliser.observation)} are not those needed")
    return normaliser


def transfer(previous: Any, rebuilt: Any) -> None:
    """Carries what was learned from one algorithm object over to another of the same configuration."""
    rebuilt.set_parameters(previous.get_parameters(), exact_match=True, device=rebuilt.device)
    for name in previous._get_torch_save_params()[1]:
        if getattr(previous, name, None) is not None:
            getattr(rebuilt, name).data.copy_(getattr(previous, name).data)
    for name in (*_COUNTERS, *_ACTING_NUMBERS, "_n_calls"):
        if hasattr(previous, name):
            setattr(rebuilt, name, getattr(previous, name))
    if previous.ep_info_buffer is not None:
        rebuilt.ep_info_buffer, rebuilt.ep_success_buffer = previous.ep_info_buffer, previous.ep_success_buffer
