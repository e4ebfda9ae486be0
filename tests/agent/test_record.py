"""What a run was made with is recorded, and nothing secret or personal with it."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from rl_framework.agent import record as module
from rl_framework.agent.record import redacted, run_record


@pytest.fixture
def repository(tmp_path):
    if shutil.which("git") is None:
        pytest.skip("git is not installed")

    def git(*arguments):
        identity = ["-c", "user.name=nobody", "-c", "user.email=nobody@example.org"]
        return subprocess.run(["git", *identity, *arguments], check=True, capture_output=True, text=True).stdout.strip()

    git("init", "--quiet")
    Path("train.py").write_text("print(1)")
    git("add", "train.py")
    git("commit", "--quiet", "--message", "first")
    return git


def test_a_record_can_be_written_as_json_and_names_what_training_depends_on():
    record = json.loads(json.dumps(run_record("cpu"), allow_nan=False))
    assert {"python", "rl-framework", "stable-baselines3", "gymnasium", "torch", "numpy"} <= set(record["versions"])
    assert record["versions"]["python"] == ".".join(map(str, sys.version_info[:3]))
    assert record["platform"]["machine"]
    assert record["platform"]["cpu_count"] == os.cpu_count()
    assert record["device"] == "cpu"
    assert len(record["command_line"]) == len(sys.argv)


def test_the_commit_and_whether_something_was_changed_since(repository):
    assert run_record()["git"] == {"commit": repository("rev-parse", "HEAD"), "dirty": False}
    Path("runs.json").write_text("a result of the run, which git does not know")
    assert run_record()["git"]["dirty"] is False
    Path("train.py").write_text("print(2)")
    assert run_record()["git"]["dirty"] is True


def test_without_a_repository_or_without_git_there_is_none(monkeypatch, tmp_path):
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert run_record()["git"] is None
    monkeypatch.setenv("PATH", str(tmp_path))
    assert run_record()["git"] is None


@pytest.mark.parametrize("failure", [OSError("no"), subprocess.TimeoutExpired("git", 2)])
def test_a_git_that_fails_or_hangs_does_not_stop_a_run(monkeypatch, failure):
    def fail(*arguments, **keywords):
        assert keywords["timeout"] <= 5
        raise failure

    monkeypatch.setattr(module.subprocess, "run", fail)
    assert run_record()["git"] is None


def test_environment_variables_and_names_of_people_and_machines_are_not_recorded(monkeypatch, tmp_path):
    monkeypatch.setenv("MY_TOKEN", "environment-secret")
    monkeypatch.setenv("HOME", str(tmp_path / "somebody"))
    command = [str(tmp_path / "train.py"), f"--data={tmp_path / 'somebody' / 'data'}", str(tmp_path / "a")]
    record = run_record(command_line=command)
    assert "environment-secret" not in json.dumps(record)
    assert str(tmp_path) not in json.dumps(record)
    assert record["command_line"][0] == "./train.py"


@pytest.mark.parametrize(
    "arguments",
    [
        ["--token", "S3CRET"],
        ["--hub-token", "S3CRET"],
        ["-token=S3CRET"],
        ["--token=S3CRET"],
        ["token=S3CRET"],
        ["--apiKey", "S3CRET"],
        ["--api_key=S3CRET"],
        ["key=S3CRET"],
        ["wandb.api-key=S3CRET"],
        ["--PASSWORD", "S3CRET"],
        ["--password=S3CRET with spaces"],
        ["HF_TOKEN=S3CRET"],
        ["connector={token: S3CRET}"],
        ["--header", "Authorization: Bearer S3CRET"],
        ["--header", "Authorization:S3CRET"],
        ["https://user:S3CRET@example.org/path"],
        ["https://S3CRET@example.org/path"],
        ["https://example.org/?token=S3CRET&x=1"],
        ["hf_S3CRETabcdefgh"],
        ["--hub=hf_S3CRETabcdefgh"],
        ["ghp_S3CRETabcdefgh"],
        ["sk-S3CRETabcdefgh"],
        ["--x", "S3CRET0123456789abcdef0123456789abcdef"],
        ["eyJS3CRETabc.eyJS3CRETdef.S3CRET_ghi"],
    ],
)
def test_what_looks_like_a_secret_is_hidden(arguments):
    shown = redacted(["train.py", *arguments, "--lr", "1e-3"])
    assert "S3CRET" not in " ".join(shown)
    assert "***" in " ".join(shown)
    assert shown[0] == "train.py"
    assert shown[-2:] == ["--lr", "1e-3"]


def test_everything_else_stays_as_it_was():
    command = ["train.py", "--algorithm", "ppo", "--lr=0.0003", "-1", "CartPole-v1", "policy_kwargs.net_arch=[64,64]"]
    assert redacted(command) == command
