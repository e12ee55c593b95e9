"""Object stores: five plain operations each, over pyarrow (S3, Google) or fsspec (the rest)."""

from __future__ import annotations

import importlib
import logging
import os
from datetime import timedelta
from typing import Any, Protocol
from urllib.parse import parse_qsl

import pyarrow as pa
from pyarrow import fs

from distes.errors import UsageError, unknown
from distes.runs.storage.location import URI

CONNECT_S = 5.0
REQUEST_S = 15.0

# What to install for a scheme that pyarrow is not used for.
PACKAGES = {**dict.fromkeys(("abfs", "abfss", "az"), "'distes[azure]'"), "memory": "fsspec"}


class Store(Protocol):
    """Whole objects below one folder; keys are '/'-separated paths in it.

    All raise FileNotFoundError for an object that is not there, and otherwise whatever their
    library does: `as_os_error` tells which of that are faults of the store.
    """

    def put(self, key: str, data: bytes | memoryview) -> None:
        """Write a whole object; it is visible when this returns, and never in part."""

    def get(self, key: str) -> bytes:
        """Read a whole object."""

    def list_names(self, folder: str) -> list[str]:
        """Name what a folder holds, one level down; empty if it holds nothing."""

    def exists(self, key: str) -> bool:
        """Whether there is an object, or a folder with something in it."""

    def delete(self, key: str) -> None:
        """Delete an object."""

    def delete_folder(self, key: str) -> None:
        """Delete all that is below a folder."""


def open_store(uri: URI) -> Store:
    """Choose how to reach a URI; nothing is read or written yet.

    Raises:
        UsageError: nobody knows the scheme, or what reaches it is not installed.
        OSError: the bucket's region was asked for, and there was no answer.
    """
    place = uri.partition("?")[0].partition("://")[2]
    if uri.scheme in {"s3", "s3a"}:
        return ArrowStore(_open_s3(uri), place)
    if uri.scheme in {"gs", "gcs"}:
        options = _parse_options(uri, {"endpoint_override", "scheme"})
        limit = timedelta(seconds=REQUEST_S)
        return ArrowStore(fs.GcsFileSystem(retry_time_limit=limit, **options), place)
    return FsspecStore(uri)


class ArrowStore:
    """Through pyarrow, which has clients of its own; ``root`` is bucket and path."""

    def __init__(self, files: fs.FileSystem, root: str) -> None:
        self._files, self._root = files, root

    def put(self, key: str, data: bytes | memoryview) -> None:
        # One write: an upload that fails is then never closed as if it were whole.
        with self._files.open_output_stream(self._at(key)) as stream:
            stream.write(data)

    def get(self, key: str) -> bytes:
        with self._files.open_input_file(self._at(key)) as stream:
            data: bytes = stream.read()
            return data

    def list_names(self, folder: str) -> list[str]:
        where = fs.FileSelector(self._at(folder), allow_not_found=True)
        return [info.base_name for info in self._files.get_file_info(where)]

    def exists(self, key: str) -> bool:
        return bool(self._files.get_file_info(self._at(key)).type != fs.FileType.NotFound)

    def delete(self, key: str) -> None:
        self._files.delete_file(self._at(key))

    def delete_folder(self, key: str) -> None:
        self._files.delete_dir(self._at(key))

    def _at(self, key: str) -> str:
        return f"{self._root}/{key}".rstrip("/")


class FsspecStore:
    """Through fsspec and the package that it names for a scheme.

    Listings are not cached: other processes write, too.

    Raises:
        UsageError: the package is not installed, or there is none.
        OSError: it cannot be set up, for want of credentials, say.
    """

    def __init__(self, uri: URI) -> None:
        if uri.query:
            raise UsageError(
                f"'{uri}' has options behind '?', which {uri.scheme}:// does not take: set them "
                "in the environment or in fsspec's configuration"
            )
        install = PACKAGES.get(uri.scheme, "fsspec and its package for this scheme")
        try:
            fsspec = importlib.import_module("fsspec")
        except ModuleNotFoundError:
            raise UsageError(f"'{uri}' needs more: pip install {install}") from None
        if uri.scheme not in fsspec.available_protocols():
            raise UsageError(
                f"'{uri}' has the unknown scheme '{uri.scheme}': accepted are paths, file://, "
                "s3://, gs://, abfs:// and what fsspec has a package for"
            )
        try:
            self._files, self._root = fsspec.url_to_fs(str(uri), use_listings_cache=False)
        except ImportError as error:
            raise UsageError(
                f"'{uri}' needs more: pip install {install} ({str(error).rstrip('.')})"
            ) from None
        except ValueError as error:
            raise OSError(f"ValueError: {error}") from error
        # What it found out about credentials is in the sentence that is raised.
        logging.getLogger("azure.identity").setLevel(logging.CRITICAL)

    def put(self, key: str, data: bytes | memoryview) -> None:
        self._files.pipe_file(self._at(key), bytes(data))

    def get(self, key: str) -> bytes:
        return bytes(self._files.cat_file(self._at(key)))

    def list_names(self, folder: str) -> list[str]:
        where = self._at(folder)
        try:
            found = self._files.ls(where, detail=False, refresh=True)
        except FileNotFoundError:
            return []
        own = where.rpartition("/")[2]
        # Some stores list the marker object of the folder itself.
        names = [str(name).rstrip("/").rpartition("/")[2] for name in found]
        return [name for name in names if name != own or f"{where}/{own}" in found]

    def exists(self, key: str) -> bool:
        try:
            self._files.info(self._at(key))  # `exists` of fsspec hides faults
        except FileNotFoundError:
            return False
        return True

    def delete(self, key: str) -> None:
        self._files.rm_file(self._at(key))

    def delete_folder(self, key: str) -> None:
        self._files.rm(self._at(key), recursive=True)

    def _at(self, key: str) -> str:
        return f"{self._root}/{key}".rstrip("/")


def as_os_error(error: Exception) -> OSError:
    """Take what a store's library raises for an OSError.

    Raises:
        Exception: the error itself, if it is none of a store: a mistake in a program, say.
    """
    if isinstance(error, OSError):
        return error
    unable = isinstance(error, pa.ArrowException | NotImplementedError)
    if unable or type(error).__module__.split(".")[0] not in {"builtins", "distes"}:
        return OSError(f"{type(error).__name__}: {error}")
    raise error


def _open_s3(uri: URI) -> fs.FileSystem:
    options = _parse_options(uri, {"region", "endpoint_override", "scheme"})
    variables = os.environ.get
    endpoint = variables("AWS_ENDPOINT_URL_S3") or variables("AWS_ENDPOINT_URL")
    endpoint = options.pop("endpoint_override", None) or endpoint
    region = variables("AWS_REGION") or variables("AWS_DEFAULT_REGION")
    region = options.pop("region", None) or region
    if region is None:
        # Asking takes a request to Amazon; a server of one's own has no regions to tell.
        region = "us-east-1" if endpoint else fs.resolve_s3_region(uri.bucket)
    return fs.S3FileSystem(
        region=region,
        endpoint_override=endpoint,
        allow_delayed_open=True,  # a small object in one request instead of three
        connect_timeout=CONNECT_S,
        request_timeout=REQUEST_S,
        # `RetryingStore` tries again: it knows for how long that makes sense.
        retry_strategy=fs.AwsStandardS3RetryStrategy(max_attempts=1),
        **options,
    )


def _parse_options(uri: URI, known: set[str]) -> dict[str, Any]:
    given = dict(parse_qsl(uri.query, keep_blank_values=True))
    for name in given:
        if name not in known:
            raise unknown(f"option of {uri.scheme}://,", name, known)
    return given
