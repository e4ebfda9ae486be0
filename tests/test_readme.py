"""What the README prints works exactly as printed."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from tests.servers.clearml import loopback_clearml
from tests.servers.hub import loopback_hub
from tests.servers.report_runs import make_run
from tests.servers.s3 import loopback_s3

import rl_framework
from rl_framework import registry

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text()


def block(heading: str) -> str:
    """Returns the Python code under a heading."""
    section = re.split(r"^##+ ", README.partition(f"# {heading}\n")[2], maxsplit=1, flags=re.MULTILINE)[0]
    (code,) = re.findall(r"```python\n(.*?)```", section, flags=re.DOTALL)
    return code


@pytest.fixture
def _registries_as_they_were(monkeypatch: pytest.MonkeyPatch) -> None:
    for kind in (registry.environment_adapters, registry.features_extractors):
        monkeypatch.setattr(kind, "_entries", dict(kind._entries))


def test_there_are_ten_lines() -> None:
    assert len([line for line in block("Ten lines of Python").splitlines() if line.strip()]) == 10


def test_every_block_is_run_by_a_test() -> None:
    headings = set(re.findall(r'[( ]block\("([^"]+)"\)', Path(__file__).read_text()))
    sections = re.split(r"^##+ (.*)\n", README, flags=re.MULTILINE)
    assert headings == {
        heading for heading, text in zip(sections[1::2], sections[2::2], strict=True) if "```python" in text
    }


def test_the_first_example_learns_and_leaves_what_it_says() -> None:
    names: dict[str, object] = {}
    exec(compile(block("Ten lines of Python"), "README.md", "exec"), names)
    assert names["mean_reward"] > 100  # type: ignore[operator]
    directory = Path("runs/my-first-run")
    files = {"agent.zip", "histograms.jsonl", "learning_curve.png", "metrics.jsonl", "record.json", "replay.mp4"}
    assert files == {path.name for path in directory.iterdir()}


def test_the_interrupted_training_goes_on_to_the_same_weights() -> None:
    whole: dict[str, object] = {}
    exec(compile(block("Interrupted? Go on exactly"), "README.md", "exec"), whole)
    newest, _, oldest = sorted(Path("checkpoints").glob("checkpoint_*.zip"), reverse=True)
    newest.unlink()
    resumed: dict[str, object] = {}
    exec(compile(block("Interrupted? Go on exactly"), "README.md", "exec"), resumed)
    states = [names["agent"].algorithm.policy.state_dict() for names in (whole, resumed)]  # type: ignore[attr-defined]
    assert all(tensor.equal(states[1][name]) for name, tensor in states[0].items())
    assert oldest.exists()


def test_the_clone_of_the_expert_acts_like_it_and_goes_on(tmp_path: Path) -> None:
    (tmp_path / "data").symlink_to(ROOT / "data")
    names: dict[str, object] = {}
    exec(compile(block("Learn from an expert's episodes"), "README.md", "exec"), names)
    agent, going_on = names["agent"], names["going_on"]
    assert isinstance(agent, rl_framework.ImitationAgent)
    assert isinstance(going_on, rl_framework.StableBaselinesAgent)
    assert agent.evaluate("CartPole-v1", 20, deterministic=True, seed=0).mean > 450
    assert going_on.num_timesteps == 2_048


def test_parameters_as_data_make_an_agent() -> None:
    names: dict[str, object] = {}
    exec(compile(block("Parameters as data"), "README.md", "exec"), names)
    agent = names["agent"]
    assert isinstance(agent, rl_framework.StableBaselinesAgent)
    agent.train("Pendulum-v1", 8, progress_bar=False, seed=0)
    assert agent.algorithm.actor.latent_pi[1].__class__.__name__ == "Tanh"


@pytest.mark.usefixtures("_registries_as_they_were")
def test_a_features_extractor_is_shared_and_frozen() -> None:
    names: dict[str, object] = {}
    exec(compile(block("Features that reinforcement and imitation learning share"), "README.md", "exec"), names)
    dqn = names["agent"]
    assert isinstance(dqn, rl_framework.StableBaselinesAgent)
    ppo = rl_framework.load_agent("first.zip")
    taken = dqn.algorithm.policy.state_dict()["q_net.features_extractor.module.0.weight"]
    assert taken.equal(ppo.algorithm.policy.state_dict()["features_extractor.module.0.weight"])  # type: ignore[attr-defined]


def test_the_comparison_says_what_is_the_case(capsys: pytest.CaptureFixture[str]) -> None:
    names: dict[str, object] = {}
    exec(compile(block("Is the difference real?"), "README.md", "exec"), names)
    assert names["comparison"].verdict == "a_better"  # type: ignore[attr-defined]
    assert "PPO is better than A2C" in capsys.readouterr().out


@pytest.mark.usefixtures("_registries_as_they_were")
def test_the_simulator_is_learned() -> None:
    names: dict[str, object] = {}
    exec(compile(block("Your own simulator"), "README.md", "exec"), names)
    result = names["agent"].evaluate(names["Corridor"](), 5, deterministic=True, seed=0)  # type: ignore[attr-defined, operator]
    assert result.mean == -10.0  # ten steps to the right are the best there is


def test_files_that_it_names_are_there() -> None:
    for path in re.findall(r"\]\(([^)#:]+)\)", README):
        assert (ROOT / path).exists(), path


def test_extras_are_those_of_the_metadata() -> None:
    from importlib.metadata import metadata

    table = re.findall(r"^\| `([a-z0-9-]+)` \|", README, flags=re.MULTILINE)
    assert set(table) == set(metadata("rl-framework").get_all("Provides-Extra") or [])


def test_the_agent_and_its_episodes_are_shared(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with loopback_hub(monkeypatch, tmp_path / "cache") as hub:
        names: dict[str, object] = {}
        exec(compile(block("Share on the Hugging Face Hub"), "README.md", "exec"), names)
        files = set(hub.repositories["model", "tester/ppo-CartPole-v1"].files)
    wanted = {"README.md", "agent.zip", "replay.mp4", "results.json", "checkpoints/checkpoint_000000004096.zip"}
    assert wanted <= files
    assert len(names["episodes"]) == 10  # type: ignore[arg-type]


def test_the_run_is_tracked_and_its_agent_fetched(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with loopback_clearml(monkeypatch, tmp_path) as server:
        names: dict[str, object] = {}
        exec(compile(block("Track with ClearML"), "README.md", "exec"), names)
        task = server.task()
    assert task["status"] == "completed"
    assert names["again"].num_timesteps == names["agent"].num_timesteps  # type: ignore[attr-defined]


def test_hub_and_clearml_take_less_than_fifteen_lines() -> None:
    for code in (block("Share on the Hugging Face Hub"), block("Track with ClearML")):
        assert len([line for line in code.splitlines() if line.strip()]) < 15


def test_two_groups_learn_in_one_world() -> None:
    names: dict[str, object] = {}
    exec(compile(block("Several agents in one world"), "README.md", "exec"), names)
    multi = names["multi"]
    assert isinstance(multi, rl_framework.MultiAgent)
    assert multi.num_timesteps >= 1_000
    hunters = rl_framework.load_agent("hunters.zip")
    assert isinstance(hunters, rl_framework.StableBaselinesAgent)
    assert hunters.action_space == multi["adversary"].action_space


def test_algorithms_from_parts() -> None:
    names: dict[str, Any] = {}
    exec(compile(block("Algorithms from parts"), "README.md", "exec"), names)
    assert names["agent"].num_timesteps >= 30_000
    assert names["result"].mean > 0.9  # the treasure was found


def test_runs_on_a_bucket(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    with loopback_s3(monkeypatch):
        exec(compile(block("Keep runs on S3, Google Drive, SFTP, the Hub or in a folder"), "README.md", "exec"), names)
    assert names["same_agent"].num_timesteps == 256
    assert names["resumed"].num_timesteps == 512


def test_one_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    (text,) = re.findall(r"```yaml\n(# walker.yaml.*?)```", README, flags=re.DOTALL)
    Path("walker.yaml").write_text(text)
    names: dict[str, Any] = {}
    exec(compile(block("One file, one command"), "README.md", "exec"), names)
    assert names["agent"].num_timesteps >= 2_048
    assert Path("runs/ppo-LunarLander-v3/agent.zip").is_file()


def test_the_commands_are_understood() -> None:
    """What they do is tested with the command line; here, that they are spelled as it takes them."""
    commands = re.findall(r"^rl-framework ([a-z]+)(.*)$", README, flags=re.MULTILINE)
    assert {verb for verb, _ in commands} >= {"train", "evaluate", "record", "resume", "doctor"}
    for verb, rest in commands:
        text = subprocess.run(
            [sys.executable, "-m", "rl_framework", verb, "--help"], capture_output=True, text=True, check=True
        ).stdout
        for option in re.findall(r"--[a-z-]+", rest.partition("#")[0]):
            assert option in text, (verb, option)


def test_wrappers_travel_with_the_agent(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    exec(compile(block("Environments and wrappers by name"), "README.md", "exec"), names)
    loaded = rl_framework.load_agent("pong.zip")
    assert [wrapper["type"] for wrapper in loaded.wrappers] == ["atari", "frame_stack"]
    assert Path("pong.mp4").stat().st_size > 0


def test_in_a_notebook(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    exec(compile(block("In a notebook"), "README.md", "exec"), names)
    assert names["agent"].num_timesteps == 4_096
    assert Path("replay.mp4").stat().st_size > 0


def test_a_page_about_runs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs").mkdir()
    make_run(tmp_path / "runs" / "made-up")
    exec(compile(block("Look at runs"), "README.md", "exec"), {})
    assert "made-up" in Path("report.html").read_text()
    assert list(Path().glob("report.*.png"))


def test_the_search_is_one_that_is_understood(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    experiment, search = re.findall(r"```yaml\n(.*?)```", README, flags=re.DOTALL)
    path = tmp_path / "walker.yaml"
    path.write_text(experiment + search)
    monkeypatch.chdir(tmp_path)
    assert rl_framework.Tuning.from_yaml(path) is not None
    path.write_text(experiment + search.replace("gamma", "gama"))
    with pytest.raises(rl_framework.ConfigurationError, match="gamma"):
        rl_framework.Tuning.from_yaml(path)


def test_trackers_that_need_no_server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    exec(compile(block("Weights & Biases, MLflow, TensorBoard"), "README.md", "exec"), names)
    assert names["agent"].num_timesteps == 512
    assert list(tmp_path.glob("**/*.wandb"))
    assert list(tmp_path.glob("tensorboard/*tfevents*"))
