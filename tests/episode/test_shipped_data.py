"""The data set in the clone is what its README says, and its script makes such data sets."""

from __future__ import annotations

import importlib.util
import shutil
from pathlib import Path
from types import ModuleType

import gymnasium
import numpy as np
import pytest

from rl_framework import EpisodeSequence
from rl_framework.errors import EpisodeDataError

ROOT = Path(__file__).resolve().parents[2]
EXPERT = ROOT / "data" / "cartpole_expert"


@pytest.fixture(scope="module")
def expert() -> EpisodeSequence:
    return EpisodeSequence.load(EXPERT)


def test_it_is_what_its_readme_says(expert: EpisodeSequence) -> None:
    assert len(expert) == 40
    assert expert.n_transitions == 20_000
    assert set(expert.returns) == {500.0}
    assert not any(episode.terminated for episode in expert)
    assert all(episode.truncated for episode in expert)
    environment = gymnasium.make("CartPole-v1")
    assert expert.observation_space == environment.observation_space
    assert expert.action_space == environment.action_space
    assert not expert.spaces_are_inferred
    assert len({episode.observations[0].tobytes() for episode in expert}) == 40, "every episode has its own start"
    readme = (ROOT / "data" / "README.md").read_text(encoding="utf-8")
    size = sum(file.stat().st_size for file in EXPERT.iterdir())
    assert size < 1_000_000
    for words in ("40, of 500 steps each: 20,000 transitions", f"{size / 1e6:.2f} MB", "MIT"):
        assert words in readme


def test_every_transition_is_one_of_the_environment(expert: EpisodeSequence) -> None:
    environment = gymnasium.make("CartPole-v1").unwrapped
    environment.reset()
    batch = expert.transitions().all()
    assert set(batch.rewards.tolist()) == {1.0}
    for row in range(0, len(batch), 40):
        # The environment computes in float64 and shows float32.
        environment.state = batch.observations[row].astype(np.float64)  # type: ignore[attr-defined]
        environment.steps_beyond_terminated = None  # type: ignore[attr-defined]
        following = environment.step(int(batch.actions[row]))[0]
        np.testing.assert_allclose(batch.next_observations[row], following, atol=1e-6)


def test_a_damaged_copy_is_noticed(tmp_path: Path) -> None:
    shutil.copytree(EXPERT, tmp_path / "copy")
    EpisodeSequence.load(tmp_path / "copy").verify()
    file = tmp_path / "copy" / "observations.npy"
    content = bytearray(file.read_bytes())
    content[200_000] ^= 1
    file.write_bytes(content)
    with pytest.raises(EpisodeDataError, match=r"observations\.npy"):
        EpisodeSequence.load(tmp_path / "copy").verify()


@pytest.fixture(scope="module")
def script() -> ModuleType:
    specification = importlib.util.spec_from_file_location("script", ROOT / "scripts" / "make_expert_episodes.py")
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


def test_the_script_makes_a_data_set_of_its_agent(script: ModuleType, tmp_path: Path) -> None:
    agent = script.train_expert(steps=256)
    with pytest.raises(SystemExit, match="this is no expert"):
        script.check_expert(agent)
    for _ in range(2):  # a data set that is there is replaced
        made = script.make(tmp_path / "episodes", agent, episodes=3)
    assert len(made) == 3
    for episode in made:
        assert agent.choose_action(episode.observations[:-1], deterministic=True).tolist() == episode.actions.tolist()
    again = script.make(tmp_path / "again", script.train_expert(steps=256), episodes=3)
    assert all(np.array_equal(one.observations, two.observations) for one, two in zip(made, again, strict=True))


@pytest.mark.slow
def test_the_script_makes_this_data_set_where_it_was_made(script: ModuleType, expert: EpisodeSequence) -> None:
    agent = script.train_expert()
    script.check_expert(agent)
    made = script.make(Path("episodes"), agent)
    assert len(made) == len(expert)
    assert set(made.returns) == {500.0}
