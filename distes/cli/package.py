"""The project around a configuration, packed for another machine.

What ignore files name stays behind, and so do runs, environments, caches, what may hold
keys, and what links find elsewhere. What a run is known to read is packed in any case.
Why Ray does not pack: docs/decisions/014.
"""

from __future__ import annotations

import os
import zipfile
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pathspec import GitIgnoreSpec

from distes.cli.secret_names import is_secret
from distes.errors import UsageError

MAX_BYTES = 512 * 2**20
"""Ray takes no larger package."""

NOT_SOURCES = {".git", ".hg", ".svn", "__pycache__", "node_modules", ".ipynb_checkpoints"}
NOT_SOURCES |= {".tox", ".nox"}
"""Never part of a project's sources."""

MARKS = ("pyvenv.cfg", "conda-meta", "CACHEDIR.TAG")
"""A folder with one of these is an environment or a cache."""

RUN_MARKS = ("config.json", "generations", "checkpoints")
"""A folder with all of these is a run."""

KEYS, LINK = "may hold keys, by its name", "leads out of the project"
"""Why something is left out that a project may need nevertheless."""

_EPOCH = (1980, 1, 1, 0, 0, 0)

Rules = tuple[tuple[Path, GitIgnoreSpec], ...]
"""Ignore files, outermost first: the folder of each, and what it says."""

Found = Iterable[tuple[Path, str]]
"""Files to pack, with "", and what is left out, with the reason."""


@dataclass(frozen=True)
class Contents:
    """What a package will hold.

    Attributes:
        files: name in the package -> file.
        left: name of a file or a whole folder that is left out -> reason.
    """

    files: dict[str, Path]
    left: dict[str, str]

    def describe(self) -> Iterator[str]:
        """List files with their sizes, what is left out with its reason, and the sum."""
        sizes = {name: path.stat().st_size for name, path in self.files.items()}
        yield from (f"{size:>14,} bytes  {name}" for name, size in sizes.items())
        yield from (f"left out: {name} ({why})" for name, why in self.left.items())
        yield f"{len(sizes)} files, {sum(sizes.values()):,} bytes unpacked"


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

    def survey(self) -> Contents:
        """Find what is to be packed, and what is left out.

        Raises:
            UsageError: the folder is a home directory or above one, a file that is needed
                is not there or elsewhere, or an ignore file can't be read.
        """
        home, root = Path.home().resolve(), self.root.resolve()
        if root == home or root in home.parents:
            raise UsageError(
                f"{root} is a home directory, or holds one, and a job takes the current "
                "directory along: submit from a project's own"
            )
        files: dict[str, Path] = {}
        left: dict[str, str] = {}

        def take(found: Found, base: Path) -> None:
            for path, why in found:
                if why:
                    left[_name(path, base)] = why
                else:
                    files[_name(path, base)] = path

        for package in self.added:  # first: a project that is its sources has its own files
            take(_walk(package, package.resolve()), package.parent)
        take(_walk(self.root, root, self.root), self.root)
        for needed in self.needed:
            if not needed.exists():
                raise UsageError(f"there is no file or directory {needed}")
            if _explain_absence(needed, root) == LINK:
                raise UsageError(f"{needed} {LINK} {root}, which is all that a job takes along")
            left.pop(_name(needed, self.root), None)
            take([(needed, "")] if needed.is_file() else _walk(needed, root), self.root)
        return Contents(
            dict(sorted(files.items())),
            {name: why for name, why in sorted(left.items()) if name not in files},
        )

    def pack(self, archive: Path) -> Contents:
        """Write the package; equal files give an equal package, which Ray takes only once.

        Args:
            archive: a .zip to write.

        Returns:
            What is in it, and what is not.

        Raises:
            UsageError: it would be larger than Ray takes, or a file can't be read.
        """
        contents = self.survey()
        files = contents.files
        with zipfile.ZipFile(archive, "w") as package:
            for name, path in files.items():
                try:
                    info = zipfile.ZipInfo.from_file(path, name, strict_timestamps=False)
                    info.date_time, info.compress_type = _EPOCH, zipfile.ZIP_DEFLATED
                    with path.open("rb") as source, package.open(info, "w") as target:
                        while block := source.read(2**20):
                            target.write(block)
                            self._refuse_too_large(archive, files)
                except OSError as error:
                    raise UsageError(f"{path} can't be packed: {error.strerror}") from error
        self._refuse_too_large(archive, files)
        return contents

    def _refuse_too_large(self, archive: Path, files: dict[str, Path]) -> None:
        if archive.stat().st_size <= MAX_BYTES:
            return
        sizes: Counter[str] = Counter()
        for name, path in files.items():
            sizes[name.partition("/")[0]] += path.stat().st_size
        largest = ", ".join(f"{name} ({_mib(size)})" for name, size in sizes.most_common(3))
        raise UsageError(
            f"{self.root.absolute()} is too large to be sent: packed it has more than "
            f"{_mib(MAX_BYTES)}; the largest entries are {largest}: name what a run does not "
            "read in .rayignore, or submit from another directory"
        )


def _walk(
    folder: Path,
    within: Path,
    root: Path | None = None,
    rules: Rules = (),
    above: tuple[Path, ...] = (),
) -> Iterator[tuple[Path, str]]:
    """List the files below a folder, and what is left out; a link back up is not followed.

    Args:
        folder: where to look.
        within: a folder that no link may lead out of, links resolved.
        root: of the project; what it ignores is left out. None lists all sources.
        rules: of the folders between.
        above: the folders between, links resolved.
    """
    real = folder.resolve()
    if real in above:
        return
    if root is not None:
        rules = (*rules, *_read_rules(folder))
    try:
        entries = sorted(folder.iterdir())
    except OSError as error:
        raise UsageError(f"{folder} can't be read: {error.strerror}") from error
    for entry in entries:
        why = _explain_absence(entry, within) or _explain_neglect(entry, root, rules)
        if why or entry.is_file():
            yield entry, why
        else:
            yield from _walk(entry, within, root, rules, (*above, real))


def _explain_absence(path: Path, within: Path) -> str:
    """Say why a file or folder is sent in no case; "" if it may be."""
    real = Path(os.path.realpath(path))  # unlike Path.resolve it answers in a circle, too
    if not real.is_relative_to(within):
        return LINK
    below = [each for each in (real, *real.parents) if within in each.parents]
    if any(each.name in NOT_SOURCES for each in (path, *below)):
        return "no source"
    if any(map(is_secret, (path, *below))):
        return KEYS
    return "" if path.is_file() or path.is_dir() else "no file"


def _explain_neglect(path: Path, root: Path | None, rules: Rules) -> str:
    """Say why a file or folder of a project is left out unless it is asked for; "" if it isn't."""
    if root is None:
        return ""
    if _is_ignored(path, rules):
        return "ignored"
    if not path.is_dir():
        return ""
    if path == root / "runs" and not (path / "__init__.py").exists():
        return "place of runs"
    if any((path / mark).exists() for mark in MARKS):
        return "environment or cache"
    return "run" if all((path / mark).exists() for mark in RUN_MARKS) else ""


def _read_rules(folder: Path) -> Iterator[tuple[Path, GitIgnoreSpec]]:
    names = [".gitignore", ".rayignore"]
    if os.environ.get("RAY_RUNTIME_ENV_IGNORE_GITIGNORE") == "1":  # as Ray's own commands do
        names = [".rayignore"]
    for file in (folder / name for name in names if (folder / name).is_file()):
        try:
            lines = file.read_text(encoding="utf-8").splitlines()
            yield folder, GitIgnoreSpec.from_lines(lines)
        except (OSError, ValueError) as error:
            raise UsageError(f"{file} can't be read: {error}") from error


def _is_ignored(path: Path, rules: Rules) -> bool:
    """Ask all rules; the one nearest to the path that says anything decides.

    As git does, each entry is asked for by itself: folders above it have been let through.
    """
    for base, spec in reversed(rules):
        name = _name(path, base) + ("/" if path.is_dir() else "")
        for pattern in reversed(spec.patterns):
            if pattern.include is not None and _fits(pattern, name):
                return pattern.include
    return False


def _fits(pattern: Any, name: str) -> bool:
    """Whether a pattern means an entry itself, and not only a folder above it.

    pathspec's own answer takes both together, and so lets ``!*/`` bring files back.
    """
    found = pattern.regex.finditer(name)
    return any(each.lastgroup is None or each.end() == len(name) for each in found)


def _name(path: Path, base: Path) -> str:
    return path.relative_to(base).as_posix()


def _mib(size: int) -> str:
    return f"{size / 2**20:,.0f} MiB"
