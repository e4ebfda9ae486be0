from __future__ import annotations

import subprocess
import sys

import pytest

from rl_framework.errors import ArgumentError, UnknownNameError
from rl_framework.registry import Registry, algorithms


class Thing:
    pass


def test_names_are_found_without_regard_to_case() -> None:
    registry = Registry("thing")
    registry.register("Mine", Thing)
    assert registry.get("mine") is registry.get("MINE") is Thing
    assert registry.name_of(Thing) == "mine"
    assert "mInE" in registry
    assert list(registry) == ["mine"]


def test_a_lazy_entry_is_imported_when_asked_for() -> None:
    code = (
        "import sys; from rl_framework.registry import Registry;"
        "r = Registry('t'); r.register('f', 'fractions:Fraction');"
        "assert 'fractions' not in sys.modules; r.get('f'); assert 'fractions' in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_name_of_a_lazy_entry_is_known_before_it_is_resolved() -> None:
    from stable_baselines3 import PPO

    registry = Registry("thing")
    registry.register("ppo", "stable_baselines3:PPO")  # exported from another module than it is defined in
    assert registry.name_of(PPO) == "ppo"
    assert registry.name_of(Thing) is None


def test_a_namesake_is_not_taken_for_the_registered_class() -> None:
    class PPO:
        pass

    assert algorithms.name_of(PPO) is None


def test_unknown_names_suggest_and_say_how_to_add() -> None:
    registry = Registry("thing", "register_thing('x', X)")
    registry.register("hammer", Thing)
    with pytest.raises(UnknownNameError, match=r"Did you mean 'hammer'.*register_thing\('x', X\)"):
        registry.get("hamer")


def test_a_taken_name_is_only_replaced_on_purpose() -> None:
    registry = Registry("thing")
    registry.register("mine", Thing)
    registry.register("mine", Thing)
    with pytest.raises(ArgumentError, match=r"already a thing of that name.*replace=True"):
        registry.register("mine", int)
    registry.register("mine", int, replace=True)
    assert registry.get("mine") is int


def test_the_cell_of_a_notebook_can_run_again() -> None:
    def cell(module: str, name: str) -> type:
        return type(name, (), {"__module__": module, "__qualname__": name})

    registry = Registry("thing")
    registry.register("mine", cell("__main__", "Mine"))
    again = cell("__main__", "Mine")
    registry.register("mine", again)
    assert registry.get("mine") is again
    for other in (cell("__main__", "Other"), cell("elsewhere", "Mine")):
        with pytest.raises(ArgumentError, match="already"):
            registry.register("mine", other)
    registry.register("known", cell("elsewhere", "Mine"))
    with pytest.raises(ArgumentError, match="already"):
        registry.register("known", cell("elsewhere", "Mine"))


@pytest.mark.parametrize("name", ["", None, 3])
def test_a_name_is_a_non_empty_string(name: object) -> None:
    with pytest.raises(ArgumentError, match="non-empty string"):
        Registry("thing").register(name, Thing)  # type: ignore[arg-type]


def test_a_malformed_address_is_refused() -> None:
    with pytest.raises(ArgumentError, match="module:attribute"):
        Registry("thing").register("mine", "fractions.Fraction")
