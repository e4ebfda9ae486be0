"""Presets: found by name, told apart by where they are from, and each accepted by the library it is for."""

from __future__ import annotations

import inspect
import os
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces

from rl_framework import registry
from rl_framework.environment import open_environments
from rl_framework.environment.known_packages import family_of
from rl_framework.errors import ArgumentError, UnknownNameError
from rl_framework.experiment import load_config
from rl_framework.experiment.agents import make_agent
from rl_framework.experiment.presets import Preset, find_preset, get_preset, list_presets, preset_for

NAMES = list_presets()
IMITATION = {"bc", "dagger", "gail", "airl"}
REINFORCEMENT = [name for name in NAMES if name.partition("/")[0] not in IMITATION]


@pytest.fixture
def _own_presets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry.presets, "_entries", dict(registry.presets._entries))


# Names


def test_there_are_presets_for_what_people_start_with() -> None:
    assert len(NAMES) == len({name.lower() for name in NAMES}) >= 100
    assert len([name for name in NAMES if get_preset(name).published is not None]) >= 100
    for name in (
        "ppo/CartPole-v1",
        "ppo/BipedalWalker-v3",
        "sac/BipedalWalker-v3",
        "ppo/ALE/Pong-v5",
        "tqc/FetchPush-v4",
        "sac/Humanoid-v5",
        "gail/seals/CartPole-v0",
        "ppo+rnd/rl_framework/DeepSea-v0",
    ):
        assert name in NAMES


def test_a_preset_tells_where_it_is_from() -> None:
    preset = get_preset("ppo/halfcheetah-V5")
    assert (preset.name, preset.algorithm, preset.environment) == ("ppo/HalfCheetah-v5", "ppo", "HalfCheetah-v5")
    assert preset.source == "RL Baselines3 Zoo 2.8.0, hyperparams/ppo.yml, HalfCheetah-v4"
    assert preset.published is not None
    assert (preset.published.mean, preset.published.environment) == (5819.099, "HalfCheetah-v3")
    assert "benchmark.md" in preset.published.source
    assert preset.configuration["training"] == {"total_timesteps": 1_000_000}
    assert preset.configuration["agent"]["parameters"]["policy_kwargs"]["activation_fn"] == "relu"


def test_a_preset_can_be_changed_without_changing_the_next_one() -> None:
    find_preset("ppo/CartPole-v1")["agent"]["parameters"]["n_steps"] = 1
    assert find_preset("PPO/cartpole-v1")["agent"]["parameters"]["n_steps"] == 32


def test_the_presets_of_imitation_are_reached_in_the_same_way() -> None:
    from rl_framework.agent.imitation.presets import tuned_preset, tuned_presets

    assert {f"{algorithm}/{environment}" for algorithm, environment in tuned_presets()} <= set(NAMES)
    preset = get_preset("bc/seals/Hopper-v1")
    tuned = tuned_preset("bc", "seals/Hopper-v1")
    assert preset.configuration["agent"]["parameters"] == tuned.algorithm_parameters
    assert preset.source == tuned.source
    assert preset.configuration["training"] == {"total_timesteps": 20 * 104_000}
    assert preset.published is not None
    assert preset.published.environment == "seals/Hopper-v0"


def test_a_pair_has_a_preset_or_none() -> None:
    found = preset_for("PPO", "cartpole-v1")
    assert isinstance(found, Preset)
    assert found.name == "ppo/CartPole-v1"
    assert preset_for("ppo", "MyTask-v0") is None
    together = preset_for("rnd + ppo", "rl_framework/DeepSea-v0")
    assert together is not None
    assert (together.algorithm, together.environment) == ("ppo+rnd", "rl_framework/DeepSea-v0")


def test_an_unknown_preset_suggests_the_nearest_ones() -> None:
    with pytest.raises(UnknownNameError, match=r"Did you mean 'ppo/cartpole-v1' \(rl_framework\)"):
        find_preset("ppo/CartPole-v2")


def test_listing_loads_no_library() -> None:
    code = (
        "import sys; from rl_framework.experiment.presets import list_presets, get_preset; list_presets();"
        "get_preset('ppo/CartPole-v1');"
        "print([name for name in ('torch', 'stable_baselines3', 'imitation') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env={**os.environ})
    assert done.stdout == "[]\n", done.stderr


# Presets of others


@pytest.mark.usefixtures("_own_presets")
def test_a_preset_of_ones_own_is_a_mapping_or_a_file(tmp_path: Path) -> None:
    sections = {"agent": {"algorithm": "ppo"}, "environment": {"id": "CartPole-v1"}}
    registry.register_preset("ppo/MyTask-v0", {**sections, "source": "measured here"})
    assert preset_for("ppo", "MyTask-v0") == Preset("ppo/MyTask-v0", sections, "measured here")
    file = tmp_path / "mine.yaml"
    file.write_text(
        "agent: {algorithm: ppo}\nenvironment: {id: CartPole-v1}\n"
        "published: {mean: 1.5, environment: CartPole-v0, source: a paper}\n"
    )
    registry.register_preset("ppo/MyFile-v0", file)
    preset = get_preset("ppo/MyFile-v0")
    assert preset.configuration == sections
    assert preset.published is not None
    assert (preset.published.mean, preset.published.std) == (1.5, None)
    config = load_config({"base": "ppo/MyFile-v0"})
    assert config.environment.id == "CartPole-v1"


@pytest.mark.parametrize(
    ("found", "problem"),
    [
        (3, "no sections agent and environment"),
        ({"agent": {}}, "no sections agent and environment"),
        ({"agent": {}, "environment": {}, "published": {"men": 3}}, "published does not fit"),
        (Path("nowhere.yaml"), "cannot be read"),
    ],
    ids=["a number", "half", "published", "no file"],
)
@pytest.mark.usefixtures("_own_presets")
def test_what_is_no_preset_is_named(found: Any, problem: str) -> None:
    registry.register_preset("ppo/Broken-v0", found)
    with pytest.raises(ArgumentError, match=problem):
        get_preset("ppo/Broken-v0")


# Whether they fit


class _StandIn(gymnasium.Env[Any, Any]):
    """Has the spaces of an environment whose package is not installed."""

    def __init__(self, identifier: str) -> None:
        if identifier.startswith("ALE/"):
            self.observation_space: spaces.Space[Any] = spaces.Box(0, 255, (4, 84, 84), np.uint8)
            self.action_space: spaces.Space[Any] = spaces.Discrete(6)
        elif identifier.startswith("MiniGrid-"):
            self.observation_space = spaces.Box(0, 255, (2835,), np.uint8)
            self.action_space = spaces.Discrete(7)
        else:
            goal = spaces.Box(-np.inf, np.inf, (3,), np.float64)
            inside = spaces.Box(-np.inf, np.inf, (25,), np.float64)
            self.observation_space = spaces.Dict(observation=inside, achieved_goal=goal, desired_goal=goal)
            self.action_space = spaces.Box(-1, 1, (4,), np.float32)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        return self.observation_space.sample(), {}


def _is_installed(identifier: str) -> bool:
    family = family_of(identifier)
    return family is None or family.is_installed


@pytest.mark.parametrize("name", NAMES)
def test_a_preset_is_a_configuration(name: str) -> None:
    data = find_preset(name)
    assert set(data) == {"agent", "environment", "training"}
    if not _is_installed(data["environment"]["id"]):
        data["environment"] = {"id": "CartPole-v1"}
    config = load_config({**data, "episodes": {"path": "data"}} if "imitation" in str(data["agent"]) else data)
    assert config.training.total_timesteps == data["training"]["total_timesteps"]


@pytest.mark.parametrize("name", REINFORCEMENT)
def test_its_model_can_be_built(name: str) -> None:
    """Builds the model that training would begin with, but for the size of its replay buffer."""
    data = find_preset(name)
    identifier = data["environment"]["id"]
    algorithm = data["agent"].get("algorithm")
    if algorithm is not None and "buffer_size" in inspect.signature(registry.algorithms.get(algorithm)).parameters:
        data["agent"]["parameters"]["buffer_size"] = 1_000
    agent = make_agent(load_config({"agent": data["agent"], "environment": {"id": "CartPole-v1"}}).agent)
    arguments, wrappers = data["environment"].get("arguments"), data["environment"].get("wrappers")
    if _is_installed(identifier):
        batch = open_environments(identifier, 1, arguments, wrappers=wrappers)
    else:
        batch = open_environments(lambda: _StandIn(identifier))
    with warnings.catch_warnings():
        # One environment instead of the preset's many leaves a batch unfilled.
        warnings.filterwarnings("ignore", "You have specified a mini-batch size", UserWarning)
        agent.prepare(batch, 0)
    assert agent.observation_space == batch.single_observation_space
    assert agent.describe()
    batch.close()


@pytest.mark.parametrize("name", [name for name in NAMES if "n_steps" in str(find_preset(name)["agent"])])
def test_batches_divide_what_is_collected(name: str) -> None:
    data = find_preset(name)
    parameters = data["agent"].get("parameters", {})
    if "batch_size" in parameters and "n_steps" in parameters:
        collected = parameters["n_steps"] * data["environment"].get("n_environments", 1)
        assert collected % parameters["batch_size"] == 0 or collected < parameters["batch_size"]
