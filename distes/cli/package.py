"""The project around a configuration, packed for another machine.

What ignore files name stays behind, and so do runs, environments and caches. What a run
is known to read is packed in any case.
"""

from __future__ import annotations

import os
import zipfile
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from pathspec import GitIgnoreSpec

from distes.errors import UsageError

MAX_BYTES = 512 * 2**20
"""Ray takes no larger package."""

LEFT = {".git", ".hg", ".svn", "__pycache__", "node_modules", ".ipynb_checkpoints", ".tox", ".nox"}
"""Folders that are never part of a project's sources."""

SECRET = {".ssh", ".aws", ".azure", ".gnupg", ".kube", ".ray", ".docker", ".config", ".cache"} | {
    ".env",
    ".netrc",
    ".pypirc",
    ".bash_history",
    ".zsh_history",
    ".python_history",
}
"""Where keys, tokens and what people typed are kept: sent to nobody."""

MARKS = ("pyvenv.cfg", "conda-meta", "CACHEDIR.TAG")
"""A folder with one of these is an environment or a cache."""

RUN_MARKS = ("config.json", "generations", "checkpoints")
"""A folder with all of these is a run."""

_EPOCH = (1980, 1, 1, 0, 0, 0)


@dataclass(frozen=True)
class Project:
    """A folder, and what of it a job needs.

    Attributes:
        root: the folder; the job's working directory is a copy of it.
        needed: packed whatever ignore files say: files, and folders with all they hold.
        added: packages from elsewhere, put beside the project's own.
    """

    root: Path
    needed: tuple[Path, ...] = ()
    added: tuple[Path, ...] = ()

    def within(self, path: str | Path, what: str) -> str:
        """Spell a path as the job's working directory has it.

        Args:
            path: relative to this process's working directory, or absolute.
            what: its part in the command, for the refusal.

        Raises:
            UsageError: it is not below the root.
        """
        try:
            plain = Path(os.path.normpath(Path(path).absolute()))  # a/../b is b, links or not
            return plain.relative_to(self.root.absolute()).as_posix()
        except ValueError:
            raise UsageError(
                f"{what} {path} is not below the current directory {self.root.absolute()}, "
                "which is what a job takes along: submit from a directory that holds both"
            ) from None

    def files(self) -> dict[str, Path]:
        """Find what is to be packed: name in the package -> file.

        Raises:
            UsageError: the folder is a home directory or above one, a file that is needed
                is not there, or an ignore file can't be read.
        """
        home, root = Path.home().resolve(), self.root.resolve()
        if root == home or root in home.parents:
            raise UsageError(
                f"{root} is a home directory, or holds one, and a job takes the current "
                "directory along: submit from a project's own"
            )
        found = {_name(path, self.root): path for path in _kept(self.root, self.root, [], ())}
        for needed in self.needed:
            if not needed.exists():
                raise UsageError(f"there is no file or directory {needed}")
            found |= {_name(path, self.root): path for path in _all(needed)}
        for package in self.added:
            # A project that is the package's own sources has it already.
            found |= {_name(path, package.parent): path for path in _all(package)} | found
        return dict(sorted(found.items()))

    def pack(self, archive: Path) -> int:
        """Write the package; equal files give an equal package.

        Args:
            archive: a .zip to write.

        Returns:
            How many files are in it.

        Raises:
            UsageError: it would be larger than Ray takes, or a file can't be read.
        """
        files = self.files()
        with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as package:
            for name, path in files.items():
                try:
                    info = zipfile.ZipInfo(name, _EPOCH)
                    info.compress_type = zipfile.ZIP_DEFLATED
                    info.external_attr = (path.stat().st_mode & 0xFFFF) << 16
                    with path.open("rb") as source, package.open(info, "w") as target:
                        while block := source.read(2**20):
                            target.write(block)
                            if archive.stat().st_size > MAX_BYTES:
                                raise self._too_large(files)
                except OSError as error:
                    raise UsageError(f"{path} can't be packed: {error.strerror}") from error
        if archive.stat().st_size > MAX_BYTES:
            raise self._too_large(files)
        return len(files)

    def _too_large(self, files: dict[str, Path]) -> UsageError:
        sizes: Counter[str] = Counter()
        for name, path in files.items():
            sizes[name.partition("/")[0]] += path.stat().st_size
        largest = ", ".join(f"{name} ({_mib(size)})" for name, size in sizes.most_common(3))
        return UsageError(
            f"{self.root.absolute()} is too large to be sent: packed it has more than "
            f"{_mib(MAX_BYTES)}; the largest entries are {largest}: name what a run does not "
            "read in .rayignore, or submit from another directory"
        )


Rules = list[tuple[Path, GitIgnoreSpec]]


def _kept(folder: Path, root: Path, rules: Rules, above: tuple[Path, ...]) -> Iterator[Path]:
    """Walk a folder, leaving out what is ignored; a link back up is not followed."""
    real = folder.resolve()
    if real in above:
        return
    rules = [*rules, *_rules(folder)]
    for entry in _entries(folder):
        if entry.name in SECRET:
            continue
        if entry.is_dir():
            if not (_is_left(entry, root) or _ignored(entry, rules)):
                yield from _kept(entry, root, rules, (*above, real))
        elif entry.is_file() and not _ignored(entry, rules):
            yield entry


def _all(path: Path) -> Iterator[Path]:
    """A file, or the files below a folder, compiled ones left out."""
    if path.is_file():
        yield path
        return
    for entry in _entries(path):
        if entry.name not in LEFT | SECRET and (entry.is_dir() or entry.is_file()):
            yield from _all(entry)


def _entries(folder: Path) -> Iterable[Path]:
    try:
        return sorted(folder.iterdir())
    except OSError as error:
        raise UsageError(f"{folder} can't be read: {error.strerror}") from error


def _is_left(folder: Path, root: Path) -> bool:
    if folder.name in LEFT or any((folder / mark).exists() for mark in MARKS):
        return True
    if folder.name == "runs" and folder.parent == root and not (folder / "__init__.py").exists():
        return True
    return all((folder / mark).exists() for mark in RUN_MARKS)


def _rules(folder: Path) -> Rules:
    names = [".gitignore", ".rayignore"]
    if os.environ.get("RAY_RUNTIME_ENV_IGNORE_GITIGNORE") == "1":  # as Ray's own commands do
        names = [".rayignore"]
    found: Rules = []
    for name in names:
        file = folder / name
        if not file.is_file():
            continue
        try:
            lines = file.read_text(encoding="utf-8").splitlines()
            found.append((folder, GitIgnoreSpec.from_lines(lines)))
        except (OSError, ValueError) as error:
            raise UsageError(f"{file} can't be read: {error}") from error
    return found


def _ignored(path: Path, rules: Rules) -> bool:
    """Ask all rules; the one nearest to the path that says anything decides."""
    verdict = False
    for base, spec in rules:
        name = _name(path, base) + ("/" if path.is_dir() else "")
        said = spec.check_file(name).include
        verdict = verdict if said is None else said
    return verdict


def _name(path: Path, base: Path) -> str:
    return path.relative_to(base).as_posix()


def _mib(size: int) -> str:
    return f"{size / 2**20:,.0f} MiB"
