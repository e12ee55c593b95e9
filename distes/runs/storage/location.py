"""Where a run is: a local directory, or a folder of an object store named by a URI."""

from __future__ import annotations

import os
import re
from pathlib import Path, PurePath
from typing import TypeAlias
from urllib.parse import unquote, urlsplit

from distes.errors import UsageError

_SCHEME = re.compile(r"([a-z][a-z0-9+.-]*):/+")
_COMMON = frozenset({"file", "s3", "s3a", "gs", "gcs", "abfs", "abfss", "az", "memory"})
NAME_BYTES = 255  # of a file or folder, on the file systems in use
_UNSAFE = re.compile(r"[\s%#\\]|::")


class URI(str):
    """A folder of an object store: text with the few parts of a `Path` that runs use.

    >>> run = URI("s3://bucket/runs/x?region=eu-west-1")
    >>> run.name, run.parent, run / "episodes"
    ('x', 's3://bucket/runs?region=eu-west-1', 's3://bucket/runs/x/episodes?region=eu-west-1')
    """

    __slots__ = ()

    def __truediv__(self, name: str) -> URI:
        """Name what is in the folder."""
        path, mark, query = self.partition("?")
        return URI(f"{path}/{name}{mark}{query}")

    @property
    def scheme(self) -> str:
        """What stands before ``://``."""
        return self.partition("://")[0]

    @property
    def bucket(self) -> str:
        """The bucket, container or host; may be empty."""
        return self._key.partition("/")[0]

    @property
    def name(self) -> str:
        """The last part of the path."""
        return self._key.rpartition("/")[2]

    @property
    def parent(self) -> URI:
        """The folder it is in."""
        path, mark, query = self.partition("?")
        return URI(path.rpartition("/")[0] + mark + query)

    @property
    def query(self) -> str:
        """What stands behind ``?``."""
        return self.partition("?")[2]

    @property
    def _key(self) -> str:
        return self.partition("?")[0].partition("://")[2]


Location: TypeAlias = Path | URI  # of a run; both kinds have ``name``, ``parent`` and ``/``


def locate(given: str | Path) -> Location:
    """Read what a user gave as the place of a run: a path, or a URI as text.

    >>> locate("runs/x"), locate("file:///data/x"), locate("s3://bucket/x/")
    (PosixPath('runs/x'), PosixPath('/data/x'), 's3://bucket/x')

    Raises:
        UsageError: it is a URI, and not one that can name a run.
    """
    if isinstance(given, URI):
        return given
    if not isinstance(given, str | PurePath):
        raise UsageError(f"{given!r} is not a path, nor a URI as text")
    text = str(given)
    found = _SCHEME.match(text)
    if found is None and not _can_be_path(text):
        raise UsageError(
            f"{text[:60]!r}... cannot be a path: a name is too long, or holds NUL or what is no "
            "character"
        )
    if found is None:
        return Path(given)
    scheme, rest = found[1], text[found.end() :]
    if not text.startswith(f"{scheme}://"):
        if scheme not in _COMMON:
            return Path(given)
        raise UsageError(
            f"'{text}' has lost a slash, as in a Path: give '{scheme}://{rest}', as text"
        )
    if scheme == "file":
        parts = urlsplit(text)
        if parts.netloc not in {"", "localhost"} or not parts.path:
            raise UsageError(f"'{text}' is no file URI of this machine: write file:///path/to/run")
        return Path(unquote(parts.path))
    return _parse_uri(text)


def shorten(place: Location) -> str:
    """Write a place as a user would: relative where it is below the working directory."""
    below = isinstance(place, Path) and place.is_absolute() and place.is_relative_to(Path.cwd())
    return str(place.relative_to(Path.cwd()) if below and isinstance(place, Path) else place)


def _can_be_path(text: str) -> bool:
    try:
        names = os.fsencode(text).split(b"/")
    except UnicodeEncodeError:  # half of a surrogate pair
        return False
    return b"\0" not in os.fsencode(text) and max(map(len, names)) <= NAME_BYTES


def _parse_uri(text: str) -> URI:
    path, mark, query = text.partition("?")
    scheme, _, key = path.partition("://")
    if _UNSAFE.search(path):
        raise UsageError(f"'{text}' holds a space, %, #, '\\' or '::', which run URIs may not")
    bucket, _, rest = key.partition("/")
    rest = "/".join(part for part in rest.split("/") if part)
    if ":" in bucket.rpartition("@")[0] or (scheme.startswith("s3") and "@" in bucket):
        # Not repeated: it holds a password, and the message may be logged.
        raise UsageError(
            f"the {scheme} URI holds credentials, which would be written into the run: set them in "
            "the environment"
        )
    if ".." in rest.split("/") or "." in rest.split("/"):
        raise UsageError(f"'{text}' has a '.' or '..' in it: name the folder itself")
    if not rest:
        raise UsageError(
            f"'{text}' names no folder: write for example '{scheme}://{bucket or 'BUCKET'}/run'"
        )
    return URI(f"{scheme}://{bucket}/{rest}{mark}{query}")
