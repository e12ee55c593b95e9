"""Every access to a run's files: whole-file writes that are there fully or not at all."""

from __future__ import annotations

import io
import os
import secrets
import shutil
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from fnmatch import fnmatch
from pathlib import Path
from stat import S_IMODE
from typing import BinaryIO, TypeVar

from distes.errors import StorageError, UsageError
from distes.runs.storage.location import URI, Location, locate, shorten
from distes.runs.storage.locks import LEASE, FileLock, Lease, Lock, is_held, is_locked
from distes.runs.storage.retries import WRITING_S, RetryingStore
from distes.runs.storage.store_errors import StoreError, StoreRefusedError, describe_fault
from distes.runs.storage.stores import Store, open_store

CHECK = ".distes-check"  # begins the name of the file that is written to try a place out
T = TypeVar("T")

LINES_PART = 256 * 1024  # bytes; larger, a new object begins: each addition writes it all again
ANSWER_S = 30.0  # a place that has not answered by then is given up
READERS = 16  # requests that are under way at once when several files are read from a store


def say_nothing(text: str) -> None:
    """Tell nobody."""


def open_folder(path: str | Path) -> Folder:
    """Name a run's directory, wherever it is.

    Raises:
        UsageError: it is a URI that nothing here can reach.
        StorageError: its store does not answer.
    """
    place = locate(path)
    if isinstance(place, Path):
        return LocalFolder(place)
    try:
        return ObjectFolder(place, open_store(place))
    except OSError as error:
        raise _blame_user(describe_fault(place, error)) from error


class Folder(ABC):
    """The files of one run, named by '/'-separated paths below its directory."""

    root: Location  # the run's directory
    commit_s: float  # seconds between two commits that make sense there
    append_s: float  # seconds between two additions of lines

    @abstractmethod
    def write(self, name: str, data: bytes | memoryview) -> None:
        """Write a whole file durably; readers see the old one, then the new one.

        Raises:
            OSError: there is no room, or writing is not allowed.
        """

    @abstractmethod
    def append(self, name: str, data: bytes) -> None:
        """Add whole lines to a file, which readers then find by `read_lines`."""

    @abstractmethod
    def read(self, name: str, start: int = 0) -> bytes:
        """Read a whole file, or what comes after its first ``start`` bytes.

        Raises:
            FileNotFoundError: there is none.
            StorageError: it cannot be read.
        """

    def read_all(self, names: Sequence[str]) -> Iterator[bytes]:
        """Read several whole files, one after the other as they are asked for."""
        return map(self.read, names)

    def open_all(self, names: Sequence[str]) -> Iterator[BinaryIO]:
        """Open several files to read, one after the other as they are asked for."""
        return map(io.BytesIO, self.read_all(names))

    def read_lines(self, name: str, seen: dict[str, int] | None = None) -> list[bytes]:
        """Read the whole lines that were appended to a file.

        ``seen`` holds the bytes read before, by file: only what follows is read, and noted.
        """
        seen = {} if seen is None else seen
        files = self._list_line_files(name)
        # A file is complete once there is a later one.
        last = max((place for place, file in enumerate(files) if file in seen), default=0)
        files = files[last:]
        texts = [self.read(f, seen.get(f, 0)) for f in files] if seen else self.read_all(files)
        found: list[bytes] = []
        for file, text in zip(files, texts, strict=True):
            whole = text[: text.rfind(b"\n") + 1]
            seen[file] = seen.get(file, 0) + len(whole)
            found += whole.splitlines()
        return found

    @abstractmethod
    def _list_line_files(self, name: str) -> list[str]:
        """List the files with a file's lines, the one that grows at the end.

        There are two kinds of them where a run has moved between a disk and a bucket.
        """

    @abstractmethod
    def exists(self, name: str) -> bool:
        """Whether there is a file or folder of that name."""

    @abstractmethod
    def list_names(self, folder: str = ".") -> list[str]:
        """List what a folder holds, sorted, temporaries left out; empty if there is none."""

    @abstractmethod
    def delete(self, name: str) -> None:
        """Delete a file, or a folder with all it holds, durably."""

    @abstractmethod
    def delete_all(self, names: Sequence[str]) -> None:
        """Delete files in the order given, durably in the end."""

    @abstractmethod
    def begin(self, name: str, data: bytes) -> Lock:
        """Write a new run's first file, and lock it.

        Raises:
            UsageError: another process has begun a run there.
        """

    @abstractmethod
    def rewrite(self, name: str, data: bytes) -> list[Lock]:
        """Write a file that is locked; readers see the old one, then the new one.

        Returns:
            Locks that hold beside the old one, to be kept as long.
        """

    @abstractmethod
    def lock(self, name: str, say: Callable[[str], None] = say_nothing) -> Lock:
        """Lock a file against a second writer until closed, or until this process dies.

        ``say`` is told if that has to wait.

        Raises:
            UsageError: another process holds the lock.
        """

    @abstractmethod
    def is_locked(self, name: str) -> bool | None:
        """Whether a writer holds the lock on a file; None where that cannot be known."""

    @abstractmethod
    def is_taken(self) -> bool:
        """Whether a new run can't have the place: it is a file, or not empty."""

    @abstractmethod
    def check(self) -> None:
        """Try the place out with a small file: written, read back, listed, deleted.

        Raises:
            UsageError: it can't be a run's; the sentence says why and what to set.
            StorageError: it does not answer.
        """

    # What follows is for directories or for stores alone.

    def refuse_links(self, names: Sequence[str]) -> None:  # noqa: B027
        """Refuse symbolic links among files and folders, with all that these hold.

        Raises:
            UsageError: there is one: writing and deleting would reach what it leads to.
        """

    def make_folders(self, names: Sequence[str]) -> None:  # noqa: B027
        """Make empty folders, where there are such things: what reads tables finds them."""

    def delete_temporaries(self) -> None:  # noqa: B027
        """Delete what interrupted writes left behind."""

    def last_write(self, name: str) -> float | None:
        """When a file was last written, in seconds since 1970; None if that is not known."""
        return None

    def hurry(self) -> None:  # noqa: B027
        """Give up on faults within seconds from now on: the run is to end."""

    def take_overcome_faults(self) -> list[dict[str, object]]:
        """Give, once, the faults that passed when tried again: they become events."""
        return []


TEMPORARY = ".*.tmp"
"""Names of what an interrupted write may leave behind in a directory."""

PRIVATE = 0o600
"""Mode of a run's first file: its settings may hold secrets."""


class LocalFolder(Folder):
    """A directory of a file system, local or shared; nothing is touched yet."""

    root: Path
    commit_s, append_s = 2.0, 0.0

    def __init__(self, root: str | Path) -> None:
        self.root = Path(root).absolute()

    def write(self, name: str, data: bytes | memoryview, mode: int = 0o666) -> None:
        target = self.root / name
        if not target.parent.exists():
            target.parent.mkdir(parents=True)
            _sync(target.parent.parent)
        # Parquet readers skip names that begin with a dot.
        temporary = target.with_name(f".{target.name}.tmp")
        try:
            with open(temporary, "wb", opener=_open_no_link(mode)) as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(target)
        except OSError:
            temporary.unlink(missing_ok=True)
            raise
        _sync(target.parent)

    def append(self, name: str, data: bytes) -> None:
        with open(self.root / name, "a+b", opener=_open_no_link()) as file:
            if file.tell():  # a line that a crash cut short is ended first
                file.seek(-1, os.SEEK_END)
                if file.read(1) != b"\n":
                    file.write(b"\n")
            file.write(data)
            file.flush()
            os.fsync(file.fileno())

    def read(self, name: str, start: int = 0) -> bytes:
        with _explain_fault(self.root / name), _open_at_once(self.root / name) as file:
            file.seek(start)
            return file.read()

    def open_all(self, names: Sequence[str]) -> Iterator[BinaryIO]:
        for name in names:
            with _explain_fault(self.root / name):
                file = _open_at_once(self.root / name)
            yield file

    def _list_line_files(self, name: str) -> list[str]:
        return [*_list_parts(self, name), *([name] if self.exists(name) else [])]

    def exists(self, name: str) -> bool:
        return (self.root / name).exists()

    def list_names(self, folder: str = ".") -> list[str]:
        try:
            with _explain_fault(self.root / folder):
                found = os.listdir(self.root / folder)  # noqa: PTH208 (names are wanted)
        except FileNotFoundError:
            return []
        return _leave_out_hidden(found)

    def delete(self, name: str) -> None:
        target = self.root / name
        if target.is_dir():
            shutil.rmtree(target)
        else:
            target.unlink()
        _sync(target.parent)

    def delete_all(self, names: Sequence[str]) -> None:
        targets = [self.root / name for name in names]
        for target in targets:
            target.unlink()
        for parent in dict.fromkeys(target.parent for target in targets):
            _sync(parent)

    def make_folders(self, names: Sequence[str]) -> None:
        for name in names:
            (self.root / name).mkdir(parents=True, exist_ok=True)

    def refuse_links(self, names: Sequence[str]) -> None:
        for name in names:
            top = self.root / name
            found = [] if top.is_symlink() else os.walk(top)
            below = (Path(at) / each for at, folders, files in found for each in folders + files)
            for path in (top, *below):
                if path.is_symlink():
                    raise UsageError(
                        f"'{path}' is a symbolic link, and a run that goes on writes and deletes "
                        "there: put what it leads to in its place"
                    )

    def delete_temporaries(self) -> None:
        for temporary in self.root.rglob(TEMPORARY):
            temporary.unlink(missing_ok=True)  # another beginner's is gone by itself

    def begin(self, name: str, data: bytes) -> Lock:
        # Written and locked aside, then linked: of several beginners one gets the name, with all
        # its bytes, and nobody goes on with a run whose beginner has yet to lock it.
        aside = f".{name}.{secrets.token_hex(4)}.tmp"
        try:
            self.write(aside, data, PRIVATE)
            lock: Lock = FileLock(self.root / aside)
            try:
                os.link(self.root / aside, self.root / name)
            except OSError as error:
                lock.close()
                if isinstance(error, FileExistsError | FileNotFoundError):
                    raise
                # A file system without links: there, beginners are not told apart.
                self.write(name, data, PRIVATE)
                lock = self.lock(name)
        except (FileExistsError, FileNotFoundError):  # or cleaned up by who goes on with a run
            raise _taken(self.root) from None
        finally:
            (self.root / aside).unlink(missing_ok=True)
        return lock

    def rewrite(self, name: str, data: bytes) -> list[Lock]:
        aside = f".{name}.{secrets.token_hex(4)}.tmp"
        self.write(aside, data, PRIVATE)
        try:
            (self.root / aside).chmod(S_IMODE((self.root / name).stat().st_mode))
            # Locked before it has the name; who has opened the old file still meets its lock.
            lock = FileLock(self.root / aside)
            (self.root / aside).replace(self.root / name)
        except OSError:
            (self.root / aside).unlink(missing_ok=True)
            raise
        _sync(self.root)
        return [lock]

    def lock(self, name: str, say: Callable[[str], None] = say_nothing) -> Lock:
        return FileLock(self.root / name)

    def is_locked(self, name: str) -> bool | None:
        return is_locked(self.root / name)

    def last_write(self, name: str) -> float | None:
        try:
            return (self.root / name).stat().st_mtime
        except FileNotFoundError:
            return None

    def is_taken(self) -> bool:
        if not self.root.is_dir():
            return self.root.exists()
        return not all(fnmatch(each.name, TEMPORARY) for each in self.root.iterdir())

    def check(self) -> None:
        place = self.root.absolute()  # or, without that, the nearest directory above it
        while not place.exists():
            place = place.parent
        if not place.is_dir():
            raise UsageError(f"'{shorten(self.root)}' cannot be a directory: '{place}' is a file")
        file = place / f"{CHECK}-{secrets.token_hex(4)}"
        try:
            file.write_bytes(b"distes")
            kept = file.read_bytes() == b"distes" and file in place.iterdir()
        except PermissionError:
            said = f"'{shorten(self.root)}' cannot be written: '{place}' does not allow it"
            raise UsageError(said) from None
        except OSError as error:
            cause = error.strerror or str(error)
            raise StorageError(f"'{shorten(self.root)}' cannot be written ({cause})") from error
        finally:
            file.unlink(missing_ok=True)
        if not kept:
            raise StorageError(f"'{place}' does not give back what was written to it")


class ObjectFolder(Folder):
    """A folder of an object store: whole objects, no appending, no renaming, no locks."""

    root: URI
    commit_s, append_s = 10.0, 10.0

    def __init__(self, root: URI, store: Store) -> None:
        self.root = root
        self._store = RetryingStore(root, store)
        self._tails: dict[str, tuple[int, bytes]] = {}

    def write(self, name: str, data: bytes | memoryview) -> None:
        # The final name is written at once, it appears when it is whole.
        self._store.put(name, data)

    def append(self, name: str, data: bytes) -> None:
        # The newest part is written again until it is large enough.
        parts = name.rpartition(".")[0]
        number, text = self._tails.get(name) or self._read_tail(parts)
        if text and len(text) + len(data) > LINES_PART:
            number, text = number + 1, b""
        text += data
        self._store.put(f"{parts}/part-{number:06d}.jsonl", text)
        self._tails[name] = (number, text)

    def read(self, name: str, start: int = 0) -> bytes:
        return self._store.get(name)[start:]

    def _list_line_files(self, name: str) -> list[str]:
        return [*([name] if self.exists(name) else []), *_list_parts(self, name)]

    def read_all(self, names: Sequence[str]) -> Iterator[bytes]:
        with ThreadPoolExecutor(READERS) as pool:
            for start in range(0, len(names), READERS):  # no more than these are held at once
                yield from pool.map(self.read, names[start : start + READERS])

    def exists(self, name: str) -> bool:
        return self._store.exists(name)

    def list_names(self, folder: str = ".") -> list[str]:
        return _leave_out_hidden(self._store.list_names("" if folder == "." else folder))

    def delete(self, name: str) -> None:
        if self._store.list_names(name):
            self._store.delete_folder(name)
        else:
            self._store.delete(name)

    def delete_all(self, names: Sequence[str]) -> None:
        for name in names:
            self._store.delete(name)

    def begin(self, name: str, data: bytes) -> Lock:
        # The lease comes first, nothing else tells two beginners apart.
        lock = self.lock(name)
        try:
            if self.exists(name):
                raise _taken(self.root)
            self.write(name, data)
        except BaseException:
            lock.close()
            raise
        return lock

    def rewrite(self, name: str, data: bytes) -> list[Lock]:
        self.write(name, data)
        return []

    def lock(self, name: str, say: Callable[[str], None] = say_nothing) -> Lock:
        lease = Lease(self.root, self._store, say)
        self._store.patience_s = WRITING_S
        return lease

    def is_locked(self, name: str) -> bool | None:
        return is_held(self._store)

    def is_taken(self) -> bool:
        return bool(_ask_in_time(self.root, lambda: self._store.list_names("")))

    def check(self) -> None:
        name = f"{CHECK}-{secrets.token_hex(4)}"

        def probe() -> bool:
            self._store.put(name, b"distes")
            try:
                return self._store.get(name) == b"distes" and name in self._store.list_names("")
            finally:
                self._store.delete(name)

        if not _ask_in_time(self.root, probe):
            raise StorageError(f"'{shorten(self.root)}' does not give back what was written to it")

    def hurry(self) -> None:
        self._store.hurry()

    def take_overcome_faults(self) -> list[dict[str, object]]:
        return self._store.take_overcome_faults()

    def _read_tail(self, parts: str) -> tuple[int, bytes]:
        """Read the newest part of what was appended, to go on with it."""
        found = self.list_names(parts)
        if not found:
            return 0, b""
        number = int(found[-1].removeprefix("part-").removesuffix(".jsonl"))
        return number, self.read(f"{parts}/{found[-1]}")


def _ask_in_time(root: URI, ask: Callable[[], T]) -> T:
    """Ask a store that may be out of reach: a StorageError follows after `ANSWER_S`."""
    answer: Future[T] = Future()

    def work() -> None:
        try:
            answer.set_result(ask())
        except BaseException as error:  # noqa: BLE001 - raised below, by the caller's thread
            answer.set_exception(error)

    # Some clients can't be told how long they may take to find credentials: the thread is
    # not waited for, not even when the process ends.
    threading.Thread(target=work, name="distes-check", daemon=True).start()
    if not wait([answer], ANSWER_S).done:
        raise StorageError(
            f"'{root}' has not answered for {ANSWER_S:g} s: check the network and the credentials"
        )
    try:
        return answer.result()
    except StoreError as error:
        raise _blame_user(error) from error


def _blame_user(error: StoreError) -> Exception:
    """Make what the store refuses a mistake of its user's; leave its faults as they are."""
    return UsageError(str(error)) if isinstance(error, StoreRefusedError) else error


def _list_parts(folder: Folder, name: str) -> list[str]:
    """List the parts that an object store's folder keeps a file's lines in."""
    parts = name.rpartition(".")[0]
    return [f"{parts}/{part}" for part in folder.list_names(parts)]


def _taken(root: Path | URI) -> UsageError:
    return UsageError(f"'{shorten(root)}' is the directory of another run, begun just now")


def _leave_out_hidden(names: Sequence[str]) -> list[str]:
    """Leave out temporaries, and what a listing gave twice."""
    return sorted({name for name in names if not name.startswith((".", "_"))} - {LEASE})


def _open_no_link(mode: int = 0o666) -> Callable[[str, int], int]:
    """Open a file for writing that is no symbolic link; ``mode`` is a new one's."""
    return lambda path, flags: os.open(path, flags | os.O_NOFOLLOW, mode)


def _open_at_once(path: Path) -> BinaryIO:
    """Open a file for reading; of a pipe in its place nobody waits for the other end."""
    return open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK))


@contextmanager
def _explain_fault(path: Path) -> Iterator[None]:
    """Say in a sentence why a file or folder that is there cannot be read."""
    try:
        yield
    except FileNotFoundError:
        raise
    except OSError as error:
        cause = error.strerror or str(error)
        raise StorageError(f"'{shorten(path)}' cannot be read ({cause})") from error


def _sync(folder: Path) -> None:
    """Make a folder's entries durable."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
