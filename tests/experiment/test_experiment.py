"""An experiment does everything that its file says, goes on where it was interrupted, and can be made again."""

from __future__ import annotations

import json
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest

import rl_framework
from rl_framework import EvaluationResult, StableBaselinesAgent
from rl_framework.connector import Connector
from rl_framework.errors import ArgumentError, ConfigurationError, ConnectorError, RecordingError, SpaceMismatchError
from rl_framework.experiment import Experiment, Run
from rl_framework.experiment.folders import new_folder
from rl_framework.training import Callback, Training

DATA = Path(__file__).resolve().parents[2] / "data" / "cartpole_expert"


def small(**changes: Any) -> dict[str, Any]:
    """A whole experiment in a second."""
    return {
        "name": "small",
        "seed": 3,
        "agent": {"algorithm": "ppo", "parameters": {"n_steps": 32, "batch_size": 32, "n_epochs": 2}},
        "environment": {"id": "CartPole-v1", "n_environments": 2},
        "training": {"total_timesteps": 256, "checkpoint_every": 64, "progress_bar": False},
        "evaluation": {"n_episodes": 3},
        **changes,
    }


def weights(run: Run) -> dict[str, Any]:
    agent: Any = run.load_agent()
    return {name: tensor.numpy() for name, tensor in agent.algorithm.policy.state_dict().items()}


def same_weights(one: Run, other: Run) -> bool:
    a, b = weights(one), weights(other)
    return all(np.array_equal(a[name], b[name]) for name in a)


@pytest.fixture(autouse=True)
def _without_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    """One learning curve is enough, that of `finished`: to draw it takes as long as to train for it."""
    monkeypatch.setattr("rl_framework.connector.local.plot_learning_curve", lambda *_: None)


class Gone(Exception):  # noqa: N818
    """A machine that goes away."""


class StopAt(Callback):
    """Fails at a timestep."""

    def __init__(self, timestep: int) -> None:
        self.timestep = timestep

    def on_step(self, training: Training) -> None:
        if training.timestep >= self.timestep:
            raise Gone


class Store(Connector):
    """Takes agents, or does not."""

    def __init__(self, failure: Exception | None = None) -> None:
        self.taken: list[Any] = []
        self.failure = failure

    def log_metrics(self, metrics: Mapping[str, float], timestep: int, time: float) -> None: ...

    def log_evaluation(self, result: EvaluationResult) -> None:
        self.taken.append(result)

    def upload(self, agent: Any, *, video_recording_environment: Any = None) -> str:
        if self.failure is not None:
            raise self.failure
        self.taken.append((agent, video_recording_environment))
        return "there"


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run with everything."""
    folder = tmp_path_factory.mktemp("finished")
    changes = {
        "run_directory": str(folder),
        "training": {**small()["training"], "evaluate_every": 128, "n_eval_episodes": 2, "track_norms_every": 64},
        "video": {"length": 8, "every": 128, "overlay": {"show": ["return", "angle=observation[2]"]}},
        "connectors": [{"type": "tensorboard"}],
    }
    path = folder / "small.yaml"
    path.write_text(json.dumps(small(**changes)))  # JSON is YAML
    return Experiment.from_yaml(path, ["training.keep_last=2"]).run()


def test_a_run_leaves_everything_in_its_folder(finished: Run) -> None:
    files = {str(path.relative_to(finished.folder)) for path in finished.folder.rglob("*") if path.is_file()}
    (events,) = {name for name in files if name.startswith("tensorboard/")}
    assert files - {events} == {
        "videos/agent_000000128.components.json",
        "videos/agent_000000256.components.json",
        "videos/final.components.json",
        "agent.zip",
        "checkpoints/best_model.zip",
        "checkpoints/checkpoint_000000000192.zip",
        "checkpoints/checkpoint_000000000256.zip",
        "config.yaml",
        "histograms.jsonl",
        "learning_curve.png",
        "metrics.jsonl",
        "record.json",
        "results.json",
        "videos/agent_000000128.mp4",
        "videos/agent_000000256.mp4",
        "videos/final.mp4",
    }
    assert finished.name == "small"
    assert (finished.status, finished.timestep) == ("finished", 256)
    assert [timestep for timestep, _ in finished.checkpoints] == [256, 192]
    assert finished.best_model_path.is_file()
    assert len(finished.videos) == 3
    assert finished.results is not None
    assert finished.results.n_episodes == 3
    assert finished.summary is not None
    assert finished.summary["timestep"] == 256
    (record,) = finished.records
    assert record["seed"] == 3
    assert {"versions", "platform", "git", "device"} <= set(record)
    names = {name for each in finished.metrics() for name in each.metrics}
    assert {"episode/return", "evaluation/mean_return", "train/loss", "norms/policy_gradient"} <= names


def test_its_agents_can_be_loaded(finished: Run) -> None:
    for which in ("final", "best", "checkpoint"):
        agent = finished.load_agent(which)  # type: ignore[arg-type]
        assert agent.choose_action(np.zeros(4, np.float32)) in (0, 1)
    assert finished.results is not None
    final = finished.load_agent().evaluate("CartPole-v1", 3, seed=finished.results.seed)
    assert final == finished.results


def test_its_configuration_makes_the_same_again(finished: Run, tmp_path: Path) -> None:
    again = Experiment.from_yaml(finished.folder / "config.yaml", [f"run_directory={tmp_path}", "video=null"])
    assert {**again.config.to_data(), "run_directory": "", "video": ""} == {
        **finished.config.to_data(),
        "run_directory": "",
        "video": "",
    }
    run = again.run()
    assert same_weights(run, finished)
    assert run.results == finished.results
    assert run.settings == again.config.to_data()


def test_it_equals_what_the_agent_alone_does(finished: Run) -> None:
    agent = StableBaselinesAgent("ppo", {"n_steps": 32, "batch_size": 32, "n_epochs": 2})
    agent.train("CartPole-v1", 256, n_environments=2, seed=3, progress_bar=False)
    mine = agent.algorithm.policy.state_dict()
    assert all(np.array_equal(mine[name].numpy(), value) for name, value in weights(finished).items())


def test_a_notebook_shows_a_run(finished: Run) -> None:
    page = finished._repr_html_()
    assert "finished" in page
    assert "256" in page
    assert repr(finished).endswith("finished)")


# Going on


@pytest.mark.parametrize("stop", [40, 200], ids=["before-the-first-checkpoint", "after-checkpoints"])
def test_a_run_that_was_interrupted_equals_one_that_was_not(finished: Run, stop: int) -> None:
    with pytest.raises(Gone):
        Experiment.from_config(small(), callbacks=[StopAt(stop)]).run()
    (run,) = Run.list()
    assert (run.status, run.timestep) == ("unfinished", 0 if stop == 40 else 192)
    with pytest.raises(ArgumentError, match="has no such agent"):
        run.load_agent()
    experiment = run.experiment()
    with pytest.raises(ArgumentError, match=r"holds a run already.*train\(resume=True\)"):
        experiment.train()
    run = experiment.run(resume=True)
    assert (run.status, run.timestep, len(Run.list())) == ("finished", 256, 1)
    assert same_weights(run, finished)
    assert run.results == finished.results

    def returns(of: Run) -> list[tuple[int, float]]:
        found = [(each.timestep, each.metrics.get("episode/return")) for each in of.metrics()]
        return [(timestep, value) for timestep, value in found if value is not None]

    assert returns(run) == returns(finished)
    assert not (run.folder / "config.1.yaml").exists()


def test_a_finished_run_can_be_trained_for_longer() -> None:
    run = Experiment.from_config(small()).run()
    assert run.experiment().run(resume=True).timestep == 256  # there is nothing left to train
    longer = run.experiment(["training.total_timesteps=384"]).run(resume=True)
    assert (longer.timestep, longer.config.training.total_timesteps) == (384, 384)
    assert "total_timesteps: 256" in (run.folder / "config.1.yaml").read_text()
    whole = Experiment.from_config(small(), ["training.total_timesteps=384", "name=whole"]).run()
    assert same_weights(longer, whole)


def test_a_run_without_checkpoints_ends_once(caplog: pytest.LogCaptureFixture) -> None:
    run = Experiment.from_config(small(), ["training.checkpoint_every=null"]).run()
    assert run.checkpoints == []
    before = weights(run)
    run.experiment().train(resume=True)
    assert all(np.array_equal(before[name], value) for name, value in weights(run).items())
    assert len(run.records) == 1
    with pytest.raises(ArgumentError, match="no checkpoint to go on from to 512"):
        run.experiment(["training.total_timesteps=512"]).train(resume=True)


def test_a_finished_run_is_not_done_again() -> None:
    store = Store()
    run = Experiment.from_config(small(), connectors=store).run()
    count = len(store.taken)
    run.experiment(connectors=store).run(resume=True)
    assert len(store.taken) == count


def test_one_that_is_interrupted_in_a_notebook_is_not_taken_for_trained(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rl_framework.agent.trainable_agent.in_notebook", lambda: True)

    class Interrupt(Callback):
        def on_step(self, training: Training) -> None:
            if training.timestep >= 100:
                raise KeyboardInterrupt

    run = Experiment.from_config(small(), callbacks=[Interrupt()]).run()
    assert run.status == "unfinished"
    assert run.experiment().run(resume=True).status == "finished"


def test_a_run_needs_a_folder_to_go_on_in() -> None:
    with pytest.raises(ArgumentError, match="no run to go on with"):
        Experiment.from_config(small()).train(resume=True)
    with pytest.raises(ArgumentError, match="no run yet"):
        Experiment.from_config(small()).evaluate()
    with pytest.raises(ArgumentError, match=r"has no config\.yaml"):
        Run.open("runs")
    assert Run.list() == []


# Folders


def test_a_second_run_never_takes_the_place_of_a_first() -> None:
    first = Experiment.from_config(small(), ["evaluation=null"]).run()
    second = Experiment.from_config(small(), ["evaluation=null", "seed=4"]).run()
    assert [run.name for run in Run.list()] == ["small", "small-2"]
    assert not same_weights(first, second)
    assert first.status == "finished"
    assert first.results is None


def test_many_at_once_share_no_folder(tmp_path: Path) -> None:
    with ThreadPoolExecutor(16) as pool:
        folders = list(pool.map(lambda _: new_folder(tmp_path / "runs", "x"), range(64)))
    assert len(set(folders)) == 64
    (tmp_path / "file").write_text("")
    with pytest.raises(ArgumentError, match="run_directory"):
        new_folder(tmp_path / "file", "x")


@pytest.mark.parametrize(
    ("overrides", "error"),
    [
        (["agent={algorithm: sac}"], "UnsupportedSpaceError"),
        (["environment.arguments={colour: red}"], "EnvironmentSourceError"),
        (["device=cuda:9"], "ArgumentError"),
        (["video={overlay: {show: ['observation[9]']}}"], "ArgumentError"),
        (["agent={algorithm: sac}", "seed=null", "seeds=[1, 2]"], "UnsupportedSpaceError"),
    ],
    ids=["space", "environment", "device", "overlay", "seeds"],
)
def test_what_cannot_begin_leaves_no_folder(overrides: list[str], error: str) -> None:
    with pytest.raises(rl_framework.RLFrameworkError) as caught:
        Experiment.from_config(small(), overrides).run()
    assert type(caught.value).__name__ == error
    assert Run.list() == []


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ({}, "ppo-CartPole-v1"),
        ({"agent": {"type": "composed", "parts": ["ppo", "ppo"]}}, None),
        ({"environment": {"id": "rl_framework/DeepSea-v0"}}, "ppo-rl_framework-DeepSea-v0"),
        ({"agent": {"algorithm": "bc"}, "environment": None, "episodes": {"path": "data/x y"}}, "bc-data-x-y"),
    ],
)
def test_a_run_has_a_name_of_what_it_is(changes: dict[str, Any], name: str | None) -> None:
    if name is None:
        with pytest.raises(ConfigurationError, match="parts"):  # two parts that both decide
            Experiment.from_config(small(name=None, **changes))
        return
    assert Experiment.from_config(small(name=None, **changes)).config.name == name


def test_a_seed_that_is_not_said_is_drawn_and_written_down() -> None:
    experiment = Experiment.from_config(small(seed=None), ["evaluation=null"])
    assert isinstance(experiment.config.seed, int)
    run = experiment.run()
    assert run.settings["seed"] == experiment.config.seed
    assert Experiment.from_yaml(run.folder / "config.yaml").config.seed == experiment.config.seed


# Several seeds


def test_several_seeds_are_runs_of_their_own_with_a_summary(finished: Run) -> None:
    data = small(seed=None, seeds=[3, 5, 7])
    with pytest.raises(Gone):
        Experiment.from_config(data, callbacks=[StopAt(200)]).run()
    (run,) = Run.list()
    assert [each.name for each in run.seeds] == ["seed-3"]
    assert (run.status, run.seeds[0].status, run.summary) == ("unfinished", "unfinished", None)
    run = run.experiment().run(resume=True)
    assert [each.name for each in run.seeds] == ["seed-3", "seed-5", "seed-7"]
    assert (run.status, run.timestep) == ("finished", 256)
    assert same_weights(run.seeds[0], finished)
    assert not same_weights(run.seeds[0], run.seeds[1])
    summary = run.summary
    assert summary is not None
    assert run.results is None
    results = [each.results for each in run.seeds]
    means = [result.mean for result in results if result is not None]
    assert summary["scores"] == dict(zip(["3", "5", "7"], means, strict=True))
    assert summary["mean"] == pytest.approx(np.mean(means))
    low, high = summary["interval_95"]
    assert min(means) <= low <= summary["iqm"] <= high <= max(means)
    # A seed's own configuration makes that seed again.
    settings = run.seeds[1].settings
    assert (settings["seed"], settings["seeds"]) == (5, None)
    assert "IQM" in run._repr_html_()


def test_a_single_collaborator_is_not_shared_by_several_seeds() -> None:
    data = small(seed=None, seeds=[1, 2])
    with pytest.raises(ArgumentError, match="is one for several seeds"):
        Experiment.from_config(data, agent=StableBaselinesAgent("ppo"))


# Collaborators


def test_collaborators_can_be_given() -> None:
    made: list[str] = []

    def environment(name: str) -> gymnasium.Env[Any, Any]:
        made.append(name)
        return gymnasium.make("CartPole-v1", render_mode="rgb_array")

    agent = StableBaselinesAgent("a2c")
    store = Store()
    experiment = Experiment.from_config(
        {"name": "given", "seed": 1, "training": {"total_timesteps": 50}, "evaluation": {"n_episodes": 2}, "video": {}},
        ["video.length=3"],
        agent=agent,
        training_environments=lambda: environment("training"),
        evaluation_environment=lambda: environment("evaluation"),
        connectors=store,
        callbacks=[],
    )
    run = experiment.run()
    assert experiment.agent is agent
    assert agent.num_timesteps == 50
    assert {"training", "evaluation"} == set(made)
    assert made.count("training") == 1
    result, (taken, where) = store.taken
    assert result == run.results
    assert taken is agent
    assert where is not None
    assert [path.name for path in run.videos] == ["final.mp4"]
    text = (run.folder / "config.yaml").read_text()
    assert "given in Python" in text
    assert "agent, connectors, evaluation_environment, training_environments" in text
    assert run.config.agent is None
    with pytest.raises(ConfigurationError, match="agent: is needed"):
        run.experiment()
    again = run.experiment(agent=StableBaselinesAgent("a2c"), training_environments="CartPole-v1")
    assert again.evaluate() is not None


def test_an_upload_that_fails_does_not_keep_the_others_from_theirs() -> None:
    failing, working = Store(ConnectorError("away")), Store()
    experiment = Experiment.from_config(small(), connectors=[failing, working])
    with pytest.raises(ConnectorError, match="away"):
        experiment.run()
    assert working.taken[-1] == (experiment.agent, None)
    assert Run.list()[0].status == "finished"


def test_what_cannot_be_filmed_is_told_before_training() -> None:
    experiment = Experiment.from_config(
        small(video={"length": 3}, environment=None), training_environments=lambda: gymnasium.make("CartPole-v1")
    )
    with pytest.raises(RecordingError, match="render_mode"):
        experiment.run()
    assert Run.list() == []


def test_secrets_stay_out_of_the_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("huggingface_hub")
    secret = "hf_q7w8e9r0t1y2u3i4o5"
    monkeypatch.setenv("MY_TOKEN", secret)
    connector = {"type": "huggingface", "repository_id": "me/x", "token": "${MY_TOKEN}", "patience": 0.0}
    connector |= {"endpoint": "http://127.0.0.1:9", "retry": {"attempts": 1}, "upload_checkpoints": False}
    experiment = Experiment.from_config(small(connectors=[connector])).train()
    assert experiment.folder is not None
    text = b"".join(path.read_bytes() for path in experiment.folder.rglob("*") if path.is_file())
    assert b"${MY_TOKEN}" in text
    assert secret.encode() not in text


def test_every_seed_has_a_branch_of_its_own_on_the_hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    pytest.importorskip("huggingface_hub")
    from tests.servers.hub import WRITE_TOKEN, loopback_hub

    with loopback_hub(monkeypatch, tmp_path / "cache") as hub:
        monkeypatch.setenv("MY_TOKEN", WRITE_TOKEN)
        monkeypatch.delenv("HF_TOKEN")
        connector = {"type": "huggingface", "repository_id": "me/x", "token": "${MY_TOKEN}", "endpoint": hub.url}
        Experiment.from_config(small(seed=None, seeds=[3, 5], connectors=[connector])).run()
        (repository,) = hub.repositories.values()
    assert set(repository.branches) == {"main", "seed-3", "seed-5"}
    for run in Run.open("runs/small").seeds:
        files = repository.commits[repository.branches[run.name]]
        assert {"agent.zip", "results.json", "README.md", "metrics.jsonl"} <= set(files)
        assert run.results is not None
        assert json.loads(files["results.json"].content)["returns"] == run.results.returns.tolist()


# Learning from episodes


def test_an_imitation_learner_reads_its_episodes() -> None:
    data = small(
        agent={"algorithm": "bc", "parameters": {"batch_size": 32}},
        episodes={"path": str(DATA), "n_episodes": 6, "minimum_return": 10.0, "validation_fraction": 0.3},
        training={"total_timesteps": 320, "progress_bar": False},
    )
    run = Experiment.from_config(data).run()
    assert run.status == "finished"
    (record,) = run.records
    assert (record["episodes"]["n_episodes"], record["validation_episodes"]["n_episodes"]) == (4, 2)
    again = run.experiment().run(resume=True)
    assert again.results == run.results
    without = {**data, "environment": None, "evaluation": None, "name": "without"}
    assert Experiment.from_config(without).run().status == "finished"
    with pytest.raises(ArgumentError, match="no episode has such a return"):
        Experiment.from_config(data, ["episodes.minimum_return=1e6", "name=none"]).run()
    assert "none" not in [each.name for each in Run.list()]


def test_an_agent_of_parts_and_one_of_groups_are_trained_and_resumed() -> None:
    composed = {"type": "composed", "parts": [{"type": "ppo", "n_steps": 32}], "networks": "mlp"}
    whole = Experiment.from_config(small(agent=composed)).run()
    with pytest.raises(Gone):
        Experiment.from_config(small(agent=composed, name="cut"), callbacks=[StopAt(200)]).run()
    resumed = Run.open("runs/cut").experiment().run(resume=True)
    assert resumed.results == whole.results


def test_wrappers_are_the_familys_unless_said_otherwise() -> None:
    pytest.importorskip("ale_py")
    config = Experiment.from_config(small(environment={"id": "ALE/Pong-v5"})).config
    usual = [{"type": "atari"}, {"type": "frame_stack", "stack_size": 4}]
    assert config.to_data()["environment"]["wrappers"] == usual
    config = Experiment.from_config(small(), ["environment.wrappers=[{type: time_limit, max_episode_steps: 7}]"]).config
    assert config.to_data()["environment"]["wrappers"] == [{"type": "time_limit", "max_episode_steps": 7}]
    experiment = Experiment.from_config(config)
    result = experiment.train().evaluate()
    assert result is not None
    assert result.lengths.max() <= 7
    with pytest.raises(SpaceMismatchError):
        experiment.agent.evaluate("Acrobot-v1", 1)
    assert experiment.folder is not None
    longer = Run.open(experiment.folder).experiment(["training.total_timesteps=320"]).train(resume=True)
    assert longer.agent.wrappers == [{"type": "time_limit", "max_episode_steps": 7}]
