"""Environments and functions that leave, or give what they should not: one episode's fault."""

from __future__ import annotations

import signal
import sys
from pathlib import Path
from typing import Any

import environments
import gymnasium as gym
import numpy as np
import pytest
from evaluations import KEY, serially, settle

from distes.engines import choice
from distes.engines.base import Engine
from distes.errors import EpisodeError, UsageError
from distes.policies.base import PolicySpec
from distes.policies.linear import Linear
from distes.policies.spaces import ObservationEncoder
from distes.policies.tabular import Tabular
from distes.population.distributions import Gaussian, Table
from distes.population.records import RECORDS, Population, Status
from distes.search.search import Search
from distes.tasks.environment import Task
from distes.tasks.function import FunctionTask
from distes.tasks.purity import check

EXITS = ["SystemExit", "KeyboardInterrupt", "GeneratorExit"]


def loop(task: Task) -> tuple[Engine, Population]:
    policy = task.build_policy(Linear())
    size = policy.num_parameters
    population = Population(Gaussian(np.zeros(size), np.ones(size), (3, 4)), 12)
    return choice.make("loop", task, policy), population


@pytest.mark.parametrize("error", EXITS)
@pytest.mark.parametrize("place", ["reset", "step"])
def test_leaving_costs_its_own_episode(place: str, error: str) -> None:
    """If wrong: sys.exit() in an environment ends the driver, without a word of where."""
    engine, population = loop(
        Task(environments.Leaving, env_kwargs={"place": place, "error": error})
    )
    chunk = engine.run(population, KEY, 0, 12)
    lost = chunk.rows["status"] == Status.ERROR
    assert 0 < lost.sum() < 12
    assert (chunk.rows["status"][~lost] == Status.OK).all()
    number, said = chunk.faults[0]
    assert lost[number]
    assert "environments.py" in said
    assert said.strip().splitlines()[-1] == f"{error}: 3"


def test_leaving_when_closed_or_made_costs_no_more() -> None:
    """If wrong: an episode that is over is lost, or the run is, with the next instance."""
    engine, population = loop(Task(environments.Leaving, env_kwargs={"place": "close"}))
    assert (engine.run(population, KEY, 0, 12).rows["status"] == Status.OK).all()
    engine.close()
    engine, population = loop(Task(environments.Walk))
    engine._task = Task(environments.Leaving, env_kwargs={"place": "make"})
    engine.prepare()
    chunk = engine.run(population, KEY, 0, 12)
    assert (chunk.rows["status"] == Status.ERROR).all()
    assert "SystemExit: 3" in chunk.faults[0][1]


def test_leaving_before_a_run_begins_shows_where() -> None:
    """If wrong: the command ends with the environment's own exit code and says nothing."""
    with pytest.raises(RuntimeError, match=r"SystemExit\(3\) was raised") as fault:
        Task(environments.Leaving, env_kwargs={"place": "make"}).build_policy(Linear())
    assert isinstance(fault.value.__cause__, SystemExit)
    with pytest.raises(UsageError, match=r"every episode of .* raises, the first SystemExit: 3"):
        check(Task(environments.Leaving, env_kwargs={"above": -np.inf}), processes=False)


def leaving_sphere(parameters: Any) -> Any:
    if np.max(parameters) > 1.0:
        sys.exit("too large")
    return -np.sum(parameters**2, axis=-1)


@pytest.mark.parametrize("vectorised", [False, True])
def test_a_function_that_leaves_fails_for_its_row(vectorised: bool) -> None:
    """If wrong: a simulator that calls sys.exit() ends the search."""
    task = FunctionTask(leaving_sphere, 2, vectorised=vectorised)
    engine = choice.make("function", task, task.build_policy(None))
    chunk = engine.run(Population(Table(np.array([[0.0, 1.0], [2.0, 0.0]])), 2), KEY, 0, 2)
    assert chunk.rows["status"].tolist() == [Status.OK, Status.ERROR]
    assert chunk.faults[0][1].endswith("SystemExit: too large\n")


def leaving_sampler(generator: Any) -> Any:
    drawn = generator.random(2)
    if drawn[0] > 0.5:
        raise KeyboardInterrupt
    return drawn


def test_a_sampler_of_contexts_that_leaves_costs_its_episode() -> None:
    """If wrong: it ends the run, where its exceptions do not."""
    engine, population = loop(Task(environments.Windy, context=leaving_sampler))
    chunk = engine.run(population, KEY, 0, 12)
    assert {*chunk.rows["status"].tolist()} == {Status.OK, Status.ERROR}


def test_workers_and_this_process_agree_on_who_left(on_ray: Any) -> None:
    """If wrong: workers die of it, three for each episode, and its row says crashed."""
    parts = settle(Task(environments.Leaving), Linear())
    population = loop(Task(environments.Leaving))[1]
    (expected,) = serially(parts, population)
    answer = on_ray(parts, workers=2).submit(population, KEY).result()
    np.testing.assert_array_equal(answer.episodes.status, expected.episodes.status)
    np.testing.assert_array_equal(answer.episodes.episode_return, expected.episodes.episode_return)
    assert "worker_lost" not in {event["kind"] for event in answer.events}
    said = [each["traceback"] for each in answer.events if each["kind"] == "episode_error"]
    assert "SystemExit: 3" in said[0]


def test_a_worker_that_is_ended_by_a_signal_is_no_fault_of_its_episode(
    on_ray: Any, tmp_path: Path
) -> None:
    """If wrong: an episode fails because its node went away, and results depend on the cluster."""
    kwargs = {"number": signal.SIGTERM, "once": str(tmp_path / "struck")}
    parts = settle(Task(environments.Struck, env_kwargs=kwargs), Linear())
    population = loop(Task(environments.Walk))[1]
    answer = on_ray(parts, workers=1).submit(population, KEY).result()
    assert (tmp_path / "struck").exists()
    assert (answer.episodes.status == Status.OK).all()
    assert "worker_lost" in {event["kind"] for event in answer.events}


@pytest.mark.parametrize("leaves", [False, True])
def test_ctrl_c_stays_ctrl_c(tmp_path: Path, leaves: bool) -> None:
    """If wrong: Ctrl-C becomes an episode's error, and the run can't be stopped."""
    kwargs = {"number": signal.SIGINT, "once": str(tmp_path / "struck"), "leaves": leaves}
    parts = settle(Task(environments.Struck, env_kwargs=kwargs), Linear())
    with pytest.raises(SystemExit if leaves else KeyboardInterrupt):
        serially(parts, loop(Task(environments.Walk))[1])
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_signals_answer_of_the_users_passes(tmp_path: Path) -> None:
    """If wrong: a program that leaves on SIGTERM goes on with the next episode."""
    kwargs = {"number": signal.SIGTERM, "once": str(tmp_path / "struck")}
    parts = settle(Task(environments.Struck, env_kwargs=kwargs), Linear())
    before = signal.signal(signal.SIGTERM, lambda *_: sys.exit(7))
    try:
        with pytest.raises(SystemExit, match="7"):
            serially(parts, loop(Task(environments.Walk))[1])
    finally:
        signal.signal(signal.SIGTERM, before)


def test_a_run_goes_on_behind_one_that_left(tmp_path: Path) -> None:
    """If wrong: nothing of it is in the log."""
    task = Task(environments.Leaving, env_kwargs={"above": 1.5})
    search = Search(task, population=8, generations=2, workers=0, out=tmp_path / "run", seed=1)
    result = search.run()
    events = (tmp_path / "run" / "events.jsonl").read_text()
    assert result.path is not None
    assert "SystemExit: 3" in events


SENTENCES = [
    (0, np.array([0.0, np.nan]), "the observation {} has nan in component 1"),
    (0, np.array([-np.inf, 1e308]), "the observation {} has -inf in component 0"),
    (0, np.zeros((2, 1)), r"an observation has shape (2, 1) where (2,) is due"),
    (0, None, r"an observation has shape () where (2,) is due"),
    (0, "False", "an observation is of type str and holds no numbers of the observation space"),
    (0, [[1.0], [1.0, 2.0]], "an observation is of type list and holds no numbers of"),
    (0, 1 << 2000, "an observation is of type int and holds no numbers of"),
    (1, "1.5", "the reward of step 5 is '1.5', which is not a number"),
    (1, None, "the reward of step 5 is None, which is not a number"),
    (2, "False", "terminated of step 5 is 'False', which is neither True nor False"),
    (3, None, "truncated of step 5 is None, which is neither True nor False"),
    (4, None, "the info of {} is None, which is not a dict"),
]


@pytest.mark.parametrize(("place", "given", "sentence"), SENTENCES)
@pytest.mark.parametrize("reset", [False, True])
def test_what_is_wrong_is_said_in_one_sentence(
    place: int, given: Any, sentence: str, reset: bool
) -> None:
    """If wrong: the episode passes as ok, or einsum explains it."""
    if reset and place not in (0, 4):
        pytest.skip("a reset gives none")
    kwargs = {"place": place, "given": given, "reset": reset}
    engine, population = loop(Task(environments.Walk))
    engine._task = Task(environments.Wrong, env_kwargs=kwargs)
    place_said = {0: ("after step 5", "of the reset"), 4: ("step 5", "reset")}
    expected = sentence.format(place_said.get(place, ("", ""))[reset])
    for records in ((), RECORDS):
        asked = Population(population.distribution, 2, records=records)
        chunk = engine.run(asked, KEY, 0, 2)
        assert (chunk.rows["status"] == Status.ERROR).all()
        assert (chunk.rows["episode_length"] == 0).all()
        for _, said in chunk.faults:
            assert said.startswith(f"distes.errors.EpisodeError: {expected}")
            assert said.count("\n") == 1


def test_large_numbers_are_finite() -> None:
    """If wrong: an observation is refused whose square is not a number."""
    engine, population = loop(Task(environments.Walk))
    kwargs = {"place": 0, "given": np.array([1e300, -1e300])}
    engine._task = Task(environments.Wrong, env_kwargs=kwargs)
    with np.errstate(over="ignore"):
        assert (engine.run(population, KEY, 0, 12).rows["status"] == Status.OK).all()


def test_observations_of_another_shape_are_not_laid_out_anew() -> None:
    """If wrong: a transposed picture is read line by line, and nobody notices."""
    picture = gym.spaces.Box(-1.0, 1.0, (2, 3))
    both = gym.spaces.Dict({"picture": picture, "speed": gym.spaces.Box(-1.0, 1.0, (1,))})
    with pytest.raises(UsageError, match=r"has shape \(3, 2\) where \(2, 3\) is due"):
        ObservationEncoder(picture).encode(np.zeros((3, 2)))
    with pytest.raises(UsageError, match=r"has shape \(8,\), flat, where \(7,\) is due"):
        ObservationEncoder(both).encode({"picture": np.zeros((2, 3)), "speed": np.zeros(2)})


def test_parts_that_are_missing_are_said_to_be() -> None:
    """If wrong: a KeyError of ours is shown for an observation of the user's."""
    both = gym.spaces.Dict({"speed": gym.spaces.Box(-1.0, 1.0, (1,))})
    with pytest.raises(UsageError, match="an observation is of type dict and holds no numbers"):
        ObservationEncoder(both).encode({"sped": np.zeros(1)})


@pytest.mark.parametrize("policy", [Linear(), Tabular()])
@pytest.mark.parametrize("given", [-1, 1, 5, "x", None])
def test_an_observation_outside_a_discrete_space_is_none(policy: PolicySpec, given: Any) -> None:
    """If wrong: numbers below the space's first one are taken for its last ones."""
    built = policy.build(gym.spaces.Discrete(3, start=2), gym.spaces.Discrete(2))
    with pytest.raises(
        EpisodeError, match=rf"is {given!r}, which is not in Discrete\(3, start=2\)"
    ):
        built.encode(given)


@pytest.mark.parametrize("given", ["1.5", None])
@pytest.mark.parametrize("vectorised", [False, True])
def test_a_function_gives_numbers(given: Any, vectorised: bool) -> None:
    """If wrong: text is a return, and None is taken for NaN."""
    task = FunctionTask(
        (lambda rows: [given] * len(rows)) if vectorised else (lambda _: given),
        2,
        vectorised=vectorised,
    )
    engine = choice.make("function", task, task.build_policy(None))
    chunk = engine.run(Population(Table(np.zeros((2, 2))), 2), KEY, 0, 2)
    assert (chunk.rows["status"] == Status.ERROR).all()
    assert f"is {given!r}, which is not a number" in chunk.faults[0][1]
