"""`push` and `pull` go through connectors; no token is taken from the command line or shown."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.cli.commands import rl
from tests.servers.hub import WRITE_TOKEN, loopback_hub

from rl_framework import load_agent


def test_an_agent_goes_to_the_hub_and_comes_back_the_same(
    copied: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with loopback_hub(monkeypatch, tmp_path / "cache") as hub:
        address = "hf://tester/tiny"
        pushed = rl("push", str(copied), "--to", address, "private=true", "--no-video")
        files = hub.repositories["model", "tester/tiny"].files
        assert {"README.md", "agent.zip", "results.json", "metrics.jsonl"} <= set(files)
        assert "tester/tiny" in pushed.out
        data = rl("pull", address, "--json").data
        assert data == {"path": "tiny.zip", "agent": "StableBaselinesAgent", "timesteps": 64}
        assert Path("tiny.zip").read_bytes() == files["agent.zip"]
        assert rl("pull", address, "--json").data["path"] == "tiny-2.zip"
        evaluated = rl("evaluate", address, "--episodes", "2", "--seed", "1", "--json").data
        local = rl("evaluate", str(copied), "--episodes", "2", "--seed", "1", "--json").data
        assert evaluated["returns"] == local["returns"]
        missing = rl("pull", "hf://tester/nobody", code=1)
    assert "tester/nobody" in missing.err
    assert WRITE_TOKEN not in pushed.out + pushed.err + missing.err
    assert not list(copied.glob("upload-*"))


def test_a_folder_is_a_store(trained: Path, tmp_path: Path) -> None:
    alone = tmp_path / "alone.zip"
    alone.write_bytes((trained / "agent.zip").read_bytes())
    rl("push", "alone.zip", "--to", "./store", "n_eval_episodes=2", "--no-video")
    assert rl("pull", "./store", "--out", "back.zip", "--json").data["timesteps"] == 64
    assert load_agent("back.zip").history() == load_agent(alone).history()
    assert "is there already" in rl("pull", "./store", "--out", "back.zip", code=2).err
    Path("store/agent.zip").write_bytes(b"x" * Path("store/agent.zip").stat().st_size)
    assert "checksum" in rl("pull", "./store", "--out", "other.zip", code=1).err
    assert not Path("other.zip").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "either --to or --connector is needed"),
        (("--to", "bad"), "is no address"),
        (("--to", "hf://x/y", "privat=true"), "did you mean 'private'?"),
        (("--connector", "hugingface"), "Did you mean 'huggingface'"),
        (("--connector", "tensorboard"), "keeps no agents"),
    ],
    ids=["nowhere", "no-address", "setting", "connector", "tracker"],
)
def test_mistakes_are_told(trained: Path, arguments: tuple[str, ...], message: str) -> None:
    code = 1 if message == "keeps no agents" else 2
    assert message in rl("push", str(trained), *arguments, code=code).err


def test_a_token_is_refused_on_the_command_line_and_not_shown(trained: Path) -> None:
    token = "hf_" + "NotForTheHistory012345"
    said = rl("push", str(trained), "--connector", "huggingface", "repository_id=a/b", f"token={token}", code=2)
    assert "token: is a secret" in said.err
    assert token not in said.err


def test_connectors_are_fetched_from_by_name(trained: Path) -> None:
    said = rl("pull", "--connector", "clearml", "task=1", code=2)
    assert "there is no such key" in said.err
    assert "either ADDRESS or --connector is needed" in rl("pull", code=2).err
