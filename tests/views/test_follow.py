"""Following a run: what another process sees of one that is being written."""

import errno
import fcntl
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from types import SimpleNamespace

import environments
import numpy as np
import pytest
from paths import SUPPORT

import distes
from distes.cli import main
from distes.errors import RunFailed, UsageError
from distes.runs import checkpoint
from distes.runs.follow import Tail
from distes.runs.reader import QUIET_S, Run, load
from distes.runs.schema import CONFIG, EVALUATIONS, EVENTS, GENERATIONS
from distes.runs.storage import locks
from distes.runs.storage.folder import LocalFolder
from distes.runs.writer import RunLog
from distes.search.observer import Observer
from distes.views.follow import LAST, follow

PATIENCE_S = 120
RUN = [sys.executable, "-m", "distes", "run", "environments:slow_walk", "--workers", "0"]
RUN += [
    "--strategy",
    "cem",
    "--population",
    "20",
    "--heldout-every",
    "2",
    "--heldout-episodes",
    "5",
]
FOLLOW = [sys.executable, "-m", "distes", "info", "--follow"]


class Prompt(RunLog):
    """Commits every generation, however fast they come."""

    @classmethod
    def create(cls, path, config, **options):
        return super().create(path, config, interval_s=0.0, **options)

    @classmethod
    def resume(cls, path, **options):
        return super().resume(path, interval_s=0.0, **options)

    def commit(self, snapshot, *, now=False):
        super().commit(snapshot, now=True)


@pytest.fixture
def prompt(monkeypatch):
    monkeypatch.setattr("distes.search.search.RunLog", Prompt)


def hill(parameters, seed):
    if int(abs(parameters[0]) * 1e6) % 7 == 0:
        raise RuntimeError("the hill is closed")
    return environments.noisy_sphere(parameters, seed)


def search(out, *, task=None, **settings):
    defaults = {"population": 10, "generations": 6, "heldout_every": 2, "heldout_episodes": 4}
    defaults |= {"final_episodes": 4, "workers": 0, "out": out, "strategy": "cem"}
    task = task or distes.FunctionTask(hill, 3, noisy=True)
    return distes.Search(task, **(defaults | settings))


class Stop(Observer):
    """Interrupts after a generation."""

    def __init__(self, after):
        self.after = after

    def generation(self, row):
        if row["generation"] == self.after:
            raise KeyboardInterrupt


def interrupted(out, after=3, **settings):
    with pytest.raises(KeyboardInterrupt):
        search(out, observers=[Stop(after)], **settings).run()


def generations(lines):
    return [line for line in lines if line.startswith("generation") and "elapsed" in line]


def numbers(lines):
    return [int(line.split()[1]) for line in generations(lines)]


def until(true, process):
    deadline = time.monotonic() + PATIENCE_S
    while not true():
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.05)


def spoken(process, text):
    """Read a process's output up to a line with a text."""
    for line in process.stdout:
        if text in line:
            return
    raise AssertionError(f"ended without {text!r}")


def started(command, *more, **pipes):
    here = str(SUPPORT)
    path = os.pathsep.join(filter(None, [os.environ.get("PYTHONPATH"), here]))
    # What a shell starts in the background ignores Ctrl-C, and so would all that it starts.
    heeded = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        return subprocess.Popen(
            [*command, *map(str, more)], env=os.environ | {"PYTHONPATH": path}, text=True, **pipes
        )
    finally:
        signal.signal(signal.SIGINT, heeded)


def test_two_processes_say_the_same(tmp_path):
    """Whoever follows must see what the one who started the run sees, and its end."""
    out = tmp_path / "my run"
    flags = ["--generations", str(LAST), "--final-episodes", "5", "--out", out]
    run = started(RUN, *flags, stdout=subprocess.PIPE)
    try:
        until((out / CONFIG).exists, run)
        watcher = started(FOLLOW, out, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        try:
            seen, errors = watcher.communicate(timeout=PATIENCE_S)
        finally:
            watcher.kill()
        told, _ = run.communicate(timeout=PATIENCE_S)
    finally:
        run.kill()
    assert (watcher.returncode, errors) == (0, "")
    told, seen = told.splitlines(), seen.splitlines()
    assert seen[0] == f"following {out}: environments:slow_walk, cem, mlp, seed 0"
    assert numbers(told) == list(range(LAST))
    assert generations(seen) == generations(told)
    assert any(re.fullmatch(rf"state +finished: {LAST} generations", line) for line in seen)


def test_killed_run_is_called_stopped_and_goes_on(tmp_path, capfd):
    """Whoever follows a dead run would wait for ever, or not know how to go on."""
    out = tmp_path / "run"
    run = started(RUN, "--generations", "100000", "--out", out, stdout=subprocess.DEVNULL)
    try:
        until(lambda: checkpoint.find_newest(LocalFolder(out)) == 1, run)
        assert load(out).is_written()
    finally:
        run.kill()
        run.wait()
    assert main(["info", str(out), "--follow"]) == 1
    seen, errors = capfd.readouterr()
    done = len(load(out).generations)
    assert numbers(seen.splitlines())[-1] == done - 1
    assert errors == (
        f"distes: '{out}' is not in progress: interrupted after generation {done - 1}; "
        f"go on with: distes resume {out}\n"
    )


def test_ctrl_c_ends_it_cleanly(tmp_path):
    """A traceback after Ctrl-C looks as if the run had been harmed."""
    log = RunLog.create(tmp_path / "run", {"search": {"env": "CartPole-v1"}})
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    watcher = started(FOLLOW, tmp_path / "run", **pipes)
    try:
        spoken(watcher, "following")
        watcher.send_signal(signal.SIGINT)
        _, errors = watcher.communicate(timeout=PATIENCE_S)
    finally:
        watcher.kill()
        log.close()
    assert watcher.returncode == 130
    assert errors.strip() == ""


def test_finished_run_gives_its_last_generations_and_the_summary(tmp_path, prompt):
    """A run of days must not fill the screen before it says what came out."""
    smooth = distes.FunctionTask(environments.noisy_sphere, 3, noisy=True)
    search(tmp_path / "run", task=smooth, generations=LAST + 5).run()
    lines = []
    follow(tmp_path / "run", lines.append)
    assert numbers(lines) == list(range(5, LAST + 5))
    # The score after generation 3 is known in the line of generation 5.
    held = load(tmp_path / "run").evaluations.query("purpose == 'heldout' and generation == 3")
    shown = float(re.search(r"held-out +(\S+)", generations(lines)[0])[1])
    assert shown == pytest.approx(held["episode_return"].mean(), rel=1e-3)
    assert "state" in lines[-1]
    assert f"finished: {LAST + 5} generations" in lines[-1]


def test_run_without_a_generation(tmp_path, capsys):
    """The first minutes of a slow run are when people look."""
    log = RunLog.create(tmp_path / "run", {"search": {"env": "CartPole-v1"}})
    log.close()
    lines = []
    with pytest.raises(RunFailed, match=r"before its first generation .* distes resume"):
        follow(tmp_path / "run", lines.append)
    assert numbers(lines) == []


def test_all_that_was_committed_since_is_told(tmp_path, prompt):
    """Of a run that was there before, the last generations will do; of news, none is left out."""
    out = tmp_path / "run"
    log = RunLog.create(out, {"search": {"env": "CartPole-v1"}})
    tail = Tail(out, LAST)
    assert tail.news().rows == []
    log.close()
    shutil.rmtree(out)
    interrupted(out, after=2 * LAST, generations=3 * LAST)
    assert len(tail.news().rows) == 2 * LAST + 1


def test_events_come_between_the_generations_they_belong_to(tmp_path, prompt):
    """An error told of after the generations that followed it is looked for in vain."""
    interrupted(tmp_path / "run")
    lines = []
    with pytest.raises(RunFailed):
        follow(tmp_path / "run", lines.append)
    found = 0
    done = 0
    for line in lines:
        if failed := re.match(r"generation (\d+), candidate \d+, episode 0 failed: (.*)", line):
            assert int(failed[1]) == done
            assert failed[2] == "RuntimeError: the hill is closed"
            found += 1
        elif "elapsed" in line:
            done += 1
    assert found == sum(e["kind"] == "episode_error" for e in load(tmp_path / "run").events) > 0


class Follower(threading.Thread):
    """Follows in a thread, looking again and again."""

    def __init__(self, path):
        super().__init__(daemon=True)
        self.path, self.lines, self.fault = path, [], None
        self.said = threading.Condition()

    def run(self):
        try:
            follow(self.path, self.say, poll_s=0.001, patience_s=PATIENCE_S)
        except Exception as error:  # noqa: BLE001 - for the test to see
            self.fault = error

    def say(self, text):
        with self.said:
            self.lines.append(text)
            self.said.notify_all()

    def wait_for(self, text):
        with self.said:
            said = self.said.wait_for(lambda: any(text in line for line in self.lines), PATIENCE_S)
            assert said, f"{text!r} is not among {self.lines}"


class Wait(Observer):
    """Lets the follower catch up before the first generation."""

    def __init__(self, follower):
        self.follower = follower

    def started(self, search, path, resumed_at):
        if not self.follower.is_alive():
            self.follower.start()
            self.follower.wait_for("following")


def test_resumed_meanwhile_it_tells_each_generation_once(tmp_path, prompt):
    """Parts that no checkpoint covers are dropped and written anew by a resume."""
    out = tmp_path / "run"
    follower = Follower(out)
    with pytest.raises(KeyboardInterrupt):
        search(out, observers=[Wait(follower), Stop(3)]).run()
    # Written by a search that was killed before its checkpoint.
    newest = checkpoint.find_newest(LocalFolder(out))
    for folder in (GENERATIONS, EVALUATIONS):
        part = max((out / folder).iterdir())
        shutil.copy(part, out / folder / f"part-{newest + 1:06}.parquet")
    follower.wait_for("nobody writes it now")
    result = search(out).proceed()
    follower.join(PATIENCE_S)
    assert not follower.is_alive()
    assert follower.fault is None
    assert numbers(follower.lines) == [0, 1, 2, 3, 4, 5]
    resumed = next(n for n, line in enumerate(follower.lines) if line.startswith("resumed"))
    assert follower.lines[resumed] == "resumed at generation 4"
    assert numbers(follower.lines[:resumed]) == [0, 1, 2, 3]
    assert "finished: 6 generations" in follower.lines[-1]
    plain = search(tmp_path / "plain").run()
    assert result.score == plain.score


def test_the_last_commit_is_told_of_though_its_files_come_first(tmp_path, monkeypatch):
    """If wrong: who follows a run misses its last seconds, where the disk is slow at its end."""
    out = tmp_path / "run"
    search(out).run()
    newest = max((out / "checkpoints").iterdir())
    newest.rename(tmp_path / "later")
    monkeypatch.setattr(Run, "is_written", lambda _: not newest.exists())
    commit = SimpleNamespace(
        monotonic=time.monotonic, sleep=lambda _: (tmp_path / "later").rename(newest)
    )
    monkeypatch.setattr("distes.views.follow.time", commit)
    lines = []
    follow(out, lines.append)
    assert numbers(lines) == list(range(6))


def test_what_was_read_is_not_read_again(tmp_path, prompt, monkeypatch):
    """Ten thousand parts, read again every second, would load the storage of a cluster."""
    out = tmp_path / "run"
    interrupted(out, after=29, generations=40, heldout_every=1)
    reads = []
    read = LocalFolder.read

    def counted(self, name, start=0):
        data = read(self, name, start)
        reads.append((name, start, len(data)))
        return data

    monkeypatch.setattr(LocalFolder, "read", counted)
    tail = Tail(out, LAST)
    assert [row["generation"] for row in tail.news().rows] == list(range(20, 30))
    # Ten generations, and as many evaluations and one more: that known in the first line.
    assert len(reads) <= 2 * LAST + 3
    reads.clear()
    assert tail.news().rows == []
    assert [(name, size) for name, _, size in reads] == [(EVENTS, 0)]
    reads.clear()
    with pytest.raises(KeyboardInterrupt):
        search(out, generations=40, heldout_every=1, observers=[Stop(30)]).proceed()
    reads.clear()
    news = tail.news()
    assert [row["generation"] for row in news.rows] == [30]
    assert list(news.heldout) == [29]
    assert len([name for name, *_ in reads if name.endswith("parquet")]) == 2


def test_a_run_that_vanishes_is_said_in_a_sentence(tmp_path, prompt):
    """Files deleted under a reader are no fault of the reader."""
    out = tmp_path / "run"
    interrupted(out)
    tail = Tail(out, LAST)
    tail.news()
    shutil.rmtree(out)
    with pytest.raises(UsageError, match="removed or replaced"):
        tail.news()
    interrupted(out, after=0)
    with pytest.raises(UsageError, match="removed or replaced"):
        tail.news()


def test_asking_whether_a_run_is_written_does_not_stop_a_writer(tmp_path, monkeypatch):
    """A look at the wrong instant would refuse a resume: 'a search still runs'."""
    monkeypatch.setattr(locks, "LOCK_S", PATIENCE_S)
    folder = LocalFolder(tmp_path)
    folder.write(CONFIG, b"{}")
    assert folder.is_locked(CONFIG) is False
    with (tmp_path / CONFIG).open("rb") as reader:
        fcntl.flock(reader, fcntl.LOCK_SH)
        threading.Timer(0.1, fcntl.flock, (reader, fcntl.LOCK_UN)).start()
        lock = folder.lock(CONFIG)
    assert folder.is_locked(CONFIG) is True
    lock.close()
    assert folder.is_locked(CONFIG) is False


def test_without_locks_the_age_of_the_last_commit_tells(tmp_path, prompt, monkeypatch):
    """On storage without locks a run of which nothing is heard would run for ever."""
    interrupted(tmp_path / "run")

    def no_locks(handle, operation):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", no_locks)
    run = load(tmp_path / "run")
    assert run.is_written()
    newest = checkpoint.find_newest(LocalFolder(tmp_path / "run"))
    marker = tmp_path / "run" / checkpoint.marker_name(newest)
    old = marker.stat().st_mtime - QUIET_S - 60
    os.utime(marker, (old, old))
    assert not run.is_written()


def test_statuses_are_counted_over_all_parts(tmp_path, prompt):
    """Failures of a kind that nobody counts are failures that nobody sees."""
    run = search(tmp_path / "run").run().run
    counts = run.episodes["status"].value_counts().to_dict()
    assert counts["error"] > 0
    assert run.statuses() == counts
    assert np.sum(list(counts.values())) == 60


@pytest.mark.parametrize("flags", [["--follow"], []], ids=str)
def test_wrong_paths_are_one_sentence(tmp_path, capfd, flags):
    """The same mistake has the same answer, followed or not."""
    assert main(["info", str(tmp_path / "nothing"), *flags]) == 2
    seen, errors = capfd.readouterr()
    assert seen == ""
    assert errors == f"distes: there is no run directory '{tmp_path / 'nothing'}'\n"
