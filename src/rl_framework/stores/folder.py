"""A folder on this machine: a disk, a network drive, a mounted Google Drive."""

from __future__ import annotations

import errno
import shutil
from pathlib import Path

from rl_framework.secrecy import describe_error
from rl_framework.stores.base import FileStore, MissingError, StoreError
from rl_framework.whole_file import TEMPORARY_PREFIX, written_whole

__all__ = ["FolderStore"]

# What a disk behind a network answers while the network is away.
_PASSING = {errno.EAGAIN, errno.EBUSY, errno.EINTR, errno.EIO, errno.ESTALE, errno.ETIMEDOUT, errno.ENOTCONN}


class FolderStore(FileStore):
    """Files appear by renaming them, which every file system does in one step."""

    def _list(self, folder: str) -> dict[str, int]:
        place = Path(folder)
        if not place.is_dir():
            return {}
        names = (path for path in place.iterdir() if not path.name.startswith(TEMPORARY_PREFIX))
        return {path.name: path.stat().st_size for path in names if path.is_file()}

    def _read(self, path: str, limit: int) -> bytes:
        self._check_there(path)
        with Path(path).open("rb") as file:
            return file.read(limit)

    def _write(self, path: str, content: bytes) -> None:
        with written_whole(path) as temporary:
            temporary.write_bytes(content)

    def _upload(self, source: Path, path: str, sha256: str) -> None:
        with written_whole(path) as temporary:
            shutil.copyfile(source, temporary)

    def _download(self, path: str, destination: Path) -> None:
        self._check_there(path)
        shutil.copyfile(path, destination)

    def _remove(self, path: str) -> None:
        Path(path).unlink(missing_ok=True)

    def _check_there(self, path: str) -> None:
        # Also keeps named pipes and devices out, which could be waited for without end.
        if not Path(path).is_file():
            raise MissingError(f"there is no file {path}")

    def judge(self, error: Exception) -> StoreError:
        """Says what a failure of the disk means."""
        if isinstance(error, PermissionError):
            return StoreError(f"{self.address}: {describe_error(error)}: you may not write there", 403)
        if isinstance(error, OSError) and error.errno in _PASSING:
            return StoreError(f"{self.address}: {describe_error(error)}", transient=True)
        return super().judge(error)
