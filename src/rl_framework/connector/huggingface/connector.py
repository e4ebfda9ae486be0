"""The Hugging Face Hub as a store of agents, and of what happens while they are trained."""

from __future__ import annotations

import logging
import shutil
import tempfile
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rl_framework.agent import load_agent
from rl_framework.connector.delivery import Item
from rl_framework.connector.huggingface.config import (
    BUNDLE_NAME,
    HuggingFaceDownloadConfig,
    HuggingFaceUploadConfig,
)
from rl_framework.connector.huggingface.files import prepare_upload_with_card
from rl_framework.connector.kept_locally import KeptLocallyConnector
from rl_framework.errors import ArgumentError, ConnectorError
from rl_framework.hub import Hub, RemoteFile
from rl_framework.retry import RetryPolicy

__all__ = ["HuggingFaceConnector"]

logger = logging.getLogger(__name__)

_MODEL = "model"
_STATISTICS = "vec_normalize.pkl"


class HuggingFaceConnector(KeptLocallyConnector):
    """Shares agents on the Hugging Face Hub and fetches them from there.

    `agent.upload(connector)` makes one commit with the agent, its evaluation, a replay, what was measured, and a page.
    Given to `train`, it keeps metrics in a folder on this machine until then, and sends checkpoints (to
    `checkpoints/`) and videos (to `videos/`) while training goes on; see `RemoteConnector`.

    Args:
        upload_config: Where agents go; None: this connector only fetches.
        download_config: Where agents come from; None: from where they go.
        token: Access token; None: the variable HF_TOKEN, or what `hf auth login` has stored.
        directory: Folder for metrics and for uploads that are being prepared; None: a new one under `runs/`.
        endpoint: Address of the Hub; None: the variable HF_ENDPOINT, or the public one.
        spool_directory: See `RemoteConnector`.
        patience: See `RemoteConnector`.
        retry: See `RemoteConnector`.

    Raises:
        MissingExtraError: The extra "huggingface" is not installed.
        ArgumentError: Neither of the two is given.
    """

    def __init__(
        self,
        upload_config: HuggingFaceUploadConfig | str | None = None,
        download_config: HuggingFaceDownloadConfig | str | None = None,
        *,
        token: str | None = None,
        directory: str | Path | None = None,
        endpoint: str | None = None,
        spool_directory: str | Path | None = None,
        patience: float = 10.0,
        retry: RetryPolicy | None = None,
    ) -> None:
        super().__init__(directory, spool_directory, patience, retry)
        if isinstance(upload_config, str):
            upload_config = HuggingFaceUploadConfig(upload_config)
        if isinstance(download_config, str):
            download_config = HuggingFaceDownloadConfig(download_config)
        _check_config("upload_config", upload_config, HuggingFaceUploadConfig)
        _check_config("download_config", download_config, HuggingFaceDownloadConfig)
        if upload_config is None and download_config is None:
            raise ArgumentError(
                "upload_config", None, "a repository is needed", 'Such as HuggingFaceUploadConfig("user/name").'
            )
        if download_config is None and upload_config is not None:
            download_config = HuggingFaceDownloadConfig(
                upload_config.repository_id, upload_config.file_name, upload_config.revision
            )
        assert download_config is not None
        self.upload_config, self.download_config = upload_config, download_config
        self._hub = Hub(type(self).__name__, token, endpoint, self.retry)
        self._is_there = False

    def _local_name(self) -> str:
        return f"hub-{self.download_config.repository_id.replace('/', '-')}"

    # While training

    @property
    def service(self) -> str:
        """Whom it goes to, for messages."""
        return f"the Hub repository {self._to_write().repository_id}"

    def destination(self) -> dict[str, Any]:
        """Returns the repository, as JSON-able data."""
        config = self._to_write()
        return {
            "service": "huggingface",
            "endpoint": self._hub.endpoint,
            "repository_id": config.repository_id,
            "revision": config.revision,
        }

    def _to_write(self) -> HuggingFaceUploadConfig:
        if self.upload_config is None:
            raise ArgumentError("upload_config", None, "this connector only fetches agents", "Name a repository in it.")
        return self.upload_config

    def is_transient(self, error: Exception) -> bool:
        """Tells whether a failure may pass by itself."""
        return self._hub.is_transient(error)

    def explain(self, error: Exception) -> str:
        """Says what to do about a failure, without secrets."""
        return self._hub.explain(error, self._to_write().repository_id)

    def deliver(self, item: Item) -> None:
        """Commits a checkpoint or a video; a second time changes nothing."""
        config = self._to_write()
        if item.file is None:
            raise ConnectorError(f"the file of {item.kind!r} is gone")
        self._make_sure_of_repository(config)
        timestep, deletions = int(item.data["timestep"]), []
        if item.kind == "checkpoint":
            name = f"checkpoints/{Path(str(item.data['name'])).name}"
            if config.keep_last is not None:
                there = self._hub.files(config.repository_id, _MODEL, config.revision)
                known = sorted({name, *(path for path in there if path.startswith("checkpoints/"))})
                surplus = known[: -config.keep_last]
                if name in surplus:
                    return  # newer ones were delivered already
                deletions = surplus
        else:
            name = f"videos/{Path(str(item.data['name'])).name}-{timestep:012d}{item.file.suffix}"
        self._hub.commit(
            config.repository_id,
            _MODEL,
            config.revision,
            f"Add {name} (timestep {timestep})",
            {name: item.file},
            deletions,
        )

    def _make_sure_of_repository(self, config: HuggingFaceUploadConfig) -> None:
        if not self._is_there:
            self._hub.create_repository(config.repository_id, _MODEL, config.private)
            if config.revision is not None:
                self._hub.create_branch(config.repository_id, _MODEL, config.revision)
            self._is_there = True

    # Agents

    def upload(self, agent: Any, *, video_recording_environment: Any = None) -> str:
        """Evaluates and films the agent, writes its page, and sends everything in one commit.

        Args:
            agent: The agent.
            video_recording_environment: Where to film and to evaluate it; None: no film, and the evaluation takes
                place in the environment that `environment_name` or the agent's record names, if its id is all that it
                takes to make it.

        Returns:
            The address of the commit.

        Raises:
            ConnectorError: There is no token, or the Hub does not take it. Everything that was to go there is in the
                folder that the message names.
            RecordingError: The environment cannot be filmed; nothing was sent.
        """
        config = self._to_write()
        self._hub.check_can_write(config.repository_id)
        self.flush()
        folder = Path(tempfile.mkdtemp(prefix="upload-", dir=self.local.directory))
        try:
            files = prepare_upload_with_card(
                folder,
                agent,
                config,
                measured=self.local.directory,
                environment=video_recording_environment,
                evaluation=self._evaluation,
            )
        except OSError as error:
            raise ConnectorError(f"what was to be uploaded could not be written to {folder}: {error}") from error
        what = f"the upload to {config.repository_id}"
        try:
            self._hub.calling(lambda: self._make_sure_of_repository(config), what, config.repository_id)
            address = self._hub.calling(
                lambda: self._hub.commit(config.repository_id, _MODEL, config.revision, config.commit_message, files),
                what,
                config.repository_id,
            )
        except ConnectorError as error:
            raise ConnectorError(f"{error}. Everything that was to go there is in {folder}") from None
        shutil.rmtree(folder)
        self._sync_quietly()
        return address

    def _sync_quietly(self) -> None:
        """Delivers what could not be sent while training, now that the Hub answers."""
        if self._delivery is None or not self._delivery.n_left:
            return
        try:
            self.sync()
        except ConnectorError as error:
            logger.warning("the agent was uploaded, and what was left of its training was not: %s", error)

    def download(self, agent: Any = None) -> Any:
        """Fetches an agent.

        Size and checksum are compared with those that the Hub tells, and the bundle's own are checked when it is
        opened. Files that Stable-Baselines3 itself wrote, as in its zoo, hold pickles: they are opened with
        `trust=True` in `download_config` only.

        Args:
            agent: What becomes the fetched agent; None: a new one of whatever kind it is.

        Returns:
            The agent.

        Raises:
            ConnectorError: It could not be fetched, or is of a form that has to be trusted.
            BundleError: What was fetched is damaged or holds another kind of agent; `agent` is as it was.
        """
        config = self.download_config
        place = config.repository_id
        what = f"the download from {place}"
        commit = self._hub.calling(lambda: self._hub.resolve(place, _MODEL, config.revision), what, place)
        files = self._hub.calling(lambda: self._hub.files(place, _MODEL, commit), what, place)
        chosen = _choose(config, files)
        path = self._hub.calling(lambda: self._hub.fetch(place, _MODEL, commit, chosen), what, place)
        if not _was_written_by_library(path):
            return load_agent(path) if agent is None else agent.load_from_file(path)
        if config.trust is not True:
            raise ConnectorError(
                f"{chosen.path} of {place} was written by Stable-Baselines3 itself: to open it runs any code that its "
                "author put there, and nothing of it was read. If you trust the author, pass "
                f"HuggingFaceDownloadConfig({place!r}, file_name={chosen.path!r}, trust=True)"
            )
        beside = chosen.path.rpartition("/")[0]
        statistics = files.get(f"{beside}/{_STATISTICS}" if beside else _STATISTICS)
        normalize_path = None
        if statistics is not None:
            known = statistics
            normalize_path = self._hub.calling(lambda: self._hub.fetch(place, _MODEL, commit, known), what, place)
        return _agent_of_library(agent, path, normalize_path)


def _check_config(argument: str, config: Any, kind: type[Any]) -> None:
    if config is not None and not isinstance(config, kind):
        raise ArgumentError(argument, config, "names no repository", f'Give "user/name" or a {kind.__name__}.')


def _choose(config: HuggingFaceDownloadConfig, files: Mapping[str, RemoteFile]) -> RemoteFile:
    wanted = config.file_name or BUNDLE_NAME
    archives = [path for path in files if path.endswith(".zip") and "/" not in path]
    if config.file_name is None and wanted not in files and len(archives) == 1:
        wanted = archives[0]
    if wanted not in files:
        others = ", ".join(sorted(path for path in files if path.endswith(".zip"))) or "no .zip file at all"
        raise ConnectorError(
            f"{config.repository_id} has no {wanted}, but {others}: name one in "
            "HuggingFaceDownloadConfig(file_name=...)"
        )
    return files[wanted]


def _was_written_by_library(path: Path) -> bool:
    """Tells whether a file is Stable-Baselines3's, without opening any of its members."""
    try:
        with zipfile.ZipFile(path) as archive:
            members = set(archive.namelist())
    except (OSError, zipfile.BadZipFile):
        return False  # the reader of bundles says what is wrong
    return "manifest.json" not in members and "data" in members


def _agent_of_library(agent: Any, path: Path, normalize_path: Path | None) -> Any:
    from rl_framework.agent.reinforcement import StableBaselinesAgent

    built = StableBaselinesAgent.from_library_zip(path, trust=True, normalize_path=normalize_path)
    if agent is None:
        return built
    with tempfile.TemporaryDirectory() as folder:
        return agent.load_from_file(built.save_to_file(Path(folder) / BUNDLE_NAME))
