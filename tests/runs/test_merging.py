"""Merging parts: a long run is a few files, and each of its rows is there once, always."""

from __future__ import annotations

import errno
import shutil
import warnings
from collections.abc import Callable
from itertools import count
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from run_logs import assert_whole, population, record, run_to, snapshot

from distes.errors import Notice, StorageError, UsageError
from distes.runs import checkpoint, merging, schema
from distes.runs.follow import Tail
from distes.runs.inventory import FileSum
from distes.runs.parts import Part, list_all_parts, list_parts, parse_part
from distes.runs.reader import load
from distes.runs.storage import folder as storage
from distes.runs.storage.folder import open_folder
from distes.runs.writer import RunLog

TABLES = ("generations", "episodes", "evaluations")


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """Nothing here depends on what the disk does when the power fails."""
    monkeypatch.setattr(storage.os, "fsync", lambda descriptor: None)


def write(path: Path | str, start: int, stop: int) -> None:
    if start:
        log, found = RunLog.resume(path, interval_s=0)
        assert found.generation == start
    else:
        log = RunLog.create(path, {}, interval_s=0)
    run_to(log, start, stop)
    log.close()


def num_files(path: Path) -> int:
    return sum(each.is_file() for each in path.rglob("*"))


@pytest.mark.parametrize("place", ["directory", "memory://merging/exact"])
def test_merged_rows_are_the_rows(tmp_path, monkeypatch, place):
    """If wrong: a long run's log says something else than a short one's."""
    place = str(tmp_path / "x") if place == "directory" else place
    write(place, 0, 75)
    with monkeypatch.context() as patch:
        patch.setattr(merging, "FAN", 10**9)
        write(tmp_path / "plain", 0, 75)
    merged, plain = load(place), load(tmp_path / "plain")
    for table in TABLES:
        pd.testing.assert_frame_equal(getattr(merged, table), getattr(plain, table))
        wide = [
            part for part in list_all_parts(open_folder(place), table) if part.last > part.first
        ]
        assert max(part.last - part.first for part in wide) >= 62
        assert len(list_parts(open_folder(place), table)) < 12
    assert_whole(place, 75)
    assert merged.verify()[0] == []
    if place.startswith("/"):  # nothing of ours
        for table in TABLES:
            found = pd.read_parquet(Path(place) / table)
            pd.testing.assert_frame_equal(found, pd.read_parquet(tmp_path / "plain" / table))
        assert num_files(Path(place)) < num_files(tmp_path / "plain") / 5


def test_a_day_is_a_few_files_and_each_row_is_seldom_written_again():
    """If wrong: a long run has thousands of files, or its writer copies it over and over."""
    sums, rewritten = {}, np.zeros(40_000, int)
    for number in range(len(rewritten)):
        sums[Part("episodes", number, number).name] = FileSum(20_000, 0)
        if chosen := merging.choose_parts("episodes", number - 2, sums):
            size = sum(sums.pop(part.name).size for part in chosen)
            assert size <= merging.MAX_BYTES
            sums[Part("episodes", chosen[0].first, chosen[-1].last).name] = FileSum(size, 0)
            rewritten[chosen[0].first : chosen[-1].last + 1] += 1
    parts = sorted(parse_part(name) for name in sums)
    held = [number for part in parts for number in range(part.first, part.last + 1)]
    assert held == list(range(len(rewritten)))
    assert len(parts) < 120  # 800 MB, at most 32 MB each
    assert rewritten.max() <= 4


class PowerCutError(OSError):
    """The machine stops here."""


def intercept(monkeypatch, before: Callable[[str], None]) -> None:
    """Be told before each change of a directory."""

    def wrap(owner, name: str) -> None:
        whole = getattr(owner, name)

        def change(self, *args, **kwargs):
            before(name)
            return whole(self, *args, **kwargs)

        monkeypatch.setattr(owner, name, change)

    for name in ("replace", "unlink"):
        wrap(storage.Path, name)
    tree = shutil.rmtree

    def remove(path, *args, **kwargs):
        before("rmtree")
        tree(path, *args, **kwargs)

    monkeypatch.setattr(storage.shutil, "rmtree", remove)


def assert_no_row_twice(path: Path, committed: int) -> None:
    run = load(path)
    for table, each in (("generations", 1), ("episodes", 6)):
        rows = getattr(run, table)["generation"].to_numpy()
        last = max(committed - 1, rows.max(initial=-1))
        np.testing.assert_array_equal(rows, np.repeat(np.arange(last + 1), each))
    held = run.evaluations["generation"].to_numpy()
    assert len(held) == 4 * len(np.unique(held))
    for generation in (0, committed - 1):
        assert run.population(generation).distribution.mean[0] == generation


def test_no_row_is_lost_or_doubled_wherever_merging_is_cut(tmp_path, monkeypatch):
    """If wrong: a crash while parts are merged costs rows, or has them twice after a resume."""
    monkeypatch.setattr(merging, "FAN", 2)
    begun = tmp_path / "begun"
    write(begun, 0, 9)  # the next commit merges the first eight

    def go_on(path: Path) -> None:
        log, _ = RunLog.resume(path, interval_s=0)
        try:
            run_to(log, 9, 11)
        finally:
            log.close()

    for cut in count():
        path = tmp_path / str(cut)
        shutil.copytree(begun, path)
        with monkeypatch.context() as patch:
            changes = count()

            def stop(name: str, changes=changes, cut=cut) -> None:
                if next(changes) >= cut:  # and nothing works after that
                    raise PowerCutError(errno.EIO, "cut")

            intercept(patch, stop)
            try:
                go_on(path)
            except StorageError:
                done = False
            else:
                done = True
        newest = checkpoint.find_newest(open_folder(path))
        assert newest >= 8
        assert_no_row_twice(path, newest + 1)
        told = []
        log, found = RunLog.resume(path, interval_s=0, say=told.append)
        assert told == []
        assert found.generation == newest + 1
        for table in TABLES:  # nothing is left that plain readers would see twice
            parts = list_all_parts(open_folder(path), table)
            assert parts == list_parts(open_folder(path), table)
        assert load(path).verify()[0] == []  # all kept commits, not only the last
        run_to(log, newest + 1, 12)
        log.close()
        assert_whole(path, 12)
        shutil.rmtree(path)
        if done:
            break
    assert cut > 30


def test_readers_see_each_row_once_at_every_step(tmp_path, monkeypatch):
    """If wrong: who looks at the right moment counts episodes twice, or misses some."""
    monkeypatch.setattr(merging, "FAN", 2)
    path = tmp_path / "x"
    write(path, 0, 8)
    faults, looks, busy = [], count(), []
    opened = [load(path) for _ in range(3)]
    for run in opened:
        run.warn_of_missing()  # what they know of is soon merged
    begun = [load(path).iterate(table) for table in TABLES[:2]]
    read = [next(each)["generation"].tolist() for each in begun]
    tail, told = Tail(path, 100), []
    told += [row["generation"] for row in tail.news().rows]

    def look(name: str) -> None:
        if busy:
            return
        busy.append(name)
        try:
            next(looks)
            with warnings.catch_warnings():
                warnings.simplefilter("error", Notice)
                newest = checkpoint.find_newest(open_folder(path))
                assert_no_row_twice(path, newest + 1)
                assert load(path).verify()[0] == []
                for run in opened:
                    found = run.read("episodes", columns=["generation"])["generation"]
                    assert len(found) == 6 * (found.max() + 1)
                told.extend(row["generation"] for row in tail.news().rows)
        except BaseException as error:  # noqa: BLE001 - of the writer's thread
            faults.append(error)
        finally:
            busy.clear()

    with monkeypatch.context() as patch:
        log, _ = RunLog.resume(path, interval_s=0)
        intercept(patch, look)
        run_to(log, 8, 20)
        log.close()
    if faults:
        raise faults[0]
    assert next(looks) > 150
    told += [row["generation"] for row in tail.news().rows]
    assert told == list(range(20))
    # What was begun before all of that goes on where it was.
    for each, rows in zip(begun, read, strict=True):
        rows += [generation for frame in each for generation in frame["generation"]]
    assert read[0] == list(range(20))
    assert read[1] == np.repeat(np.arange(20), 6).tolist()


def test_damage_is_not_merged_away(tmp_path, monkeypatch):
    """If wrong: an altered part gets a new checksum, and its falsified rows count as whole."""
    monkeypatch.setattr(merging, "FAN", 4)
    path = tmp_path / "x"
    log = RunLog.create(path, {}, interval_s=0)
    run_to(log, 0, 3)
    part = path / "episodes" / "part-000001.parquet"
    data = bytearray(part.read_bytes())
    data[40] ^= 1
    part.write_bytes(data)
    run_to(log, 3, 9)
    log.close()
    assert list_parts(open_folder(path), "generations")[0].last == 3
    assert part.exists()
    with pytest.raises(UsageError, match=r"part-000001\.parquet' is damaged"):
        _ = load(path).episodes
    with pytest.raises(UsageError, match=r"part-000001\.parquet' is damaged"):
        RunLog.resume(path)


def test_commits_of_another_version_are_left_as_they_are(tmp_path, monkeypatch):
    """If wrong: a run that is gone on with after an update, with one column more, ends there."""
    monkeypatch.setattr(merging, "FAN", 4)
    path = tmp_path / "x"
    write(path, 0, 2)
    log, _ = RunLog.resume(path, interval_s=0, info=("distance",))
    for generation in range(2, 8):
        record(log, generation, info=("distance",))
        log.commit(snapshot(generation + 1), now=True)
    log.close()
    assert list_parts(open_folder(path), "generations")[0].last == 3
    assert [p.last for p in list_parts(open_folder(path), "episodes")][:4] == [0, 1, 2, 3]
    assert load(path).verify()[0] == []


@pytest.fixture(scope="module")
def wide(tmp_path_factory) -> Path:
    """A run whose parts have several row groups."""
    path = tmp_path_factory.mktemp("wide") / "x"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(schema, "MAX_ROW_GROUP", 500)
        log = RunLog.create(path, {}, interval_s=0)
        for generation in range(18):
            record(log, generation, population(generation, 100))
            log.commit(snapshot(generation + 1), now=True)
        log.close()
    return path


def test_a_table_is_read_in_part(wide):
    """If wrong: chosen columns or generations are not those of the table."""
    run = load(wide)
    whole = run.episodes
    columns = ["seed", "parameters"]
    chosen = run.read("episodes", columns=columns, generations=(3, 12))
    expected = whole[(whole["generation"] >= 3) & (whole["generation"] < 12)][columns]
    pd.testing.assert_frame_equal(chosen, expected.reset_index(drop=True))
    pd.testing.assert_frame_equal(run.read("episodes", columns=columns), whole[columns])
    frames = list(run.iterate("episodes", columns=columns, generations=(3, 12)))
    assert len(frames) > 3
    assert max(map(len, frames)) <= 500
    pd.testing.assert_frame_equal(pd.concat(frames, ignore_index=True), chosen)
    pd.testing.assert_frame_equal(
        pd.concat(run.iterate("evaluations"), ignore_index=True), run.evaluations
    )
    none = run.read("episodes", columns=columns, generations=(50, 60))
    assert len(none) == 0
    assert list(none) == columns


@pytest.mark.parametrize(
    ("read", "says"),
    [
        (lambda run: run.read("episode"), r"unknown table 'episode': did you mean 'episodes'"),
        (
            lambda run: run.read("episodes", columns=["sed"]),
            r"unknown column 'sed': did you mean 'seed'",
        ),
        (lambda run: list(run.iterate("populations")), "unknown table 'populations'"),
    ],
)
def test_names_that_are_none_are_refused(wide, read, says):
    """If wrong: a misspelt column is a traceback, or is left out in silence."""
    with pytest.raises(UsageError, match=says) as refused:
        read(load(wide))
    assert "\n" not in str(refused.value)


def test_what_is_not_asked_for_is_not_read(tmp_path, monkeypatch):
    """If wrong: one figure of a long run costs the reading of all that was logged."""
    path, taken = tmp_path / "x", []
    log = RunLog.create(path, {}, interval_s=0)
    for generation in range(3):
        record(log, generation, population(generation, 10_000))
        log.commit(snapshot(generation + 1), now=True)
    log.close()
    whole = storage.LocalFolder.open_all

    class Counted:
        def __init__(self, file) -> None:
            self.file = file

        def __getattr__(self, name: str):
            return getattr(self.file, name)

        def __enter__(self):
            return self

        def __exit__(self, *_):
            self.file.close()

        def read(self, size: int = -1) -> bytes:
            data = self.file.read(size)
            taken.append(len(data))
            return data

    monkeypatch.setattr(
        storage.LocalFolder, "open_all", lambda self, names: map(Counted, whole(self, names))
    )
    size = sum(each.stat().st_size for each in (path / "episodes").iterdir())
    run = load(path)
    for chosen in ({"columns": ["status"]}, {"generations": (1, 2)}):
        taken.clear()
        assert len(run.read("episodes", **chosen))
        assert sum(taken) < size / 2
    taken.clear()
    _ = run.episodes
    assert sum(taken) >= size


def test_a_flipped_bit_is_never_another_value_to_who_reads_in_part(wide, tmp_path):
    """If wrong: who reads a column gets falsified values, since only whole files are compared."""
    path = tmp_path / "x"
    shutil.copytree(wide, path)
    columns = ["generation", "episode_return", "status"]
    expected = load(path).read("episodes", columns=columns, generations=(2, 13))
    part = max((path / "episodes").iterdir(), key=lambda each: each.stat().st_size)
    kept = part.read_bytes()
    random = np.random.default_rng(0)
    refused = 0
    places = random.integers(8 * len(kept), size=60).tolist()
    places += (8 * len(kept) - random.integers(8 * 3000, size=60)).tolist()  # in the footer
    for bit in places:
        data = bytearray(kept)
        data[bit // 8] ^= 1 << bit % 8
        part.write_bytes(data)
        said = ""
        try:
            found = load(path).read("episodes", columns=columns, generations=(2, 13))
            pd.testing.assert_frame_equal(found, expected)
        except UsageError as error:
            said = str(error)
            refused += 1
        assert not said or part.name in said
    assert refused >= 60
