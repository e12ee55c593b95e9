"""``--resume-if-exists``: one command that begins a run, goes on with it, or gives its result."""

from __future__ import annotations

import json
import os
import shlex
import shutil
from pathlib import Path
from typing import Any

import pytest
from searches import assert_same_run, cartpole

from distes.cli import main
from distes.errors import UsageError
from distes.runs.reader import load
from distes.runs.schema import CONFIG
from distes.runs.storage import locks
from distes.runs.storage.folder import LocalFolder, open_folder
from distes.search.observer import Observer
from distes.search.result import Result
from distes.search.search import Search

FLAGS = shlex.split(
    "--strategy cem --population 24 --generations 4 --episodes 2 --seed 5 "
    "--heldout-every 2 --heldout-episodes 5 --final-episodes 7 --workers 0"
)
"""Those of `cartpole`."""


class Killed(BaseException):
    pass


class KillAfter(Observer):
    """Ends a session as a crash would, and counts what it saw."""

    def __init__(self, generations: int | None = None) -> None:
        self.left = generations
        self.resumed_at: list[int | None] = []
        self.generations = 0
        self.results: list[Result] = []

    def started(self, search: Any, path: Any, resumed_at: int | None) -> None:
        self.resumed_at.append(resumed_at)

    def generation(self, row: Any) -> None:
        self.generations += 1
        if self.generations == self.left:
            raise Killed

    def finished(self, result: Result) -> None:
        self.results.append(result)


def retry(out: Path, *flags: str) -> int:
    return main(["run", "CartPole-v1", *FLAGS, "--out", str(out), "--resume-if-exists", *flags])


def test_the_same_call_begins_goes_on_and_gives_the_result(tmp_path: Path) -> None:
    """If wrong: a retried program begins anew, computes differently, or fails when done."""
    whole = cartpole(tmp_path / "whole").run()
    out = tmp_path / "retried"
    with pytest.raises(Killed):
        cartpole(out, observers=[KillAfter(2)]).run(resume_if_exists=True)
    second, third = KillAfter(), KillAfter()
    result = cartpole(out, observers=[second]).run(resume_if_exists=True)
    assert second.resumed_at == [2]
    assert second.generations == 2
    assert_same_run(out, tmp_path / "whole")

    again = cartpole(out, observers=[third]).run(resume_if_exists=True)
    assert third.generations == 0
    assert third.results == [again]
    for one in (again, result):
        assert one.score == whole.score
        assert one.stopped == whole.stopped
        assert (one.parameters == whole.parameters).all()
        assert one.reevaluation is not None
        assert one.reevaluation.gap == whole.reevaluation.gap  # type: ignore[union-attr]
    assert again.path == out


def test_a_run_without_a_commit_goes_on_from_its_beginning(tmp_path: Path) -> None:
    """If wrong: a job killed in its first moments can never be retried."""
    cartpole(tmp_path / "whole").run()
    out = tmp_path / "killed"
    with pytest.raises(Killed):
        cartpole(out, observers=[KillAfter(1)]).run()
    for each in (out / "checkpoints").iterdir():
        shutil.rmtree(each)
    cartpole(out).run(resume_if_exists=True)
    assert_same_run(out, tmp_path / "whole")


def test_a_run_killed_before_its_first_file_begins_anew(tmp_path: Path) -> None:
    """If wrong: a job killed in one unlucky millisecond fails at each retry."""
    out = tmp_path / "killed"
    out.mkdir()
    (out / ".config.json.0123abcd.tmp").write_text("{")
    cartpole(out).run(resume_if_exists=True)
    cartpole(tmp_path / "whole").run()
    assert_same_run(out, tmp_path / "whole")

    (tmp_path / "theirs" / "episodes").mkdir(parents=True)
    (tmp_path / "theirs" / "note").touch()
    with pytest.raises(UsageError, match="exists and is not empty"):
        cartpole(tmp_path / "theirs").run(resume_if_exists=True)
    assert (tmp_path / "theirs" / "episodes").is_dir()


@pytest.mark.parametrize("links", [True, False])
def test_one_of_several_beginners_gets_the_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, links: bool
) -> None:
    """If wrong: two runs are written into one directory, or a beginner leaves its first file."""

    def refuse(*_: object) -> None:
        raise PermissionError("no links on this file system")

    if not links:
        monkeypatch.setattr(os, "link", refuse)
    folder = open_folder(tmp_path / "run")
    folder.begin(CONFIG, b"first").close()
    if links:
        with pytest.raises(UsageError, match="another run, begun just now"):
            folder.begin(CONFIG, b"second")
    assert [each.name for each in (tmp_path / "run").iterdir()] == [CONFIG]
    assert folder.read(CONFIG) == b"first"


def test_nobody_goes_on_before_the_beginner_holds_the_lock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If wrong: a starter that falls asleep between the two writes over a finished run."""
    link, folder = os.link, open_folder(tmp_path / "run")
    met: list[bool | None] = []

    def look(source: Path, target: Path) -> None:
        link(source, target)
        met.append(folder.is_locked(CONFIG))

    monkeypatch.setattr(os, "link", look)
    lock = folder.begin(CONFIG, b"first")
    assert met == [True]
    lock.close()
    assert folder.is_locked(CONFIG) is False


def test_a_lock_is_on_the_file_that_has_the_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If wrong: who waits while a run is extended holds a lock that nobody else meets."""
    folder, take = LocalFolder(tmp_path / "run"), locks._try_flock
    folder.begin(CONFIG, b"first").close()

    def extend_first(*asked: Any) -> bool | None:
        monkeypatch.setattr(locks, "_try_flock", take)
        for lock in folder.rewrite(CONFIG, b"second"):
            lock.close()
        return take(*asked)

    monkeypatch.setattr(locks, "_try_flock", extend_first)
    lock = folder.lock(CONFIG)
    assert folder.is_locked(CONFIG)
    lock.close()
    assert not folder.is_locked(CONFIG)


def test_starters_do_not_trip_over_each_others_temporaries(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If wrong: of starters at once, one fails as if the disk could not be written."""
    folder, replace = LocalFolder(tmp_path / "run"), Path.replace

    def clean_up(temporary: Path, target: Path) -> Path:
        folder.delete_temporaries()
        return replace(temporary, target)

    folder.begin(CONFIG, b"first").close()
    monkeypatch.setattr(Path, "replace", clean_up)
    with pytest.raises(UsageError, match="another run, begun just now"):
        folder.begin(CONFIG, b"second")
    gone = iter([folder.root / ".config.json.0123abcd.tmp"])
    monkeypatch.setattr(Path, "rglob", lambda *_: gone)
    folder.delete_temporaries()


def test_a_run_that_another_process_begins_meanwhile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If wrong: of three starters at once, two fail instead of giving the result."""
    other, check = cartpole(tmp_path / "run"), Search.check

    def begin_first(search: Search) -> Any:
        monkeypatch.setattr(Search, "check", check)
        other.run()
        return search.check()

    monkeypatch.setattr(Search, "check", begin_first)
    result = cartpole(tmp_path / "run").run(resume_if_exists=True)
    assert result.score == other.run(resume_if_exists=True).score
    evaluations = load(tmp_path / "run").evaluations
    assert (evaluations["purpose"] == "test").sum() == 7


def test_it_needs_an_out(capfd: pytest.CaptureFixture[str]) -> None:
    """If wrong: every retry silently begins another run in a directory of its own."""
    with pytest.raises(UsageError, match="resume_if_exists needs out"):
        cartpole(None).run(resume_if_exists=True)  # type: ignore[arg-type]
    assert main(["run", "CartPole-v1", *FLAGS, "--resume-if-exists"]) == 2
    said = capfd.readouterr().err
    assert said.count("\n") == 1
    assert "--resume-if-exists needs --out" in said


def test_the_command_says_that_a_run_is_finished(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """If wrong: the retry of a finished job fails, or does not say what came out."""
    out = tmp_path / "run"
    assert retry(out) == 0
    first = capfd.readouterr().out
    assert "finished already" not in first
    assert retry(out) == 0
    second = capfd.readouterr().out
    assert f"{out} is finished already" in second
    assert "\ngeneration" not in second
    score = next(line for line in first.splitlines() if line.startswith("score: "))
    assert score in second
    assert f"run: {out}" in second


@pytest.mark.parametrize("finished", [False, True])
def test_other_settings_are_refused(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], finished: bool
) -> None:
    """If wrong: a command shows, or goes on with, the result of another search."""
    out = tmp_path / "run"
    with pytest.raises(Killed):
        cartpole(out, observers=[KillAfter(2)]).run()
    if finished:
        cartpole(out).run(resume_if_exists=True)
    assert retry(out, "--seed", "6") == 2
    said = capfd.readouterr().err
    assert said.count("\n") == 1
    assert "started with seed 5, not 6" in said


def test_what_is_no_run_is_left_alone(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """If wrong: a retried job writes into a directory that holds something else."""
    (tmp_path / "thesis.tex").touch()
    assert retry(tmp_path) == 2
    assert "exists and is not empty" in capfd.readouterr().err
    assert [each.name for each in tmp_path.iterdir()] == ["thesis.tex"]


def test_in_a_ray_job_a_relative_out_is_refused_each_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """If wrong: a job's run is written into a directory that Ray deletes."""
    monkeypatch.chdir(tmp_path)
    assert retry(Path("run")) == 0
    monkeypatch.setenv("RAY_JOB_CONFIG_JSON_ENV_VAR", json.dumps({}))
    capfd.readouterr()
    for out in ("run", "other"):
        assert retry(Path(out)) == 2
        said = capfd.readouterr().err
        assert said.count("\n") == 1
        assert "is relative" in said
    assert main(["run", "CartPole-v1", *FLAGS]) == 2
    assert "is relative" in capfd.readouterr().err
    assert [each.name for each in tmp_path.iterdir()] == ["run"]
