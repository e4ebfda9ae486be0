"""Data sets on the Hugging Face Hub: ours, and those of the imitation library."""

from __future__ import annotations

import json
import shutil
import tempfile
import weakref
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gymnasium

from rl_framework.episode.storage import EpisodeStorage, open_data_set
from rl_framework.episode.storage.manifest import MANIFEST, is_ours
from rl_framework.errors import ConnectorError, EpisodeDataError, require_extra
from rl_framework.hub import Hub, RemoteFile, check_repository_id, check_revision
from rl_framework.retry import RetryPolicy
from rl_framework.secrecy import redact, redact_values

if TYPE_CHECKING:
    from rl_framework.episode.sequence import EpisodeSequence

__all__ = ["push_to_hub", "read_from_hub"]

_KIND = "dataset"
_STATE_FILE = "state.json"
_CARD = "README.md"


def push_to_hub(
    sequence: EpisodeSequence,
    repository_id: str,
    *,
    private: bool = False,
    revision: str | None = None,
    commit_message: str = "Upload episodes of rl_framework",
    information: Mapping[str, Any] | None = None,
    token: str | None = None,
    endpoint: str | None = None,
    retry: RetryPolicy | None = None,
) -> str:
    """Writes the sequence in the framework's own format and sends it in one commit, with a page.

    Args:
        sequence: The episodes.
        repository_id: "user/name" or "organisation/name"; made if it is missing.
        private: Whether a repository that is made is private.
        revision: The branch; made if it is missing. None: the main one.
        commit_message: Of the commit.
        information: What to tell about the data set; JSON data.
        token: Access token; None: the variable HF_TOKEN, or what `hf auth login` has stored.
        endpoint: Address of the Hub; None: the variable HF_ENDPOINT, or the public one.
        retry: How often and how soon a failed call is tried again.

    Returns:
        The address of the commit.

    Raises:
        ConnectorError: There is no token, or the Hub does not take it; the data set is then in the folder that the
            message names.
        ArgumentError: The name is none, or the sequence is empty.
        MissingExtraError: The extra "huggingface" is not installed.
    """
    check_repository_id(repository_id)
    check_revision(revision)
    hub = Hub("EpisodeSequence.push_to_hub", token, endpoint, retry)
    hub.check_can_write(repository_id)
    folder = Path(tempfile.mkdtemp(prefix="rl_framework-push-"))
    data = sequence.save(folder / "episodes", information=None if information is None else redact_values(information))
    card = folder / _CARD
    card.write_text(_card(sequence, repository_id, revision), encoding="utf-8")
    files = {path.name: path for path in sorted(data.iterdir())} | {_CARD: card}
    what = f"the upload to {repository_id}"

    def prepare() -> None:
        hub.create_repository(repository_id, _KIND, private)
        if revision is not None:
            hub.create_branch(repository_id, _KIND, revision)

    def commit() -> str:
        # What an earlier data set had and this one does not have would contradict its manifest.
        there = hub.files(repository_id, _KIND, revision)
        surplus = [name for name in there if is_ours(name) and name not in files]
        return hub.commit(repository_id, _KIND, revision, commit_message, files, surplus)

    try:
        hub.calling(prepare, what, repository_id)
        address = hub.calling(commit, what, repository_id)
    except ConnectorError as error:
        raise ConnectorError(f"{error}. The data set is in {data}") from None
    shutil.rmtree(folder)
    return address


def read_from_hub(
    repository_id: str,
    revision: str | None = None,
    trust: bool = False,
    observation_space: gymnasium.Space[Any] | None = None,
    action_space: gymnasium.Space[Any] | None = None,
    *,
    token: str | None = None,
    endpoint: str | None = None,
    retry: RetryPolicy | None = None,
) -> EpisodeStorage:
    """Opens a data set on the Hub; see `EpisodeSequence.from_hub`."""
    check_repository_id(repository_id)
    check_revision(revision)
    hub = Hub("EpisodeSequence.from_hub", token, endpoint, retry)
    what = f"the download from {repository_id}"
    commit = hub.calling(lambda: hub.resolve(repository_id, _KIND, revision), what, repository_id)
    files = hub.calling(lambda: hub.files(repository_id, _KIND, commit), what, repository_id)

    def fetch(names: Sequence[str]) -> list[Path]:
        return [_fetch(hub, repository_id, commit, files[name], what) for name in names]

    ours = [name for name in files if is_ours(name)]
    if MANIFEST in ours:
        folder = fetch(ours)[0].parent
        return open_data_set(folder, observation_space, action_space)
    from rl_framework.episode.formats.imitation import read_imitation_dataset

    states = sorted((name for name in files if name.rpartition("/")[2] == _STATE_FILE), key=_training_first)
    if states:
        prefix = states[0].removesuffix(_STATE_FILE)
        wanted = [name for name in files if name.startswith(prefix) and "/" not in name.removeprefix(prefix)]
        wanted = [name for name in wanted if name.endswith((".arrow", _STATE_FILE))]
        return read_imitation_dataset(fetch(wanted)[0].parent, trust, observation_space, action_space)
    tables = [name for name in sorted(files) if name.endswith(".parquet")]
    tables = [name for name in tables if name.rpartition("/")[2].startswith("train")] or tables
    if tables:
        return _read_parquet(fetch(tables), f"{repository_id} on the Hub", observation_space, action_space)
    single = [name for name in files if name.endswith((".npz", ".pkl")) and "/" not in name]
    if len(single) == 1:
        return read_imitation_dataset(fetch(single)[0], trust, observation_space, action_space)
    raise EpisodeDataError(
        f"{repository_id} holds no episodes that can be read: neither {MANIFEST} nor a data set of the imitation "
        f"library, but {', '.join(sorted(files)[:8]) or 'nothing'}"
    )


def _training_first(name: str) -> tuple[bool, str]:
    return "train" not in name.split("/"), name


def _fetch(hub: Hub, repository_id: str, commit: str, file: RemoteFile, what: str) -> Path:
    return hub.calling(lambda: hub.fetch(repository_id, _KIND, commit, file), what, repository_id)


def _read_parquet(
    tables: Sequence[Path],
    source: str,
    observation_space: gymnasium.Space[Any] | None,
    action_space: gymnasium.Space[Any] | None,
) -> EpisodeStorage:
    """Writes tables as the imitation library has them on disk, and opens that; see its reader, which is safe."""
    require_extra("imitation", "data sets of the imitation library on the Hub", "pyarrow")
    import pyarrow as pa
    from pyarrow import parquet

    from rl_framework.episode.formats.imitation import read_imitation_dataset

    folder = Path(tempfile.mkdtemp(prefix="rl_framework-hub-"))
    try:
        names = []
        for number, table in enumerate(tables):
            name = f"data-{number:05d}.arrow"
            try:
                with parquet.ParquetFile(table) as file, pa.OSFile(str(folder / name), "wb") as sink:
                    schema = file.schema_arrow.remove_metadata()
                    with pa.ipc.new_stream(sink, schema) as writer:
                        for batch in file.iter_batches():
                            writer.write_batch(batch.cast(schema))
            except (pa.ArrowException, OSError) as error:
                raise EpisodeDataError(f"{source}: {table.name} is no Parquet file, or damaged: {error}") from error
            names.append(name)
        state = {"_data_files": [{"filename": name} for name in names]}
        (folder / _STATE_FILE).write_text(json.dumps(state), encoding="utf-8")
        storage = read_imitation_dataset(folder, False, observation_space, action_space)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    storage.source = source
    weakref.finalize(storage, shutil.rmtree, folder, ignore_errors=True)
    return storage


def _card(sequence: EpisodeSequence, repository_id: str, revision: str | None) -> str:
    from huggingface_hub import DatasetCardData

    data = DatasetCardData(
        pretty_name=repository_id.partition("/")[2],
        task_categories=["reinforcement-learning"],
        tags=["rl_framework", "reinforcement-learning", "imitation-learning"],
        viewer=False,  # which knows tables only
    )
    rows = [
        *sequence.statistics().rows(),
        ("observations", str(sequence.observation_space)),
        ("actions", str(sequence.action_space)),
    ]
    table = "\n".join(f"| {label} | {' '.join(str(value).split()).replace('|', '/')} |" for label, value in rows)
    at = "" if revision is None else f", revision={json.dumps(revision)}"
    return redact(
        f"---\n{str(data.to_yaml()).strip()}\n---\n\n# {repository_id.partition('/')[2]}\n\n"
        f"Recorded episodes, in the format of `rl_framework`: NumPy arrays and JSON, nothing that could run.\n\n"
        f"| | |\n|---|---|\n{table}\n\n## Use\n\n"
        '```bash\npip install "rl-framework[huggingface]"\n```\n\n'
        "```python\nfrom rl_framework import EpisodeSequence\n\n"
        f'sequence = EpisodeSequence.from_hub("{repository_id}"{at})\nprint(sequence)\n```\n'
    )
