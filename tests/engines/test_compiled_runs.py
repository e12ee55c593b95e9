"""Whole runs on the compiled engine: the loop engine's tables, on any workers, after anything."""

from __future__ import annotations

import subprocess
import sys
from contextlib import chdir
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from kernel_environments import Corridor, Plate
from marks import slow
from searches import SlowCompiler, StopAt, assert_same_run, tables

pytest.importorskip("numba")

import distes
from distes import Search, Task
from distes.engines import compiled
from distes.engines.compiled import CompiledEngine
from distes.engines.kernels.compiler import start_compiler
from distes.engines.loop import LoopEngine
from distes.errors import UsageError
from distes.policies import MLP, Linear, Softmax
from distes.policies.tabular import Tabular
from distes.population.distributions import Point
from distes.population.records import Population, Rerun, RunKey
from distes.search.solution import find_logged_candidate
from distes.strategies import CEM, CREPS, DeepCEM, Reinforce
from distes.views.replay.recording import find_rendering
from distes.views.replay.replay import watch_episodes

CASES: dict[str, dict[str, Any]] = {
    "linear": {"task": Task("CartPole-v1", max_episode_steps=100)},
    "normalised": {
        "task": Task("MountainCar-v0", max_episode_steps=50),
        "policy": MLP(hidden=(6,), activation="relu"),
        "normalize_observations": True,
        "common_seeds": True,
    },
    "contextual": {
        "task": Task("distes/PhysicalCartPole-v0", max_episode_steps=60, context="info"),
        "strategy": CREPS(),
        "policy": Linear(),
        "population": 40,
        "episodes": 1,
    },
    "sessions": {"task": Task("CartPole-v0", max_episode_steps=40), "strategy": DeepCEM(reuse=1)},
    "scores": {
        "task": Task("CartPole-v0", max_episode_steps=40),
        "strategy": Reinforce(baseline="value"),
        "policy": Softmax(),
    },
}


def search(out: Path, name: str = "linear", **changes: Any) -> Search:
    settings: dict[str, Any] = {"population": 20, "generations": 4, "episodes": 2, "seed": 5}
    settings |= {"heldout_every": 2, "heldout_episodes": 5, "final_episodes": 7, "workers": 0}
    given = {**settings, **CASES[name], **changes}
    return Search(given.pop("task"), out=out, **given)


def engine_of(path: Path) -> str:
    return str(distes.load(path).config["engine"])


@pytest.mark.parametrize("name", ["linear", "normalised"])
def test_a_compiled_run_is_the_loop_engines(tmp_path: Path, name: str) -> None:
    """Where every episode has the same bits, so has every table."""
    search(tmp_path / "compiled", name, engine="compiled").run()
    search(tmp_path / "loop", name, engine="loop").run()
    search(tmp_path / "auto", name).run()
    assert_same_run(tmp_path / "compiled", tmp_path / "loop")
    assert_same_run(tmp_path / "auto", tmp_path / "loop")
    assert engine_of(tmp_path / "auto") == engine_of(tmp_path / "compiled") == "compiled"


@pytest.mark.parametrize("name", ["linear", "normalised", "contextual"])
@pytest.mark.parametrize("chunks", [1, 6, 10_000])
def test_a_run_that_begins_with_the_loop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, chunks: int
) -> None:
    """If wrong: whether a machine has compiled it before shows in a run's tables."""
    looped: list[int] = []
    run = LoopEngine.run

    def note(self: LoopEngine, *args: Any) -> Any:
        looped.append(args[-1] - args[-2])
        return run(self, *args)

    search(tmp_path / "warm", name, engine="compiled").run()
    monkeypatch.setattr(LoopEngine, "run", note)
    monkeypatch.setattr(compiled, "start_compiler", lambda *_: SlowCompiler(chunks))
    search(tmp_path / "cold", name, engine="compiled").run()
    assert_same_run(tmp_path / "cold", tmp_path / "warm")
    assert engine_of(tmp_path / "cold") == "compiled"
    assert len(looped) == chunks or 6 < len(looped) < chunks == 10_000


@pytest.mark.parametrize("seconds", [1e-9, 0.02])
def test_what_is_quicker_run_than_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seconds: float
) -> None:
    """If wrong: the first generation waits for machine code that it does not need."""
    search(tmp_path / "at once", "linear", engine="compiled").run()
    monkeypatch.setattr(compiled, "STAND_IN_S", seconds)
    task = Task("CartPole-v1", max_episode_steps=50)
    engine = CompiledEngine(task, task.build_policy(Linear()))
    engine.begin()
    population = Population(Point(np.ones(10)), 4)
    assert engine.waits
    engine.run(population, RunKey(0, 0), 0, 1)
    while engine.waits:
        engine.run(population, RunKey(0, 0), 0, 4)
    engine.close()
    search(tmp_path / "later", "linear", engine="compiled").run()
    assert_same_run(tmp_path / "later", tmp_path / "at once")


def test_another_process_compiles(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """If wrong: no machine code is ever taken, or each run compiles anew.

    Nor does it need the run's folder, which may be gone by then.
    """
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    started: list[Any] = []
    monkeypatch.setattr(
        compiled,
        "start_compiler",
        lambda *pair: started.append(start_compiler(*pair)) or started[-1],
    )
    task = Task("CartPole-v1", max_episode_steps=50)
    policy = task.build_policy(MLP(hidden=(3,), activation="relu"))
    population = Population(Point(np.ones(policy.num_parameters)), 40)
    engine = CompiledEngine(task, policy)
    folder = tmp_path / "folder"
    folder.mkdir()
    with chdir(folder):
        engine.begin()
    folder.rmdir()
    chunks = [engine.run(population, RunKey(0, 0), 0, 20)]
    assert engine.waits
    assert started[0].wait(300) == 0
    chunks.append(engine.run(population, RunKey(0, 0), 20, 40))
    assert not engine.waits
    engine.close()
    program: Any = engine._load_runner()._program
    assert [sum(each.stats.cache_hits.values()) for each in program] == [1, 1]
    found = np.concatenate([each.rows["episode_return"] for each in chunks])
    expected = LoopEngine(task, policy).run(population, RunKey(0, 0), 0, 40)
    np.testing.assert_array_equal(found, expected.rows["episode_return"])
    again = CompiledEngine(task, policy)
    again.begin()
    assert not again.waits
    assert started[1:] == [None]


@pytest.mark.parametrize(
    ("task", "spec"),
    [
        (Task("CartPole-v1"), MLP(hidden=(3,))),
        (Task(Plate, max_episode_steps=5), Linear()),
        (Task(Corridor, max_episode_steps=5), Tabular()),
    ],
    ids=["other bits", "undeclared", "not kept"],
)
def test_what_waits_for_its_machine_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, task: Task, spec: Any
) -> None:
    """If wrong: results depend on when it is ready, or a process compiles what nobody finds."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(compiled, "start_compiler", start_compiler)
    monkeypatch.setattr(CompiledEngine, "prepare", lambda self: None)
    engine = CompiledEngine(task, task.build_policy(spec))
    engine.begin()
    assert not engine.waits


@pytest.mark.parametrize("name", [name if name == "normalised" else slow(name) for name in CASES])
def test_the_same_run_at_any_number_of_workers(tmp_path: Path, ray_local: Any, name: str) -> None:
    """Chunks of other sizes, contexts, sessions and scores: the same bits."""
    search(tmp_path / "serial", name, engine="compiled").run()
    for workers in (1, 2, 5) if name == "linear" else (2,):
        out = tmp_path / f"{workers}"
        search(out, name, engine="compiled", workers=workers).run()
        assert_same_run(out, tmp_path / "serial")


@pytest.mark.parametrize("name", CASES)
def test_resumed_runs_are_the_same(tmp_path: Path, name: str) -> None:
    """On the engine that they began with."""
    search(tmp_path / "whole", name).run()
    with pytest.raises(KeyboardInterrupt):
        search(tmp_path / "cut", name, observers=(StopAt(1),)).run()
    Search.resume(tmp_path / "cut", workers=0)
    assert_same_run(tmp_path / "cut", tmp_path / "whole")
    assert engine_of(tmp_path / "cut") == "compiled"


def test_a_run_keeps_the_engine_it_began_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever ``auto`` would be by now."""
    from distes.engines import choice
    from distes.engines.kernels import lookup

    used: list[str] = []
    make = choice.make

    def noting(engine: str, *others: Any) -> Any:
        used.append(engine)
        return make(engine, *others)

    with monkeypatch.context() as before:
        before.setattr(lookup, "is_numba_installed", lambda: False)
        with pytest.raises(KeyboardInterrupt):
            search(tmp_path / "run", observers=(StopAt(1),)).run()
    monkeypatch.setattr(choice, "make", noting)
    Search.resume(tmp_path / "run", workers=0)
    assert engine_of(tmp_path / "run") == "loop"
    assert set(used) == {"loop"}
    with pytest.raises(KeyboardInterrupt):
        search(tmp_path / "other", observers=(StopAt(1),)).run()
    monkeypatch.setattr(lookup, "is_numba_installed", lambda: False)
    with pytest.raises(UsageError, match=r"'compiled'.*numba"):
        Search.resume(tmp_path / "other", workers=0)


def test_a_killed_worker_does_not_change_a_run(tmp_path: Path, ray_local: Any) -> None:
    """What it had under way runs again elsewhere."""
    from kernel_environments import DeadlyCartPole

    def run(name: str, once: Path, workers: int) -> None:
        task = Task(DeadlyCartPole, env_kwargs={"once": str(once)}, max_episode_steps=50)
        search(tmp_path / name, task=task, engine="compiled", workers=workers).run()

    there = tmp_path / "there"
    there.touch()  # nothing dies of it any more
    run("serial", there, 0)
    run("ray", tmp_path / "once", 2)
    assert (tmp_path / "once").exists(), "no worker was killed"
    assert any(e["kind"] == "worker_lost" for e in distes.load(tmp_path / "ray").events)
    assert_same_run(tmp_path / "ray", tmp_path / "serial")


@pytest.mark.parametrize(
    ("task", "policy", "exact"),
    [
        (Task("CartPole-v1", max_episode_steps=80), Linear(), True),
        (Task("Pendulum-v1", max_episode_steps=40), MLP(hidden=(8,)), False),
    ],
)
def test_logged_candidates_are_rebuilt_to_their_returns(
    tmp_path: Path, task: Task, policy: Any, exact: bool
) -> None:
    """By both engines: watching an episode is the loop engine's."""
    search(tmp_path / "run", task=task, policy=policy, strategy=CEM(elite_fraction=0.3)).run()
    run = distes.load(tmp_path / "run")
    rows = run.episodes_of(2)
    population, number = find_logged_candidate(run, 2, 3)
    rows = rows[rows["candidate"] == number].sort_values("episode")
    columns = (rows[c].to_numpy(np.int64) for c in ("candidate", "episode", "seed", "seed"))
    population = replace(population, rerun=Rerun(*columns))
    shown = watch_episodes(
        task, find_rendering(task, "rgb_array"), task.build_policy(policy), population, None
    )
    found = shown.episodes.episode_return
    if exact:
        np.testing.assert_array_equal(found, rows["episode_return"])
    else:
        np.testing.assert_allclose(found, rows["episode_return"], rtol=1e-9)


def test_a_solution_scores_as_in_its_run(tmp_path: Path) -> None:
    """`distes.evaluate` on the run's own seeds, on 0 workers and on either engine."""
    search(tmp_path / "run", final_episodes=30).run()
    score = distes.evaluate(tmp_path / "run", episodes=30, seed=8)
    scores = []
    for engine in ("loop", "compiled"):
        search(tmp_path / engine, engine=engine).run()
        scores.append(distes.evaluate(tmp_path / engine, episodes=30, seed=8))
    assert scores == [score, score]
    assert len(tables(tmp_path / "run")["evaluations"])


GROWTH = """
import resource, sys
import numpy as np
from distes import Task
from distes.population.distributions import Gaussian
from distes.policies import Linear, Softmax
from distes.population.records import RECORDS, Population, RunKey
from distes.population.probes import ObservationMoments
from distes.seeds import noise_key
from distes.engines.choice import Engines

def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize()

runs = []
for spec, records in ((Linear(), ()), (Softmax(), RECORDS)):
    task = Task("CartPole-v1", max_episode_steps=30)
    policy = task.build_policy(spec)
    runs.append((Engines("compiled", task, policy), policy.num_parameters, records))
sizes = []
for generation in range(1200):
    for engines, width, records in runs:
        gaussian = Gaussian(np.zeros(width), np.ones(width), noise_key(0, generation))
        size = 32 if records else 256
        probes = (ObservationMoments(np.zeros(4)),)
        population = Population(gaussian, size, probes=probes, records=records)
        engines.run(population, RunKey(0, generation), 0, size)
    if generation >= 200:
        sizes.append(resident())
print(max(sizes) - sizes[0], sizes[0])
"""

GROWTH_BYTES = 2_000_000
"""A thousandth of it a generation would be two kilobytes: less than one population's rows."""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_memory_does_not_grow() -> None:
    """Over a thousand generations after two hundred to get warm."""
    result = subprocess.run(
        [sys.executable, "-c", GROWTH], capture_output=True, text=True, timeout=500, check=False
    )
    assert result.returncode == 0, result.stderr
    grown, _ = map(int, result.stdout.split())
    assert grown < GROWTH_BYTES
