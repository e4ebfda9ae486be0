"""Stable-Baselines3's own .zip files: written for those who use the library alone, and read from those one trusts.

Such a file holds pickles, and unpickling runs whatever code its author wrote. So it is only read with `trust=True`.
Statistics of a `VecNormalize` are not in it: they lie beside it, in `<name>_vecnormalize.pkl`, another pickle.

    model = PPO.load("agent.zip")
    environments = VecNormalize.load("agent_vecnormalize.pkl", environments)
"""

from __future__ import annotations

import copy
import json
import logging
import os
import pickle
import warnings
import zipfile
from importlib import import_module
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.preprocessing import is_image_space, is_image_space_channels_first
from stable_baselines3.common.save_util import load_from_zip_file
from stable_baselines3.common.vec_env import VecNormalize

from rl_framework.agent.network import FeaturesExtractor
from rl_framework.agent.reinforcement.export.library_parameters import (
    features_extractor_in,
    parameters_from_library,
    without_framework,
)
from rl_framework.agent.reinforcement.library.algorithms import resolve_algorithm
from rl_framework.agent.reinforcement.library.normaliser import Normaliser, keys_to_normalise, make_vec_normalize
from rl_framework.environment.sb3 import SpacesOnlyVecEnv
from rl_framework.errors import ArgumentError, BundleError, RLFrameworkError, UnsupportedSpaceError, require_extra
from rl_framework.seeding import isolated_random_state
from rl_framework.whole_file import written_whole

__all__ = ["agent_from_library_zip", "save_as_library_zip", "statistics_path"]

_logger = logging.getLogger(__name__)


# The files do not name their algorithm, but the class of its policy.
_BY_MODULE_OF_POLICY = {
    "stable_baselines3.dqn.policies": "stable_baselines3:DQN",
    "stable_baselines3.sac.policies": "stable_baselines3:SAC",
    "sb3_contrib.ars.policies": "sb3_contrib:ARS",
    "sb3_contrib.common.maskable.policies": "sb3_contrib:MaskablePPO",
    "sb3_contrib.common.recurrent.policies": "sb3_contrib:RecurrentPPO",
    "sb3_contrib.crossq.policies": "sb3_contrib:CrossQ",
    "sb3_contrib.qrdqn.policies": "sb3_contrib:QRDQN",
    "sb3_contrib.tqc.policies": "sb3_contrib:TQC",
}


def statistics_path(path: str | os.PathLike[str]) -> Path:
    """Returns where the statistics of a `VecNormalize` lie that belong to a file."""
    path = Path(path)
    return path.with_name(f"{path.stem}_vecnormalize.pkl")


def save_as_library_zip(agent: Any, path: str | os.PathLike[str]) -> Path:
    """Writes an agent as Stable-Baselines3 itself would: `PPO.load(path)` opens it without this framework.

    Where the agent normalises, `VecNormalize.load` opens the statistics beside it, in `<name>_vecnormalize.pkl`. An
    exponential, cosine or step schedule and classes of one's own need their modules to be installed where the file is
    opened.

    Args:
        agent: An agent with a model.
        path: Where to; without an ending, ".zip" is added. Missing folders are made.

    Returns:
        The path of the .zip file.

    Raises:
        NotTrainedError: The agent has no model yet.
        ArgumentError: Statistics of another agent lie beside the path, or the agent's features extractor has a
            preprocessing stage, for which such files have no place.
    """
    extractor = agent.features_extractor
    if isinstance(extractor, FeaturesExtractor) and extractor.preprocesses:
        raise ArgumentError(
            "agent",
            agent,
            "the library would leave out the preprocessing stage of its features extractor",
            "Use save_to_file or save_as_onnx.",
        )
    path = Path(path)
    path = path if path.suffix else path.with_suffix(".zip")
    algorithm, beside = agent.algorithm, statistics_path(path)
    normalize = _vec_normalize_of(agent)
    if normalize is None and beside.exists():
        raise ArgumentError(
            "path", str(path), f"{beside} would be taken for statistics of this agent, which has none", "Move it away."
        )
    # A shallow copy, because the attributes that are exchanged are still needed here.
    plain = copy.copy(algorithm)
    vars(plain).update({name: without_framework(value) for name, value in vars(algorithm).items()})
    with written_whole(path) as temporary:
        if normalize is not None:
            with written_whole(beside) as temporary_beside:
                normalize.save(str(temporary_beside))
        with temporary.open("wb") as file:
            plain.save(file, exclude=["tensorboard_log"])  # a folder of this machine
    return path


def _vec_normalize_of(agent: Any) -> VecNormalize | None:
    """Returns the agent's statistics as the library keeps them, around environments that are not there."""
    normaliser, live = agent.normaliser, agent.algorithm.get_vec_normalize_env()
    if normaliser is None:
        return None
    vec_env = SpacesOnlyVecEnv(agent.observation_space, agent.action_space, int(agent.algorithm.n_envs))
    gamma = float(agent.algorithm_parameters.get("gamma", 0.99))
    if agent.normalize_observations or agent.normalize_rewards:
        keys = list(normaliser.observation) or None
        normalize = make_vec_normalize(vec_env, keys, agent.normalize_rewards, gamma)
    else:
        is_dict = isinstance(agent.observation_space, spaces.Dict) and bool(normaliser.observation)
        normalize = VecNormalize(
            vec_env,
            norm_obs=bool(normaliser.observation),
            gamma=gamma,
            norm_obs_keys=list(normaliser.observation) if is_dict else None,
        )
    if live is not None:
        for name in ("norm_reward", "clip_reward", "gamma"):
            setattr(normalize, name, getattr(live, name))
    normaliser.restore(normalize)
    normalize.clip_obs, normalize.epsilon = normaliser.clip_observation, normaliser.epsilon
    return normalize


def agent_from_library_zip(
    agent_class: Any,
    path: str | os.PathLike[str],
    trust: bool = False,
    algorithm_class: str | type[BaseAlgorithm] | None = None,
    normalize_path: str | os.PathLike[str] | None = None,
    algorithm_parameters: dict[str, Any] | None = None,
    observation_space: gymnasium.Space[Any] | None = None,
) -> Any:
    """Builds an agent from a file that Stable-Baselines3's `save` wrote.

    It acts, evaluates, trains on and can be saved as a bundle. Schedules that are functions are taken as data if they
    are constant or a straight line; others stay functions, with which it acts, but has to be given a schedule as data
    in `algorithm_parameters` before it trains on or is saved. A replay buffer is not in such files.

    Args:
        agent_class: The class of the agent.
        path: The file.
        trust: Has to be True: opening the file runs code that its author may have put there.
        algorithm_class: The algorithm; None: told from the file, which works unless the policy is of one's own.
        normalize_path: Statistics that `VecNormalize.save` wrote, trusted too; None: those of the same name beside
            the file, if there are any.
        algorithm_parameters: Parameters for further training instead of those in the file.
        observation_space: Space of one observation as the environment gives it; None: as in the file, images with
            their channels last.

    Returns:
        The agent.

    Raises:
        ArgumentError: `trust` is not True, or the algorithm cannot be told from the file.
        BundleError: It is no such file, or cannot be opened here.
        MissingExtraError: The algorithm is of sb3-contrib, which is not installed.
    """
    if trust is not True:
        raise ArgumentError(
            "trust",
            trust,
            f"{os.fspath(path)!r} is opened by unpickling it, which runs any code that its author put there; nothing "
            "of it was read",
            "Pass trust=True if you made it or trust who did. Agents that save_to_file wrote are safe to open.",
        )
    path = Path(path)
    described = _description(path)
    found = resolve_algorithm(_algorithm_of(described) if algorithm_class is None else algorithm_class)
    given = dict(algorithm_parameters or {})
    data, algorithm = _load(path, found, described, given.get("device", "auto"))
    normalize = _load_statistics(path, normalize_path)
    if observation_space is None:
        observation_space = (
            _channels_last(data["observation_space"]) if normalize is None else normalize.observation_space
        )
    parameters = {**parameters_from_library(found, data, observation_space), **given}
    mine, normaliser = (False, False), None
    if normalize is not None:
        normaliser = Normaliser.from_vec_normalize(normalize)
        mine = _can_be_made_here(normalize, observation_space, parameters)
    extractor = features_extractor_in(parameters)
    agent = agent_class(found, parameters, extractor, normalize_observations=mine[0], normalize_rewards=mine[1])
    agent._algorithm = algorithm
    agent._spaces = (observation_space, algorithm.action_space)
    agent._normaliser = normaliser
    agent.seed = None if data.get("seed") is None else int(data["seed"])
    return agent


def _description(path: Path) -> dict[str, Any]:
    """Reads what the file says in plain JSON, without unpickling."""
    try:
        with zipfile.ZipFile(path) as archive:
            if "manifest.json" in archive.namelist():
                raise BundleError(f"{path} is a bundle: open it with rl_framework.load_agent(path)")
            described = json.loads(archive.read("data"))
    except (OSError, KeyError, ValueError, zipfile.BadZipFile) as error:
        if isinstance(error, FileNotFoundError):
            raise
        raise BundleError(f"{path} is no file that Stable-Baselines3 wrote: {error}") from error
    if not isinstance(described, dict) or not {"observation_space", "action_space", "policy_class"} <= set(described):
        raise BundleError(f"{path} is no file that Stable-Baselines3 wrote: it describes no algorithm")
    return described


def _algorithm_of(described: dict[str, Any]) -> type[Any]:
    policy = described["policy_class"]
    module = policy.get("__module__") if isinstance(policy, dict) else None
    address = _BY_MODULE_OF_POLICY.get(str(module))
    if module == "stable_baselines3.common.policies":
        if "cg_max_steps" in described:
            address = "sb3_contrib:TRPO"
        else:
            address = "stable_baselines3:PPO" if "clip_range" in described else "stable_baselines3:A2C"
    elif module == "stable_baselines3.td3.policies":
        is_ddpg = described.get("policy_delay") == 1 and described.get("target_noise_clip") == 0.0
        address = "stable_baselines3:DDPG" if is_ddpg else "stable_baselines3:TD3"
    if address is None:
        raise ArgumentError(
            "algorithm_class",
            None,
            f"the file does not say which algorithm it holds, and its policy, a class of {module}, does not tell",
            "Pass the class that wrote it, such as algorithm_class=stable_baselines3.PPO.",
        )
    package, _, name = address.partition(":")
    if package == "sb3_contrib":
        require_extra("contrib", f"{name} from a library's file", package)
    algorithm_class: type[Any] = getattr(import_module(package), name)
    return algorithm_class


def _load(
    path: Path, algorithm_class: type[BaseAlgorithm], described: dict[str, Any], device: Any
) -> tuple[dict[str, Any], BaseAlgorithm]:
    """Returns the attributes that the file holds, and the algorithm with its weights."""
    # While it only acts nothing is stored, and a hindsight buffer would ask for environments.
    stand_ins: dict[str, Any] = {}
    if "buffer_size" in described:
        stand_ins = {
            "buffer_size": max(1, int(described.get("n_envs", 1))),
            "replay_buffer_class": None,
            "replay_buffer_kwargs": {},
            "optimize_memory_usage": False,
            "n_steps": 1,
        }
    try:
        # Building the networks draws numbers, and seeds every generator if the file has a seed.
        with isolated_random_state(), warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="You are trying to run")  # PPO on a GPU
            data, _, _ = load_from_zip_file(path, device="cpu")
            algorithm = algorithm_class.load(path, device=device, **stand_ins)
    except Exception as error:
        if isinstance(error, RLFrameworkError):
            raise
        raise BundleError(
            f"{path} cannot be opened as {algorithm_class.__name__}: {type(error).__name__}: {error}"
        ) from error
    assert data is not None  # `_description` has seen it
    for name in stand_ins:
        if name in data:
            setattr(algorithm, name, data[name])
    algorithm._last_obs = algorithm._last_original_obs = None
    return data, algorithm


def _load_statistics(path: Path, normalize_path: str | os.PathLike[str] | None) -> VecNormalize | None:
    if normalize_path is None:
        normalize_path = statistics_path(path)
        if not normalize_path.exists():
            return None
        _logger.info("taking the statistics in %s", normalize_path)
    try:
        with Path(normalize_path).open("rb") as file:
            normalize = pickle.load(file)  # noqa: S301 - the caller said trust=True
    except FileNotFoundError:
        raise
    except Exception as error:
        raise BundleError(f"{normalize_path} cannot be opened: {type(error).__name__}: {error}") from error
    if not isinstance(normalize, VecNormalize):
        raise BundleError(f"{normalize_path} holds a {type(normalize).__name__}, not a VecNormalize")
    return normalize


def _can_be_made_here(
    normalize: VecNormalize, observation_space: gymnasium.Space[Any], parameters: dict[str, Any]
) -> tuple[bool, bool]:
    """Tells whether the agent's own normalisation of observations and of rewards would be the same.

    Otherwise it acts all the same, and goes on training in environments that the user wraps.
    """
    try:
        keys = keys_to_normalise(observation_space)
    except UnsupportedSpaceError:
        keys = []
    normalised: list[str] = []
    if normalize.norm_obs:
        normalised = list(normalize.obs_rms) if isinstance(normalize.obs_rms, dict) else [""]
    usual = {"clip_obs": 10.0, "clip_reward": 10.0, "epsilon": 1e-8, "gamma": parameters.get("gamma", 0.99)}
    same = all(np.isclose(getattr(normalize, name), value, rtol=1e-12, atol=0) for name, value in usual.items())
    same = same and (not normalised or set(normalised) == set(keys))
    return same and bool(normalised), same and bool(normalize.norm_reward)


def _channels_last(space: gymnasium.Space[Any]) -> gymnasium.Space[Any]:
    """Turns images as the library stores them into images as environments give them."""
    if isinstance(space, spaces.Dict):
        parts = {key: _channels_last(part) for key, part in space.spaces.items()}
        return spaces.Dict(list(parts.items()))  # a dictionary would be sorted
    if is_image_space(space) and isinstance(space, spaces.Box) and is_image_space_channels_first(space):
        channels, height, width = space.shape
        return spaces.Box(0, 255, (height, width, channels), np.uint8)
    return space
