"""Names from other packages: found in their metadata, imported when asked for, and never in anybody's way."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tomllib
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium
import pytest

import rl_framework
from rl_framework import registry
from rl_framework.environment import open_environments
from rl_framework.errors import ArgumentError, MissingExtraError, PluginError, UnknownNameError
from rl_framework.registry import Registry

EXAMPLE = Path(__file__).parents[1] / "plugin_example"

InstallPackage = Callable[..., None]


def _things() -> Registry:
    things = Registry("thing", "register_thing('my_thing', MyThing)", group="rl_framework.things")
    things.register("ours", "fractions:Fraction")
    return things


def _run(code: str, *paths: Path, cwd: Path) -> str:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, paths)), "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-c", code], cwd=cwd, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


# Names and where they come from


def test_a_package_is_imported_when_its_name_is_asked_for(install_package: InstallPackage) -> None:
    install_package("my_Tools.kit", {"things": {"Mine": "e2_tools:Mine"}}, {"e2_tools": "class Mine: pass\n"})
    things = _things()
    assert list(things) == ["mine", "ours"]
    assert "MINE" in things
    assert [entry.origin for entry in things.describe()] == ["my-tools-kit 1.0", "registered by the program"]
    assert things.name_for_files("MINE") == "my-tools-kit:mine"
    assert things.name_for_files("Ours") == "ours"
    assert "e2_tools" not in sys.modules
    found = things.get("mine")
    assert found is things.get("my-tools-kit:mine") is sys.modules["e2_tools"].Mine
    assert things.name_of(found) == "my-tools-kit:mine"


def test_a_class_that_a_package_exports_from_elsewhere_has_its_name(install_package: InstallPackage) -> None:
    install_package(
        "tools",
        {"things": {"mine": "e2_front:Mine"}},
        {"e2_front": "from fractions import Fraction as Mine\nMine2 = Mine\n"},
    )
    things = Registry("thing", group="rl_framework.things")
    assert things.name_of(things.get("mine")) == "tools:mine"


def test_an_unknown_name_tells_the_nearest_ones_and_where_they_come_from(install_package: InstallPackage) -> None:
    install_package("tools", {"algorithms": {"ppo_plus": "e2_tools:Mine"}})
    with pytest.raises(UnknownNameError) as caught:
        registry.algorithms.get("ppo_plu", "algorithm_class")
    message = str(caught.value)
    assert "Did you mean 'ppo_plus' (tools 1.0) or 'ppo' (rl_framework)" in message
    assert "; ppo_plus (tools 1.0)" in message
    assert "rl_framework.register_algorithm(" in message


@pytest.mark.parametrize("installed", [False, True], ids=["missing", "without it"])
def test_a_name_of_a_package_that_does_not_have_it(install_package: InstallPackage, installed: bool) -> None:
    if installed:
        install_package("tools", {"things": {"another": "e2_tools:Mine"}})
    with pytest.raises(UnknownNameError, match=r"no installed package of that name has it: install 'tools'"):
        _things().get("tools:mine")
    with pytest.raises(UnknownNameError, match="install 'tools'"):
        _things().name_for_files("tools:mine")


def test_a_package_does_not_take_a_name_of_ours(install_package: InstallPackage) -> None:
    modules = {"e2_tools": "class Mine: pass\n"}
    install_package("tools", {"things": {"ours": "e2_tools:Mine"}}, modules)
    things = _things()
    from fractions import Fraction

    assert things.get("ours") is Fraction
    assert things.get("tools:ours").__module__ == "e2_tools"
    assert list(things) == ["ours", "tools:ours"]
    note = things.describe()[1].note
    assert note == "'ours' is also a name of registered by the program: write 'tools:ours'"


def test_a_name_that_two_packages_have_is_refused(install_package: InstallPackage) -> None:
    modules = {"e2_tools": "class Mine: pass\n"}
    install_package("tools", {"things": {"mine": "e2_tools:Mine"}}, modules)
    install_package("gadgets", {"things": {"mine": "e2_gadgets:Mine"}})
    things = _things()
    assert "mine" in things
    with pytest.raises(ArgumentError, match=r"both gadgets 1.0 and tools 1.0 have a thing .* 'gadgets:mine' or 'tools"):
        things.get("mine")
    with pytest.raises(ArgumentError, match=r"both gadgets 1.0 and tools 1.0"):
        things.name_for_files("mine")
    assert list(things) == ["gadgets:mine", "ours", "tools:mine"]
    assert things.get("tools:mine").__name__ == "Mine"
    things.register("mine", int)
    assert things.get("mine") is int


# What cannot be imported


BROKEN = {
    "raises": ("e2_raises:Mine", {"e2_raises": "raise RuntimeError('half installed')"}, "RuntimeError: half installed"),
    "exits": ("e2_exits:Mine", {"e2_exits": "raise SystemExit('no licence')"}, "SystemExit: no licence"),
    "no module": ("e2_nowhere:Mine", {}, "ModuleNotFoundError: No module named 'e2_nowhere'"),
    "no attribute": ("e2_empty:Mine", {"e2_empty": ""}, "has no attribute 'Mine'"),
    "no address": ("e2_empty", {"e2_empty": ""}, "a lazy entry is written 'module:attribute'"),
}


@pytest.mark.parametrize(("address", "modules", "problem"), BROKEN.values(), ids=list(BROKEN))
def test_a_broken_plugin_is_named_with_its_error(
    install_package: InstallPackage, address: str, modules: dict[str, str], problem: str
) -> None:
    install_package("tools", {"things": {"mine": address}}, modules)
    things = _things()
    assert not any(entry.is_broken for entry in things.describe())
    with pytest.raises(PluginError, match=r"the thing 'mine' \(tools 1.0\) cannot be imported from") as caught:
        things.get("mine")
    assert problem in str(caught.value)
    assert caught.value.origin == "tools 1.0"
    assert {entry.name: entry.is_broken for entry in things.describe()} == {"mine": True, "ours": False}
    assert things.name_of(float) is None
    with pytest.warns(RuntimeWarning, match="passed over: the thing 'mine'"):
        assert [name for name, _ in things.usable()] == ["ours"]


def test_a_listing_tries_what_others_added(install_package: InstallPackage) -> None:
    install_package("tools", {"things": {"mine": "e2_nowhere:Mine", "good": "decimal:Decimal"}})
    things = _things()
    things.register("gone", "fractions:Gone")
    assert [entry.name for entry in things.describe(load=True) if entry.is_broken] == ["gone", "mine"]


def test_a_mended_plugin_is_taken(install_package: InstallPackage, tmp_path: Path) -> None:
    install_package("tools", {"things": {"mine": "e2_later:Mine"}})
    things = _things()
    with pytest.raises(PluginError):
        things.get("mine")
    (tmp_path / "site" / "e2_later.py").write_text("class Mine: pass\n")
    import importlib

    importlib.invalidate_caches()
    assert things.get("mine").__name__ == "Mine"
    assert not any(entry.is_broken for entry in things.describe())


def test_a_broken_adapter_stops_nobody_elses_simulator(
    install_package: InstallPackage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registry.environment_adapters, "_problems", {})
    monkeypatch.setattr(registry.environment_adapters, "_passed_over", set())
    install_package("tools", {"environment_adapters": {"mine": "e2_nowhere:MyAdapter"}})

    def factory() -> gymnasium.Env[Any, Any]:
        return gymnasium.make("CartPole-v1")

    with pytest.warns(RuntimeWarning, match="passed over: the environment adapter 'mine'"):
        open_environments(factory).close()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        open_environments(factory).close()
        open_environments("CartPole-v1").close()
    with pytest.raises(PluginError, match="e2_nowhere"):
        open_environments("mine")


def test_what_is_something_else_than_it_should_be_is_named(install_package: InstallPackage) -> None:
    install_package("tools", {"things": {"mine": "fractions:Fraction"}})
    things = Registry("thing", group="rl_framework.things", base="decimal:Decimal")
    with pytest.raises(PluginError, match="TypeError: it is no Decimal"):
        things.get("mine")


def test_a_missing_lazy_target_of_the_program_is_named() -> None:
    things = Registry("thing")
    things.register("mine", "fractions:Fractoin")
    with pytest.raises(PluginError, match=r"'mine' \(registered by the program\).*has no attribute 'Fractoin'"):
        things.get("mine")


def test_what_an_extra_of_ours_lacks_is_still_said_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(registry.algorithms._entries, "tqc", "sb3_contrib:TQC")
    monkeypatch.setattr("rl_framework.errors.find_spec", lambda module: None)
    with pytest.raises(MissingExtraError, match=r"rl-framework\[contrib\]"):
        registry.algorithms.get("tqc")


# Ours


def test_every_registry_knows_our_names_whatever_was_imported_before() -> None:
    code = (
        "import sys\n"
        "from rl_framework import registry\n"
        "assert 'torch' not in sys.modules\n"
        "for one in registry.all_registries(): print(one.kind, one.group, len(one), *one)\n"
        "origins = {entry.origin for entry in registry.describe()}\n"
        "assert origins == {'rl_framework'}, origins\n"
    )
    lines = _run(code, cwd=EXAMPLE).splitlines()
    names = {line.split()[0]: line.split()[3:] for line in lines if line.split()[1].startswith("rl_framework.")}
    assert {"ppo", "tqc", "q_learning"} <= set(names["algorithm"])
    for kind, some in {
        "agent": "stable_baselines",
        "activation": "relu",
        "connector": "tensorboard",
        "environment_adapter": "unity",
        "features_extractor": "nature_cnn",
        "offline_algorithm": "cql",
        "optimizer": "adam",
        "replay_buffer": "her",
        "reward_network": "basic",
        "schedule": "linear",
    }.items():
        assert some in names[kind]
    groups = [line.split()[1] for line in lines if line.split()[1].startswith("rl_framework.")]
    assert len(set(groups)) == len(groups)


# A package that pip installed


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder into which pip installed the example; a build would leave files beside the source."""
    source, target = tmp_path_factory.mktemp("source") / "plugin_example", tmp_path_factory.mktemp("installed")
    shutil.copytree(EXAMPLE, source)
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-build-isolation", "--no-deps", "--no-index"]
    offline = {**os.environ, "PIP_DISABLE_PIP_VERSION_CHECK": "1", "PIP_CONFIG_FILE": os.devnull}
    subprocess.run([*command, "--target", str(target), str(source)], check=True, env=offline)
    return target


# Few processes: each of them loads torch.

TRAIN = """
import sys
import rl_framework
from rl_framework import registry

assert "corridor_kit" not in sys.modules
agent = rl_framework.CustomAgent("expected_sarsa")
connector = registry.connectors.get("table")("numbers.csv")
agent.train("corridor", 3000, 2, connector=connector, seed=0, progress_bar=False)
result = agent.evaluate("corridor", 5, deterministic=True, seed=0)
assert result.mean == 1.0 and set(result.lengths) == {5}, result
agent.save_to_file("agent.zip")
assert "episode/return" in open("numbers.csv").read()
ours = [entry for entry in registry.describe(load=True) if entry.origin == "corridor-kit 1.2.0"]
assert not any(entry.is_broken for entry in ours), ours
print(*sorted(entry.kind for entry in ours))

from rl_framework.agent.reinforcement import ComposedAgent

ppo = {"type": "ppo", "n_steps": 64, "gamma": 0.9}
parts = [ppo, {"type": "weight_decay", "weight": 1e-5}]
agent = ComposedAgent(parts, networks={"type": "normalised_layers", "width": 16}, learning_rate=3e-3)
agent.train("corridor", 2048, 4, seed=0, progress_bar=False, wrappers=[{"type": "step_cost", "cost": 0.02}])
agent.save_to_file("composed.zip")

from rl_framework.experiment import Experiment
from rl_framework.experiment.presets import list_presets, preset_for

assert "expected_sarsa/corridor" in list_presets()
assert preset_for("expected_sarsa", "corridor").source == "corridor-kit"
experiment = Experiment.from_config({"base": "expected_sarsa/corridor", "seed": 0, "training": {"progress_bar": False}})
experiment.build().train()
print(experiment.evaluate().mean)
"""

ACT = """
import rl_framework
for file in ("agent.zip", "composed.zip"):
    agent = rl_framework.load_agent(file)
    print(agent.evaluate("corridor", 1, deterministic=True, seed=0, environment_kwargs={"length": 6}).mean)
"""

REFUSE = """
import rl_framework
for file in ("agent.zip", "composed.zip"):
    try:
        rl_framework.load_agent(file)
    except rl_framework.BundleError as error:
        print(error)
"""


def test_an_installed_package_is_trained_with_configured_saved_and_loaded(installed: Path, tmp_path: Path) -> None:
    kinds, experiment = _run(TRAIN, installed, cwd=tmp_path).splitlines()
    assert kinds == "algorithm connector environment_adapter network part preset wrapper"
    assert experiment == "1.0"
    tabular, composed = map(float, _run(ACT, installed, cwd=tmp_path).split())
    assert tabular == 1.0
    assert composed > 0.5  # each step costs 0.02
    without_it = _run(REFUSE, cwd=tmp_path).splitlines()
    assert len(without_it) == 2
    assert all("install 'corridor-kit'" in line for line in without_it)


def test_the_page_works_as_printed(installed: Path, tmp_path: Path) -> None:
    page = (EXAMPLE.parents[1] / "docs" / "plugins.md").read_text()
    first, *blocks = re.findall(r"```python\n(.*?)```", page, flags=re.DOTALL)
    printed = _run(
        first.replace("my_package.environments:MyAdapter", "corridor_kit.environment:CorridorAdapter")
        + "\n".join(blocks)
        + "\nassert agent.evaluate('my_simulator', 1, deterministic=True, seed=0).mean == 1.0",
        installed,
        cwd=tmp_path,
    )
    assert "algorithm expected_sarsa corridor-kit 1.2.0 \n" in printed
    assert "environment_adapter my_simulator registered by the program \n" in printed
    (shown,) = re.findall(r"```toml\n(.*?)```", page, flags=re.DOTALL)
    declared = tomllib.loads((EXAMPLE / "pyproject.toml").read_text())["project"]["entry-points"]
    for group, names in tomllib.loads(shown)["project"]["entry-points"].items():
        assert declared[group] == names
    for call in (name for name in rl_framework.__all__ if name.startswith("register_")):
        assert f"`{call}`" in page
