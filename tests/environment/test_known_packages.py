"""Environments of optional packages are found by their id, and what is missing is said."""

from __future__ import annotations

import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import gymnasium
import pytest
from gymnasium.envs.classic_control import CartPoleEnv
from tests.environment.toys import Simulator, SimulatorAdapter

from rl_framework import errors, registry
from rl_framework.environment import environment_ids, known_environments, open_environments, standard_wrappers
from rl_framework.environment.backends import backends, environment_source
from rl_framework.environment.known_packages import FAMILIES, family_of, near_ids
from rl_framework.environment.wrappers import check_wrappers
from rl_framework.errors import ArgumentError, EnvironmentSourceError, MissingExtraError, UnknownNameError

BY_NAME = {family.name: family for family in FAMILIES}


@pytest.fixture
def without(monkeypatch):
    """Makes modules look as if they were not installed, and gymnasium as if nobody had registered anything since."""

    def hide(*modules):
        monkeypatch.setattr(errors, "find_spec", lambda name: None if name in modules else find_spec(name))

    ours = {name: spec for name, spec in gymnasium.registry.items() if "gymnasium.envs" in str(spec.entry_point)}
    monkeypatch.setattr(gymnasium.envs.registration, "registry", ours)
    monkeypatch.setattr(gymnasium, "registry", ours)
    return hide


def test_ids_of_optional_packages_need_no_import():
    ids = ("ALE/Pong-v5", "PongNoFrameskip-v4", "MiniGrid-Empty-5x5-v0", "FetchReach-v4")
    ids = [identifier for identifier in ids if family_of(identifier).is_installed]
    code = f"""
from rl_framework.environment import open_environments
for identifier in {ids!r}:
    batch = open_environments(identifier)
    batch.reset_slots(0)
    print("opened", batch.environment_id)
    batch.close()
"""
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert [line.split()[1] for line in out.splitlines() if line.startswith("opened")] == ids


@pytest.mark.skipif(not BY_NAME["minigrid"].is_installed, reason="the extra minigrid is not installed")
def test_processes_import_the_package_too():
    batch = open_environments("MiniGrid-Empty-5x5-v0", 2, vectorization="subprocess", wrappers=["minigrid_image"])
    try:
        assert batch.reset_slots(0)[0].shape == (2, 7, 7, 3)
    finally:
        batch.close()


@pytest.mark.parametrize("family", [family for family in FAMILIES if family.extra], ids=lambda family: family.name)
@pytest.mark.parametrize("vectorization", ["sync", "native"])
def test_a_missing_package_is_named_with_its_extra(family, vectorization, without):
    without(*family.modules)
    command = re.escape(f'pip install "rl-framework[{family.extra}]"')
    with pytest.raises(MissingExtraError, match=f"{family.examples[0]}.*{command}"):
        open_environments(family.examples[0], vectorization=vectorization)


def test_every_extra_is_declared():
    import tomllib

    declared = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())
    extras = declared["project"]["optional-dependencies"]
    for family in FAMILIES:
        assert family.extra is None or family.extra in extras


def test_an_id_that_somebody_has_registered_is_theirs(without):
    without("gymnasium_robotics", "ale_py")
    for name in ("FetchCoffee-v0", "ALE/Mine-v0"):
        gymnasium.register(name, CartPoleEnv)
        batch = open_environments(name)
        assert batch.environment_id == name
        batch.close()


def test_a_package_whose_import_fails_is_named(without, monkeypatch):
    def fail(name):
        raise RuntimeError("no display")

    monkeypatch.setattr("rl_framework.environment.known_packages.importlib.import_module", fail)
    monkeypatch.setattr(errors, "find_spec", lambda name: object())
    with pytest.raises(EnvironmentSourceError, match=r"'ale_py' cannot be imported: no display"):
        open_environments("ALE/Pong-v5")


@pytest.mark.parametrize(
    ("identifier", "near"),
    [
        ("CartPol-v1", "CartPole-v1"),
        ("cartpole-v1", "CartPole-v1"),
        ("LunarLandr-v3", "LunarLander-v3"),
        ("MinGrid-Empty-5x5-v0", "MiniGrid-Empty-5x5-v0"),
        ("Pong-v5", "ALE/Pong-v5"),
        ("cheetah-run", "dm_control/cheetah-run-v0"),
    ],
)
def test_unknown_ids_suggest_near_ones(identifier, near):
    with pytest.raises(EnvironmentSourceError, match=f"Did you mean .*'{near}'"):
        open_environments(identifier)
    assert near in near_ids(identifier)


def test_ids_that_resemble_nothing_suggest_nothing():
    with pytest.raises(EnvironmentSourceError, match="does not know this id") as caught:
        open_environments("Qqqqqqqqqqqq-v0")
    assert "Did you mean '" not in str(caught.value).partition("Did you mean: ")[0]


def test_ids_of_isaac_lab_say_what_would_have_to_be_installed():
    with pytest.raises(EnvironmentSourceError, match=r"isaaclab\[isaacsim,all\].*pypi\.nvidia\.com"):
        open_environments("Isaac-Cartpole-v0")


def test_families_can_be_listed_without_importing_them():
    code = (
        "import sys; from rl_framework.environment import known_environments, standard_wrappers;"
        "from rl_framework.environment.backends import backends;"
        "print(sorted(family.name for family in known_environments() if family.is_installed is not None)[0], "
        "len(backends()), standard_wrappers('ALE/Pong-v5'));"
        "print([name for name in ('ale_py', 'minigrid', 'shimmy', 'mujoco', 'cv2', 'torch') if name in sys.modules])"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.splitlines()[-1] == "[]"
    assert out.startswith("atari")


@pytest.mark.parametrize("family", known_environments(), ids=lambda family: family.name)
def test_the_table_agrees_with_itself(family):
    assert all(family.has(example) for example in family.examples)
    assert all(not other.has(example) for other in FAMILIES if other is not family for example in family.examples)
    check_wrappers(list(family.wrappers))
    assert (family.extra is None) == (family.modules == ())


def test_ids_of_what_is_installed_can_be_listed():
    found = environment_ids(["classic_control", "toy_text", "minigrid"])
    assert "Pendulum-v1" in found["classic_control"]
    assert "Taxi-v3" in found["toy_text"]
    assert set(found) <= {"classic_control", "toy_text", "minigrid"}
    if BY_NAME["minigrid"].is_installed:
        assert set(BY_NAME["minigrid"].examples) <= set(found["minigrid"])


@pytest.mark.parametrize(
    ("identifier", "expected"),
    [
        ("CartPole-v1", []),
        ("nobody/Knows-v0", []),
        ("ALE/Breakout-v5", ["atari", {"type": "frame_stack", "stack_size": 4}]),
        ("MiniGrid-DoorKey-5x5-v0", ["minigrid_image", "flatten_observation"]),
    ],
)
def test_standard_wrappers(identifier, expected):
    assert standard_wrappers(identifier) == expected


# Backends


@pytest.mark.parametrize(
    ("backend", "identifier", "source"),
    [
        ("gymnasium", "CartPole-v1", "CartPole-v1"),
        ("Gymnasium", "ALE/Pong-v5", "ALE/Pong-v5"),
        ("classic_control", "Pendulum-v1", "Pendulum-v1"),
        ("atari", "ALE/Pong-v5", "ALE/Pong-v5"),
        ("atari", "Pong", "ALE/Pong-v5"),
        ("atari", "PongNoFrameskip-v4", "PongNoFrameskip-v4"),
        ("dm_control", "walker-walk", "dm_control/walker-walk-v0"),
        ("box2d", "LunarLander-v3", "LunarLander-v3"),
        ("robotics", "FetchReach-v4", "FetchReach-v4"),
    ],
)
def test_a_backend_makes_a_source_of_an_id(backend, identifier, source, monkeypatch):
    monkeypatch.setattr(errors, "find_spec", lambda name: object())
    assert environment_source(backend, identifier, {"a": 1}) == (source, {"a": 1})


@pytest.mark.parametrize(
    ("backend", "identifier", "error", "problem"),
    [
        ("gymnasium", None, ArgumentError, "needs an id"),
        ("box2d", "CartPole-v1", ArgumentError, "no id of box2d.*LunarLander-v3"),
        ("gymnasim", "CartPole-v1", UnknownNameError, "'gymnasium'"),
        ("pettingzoo", "os.path", ArgumentError, "no environment of PettingZoo"),
        ("pettingzoo", "../butterfly/pistonball_v6", ArgumentError, "no environment of PettingZoo"),
        ("isaac", "Isaac-Cartpole-v0", EnvironmentSourceError, r"pip install \"isaaclab\[isaacsim,all\]"),
        ("omniverse", None, EnvironmentSourceError, "Omniverse Kit.*RTX GPU"),
    ],
)
def test_what_a_backend_cannot_make_is_explained(backend, identifier, error, problem):
    pytest.importorskip("pettingzoo")
    with pytest.raises(error, match=problem):
        environment_source(backend, identifier)


def test_isaac_and_omniverse_are_named_and_not_pretended():
    for name in ("isaac", "omniverse"):
        assert not backends()[name].is_installed
        with pytest.raises(EnvironmentSourceError) as caught:
            environment_source(name)
        for fact in ("RTX GPU", "16 GB", "Python 3.11", "Python 3.12", "--extra-index-url", "no adapter"):
            assert fact in str(caught.value)


def test_unity_takes_a_path_or_the_editor(monkeypatch):
    monkeypatch.setattr(errors, "find_spec", lambda name: object())
    assert environment_source("unity", "builds/walker", {"no_graphics": True}) == (
        Path("builds/walker"),
        {"no_graphics": True},
    )
    assert environment_source("unity", "editor") == ("unity", {"file_name": None})


def test_pettingzoo_is_opened_by_name():
    pytest.importorskip("mpe2")
    source, kwargs = environment_source("pettingzoo", "mpe/simple_spread_v3", {"max_cycles": 5})
    batch = open_environments(source, environment_kwargs=kwargs)
    assert batch.num_envs == 3
    batch.reset_slots(0)
    batch.close()
    source, kwargs = environment_source("pettingzoo", "sisl/no_such_v9")
    with pytest.raises(EnvironmentSourceError, match="PettingZoo cannot make it"):
        open_environments(source)


def test_registered_adapters_are_backends(monkeypatch):
    monkeypatch.setattr(registry.environment_adapters, "_entries", dict(registry.environment_adapters._entries))

    class Named(SimulatorAdapter):
        def setup(self, source, id="", length=3):  # noqa: A002
            self.id = id
            super().setup(Simulator())

    registry.register_environment_adapter("my_simulator", Named)
    assert environment_source("my_simulator", "maze", {"length": 4}) == ("my_simulator", {"id": "maze", "length": 4})
    assert environment_source("my_simulator") == ("my_simulator", {})
    with pytest.raises(ArgumentError, match=r"does not take them.*width"):
        environment_source("my_simulator", "maze", {"width": 4})
