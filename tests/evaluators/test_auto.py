"""Evaluation that begins here and goes on with workers: the same run, wherever it changes."""

from __future__ import annotations

import subprocess
import sys
import warnings
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import environments
import pytest
from evaluations import KEY, assert_equal, gaussian, serially, settle
from marks import slow
from searches import SlowCompiler, StopAt, assert_same_run, cartpole

import distes
from distes.errors import RunFailed
from distes.evaluators import auto
from distes.evaluators.auto import AutoEvaluator
from distes.evaluators.serial import SerialEvaluator
from distes.population.distributions import Point
from distes.population.records import Population, Purpose
from distes.search.observer import Observer
from distes.search.search import Search
from distes.tasks.environment import Task
from distes.tasks.function import FunctionTask


@pytest.fixture
def unnoticed(ray_local: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The shared Ray is there to be used, and no reason to use it at once."""
    monkeypatch.setattr("distes.search.evaluator.is_ray_connected", lambda: False)


class Impatient(Observer):
    """Lets generations behind a given one take no time at all; keeps what is said."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, behind: int) -> None:
        self.behind, self.said = behind, list[str]()
        self.workers = list[float]()
        monkeypatch.setattr(auto, "PATIENCE_S", 0.0)
        self.set = lambda seconds: monkeypatch.setattr(auto, "SEARCH_S", seconds)
        self.set(0.0 if behind < 0 else 1e9)

    def note(self, text: str) -> None:
        self.said.append(text)

    def generation(self, row: Any) -> None:
        self.workers.append(row["workers"])
        if row["generation"] == self.behind:
            self.set(0.0)


@pytest.mark.parametrize("behind", [slow(-1), 1, slow(99)], ids=["at once", "later", "never"])
def test_the_same_run_wherever_workers_start(
    tmp_path: Path, unnoticed: None, monkeypatch: pytest.MonkeyPatch, behind: int
) -> None:
    """If wrong: how fast a machine is decides what a seed gives, or rows are lost or doubled."""
    watcher = Impatient(monkeypatch, behind)
    cartpole(tmp_path / "auto", workers="auto", engine="loop", observers=[watcher]).run()
    cartpole(tmp_path / "here", engine="loop").run()
    assert_same_run(tmp_path / "auto", tmp_path / "here")
    first = max(behind + 1, 0)  # generation with workers
    assert [count > 0 for count in watcher.workers] == [i >= first for i in range(4)]
    assert watcher.said[0].startswith("begins in this process")
    taken = "generations of more than 0 s have taken 0 s"
    said = [f"at generation {first}, {taken}: starting Ray workers"]
    assert watcher.said[1:] == (said if behind < 4 else [])


def test_no_workers_are_hired_for_want_of_machine_code(
    tmp_path: Path, unnoticed: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If wrong: a small run on a new machine starts a Ray, which takes longer than compiling."""
    pytest.importorskip("numba")
    cartpole(tmp_path / "here").run()
    for chunks, hired in ((60, [False, True, True, True]), (10_000, [False] * 4)):
        patience = Impatient(monkeypatch, -1)
        with monkeypatch.context() as patch:
            patch.setattr(
                "distes.engines.compiled.start_compiler", lambda *_, n=chunks: SlowCompiler(n)
            )
            if chunks == 10_000:
                patch.setenv("XDG_CACHE_HOME", str(tmp_path))
            with warnings.catch_warnings(record=True) as said:
                warnings.simplefilter("always")
                out = tmp_path / str(chunks)
                cartpole(out, workers="auto", observers=[patience]).run()
        assert any("meanwhile" in str(each.message) for each in said) == (chunks == 10_000)
        assert [count > 0 for count in patience.workers] == hired
        assert_same_run(out, tmp_path / "here")


def test_a_run_goes_on_with_workers(
    tmp_path: Path, unnoticed: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If wrong: an episode that kills its process ends the run again each time it is resumed."""
    watcher = Impatient(monkeypatch, 99)
    with pytest.raises(KeyboardInterrupt):
        cartpole(tmp_path / "auto", workers="auto", engine="loop", observers=[StopAt(1)]).run()
    Search.resume(tmp_path / "auto", observers=[watcher])
    cartpole(tmp_path / "whole", engine="loop").run()
    assert_same_run(tmp_path / "auto", tmp_path / "whole")
    assert watcher.said == ["starting Ray workers (--workers 0 needs none)"]


def test_a_finished_run_that_is_extended_begins_here(
    tmp_path: Path, unnoticed: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If wrong: two more seconds of CartPole wait for seconds of Ray, which nothing asked for."""
    watcher = Impatient(monkeypatch, 99)
    search = cartpole(tmp_path / "auto", workers="auto", engine="loop", generations=2)
    search.run()
    Search.resume(tmp_path / "auto", generations=4, observers=[watcher])
    assert watcher.workers == [0, 0]


def test_workers_wait_until_slow_generations_have_taken_as_long_as_they(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """If wrong: a search of two seconds waits for a Ray, or fast generations hire one at last."""
    now, reasons = [0.0], list[str]()

    def run(took_s: float, limit_s: float) -> str | None:
        now[0] += min(took_s, limit_s)
        return "here" if took_s <= limit_s else None

    def hire(reason: str) -> Any:
        reasons.append(reason)
        return SimpleNamespace(submit=lambda *_: SimpleNamespace(result=lambda: "workers"))

    monkeypatch.setattr(auto, "time", SimpleNamespace(perf_counter=lambda: now[0]))
    here: Any = SimpleNamespace(submit=lambda pending, _: pending)
    evaluator, answers = AutoEvaluator(here, hire), list[Any]()
    for took_s in [*[0.2] * 100, 2.0, 2.0, 0.2, 2.0, 0.2]:
        generation: Any = SimpleNamespace(population=gaussian(3, 40), key=KEY)
        generation.run_within = partial(run, took_s)
        answers.append(evaluator.submit(generation, KEY).result())
    assert answers == ["here"] * 103 + ["workers"] * 2
    assert now[0] == pytest.approx(100 * 0.2 + 2.0 + 2.0 + 0.2 + 1.0)
    assert len(reasons) == 1


def test_what_waits_goes_along_and_a_score_may_take_longer(
    on_ray: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If wrong: a held-out score is lost at the change, or half a second of scores starts a Ray."""
    parts = settle(FunctionTask(environments.sphere, 3))
    scores = [
        Population(Point([1.0, 2.0, 3.0]), 1, episodes=9, purpose=purpose)
        for purpose in (Purpose.HELDOUT, Purpose.TEST, Purpose.REEVALUATION)
    ]
    search = gaussian(3, 40)
    expected = serially(parts, *scores, search, scores[0])
    reasons = list[str]()

    def hire(reason: str) -> Any:
        reasons.append(reason)
        return on_ray(parts, workers=2)

    for limit in ("SEARCH_S", "PATIENCE_S"):
        monkeypatch.setattr(auto, limit, 0.0)
    evaluator = AutoEvaluator(SerialEvaluator(*parts), hire)
    answers = [evaluator.submit(score, KEY).result() for score in scores]
    assert not reasons
    waiting = [evaluator.submit(each, KEY) for each in (search, scores[0])]
    answers += [each.result() for each in waiting]
    for answer, other in zip(answers, expected, strict=True):
        assert_equal(answer.episodes, other.episodes)
    workers = [answer.telemetry.summary["workers"] for answer in answers]
    assert workers[:3] == [0, 0, 0]
    assert min(workers[3:]) > 0
    assert [each.share for each in waiting] == [1.0, 1.0]
    assert reasons == ["at generation 3, generations of more than 0 s have taken 0 s"]
    evaluator.close()


def test_what_asks_for_workers_has_them_at_once(
    tmp_path: Path, unnoticed: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If wrong: a job on a cluster, or a limit that ends workers, runs in the driver."""
    from distes.search import evaluator

    def is_small(**settings: Any) -> bool:
        return not evaluator._needs_workers(cartpole(tmp_path / "x", workers="auto", **settings))

    assert is_small()
    assert not is_small(address="auto")
    assert not is_small(episode_timeout_s=5.0)
    assert not is_small(min_workers=2)
    assert not is_small(cpus_per_worker=0.5)
    for name in ("RAY_ADDRESS", evaluator.IN_RAY_JOB):
        with monkeypatch.context() as patch:
            patch.setenv(name, "x")
            assert not is_small()
    monkeypatch.undo()
    assert not is_small()  # this process is connected to a Ray


def test_a_fault_looks_as_with_workers(tmp_path: Path, unnoticed: None) -> None:
    """If wrong: whoever debugs an environment sees something else than its own traceback."""
    task = Task(lambda: environments.Walk(fail_above=-99.0))
    search = Search(task, population=8, generations=2, out=tmp_path / "run")
    with pytest.raises(RunFailed, match=r"(?s)first error was.*RuntimeError: position .* off the"):
        search.run()


SMALL = """
import sys, distes
from distes.evaluators import auto
auto.SEARCH_S = 1e9
distes.Search("CartPole-v1", engine="loop", population=20, generations=2, target=1e9, out="run",
    heldout_episodes=2, final_episodes=2, observers=["terminal"]).run()
assert "ray" not in sys.modules
"""


def test_small_work_never_imports_ray(tmp_path: Path) -> None:
    """If wrong: two seconds of CartPole wait for seconds of Ray."""
    done = subprocess.run(
        [sys.executable, "-c", SMALL], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "workers start once generations of more than" in done.stdout.splitlines()[1]
    assert (distes.load(tmp_path / "run").generations["workers"] == 0).all()


def test_a_run_that_is_stopped_leaves_no_ray(
    tmp_path: Path, no_ray: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If wrong: each Ctrl-C in a notebook leaves a Ray and its workers behind."""
    watcher = Impatient(monkeypatch, 0)
    with pytest.raises(KeyboardInterrupt):
        cartpole(
            tmp_path / "run", workers="auto", engine="loop", observers=[watcher, StopAt(1)]
        ).run()
    assert watcher.workers[1] > 0
    assert not auto.is_ray_connected()
