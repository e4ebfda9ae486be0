from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.episode.samples import SPACES, episodes, same
from tests.servers.hub import WRITE_TOKEN, LoopbackHub, loopback_hub

from rl_framework.episode import EpisodeSequence
from rl_framework.errors import ArgumentError, ConnectorError, EpisodeDataError, MissingExtraError
from rl_framework.retry import RetryPolicy

NAME = "tester/experts"
QUICK = RetryPolicy(attempts=4, first_wait=0.0, longest_wait=0.0, longest_retry_after=0.0)


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[LoopbackHub]:
    with loopback_hub(monkeypatch, tmp_path / "cache") as server:
        yield server


def _sequence(kind: str = "vectors", lengths: Any = (3, 1, 4), **options: Any) -> EpisodeSequence:
    return EpisodeSequence.from_episodes(episodes(lengths, *SPACES[kind], **options), *SPACES[kind])


@pytest.mark.parametrize("kind", ["vectors", "nested"])
def test_what_is_pushed_comes_back(kind: str, hub: LoopbackHub) -> None:
    sequence = _sequence(kind, infos=True)
    address = sequence.push_to_hub(NAME, information={"made": "here"}, commit_message="Mine")
    assert address.startswith(f"{hub.url}/datasets/{NAME}/commit/") or NAME in address
    assert hub.repositories["dataset", NAME].messages[1:] == ["Mine"]
    back = EpisodeSequence.from_hub(NAME)
    assert len(back) == 3
    assert all(same(one, other) for one, other in zip(sequence, back, strict=True))
    assert (back.observation_space, back.action_space) == SPACES[kind]
    back.verify()


def test_a_revision_is_what_it_was(hub: LoopbackHub) -> None:
    first = _sequence(infos=True).push_to_hub(NAME).rpartition("/")[2]
    _sequence(lengths=(2,)).push_to_hub(NAME)  # without infos, whose files have to go
    assert len(EpisodeSequence.from_hub(NAME)) == 1
    assert len(EpisodeSequence.from_hub(NAME, revision=first)) == 3
    _sequence(lengths=(2, 2)).push_to_hub(NAME, revision="v2")
    assert len(EpisodeSequence.from_hub(NAME, "v2")) == 2
    assert len(EpisodeSequence.from_hub(NAME)) == 1


def test_the_page_shows_code_that_runs(hub: LoopbackHub, capsys: pytest.CaptureFixture[str]) -> None:
    from huggingface_hub import DatasetCard

    _sequence().push_to_hub(NAME, private=True)
    repository = hub.repositories["dataset", NAME]
    assert repository.private
    card = DatasetCard(repository.files["README.md"].decode())
    assert "rl_framework" in card.data.tags
    (code,) = re.findall(r"```python\n(.*?)```", card.text, flags=re.DOTALL)
    exec(compile(code, "README.md", "exec"), {})
    assert "EpisodeSequence(3 episodes, 8 transitions" in capsys.readouterr().out


def test_failures_that_pass_are_endured(hub: LoopbackHub) -> None:
    for drop in ("before", "after"):
        hub.fail("^(POST|PUT)", drop=drop, times=2)
    _sequence().push_to_hub(NAME, retry=RetryPolicy(attempts=8, first_wait=0.0))
    assert len(hub.repositories["dataset", NAME].messages) == 2
    hub.fail("^GET", status=503, times=2)
    assert len(EpisodeSequence.from_hub(NAME, retry=QUICK)) == 3


def test_what_cannot_be_pushed_stays(hub: LoopbackHub, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import tempfile

    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    hub.fail("POST", times=1000, status=403)
    with pytest.raises(ConnectorError, match=r"\(403\): set HF_TOKEN") as caught:
        _sequence().push_to_hub(NAME)
    folder = Path(str(caught.value).rpartition(" is in ")[2])
    assert len(EpisodeSequence.load(folder)) == 3
    assert WRITE_TOKEN not in str(caught.value)
    monkeypatch.delenv("HF_TOKEN")
    n_requests = len(hub.requests)
    with pytest.raises(ConnectorError, match="a token is needed"):
        _sequence().push_to_hub(NAME)
    with pytest.raises(ArgumentError, match="repository_id='nowhere'"):
        _sequence().push_to_hub("nowhere")
    assert len(hub.requests) == n_requests


def test_what_was_changed_on_the_way_is_not_used(hub: LoopbackHub) -> None:
    _sequence().push_to_hub(NAME)
    repository = hub.repositories["dataset", NAME]
    files = repository.commits[repository.branches["main"]]
    honest = files["actions.npy"]
    changed = type(honest)(honest.content[:-1] + b"\x7f", True)
    object.__setattr__(changed, "listed", honest.listed)
    files["actions.npy"] = changed
    with pytest.raises(ConnectorError, match=r"actions.npy of tester/experts has not the checksum"):
        EpisodeSequence.from_hub(NAME)


def _as_imitation_has_it(lengths: tuple[int, ...]) -> dict[str, list[Any]]:
    generator = np.random.default_rng(0)
    return {
        "obs": [generator.normal(size=(length + 1, 4)).tolist() for length in lengths],
        "acts": [generator.integers(0, 2, length).tolist() for length in lengths],
        "infos": [[json.dumps({"step": step}) for step in range(length)] for length in lengths],
        "terminal": [True] * len(lengths),
        "rews": [[1.0] * length for length in lengths],
    }


def _parquet(columns: dict[str, list[Any]]) -> bytes:
    import pyarrow as pa
    from pyarrow import parquet

    sink = pa.BufferOutputStream()
    parquet.write_table(pa.table(columns), sink)
    return bytes(sink.getvalue().to_pybytes())


def test_the_imitation_librarys_data_sets_are_read(hub: LoopbackHub, monkeypatch: pytest.MonkeyPatch) -> None:
    """HumanCompatibleAI's lie on the Hub as Parquet tables of a split "train"."""
    first, second = _as_imitation_has_it((3, 2)), _as_imitation_has_it((4,))
    name = "HumanCompatibleAI/ppo-seals-CartPole-v0"
    hub.add(
        name,
        {
            "README.md": b"",
            "dataset_infos.json": b"{}",
            "data/train-00000-of-00002-aa.parquet": _parquet(first),
            "data/train-00001-of-00002-bb.parquet": _parquet(second),
            "data/test-00000-of-00001-cc.parquet": _parquet(first),
        },
        kind="dataset",
    )
    monkeypatch.delenv("HF_TOKEN")  # it is public
    sequence = EpisodeSequence.from_hub(name)
    assert sequence.lengths.tolist() == [3, 2, 4]
    assert np.array_equal(sequence[0].observations, np.array(first["obs"][0]))
    assert sequence[2].actions.tolist() == second["acts"][0]
    assert sequence.returns.tolist() == [3.0, 2.0, 4.0]
    assert sequence[1].infos is not None
    assert sequence[1].infos[1]["step"] == 1
    assert sequence.spaces_are_inferred


def test_what_datasets_saved_is_read(hub: LoopbackHub, tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")

    datasets.Dataset.from_dict(_as_imitation_has_it((3, 2))).save_to_disk(str(tmp_path / "saved"))
    files = {f"train/{path.name}": path.read_bytes() for path in (tmp_path / "saved").iterdir()}
    hub.add(NAME, files | {"dataset_dict.json": b"{}"}, kind="dataset")
    assert EpisodeSequence.from_hub(NAME).lengths.tolist() == [3, 2]


HOSTILE = '{"py/reduce": [{"py/function": "os.system"}, {"py/tuple": ["touch executed"]}]}'


@pytest.mark.parametrize(
    "files",
    [
        {"a.parquet": b"PAR1 nothing"},
        {"README.md": b""},
        {"episodes.json": b"{}"},
        {"data.pkl": b"\x80\x04cos\nsystem\n(S'touch executed'\ntR."},
        {"state.json": b'{"_data_files": [{"filename": "../../x"}]}'},
    ],
    ids=["parquet", "nothing", "manifest", "pickle", "state"],
)
def test_what_is_no_data_set_or_hostile_is_refused(files: dict[str, bytes], hub: LoopbackHub) -> None:
    hub.add(NAME, files, kind="dataset")
    with pytest.raises(EpisodeDataError):
        EpisodeSequence.from_hub(NAME)
    assert not Path("executed").exists()


def test_nothing_of_an_info_is_run(hub: LoopbackHub) -> None:
    columns = _as_imitation_has_it((2,))
    columns["infos"] = [[HOSTILE, HOSTILE]]
    hub.add(NAME, {"a.parquet": _parquet(columns)}, kind="dataset")
    sequence = EpisodeSequence.from_hub(NAME)
    with suppress(EpisodeDataError):  # to refuse it is right too
        _ = [dict(info) for info in sequence[0].infos or ()]
    assert not Path("executed").exists()


def test_without_the_extra_the_message_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    from rl_framework import errors

    monkeypatch.setattr(errors, "find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r"rl-framework\[huggingface\]"):
        EpisodeSequence.from_hub(NAME)
