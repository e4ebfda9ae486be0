"""Agents, checkpoints and data sets under addresses of every kind."""

from __future__ import annotations

import gc
import json
import logging
import socket
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import pytest
from tests.episode.samples import episodes, same
from tests.servers.drive import loopback_drive
from tests.servers.hub import loopback_hub

from rl_framework import (
    Callback,
    EpisodeSequence,
    StableBaselinesAgent,
    StorageConnector,
    StorageDownloadConfig,
    StorageUploadConfig,
    load_agent,
    registry,
)
from rl_framework.bundle import open_checkpoint
from rl_framework.connector.storage import runs
from rl_framework.errors import ArgumentError, BundleError, ConnectorError, MissingExtraError
from rl_framework.retry import RetryPolicy
from rl_framework.stores import DamagedError, Place, open_store, parse_address
from rl_framework.training.metrics import read_metrics

QUICK = RetryPolicy(attempts=2, first_wait=0.001)
KINDS = ["folder", "memory", "s3", "sftp", "gdrive", "hf"]


@pytest.fixture(autouse=True)
def _copies_are_gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    yield
    assert [path.name for path in folder.iterdir() if path.name.startswith("rl_framework")] == []


@pytest.fixture
def address(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[str]:
    kind = getattr(request, "param", "folder")
    with ExitStack() as stack:
        if kind == "folder":
            yield str(tmp_path / "mounted drive" / "run")
        elif kind == "memory":
            yield "memory://runs/one"
            open_store(parse_address("memory://")).files.store.clear()  # type: ignore[attr-defined]
        elif kind == "gdrive":
            stack.enter_context(loopback_drive(monkeypatch))
            yield "gdrive://experiments/run"
        elif kind == "hf":
            stack.enter_context(loopback_hub(monkeypatch, tmp_path / "cache"))
            yield "hf://tester/agent/run"
        elif kind == "s3":
            pytest.importorskip("moto")
            from tests.servers.s3 import BUCKET, loopback_s3

            stack.enter_context(loopback_s3(monkeypatch))
            yield f"s3://{BUCKET}/run"
        else:
            from tests.servers.sftp import PASSWORD, USER, loopback_sftp

            server = stack.enter_context(loopback_sftp(monkeypatch, tmp_path))
            yield f"sftp://{USER}:{quote(PASSWORD, safe='')}@127.0.0.1:{server.port}/data/run"


def _patient(upload_config: Any, **options: Any) -> StorageConnector:
    return StorageConnector(upload_config, **{"patience": 60.0, **options})


def _new_agent() -> StableBaselinesAgent:
    return StableBaselinesAgent("ppo", {"n_steps": 32, "batch_size": 32, "n_epochs": 1})


def _train(steps: int, connector: Any = None, agent: Any = None, **options: Any) -> StableBaselinesAgent:
    options = {"seed": 0, "checkpoint_every": 64, "checkpoint_directory": "checkpoints", **options}
    agent = _new_agent() if agent is None else agent
    agent.train("CartPole-v1", steps, n_environments=2, progress_bar=False, connector=connector, **options)
    return agent


def _is_same(one: Any, other: Any) -> bool:
    observations = np.random.default_rng(0).normal(size=(16, 4)).astype(np.float32)
    return np.array_equal(one.predict(observations)[0], other.predict(observations)[0])


def _place(address: str, folder: str = "") -> Place:
    parsed = parse_address(address)
    place = Place(open_store(parsed), parsed.path)
    return place.below(folder) if folder else place


@pytest.mark.parametrize("address", KINDS, indirect=True)
def test_trained_uploaded_opened_and_resumed(address: str) -> None:
    connector = _patient(StorageUploadConfig(address, keep_last=2, n_eval_episodes=2))
    agent = _train(192, connector)
    # What a machine that is gone now has left there.
    assert _place(address).names() == ["agent.zip", "metrics.jsonl", "record.json"]
    kept = ["checkpoint_000000000128.zip", "checkpoint_000000000192.zip"]
    assert _place(address, "checkpoints").names() == kept
    assert _is_same(load_agent(address), agent)
    assert connector.sync() == 0
    shown = agent.upload(connector)
    assert ":" not in shown.partition("://")[2].partition("@")[0]  # no password
    uploaded = ["agent.zip", "learning_curve.png", "metrics.jsonl", "record.json", "results.json", "system.json"]
    assert _place(address).names() == uploaded
    # Straight from the address.
    assert _is_same(_new_agent().load_from_file(address), agent)
    assert _is_same(_new_agent().download(StorageConnector(download_config=address)), agent)
    checkpoint = StorageDownloadConfig(address, "checkpoints/checkpoint_000000000128.zip")
    assert StorageConnector(download_config=checkpoint).download().num_timesteps == 128
    resumed = _train(256, resume_from=address, checkpoint_directory="elsewhere")
    assert _is_same(resumed, _train(256, checkpoint_directory="uninterrupted"))
    assert resumed.num_timesteps == 256
    # Data sets.
    sequence = EpisodeSequence.from_episodes(episodes([3, 1, 4], infos=True))
    place = connector.push_episodes(sequence)
    fetched = EpisodeSequence.from_dataset(f"{address}/episodes")
    fetched.verify()
    assert all(same(one, other) for one, other in zip(sequence, fetched, strict=True))
    assert place in repr(fetched._repr_html_())
    del fetched  # and its copy with it
    gc.collect()


def test_metrics_of_a_machine_that_is_gone_are_kept(address: str) -> None:
    _train(128, _patient(address))
    elsewhere = _patient(address, directory="on another machine")
    _train(256, elsewhere, resume_from=address, checkpoint_directory="elsewhere")
    names = _place(address).names()
    (earlier,) = [name for name in names if name.startswith("earlier/") and name.endswith("metrics.jsonl")]
    copies = _place(address).fetch([earlier, "metrics.jsonl"], Path("copies"))
    before, after = (read_metrics(copies[name]) for name in (earlier, "metrics.jsonl"))
    assert 0 < max(record.timestep for record in before) <= 128
    assert 128 < max(record.timestep for record in after) <= 256
    assert min(record.timestep for record in after) > 128


def test_a_training_that_begins_anew_moves_later_checkpoints_aside(address: str) -> None:
    _train(192, _patient(address))
    other = _train(64, _patient(StorageUploadConfig(address, keep_last=1)), checkpoint_directory="anew", seed=1)
    names = _place(address, "checkpoints").names()
    assert [name for name in names if "/" not in name] == ["checkpoint_000000000064.zip"]
    assert [name.rpartition("_")[2] for name in names if "/" in name] == [f"{n:012d}.zip" for n in (64, 128, 192)]
    checkpoint = open_checkpoint(address)
    assert checkpoint is not None
    checkpoint.close()
    assert _is_same(_new_agent().load_from_file(f"{address}/checkpoints/checkpoint_000000000064.zip"), other)


def test_resuming_passes_over_a_damaged_checkpoint(address: str, caplog: pytest.LogCaptureFixture) -> None:
    _train(192, _patient(address))
    place = _place(address, "checkpoints")
    place.store.write(place.path("checkpoint_000000000192.zip"), b"half")
    checkpoint = open_checkpoint(address)
    assert checkpoint is not None
    assert checkpoint.information["training"]["timestep"] == 128
    checkpoint.close()
    assert "passed over checkpoint_000000000192.zip" in caplog.text
    for timestep in (64, 128):
        place.store.write(place.path(f"checkpoint_{timestep:012d}.zip"), b"half")
    with pytest.raises(BundleError, match="no checkpoint in"):
        open_checkpoint(address)
    with pytest.raises(DamagedError):
        open_checkpoint(f"{address}/checkpoints/checkpoint_000000000192.zip")


def test_resuming_from_nothing_begins_and_from_nowhere_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    assert open_checkpoint("memory://nothing/there") is None
    monkeypatch.setattr("rl_framework.stores.opening._POLICY", QUICK)
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        gone = f"sftp://me@127.0.0.1:{unused.getsockname()[1]}/run"
        with pytest.raises(ConnectorError, match=r"reading sftp://me@127\.0\.0\.1.*attempts"):
            _train(64, resume_from=gone)


def test_checkpoints_that_somebody_copied_there_without_a_manifest(address: str) -> None:
    _train(128)
    for path in Path("checkpoints").iterdir():
        store = _place(address).store
        store.write(str(Path(address) / path.name), path.read_bytes())
    resumed = _train(192, resume_from=f"file://{address}", checkpoint_directory="elsewhere")
    assert resumed.num_timesteps == 192


def test_a_failed_upload_keeps_the_files(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    agent = _train(64)
    connector = StorageConnector(StorageUploadConfig(address, n_eval_episodes=0), retry=QUICK)
    Path(address).parent.mkdir(parents=True)
    Path(address).write_text("a file where the folder should be")
    with pytest.raises(ConnectorError, match=r"Everything that was to go there is in (.+)") as caught:
        agent.upload(connector)
    kept = Path(str(caught.value).rpartition(" is in ")[2]) / "agent.zip"
    assert _is_same(load_agent(kept), agent)


def test_a_training_that_fails_leaves_its_metrics(address: str) -> None:
    with pytest.raises(RuntimeError, match="fire"):
        _train(192, _patient(address), checkpoint_every=None, callbacks=[_Failing()])
    assert _place(address).names() == ["metrics.jsonl", "record.json"]


class _Failing(Callback):
    def on_step(self, training: Any) -> None:
        if training.timestep >= 100:
            raise RuntimeError("the machine is on fire")


def test_files_and_folders_of_any_kind(address: str) -> None:
    connector = _patient(address)
    Path("report/pictures").mkdir(parents=True)
    Path("report/index.html").write_text("<p>")
    Path("report/pictures/a.png").write_bytes(b"png")
    assert connector.put("report/index.html", "latest.html") == f"{address}/latest.html"
    assert connector.put("report") == f"{address}/report"
    assert _place(address).names() == ["latest.html"]
    assert _place(address, "report").names() == ["index.html", "pictures/a.png"]
    Path("report/pictures/a.png").rename("report/b.png")
    connector.put("report")
    assert sorted(path.name for path in (Path(address) / "report").rglob("*") if path.is_file()) == [
        "b.png",
        "index.html",
        "rl_framework.json",
    ]
    for path, name in (("report", "../report"), ("missing", None), ("report", "a/../../b")):
        with pytest.raises(ArgumentError):
            connector.put(path, name)


def test_videos_and_histograms_arrive(address: str) -> None:
    connector = _patient(address)
    Path("a.mp4").write_bytes(b"a film")
    connector.log_video(Path("a.mp4"), "training/replay", 64)
    connector.log_histograms({"rollout/action": np.arange(5.0)}, 64, 0.0)
    connector.log_checkpoint(Path("a.mp4"), 64)
    connector.close()
    assert _place(address, "videos").names() == ["replay-000000000064.mp4"]
    assert _place(address).names() == ["histograms.jsonl"]


def test_addresses_where_only_a_path_will_do() -> None:
    agent = _train(64)
    with pytest.raises(ArgumentError, match=r"s3://bucket/agent\.zip.*StorageConnector"):
        agent.save_to_file("s3://bucket/agent.zip")
    with pytest.raises(ArgumentError, match=r"checkpoint_directory.*connector=StorageConnector"):
        _train(64, checkpoint_directory="s3://bucket/run")
    with pytest.raises(ArgumentError, match="push_episodes"):
        EpisodeSequence.from_episodes(episodes([2])).save("s3://bucket/episodes")
    assert not Path("s3:").exists()


def test_a_password_is_nowhere(caplog: pytest.LogCaptureFixture, tmp_path: Path) -> None:
    caplog.set_level(logging.DEBUG)
    password = "plain-words/are+secret"
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        address = f"sftp://me:{quote(password, safe='')}@127.0.0.1:{unused.getsockname()[1]}/run"
        connector = StorageConnector(address, patience=0.2, retry=QUICK)
        agent = _train(64, connector)
        told = [repr(connector.upload_config), repr(connector.download_config), connector.service, caplog.text]
        for action in (connector.sync, lambda: agent.upload(connector), lambda: agent.download(connector)):
            with pytest.raises(ConnectorError) as caught:
                action()
            told.append(str(caught.value))
    assert "127.0.0.1" in told[-1]
    written = {str(path): path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    assert any("spool.json" in path for path in written)
    for form in (password, quote(password, safe="")):
        assert [text for text in told if form in text] == []
        assert [path for path, content in written.items() if form.encode() in content] == []


def test_what_cannot_be_used() -> None:
    with pytest.raises(ArgumentError, match="an address is needed"):
        StorageConnector()
    with pytest.raises(ArgumentError, match="only fetches"):
        _train(64, StorageConnector(download_config="memory://a"))
    for options in ({"keep_last": 0}, {"n_eval_episodes": -1}, {"file_name": "../a.zip"}, {"file_name": "agent"}):
        with pytest.raises(ArgumentError, match=next(iter(options))):
            StorageUploadConfig("memory://a", **options)
    with pytest.raises(ArgumentError, match="ftp"):
        StorageConnector("ftp://a/b")


def test_a_client_that_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rl_framework.errors.find_spec", lambda name: None)
    for address in ("s3://a/b", "gs://a/b", "gdrive://a", "sftp://a/b"):
        with pytest.raises(MissingExtraError, match=r"rl-framework\[storage\]"):
            StorageConnector(address)


def test_its_name() -> None:
    assert registry.connectors.get("storage") is StorageConnector


def test_the_name_of_a_run_stays_with_its_folder(tmp_path: Path) -> None:
    run = runs.run_of(tmp_path)
    assert runs.run_of(tmp_path) == run
    (tmp_path / "storage.json").write_text(json.dumps({"run": "../x"}))
    assert runs.run_of(tmp_path) != "../x"
