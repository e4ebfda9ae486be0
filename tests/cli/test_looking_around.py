"""`list`, `doctor` and `schema` tell what there is, where it comes from, and what is wrong with it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.cli.commands import rl
from tests.registry.conftest import InstallPackage, install_package

from rl_framework import registry
from rl_framework.cli import diagnosis, extras
from rl_framework.experiment import Experiment

__all__ = ["install_package"]


def names(what: str, *more: str) -> set[str]:
    return {row["name"] for row in rl("list", what, *more, "--json").data[what]}


def test_everything_that_can_be_asked_for_is_listed() -> None:
    assert {"ppo", "bc", "cql", "q_learning", "recurrent_ppo"} <= names("algorithms")
    assert {"mlp", "cnn", "impala_cnn", "gru"} <= names("networks")
    assert {"gymnasium", "unity", "isaac", "omniverse"} <= names("backends")
    assert {"ppo", "rnd"} <= names("parts")
    assert {"time_limit", "atari"} <= names("wrappers")
    assert {"local", "huggingface", "storage"} <= names("connectors")
    assert "ppo/CartPole-v1" in names("presets", "cartpole")
    assert "sac/Pendulum-v1" not in names("presets", "cartpole")
    families = rl("list", "environments", "--json").data["environments"]
    assert {"family": "toy_text", "installed": True, "extra": None}.items() <= {
        **next(row for row in families if row["family"] == "toy_text")
    }.items()
    assert "FrozenLake-v1" in rl("list", "environments", "toy_text").out
    assert "algorithms" in rl("list").out
    assert "Did you mean 'algorithms'" in rl("list", "algorithmss", code=2).err


def test_runs_are_listed(trained: Path) -> None:
    (row,) = rl("list", "runs", "--run-dir", str(trained.parent), "--json").data["runs"]
    assert row["run"] == str(trained)
    assert (row["status"], row["timesteps"]) == ("finished", 64)
    assert rl("list", "runs").out == "no runs\n"


def test_plugins_are_listed_with_their_origin_and_what_is_broken(install_package: InstallPackage) -> None:
    wrappers = {"fine": "fine_wrapper:Fine", "broken": "no_such_module:Broken"}
    install_package("my-kit", {"wrappers": wrappers}, {"fine_wrapper": "class Fine:\n    pass\n"})
    rows = {row["name"]: row for row in rl("list", "plugins", "--json").data["plugins"]}
    assert rows["fine"]["origin"] == rows["broken"]["origin"] == "my-kit 1.0"
    assert not rows["fine"]["is_broken"]
    assert "No module named 'no_such_module'" in rows["broken"]["note"]
    assert "my-kit 1.0" in rl("list", "wrappers", "fine").out
    found = rl("doctor", "--json").data
    # Tests before may have registered something in this process.
    works = {row["name"]: row["works"] for row in found["plugins"] if row["origin"] == "my-kit 1.0"}
    assert works == {"fine": True, "broken": False}
    assert found["ok"]
    assert "broken: " in rl("doctor").out
    assert "broken" in registry.wrappers


def test_the_doctor_says_what_is_here() -> None:
    said = rl("doctor", "--json")
    found = said.data
    import torch

    assert found["ok"]
    assert found["problems"] == []
    assert found["torch"]["version"] == torch.__version__
    assert {"gymnasium", "torch", "stable-baselines3"} <= {each["name"] for each in found["core"]}
    assert found["runs"]["writable"]
    assert found["runs"]["free_bytes"] > 0
    video = next(each for each in found["extras"] if each["name"] == "video")
    assert {package["name"] for package in video["packages"]} == {"imageio-ffmpeg", "pillow"}
    imitation = next(each for each in found["extras"] if each["name"] == "imitation")
    assert "imitation" in {package["name"] for package in imitation["packages"]}
    assert "all" not in {each["name"] for each in found["extras"]}
    assert not Path("runs").exists()


def test_the_doctor_says_what_would_fail_and_what_mends_it(monkeypatch: pytest.MonkeyPatch) -> None:
    real = extras.version

    def version(name: str) -> str:
        if name == "imageio-ffmpeg":
            raise extras.PackageNotFoundError(name)
        return "0.1" if name == "onnx" else real(name)

    monkeypatch.setattr(extras, "version", version)
    found = {each["name"]: each for each in rl("doctor", "--json").data["extras"]}
    assert found["video"]["wrong"] == ["imageio-ffmpeg is missing"]
    assert found["video"]["command"] == 'pip install "rl-framework[video]"'
    assert found["onnx"]["wrong"] == ["onnx 0.1: >=1.18 is needed"]
    text = rl("doctor").out
    assert "imageio-ffmpeg is missing. Would fail: films" in " ".join(text.split())


def test_the_doctor_fails_if_the_core_does(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setattr(extras, "needed_by_core", list)
    broken = extras.PackageState("torch", ">=2.8", "1.0", fits=False)
    monkeypatch.setattr(diagnosis, "needed_by_core", lambda: [broken])
    said = rl("doctor", "--json", code=1)
    assert said.data["problems"] == ["torch 1.0: >=2.8 is needed"]
    monkeypatch.setattr(diagnosis, "needed_by_core", list)
    assert "file" in rl("doctor", "--run-dir", "file", "--json", code=1).data["problems"][0]


def test_every_extra_is_explained() -> None:
    for needed in extras.needed_by_extras():
        assert needed.fails, f"say in rl_framework.cli.extras what does not work without {needed.extra}"


def test_the_schema_is_written(monkeypatch: pytest.MonkeyPatch) -> None:
    schema = {"properties": {"training": {"description": "How long [to] train"}}}
    monkeypatch.setattr(Experiment, "json_schema", lambda: schema)  # the real one takes seconds; it has its own tests
    assert json.loads(rl("schema").out) == schema
    assert rl("schema", "--json").data == schema
    rl("schema", "--out", "schema.json")
    assert json.loads(Path("schema.json").read_text()) == schema
