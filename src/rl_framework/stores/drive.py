"""Google Drive, through its own client library."""

from __future__ import annotations

import io
import logging
from pathlib import Path
from typing import Any

from rl_framework.stores.address import Address
from rl_framework.stores.base import FileStore, MissingError, StoreError
from rl_framework.stores.drive_access import DriveAccess

__all__ = ["DriveStore"]

logger = logging.getLogger(__name__)

_FOLDER = "application/vnd.google-apps.folder"
_BYTES = "application/octet-stream"
_CHUNK = 8 << 20
_SMALL = 1 << 20
_FIELDS = "nextPageToken, files(id, name, size, mimeType, sha256Checksum, createdTime, modifiedTime)"
_ID = "id:"
_OUT_OF_STEP = (400, 409, 412, 416)


class DriveStore(FileStore):
    """`gdrive://folder/path`: from "My Drive", or from a folder that was shared with the account.

    `gdrive://id:<id>/path` begins at the folder with that id (the last part of its address in a browser), also on a
    shared drive. Folders are made when they are missing. Drive allows several files of the same name: of files the
    newest counts, of folders the oldest.

    A large file goes in a resumable session, which the next attempt in this process continues; the file appears, or is
    replaced, when all of it has arrived.
    """

    def __init__(self, address: Address) -> None:
        super().__init__(address)
        self._access = DriveAccess(address.options)
        self._folders: dict[str, str] = {}
        self._sessions: dict[tuple[str, str], Any] = {}
        self._asked_at: dict[tuple[str, str], int] = {}

    @property
    def _files(self) -> Any:
        return self._access.files

    def close(self) -> None:
        """Ends the connection; the next call makes another one."""
        self._access.close()

    # Finding things

    def _find(self, query: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        token = None
        while True:
            page = self._files.list(
                q=f"{query} and trashed = false",
                fields=_FIELDS,
                pageSize=1000,
                pageToken=token,
                supportsAllDrives=True,
                includeItemsFromAllDrives=True,
            ).execute()
            found += page.get("files", [])
            token = page.get("nextPageToken")
            if not token:
                return found

    def _folder(self, path: str, *, make: bool = False) -> str:
        """Returns the id of a folder.

        Raises:
            MissingError: It is not there, and is not to be made.
        """
        if not path:
            return "root"
        if path not in self._folders:
            above, _, name = path.rpartition("/")
            if not above and name.startswith(_ID):
                return name.removeprefix(_ID)
            parent = self._folder(above, make=make)
            folder = self._subfolder(parent, name, path)
            if folder is None:
                if not make:
                    raise MissingError(f"there is no folder {path} on this Google Drive")
                body = {"name": name, "mimeType": _FOLDER, "parents": [parent]}
                made = self._files.create(body=body, fields="id", supportsAllDrives=True).execute()["id"]
                # Somebody else may have made it at the same moment: both then take the older one.
                folder = self._subfolder(parent, name, path) or made
            self._folders[path] = folder
        return self._folders[path]

    def _subfolder(self, parent: str, name: str, path: str) -> str | None:
        named = f"name = {_quoted(name)} and mimeType = '{_FOLDER}'"
        found = self._find(f"{named} and {_quoted(parent)} in parents")
        if not found and parent == "root":
            found = self._find(f"{named} and sharedWithMe = true")
        if len(found) > 1:
            logger.warning("there are %d folders %s on this Google Drive: the oldest is used", len(found), path)
        found.sort(key=lambda file: (file.get("createdTime", ""), file["id"]))
        return str(found[0]["id"]) if found else None

    def _file(self, path: str) -> dict[str, Any] | None:
        above, _, name = path.rpartition("/")
        found = self._find(f"name = {_quoted(name)} and {_quoted(self._folder(above))} in parents")
        return _newest(found).get(name)

    def _there(self, path: str) -> dict[str, Any]:
        file = self._file(path)
        if file is None:
            raise MissingError(f"there is no {path} on this Google Drive")
        return file

    # Files

    def _list(self, folder: str) -> dict[str, int]:
        try:
            found = self._find(f"{_quoted(self._folder(folder))} in parents")
        except MissingError:
            return {}
        return {name: int(file["size"]) for name, file in _newest(found).items()}

    def _read(self, path: str, limit: int) -> bytes:
        file = self._there(path)
        content = io.BytesIO()
        self._copy(file, content, min(limit, _CHUNK), limit)
        return content.getvalue()[:limit]

    def _download(self, path: str, destination: Path) -> None:
        file = self._there(path)
        with destination.open("wb") as copy:
            self._copy(file, copy, _CHUNK)

    def _copy(self, file: dict[str, Any], target: Any, chunk: int, limit: int | None = None) -> None:
        from googleapiclient.http import MediaIoBaseDownload

        if int(file["size"]) == 0:
            return  # no range of an empty file can be asked for
        request = self._files.get_media(fileId=file["id"], supportsAllDrives=True)
        download, is_done = MediaIoBaseDownload(target, request, chunksize=chunk), False
        while not is_done and (limit is None or target.tell() < limit):
            _, is_done = download.next_chunk()

    def _write(self, path: str, content: bytes) -> None:
        from googleapiclient.http import MediaIoBaseUpload

        there = self._file_or_none(path)
        self._sending(path, MediaIoBaseUpload(io.BytesIO(content), mimetype=_BYTES), there).execute()

    def _upload(self, source: Path, path: str, sha256: str) -> None:
        from googleapiclient.http import MediaFileUpload

        size = source.stat().st_size
        key = path, sha256
        if key not in self._sessions:
            there = self._file_or_none(path)
            if there is not None and there.get("sha256Checksum") == sha256:
                return  # it had arrived, and we did not hear of it
            is_large = size > _SMALL
            media = _pieces_of(source) if is_large else MediaFileUpload(str(source), mimetype=_BYTES)
            request = self._sending(path, media, there)
            if not is_large:
                request.execute()
                return
            self._sessions[key] = request
        self._go_on(key, source)

    def _go_on(self, key: tuple[str, str], source: Path) -> None:
        from googleapiclient.errors import HttpError

        request = self._sessions[key]
        request.http = self._files._http  # the connection may have been made anew
        # The file may have another name than at the attempt before.
        request.resumable = _pieces_of(source)
        if request.resumable_progress:
            logger.info("an upload to %s goes on after %d bytes", self.address, request.resumable_progress)
        try:
            answer = None
            while answer is None:
                _, answer = request.next_chunk()
        except HttpError as error:
            status, stands_at = int(error.resp.status), request.resumable_progress
            if status in _OUT_OF_STEP and self._asked_at.get(key) != stands_at:
                # A piece was sent twice. The next attempt asks first how much has arrived.
                self._asked_at[key] = stands_at
                raise ConnectionError("the upload is out of step") from error
            if status in (404, 410) and request.resumable_uri is not None:
                self._forget(key)
                raise ConnectionError("the upload session has expired; it begins anew") from error
            if not self.judge(error).transient:
                self._forget(key)
            raise
        self._forget(key)

    def _forget(self, key: tuple[str, str]) -> None:
        self._sessions.pop(key, None)
        self._asked_at.pop(key, None)

    def _file_or_none(self, path: str) -> dict[str, Any] | None:
        try:
            return self._file(path)
        except MissingError:  # not even its folder
            return None

    def _sending(self, path: str, media: Any, there: dict[str, Any] | None) -> Any:
        """Returns the request that makes a file, or replaces its content."""
        above, _, name = path.rpartition("/")
        common = {"media_body": media, "fields": "id", "supportsAllDrives": True}
        if there is None:
            return self._files.create(body={"name": name, "parents": [self._folder(above, make=True)]}, **common)
        return self._files.update(fileId=there["id"], **common)

    def _remove(self, path: str) -> None:
        self._files.delete(fileId=self._there(path)["id"], supportsAllDrives=True).execute()

    def judge(self, error: Exception) -> StoreError:
        """Says what a failure of the client means."""
        told = self._access.judge(error, str(self.address))
        if told is None:
            return super().judge(error)
        if told.status_code == 404:
            self._folders.clear()  # one of them may be gone
        if told.transient:
            self.close()  # what is left of an answer would be taken for the next one's
        return told


def _pieces_of(source: Path) -> Any:
    """Returns a file for a resumable session."""
    from googleapiclient.http import MediaFileUpload

    class Pieces(MediaFileUpload):
        def has_stream(self) -> bool:
            # A piece that is bytes can be sent again by the client's own connection; a stream would have been read.
            return False

    return Pieces(str(source), mimetype=_BYTES, chunksize=_CHUNK, resumable=True)


def _newest(files: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Returns files with content by name, of several with one name the one that was written last."""
    ordered = sorted(files, key=lambda file: (file.get("modifiedTime", ""), file["id"]))
    return {str(file["name"]): file for file in ordered if "size" in file and file.get("mimeType") != _FOLDER}


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"
