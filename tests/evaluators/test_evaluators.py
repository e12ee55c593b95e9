"""Evaluators: the same episodes at any number of workers, through any loss."""

import dataclasses
import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from evaluations import KEY, all_there, assert_equal, gaussian, serially, settle, sphere
from marks import slow

from distes.errors import RunFailed, UsageError
from distes.evaluators.fingerprint import find_differences, take_fingerprint
from distes.policies import Linear
from distes.population.distributions import Point, Table
from distes.population.probes import ObservationMoments
from distes.population.records import Population, Purpose, RunKey, Status
from distes.tasks.environment import Task
from distes.tasks.function import FunctionTask


@pytest.mark.parametrize(
    ("workers", "chunk_s"), [slow(1, 0.075), (2, 0.001), slow(5, 0.01), slow(5, 0.5)]
)
def test_equal_at_any_number_of_workers_and_size_of_chunks(on_ray, workers, chunk_s):
    """Sums that depended on the cut, or seeds on the worker, would differ here."""
    parts = settle(Task("CartPole-v1"), Linear())
    population = gaussian(
        parts[1].num_parameters, 1000, episodes=3, probes=(ObservationMoments(np.full(4, 0.1)),)
    )
    (expected,) = serially(parts, population)
    answer = on_ray(parts, workers=workers, chunk_s=chunk_s).submit(population, KEY).result()
    assert_equal(answer.episodes, expected.episodes)
    assert answer.episodes.sums["observation_count"][0] == answer.episodes.episode_length.sum()
    telemetry = answer.telemetry
    assert telemetry.summary["chunks"] > 2
    assert 0 < telemetry.summary["utilisation"] <= 1
    assert set(telemetry.worker) <= set(range(workers))
    assert telemetry.nodes[telemetry.node[0]]
    assert (telemetry.attempt == 1).all()


def slow_sphere(parameters):
    time.sleep(0.02)
    return sphere(parameters)


def test_evaluations_overlap(on_ray):
    """A held-out evaluation goes on beside the search, and either may be asked for first."""
    parts = settle(FunctionTask(slow_sphere, 3))
    search = gaussian(3, 40)
    heldout = Population(Point(np.ones(3)), 1, episodes=9, purpose=Purpose.HELDOUT)
    expected = serially(parts, search, heldout)
    evaluator = all_there(on_ray(parts, workers=3), 3, 3)
    first, second = evaluator.submit(search, KEY), evaluator.submit(heldout, KEY)
    answers = second.result(), first.result()
    assert_equal(answers[0].episodes, expected[1].episodes)
    assert_equal(answers[1].episodes, expected[0].episodes)
    ended = answers[1].telemetry.started_at + answers[1].telemetry.duration_s
    # The later one started when nothing of the earlier was left to hand out, not before
    # and not only after its end.
    assert np.sort(answers[0].telemetry.started_at)[0] > np.sort(ended)[20]
    assert first.result() is answers[1]


def uneven(parameters, folder):
    """The long one waits until fifty others are done, wherever they are run."""
    deadline = time.monotonic() + 60
    while parameters[0] > 0 and len(list(folder.iterdir())) < 50 and time.monotonic() < deadline:
        time.sleep(0.01)
    time.sleep(0.01)
    (folder / f"{parameters[1]:g}").touch()
    return sphere(parameters)


def test_equal_where_a_waiting_chunk_moves(on_ray, tmp_path):
    """Chunks behind a long episode are taken elsewhere: none may be lost or run twice."""
    table = np.column_stack([np.full(60, -1.0), np.arange(60.0)])
    population = Population(Table(table), 60)
    (expected,) = serially(settle(FunctionTask(partial(uneven, folder=tmp_path), 2)), population)
    table[30, 0] = 1.0  # sphere(x) is the same
    there = tmp_path / "there"
    there.mkdir()
    parts = settle(FunctionTask(partial(uneven, folder=there), 2))
    evaluator = all_there(on_ray(parts, workers=2, chunk_s=0.02), 2, 2)
    answer = evaluator.submit(population, KEY).result()
    assert_equal(answer.episodes, expected.episodes)
    others = answer.telemetry.worker != answer.telemetry.worker[30]
    # Those done before it was stuck, and what it held then, are the other ten.
    assert others[31:].sum() >= 19


@dataclasses.dataclass(frozen=True)
class Fatal:
    """Kills its process when it meets a parameter above a limit, the first so many times."""

    directory: str
    above: float
    times: int
    __name__ = "fatal"

    def __call__(self, parameters):
        time.sleep(0.01)
        if parameters[0] > self.above:
            for attempt in range(self.times):
                try:
                    (Path(self.directory) / str(attempt)).touch(exist_ok=False)
                except FileExistsError:
                    continue
                os.kill(os.getpid(), signal.SIGKILL)
        return sphere(parameters)


def test_a_killed_worker_changes_nothing(on_ray, tmp_path):
    """Its episodes run again with the same seeds; the log says so, the result does not."""
    population = gaussian(2, 60)
    (expected,) = serially(settle(FunctionTask(sphere, 2)), population)
    first = population.distribution.draw(np.arange(60))[:, 0]
    fatal = Fatal(str(tmp_path), np.sort(first)[-2], 1)
    evaluator = all_there(on_ray(settle(FunctionTask(fatal, 2)), workers=2), 2, 2)
    answer = evaluator.submit(population, KEY).result()
    assert_equal(answer.episodes, expected.episodes)
    attempts = answer.telemetry.attempt
    assert attempts[first.argmax()] == 2
    assert (attempts == 1).any()
    lost = [event for event in answer.events if event["kind"] == "worker_lost"]
    assert len(lost) == 1
    assert lost[0]["error"] == "ActorDiedError"
    assert any(start <= first.argmax() < stop for start, stop in lost[0]["retried"])
    # The chunk that ran, in parts, is one; another may have waited behind it.
    assert 1 <= answer.telemetry.summary["retries"] <= 2
    all_there(evaluator, 2, 2)  # the lost one is replaced
    again = evaluator.submit(population, KEY._replace(generation=4)).result()
    assert not [event for event in again.events if event["kind"] == "worker_lost"]
    np.testing.assert_array_equal(again.episodes.episode_return, expected.episodes.episode_return)


def test_an_episode_that_kills_every_worker_is_given_up(on_ray, tmp_path):
    """One poisonous candidate must cost its own row and no other, and not the run."""
    table = np.zeros((20, 2))
    table[13, 0] = 1.0
    population = Population(Table(table), 20)
    (expected,) = serially(settle(FunctionTask(sphere, 2)), population)
    fatal = Fatal(str(tmp_path), 0.5, 100)
    evaluator = on_ray(settle(FunctionTask(fatal, 2)), workers=2, chunk_s=0.1)
    answer = evaluator.submit(population, KEY).result()
    assert answer.episodes.status[13] == Status.CRASHED
    assert np.isnan(answer.episodes.episode_return[13])
    assert np.isnan(answer.episodes.fitness[13])
    others = np.arange(20) != 13
    np.testing.assert_array_equal(
        answer.episodes.episode_return[others], expected.episodes.episode_return[others]
    )
    assert (answer.episodes.status[others] == Status.OK).all()
    np.testing.assert_array_equal(answer.episodes.seed, expected.episodes.seed)
    assert len(list(tmp_path.iterdir())) >= 3  # it was tried on as many workers
    (event,) = [each for each in answer.events if each["kind"] == "episode_crashed"]
    assert (event["candidate"], event["episode"], event["workers_lost"]) == (13, 0, 3)
    harmless = Population(Table(np.zeros((5, 2))), 5)
    assert (evaluator.submit(harmless, KEY).result().episodes.fitness == 0).all()


def test_failing_episodes_are_rows_and_events(on_ray):
    """Which tracebacks are kept must not depend on the chunks, nor may one end the run."""
    parts = settle(Task(walk, env_kwargs={"fail_above": 1.0}), Linear())
    population = gaussian(parts[1].num_parameters, 40, episodes=2)
    (expected,) = serially(parts, population)
    answer = on_ray(parts, workers=2, chunk_s=0.005).submit(population, KEY).result()
    assert_equal(answer.episodes, expected.episodes)
    failed = answer.episodes.status == Status.ERROR
    assert 3 < failed.sum() < 70
    assert np.isnan(answer.episodes.episode_return[failed]).all()
    faults = [e for e in answer.events if e["kind"] == "episode_error"]
    rows = np.flatnonzero(failed)[:3]
    assert [(e["candidate"], e["episode"]) for e in faults] == [
        (answer.episodes.candidate[row], answer.episodes.episode[row]) for row in rows
    ]
    assert "off the table" in str(faults[0]["traceback"])
    assert "environments.py" in str(faults[0]["traceback"])
    strip = ("candidate", "episode")
    assert [[e[k] for k in strip] for e in expected.events] == [
        [e[k] for k in strip] for e in faults
    ]


def walk(**settings):
    from environments import Walk

    return Walk(**settings)


@dataclasses.dataclass(frozen=True)
class Broken:
    """A distribution that cannot be drawn from."""

    num_parameters: int = 2
    uses_context: bool = False

    def draw(self, candidates, contexts=None):
        raise ZeroDivisionError("drawn from a broken distribution")


def test_an_error_outside_episodes_is_raised_here(on_ray):
    """It is no loss: moving it round the cluster would hide it; later work goes on."""
    evaluator = on_ray(settle(FunctionTask(sphere, 2)), workers=1)
    pending = evaluator.submit(Population(Broken(), 5), KEY)
    with pytest.raises(ZeroDivisionError, match="drawn from a broken") as raised:
        pending.result()
    assert "in draw" in str(raised.value)
    assert len(evaluator.submit(gaussian(2, 5), KEY).result().episodes.fitness) == 5


@dataclasses.dataclass(frozen=True)
class Here:
    """A function that can be loaded in the process that made it only."""

    pid: int
    __name__ = "here"

    def __call__(self, parameters):
        return sphere(parameters)

    def __reduce__(self):
        return load, (self.pid,)


def load(pid):
    if os.getpid() != pid:
        raise ZeroDivisionError("this function is not for workers")
    return Here(pid)


def test_an_error_while_workers_start_is_raised_here(on_ray):
    """A task that cannot be loaded there must not start workers for ever."""
    evaluator = on_ray(settle(FunctionTask(Here(os.getpid()), 2)), workers=1)
    with pytest.raises(RunFailed, match=r"(?s)cannot load .* not for workers.*in load"):
        evaluator.submit(gaussian(2, 5), KEY).result()


@dataclasses.dataclass(frozen=True)
class Heavy:
    """A distribution that can be loaded in the process that made it only."""

    table: np.ndarray
    loads: int
    num_parameters: int = 2
    uses_context: bool = False

    def draw(self, candidates, contexts=None):
        return self.table[candidates]

    def __reduce__(self):
        return heavy, (self.table, self.loads)


def heavy(table, loads):
    if os.getpid() != loads:
        raise ZeroDivisionError("this distribution is not for workers")
    return Heavy(table, loads)


@pytest.mark.parametrize("size", [5, 5000])
def test_a_population_that_workers_cannot_load(on_ray, size):
    """Small ones travel with the call and large ones apart: the same sentence, and both go on."""
    evaluator = on_ray(settle(FunctionTask(sphere, 2)), workers=1)
    pending = evaluator.submit(Population(Heavy(np.zeros((size, 2)), os.getpid()), size), KEY)
    with pytest.raises(RunFailed, match=r"(?s)cannot load .* not for workers.*in heavy"):
        pending.result()
    assert len(evaluator.submit(gaussian(2, 5), KEY).result().episodes.fitness) == 5


@dataclasses.dataclass(frozen=True)
class Writing:
    """A distribution that says whether its arrays can be written."""

    table: np.ndarray
    num_parameters: int = 2
    uses_context: bool = False

    def draw(self, candidates, contexts=None):
        return np.full((len(candidates), 2), float(self.table.flags.writeable))


@pytest.mark.parametrize("size", [5, 5000])
def test_what_workers_share_cannot_be_written(on_ray, size):
    """An environment that writes into it would change later episodes."""
    evaluator = on_ray(settle(FunctionTask(sphere, 2)), workers=1)
    answer = evaluator.submit(Population(Writing(np.zeros((size, 2))), size), KEY).result()
    assert (answer.episodes.fitness == 0.0).all()


def test_events_of_answers_that_nobody_reads_are_kept(on_ray):
    """A search that fails between two answers logs what the second one says."""
    parts = settle(Task(walk, env_kwargs={"fail_above": 1.0}), Linear())
    evaluator = on_ray(parts, workers=1)
    population = gaussian(parts[1].num_parameters, 40)
    first, second = (evaluator.submit(population, RunKey(7, n)) for n in (1, 2))
    second.result()
    kept = evaluator.events()
    assert kept == list(first.result().events)
    assert "episode_error" in {each["kind"] for each in kept}
    assert evaluator.events() == []


def test_a_populations_own_task(on_ray):
    """Imagined episodes run on the model and are scored by its rule, on any evaluator."""
    parts = settle(FunctionTask(sphere, 2))
    model = FunctionTask(lambda parameters: 100 + sphere(parameters), 2, fitness="min")
    population = gaussian(2, 30, episodes=2, task=model, purpose=Purpose.MODEL)
    (expected,) = serially(parts, population)
    answer = on_ray(parts, workers=2).submit(population, KEY).result()
    assert_equal(answer.episodes, expected.episodes)
    assert answer.episodes.fitness.max() > 90


def test_an_environment_registered_by_the_driver(on_ray):
    """A script's own gym.register is not repeated on the workers."""
    import gymnasium as gym

    gym.register("DriversOwn-v0", walk, max_episode_steps=4)
    try:
        parts = settle(Task("DriversOwn-v0"), Linear())
        population = gaussian(parts[1].num_parameters, 6)
        (expected,) = serially(parts, population)
        answer = on_ray(parts, workers=1).submit(population, KEY).result()
    finally:
        del gym.registry["DriversOwn-v0"]
    assert_equal(answer.episodes, expected.episodes)
    assert (answer.episodes.episode_length == 4).all()


def test_ray_in_use_stays(on_ray, ray_local):
    """A notebook's Ray must survive a search, and be free of its workers afterwards."""
    import ray

    evaluator = all_there(on_ray(settle(FunctionTask(sphere, 2))), 5, 2)  # all its CPUs
    evaluator.close()
    assert ray.is_initialized()
    deadline = time.monotonic() + 30
    while ray.available_resources().get("CPU", 0) < 5 and time.monotonic() < deadline:
        time.sleep(0.05)
    assert ray.available_resources()["CPU"] == 5
    with pytest.raises(RuntimeError, match="closed"):
        evaluator.submit(gaussian(2, 5), KEY)


def test_more_workers_than_fit_is_said(on_ray, monkeypatch):
    """What cannot be placed is told with numbers; what can be placed works meanwhile."""
    from distes.evaluators import headcount

    monkeypatch.setattr(headcount, "PLACED_WITHIN_S", 0.0)
    monkeypatch.setattr(headcount, "LOOK_S", 0.0)
    parts = settle(FunctionTask(slow_sphere, 2))
    evaluator = on_ray(parts, workers=2, cpus_per_worker=3)
    with pytest.warns(RuntimeWarning, match="of 2 workers of 3 CPUs are ready: .* has 5 CPUs"):
        answer = evaluator.submit(gaussian(2, 20), KEY).result()
    (missing,) = [event for event in answer.events if event["kind"] == "workers_missing"]
    assert (missing["asked"], missing["cpus"]) == (2, 5.0)


def test_no_room_for_any_worker_is_refused(on_ray, monkeypatch):
    """Otherwise the run would wait for ever for CPUs that no node has."""
    from distes.evaluators import headcount

    monkeypatch.setattr(headcount, "PLACED_WITHIN_S", 0.5)
    parts = settle(FunctionTask(sphere, 2))
    with pytest.raises(UsageError, match="5 CPUs, room for 0"):
        on_ray(parts, cpus_per_worker=6)
    with pytest.raises(UsageError, match="no room for a worker of 6 CPUs"):
        on_ray(parts, workers=1, cpus_per_worker=6)


def test_a_worker_that_differs_is_told_of(on_ray, monkeypatch):
    """Other libraries may change the last bits: never silently, and with strict not at all."""
    from distes.evaluators import worker_pool

    monkeypatch.setattr(
        worker_pool, "take_fingerprint", lambda: take_fingerprint() | {"numpy": "0.1"}
    )
    parts = settle(FunctionTask(sphere, 2))
    answer = on_ray(parts, workers=1).submit(gaussian(2, 5), KEY).result()
    (event,) = [event for event in answer.events if event["kind"] == "fingerprint"]
    assert event["driver_and_worker"] == {"numpy": ["0.1", np.__version__]}
    strict = on_ray(parts, workers=1, strict=True)
    with pytest.raises(UsageError, match=r"numpy .* where '0.1'"):
        strict.submit(gaussian(2, 5), KEY).result()


def test_fingerprint_says_what_could_change_bits():
    """An empty fingerprint would never differ."""
    found = take_fingerprint()
    assert found["numpy"] == np.__version__
    assert found["gymnasium"]
    assert "OpenBLAS" in found["blas"] or found["blas"]
    assert find_differences(found, found) == {}
    assert find_differences(found, {**found, "simd": ""}) == {"simd": [found["simd"], ""]}


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"workers": 0}, "workers 0 is not at least 1"),
        ({"cpus_per_worker": 0.0}, "cpus_per_worker 0.0 is not a finite number above 0"),
        ({"cpus_per_worker": float("nan")}, "cpus_per_worker nan"),
        ({"chunk_s": -1.0}, "chunk_s -1.0"),
        ({"address": "127.0.0.1:1"}, "connected to Ray at .* already"),
    ],
)
def test_settings_that_make_no_sense(on_ray, settings, sentence):
    with pytest.raises(UsageError, match=sentence):
        on_ray(settle(FunctionTask(sphere, 2)), **settings)


PROGRAM = """
import os, sys
before = dict(os.environ)
import numpy as np, ray
from distes.population.distributions import Point
from distes.errors import UsageError
from distes.evaluators.ray import RayEvaluator
from distes.population.records import Population, RunKey
from distes.tasks.function import FunctionTask
task = FunctionTask(lambda parameters: float(parameters.sum()), 2)
try:
    evaluator = RayEvaluator(task, task.build_policy(None), "function", workers=2)
except UsageError as error:
    print("refused:", error, ray.is_initialized())
    sys.exit()
answer = evaluator.submit(Population(Point(np.ones(2)), 4), RunKey(0, 0)).result()
print("address:", ray.get_runtime_context().gcs_address)
evaluator.close()
print("fitness:", answer.episodes.fitness.tolist(), ray.is_initialized())
changed = {k for k in before.keys() | os.environ.keys() if before.get(k) != os.environ.get(k)}
print("changed:", sorted(changed - {"RAY_CLIENT_MODE"}))
"""


def run_program(**environment):
    kept = {k: v for k, v in os.environ.items() if not k.startswith("RAY_")}
    return subprocess.run(
        [sys.executable, "-c", PROGRAM],
        env=kept | environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    ).stdout


def test_an_address_is_joined(ray_local):
    """With RAY_ADDRESS no other Ray may be started, and that one must go on."""
    out = run_program(RAY_ADDRESS=ray_local, RAY_AUTH_MODE="disabled")
    assert f"address: {ray_local}" in out
    assert "fitness: [2.0, 2.0, 2.0, 2.0] False" in out


def test_an_address_without_a_cluster_is_refused():
    """Ray itself would try for minutes and end the process; a local one is not what was asked."""
    assert "refused: there is no Ray cluster at '127.0.0.1:1'" in run_program(
        RAY_ADDRESS="127.0.0.1:1"
    )
    assert "refused: address 'ray://somewhere:10001' is Ray Client's" in run_program(
        RAY_ADDRESS="ray://somewhere:10001"
    )
    assert "refused: address 'somewhere' is not host:port" in run_program(RAY_ADDRESS="somewhere")


def test_a_private_ray_leaves_no_trace(tmp_path):
    """It needs no writable home, writes no token there, and restores the environment."""
    home = tmp_path / "home"
    home.touch()  # a file: nothing can be written below it
    out = run_program(HOME=str(home))
    assert "fitness: [2.0, 2.0, 2.0, 2.0] False" in out
    assert "changed: []" in out
