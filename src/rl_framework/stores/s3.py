"""S3, and what speaks its language (MinIO, Cloudflare R2, Ceph), through s3fs."""

from __future__ import annotations

import hashlib
import logging
from functools import cache
from pathlib import Path
from typing import Any

from rl_framework.secrecy import describe_error
from rl_framework.stores.address import Address
from rl_framework.stores.base import StoreError
from rl_framework.stores.objects import ObjectStore

__all__ = ["S3Store"]

logger = logging.getLogger(__name__)

_PART = 16 << 20
_MOST_PARTS = 10_000
_ANSWER_SECONDS = 60
_PASSING = {408, 409, 425, 429}


class S3Store(ObjectStore):
    """`s3://`.

    Keys, region and endpoint are found where Amazon's own tools look: AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY,
    AWS_ENDPOINT_URL, AWS_PROFILE, `~/.aws`, the role of the machine; or they are s3fs's options (`key`, `secret`,
    `endpoint_url`, `profile`).

    A large file goes in parts. If that stops half-way, the service keeps the parts that have arrived; the next attempt,
    also in another process, finds them, compares their checksums with the file, and sends the others.
    """

    where_keys_are = "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY (or AWS_PROFILE, ~/.aws/credentials)"

    def __init__(self, address: Address) -> None:
        super().__init__(address)
        self._part = _PART

    def options(self) -> dict[str, Any]:
        """Returns what the client is made with: it does not try again by itself, and does not wait for ever."""
        given = super().options()
        config = {
            "connect_timeout": _ANSWER_SECONDS,
            "read_timeout": _ANSWER_SECONDS,
            "retries": {"total_max_attempts": 1},
            # Older and other services do not know the checksums that Amazon's client adds by default.
            "request_checksum_calculation": "when_required",
            "response_checksum_validation": "when_required",
            **given.pop("config_kwargs", {}),
        }
        return {"session": _new_session(), **given, "config_kwargs": config}

    @property
    def files(self) -> Any:
        """The client, an `s3fs.S3FileSystem`."""
        is_new = self._made is None
        files = super().files
        if is_new:
            files.retries = 1  # we retry
        return files

    def _write(self, path: str, content: bytes) -> None:
        self.files.call_s3("put_object", Bucket=self.address.host, Key=path, Body=content)

    def _upload(self, source: Path, path: str, sha256: str) -> None:
        size = source.stat().st_size
        if size <= self._part:
            self._write(path, source.read_bytes())
            return
        part = max(self._part, -(-size // _MOST_PARTS))
        place = {"Bucket": self.address.host, "Key": path}
        upload_id, there = self._begun(place)
        if upload_id is None:
            upload_id = self.files.call_s3("create_multipart_upload", **place)["UploadId"]
        parts = []
        with source.open("rb") as file:
            for number in range(1, -(-size // part) + 1):
                content = file.read(part)
                etag = hashlib.md5(content, usedforsecurity=False).hexdigest()
                if there.get(number) != (len(content), etag):
                    sent = {"UploadId": upload_id, "PartNumber": number, "Body": content}
                    etag = self.files.call_s3("upload_part", **place, **sent)["ETag"].strip('"')
                parts.append({"PartNumber": number, "ETag": f'"{etag}"'})
        self.files.call_s3("complete_multipart_upload", **place, UploadId=upload_id, MultipartUpload={"Parts": parts})

    def _begun(self, place: dict[str, str]) -> tuple[str | None, dict[int, tuple[int, str]]]:
        """Finds an upload of this file that stopped, and the parts of it that are there: length and checksum."""
        bucket, key = place["Bucket"], place["Key"]
        try:
            found = self.files.call_s3("list_multipart_uploads", Bucket=bucket, Prefix=key).get("Uploads", [])
        except (PermissionError, NotImplementedError) as error:
            # Keys may be allowed to write and not to look for uploads; then it begins anew.
            logger.debug("uploads to %s that stopped cannot be looked for: %s", self.address, type(error).__name__)
            return None, {}
        uploads = [upload["UploadId"] for upload in found if upload["Key"] == key]
        if not uploads:
            return None, {}
        # Several processes may have begun; the others expire by the bucket's own rules.
        upload_id, marker = uploads[-1], 0
        there: dict[int, tuple[int, str]] = {}
        while True:
            page = self.files.call_s3("list_parts", **place, UploadId=upload_id, PartNumberMarker=marker)
            for part in page.get("Parts", []):
                there[int(part["PartNumber"])] = int(part["Size"]), str(part["ETag"]).strip('"')
            if not page.get("IsTruncated"):
                break
            marker = int(page["NextPartNumberMarker"])
        logger.info("an upload to %s goes on: %d parts of it are there", self.address, len(there))
        return upload_id, there

    def _check_place(self, error: Exception) -> None:
        if _answer(error).get("Error", {}).get("Code") == "NoSuchBucket":
            raise error

    def judge(self, error: Exception) -> StoreError:
        """Says what a failure of the client means."""
        import aiohttp
        import botocore.exceptions as failures

        told = f"{self.address}: {describe_error(error)}"
        if isinstance(error, failures.NoCredentialsError | failures.PartialCredentialsError):
            return StoreError(f"{told}: see {self.where_keys_are}", 401)
        answer = _answer(error).get("ResponseMetadata", {})
        status = answer.get("HTTPStatusCode")
        if status in (401, 403) or isinstance(error, FileNotFoundError | PermissionError):
            return super().judge(error)
        if isinstance(status, int) and (status in _PASSING or status >= 500):
            headers = {name.title(): value for name, value in answer.get("HTTPHeaders", {}).items()}
            return StoreError(told, status, transient=True, headers=headers)
        passing = failures.ConnectionError, failures.HTTPClientError, failures.IncompleteReadError, aiohttp.ClientError
        if isinstance(error, passing):
            return StoreError(told, transient=True)
        return super().judge(error)

    def _download(self, path: str, destination: Path) -> None:
        with self._missing(path):
            answer = self.files.info(self._full(path))
            size = int(answer["size"])
            with destination.open("wb") as file:
                for start in range(0, size, self._part):
                    file.write(self.files.cat_file(self._full(path), start=start, end=min(start + self._part, size)))


@cache
def _loader() -> Any:
    from aiobotocore.session import get_session

    return get_session().get_component("data_loader")


def _new_session() -> Any:
    """Returns a session of its own, whose keys are looked for anew; the description of the service is read once."""
    from aiobotocore.session import get_session

    session = get_session()
    session.register_component("data_loader", _loader())
    return session


def _answer(error: BaseException | None) -> dict[str, Any]:
    """Returns the service's answer that an exception, or what it was made from, carries."""
    while error is not None:
        answer = getattr(error, "response", None)
        if isinstance(answer, dict):
            return answer
        error = error.__cause__ or error.__context__
    return {}
