"""The run log: what is committed is there once, whatever happens, and anyone can read it."""

from __future__ import annotations

import errno
import json
import os
import re
import signal
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from paths import ROOT, SUPPORT
from run_logs import (
    Shifted,
    Snapshot,
    assert_whole,
    evaluated,
    population,
    record,
    run_to,
    snapshot,
)

from distes.cli import main
from distes.errors import StorageError, UsageError
from distes.population.distributions import Point, Table
from distes.population.records import (
    Population,
    Purpose,
    RunKey,
)
from distes.runs import schema, writer
from distes.runs.reader import load
from distes.runs.storage import folder as storage
from distes.runs.writer import RunLog

NEVER = 1e9
DOCS = ROOT / "docs" / "log-schema.md"


def files(path: Path) -> list[str]:
    return sorted(str(each.relative_to(path)) for each in path.rglob("*") if each.is_file())


def test_rows_say_what_happened(tmp_path):
    """A wrong column would falsify every analysis made of the log."""
    path = tmp_path / "x"
    log = RunLog.create(path, {"seed": 3})
    run_to(log, 0, 2)
    log.close()
    episodes = pd.read_parquet(path / "episodes")  # nothing of ours
    asked, key = population(1), RunKey(0, 1)
    answer = evaluated(key, asked).episodes
    part = episodes[episodes["generation"] == 1].reset_index(drop=True)
    for name in ("candidate", "episode", "seed", "episode_return", "episode_length"):
        np.testing.assert_array_equal(part[name], getattr(answer, name), strict=True)
    assert part["terminated"].tolist() == [True, False] * 3
    assert part["truncated"].tolist() == [False, True] * 3
    assert part["status"].tolist() == ["ok"] * 5 + ["error"]
    drawn = asked.distribution.draw(answer.candidate)
    np.testing.assert_array_equal(np.stack(list(part["parameters"])), drawn)
    assert part["context"].isna().all()
    assert part["worker"].tolist() == [0, 1] * 3
    assert part["node"].tolist() == ["b", "a"] * 3
    assert episodes["node"][:6].tolist() == ["a", "c"] * 3
    assert part["started_at"][2] == pd.Timestamp(1.7e9 + 0.5, unit="s", tz="UTC")
    assert part["started_at"].isna().tolist() == [False, True] + [False] * 4
    assert (part["duration_s"] == 0.25).all()
    generations = pd.read_parquet(path / "generations")
    assert generations.to_dict("list") == {"generation": [0, 1], "fitness_max": [0.0, 0.5]}
    held = pd.read_parquet(path / "evaluations")
    assert held["purpose"].tolist() == ["heldout"] * 4
    assert held["call"].tolist() == [1] * 4
    config = json.loads((path / "config.json").read_text())
    assert config.pop("checksum")
    assert config == {"schema_version": 2, "seed": 3}


def test_context_info_and_their_absence(tmp_path):
    """Parts of different shape would make the folder unreadable, or lose a column."""
    path = tmp_path / "x"
    log = RunLog.create(path, {}, info=("distance",))
    contexts = np.linspace(0, 1, 12).reshape(6, 2)
    asked = Population(Shifted(np.array([0.5, -0.5])), 3, 2)
    wide = Population(Point(np.zeros(schema.MAX_LOGGED_PARAMETERS + 1)), 3, 2)
    record(log, 0, info=("distance",))
    record(log, 2, asked, info=("distance",), contexts=contexts)
    log.commit(None, now=True)
    record(log, 4, wide, info=("distance",))
    log.commit(None)
    log.close()
    episodes = pd.read_parquet(path / "episodes")
    first, second, third = (episodes[episodes["generation"] == g] for g in (0, 2, 4))
    np.testing.assert_array_equal(np.stack(list(second["context"])), contexts)
    expected = asked.distribution.base + np.repeat([0, 1, 2], 2)[:, None] + 10 * contexts
    np.testing.assert_array_equal(np.stack(list(second["parameters"])), expected)
    np.testing.assert_array_equal(
        np.stack(list(first["parameters"])),
        population(0).distribution.draw(np.repeat([0, 1, 2], 2)),
    )
    assert first["context"].isna().all()
    assert third["context"].isna().all()
    assert third["parameters"].isna().all()
    assert episodes["info_distance"].tolist() == [0, 0.5, 1, 1.5, 2, 2.5] * 3


def test_commit_points_are_grouped(tmp_path):
    """A commit per generation would make thousands of files and slow fast searches."""
    path = tmp_path / "x"
    log = RunLog.create(path, {}, interval_s=NEVER)
    run_to(log, 0, 30, now=False)
    assert load(path).snapshot() is None
    log.close()
    assert files(path) == [
        "checkpoints/000000/done",
        "checkpoints/000000/state.npz",
        "config.json",
        "episodes/part-000000.parquet",
        "evaluations/part-000000.parquet",
        "generations/part-000000.parquet",
        "populations/part-000000.npz",
    ]
    assert_whole(path, 30)


def test_parquet_is_made_before_its_commit_is_due(tmp_path, monkeypatch):
    """Otherwise who waits for a commit waits for all of that, too; the order must stay."""
    monkeypatch.setattr(writer, "ROW_GROUP", 10)
    path = tmp_path / "x"
    log = RunLog.create(path, {}, interval_s=NEVER)
    deadline = time.monotonic() + 60
    for generation in range(0, 9, 3):
        run_to(log, generation, generation + 3, now=False)
        record(log, generation + 3)  # beyond the commit point
        log._queued = writer.Batch()
        while log._ready.num_episodes >= 10:
            assert time.monotonic() < deadline
            time.sleep(0.01)
    assert load(path).snapshot() is None
    assert not (path / "episodes").exists() or not list((path / "episodes").iterdir())
    log.close()
    assert_whole(path, 9)
    assert pq.ParquetFile(path / "episodes" / "part-000000.parquet").num_row_groups >= 3
    assert len(list((path / "episodes").iterdir())) == 1
    log, found = RunLog.resume(path, interval_s=NEVER)
    assert found.generation == 9
    run_to(log, 9, 14, now=False)
    log.close()
    assert_whole(path, 14)


@pytest.mark.parametrize("row_group", [1, 8192])
@pytest.mark.parametrize("order", [(True, False, True), (False, True)])
def test_episodes_of_another_task_have_no_info(tmp_path, monkeypatch, row_group, order):
    """A model's episodes have none: whichever come first, all are logged, and in one shape."""
    monkeypatch.setattr(writer, "ROW_GROUP", row_group)
    path = tmp_path / "x"
    log = RunLog.create(path, {}, interval_s=NEVER, info=("distance", "height"))
    asked = Population(Point(np.ones(2)), 1, 4, purpose=Purpose.MODEL)
    deadline = time.monotonic() + 60
    for call, has in enumerate(order):
        key = RunKey(0, 0, call)
        log.add_evaluation(key, asked, evaluated(key, asked, info=("height", "own") if has else ()))
        log.commit(snapshot(0))
        while log._ready.num_episodes >= row_group:
            assert time.monotonic() < deadline
            time.sleep(0.01)
    log.close()
    found = pd.read_parquet(path / "evaluations")
    assert [name for name in found if name.startswith("info_")] == ["info_distance", "info_height"]
    assert found["info_distance"].isna().all()
    expected = np.concatenate([[0, 0.5, 1, 1.5] if has else [np.nan] * 4 for has in order])
    np.testing.assert_array_equal(found["info_height"], expected)


def test_a_due_commit_needs_no_further_call(tmp_path):
    """Otherwise a long generation would leave the one before it unwritten."""
    path = tmp_path / "x"
    log = RunLog.create(path, {}, interval_s=0.05)
    run_to(log, 0, 3, now=False)
    deadline = time.monotonic() + 60
    while (found := load(path).snapshot()) is None or found.generation < 3:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    log.close()


def test_waiting_for_a_commit_means_it_is_there(tmp_path):
    """A search that says it has stopped must not lose its last generation."""
    path = tmp_path / "x"
    log = RunLog.create(path, {}, interval_s=NEVER)
    for generation in range(6):
        run_to(log, generation, generation + 1)
        assert_whole(path, generation + 1)
    assert sorted(each.name for each in (path / "checkpoints").iterdir()) == [
        "000003",
        "000004",
        "000005",
    ]
    log.close()


@pytest.mark.parametrize("row_group", [1, 8192])
def test_many_queued_episodes_are_written_without_waiting(tmp_path, monkeypatch, row_group):
    """Memory would grow without bound where episodes come faster than commits."""
    monkeypatch.setattr(writer, "MAX_QUEUED_EPISODES", 15)
    monkeypatch.setattr(writer, "ROW_GROUP", row_group)
    path = tmp_path / "x"
    log = RunLog.create(path, {}, interval_s=NEVER)
    run_to(log, 0, 2, now=False)
    assert load(path).snapshot().generation == 2
    log.close()


def test_closing_writes_what_has_a_commit_point_and_nothing_else(tmp_path):
    """A generation beyond the snapshot would be there twice after a resume."""
    path = tmp_path / "x"
    log = RunLog.create(path, {}, interval_s=NEVER)
    run_to(log, 0, 2, now=False)
    record(log, 2)
    log.close()
    assert_whole(path, 2)
    with pytest.raises(RuntimeError, match="closed"):
        record(log, 2)


def test_an_empty_part_is_never_written(tmp_path):
    """Untyped or empty parts disturb those who read the folder."""
    path = tmp_path / "x"
    log = RunLog.create(path, {})
    log.commit(snapshot(0), now=True)
    empty = population(0, size=0)
    log.add_evaluation(RunKey(0, 0), empty, evaluated(RunKey(0, 0), empty))
    log.commit(snapshot(0), now=True)
    log.close()
    assert [name for name in files(path) if "part" in name] == []


class PowerCutError(OSError):
    """The machine stops here."""


def cut_power(monkeypatch, write_number: int, *, begun: bool) -> None:
    """Stop at the n-th file of the log, before it or with its temporary file in place."""
    count = iter(range(10**6))
    whole = storage.LocalFolder.write

    def write(self, name, data, *mode):
        if next(count) < write_number:
            return whole(self, name, data, *mode)
        target = self.root / name
        if begun and target.parent.exists():
            target.with_name(f".{target.name}.tmp").write_bytes(bytes(data)[: len(data) // 2])
        raise PowerCutError(errno.EIO, "cut")

    monkeypatch.setattr(storage.LocalFolder, "write", write)


@pytest.mark.parametrize("begun", [False, True])
@pytest.mark.parametrize("write_number", range(1, 19))
def test_every_generation_once_wherever_it_was_cut(tmp_path, monkeypatch, write_number, begun):
    """Parts beyond the checkpoint must go, or their generations are there twice."""
    path = tmp_path / "x"
    with monkeypatch.context() as patch:
        cut_power(patch, write_number, begun=begun)
        log = RunLog.create(path, {})
        with pytest.raises(StorageError):
            run_to(log, 0, 5)
        log.close()
    pd.read_parquet(path / "episodes")  # half-written files do not disturb it
    committed = len([name for name in files(path) if name.endswith("done")])
    log, found = RunLog.resume(path)
    start = 0 if found is None else found.generation
    assert start == committed
    assert_whole(path, start) if found is not None else None
    run_to(log, start, 5)
    log.close()
    assert_whole(path, 5)
    assert not [name for name in files(path) if Path(name).name.startswith(".")]


CHILD = textwrap.dedent(
    """
    import sys
    sys.path.insert(0, {tests!r})
    from pathlib import Path
    from run_logs import RunLog, record, snapshot
    path = Path(sys.argv[1])
    if (path / "config.json").exists():
        log, found = RunLog.resume(path, interval_s=0)
    else:
        log, found = RunLog.create(path, {{}}, interval_s=0), None
    for generation in range(0 if found is None else found.generation, 10**6):
        record(log, generation)
        log.commit(snapshot(generation + 1))
        print(generation, flush=True)
    """
).format(tests=str(SUPPORT))


def test_killed_processes_leave_every_generation_once(tmp_path):
    """What a resumed search relies on, with a real process and a real SIGKILL."""
    path = tmp_path / "x"
    for lines in (7, 1, 40):
        child = subprocess.Popen(
            [sys.executable, "-c", CHILD, str(path)], stdout=subprocess.PIPE, text=True
        )
        for _ in range(lines):
            assert child.stdout.readline()
        child.send_signal(signal.SIGKILL)
        child.wait()
        child.stdout.close()
    log, found = RunLog.resume(path)
    start = 0 if found is None else found.generation
    run_to(log, start, start + 2)
    log.close()
    assert_whole(path, start + 2)


def test_the_newest_complete_checkpoint_counts(tmp_path):
    """A checkpoint without its marker may be half-written."""
    path = tmp_path / "x"
    log = RunLog.create(path, {})
    run_to(log, 0, 3)
    log.close()
    (path / "checkpoints" / "000002" / "done").unlink()
    assert load(path).snapshot().generation == 2
    log, found = RunLog.resume(path)
    assert found.generation == 2
    log.close()
    assert_whole(path, 2)


def test_a_run_without_checkpoint_starts_over(tmp_path):
    """Its parts belong to no state that could go on from them."""
    path = tmp_path / "x"
    log = RunLog.create(path, {})
    run_to(log, 0, 1)
    log.close()
    (path / "checkpoints" / "000000" / "done").unlink()
    log, found = RunLog.resume(path)
    assert found is None
    assert files(path) == ["config.json"]
    log.close()


def test_snapshots_that_cannot_be_read_cost_nothing(tmp_path):
    """A resume that fails must leave the run as it is, and let go of it."""
    path = tmp_path / "x"
    log = RunLog.create(path, {})
    run_to(log, 0, 2)
    log.close()
    for state in (path / "checkpoints").glob("*/state.npz"):
        state.write_bytes(b"broken")
    before = files(path)
    for _ in range(2):
        with pytest.raises(UsageError, match=r"000001/state.npz' is damaged"):
            RunLog.resume(path)
    assert files(path) == before


def test_two_writers_are_refused(tmp_path):
    """Two searches in one directory would overwrite each other's parts."""
    path = tmp_path / "x"
    log = RunLog.create(path, {})
    with pytest.raises(UsageError, match="is being written"):
        RunLog.resume(path)
    log.close()
    RunLog.resume(path)[0].close()


LINKS = [
    *("config.json", "events.jsonl", "checkpoints", "generations", "episodes"),
    *("checkpoints/000009", "checkpoints/000000/done", "episodes/part-000009.parquet"),
    "populations/.part-000001.npz.tmp",
]


@pytest.mark.parametrize("name", LINKS)
def test_a_run_that_links_elsewhere_is_not_gone_on_with(tmp_path, name):
    """If wrong: resuming somebody's run writes and deletes wherever its links lead."""
    path, elsewhere = tmp_path / "x", tmp_path / "else"
    log = RunLog.create(path, {})
    run_to(log, 0, 1)
    log.add_event("x")
    log.close()
    target = path / name
    if own := target.exists():
        target.rename(elsewhere)
    elif target.suffix:
        elsewhere.write_text("theirs")
    else:
        elsewhere.mkdir()
        (elsewhere / "theirs").write_text("x")
    target.symlink_to(elsewhere)
    (path / "note").symlink_to(tmp_path)  # a user's own, which no run writes
    before = {each: each.read_bytes() for each in tmp_path.rglob("*") if each.is_file()}
    with pytest.raises(UsageError, match=f"{target.name}' is a symbolic link") as refusal:
        RunLog.resume(path)
    assert "\n" not in str(refusal.value)
    assert {each: each.read_bytes() for each in before} == before
    target.unlink()
    if own:
        elsewhere.rename(target)
    RunLog.resume(path)[0].close()


def test_settings_are_their_owners_alone_and_tables_are_not(tmp_path, monkeypatch):
    """If wrong: who has an account here reads the keys of an environment, or no table."""
    path = tmp_path / "x"
    umask = os.umask(0o022)
    try:
        log = RunLog.create(path, {"search": {"env_kwargs": {"token": "abc"}}})
        run_to(log, 0, 1)
        log.add_event("x")
        log.close()
    finally:
        os.umask(umask)
    modes = {each: each.stat().st_mode & 0o777 for each in path.rglob("*") if each.is_file()}
    assert modes.pop(path / "config.json") == 0o600
    assert set(modes.values()) == {0o644}
    (path / "config.json").chmod(0o644)
    RunLog.resume(path)[0].close()
    assert (path / "config.json").stat().st_mode & 0o777 == 0o644  # shared by its owner

    def forbid(*_):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(storage.LocalFolder, "read", forbid)
    with pytest.raises(UsageError, match=r"config\.json' is its owner's alone.*chmod"):
        load(path)


@pytest.mark.parametrize("kind", ["full", "forbidden"])
def test_a_fault_of_the_disk_is_told_and_the_rest_stays_readable(tmp_path, monkeypatch, kind):
    """A search that goes on without a log computes for nothing."""
    path = tmp_path / "x"
    log = RunLog.create(path, {})
    run_to(log, 0, 2)
    code = errno.ENOSPC if kind == "full" else errno.EACCES

    def fail(*_):
        raise OSError(code, os.strerror(code))

    with monkeypatch.context() as patch:
        patch.setattr(storage.os, "fsync", fail)
        record(log, 2)
        with pytest.raises(StorageError, match=os.strerror(code)) as found:
            log.commit(snapshot(3), now=True)
        assert isinstance(found.value.__cause__, OSError)
    for call in (lambda: record(log, 3), lambda: log.add_event("x"), lambda: log.commit(None)):
        with pytest.raises(StorageError):
            call()
    log.close()  # was told already
    assert_whole(path, 2)
    assert not [name for name in files(path) if Path(name).name.startswith(".")]


def test_a_fault_that_nobody_heard_of_is_told_on_closing(tmp_path, monkeypatch):
    """Otherwise a run ends well whose last commit is missing."""
    log = RunLog.create(tmp_path / "x", {}, interval_s=NEVER)
    run_to(log, 0, 1, now=False)
    cut_power(monkeypatch, 0, begun=False)
    with pytest.raises(StorageError):
        log.close()
    assert not any(each.name == "distes-log" and each.is_alive() for each in threading.enumerate())


def test_a_directory_that_cannot_be_made(tmp_path):
    """The cause must be said, not a traceback."""
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="Not a directory"):
        RunLog.create(tmp_path / "file" / "x", {})


def test_a_state_that_cannot_be_saved_is_told(tmp_path):
    """A strategy with a function in its state could never be resumed."""
    log = RunLog.create(tmp_path / "x", {})
    with pytest.raises(UsageError, match=r"state\.mean is a function"):
        log.commit(Snapshot(0, len), now=True)
    log.close()


@pytest.mark.parametrize(
    ("row", "says"),
    [
        ({"a": 1, "b": 0.5}, r"lack \['c'\]"),
        ({"a": 1, "b": 0.5, "c": "x", "d": 1}, r"add \['d'\]"),
        ({"a": 0.5, "b": 0.5, "c": "x"}, "a is 0.5: it must be int"),
        ({"a": 1, "b": "x", "c": "x"}, "b is 'x': it must be float"),
        ({"a": 1, "b": None, "c": "x"}, "b is None"),
    ],
)
def test_figures_keep_their_names_and_types(tmp_path, row, says):
    """Parts with different columns would hide figures from plain readers, resumed or not."""
    path = tmp_path / "x"
    key, asked = RunKey(0, 0), population(0)
    log = RunLog.create(path, {})
    log.add_generation({"a": 1, "b": 0.5, "c": "x"}, key, asked, evaluated(key, asked))
    log.add_generation({"b": 2, "c": "", "a": np.int64(4)}, key, asked, evaluated(key, asked))
    log.add_generation({"a": 5.0, "b": np.nan, "c": ""}, key, asked, evaluated(key, asked))
    with pytest.raises(UsageError, match=says):
        log.add_generation(row, key, asked, evaluated(key, asked))
    log.commit(None)
    log.close()
    log, _ = RunLog.resume(path)
    with pytest.raises(UsageError, match=says):
        log.add_generation(row, key, asked, evaluated(key, asked))
    log.close()
    assert load(path).generations["a"].tolist() == [1, 4, 5]
    assert load(path).generations["b"].tolist()[:2] == [0.5, 2.0]


def test_large_populations_are_kept_now_and_then(tmp_path):
    """Kept always, they would fill the disk; the reader must say which is near."""
    path = tmp_path / "x"
    log = RunLog.create(path, {})
    large = Table(np.zeros((100, 2000)))
    for generation in (9, 10, 11, 12):
        small = Table(np.zeros((100, 2)))
        asked = Population(small if generation == 12 else large, 100)
        record(log, generation, asked)
        log.commit(None, now=generation == 10)
    log.close()
    run = load(path)
    assert run.population(10).distribution.parameters.shape == (100, 2000)
    assert run.population(12).distribution.parameters.shape == (100, 2)
    with pytest.raises(UsageError, match=r"generation 11 .* of generation 10$"):
        run.population(11)
    with pytest.raises(UsageError, match="generation 9"):
        run.population(9)


def test_events_are_lines_with_time_and_place(tmp_path):
    """Events explain a run; one that breaks the line format hides those after it."""
    path = tmp_path / "x"
    log = RunLog.create(path, {})
    log.add_event("joined", worker=3, share=float("inf"), where=Path("/a"))
    record(log, 2, events=({"kind": "episode_error", "traceback": "a\nb"},))
    log.close()
    with (path / "events.jsonl").open("a") as file:
        file.write('{"kind": "cut sho')
    assert [each["kind"] for each in load(path).events] == ["joined", "episode_error"]
    log, _ = RunLog.resume(path)
    log.add_event("resumed")
    log.close()
    events = load(path).events
    assert [each["kind"] for each in events] == ["joined", "episode_error", "resumed"]
    joined, error, _ = events
    assert (joined["worker"], joined["share"], joined["where"]) == (3, "inf", "/a")
    assert (error["generation"], error["purpose"]) == (2, "search")
    assert error["traceback"] == "a\nb"
    assert all(pd.Timestamp(each["time"]).tz is not None for each in events)


def test_a_run_without_parts_has_typed_empty_tables(tmp_path):
    """Looking at a run that has just started must not fail."""
    log = RunLog.create(tmp_path / "x", {})
    run = load(tmp_path / "x")
    assert run.events == []
    assert run.snapshot() is None
    assert len(run.episodes) == len(run.evaluations) == len(run.generations) == 0
    assert run.episodes["episode_return"].dtype == np.float64
    assert "purpose" in run.evaluations
    assert "generation" in run.generations
    with pytest.raises(UsageError, match="no population of generation 0"):
        run.population(0)
    log.close()


def test_an_equals_sign_in_the_path_adds_no_column(tmp_path):
    """Parquet readers take ``key=value`` folders for columns; a run's name is none."""
    path = tmp_path / "seed=3" / "x"
    log = RunLog.create(path, {})
    run_to(log, 0, 1)
    log.close()
    assert "seed" not in load(path).generations
    assert load(path).episodes["seed"].tolist() == population(0).seeds(RunKey(0, 0), 0, 6).tolist()


@pytest.mark.parametrize("taken", ["file", "folder"])
def test_a_taken_path_is_refused(tmp_path, taken):
    """A run must never mix with what is already there."""
    path = tmp_path / "x"
    if taken == "file":
        path.write_text("")
    else:
        path.mkdir()
        (path / ".hidden").write_text("")
    with pytest.raises(UsageError, match="exists and is not empty"):
        RunLog.create(path, {})


def test_a_configuration_that_is_no_json_is_refused(tmp_path):
    """Nothing may be left behind by a run that never started."""
    with pytest.raises(UsageError, match="cannot be written as JSON"):
        RunLog.create(tmp_path / "x", {"f": len})
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize("use", [load, RunLog.resume])
def test_what_is_no_run_is_refused(tmp_path, use):
    """Resuming in a wrong folder would delete files there."""
    log = RunLog.create(tmp_path / "cartpole-cem-0", {})
    log.close()
    with pytest.raises(UsageError, match="did you mean 'cartpole-cem-0'"):
        use(tmp_path / "cartpole-cme-0")
    with pytest.raises(UsageError, match="no run directory"):
        use(tmp_path / "deeper" / "x")
    for name, content in (("a", None), ("b", "[]"), ("c", "{"), ("d", "{}")):
        (tmp_path / name).mkdir()
        if content is not None:
            (tmp_path / name / "config.json").write_text(content)
        with pytest.raises(UsageError, match="is not a run directory"):
            use(tmp_path / name)


@pytest.mark.parametrize("use", [load, RunLog.resume])
@pytest.mark.parametrize(
    ("version", "advice"), [("3", "use a newer one"), ("1", "the distes that wrote it")]
)
def test_a_run_of_another_schema_is_refused_in_a_sentence(tmp_path, use, version, advice):
    """Its records have other names: half of it would be read, and then fail in the middle."""
    (tmp_path / "config.json").write_text(f'{{"schema_version": {version}}}')
    with pytest.raises(UsageError, match=rf"{version}, .* reads version 2: .*{advice}") as e:
        use(tmp_path)
    assert "\n" not in str(e.value)


def test_commands_refuse_a_run_of_another_schema(tmp_path, capsys):
    """What the sentence says must reach who typed the command, and nothing else."""
    (tmp_path / "config.json").write_text('{"schema_version": 1}')
    for command in ("info", "resume", "evaluate"):
        assert main([command, str(tmp_path)]) == 2
        said = capsys.readouterr().err
        assert "schema version 1, and this distes reads version 2" in said
        assert said.count("\n") == 1
    assert files(tmp_path) == ["config.json"]


def test_every_column_is_documented(tmp_path):
    """An undocumented column is one that its readers must guess."""
    path = tmp_path / "x"
    log = RunLog.create(path, {})
    run_to(log, 0, 2)
    log.close()
    documented = set(re.findall(r"^\| `(\w+)` \|", DOCS.read_text(), re.MULTILINE))
    run = load(path)
    assert set(run.episodes) | set(run.evaluations) <= documented
    assert f"Schema version {schema.SCHEMA_VERSION}." in DOCS.read_text()
