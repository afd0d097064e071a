"""Storage of a pack's chunks: a folder, or a prefix of an S3-compatible store.

Requests use boto3: a chunk is one call of `download_file`, a frame one of `get_object` with a range. LitData's
downloaders would replace these two calls, but not the writing, the checksums and the messages about credentials, and
reading a pack would need LitData, which `pip` installs with torchvision. They would save no code, so they are not used.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol, TypeVar
from urllib.parse import urlsplit

from fexgan_lit.data.streaming.format import FACTS, INDEX, WRITING
from fexgan_lit.utils.errors import UserError
from fexgan_lit.utils.files import write_atomic

T = TypeVar("T")


#: Seconds until a store that does not answer counts as unreachable: while connecting, and while reading.
CONNECT_S, READ_S = 5, 30


_ATTEMPTS = 3


#: Number of concurrent requests, for parts of a chunk and for single frames.
CONNECTIONS = 16


_CHECK = "crc32"


_MISSING = ("404", "NoSuchKey", "NotFound")


_DENIED = ("403", "AccessDenied", "InvalidAccessKeyId", "SignatureDoesNotMatch", "ExpiredToken", "InvalidToken")


class MissingError(UserError):
    """The store has no such object."""


class S3Store:
    """A `ChunkStore` at `s3://bucket/prefix`; it also reads parts of files and copies files here, from any thread.

    Raises:
        UserError: the URL is invalid, boto3 is missing, or the AWS variables are invalid; no request is made yet.
    """

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        if parts.scheme != "s3" or not parts.netloc:
            raise UserError(f"{url}: expected a folder or s3://bucket/prefix.")
        self.name = url.rstrip("/")
        self._bucket = parts.netloc
        self._prefix = f"{parts.path.strip('/')}/" if parts.path.strip("/") else ""
        self._client = _client(url)

    def read(self, file: str) -> bytes | None:
        """See `ChunkStore.read`."""
        try:
            return self._try(lambda: self._client.get_object(**self._at(file))["Body"].read())
        except MissingError:
            return None

    def read_part(self, file: str, start: int, count: int) -> bytes:
        """Read `count` bytes of a file from `start`; fewer at its end, none if it is missing."""
        span = f"bytes={start}-{start + count - 1}"
        try:
            return self._try(lambda: self._client.get_object(**self._at(file), Range=span)["Body"].read())
        except MissingError:
            return b""

    def fetch(self, file: str, to: Path) -> None:
        """Copy a file to `to`, several parts concurrently.

        Raises:
            MissingError: the file does not exist.
            OSError: `to` cannot be written.
        """
        self._try(lambda: self._client.download_file(*self._at(file).values(), str(to)))

    def write(self, file: str, content: str | bytes) -> None:
        """See `ChunkStore.write`; objects of a store appear atomically."""
        body = content.encode() if isinstance(content, str) else content
        self._try(lambda: self._client.put_object(**self._at(file), Body=body))

    def send(self, path: Path, file: str, check: int) -> None:
        """See `ChunkStore.send`; a file that an earlier attempt has sent is not sent again."""
        if self._has(file, path.stat().st_size, check):
            return
        extra = {"Metadata": {_CHECK: str(check)}}
        self._try(lambda: self._client.upload_file(str(path), *self._at(file).values(), ExtraArgs=extra))

    def remove(self, file: str) -> None:
        """See `ChunkStore.remove`."""
        self._try(lambda: self._client.delete_object(**self._at(file)))

    def first(self) -> str | None:
        """See `ChunkStore.first`."""
        listed = self._try(
            lambda: self._client.list_objects_v2(Bucket=self._bucket, Prefix=self._prefix, MaxKeys=1)
        )  # fmt: skip
        names = [each["Key"].removeprefix(self._prefix) for each in listed.get("Contents", [])]
        return names[0] if names else None

    def _has(self, file: str, size: int, check: int) -> bool:
        try:
            found = self._try(lambda: self._client.head_object(**self._at(file)))
        except MissingError:
            return False
        return found["ContentLength"] == size and found["Metadata"].get(_CHECK) == str(check)

    def _at(self, file: str) -> dict[str, str]:
        return {"Bucket": self._bucket, "Key": self._prefix + file}

    def _try(self, work: Callable[[], T]) -> T:
        """Return the result of `work`.

        Raises:
            MissingError: the object does not exist.
            UserError: any other error of the store.
        """
        from boto3.exceptions import Boto3Error
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            return work()
        except ClientError as error:
            code = str(error.response.get("Error", {}).get("Code", ""))
            if code in _MISSING:
                raise MissingError(f"{self.name}: the store answers {error}.") from error
            raise UserError(self._refusal(code, str(error))) from error
        except (BotoCoreError, Boto3Error) as error:
            raise UserError(self._trouble(error)) from error

    def _refusal(self, code: str, message: str) -> str:
        if code == "NoSuchBucket":
            return f"{self.name}: the store has no bucket {self._bucket!r}{_endpoint()}; check the name, or create it."
        if code in _DENIED:
            return (
                f"{self.name}: the store refuses these credentials ({code}){_endpoint()}; check AWS_ACCESS_KEY_ID, "
                "AWS_SECRET_ACCESS_KEY and their permissions."
            )
        return f"{self.name}: the store answers {message}."

    def _trouble(self, error: Exception) -> str:
        if "Credentials" in type(error).__name__:
            return (
                f"{self.name}: there are no credentials for the store; set AWS_ACCESS_KEY_ID and "
                "AWS_SECRET_ACCESS_KEY (and AWS_ENDPOINT_URL if it is not Amazon S3)."
            )
        return (
            f"{self.name}: the store cannot be reached{_endpoint()} ({error}); check the network and AWS_ENDPOINT_URL, "
            "then run the same command again."
        )


def _endpoint() -> str:
    """Return the store's address as text, if the user set one."""
    chosen = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
    return f" at {chosen}" if chosen else ""


def _client(url: str) -> Any:
    try:
        import boto3
        from botocore.config import Config
        from botocore.exceptions import BotoCoreError
    except ImportError as error:
        raise UserError(f'{url}: boto3 is not installed; pip install "fexgan_lit[stream]".') from error

    def make(**s3: str) -> Any:
        options = Config(
            connect_timeout=CONNECT_S, read_timeout=READ_S, max_pool_connections=CONNECTIONS, s3=s3 or None,
            retries={"total_max_attempts": _ATTEMPTS, "mode": "standard"},
            # S3-compatible stores may not support Amazon's newer checksums; chunks have their own
            request_checksum_calculation="when_required", response_checksum_validation="when_required",
        )  # fmt: skip
        return session.client("s3", config=options)

    try:
        session = boto3.session.Session()
        client = make()
        # other stores rarely support one host name per bucket
        return client if "amazonaws.com" in client.meta.endpoint_url else make(addressing_style="path")
    except (BotoCoreError, ValueError) as error:
        raise UserError(f"{url}: the AWS variables cannot be used ({error}).") from error


class ChunkStore(Protocol):
    """A flat store of files; every method raises a UserError if the place cannot be used."""

    @property
    def name(self) -> str:
        """The place as the user wrote it."""

    def read(self, file: str) -> bytes | None:
        """Return the content of a small file, or None if it does not exist."""

    def write(self, file: str, content: str | bytes) -> None:
        """Write a small file atomically."""

    def send(self, path: Path, file: str, check: int) -> None:
        """Store a copy of the file at `path`, whose CRC-32 is `check`; this may remove `path`."""

    def remove(self, file: str) -> None:
        """Remove a file if it exists."""

    def first(self) -> str | None:
        """Return the name of some file at the place, or None if it is empty."""


class FolderStore:
    """A folder of this machine."""

    def __init__(self, folder: Path) -> None:
        self.folder: Path = folder
        self.name = str(folder)

    def read(self, file: str) -> bytes | None:
        """See `ChunkStore.read`."""
        path = self.folder / file
        return self._try(lambda: path.read_bytes() if path.is_file() else None)

    def write(self, file: str, content: str | bytes) -> None:
        """See `ChunkStore.write`."""
        self._try(lambda: write_atomic(self.folder / file, content))

    def send(self, path: Path, file: str, check: int) -> None:
        """See `ChunkStore.send`; it replaces an existing file, which is as fast as comparing it."""
        partial = self.folder / f"{file}.partial"

        def take_over() -> None:
            shutil.move(path, partial)  # a rename if both are on one disk
            partial.replace(self.folder / file)

        self._try(take_over)

    def remove(self, file: str) -> None:
        """See `ChunkStore.remove`."""
        self._try(lambda: (self.folder / file).unlink(missing_ok=True))

    def first(self) -> str | None:
        """See `ChunkStore.first`."""
        return self._try(lambda: min(self._names(), default=None))

    def _names(self) -> list[str]:
        return [path.name for path in self.folder.iterdir()] if self.folder.exists() else []

    def _try(self, work: Callable[[], T]) -> T:
        try:
            return work()
        except OSError as error:
            raise UserError(
                f"the folder {self.folder} cannot be used ({error.strerror or error}); make it readable and writable, "
                "free space, or choose another place."
            ) from error


def store_of(name: str) -> FolderStore | S3Store:
    """Return the store for `name`, a folder or a URL, without accessing it.

    Raises:
        UserError: the URL is not s3://bucket/prefix, or boto3 is missing.
    """
    return S3Store(name) if is_url(name) else FolderStore(Path(name).expanduser().absolute())


def is_url(name: str) -> bool:
    """Return whether a root or place is a URL and not a folder of this machine."""
    return "://" in name


def holds_chunks(root: str | None) -> bool:
    """Return whether a root is a URL, or a folder with a complete or incomplete chunked pack."""
    if root is None or is_url(root):
        return root is not None
    folder = Path(root).expanduser()
    return (folder / WRITING).is_file() or ((folder / FACTS).is_file() and (folder / INDEX).is_file())


def absolute_root(root: str) -> str:
    """Return `root` in a form that is valid in any working directory: a URL unchanged, a path made absolute."""
    return root if is_url(root) else str(Path(root).expanduser().resolve())
