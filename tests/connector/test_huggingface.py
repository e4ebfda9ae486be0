from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
from tests.servers.hub import READ_TOKEN, WRITE_TOKEN, Fault, LoopbackHub, loopback_hub

from rl_framework import (
    Callback,
    EvaluationResult,
    HuggingFaceConnector,
    HuggingFaceDownloadConfig,
    HuggingFaceUploadConfig,
    StableBaselinesAgent,
    load_agent,
)
from rl_framework.agent.imitation import ImitationAgent
from rl_framework.connector.huggingface.card import model_card
from rl_framework.errors import ArgumentError, BundleError, ConnectorError, MissingExtraError, RecordingError
from rl_framework.evaluation import MultiAgentResult
from rl_framework.retry import RetryPolicy
from rl_framework.training import RolloutEnded, Training

SHORT = {"n_steps": 32, "batch_size": 32, "n_epochs": 1}
NAME = "tester/ppo-CartPole-v1"
QUICK = RetryPolicy(attempts=3, first_wait=0.0, longest_wait=0.0, longest_retry_after=0.0)


def _agent(steps: int = 64, **kwargs: Any) -> StableBaselinesAgent:
    agent = StableBaselinesAgent("ppo", SHORT)
    agent.train("CartPole-v1", steps, n_environments=2, seed=0, progress_bar=False, **kwargs)
    return agent


@pytest.fixture(scope="session")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return _agent().save_to_file(tmp_path_factory.mktemp("bundle") / "agent.zip")


@pytest.fixture
def agent(bundle: Path) -> Any:
    return load_agent(bundle)


def _config(**options: Any) -> HuggingFaceUploadConfig:
    return HuggingFaceUploadConfig(NAME, **{"n_eval_episodes": 3, "video_length": 4, **options})


def _connector(config: HuggingFaceUploadConfig | None = None, **options: Any) -> HuggingFaceConnector:
    return HuggingFaceConnector(config or _config(), **{"retry": QUICK, "patience": 60.0, **options})


def _acts_like(one: Any, other: Any) -> bool:
    observations = np.random.default_rng(0).normal(size=(16, 4)).astype(np.float32)
    return np.array_equal(one.predict(observations)[0], other.predict(observations)[0])


# Uploading


@pytest.fixture(scope="module")
def uploaded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    """A training that was tracked, and the one commit of its upload."""
    folder = tmp_path_factory.mktemp("uploaded")
    with pytest.MonkeyPatch.context() as patch, loopback_hub(patch, folder / "cache") as hub:
        connector = _connector(directory=folder / "run")
        agent = _agent(256, connector=connector)
        address = agent.upload(connector, video_recording_environment="CartPole-v1")
        files = hub.repositories["model", NAME].files
        yield {"hub": hub, "agent": agent, "address": address, "files": files, "folder": folder / "run"}


def test_an_upload_is_one_commit_with_everything(uploaded: dict[str, Any]) -> None:
    hub, files = uploaded["hub"], uploaded["files"]
    assert set(files) - {"histograms.jsonl"} == {
        ".gitattributes",
        "README.md",
        "agent.zip",
        "learning_curve.png",
        "metrics.jsonl",
        "record.json",
        "replay.mp4",
        "results.json",
        "system.json",
    }
    assert hub.commits(NAME) == ["Upload an agent of rl_framework"]
    assert uploaded["address"].startswith(f"{hub.url}/{NAME}/commit/")
    Path("agent.zip").write_bytes(files["agent.zip"])
    assert _acts_like(load_agent("agent.zip"), uploaded["agent"])
    assert b"ftyp" in files["replay.mp4"][:16]
    assert files["learning_curve.png"].startswith(b"\x89PNG")
    assert any("train/loss" in json.loads(line)["metrics"] for line in files["metrics.jsonl"].splitlines())
    (record,) = json.loads(files["record.json"])
    assert (record["algorithm"], record["environment"], record["seed"]) == ("ppo", "CartPole-v1", 0)
    assert json.loads(files["system.json"])["versions"]["torch"]
    results = json.loads(files["results.json"])
    assert len(results["returns"]) == results["n_eval_episodes"] == 3
    assert results["mean_reward"] == np.mean(results["returns"])
    assert results["std_reward"] == np.std(results["returns"])
    assert isinstance(results["seed"], int)
    assert results["interval_95"][0] <= results["mean_reward"] <= results["interval_95"][1]
    # Nothing is left behind but what was measured.
    left = {path.name for path in uploaded["folder"].iterdir()}
    assert left - {"histograms.jsonl"} == {"metrics.jsonl", "record.json"}


def test_the_card_has_metadata_that_the_hub_reads(uploaded: dict[str, Any]) -> None:
    from huggingface_hub import ModelCard

    text = uploaded["files"]["README.md"].decode()
    results = json.loads(uploaded["files"]["results.json"])
    card = ModelCard(text)
    assert card.data.library_name == "rl_framework"
    assert card.data.pipeline_tag == "reinforcement-learning"
    assert set(card.data.tags) == {"deep-reinforcement-learning", "reinforcement-learning", "ppo", "CartPole-v1"}
    assert card.data.model_name == "ppo-CartPole-v1"
    (result,) = card.data.eval_results
    assert (result.task_type, result.dataset_name, result.metric_type) == (
        "reinforcement-learning",
        "CartPole-v1",
        "mean_reward",
    )
    assert result.metric_value == f"{results['mean_reward']:.2f} +/- {results['std_reward']:.2f}"
    assert "POST /api/validate-yaml" in uploaded["hub"].requests
    assert f"seed {results['seed']}" in text
    for name in set(uploaded["files"]) - {".gitattributes", "README.md"}:
        assert f"- `{name}`: " in text
    assert "`agent.zip`" in text


def test_the_code_on_the_card_runs_as_printed(uploaded: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", uploaded["files"]["README.md"].decode(), flags=re.DOTALL)
    exec(compile(code, "README.md", "exec"), {})
    # It gives the very result that the card reports.
    expected = EvaluationResult.from_dict(json.loads(uploaded["files"]["results.json"]))
    answer = capsys.readouterr().out
    assert answer == f"{expected}\n"
    assert "(3 episodes)" in answer


def test_a_second_upload_is_a_second_commit(hub: LoopbackHub, agent: Any) -> None:
    connector = _connector()
    agent.upload(connector)
    agent.upload(connector)
    assert len(hub.commits(NAME)) == 2


def test_an_evaluation_before_the_training_is_not_reported(hub: LoopbackHub, agent: Any) -> None:
    connector = _connector()
    connector.log_evaluation(agent.evaluate("CartPole-v1", 4, deterministic=True, seed=3))
    _agent(64, connector=connector).upload(connector)
    assert json.loads(hub.repositories["model", NAME].files["results.json"])["n_eval_episodes"] == 3


def test_distributions_go_along(hub: LoopbackHub, agent: Any) -> None:
    connector = _connector(_config(n_eval_episodes=0))
    connector.log_histograms({"rollout/action": np.array([0, 0, 1])}, 64, 0.0)
    agent.upload(connector)
    (line,) = hub.repositories["model", NAME].files["histograms.jsonl"].splitlines()
    assert b"rollout/action" in line


def test_without_environment_and_evaluation_the_card_says_no_more(hub: LoopbackHub, agent: Any) -> None:
    from huggingface_hub import ModelCard

    agent.upload(_connector(_config(n_eval_episodes=0, environment_name="Mine-v0")))
    files = hub.repositories["model", NAME].files
    assert set(files) == {".gitattributes", "README.md", "agent.zip", "record.json", "system.json"}
    text = files["README.md"].decode()
    assert ModelCard(text).data.eval_results is None
    (code,) = re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL)
    names: dict[str, Any] = {}
    exec(compile(code, "README.md", "exec"), names)
    assert _acts_like(names["agent"], agent)


def test_what_the_user_says_counts(hub: LoopbackHub, agent: Any) -> None:
    from huggingface_hub import ModelCard

    config = _config(
        environment_name='Pole "of" `mine`: [x]',
        model_architecture="Two layers of 64",
        file_name="models/pole.zip",
        commit_message="Mine",
        private=True,
        revision="v1",
    )
    connector = _connector(config)
    connector.log_evaluation(agent.evaluate("CartPole-v1", 4, deterministic=True, seed=3))
    agent.upload(connector)
    repository = hub.repositories["model", NAME]
    assert repository.private
    assert set(repository.commits[repository.branches["main"]]) == {".gitattributes"}
    files = repository.commits[repository.branches["v1"]]
    assert "models/pole.zip" in files
    card = ModelCard(files["README.md"].content.decode())
    assert card.data.tags[-1] == config.environment_name
    assert "**Two layers of 64**" in card.text
    assert json.loads(files["results.json"].content)["seed"] == 3
    (code,) = re.findall(r"```python\n(.*?)```", card.text, flags=re.DOTALL)
    names: dict[str, Any] = {}
    exec(compile(code, "README.md", "exec"), names)
    assert _acts_like(names["agent"], agent)


def _card_code(hub: LoopbackHub) -> str:
    text = hub.repositories["model", NAME].files["README.md"].decode()
    (code,) = re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL)
    return str(code)


@pytest.mark.parametrize("given", ["in training", "in the upload", "as a spec"])
def test_the_arguments_of_an_environment_are_on_the_card(
    given: str, hub: LoopbackHub, agent: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    from huggingface_hub import ModelCard

    arguments = {"max_episode_steps": 77, "sutton_barto_reward": True}
    environment: Any = None
    if given == "in training":
        agent = _agent(environment_kwargs=arguments)
    elif given == "in the upload":
        environment = gymnasium.make("CartPole-v1", render_mode="rgb_array", **arguments)
    else:
        spec = gymnasium.spec("CartPole-v1")
        kwargs = {"render_mode": "rgb_array", "sutton_barto_reward": True}
        environment = gymnasium.envs.registration.EnvSpec(
            "CartPole-v1", spec.entry_point, max_episode_steps=77, kwargs=kwargs
        )
    agent.upload(_connector(), video_recording_environment=environment)
    files = hub.repositories["model", NAME].files
    results = json.loads(files["results.json"])
    assert max(results["lengths"]) <= 77
    assert results["environment_kwargs"] == arguments
    (result,) = ModelCard(files["README.md"].decode()).data.eval_results
    assert result.dataset_type == "CartPole-v1"
    assert set(arguments) == set(re.findall(r"(\w+)=", result.dataset_name))
    exec(compile(_card_code(hub), "README.md", "exec"), {})
    assert capsys.readouterr().out == f"{EvaluationResult.from_dict(results)}\n"


def test_a_secret_among_the_arguments_is_hidden_however_it_is_written(
    hub: LoopbackHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CLEARML_API_SECRET_KEY", "it's a 'planted' \\ secret")
    agent = _agent(environment_kwargs={"sutton_barto_reward": os.environ["CLEARML_API_SECRET_KEY"]})
    agent.upload(_connector(_config(n_eval_episodes=0)))
    card = hub.repositories["model", NAME].files["README.md"].decode()
    assert "sutton_barto_reward=" in card
    assert "planted" not in card


def test_environments_that_were_made_elsewhere_are_not_guessed(
    hub: LoopbackHub, caplog: pytest.LogCaptureFixture
) -> None:
    agent = StableBaselinesAgent("ppo", SHORT)
    stacked = gymnasium.wrappers.FrameStackObservation(gymnasium.make("CartPole-v1"), 2)
    agent.train(gymnasium.wrappers.FlattenObservation(stacked), 32, seed=0, progress_bar=False)
    agent.upload(_connector())
    assert "results.json" not in hub.repositories["model", NAME].files
    assert "made elsewhere): give video_recording_environment=" in caplog.text
    assert "evaluate" not in _card_code(hub)


def test_a_name_that_does_not_fit_costs_the_evaluation_and_not_the_upload(
    hub: LoopbackHub, agent: Any, caplog: pytest.LogCaptureFixture
) -> None:
    agent.upload(_connector(_config(environment_name="Pendulum-v1")))
    assert "results.json" not in hub.repositories["model", NAME].files
    assert "without an evaluation in Pendulum-v1 (evaluation_environment=" in caplog.text


def test_an_environment_that_a_factory_makes_is_found_out(hub: LoopbackHub, agent: Any) -> None:
    gymnasium.register("OtherPole-v0", "gymnasium.envs.classic_control:CartPoleEnv", max_episode_steps=9)
    try:
        agent.upload(
            _connector(), video_recording_environment=lambda: gymnasium.make("OtherPole-v0", render_mode="rgb_array")
        )
    finally:
        gymnasium.registry.pop("OtherPole-v0")
    files = hub.repositories["model", NAME].files
    assert json.loads(files["results.json"])["environment"] == "OtherPole-v0"
    assert b"**OtherPole-v0**" in files["README.md"]
    assert "evaluate" not in _card_code(hub)  # with which arguments it was made is not known


def test_the_card_counts_the_timesteps_that_there_were(hub: LoopbackHub, agent: Any) -> None:
    agent.train("CartPole-v1", 128, n_environments=2, progress_bar=False)
    agent.upload(_connector(_config(n_eval_episodes=0)))
    assert b"| Timesteps | 192 |" in hub.repositories["model", NAME].files["README.md"]


def test_what_the_environment_needs_is_installed_too(hub: LoopbackHub, agent: Any) -> None:
    agent.upload(_connector(_config(n_eval_episodes=0, environment_name="LunarLander-v3")))
    assert b'pip install "rl-framework[box2d,huggingface]"' in hub.repositories["model", NAME].files["README.md"]


def test_the_card_tells_the_groups_of_a_world_apart() -> None:
    def part(*returns: float) -> EvaluationResult:
        return EvaluationResult(np.array(returns), np.array([3] * len(returns)), 0, True, "tag")

    team, groups = part(3.0, 5.0), {"hunters": part(6.0, 8.0), "prey": part(-3.0, -3.0)}
    whole = MultiAgentResult(team.returns, team.lengths, 0, True, "tag", team, {}, groups)
    described: dict[str, Any] = {"kind": "multi", "environment": "tag", "architecture": "multi", "timesteps": 10}
    described |= {"arguments": None, "n_environments": None}
    card = model_card(_config(), **described, record={}, evaluation=whole, files={})
    assert "| team | 4.00 | 1.00 | 3.00 to 5.00 | 2 |\n| hunters | 7.00 | 1.00 |" in card
    assert "| prey | -3.00 | 0.00 | -3.00 to -3.00 | 2 |" in card


def test_an_environment_that_a_record_names_is_not_imported(hub: LoopbackHub, agent: Any) -> None:
    agent._runs[-1]["environment"] = "antigravity:Evil-v0"
    agent.upload(_connector())
    assert "antigravity" not in sys.modules
    assert "results.json" not in hub.repositories["model", NAME].files


def test_imitation_agents_are_shared_alike(hub: LoopbackHub) -> None:
    from rl_framework import EpisodeSequence

    sequence = EpisodeSequence.collect(lambda observations: np.zeros(len(observations), np.int64), "CartPole-v1", 2)
    agent = ImitationAgent("bc", {"batch_size": 8})
    agent.train(sequence, total_timesteps=16, progress_bar=False, seed=0)
    agent.upload(_connector(_config(environment_name="CartPole-v1")))
    text = hub.repositories["model", NAME].files["README.md"].decode()
    assert "- imitation-learning" in text
    assert 'pip install "rl-framework[huggingface,imitation]"' in text
    downloaded = HuggingFaceConnector(download_config=NAME).download()
    assert isinstance(downloaded, ImitationAgent)
    assert _acts_like(downloaded, agent)


# What is checked before the network is asked


@pytest.mark.parametrize(
    "options",
    [
        {"repository_id": "no-owner"},
        {"repository_id": "a/b/c"},
        {"repository_id": "a/../b"},
        {"repository_id": "https://huggingface.co/a/b"},
        {"n_eval_episodes": -1},
        {"video_length": 0},
        {"keep_last": 0},
        {"file_name": "../agent.zip"},
        {"file_name": "/agent.zip"},
        {"file_name": "folder/"},
        {"revision": "a b"},
        {"commit_message": " "},
        {"commit_message": None},
        {"file_name": None},
        {"private": "yes"},
        {"upload_checkpoints": None},
        {"environment_name": 5},
        {"model_architecture": ""},
    ],
    ids=lambda options: "-".join(f"{name}={value}" for name, value in options.items()),
)
def test_mistakes_in_the_configuration_are_found_at_once(options: dict[str, Any]) -> None:
    with pytest.raises(ArgumentError, match=next(iter(options))):
        HuggingFaceUploadConfig(**{"repository_id": NAME, **options})


def test_an_agent_without_a_model_asks_no_network(hub: LoopbackHub) -> None:
    from rl_framework.errors import NotTrainedError

    with pytest.raises(NotTrainedError):
        StableBaselinesAgent("ppo").upload(_connector())
    assert hub.requests == []


def test_an_environment_that_cannot_be_filmed_asks_no_network(hub: LoopbackHub, agent: Any) -> None:
    with pytest.raises(RecordingError, match="render_mode"):
        agent.upload(_connector(), video_recording_environment=gymnasium.make("CartPole-v1"))
    assert hub.requests == []


def test_without_a_token_the_message_says_which(hub: LoopbackHub, agent: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HF_TOKEN")
    with pytest.raises(ConnectorError, match=r"a token is needed: set HF_TOKEN.*'write'"):
        agent.upload(_connector())
    assert hub.requests == []


def test_without_the_extra_the_message_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    from rl_framework import errors

    monkeypatch.setattr(errors, "find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r'pip install "rl-framework\[huggingface\]"'):
        HuggingFaceConnector(NAME)


def test_one_that_only_fetches_cannot_track(hub: LoopbackHub) -> None:
    with pytest.raises(ArgumentError, match="only fetches"):
        _agent(connector=HuggingFaceConnector(download_config=NAME))
    with pytest.raises(ArgumentError, match="a repository is needed"):
        HuggingFaceConnector()
    with pytest.raises(ArgumentError, match=r'upload_config.*Give "user/name" or a HuggingFaceUploadConfig'):
        HuggingFaceConnector({"repository_id": NAME})  # type: ignore[arg-type]
    with pytest.raises(ArgumentError, match=r"download_config=PosixPath"):
        HuggingFaceConnector(download_config=Path(NAME))  # type: ignore[arg-type]


# Downloading


def test_a_download_becomes_the_agent(hub: LoopbackHub, agent: Any) -> None:
    agent.upload(_connector())
    other = StableBaselinesAgent("ppo", SHORT)
    assert other.download(HuggingFaceConnector(download_config=NAME)) is other
    assert _acts_like(other, agent)


def test_a_revision_is_what_it_was(hub: LoopbackHub, agent: Any) -> None:
    connector = _connector()
    first = agent.upload(connector).rpartition("/")[2]
    changed = _agent(128)
    changed.upload(connector)
    old = HuggingFaceConnector(download_config=HuggingFaceDownloadConfig(NAME, revision=first)).download()
    new = HuggingFaceConnector(download_config=NAME).download()
    assert _weights(old) == _weights(agent) != _weights(new) == _weights(changed)
    with pytest.raises(ConnectorError, match=r"no such revision \(404\)"):
        HuggingFaceConnector(download_config=HuggingFaceDownloadConfig(NAME, revision="v7")).download()


def _weights(agent: Any) -> float:
    return sum(float(tensor.abs().sum()) for tensor in agent.algorithm.policy.state_dict().values())


def test_a_private_repository_needs_a_token(hub: LoopbackHub, agent: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    agent.upload(_connector(_config(private=True)))
    monkeypatch.setenv("HF_TOKEN", READ_TOKEN)
    assert _acts_like(HuggingFaceConnector(download_config=NAME).download(), agent)
    monkeypatch.delenv("HF_TOKEN")
    with pytest.raises(ConnectorError, match=r"private .*set HF_TOKEN"):
        HuggingFaceConnector(download_config=NAME).download()


@pytest.mark.parametrize("where", ["on the way", "in the cache"])
def test_what_was_changed_is_not_used(where: str, hub: LoopbackHub, agent: Any) -> None:
    agent.upload(_connector())
    other = _agent(96)
    before = _weights(other)
    stored = hub.repositories["model", NAME].commits
    sha = hub.repositories["model", NAME].branches["main"]
    if where == "on the way":
        honest = stored[sha]["agent.zip"]
        changed = type(honest)(honest.content[:-1] + b"x", True)
        object.__setattr__(changed, "listed", honest.listed)
        stored[sha]["agent.zip"] = changed
        with pytest.raises(ConnectorError, match="has not the checksum that the Hub tells"):
            other.download(HuggingFaceConnector(download_config=NAME))
        assert _weights(other) == before
    else:
        HuggingFaceConnector(download_config=NAME).download()
        (cached,) = Path("cache/hub").rglob("blobs/*")
        cached.chmod(0o600)
        cached.write_bytes(cached.read_bytes()[:-1] + b"x")
        other.download(HuggingFaceConnector(download_config=NAME))  # fetched anew
        assert _weights(other) == _weights(agent)


def test_another_kind_of_agent_is_refused_and_nothing_changes(hub: LoopbackHub, agent: Any) -> None:
    agent.upload(_connector())
    with pytest.raises(BundleError, match="'stable_baselines'"):
        ImitationAgent("bc").download(HuggingFaceConnector(download_config=NAME))


def test_what_is_missing_is_named_with_what_is_there(hub: LoopbackHub) -> None:
    with pytest.raises(ConnectorError, match=r"tester/ppo-CartPole-v1 is not there"):
        HuggingFaceConnector(download_config=NAME, retry=QUICK).download()
    hub.add(NAME, {"a.zip": b"", "b.zip": b"", "README.md": b""})
    with pytest.raises(ConnectorError, match=r"has no agent.zip, but a.zip, b.zip"):
        HuggingFaceConnector(download_config=NAME).download()
    with pytest.raises(BundleError):
        HuggingFaceConnector(download_config=HuggingFaceDownloadConfig(NAME, "a.zip")).download()


# Stable-Baselines3's zoo


@pytest.fixture
def zoo(hub: LoopbackHub, tmp_path: Path) -> Any:
    from stable_baselines3 import PPO
    from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize

    environments = VecNormalize(DummyVecEnv([lambda: gymnasium.make("CartPole-v1")]), gamma=0.99)
    model = PPO("MlpPolicy", environments, **SHORT, device="cpu", seed=0)
    model.learn(64)
    model.save(tmp_path / "model.zip")
    environments.save(str(tmp_path / "statistics.pkl"))
    files = {
        "ppo-CartPole-v1.zip": (tmp_path / "model.zip").read_bytes(),
        "vec_normalize.pkl": (tmp_path / "statistics.pkl").read_bytes(),
        "args.yml": b"!!python/object/apply:os.system ['touch executed']",
        "config.yml": b"!!python/object/apply:os.system ['touch executed']",
        "README.md": b"",
        "results.json": b"{}",
    }
    hub.add("sb3/ppo-CartPole-v1", files)
    return model, environments


def test_models_of_the_zoo_are_opened_when_trusted(zoo: Any) -> None:
    model, environments = zoo
    connector = HuggingFaceConnector(download_config=HuggingFaceDownloadConfig("sb3/ppo-CartPole-v1", trust=True))
    agent = connector.download()
    mine = StableBaselinesAgent("ppo", SHORT)
    mine.download(connector)
    observations = np.random.default_rng(0).normal(size=(16, 4)).astype(np.float32)
    expected = model.predict(environments.normalize_obs(observations), deterministic=True)[0]
    assert np.array_equal(agent.predict(observations)[0], expected)
    assert np.array_equal(mine.predict(observations)[0], expected)
    assert not Path("executed").exists()


def test_models_of_the_zoo_are_not_opened_otherwise(
    zoo: Any, hub: LoopbackHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    import pickle

    monkeypatch.setattr(pickle, "load", lambda *_: pytest.fail("unpickled"))
    monkeypatch.setattr(pickle, "loads", lambda *_: pytest.fail("unpickled"))
    with pytest.raises(ConnectorError, match=r"file_name='ppo-CartPole-v1.zip', trust=True"):
        HuggingFaceConnector(download_config="sb3/ppo-CartPole-v1").download()
    assert not [request for request in hub.requests if "vec_normalize" in request]


# While training


def _checkpoints(hub: LoopbackHub) -> list[str]:
    return sorted(path for path in hub.repositories["model", NAME].files if path.startswith("checkpoints/"))


def test_checkpoints_go_to_the_repository(hub: LoopbackHub) -> None:
    connector = _connector()
    agent = _agent(256, connector=connector, checkpoint_every=128, checkpoint_directory="checkpoints")
    assert _checkpoints(hub) == [f"checkpoints/checkpoint_{steps:012d}.zip" for steps in (128, 256)]
    config = HuggingFaceDownloadConfig(NAME, _checkpoints(hub)[1])
    assert _weights(HuggingFaceConnector(download_config=config).download()) == _weights(agent)
    assert not list(Path("runs/.spool").iterdir()) or connector.delivery.n_left == 0


def test_older_checkpoints_go_in_the_same_commit(hub: LoopbackHub) -> None:
    _agent(
        256,
        connector=_connector(_config(keep_last=1)),
        checkpoint_every=64,
        checkpoint_directory="checkpoints",
    )
    assert _checkpoints(hub) == ["checkpoints/checkpoint_000000000256.zip"]
    assert len(hub.commits(NAME)) == 4


def test_checkpoints_may_stay_at_home(hub: LoopbackHub) -> None:
    connector = _connector(_config(upload_checkpoints=False))
    _agent(64, connector=connector, checkpoint_every=64, checkpoint_directory="checkpoints")
    assert hub.requests == []


def test_videos_go_to_the_repository(hub: LoopbackHub) -> None:
    connector = _connector()
    Path("v.mp4").write_bytes(b"video")
    connector.log_video(Path("v.mp4"), "replay", 128)
    connector.close()
    assert hub.repositories["model", NAME].files["videos/replay-000000000128.mp4"] == b"video"


class _Waiting(Callback):
    """Lets no training end before the delivery has met a fault."""

    def __init__(self, fault: Fault) -> None:
        self.fault = fault

    def on_rollout_end(self, event: RolloutEnded, training: Training) -> None:
        assert event.timestep == 64 or self.fault.met.wait(60.0)


def test_training_goes_on_while_the_hub_is_down(hub: LoopbackHub, caplog: pytest.LogCaptureFixture) -> None:
    fault = hub.fail("POST", times=10_000, status=503)
    connector = _connector(retry=RetryPolicy(first_wait=0.001, longest_wait=0.001), patience=0.05)
    agent = _agent(
        128, connector=connector, checkpoint_every=64, checkpoint_directory="checkpoints", callbacks=[_Waiting(fault)]
    )
    assert agent.num_timesteps == 128
    mine = [record for record in caplog.records if record.name.startswith("rl_framework.connector")]
    assert len(mine) == 2
    assert "cannot be reached" in mine[0].getMessage()
    assert "2 items have not reached the Hub repository" in mine[1].getMessage()
    assert "HuggingFaceConnector(...).sync()" in mine[1].getMessage()
    for path in Path("checkpoints").iterdir():
        path.unlink()
    fault.times = 0
    assert connector.sync() == 2
    assert len(_checkpoints(hub)) == 2
    assert connector.sync() == 0
    assert list(Path("runs/.spool").iterdir()) == []


def test_an_upload_takes_along_what_was_left(hub: LoopbackHub) -> None:
    fault = hub.fail("POST", times=10_000, status=503)
    connector = _connector(retry=RetryPolicy(first_wait=0.001, longest_wait=0.001), patience=0.01)
    agent = _agent(64, connector=connector, checkpoint_every=64, checkpoint_directory="checkpoints")
    fault.times = 0
    agent.upload(connector)
    assert len(_checkpoints(hub)) == 1
    assert connector.delivery.n_left == 0


def test_a_later_process_delivers_the_rest(hub: LoopbackHub) -> None:
    fault = hub.fail("POST", times=10_000, drop="before")
    connector = _connector(retry=RetryPolicy(first_wait=0.001, longest_wait=0.001), patience=0.01)
    _agent(64, connector=connector, checkpoint_every=64, checkpoint_directory="checkpoints")
    connector.close()
    fault.times = 0
    assert HuggingFaceConnector("tester/another").sync() == 0
    assert HuggingFaceConnector(NAME).sync() == 1
    assert len(_checkpoints(hub)) == 1


ENDS_AT_ONCE = """
from pathlib import Path
from rl_framework import HuggingFaceConnector
from rl_framework.connector import delivery
delivery._PATIENCE_AT_EXIT = delivery._PATIENCE_WITH_CALL = 60.0
connector = HuggingFaceConnector("tester/ppo-CartPole-v1")
for timestep in (1, 2):
    path = Path(f"checkpoint_{timestep}.zip")
    path.write_bytes(b"some bytes")
    connector.log_checkpoint(path, timestep)
"""


def test_a_process_that_ends_at_once_delivers_first(hub: LoopbackHub) -> None:
    done = subprocess.run([sys.executable, "-c", ENDS_AT_ONCE], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert _checkpoints(hub) == ["checkpoints/checkpoint_1.zip", "checkpoints/checkpoint_2.zip"]
    assert list(Path("runs/.spool").iterdir()) == []


def test_a_resumed_training_goes_on_with_its_metrics(hub: LoopbackHub) -> None:
    first = _connector()
    _agent(128, connector=first, checkpoint_every=64, checkpoint_directory="checkpoints")
    second = _connector()
    agent = StableBaselinesAgent("ppo", SHORT)
    agent.train(
        "CartPole-v1",
        192,
        n_environments=2,
        progress_bar=False,
        connector=second,
        resume_from="checkpoints/checkpoint_000000000128.zip",
    )
    assert second.local.directory == first.local.directory


def test_tokens_that_are_given_count(hub: LoopbackHub, agent: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", READ_TOKEN)
    with pytest.raises(ConnectorError, match=r"\(403\): set HF_TOKEN.*'write'"):
        agent.upload(_connector())
    agent.upload(_connector(token=WRITE_TOKEN))
    assert "token" not in repr(vars(_connector()._hub)).replace("_token", "")
