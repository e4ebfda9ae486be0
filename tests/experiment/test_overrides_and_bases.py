"""Overrides put values into a configuration; bases lie below it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from rl_framework import registry
from rl_framework.errors import ConfigurationError
from rl_framework.experiment import load_config
from rl_framework.experiment.reading.documents import Document
from rl_framework.experiment.reading.overrides import apply_overrides, parse_key, read_overrides

BASIC = {"agent": {"algorithm": "ppo"}, "environment": {"id": "CartPole-v1"}}


def applied(data: Any, *overrides: str) -> Any:
    return apply_overrides(Document(data), read_overrides(overrides)).data


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("a", ("a",)),
        ("a.b-c.d", ("a", "b-c", "d")),
        ("a[0].b[12]", ("a", 0, "b", 12)),
        ("", None),
        (".a", ("a",)),
        ("a..b", None),
        ("a.", None),
        ("[0]", None),
        ("a[x]", None),
        ("a b", None),
        ("a[-1]", None),
    ],
)
def test_keys(text: str, key: Any) -> None:
    assert parse_key(text) == key


def test_values_are_yaml() -> None:
    assert applied({}, "a=3e-4", "b.c=[1, x]", "d={e: true}", "f=", "g=a=b", "h='1'") == {
        "a": 3e-4,
        "b": {"c": [1, "x"]},
        "d": {"e": True},
        "f": None,
        "g": "a=b",
        "h": "1",
    }


def test_lists_are_changed_and_grow_by_one() -> None:
    data = {"a": [{"b": 1}, {"b": 2}]}
    assert applied(data, "a[1].b=3", "a[2].b=4") == {"a": [{"b": 1}, {"b": 3}, {"b": 4}]}
    assert data == {"a": [{"b": 1}, {"b": 2}]}
    assert applied({}, "a[0]=1") == {"a": [1]}


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("a[3]=1", "override: a[3]: a has 1 entries, so that [1] would be the next one"),
        ("b.c=1", "override: b.c: b is int and no mapping, so that it has no 'c'"),
        ("b[0]=1", "override: b[0]: b is no list"),
        ("a", "override: 'a' is none: write a.b=value"),
        ("=1", "is none"),
        ("a=[1", "override: a: is no YAML"),
        ("a=!!python/name:os.system", "override: a: the tag"),
    ],
)
def test_wrong_overrides_are_told(override: str, said: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        applied({"a": [1], "b": 1}, override)
    assert said in str(caught.value)


def test_an_unknown_key_of_an_override_is_told_with_the_near_one() -> None:
    with pytest.raises(ConfigurationError) as caught:
        load_config(BASIC, ["training.total_timestep=1", "agent.parameters.n_stps=8", "seed=-1", "trainn.x=1"])
    lines = str(caught.value).splitlines()
    assert len(lines) == 4
    assert all(line.startswith("override: ") for line in lines)
    text = str(caught.value)
    assert "training.total_timestep: there is no such key: did you mean 'total_timesteps'" in text
    assert "agent.parameters.n_stps: 'n_stps': not known. Did you mean 'n_steps'" in text
    assert "seed: must be at least 0, and is -1" in text


def test_a_later_override_wins_and_a_file_is_told_apart_from_it(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text("agent: {algorithm: ppo}\nenvironment: {id: CartPole-v1}\ntraining:\n  total_timesteps: no\n")
    assert load_config(path, ["training.total_timesteps=5", "training.total_timesteps=6"]).training.total_timesteps == 6
    with pytest.raises(ConfigurationError, match=r"a\.yaml:4: training\.total_timesteps: must be an integer"):
        load_config(path)
    with pytest.raises(ConfigurationError, match=r"^override: training\.total_timesteps: must be at least 1"):
        load_config(path, ["training.total_timesteps=0"])


# Bases


def write(folder: Path, **files: str) -> Path:
    for name, text in files.items():
        (folder / f"{name}.yaml").write_text(text)
    return folder / "top.yaml"


def test_files_override_their_bases_key_by_key(tmp_path: Path) -> None:
    (tmp_path / "more").mkdir()
    top = write(
        tmp_path,
        top="base: [low.yaml, more/mid.yaml]\ntraining: {total_timesteps: 7}\nagent: {parameters: {n_steps: 8}}",
        low="agent: {algorithm: ppo, parameters: {n_steps: 4, gamma: 0.5}}\nenvironment: {id: CartPole-v1}\nseed: 1",
    )
    write(tmp_path / "more", mid="base: lowest.yaml\nseed: 2", lowest="seed: 3\nname: lowest\nconnectors: []")
    config = load_config(top)
    assert config.agent is not None
    assert config.agent.given()["parameters"] == {"n_steps": 8, "gamma": 0.5}
    assert (config.seed, config.name, config.training.total_timesteps) == (2, "lowest", 7)
    assert load_config(top, ["base=low.yaml"]).seed == 1


def test_another_type_takes_the_place_of_the_whole(tmp_path: Path) -> None:
    top = write(
        tmp_path,
        top="base: low.yaml\nagent: {type: custom, algorithm: q_learning}\nenvironment: {id: FrozenLake-v1}",
        low="agent: {type: stable_baselines, algorithm: ppo, parameters: {n_steps: 4}, normalize_observations: true}",
    )
    config = load_config(top)
    assert config.agent is not None
    assert config.agent.to_data() == {"type": "custom", "algorithm": "q_learning"}


def test_a_mistake_in_a_base_is_told_with_its_file(tmp_path: Path) -> None:
    top = write(tmp_path, top="base: low.yaml\nsed: 1", low="agent: {algorithm: ppo}\n\nenvironment: {idd: x}")
    with pytest.raises(ConfigurationError) as caught:
        load_config(top)
    text = str(caught.value)
    assert f"{tmp_path / 'low.yaml'}:3: environment.idd: there is no such key: did you mean 'id'" in text
    assert f"{top}:2: sed: there is no such key: did you mean 'seed'" in text


@pytest.mark.parametrize("loop", ["top.yaml", "low.yaml"])
def test_a_base_of_itself_is_refused(tmp_path: Path, loop: str) -> None:
    top = write(tmp_path, top="base: low.yaml", low=f"base: {loop}")
    with pytest.raises(ConfigurationError, match=r"is based on itself: .*low\.yaml"):
        load_config(top)


@pytest.mark.parametrize(
    ("base", "said"),
    [
        ("gone.yaml", "base: there is no file"),
        ("ppo/CartPol-v1", r"base: 'ppo/CartPol-v1': not known\. Did you mean '(?i:ppo/CartPole-v1)'"),
        ("{a: 1}", "base: must be the name of a preset"),
        ("[1]", "base: must be the name of a preset"),
    ],
)
def test_a_wrong_base_is_told(tmp_path: Path, base: str, said: str) -> None:
    with pytest.raises(ConfigurationError, match=said):
        load_config(write(tmp_path, top=f"seed: 1\nbase: {base}"))


def test_a_preset_is_a_base_and_so_is_one_of_ones_own(monkeypatch: pytest.MonkeyPatch) -> None:
    config = load_config({"base": "PPO/cartpole-v1", "training": {"total_timesteps": 10}})
    assert config.agent is not None
    assert config.agent.given()["algorithm"] == "ppo"
    assert config.environment is not None
    assert config.environment.id == "CartPole-v1"
    assert config.training.total_timesteps == 10
    monkeypatch.setattr(registry.presets, "_entries", dict(registry.presets._entries))
    registry.register_preset("a2c/mine", {"agent": {"algorithm": "a2c"}, "environment": {"id": "Acrobot-v1"}})
    config = load_config({"base": "a2c/mine"})
    assert config.environment is not None
    assert config.environment.id == "Acrobot-v1"
