"""Reading a run, finished or still being written."""

from __future__ import annotations

import io
import json
import time
import warnings
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from difflib import get_close_matches
from functools import cached_property
from pathlib import Path, PurePath
from typing import Any, BinaryIO, overload

import numpy as np
import pandas as pd
import pyarrow as pa

from distes.errors import Notice, UsageError, require_at_least, unknown
from distes.population.records import Population
from distes.runs import checkpoint, codec, inventory, schema
from distes.runs.inventory import FileSum
from distes.runs.parts import Part, list_parts
from distes.runs.storage.folder import Folder, open_folder
from distes.runs.storage.location import Location, locate, shorten
from distes.runs.storage.store_errors import StoreRefusedError
from distes.runs.tables import join_runs, tabulate_candidates
from distes.types import FloatArray, IntArray

QUIET_S = 600.0  # seconds without a commit after which a run that cannot be locked counts as left


@overload
def load(path: str | Path) -> Run: ...  # type: ignore[overload-overlap]  # text is iterable


@overload
def load(path: Iterable[str | Path]) -> Runs: ...


def load(path: str | Path | Iterable[str | Path]) -> Run | Runs:
    """Open a run directory, or several as one.

    Args:
        path: as `Search` was given, or printed; or the URI of one. A list of such gives
            `Runs`, whose tables say of each row which run it is of.

    Raises:
        UsageError: there is none, it is no run directory, or another version wrote it. What
            is damaged in it is refused when it is read.
    """
    if isinstance(path, str | PurePath) or not isinstance(path, Iterable):
        return Run(path)
    return Runs([Run(each) for each in path])


class Run:
    """A run on disk. Tables are read once, when first asked for; `load` again for news.

    Each file is compared with what was committed: one that was altered is refused, and a
    `Notice` names those that are missing.

    Attributes:
        path: the run's directory.
        config: what ``config.json`` holds.
    """

    def __init__(self, path: str | Path) -> None:
        self.path: Location = locate(path)
        self.config = read_config(path)
        self._folder = open_folder(path)

    def __repr__(self) -> str:
        """Name the directory."""
        return f"Run({str(self.path)!r})"

    @cached_property
    def generations(self) -> pd.DataFrame:
        """One row a generation."""
        return self.read(schema.GENERATIONS)

    @cached_property
    def episodes(self) -> pd.DataFrame:
        """One row an episode of the search."""
        return self.read(schema.EPISODES)

    @cached_property
    def evaluations(self) -> pd.DataFrame:
        """One row an episode of a held-out, test or further evaluation."""
        return self.read(schema.EVALUATIONS)

    @cached_property
    def events(self) -> list[dict[str, Any]]:
        """What happened besides, in order; each has ``time`` and ``kind``."""
        return parse_events(self._folder.read_lines(schema.EVENTS))

    def read(
        self,
        table: str,
        *,
        columns: Sequence[str] | None = None,
        generations: tuple[int, int] | None = None,
    ) -> pd.DataFrame:
        """Read some columns of a table, or some generations, without the rest of them.

        Args:
            table: ``"generations"``, ``"episodes"`` or ``"evaluations"``.
            columns: in this order; None is all.
            generations: the first one, and the first that is not wanted any more.

        Raises:
            UsageError: there is no such table or column, or what holds it is damaged.
        """
        pieces = [*self._read_pieces(table, columns, generations)]
        if pieces:
            frame: pd.DataFrame = pa.concat_tables(pieces).to_pandas()
            return frame
        empty: pd.DataFrame = schema.make_empty_table(table).to_pandas()
        return empty if columns is None else empty.reindex(columns=list(columns))

    def iterate(
        self,
        table: str,
        *,
        columns: Sequence[str] | None = None,
        generations: tuple[int, int] | None = None,
    ) -> Iterator[pd.DataFrame]:
        """Read a table in pieces of at most 65,536 rows, in order, for more than memory holds.

        Args:
            table: as for `read`, and so are the others.
            columns: to read.
            generations: to read.

        Yields:
            Frames with at least one row.

        Raises:
            UsageError: as `read`.
        """
        for piece in self._read_pieces(table, columns, generations):
            yield piece.to_pandas()

    def warn_of_missing(self) -> None:
        """Name the committed files that are missing in a `Notice`, once."""
        _ = self._sums

    def verify(self) -> tuple[list[str], int]:
        """Read every file that the run's commits stand on.

        Returns:
            What is missing or damaged, a sentence each; and the number of files.
        """
        faults, sums = checkpoint.verify(self._folder)
        return faults, len(sums)

    def population(self, generation: int) -> Population:
        """Read a generation's population; its task is None.

        Raises:
            UsageError: the generation is not there, its population was too large to be
                kept, or what holds it is damaged.
        """
        trees, arrays = self._find_populations(generation)
        if generation not in trees:
            near = f"; the last one before it is of generation {max(trees)}" if trees else ""
            raise UsageError(
                f"'{self.path}' holds no population of generation {generation} (of large "
                f"populations only some are kept){near}"
            )
        population = codec.decode(trees[generation], arrays)
        if not isinstance(population, Population):
            raise UsageError(f"generation {generation} of '{self.path}' is not a population")
        return population

    def snapshot(self) -> Any | None:
        """Decode what the last commit saved of the search; None before the first.

        Where that is damaged, a commit before it is read, and a `Notice` says so.

        Raises:
            UsageError: all are damaged, or the modules that define them are not imported.
        """
        return checkpoint.read_newest(self._folder, _notify)

    def episodes_of(self, generation: int) -> pd.DataFrame:
        """Read the rows of one generation's episodes, without the rest of them."""
        return self.read(schema.EPISODES, generations=(generation, generation + 1))

    def candidates(self, generation: int) -> pd.DataFrame:
        """Sum up a generation's candidates, one row each.

        Args:
            generation: counted from 0.

        Returns:
            ``candidate``, ``fitness`` (NaN = failed), ``episode_return_mean`` of its good
            episodes, ``episodes``, of these ``failed``; its ``context_NAME`` (``context_0``,
            ... where the environment names none), NaN where its episodes differ in it; and
            its parameters (``parameter_0``, ... where the policy names none), likewise, if
            they were logged.

        Raises:
            UsageError: there is no such generation.
        """
        require_at_least("generation", generation, 0)
        rows = self.episodes_of(generation)
        if rows.empty:
            raise UsageError(f"'{self.path}' has no episodes of generation {generation}")
        return tabulate_candidates(rows, self.context_names, self.parameter_names)

    @property
    def parameter_names(self) -> list[str] | None:
        """What the policy calls its parameters, (d,); None where it names none."""
        return self._read_names("parameter_names", "num_parameters")

    @property
    def context_names(self) -> list[str] | None:
        """What the environment calls the components of a context, (k,); None where it does not."""
        return self._read_names("context_names", "num_contexts")

    def returns(self) -> tuple[IntArray, FloatArray]:
        """Read generations and returns of the search's episodes, without the rest of them.

        Returns:
            (m,) generations and (m,) returns; NaN = failed.
        """
        frame = self.read(schema.EPISODES, columns=["generation", "episode_return"])
        return frame["generation"].to_numpy(), frame["episode_return"].to_numpy()

    @cached_property
    def evaluated_returns(self) -> pd.DataFrame:
        """Purpose, generation, call and return of the evaluations' episodes, and no more."""
        columns = ["purpose", "generation", "call", "episode_return"]
        return self.read(schema.EVALUATIONS, columns=columns)

    def statuses(self) -> dict[str, int]:
        """Count the search's episodes by status, without reading the rest of them."""
        counts: Counter[str] = Counter()
        for piece in self._read_pieces(schema.EPISODES, ["status"]):
            found = piece.column("status").value_counts().to_pylist()
            counts.update({each["values"]: each["counts"] for each in found})
        return dict(counts)

    def contexts(self) -> FloatArray | None:
        """Read the contexts of the search's episodes, (m, k), without the rest of them.

        Returns:
            Those that are known; None for a run without contexts.
        """
        found = []
        for piece in self._read_pieces(schema.EPISODES, ["context"]):
            column = piece.column("context").combine_chunks().drop_null()
            if len(column):
                found.append(column.flatten().to_numpy().reshape(len(column), -1))
        if not found:
            return None
        rows = np.concatenate(found)
        known: FloatArray = rows[np.isfinite(rows).all(axis=1)]
        return known

    def is_written(self) -> bool:
        """Whether a search is writing the run.

        Where there are no locks (object stores, some network file systems) one that has
        committed nothing for `QUIET_S` counts as gone.
        """
        locked = self._folder.is_locked(schema.CONFIG)
        if locked is not None:
            return locked
        newest = checkpoint.find_newest(self._folder)
        written = self._folder.last_write(
            schema.CONFIG if newest is None else checkpoint.marker_name(newest)
        )
        return written is not None and time.time() - written < QUIET_S

    def _read_names(self, key: str, count: str) -> list[str] | None:
        names = self.config.get(key)
        return names if isinstance(names, list) and len(names) == self.config.get(count) else None

    def _read_pieces(
        self,
        table: str,
        columns: Sequence[str] | None = None,
        generations: tuple[int, int] | None = None,
    ) -> Iterator[pa.Table]:
        """Read a table piece by piece, each row once, also while its parts are merged."""
        if table not in schema.TABLES:
            raise unknown("table", table, schema.TABLES)
        if isinstance(columns, str):
            columns = [columns]
        if generations is not None and not (
            isinstance(generations, Sequence) and len(generations) == 2
        ):
            raise UsageError(
                f"generations {generations!r} is not the first and the one behind the last: "
                "for example (90, 100)"
            )
        in_part = columns is not None or generations is not None
        read: list[tuple[Part, int]] = []  # with their rows
        listed: list[Part] | None = None
        while listed != (parts := self._list_parts(table)):
            listed = parts
            left = [part for part in parts if not read or part.last > read[-1][0].last]
            try:
                for part, file in zip(
                    left, self._folder.open_all([part.name for part in left]), strict=True
                ):
                    place = self.path / part.name
                    with self._check_part(part, file, in_part=in_part) as source:
                        opened = schema.open_parquet(source, place)
                        skip = sum(count for other, count in read if part.overlaps(other))
                        for piece in schema.read_pieces(
                            opened, place, columns=columns, generations=generations, skip=skip
                        ):
                            if len(piece):
                                yield piece
                    read.append((part, opened.metadata.num_rows - skip))
            except FileNotFoundError:  # merged since it was listed: the rest is in a wider one
                continue
            return
        raise UsageError(f"'{self.path / table}' cannot be read: a file that is listed is missing")

    def _check_part(self, part: Part, file: BinaryIO, *, in_part: bool) -> BinaryIO:
        """Refuse a part that was altered: all of it, or what a reader of it in part relies on."""
        known = self._sums.get(part.name)
        if in_part and known is not None and known.footer:
            if not inventory.has_footer(file, known):
                file.close()
                raise self._explain_damage(part.name)
            return file
        with file:
            data = file.read()
        self._refuse_altered(part.name, data)
        return io.BytesIO(data)

    def _list_parts(self, table: str) -> list[Part]:
        """List the parts to read; their sums are known from then on."""
        self.warn_of_missing()  # before the listing: what is committed meanwhile is in that alone
        parts = list_parts(self._folder, table)
        if any(part.name not in self._sums for part in parts):
            self._sums = checkpoint.read_newest_sums(self._folder)[0]
        return parts

    @cached_property
    def _sums(self) -> Mapping[str, FileSum]:
        """What the last commit stands on, by file; tells at once what of it is missing."""
        sums, faults = checkpoint.read_newest_sums(self._folder)
        missing = inventory.find_missing(self._folder, list(sums))
        while missing and sums != (newer := checkpoint.read_newest_sums(self._folder))[0]:
            sums, faults = newer  # the missing ones may have been merged
            missing = inventory.find_missing(self._folder, list(sums))
        said = [f"{name} is missing" for name in missing if name not in faults]
        said += [f"{name} {fault}" for name, fault in faults.items()]
        if inventory.is_config_altered(self._folder):
            said.append(f"{schema.CONFIG} is not as it was written")
        if said:
            more = f", and {len(said) - 1} more" if len(said) > 1 else ""
            _notify(
                f"'{self.path}' is not whole, and what is read of it neither: {said[0]}{more} "
                "(distes verify lists all)"
            )
        return sums

    def _refuse_altered(self, name: str, data: bytes) -> None:
        if name in self._sums and inventory.is_altered(data, self._sums[name]):
            raise self._explain_damage(name)

    def _explain_damage(self, name: str) -> UsageError:
        return UsageError(f"'{self.path / name}' is damaged (distes verify lists all that is)")

    def _find_populations(self, generation: int) -> tuple[dict[int, codec.Json], Mapping[str, Any]]:
        """Open the part that has a generation's population, if there is one."""

        def first(part: Part) -> int:
            return min(self._open_populations(part.name)[0])

        listed: list[Part] | None = None
        while listed != (parts := self._list_parts(schema.POPULATIONS)):
            listed = parts
            try:
                place = bisect_right(parts, generation, key=first) - 1
                return self._open_populations(parts[place].name) if place >= 0 else ({}, {})
            except FileNotFoundError:  # merged since it was listed
                continue
        raise UsageError(f"'{self.path}' lost populations while they were read")

    def _open_populations(self, name: str) -> tuple[dict[int, codec.Json], Mapping[str, Any]]:
        data = self._folder.read(name)
        self._refuse_altered(name, data)
        tree, arrays = codec.unpack(data)
        try:
            return {int(generation): one for generation, one in tree["dict"].items()}, arrays
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise UsageError(f"'{self.path / name}' does not hold populations") from error


class Runs:
    """Several runs as one: the rows of all, with ``run``, ``run_seed`` and ``strategy`` in front.

    ``run`` is the run's path, as text. A column that a run does not have is NaN in its rows.

    Attributes:
        runs: each by itself, as `load` gives it.
    """

    def __init__(self, runs: Sequence[Run]) -> None:
        if not runs:
            raise UsageError("no run is given: name at least one run directory")
        self.runs = tuple(runs)

    def __repr__(self) -> str:
        """Name the directories."""
        return f"Runs({[str(run.path) for run in self.runs]})"

    @cached_property
    def generations(self) -> pd.DataFrame:
        """One row a generation of a run."""
        return self._join("generations")

    @cached_property
    def episodes(self) -> pd.DataFrame:
        """One row an episode of a search."""
        return self._join("episodes")

    @cached_property
    def evaluations(self) -> pd.DataFrame:
        """One row an episode of a held-out, test or further evaluation."""
        return self._join("evaluations")

    def _join(self, table: str) -> pd.DataFrame:
        return join_runs([(_identify(run), getattr(run, table)) for run in self.runs])


def _identify(run: Run) -> dict[str, Any]:
    settings = run.config["search"]
    strategy = settings.get("strategy", {}).get("name", "")
    return {"run": str(run.path), "run_seed": settings.get("seed", 0), "strategy": strategy}


def read_config(path: str | Path) -> dict[str, Any]:
    """Read a run's configuration, and refuse what is not a run that can be read.

    Raises:
        UsageError: there is no such directory, it is no run, or one of another
            schema version.
        StorageError: it can't be read.
    """
    folder = open_folder(path)
    try:
        text = folder.read(schema.CONFIG) if folder.exists(schema.CONFIG) else None
    except StoreRefusedError as error:
        raise UsageError(str(error)) from error
    except OSError as error:
        if not isinstance(error.__cause__ or error, PermissionError):
            raise
        raise UsageError(
            f"'{shorten(folder.root / schema.CONFIG)}' is its owner's alone, since settings may "
            "hold secrets: who owns it can share it (chmod a+r)"
        ) from None
    if text is None and not (isinstance(folder.root, Path) and folder.root.is_dir()):
        raise _explain_missing(folder.root)
    try:
        config: dict[str, Any] = json.loads(text or b"")
        version = config["schema_version"]
    except (ValueError, KeyError, TypeError):
        raise UsageError(
            f"'{path}' is not a run directory: it has no {schema.CONFIG} with a schema_version"
        ) from None
    if version != schema.SCHEMA_VERSION:
        older = isinstance(version, int) and version < schema.SCHEMA_VERSION
        raise UsageError(
            f"'{path}' was written with schema version {version}, and this distes reads "
            f"version {schema.SCHEMA_VERSION}: "
            + ("go on with the distes that wrote it, or begin anew" if older else "use a newer one")
        )
    return _check_config(config, folder.root / schema.CONFIG)


_REFUSALS: Mapping[Any, str] = {
    str: "which is not text",
    int: "which is not a whole number",
    float | int: "which is not a number",
    dict: "which is not a table",
}


def _check_config(config: dict[str, Any], place: Location) -> dict[str, Any]:
    """Refuse wrong types in a configuration; without settings it has empty ones."""
    known: list[tuple[str, Any, Any]] = [
        *((name, config.get(name, ""), str) for name in ("engine", "python")),
        *((name, config.get(name, 0), int) for name in ("num_parameters", "num_contexts")),
        *((name, config.setdefault(name, {}), dict) for name in ("search", "versions")),
    ]
    if config.get("num_candidates") is not None:  # not every strategy says it ahead
        known.append(("num_candidates", config["num_candidates"], int))
    if isinstance(search := config["search"], dict):
        known.append(("search.episodes", search.get("episodes", 1), int))
        makers = {"env", "function"} & search.keys()
        # An instance that is called is a table of its fields.
        named = [name for name in makers if not isinstance(search[name], dict)]
        known += [(f"search.{name}", search[name], str) for name in named]
        for name in ("context_low", "context_high"):
            if isinstance(ends := search.get(name), list):
                known += [(f"search.{name}", end, float | int) for end in ends]
        for name in {"strategy", "policy"} & search.keys():
            table = search[name]
            known.append((f"search.{name}", table, dict))
            if isinstance(table, dict):
                known.append((f"search.{name}.name", table.get("name"), str))
    for name, found, kind in known:
        if not isinstance(found, kind):
            raise UsageError(f"'{place}' is damaged: {name} is {found!r}, {_REFUSALS[kind]}")
    return config


def _explain_missing(root: Location) -> UsageError:
    """Say that there is no run, and which one beside it may be meant."""
    if isinstance(root, Path):
        beside = [each.parent.name for each in root.absolute().parent.glob(f"*/{schema.CONFIG}")]
    else:
        try:
            names = open_folder(root.parent).list_names()
        except (OSError, UsageError):  # the bucket itself, or not ours to list
            names = []
        near = get_close_matches(root.name, names, n=1)
        beside = [name for name in near if exists_run(root.parent / name)]
    if beside:
        return unknown(f"run in '{shorten(root.parent)}'", root.name, beside)
    return UsageError(f"there is no run directory '{shorten(root)}'")


def exists_run(out: str | Path) -> bool:
    """Whether a run has begun there: for jobs that begin it at first and go on with it later."""
    return open_folder(out).exists(schema.CONFIG)


def parse_events(lines: Iterable[bytes]) -> list[dict[str, Any]]:
    """Parse whole lines of a run's events."""
    events, others = [], 0
    for line in lines:
        try:
            event = json.loads(line)
        except ValueError:  # cut short by a crash
            continue
        if _is_event(event):
            events.append(event)
        else:
            others += 1
    if others:
        lines_are = "line is no event and is" if others == 1 else "lines are no events and are"
        _notify(f"{others:,} {lines_are} left out of the run's events")
    return events


def read_generations_schema(folder: Folder) -> pa.Schema | None:
    """Read the columns of the generations so far; None if there are none."""
    parts = list_parts(folder, schema.GENERATIONS)
    if not parts:
        return None
    (file,) = folder.open_all([parts[0].name])
    with file:
        return schema.open_parquet(file, folder.root / parts[0].name).schema_arrow


def _is_event(found: object) -> bool:
    """Whether it has what every event has, and of the right type what places it in the run."""
    return (
        isinstance(found, dict)
        and isinstance(found.get("kind"), str)
        and isinstance(found.get("generation", 0), int)
    )


def _notify(text: str) -> None:
    warnings.warn(text, Notice, stacklevel=3)
