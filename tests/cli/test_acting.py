"""`evaluate`, `infer`, `record`, `collect` and `export` do with a saved agent what Python does with it."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from tests.cli.commands import SMALL, rl

import rl_framework
from rl_framework.episode import EpisodeSequence


def test_evaluation_is_that_of_the_agent(trained: Path) -> None:
    agent = rl_framework.load_agent(trained / "agent.zip")
    result = agent.evaluate("CartPole-v1", 5, deterministic=True, seed=11)
    before = (trained / "results.json").read_bytes()
    data = rl("evaluate", str(trained), "--episodes", "5", "--deterministic", "--seed", "11", "--json").data
    low, high = result.confidence_interval()
    assert data == {
        "run": str(trained),
        "mean": result.mean,
        "std": result.std,
        "iqm": result.iqm,
        "interval_95": [low, high],
        "n_episodes": 5,
        "returns": result.returns.tolist(),
        "lengths": result.lengths.tolist(),
        "seed": 11,
        "deterministic": True,
        "environment": "CartPole-v1",
    }
    assert (trained / "results.json").read_bytes() == before
    assert "IQM" in rl("evaluate", str(trained / "agent.zip"), "--episodes", "2").out


def test_a_bundle_alone_is_evaluated_where_its_record_says(trained: Path, tmp_path: Path) -> None:
    alone = tmp_path / "alone.zip"
    alone.write_bytes((trained / "agent.zip").read_bytes())
    assert rl("evaluate", "alone.zip", "--episodes", "2", "--json").data["environment"] == "CartPole-v1"
    checkpoint = next((trained / "checkpoints").glob("*.zip"))
    assert rl("evaluate", str(checkpoint), "--episodes", "1", "--json").data["n_episodes"] == 1


def test_it_acts_as_in_an_evaluation_with_one_environment(trained: Path) -> None:
    agent = rl_framework.load_agent(trained / "agent.zip")
    result = agent.evaluate("CartPole-v1", 3, deterministic=True, seed=5, n_environments=1)
    said = rl("infer", str(trained), "--episodes", "3", "--seed", "5", "--json")
    assert said.data["returns"] == result.returns.tolist()
    assert said.data["video"] is None
    assert said.err.count("episode ") == 3
    sampled = rl("infer", str(trained), "--episodes", "3", "--seed", "5", "--stochastic", "--json").data
    assert sampled["returns"] == agent.evaluate("CartPole-v1", 3, seed=5, n_environments=1).returns.tolist()


def test_it_is_filmed_for_whole_episodes(copied: Path) -> None:
    first = rl("infer", str(copied), "--render", "film", "--seed", "1", "--json").data
    second = rl("infer", str(copied), "--render", "film", "--seed", "1", "--json").data
    assert [Path(each["video"]).name for each in (first, second)] == ["infer.mp4", "infer-2.mp4"]
    named = rl("infer", str(copied), "--render", "film", "a.gif", "--seed", "1", "--json").data
    assert named["video"] == "a.gif"
    from PIL import Image

    with Image.open("a.gif") as film:
        assert film.n_frames == named["lengths"][0]  # type: ignore[attr-defined]
    assert "is there already" in rl("infer", str(copied), "--render", "a.gif", code=2).err


def test_a_window_is_opened(copied: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import pygame

    shown: list[tuple[int, int]] = []
    real = pygame.display.set_mode

    def noted(size: tuple[int, int], *arguments: object) -> object:
        shown.append(size)
        return real(size, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(pygame.display, "set_mode", noted)
    monkeypatch.setenv("DISPLAY", ":0")
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")
    assert "no screen" not in rl("infer", str(copied), "--render", "human").err
    assert shown == [(600, 400)]


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere there is always a screen")
def test_a_window_that_nobody_sees_is_told(trained: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")
    assert "there is no screen here" in rl("infer", str(trained), "--render", "human").err


def test_mistakes_of_acting_are_told(trained: Path) -> None:
    assert "must be human, film, none" in rl("infer", str(trained), "--render", "screen", code=2).err
    assert "is for --render film" in rl("infer", str(trained), "a.mp4", code=2).err
    assert "PATH='a.avi': is no name of" in rl("infer", str(trained), "a.avi", "--render", "film", code=2).err
    assert "the agent was built for" in rl("infer", str(trained), "--env", "Pendulum-v1", code=2).err
    elsewhere = rl("evaluate", str(trained), "--env", "Pendulum-v1", code=2).err
    assert elsewhere.startswith("error: --env=")
    assert rl("evaluate", str(trained), "--episodes", "0", code=2).err.startswith("error: --episodes=0: must be")
    Path("taken").mkdir()
    Path("taken/else.txt").write_text("kept")
    assert rl("collect", str(trained), "--out", "taken", code=2).err.startswith("error: --out='taken': there is")
    unknown = rl("evaluate", str(trained.parent / "tinny"), "--json", code=2)
    assert unknown.data["error"]["suggestions"] == [str(trained)]
    assert unknown.data["exit_code"] == 2
    assert "has no such agent" in rl("evaluate", str(trained), "--which", "best", code=2).err
    Path("text.zip").write_text("text")
    assert "error: " in rl("evaluate", "text.zip", code=2).err


def test_a_video_is_recorded(copied: Path) -> None:
    data = rl("record", str(copied), "--length", "5", "--overlay", "return,action", "--json").data
    assert data["video"] == "runs/tiny/videos/replay.mp4"
    assert Path(data["video"]).stat().st_size > 0
    said = rl("record", str(copied), "--overlay", "reward,rewards", "--out", "b.gif", code=2)
    assert "is nothing that can be shown" in said.err


def test_episodes_are_collected(trained: Path) -> None:
    data = rl("collect", str(trained), "--episodes", "3", "--seed", "2", "--out", "episodes", "--json").data
    sequence = EpisodeSequence.from_dataset("episodes")
    agent = rl_framework.load_agent(trained / "agent.zip")
    same = EpisodeSequence.collect(agent, "CartPole-v1", 3, 2)
    assert np.array_equal(sequence.returns, same.returns)
    assert data["n_transitions"] == sequence.n_transitions
    assert "--out" in rl("collect", str(trained), "--episodes", "1", code=2).err
    assert "there is something already" in rl("collect", str(trained), "--out", "episodes", code=2).err
    said = rl("collect", "random", "--env", "CartPole-v1", "--episodes", "2", "--out", "b")
    assert said.out.splitlines()[-1] == "Episodes: b"
    assert len(EpisodeSequence.from_dataset("b")) == 2
    assert "chance has been trained nowhere" in rl("collect", "random", "--out", "c", code=2).err


def test_it_is_exported_where_the_agent_can_be(copied: Path) -> None:
    data = rl("export", str(copied), "--format", "sb3", "--json").data
    assert data["path"] == "runs/tiny/tiny-sb3.zip"
    again = rl_framework.StableBaselinesAgent.from_library_zip(data["path"], trust=True)
    assert again.num_timesteps == 64
    assert "is there already" in rl("export", str(copied), "--out", data["path"], code=2).err
    options = ["--algo", "ppo+entropy", "--env", "CartPole-v1", "--total-timesteps", "16", "evaluation=null"]
    rl("train", *options, "agent.parts[0].n_steps=16", "agent.parts[0].batch_size=16", "--name", "parts")
    assert "ComposedAgent has no such form" in rl("export", "runs/parts", "--format", "unity", code=2).err


def test_a_strangers_record_is_not_imported(tmp_path: Path) -> None:
    """An id with a module in it would import the module."""
    (tmp_path / "evil.py").write_text("raise SystemExit('imported')")
    options = ["--algo", "ppo", "--no-preset", "--env", "CartPole-v1", "--total-timesteps", "16", "evaluation=null"]
    rl("train", *options, "--name", "stranger", *SMALL)
    agent = rl_framework.load_agent("runs/stranger/agent.zip")
    record = agent.history()["runs"][-1]
    agent._runs = ({**record, "environment": "evil:CartPole-v1"},)
    agent.save_to_file("stranger.zip")
    said = rl("evaluate", "stranger.zip", code=2)
    assert "does not say where it was trained" in said.err
    assert json.dumps(record["environment"]) == '"CartPole-v1"'


def test_a_configuration_beside_an_agent_makes_no_run(trained: Path) -> None:
    Path("agent.zip").write_bytes((trained / "agent.zip").read_bytes())
    Path("config.yaml").write_text("agent: {algorithm: sac}\nenvironment: {id: Pendulum-v1}\n")
    assert rl("evaluate", "agent.zip", "--episodes", "1", "--json").data["environment"] == "CartPole-v1"
