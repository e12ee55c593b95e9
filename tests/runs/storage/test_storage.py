"""Where runs can be: directories, an S3 server, other stores; and what their faults do to a run."""

from __future__ import annotations

import errno
import itertools
import json
import math
import os
import re
import signal
import socket
import subprocess
import sys
import textwrap
import threading
import time
import uuid
import warnings
from contextlib import suppress
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from marks import slow
from object_stores import Server, every
from paths import SUPPORT
from run_logs import assert_whole, record, run_to, snapshot
from searches import StopAt, assert_same_run, cartpole, long_search

import distes
from distes.cli import main
from distes.errors import Notice, StorageError, UsageError
from distes.evaluators.serial import SerialEvaluator
from distes.runs import checkpoint, merging
from distes.runs.follow import Tail
from distes.runs.reader import exists_run, load
from distes.runs.storage import folder as storage
from distes.runs.storage import locks, retries, stores
from distes.runs.storage.folder import LocalFolder, ObjectFolder, open_folder
from distes.runs.storage.location import URI, locate
from distes.runs.writer import RunLog
from distes.search.search import Search
from distes.views.observers.terminal import Display

NEVER = 1e9


@pytest.fixture(scope="module")
def server():
    server = Server()
    server.client().create_bucket(Bucket="bucket")
    yield server
    server.close()


@pytest.fixture
def s3(server, monkeypatch):
    """A fresh place on the server, which the environment leads to as a user's would."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_ENDPOINT_URL", server.endpoint)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "k")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "s")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    return f"s3://bucket/{uuid.uuid4().hex}"


@pytest.fixture
def memory():
    """A fresh place in fsspec's memory."""
    return f"memory://{uuid.uuid4().hex}/run"


@pytest.fixture
def swift(monkeypatch):
    """Waits made short, so that what happens after them can be seen."""
    monkeypatch.setattr(locks, "SETTLE_S", 0.01)
    monkeypatch.setattr(locks, "BEAT_S", 0.2)
    monkeypatch.setattr(locks, "STALE_S", 2.0)
    monkeypatch.setattr(retries, "FIRST_PAUSE_S", 0.005)


def one_sentence(error: pytest.ExceptionInfo[BaseException]) -> str:
    text = str(error.value)
    assert "\n" not in text
    assert len(text) < 400
    return text


# Places


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("runs/x", Path("runs/x")),
        (Path("/a/b"), Path("/a/b")),
        ("file:///a/b%20c", Path("/a/b c")),
        ("odd:/name", Path("odd:/name")),
        ("s3://b/x", URI("s3://b/x")),
        ("s3://b//x/y/", URI("s3://b/x/y")),
        ("s3://b/x?region=eu-west-1", URI("s3://b/x?region=eu-west-1")),
        ("abfs://c@account.dfs.core.windows.net/x", URI("abfs://c@account.dfs.core.windows.net/x")),
    ],
)
def test_places_are_read_as_meant(given, meant):
    """A URI that is taken for a path ends in a directory called 's3:'."""
    assert locate(given) == meant
    assert type(locate(given)) is type(meant)
    assert locate(locate(given)) == meant


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ("runs/\ud800", "cannot be a path"),  # half of a surrogate pair
        (Path("s3://b/x"), "has lost a slash"),
        ("gs:/b/x", r"'gs://b/x'"),
        ("s3://b", "names no folder"),
        ("s3://b/", "names no folder"),
        ("s3://b/a b", "holds a space"),
        ("s3://b/a/../c", r"'\.\.'"),
        ("file://host/x", "no file URI"),
        ("s3://b/x?regoin=eu", "did you mean 'region'"),
        ("memory://b/x?region=eu", "does not take"),
        ("s4://b/x", "unknown scheme 's4': accepted are paths"),
        ("hf://datasets/a/b", "pip install"),
    ],
)
def test_mistyped_places_are_refused_in_a_sentence(given, says):
    """What cannot be a run's place must be told before anything is computed."""
    with pytest.raises(UsageError, match=says) as found:
        open_folder(given)
    one_sentence(found)


def test_a_password_in_a_uri_is_refused_and_not_repeated():
    """It would be written into config.json, and into the logs of a job."""
    with pytest.raises(UsageError, match="holds credentials") as found:
        locate("s3://user:hunter2@b/x")
    assert "hunter2" not in str(found.value)


@pytest.mark.slow
def test_azure_and_google_are_reached_by_what_is_installed(monkeypatch):
    """A missing package or credential must be told as that, not as a traceback."""
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_NAME", "account")
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_KEY", "a2V5")
    assert isinstance(open_folder("abfs://container/run"), ObjectFolder)
    assert isinstance(open_folder("gs://bucket/run"), ObjectFolder)
    monkeypatch.delitem(sys.modules["fsspec.registry"]._registry, "abfs")
    monkeypatch.setitem(sys.modules, "adlfs", None)
    with pytest.raises(UsageError, match=r"pip install 'distes\[azure\]'"):
        stores.FsspecStore(URI("abfs://other/run"))
    monkeypatch.setitem(sys.modules, "fsspec", None)
    with pytest.raises(UsageError, match="pip install fsspec"):
        open_folder("memory://x/y")


# Folders


NAMES = st.sampled_from(["a/1", "a/2", "b/1", "b/c/1", "top"])
OPERATIONS = st.lists(
    st.one_of(
        st.tuples(st.just("write"), NAMES, st.binary(max_size=20)),
        st.tuples(
            st.just("delete"), st.sampled_from(["a", "b", "b/c", "a/1", "top"]), st.just(b"")
        ),
        st.tuples(st.just("append"), st.just("log.jsonl"), st.binary(min_size=1, max_size=9)),
        st.tuples(st.just("reopen"), st.just(""), st.just(b"")),
    ),
    max_size=12,
)


def exercise(make: Any, operations: Any) -> None:
    """Do the operations on a folder and on a dictionary, which must agree."""
    folder, model, lines = make(), {}, []
    for what, name, data in operations:
        if what == "write":
            folder.write(name, data)
            model[name] = data
        elif what == "delete":
            below = [n for n in model if n == name or n.startswith(f"{name}/")]
            if below:
                folder.delete(name)
            for each in below:
                del model[each]
        elif what == "append":
            line = data.hex().encode()
            folder.append(name, line + b"\n")
            lines.append(line)
        else:
            folder = make()
    assert folder.read_lines("log.jsonl") == lines
    for name, data in model.items():
        assert folder.read(name) == data
        assert folder.exists(name)
    for prefix in ("a", "b", "b/c"):
        below = {n[len(prefix) + 1 :].split("/")[0] for n in model if n.startswith(f"{prefix}/")}
        found = set(folder.list_names(prefix))
        # Directories may stay behind empty; files may not.
        assert below <= found
        assert all(not folder.list_names(f"{prefix}/{n}") for n in found - below)
    for missing in {"a/1", "a/2", "b/1", "b/c/1", "top"} - set(model):
        assert not folder.exists(missing)
        with pytest.raises(FileNotFoundError):
            folder.read(missing)


RELAXED = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow]


@settings(max_examples=60, deadline=None, suppress_health_check=RELAXED)
@given(operations=OPERATIONS)
@pytest.mark.parametrize("kind", ["local", "memory"])
def test_folders_keep_what_they_are_given(kind, tmp_path, operations):
    """All that a run relies on, whatever the order of writing, deleting and listing."""
    name = uuid.uuid4().hex
    root = {"local": tmp_path / name, "memory": f"memory://{name}/x"}[kind]
    open_folder(root).make_folders(["."])
    exercise(lambda: open_folder(root), operations)


@pytest.mark.slow
@settings(max_examples=12, deadline=None, suppress_health_check=RELAXED)
@given(operations=OPERATIONS)
def test_folders_of_a_bucket_do_so_too(s3, operations):
    """The same over the wire."""
    root = f"{s3}/{uuid.uuid4().hex}"
    exercise(lambda: open_folder(root), operations)


@pytest.mark.slow
def test_listings_of_many_pages_are_whole(s3, server):
    """A listing has so many names at most: parts beyond them would be missing from every table."""

    def shorten(environ):
        asked = environ["QUERY_STRING"]
        environ["QUERY_STRING"] = re.sub("max-keys=[0-9]+", "max-keys=7", asked)

    folder = open_folder(s3)
    client = server.client()
    for number in range(17):
        client.put_object(Bucket="bucket", Key=f"{URI(s3).name}/a/part-{number:06d}", Body=b"")
    server.misbehave = shorten
    server.requests.clear()
    assert folder.list_names("a") == [f"part-{number:06d}" for number in range(17)]
    assert server.requests["GET"] >= 3
    folder.delete("a")
    server.misbehave = lambda environ: None
    assert folder.list_names("a") == []


def test_many_events_make_few_objects(memory):
    """One object an event would make 10^5 of them, and a minute of every look at a run."""
    folder = open_folder(memory)
    line = b'{"kind": "x", "text": "' + b"y" * 150 + b'"}\n'
    for _ in range(100):
        folder.append("events.jsonl", line * 1000)
    assert len(folder.read_lines("events.jsonl")) == 100_000
    parts = folder.list_names("events")
    assert len(parts) <= 2 * len(line) * 100_000 // storage.LINES_PART + 2
    again = open_folder(memory)
    again.append("events.jsonl", b"{}\n")
    assert again.read_lines("events.jsonl")[-1] == b"{}"
    assert len(again.read_lines("events.jsonl")) == 100_001


def test_events_are_written_at_a_bounded_rate(memory, swift):
    """Every object is a request that is paid for; a shower of events must not be one each."""
    log = RunLog.create(memory, {}, interval_s=NEVER)
    store, puts = log._folder._store.inner, []
    whole = store.put
    store.put = lambda key, data: (puts.append(key), whole(key, data))
    for number in range(300):
        log.add_event("shower", number=number)
        time.sleep(0.001)
    log.close()
    assert len([key for key in puts if key.startswith("events/")]) <= 2
    assert [event["number"] for event in load(memory).events] == list(range(300))


def test_a_run_that_moved_keeps_its_events_in_order(tmp_path, memory, swift):
    """Copied from a bucket and gone on with on a disk, a run has both kinds of files."""
    log = RunLog.create(memory, {})
    log.add_event("first")
    log.close()
    files = fsspec.filesystem("memory")
    files.get(memory.removeprefix("memory:/"), str(tmp_path / "x"), recursive=True)
    log, _ = RunLog.resume(tmp_path / "x")
    log.add_event("second")
    log.close()
    assert (tmp_path / "x" / "events.jsonl").exists()
    assert [event["kind"] for event in load(tmp_path / "x").events] == ["first", "second"]


# Runs


@pytest.mark.slow
def test_a_run_in_a_bucket_is_a_run(s3, tmp_path, monkeypatch, capsys, swift):
    """Every command must take it, and its tables must be those of a run on the disk."""
    monkeypatch.chdir(tmp_path)
    line = ["run", "CartPole-v1", "--population", "24", "--generations", "3", "--workers", "0"]
    line += ["--heldout-every", "2", "--heldout-episodes", "5", "--final-episodes", "7"]
    assert not exists_run(s3)
    assert main([*line, "--out", "local"]) == 0
    assert main([*line, "--out", f"{s3}/"]) == 0
    said = capsys.readouterr().out
    assert f"writes {s3}\n" in said
    assert f"distes evaluate {s3} " in said
    assert exists_run(s3)
    assert_same_run(s3, tmp_path / "local")
    assert [e["kind"] for e in load(s3).events] == [e["kind"] for e in load("local").events]
    assert load(s3).population(1).size == 24
    assert load(s3).config["search"]["out"] == f"{s3}/"
    # By pandas alone, as the documentation says.
    frame = pd.read_parquet(f"{s3}/episodes")
    pd.testing.assert_frame_equal(frame, load(s3).episodes)

    assert main(["evaluate", s3, "--episodes", "5"]) == 0
    assert main(["evaluate", "local", "--episodes", "5"]) == 0
    ours, theirs = capsys.readouterr().out.splitlines()
    assert ours == theirs
    assert main(["info", s3]) == 0
    assert "finished: 3 generations" in capsys.readouterr().out
    assert main(["plot", s3, "local", "--out", "curve.png"]) == 0
    assert (tmp_path / "curve.png").stat().st_size > 1000
    assert main(["plot", s3, "--out", "s3://bucket/curve.png"]) == 2
    assert main(["resume", s3]) == 2
    assert "is finished" in capsys.readouterr().err
    assert distes.load_policy(s3)(np.zeros(4)) in (0, 1)
    assert main([*line, "--out", "again", "--start-from", s3]) == 0
    assert main([*line, "--out", s3]) == 2
    assert "exists and is not empty" in capsys.readouterr().err
    near = s3[:-1]
    assert main(["info", near]) == 2
    assert f"did you mean '{URI(s3).name}'" in capsys.readouterr().err
    assert sorted(each.name for each in tmp_path.iterdir()) == ["again", "curve.png", "local"]


@pytest.mark.slow
def test_parameters_to_start_from_can_be_in_a_bucket(s3, tmp_path, swift):
    """They are where the machine that runs the job can read them."""
    np.save(tmp_path / "p.npy", np.arange(10.0))
    open_folder(s3).write("p.npy", (tmp_path / "p.npy").read_bytes())
    for place in (f"{s3}/p.npy", tmp_path / "p.npy"):
        result = cartpole(tmp_path / uuid.uuid4().hex, generations=1, start_from=place).run()
        assert load(result.path).snapshot().start[:10].tolist() == list(range(10))
    with pytest.raises(UsageError, match="does not exist"):
        cartpole(tmp_path / "z", start_from=f"{s3}/q.npy").run()


def test_a_file_uri_is_a_path(tmp_path):
    """Some tools give every place as a URI."""
    place = f"file://{tmp_path}/x%20y"
    assert cartpole(place, generations=1).run().path == tmp_path / "x y"
    assert exists_run(place)


def test_a_uri_is_welcome_inside_a_ray_job(memory, monkeypatch, swift):
    """It is what a job should write to."""
    monkeypatch.setenv("RAY_JOB_CONFIG_JSON_ENV_VAR", "{}")
    cartpole(memory, generations=1).check()


KILLED = """
import sys
sys.path.insert(0, sys.argv[2])
from distes.runs.storage import locks
import searches
from distes.search.observer import Observer
from distes.runs.reader import exists_run
from distes.search.search import Search
place = sys.argv[1]
locks.SETTLE_S = 0.01
class Say(Observer):
    def generation(self, row):
        print(row["generation"], flush=True)
from distes.runs.storage.folder import ObjectFolder
ObjectFolder.commit_s = 0.2
search = searches.long_search(place)
search.generations = 24
search.observers = (Say(),)
search.proceed() if exists_run(place) else search.run()
"""


@pytest.mark.slow
def test_a_killed_run_in_a_bucket_goes_on_as_if_nothing_was(s3, tmp_path, server):
    """The lease of the dead must not lock the run, nor may a generation be lost or doubled."""
    whole = long_search(tmp_path / "whole")
    whole.generations = 24
    whole.run()
    environment = {**os.environ, "PYTHONPATH": str(Path(distes.__file__).parents[1])}
    tests = str(SUPPORT)
    for lines in (9, None):
        process = subprocess.Popen(
            [sys.executable, "-c", KILLED, s3, tests], stdout=subprocess.PIPE, env=environment
        )
        assert process.stdout is not None
        for _ in range(lines or 0):
            assert process.stdout.readline()
        if lines is not None:
            process.send_signal(signal.SIGKILL)
        process.stdout.read()
        assert process.wait() == (0 if lines is None else -signal.SIGKILL)
        process.stdout.close()
    assert_same_run(s3, tmp_path / "whole")
    assert (
        len(open_folder(s3).list_names("checkpoints")) <= 4
    )  # old ones are gone, not just emptied
    assert [e["kind"] for e in load(s3).events].count("resumed") >= 1
    assert not [k for k in server.keys("bucket", URI(s3).name) if k.endswith(locks.LEASE)]


# One writer


@pytest.mark.slow
def test_two_writers_in_a_bucket_are_refused(s3, swift):
    """Two searches in one place would overwrite each other's parts."""
    log = RunLog.create(s3, {})
    assert load(s3).is_written()
    with pytest.raises(UsageError, match="is being written") as found:
        RunLog.resume(s3)
    one_sentence(found)
    run_to(log, 0, 1)
    log.close()
    assert not load(s3).is_written()
    RunLog.resume(s3)[0].close()
    assert_whole(s3, 1)


def test_of_several_that_begin_at_once_one_writes(memory, swift, monkeypatch):
    """Jobs are started twice by accident; both must not believe that the place is theirs."""
    monkeypatch.setattr(locks, "SETTLE_S", 0.2)
    most = 0
    for number in range(4):
        place, begun = f"{memory}/{number}", []
        gate = threading.Barrier(4)

        def begin(place=place, begun=begun, gate=gate):
            gate.wait()
            with suppress(UsageError, StorageError):
                begun.append(RunLog.create(place, {}))

        threads = [threading.Thread(target=begin) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        wrote = 0
        for log in begun:
            with suppress(StorageError):
                run_to(log, 0, 1)
                log.close()
                wrote += 1
        assert wrote <= 1
        most += wrote
        if wrote:
            assert_whole(place, 1)
    assert most


def lease_of(place: str) -> dict[str, Any]:
    return json.loads(open_folder(place).read(locks.LEASE))


def test_a_writer_that_was_taken_over_stops(memory, swift):
    """One that slept through its lease must not go on beside its successor."""
    log = RunLog.create(memory, {})
    run_to(log, 0, 2)
    stolen = {**lease_of(memory), "holder": "other", "host": "elsewhere"}
    open_folder(memory).write(locks.LEASE, json.dumps(stolen).encode())
    record(log, 2)
    with pytest.raises(StorageError, match="elsewhere took it over"):
        log.commit(snapshot(3), now=True)
    log.close()
    assert lease_of(memory)["holder"] == "other"  # not deleted by the loser
    assert_whole(memory, 2)


def test_a_writer_whose_lease_is_gone_stops(memory, swift):
    """A successor that has ended deleted it: the run may be finished by now."""
    log = RunLog.create(memory, {})
    run_to(log, 0, 1)
    open_folder(memory).delete(locks.LEASE)
    record(log, 1)
    with pytest.raises(StorageError, match="deleted its lease"):
        log.commit(snapshot(2), now=True)
    log.close()


def abandoned(place: str, **changes: Any) -> None:
    """A run whose writer vanished with its machine."""
    log = RunLog.create(place, {})
    run_to(log, 0, 2)
    lease = lease_of(place)
    log.close()
    lease = {**lease, "host": "elsewhere", "process": "another boot 1 1", **changes}
    open_folder(place).write(locks.LEASE, json.dumps(lease).encode())


def test_a_lease_without_life_is_taken_over_and_said(memory, swift):
    """After the loss of a machine, resuming must not need anybody's hand."""
    abandoned(memory)
    said: list[str] = []
    log, found = RunLog.resume(memory, say=said.append)
    assert found.generation == 2
    assert len(said) == 1
    assert "on elsewhere" in said[0]
    assert "up to 2 s" in said[0]
    run_to(log, 2, 3)
    log.close()
    assert_whole(memory, 3)


@pytest.mark.parametrize("how", ["dead", "old"])
def test_a_lease_of_the_surely_dead_costs_no_wait(memory, swift, how):
    """The common case: the same machine, or the next day."""
    dead = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    process = locks._name_process(dead.pid)
    dead.communicate()
    changes = {"process": process} if how == "dead" else {"time": "2020-01-01T00:00:00+00:00"}
    if how == "dead" and not process:
        pytest.skip("this system does not name its processes")
    abandoned(memory, **changes)
    said: list[str] = []
    RunLog.resume(memory, say=said.append)[0].close()
    assert said == []


def test_a_live_process_is_not_taken_for_dead():
    """It would be robbed of its run."""
    assert not locks._is_dead(locks._name_process(os.getpid()))
    assert not locks._is_dead("")
    assert not locks._is_dead("other-boot pid:[1] 1 1")


def test_a_file_system_without_locks_is_accepted(tmp_path, monkeypatch):
    """Some network file systems have none; their users still want to write."""

    def refuse(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(locks.fcntl, "flock", refuse)
    log = RunLog.create(tmp_path / "x", {})
    run_to(log, 0, 2)
    log.close()
    assert_whole(tmp_path / "x", 2)


# Checked before


@pytest.fixture
def no_workers(monkeypatch):
    """Fail if a search gets as far as its workers."""

    def start(*_, **__):
        raise AssertionError("workers were started")

    monkeypatch.setattr("distes.search.search.make_evaluator", start)


@pytest.mark.slow
def test_a_missing_bucket_is_refused_first(s3, no_workers):
    """Said after an hour of starting workers, it costs that hour."""
    with pytest.raises(UsageError, match="there is no bucket 'nosuch'") as found:
        cartpole("s3://nosuch/run").run()
    one_sentence(found)
    with pytest.raises(UsageError, match="there is no run directory"):
        load("s3://nosuch/run")


@pytest.mark.slow
def test_wrong_credentials_are_refused_first(no_workers, monkeypatch, s3):
    """The sentence must name what to set."""

    from moto.core import set_initial_no_auth_action_count

    @set_initial_no_auth_action_count(0)
    def run():
        cartpole(s3).run()

    with pytest.raises(UsageError, match="not accepted: set AWS_ACCESS_KEY_ID") as found:
        run()
    one_sentence(found)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["closed", "silent"])
def test_a_server_that_does_not_answer_is_told_in_time(kind, s3, no_workers, monkeypatch):
    """A job that hangs for minutes looks like one that works."""
    monkeypatch.setattr(stores, "CONNECT_S", 1.0)
    monkeypatch.setattr(stores, "REQUEST_S", 1.0)
    monkeypatch.setattr(retries, "READING_S", 0.5)
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        if kind == "silent":
            listener.listen(8)
        port = listener.getsockname()[1]
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{port}")
        with pytest.raises(StorageError, match="does not answer") as found:
            cartpole(s3).run()
    one_sentence(found)


def test_a_check_that_hangs_is_given_up(memory, no_workers, monkeypatch):
    """Some clients look for credentials without end."""
    monkeypatch.setattr(storage, "ANSWER_S", 0.2)
    ended = threading.Event()
    monkeypatch.setattr(stores.FsspecStore, "put", lambda *_: ended.wait())
    with pytest.raises(StorageError, match="has not answered"):
        cartpole(memory).run()
    ended.set()


def test_a_store_that_forgets_is_refused(memory, no_workers, monkeypatch):
    """Better now than at the first resume."""
    monkeypatch.setattr(stores.FsspecStore, "get", lambda *_: b"")
    with pytest.raises(StorageError, match="does not give back"):
        cartpole(memory).run()


def test_a_read_only_store_is_refused(no_workers):
    """https:// can be read by fsspec, and never written."""
    folder = open_folder("memory://x/y")
    folder._store.inner = _ReadOnly()
    with pytest.raises(UsageError, match="does not take"):
        folder.check()


class _ReadOnly:
    def put(self, key, data):
        raise NotImplementedError

    def delete(self, key):
        raise AssertionError("nothing is there to delete")


def test_a_local_place_is_tried_out_and_left_clean(tmp_path, no_workers, monkeypatch):
    """A full or forbidden disk must be told before workers start, and nothing be left."""
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="is a file"):
        cartpole(tmp_path / "file" / "x").run()
    for error, kind in (
        (PermissionError(errno.EACCES, "no"), UsageError),
        (OSError(28, "No space"), StorageError),
    ):
        with monkeypatch.context() as patch:

            def refuse(*_, error=error):
                raise error

            patch.setattr(Path, "write_bytes", refuse)
            with pytest.raises(kind, match="cannot be written"):
                cartpole(tmp_path / "deep" / "x").run()
    LocalFolder(tmp_path / "deep" / "x").check()
    assert [each.name for each in tmp_path.iterdir()] == ["file"]


@pytest.mark.slow
def test_a_check_leaves_nothing_in_a_bucket(s3, server):
    """A run that never began must not stand in the way of the next."""
    open_folder(s3).check()
    assert not open_folder(s3).is_taken()
    assert all(key.endswith("/") for key in server.keys("bucket", URI(s3).name))


# Faults


@pytest.mark.slow
@pytest.mark.parametrize("fault", ["throttle", "lose"])
def test_throttling_and_lost_answers_do_not_end_a_run(s3, server, tmp_path, fault, swift):
    """A store that hiccups for a second must not cost a night's computation."""
    cartpole(tmp_path / "calm").run()
    with every(server, 3, fault):
        cartpole(s3).run()
    assert_same_run(s3, tmp_path / "calm")
    faults = [event for event in load(s3).events if event["kind"] == "storage_fault"]
    assert faults
    assert all(event["tries"] > 1 and s3 in event["cause"] for event in faults)


class Faulty:
    """A store that fails at one operation: before doing it, after, or from then on."""

    def __init__(self, store: Any, at: int, kind: str) -> None:
        self._store = store
        self._count = itertools.count()
        self._at = at
        self._kind = kind
        self.hit = False

    def __getattr__(self, name: str) -> Any:
        real = getattr(self._store, name)

        def act(*arguments: Any) -> Any:
            number = next(self._count)
            if number == self._at or (number > self._at and self._kind == "down"):
                self.hit = True
                if self._kind == "lost":
                    real(*arguments)
                raise OSError(f"connection lost at operation {number}")
            return real(*arguments)

        return act


@pytest.mark.parametrize("kind", [slow("once"), "lost", "down"])
def test_whichever_operation_fails_the_run_goes_on_or_can(memory, monkeypatch, swift, kind):
    """There must be no moment at which a fault loses a generation, or doubles one."""
    monkeypatch.setattr(locks, "BEAT_S", NEVER)
    monkeypatch.setattr(checkpoint, "KEEP", 1)  # deleting begins early
    monkeypatch.setattr(merging, "FAN", 2)  # and merging
    if kind == "down":
        monkeypatch.setattr(retries, "HURRY_S", 0.02)
        monkeypatch.setattr(retries, "READING_S", 0.02)
        monkeypatch.setattr(storage, "WRITING_S", 0.02)
    hit = True
    number = 0
    while hit:
        place = f"{memory}/{number}"
        real = stores.FsspecStore(locate(place))
        faulty = Faulty(real, number, kind)
        with monkeypatch.context() as patch:
            patch.setattr(storage, "open_store", lambda _, faulty=faulty: faulty)
            try:
                log = RunLog.create(place, {})
            except StorageError:
                assert kind == "down"
                log = None
            if log is not None:
                try:
                    run_to(log, 0, 3)
                    assert not (kind == "down" and faulty.hit)
                except StorageError:
                    assert kind == "down"
                try:
                    log.close()
                except StorageError:
                    assert kind == "down"
        hit = faulty.hit
        if not exists_run(place):
            number += 1
            continue
        fsspec.filesystem("memory").rm(
            place.removeprefix("memory:/") + f"/{locks.LEASE}"
        ) if real.exists(locks.LEASE) else None
        log, found = RunLog.resume(place)
        start = 0 if found is None else found.generation
        assert kind == "down" or start == 3
        run_to(log, start, 3)
        log.close()
        assert_whole(place, 3)
        number += 1
    assert number > 40


@pytest.mark.parametrize("patience_s", [math.inf, 0.0])
def test_a_request_that_is_silent_for_longer_than_all_patience(monkeypatch, patience_s):
    """If wrong: a run ends at its start, or at resume, by one lost answer."""
    clock, asked = [0.0], []

    class Silent:
        def put(self, key, data):
            asked.append(key)
            if len(asked) == 1:
                clock[0] += stores.REQUEST_S
                raise TimeoutError("no answer")

    monkeypatch.setattr(retries.time, "monotonic", lambda: clock[0])
    store = retries.RetryingStore(URI("s3://bucket/run"), Silent())
    assert store.patience_s < stores.REQUEST_S
    if patience_s > 0:
        store.put("key", b"", patience_s)
        assert len(asked) == 2
    else:
        with pytest.raises(StorageError):
            store.put("key", b"", patience_s)


def test_a_refusal_is_not_asked_for_again():
    """If wrong: wrong credentials are told after minutes."""
    asked = []

    class Refusing:
        def put(self, key, data):
            asked.append(key)
            raise PermissionError("AccessDenied")

    with pytest.raises(StorageError):
        retries.RetryingStore(URI("s3://bucket/run"), Refusing()).put("key", b"")
    assert asked == ["key"]


def test_a_refusal_ends_the_run_at_once_and_resumably(memory, swift):
    """Trying again for minutes what is forbidden only hides it."""
    log = RunLog.create(memory, {})
    run_to(log, 0, 2)
    store = log._folder._store.inner
    whole = store.put

    def refuse(key, data):
        raise OSError("AWS Error ACCESS_DENIED during PutObject operation: Access Denied")

    store.put = refuse
    record(log, 2)
    with pytest.raises(StorageError, match=r"access is denied.*stays readable") as found:
        log.commit(snapshot(3), now=True)
    one_sentence(found)
    log.close()
    store.put = whole
    log, state = RunLog.resume(memory)
    run_to(log, state.generation, 4)
    log.close()
    assert_whole(memory, 4)


def test_the_loop_does_not_wait_for_a_store_that_hiccups(memory, swift):
    """Thousands of workers would wait with it."""
    log = RunLog.create(memory, {}, interval_s=0.0)
    store, down = log._folder._store.inner, threading.Event()
    whole, tried = store.put, threading.Event()
    down.set()

    def put(key, data):
        if down.is_set() and key != locks.LEASE:
            tried.set()
            raise OSError("connection reset")
        whole(key, data)

    store.put = put
    run_to(log, 0, 1, now=False)
    assert tried.wait(60)
    run_to(log, 1, 8, now=False)  # would never return if it waited
    down.clear()
    log.close()
    assert_whole(memory, 8)
    assert [event["kind"] for event in load(memory).events] == ["storage_fault"]


def test_closing_while_the_store_is_down_takes_seconds(memory, swift, monkeypatch):
    """A job that is stopped has ten seconds before it is killed."""
    monkeypatch.setattr(retries, "HURRY_S", 0.1)
    log = RunLog.create(memory, {}, interval_s=0.0)
    store, tried = log._folder._store.inner, threading.Event()

    def put(key, data):
        tried.set()
        raise OSError("connection reset")

    store.put = put
    run_to(log, 0, 1, now=False)
    assert tried.wait(60)
    with pytest.raises(StorageError, match="connection reset"):
        log.close()  # the test's time-out is far below the store's patience


BIG = textwrap.dedent(
    """
    import sys
    from distes.runs.storage.folder import open_folder
    folder = open_folder(sys.argv[1])
    for number in range(10**6):
        folder.write(f"big/{number % 3}", bytes([number % 251]) * 12_000_000)
        print(number, flush=True)
    """
)


@pytest.mark.slow
def test_objects_are_whole_whenever_they_are_seen(s3):
    """Half a Parquet file makes the whole folder unreadable; large ones go up in pieces."""
    environment = {**os.environ, "PYTHONPATH": str(Path(distes.__file__).parents[1])}
    folder = open_folder(s3)
    for lines in (2, 3):
        child = subprocess.Popen(
            [sys.executable, "-c", BIG, s3], stdout=subprocess.PIPE, env=environment
        )
        assert child.stdout is not None
        for _ in range(lines):
            assert child.stdout.readline()
            for name in folder.list_names("big"):
                assert_one_value(folder.read(f"big/{name}"))
        child.send_signal(signal.SIGKILL)
        child.wait()
        child.stdout.close()
        for name in folder.list_names("big"):
            assert_one_value(folder.read(f"big/{name}"))


def assert_one_value(data: bytes) -> None:
    assert data == data[:1] * 12_000_000


@pytest.mark.slow
def test_an_interrupted_run_says_where_to_go_on(s3, swift, capsys):
    """The URI must be in the command as it can be typed."""
    with pytest.raises(KeyboardInterrupt):
        cartpole(s3, observers=(Display(), StopAt(1))).run()
    assert f"writes {s3}" in capsys.readouterr().out
    result = Search.resume(s3, workers=0, observers=(Display(),))
    assert f"{s3} resumes at generation 2" in capsys.readouterr().out
    assert result.path == s3
    assert isinstance(result.path, URI)


@pytest.mark.parametrize("kind", ["local", "memory"])
def test_a_local_directory_on_a_cluster_is_said_once(kind, tmp_path, memory, swift, monkeypatch):
    """Who looks for the run on another node, or on shared storage, would not find it."""
    monkeypatch.setattr(SerialEvaluator, "num_nodes", 3)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        cartpole({"local": tmp_path / "x", "memory": memory}[kind], generations=3).run()
    said = [str(w.message) for w in caught if issubclass(w.category, Notice)]
    if kind == "memory":
        assert said == []
    else:
        assert len(said) == 1
        assert f"{tmp_path / 'x'} is on the driver's machine" in said[0]


@pytest.mark.slow
def test_following_a_run_in_a_bucket(s3, swift):
    """Jobs write there, and are followed from a laptop."""
    log = RunLog.create(s3, {})
    log._folder.append_s = 0.0
    tail = Tail(s3, 10)
    log.add_event("first")
    run_to(log, 0, 2)
    news = tail.news()
    assert [row["generation"] for row in news.rows] == [0, 1]
    assert tail.news().rows == []
    log.add_event("second")
    run_to(log, 2, 3)
    log.close()
    news2 = tail.news()
    assert [row["generation"] for row in news2.rows] == [2]
    told = [event["kind"] for event in news.events + news2.events]
    assert told == ["first", "second"]
