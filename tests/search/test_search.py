"""The search: the same run everywhere, exact resume, honest scores, reasons to stop."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import environments
import gymnasium as gym
import numpy as np
import pytest
from marks import slow
from paths import SUPPORT
from searches import StopAt, assert_same_run, cartpole, long_search

import distes
from distes.errors import RunFailed, UsageError
from distes.evaluators.serial import SerialEvaluator, SerialPending
from distes.policies import MLP
from distes.search.deployment import find_clearly_better
from distes.search.observer import Observer
from distes.search.search import Search
from distes.strategies import CEM, ICEM, RandomSearch
from distes.tasks.environment import Task
from distes.tasks.function import FunctionTask


@pytest.mark.parametrize("normalize", [slow(False), True])
@pytest.mark.parametrize("workers", [slow(1), 2, slow(5)])
def test_same_run_at_any_number_of_workers(
    tmp_path: Path, ray_local: Any, workers: int, normalize: bool
) -> None:
    """Who ran an episode, and beside which others, must not change a bit of the tables."""
    cartpole(tmp_path / "serial", normalize_observations=normalize).run()
    cartpole(tmp_path / "ray", normalize_observations=normalize, workers=workers).run()
    assert_same_run(tmp_path / "ray", tmp_path / "serial")


@pytest.mark.parametrize("strategy", [ICEM(), slow(RandomSearch()), slow(CEM(covariance="full"))])
def test_same_run_for_every_strategy(tmp_path: Path, ray_local: Any, strategy: Any) -> None:
    """Unions, retained candidates and full covariances are drawn alike everywhere."""
    cartpole(tmp_path / "serial", strategy=strategy, common_seeds=True).run()
    cartpole(tmp_path / "ray", strategy=strategy, common_seeds=True, workers=2).run()
    assert_same_run(tmp_path / "ray", tmp_path / "serial")


RUN = """
import sys
sys.path.insert(0, sys.argv[2])
from pathlib import Path
import searches
from distes.errors import UsageError
search = searches.long_search(Path(sys.argv[1]))
if Path(sys.argv[1], "config.json").exists():
    try:
        search.proceed()
    except UsageError as error:
        assert "is finished" in str(error), error
else:
    search.run()
print("done")
"""


@pytest.mark.slow
def test_a_run_that_is_killed_again_and_again(tmp_path: Path) -> None:
    """After SIGKILL at any moment, each generation is in the log once, and is the same."""
    long_search(tmp_path / "whole").run()
    path = tmp_path / "killed"
    moments = random.Random(4)  # noqa: S311 - moments to kill at
    environment = {**os.environ, "PYTHONPATH": ""}
    kills = 0
    for attempt in range(40):
        process = subprocess.Popen(
            [sys.executable, "-c", RUN, str(path), str(SUPPORT)],
            stdout=subprocess.PIPE,
            env=environment,
        )
        try:
            # The last attempts are left alone; kills fall on commits and between them.
            process.wait(timeout=None if attempt >= 7 else moments.uniform(1.5, 4.5))
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            kills += 1
        assert process.stdout is not None
        output = process.stdout.read()
        process.wait()
        if b"done" in output:
            break
        assert process.returncode == -signal.SIGKILL
    assert kills >= 3
    assert_same_run(path, tmp_path / "whole")
    generations = distes.load(path).episodes.groupby("generation").size()
    assert (generations == 16).all()
    assert list(generations.index) == list(range(60))


@pytest.mark.parametrize("stop_after", [0, 1, 2, 3])
def test_resume_after_an_interrupt(tmp_path: Path, stop_after: int) -> None:
    """Every generation is a place to stop, held-out scores under way included."""
    cartpole(tmp_path / "whole").run()
    path = tmp_path / "stopped"
    with pytest.raises(KeyboardInterrupt):
        cartpole(path, observers=(StopAt(stop_after),)).run()
    result = Search.resume(path, workers=0)
    assert_same_run(path, tmp_path / "whole")
    assert result.stopped == "4 generations"
    with pytest.raises(UsageError, match="is finished"):
        Search.resume(path)


def test_a_resumed_run_that_never_got_to_a_checkpoint(tmp_path: Path) -> None:
    """Killed before its first commit, a run starts over and is the same."""
    cartpole(tmp_path / "whole").run()
    path = tmp_path / "young"
    with pytest.raises(KeyboardInterrupt):
        cartpole(path, observers=(StopAt(1),)).run()
    for checkpoint in (path / "checkpoints").glob("*/done"):
        checkpoint.unlink()
    Search.resume(path, workers=0)
    assert_same_run(path, tmp_path / "whole")


@pytest.mark.parametrize(
    ("limits", "reason"),
    [
        ({"generations": 3}, "3 generations"),
        ({"max_episodes": 50}, "50 episodes"),
        ({"max_env_steps": 100}, "100 env steps"),
        ({"max_seconds": 1e-9}, "1e-09 seconds"),
    ],
)
def test_budgets(tmp_path: Path, limits: dict[str, Any], reason: str) -> None:
    """A budget stops at the end of the generation that reaches it; scores do not count."""
    settings = {"generations": None, "target": 1e9, **limits}
    result = cartpole(tmp_path / "run", **settings).run()
    assert result.stopped == reason
    frame = result.run.generations
    if "max_episodes" in limits:
        assert frame["episodes"].sum() == 96  # two generations of 24 x 2
    if "max_env_steps" in limits:
        assert frame["env_steps"].iloc[:-1].sum() < 100 <= frame["env_steps"].sum()


class Heldouts(Observer):
    """Notes the held-out scores."""

    def __init__(self) -> None:
        self.seen: list[tuple[int, float, bool]] = []

    def heldout(self, generation: int, score: Any, target: Any, confirms: bool) -> None:
        self.seen.append((generation, score.mean, confirms))


def test_a_target_must_be_reached_twice(tmp_path: Path) -> None:
    """A lucky held-out batch is not enough: a second, fresh one decides."""
    notes = Heldouts()
    task = FunctionTask(environments.noisy_sphere, 3, noisy=True)
    search = Search(
        task, strategy=CEM(), target=0.1, heldout_episodes=4, seed=2, generations=300, workers=0,
        out=tmp_path / "run", observers=(notes,),
    )  # fmt: skip
    result = search.run()
    assert result.stopped == "held-out return reached the target 0.1, confirmed"
    reached = [g for g, mean, confirms in notes.seen if mean >= 0.1 and not confirms]
    confirmed = [(g, mean) for g, mean, confirms in notes.seen if confirms]
    assert [g for g, _ in confirmed] == reached
    assert all(mean < 0.1 for _, mean in confirmed[:-1])
    assert confirmed[-1][1] >= 0.1
    assert len(confirmed) > 1, "no lucky batch occurred: the test shows nothing"


def test_scores_are_taken_on_seeds_that_search_never_saw(tmp_path: Path) -> None:
    """No purpose shares an episode seed with another, nor one batch with the next."""
    result = cartpole(tmp_path / "run", target=40.0).run()
    run = result.run
    searched = set(run.episodes["seed"])
    evaluations = run.evaluations
    assert set(evaluations["purpose"]) >= {"heldout", "test", "reevaluation"}
    assert not searched & set(evaluations["seed"])
    batches = evaluations[evaluations["purpose"] != "reevaluation"]
    assert batches["seed"].is_unique
    assert len(searched) == len(run.episodes)


def test_the_winners_curse_is_reported(tmp_path: Path) -> None:
    """With noise alone, the elites' scores are luck, and the gap must say so."""
    task = FunctionTask(environments.noisy_sphere, 2, noisy=True, start=(1.0, 1.0))
    strategy = CEM(initial_std=1e-9, extra_std=0.0)
    search = Search(
        task, strategy=strategy, population=200, generations=1, workers=0, out=tmp_path / "run"
    )
    result = search.run()
    assert result.reevaluation is not None
    # The five best of 200 normals average about 2.3 (order statistics); they are worth 0.
    assert 1.8 < result.reevaluation.gap < 3.0
    assert abs(result.reevaluation.fresh_score) < 0.5
    assert abs(result.score.mean) < 0.4


def test_a_better_candidate_is_deployed_when_it_really_is(tmp_path: Path) -> None:
    """A mean that hardly moved is poor where the candidates themselves are clearly better."""
    search = Search(
        FunctionTask(environments.sphere, 2),
        strategy=CEM(mean_smoothing=0.99, extra_std=0.0),
        population=400,
        generations=1,
        workers=0,
        out=tmp_path / "run",
    )
    result = search.run()
    mean = environments.sphere(np.zeros(2))
    assert result.score.mean > 0.2 * mean


def test_final_evaluations_are_asked_for_together(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One after another, workers wait between them; the test alone depends on the others."""
    asked: list[str] = []
    submit, result = SerialEvaluator.submit, SerialPending.result

    def submitted(self: Any, population: Any, key: Any) -> Any:
        asked.append(f"ask {population.purpose.name.lower()}")
        return submit(self, population, key)

    def answered(self: Any) -> Any:
        asked.append(f"take {self.population.purpose.name.lower()}")
        return result(self)

    monkeypatch.setattr(SerialEvaluator, "submit", submitted)
    monkeypatch.setattr(SerialPending, "result", answered)
    cartpole(tmp_path / "run", generations=1, population=20).run()
    assert asked == [
        *("ask search", "take search"),
        *("ask heldout", "ask reevaluation", "ask reevaluation"),
        *("take heldout", "take reevaluation", "take reevaluation"),
        *("ask test", "take test"),
    ]


def test_every_episode_of_the_first_generation_fails(tmp_path: Path) -> None:
    """The user must see their own traceback, and at once."""
    with pytest.raises(RunFailed, match="the simulator has no licence") as failure:
        Search(environments.broken, workers=0, out=tmp_path / "run").run()
    assert "environments.py" in str(failure.value)
    events = distes.load(tmp_path / "run").events
    assert any("licence" in event.get("traceback", "") for event in events)


def test_nan_everywhere_is_said(tmp_path: Path) -> None:
    task = FunctionTask(lambda parameters: float("nan"), 2)
    with pytest.raises(RunFailed, match="NaN or infinity"):
        Search(task, workers=0, out=tmp_path / "run").run()


def test_failures_in_part_do_not_stop_a_search(tmp_path: Path) -> None:
    """Failed candidates are rows and never elites; the search learns from the others."""
    task = Task(environments.walk, env_kwargs={"fail_above": 1.5}, log_info=("distance",))
    search = Search(
        task, strategy=CEM(), population=40, generations=8, seed=1, workers=0, out=tmp_path / "run"
    )
    result = search.run()
    episodes = result.run.episodes
    assert {"ok", "error"} == set(episodes["status"])
    assert episodes.loc[episodes["status"] == "error", "episode_return"].isna().all()
    frame = result.run.generations
    assert frame["failed"].iloc[0] > 0
    assert frame["episode_return_mean"].iloc[-1] > frame["episode_return_mean"].iloc[0]
    assert any(event["kind"] == "episode_error" for event in result.run.events)
    assert "info_distance" in episodes


def test_the_policy_of_a_result_acts(tmp_path: Path) -> None:
    """A result's policy is the solution: statistics included, it earns the logged return."""
    search = cartpole(tmp_path / "run", normalize_observations=True, generations=3)
    result = search.run()
    assert result.solution.frozen["observation_mean"].shape == (4,)
    run = result.run
    test = run.evaluations[run.evaluations["purpose"] == "test"]
    env = search.task.make_env()  # type: ignore[union-attr]
    for seed, expected in zip(test["seed"], test["episode_return"], strict=True):
        policy = result.policy()
        observation, _ = env.reset(seed=int(seed))
        total = 0.0
        for _ in range(500):
            observation, reward, terminated, _, _ = env.step(policy(observation))
            total += float(reward)
            if terminated:
                break
        assert total == expected


def test_start_from_a_run_and_from_a_file(tmp_path: Path) -> None:
    """The next search begins at what the last one found."""
    task = FunctionTask(environments.sphere, 3)
    first = Search(task, generations=30, workers=0, out=tmp_path / "first").run()
    found = first.solution.distribution.draw(np.zeros(1, dtype=np.int64))[0]
    np.save(tmp_path / "found.npy", found)
    for start in (tmp_path / "first", tmp_path / "found.npy"):
        problem = Search(task, start_from=start).check()
        np.testing.assert_array_equal(problem.start, found)
    np.save(tmp_path / "short.npy", found[:2])
    with pytest.raises(UsageError, match="has 2 parameters, the policy 3"):
        Search(task, start_from=tmp_path / "short.npy").check()
    with pytest.raises(UsageError, match="does not exist"):
        Search(task, start_from=tmp_path / "none.npy").check()


def test_evaluate_scores_the_solution_again(tmp_path: Path) -> None:
    """Another seed, other episodes; the same seed, the same score."""
    cartpole(tmp_path / "run").run()
    first = distes.evaluate(tmp_path / "run", episodes=30, seed=1)
    assert first == distes.evaluate(tmp_path / "run", episodes=30, seed=1)
    assert first != distes.evaluate(tmp_path / "run", episodes=30, seed=2)
    assert first.episodes == 30


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"population": 0}, "population 0 is not between 1"),
        ({"population": 3}, "a population of 3 gives 1 elites"),
        ({"seed": -1}, "seed -1"),
        ({"workers": -2}, "workers -2"),
        ({"target": float("nan")}, "target nan"),
        ({"max_seconds": float("inf")}, "max_seconds inf"),
        ({"engine": "fast"}, "unknown engine"),
    ],
)
def test_bad_settings_are_refused_before_anything_is_written(
    tmp_path: Path, changes: dict[str, Any], says: str
) -> None:
    with pytest.raises(UsageError, match=says) as refusal:
        cartpole(tmp_path / "run", **changes).run()
    assert "\n" not in str(refusal.value)
    assert not (tmp_path / "run").exists()


def test_a_taken_directory_is_refused(tmp_path: Path) -> None:
    (tmp_path / "note.txt").write_text("mine")
    with pytest.raises(UsageError, match="exists and is not empty"):
        cartpole(tmp_path).run()
    assert [p.name for p in tmp_path.iterdir()] == ["note.txt"]


def test_runs_get_directories_of_their_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Running again must neither overwrite nor refuse."""
    monkeypatch.chdir(tmp_path)
    paths = [cartpole(None, generations=1).run().path for _ in range(2)]  # type: ignore[arg-type]
    runs = tmp_path / "runs"
    assert paths == [runs / "CartPole-v1-cem-5", runs / "CartPole-v1-cem-5-2"]


class Wanderer(gym.Wrapper[Any, Any, Any, Any]):
    """Changes the working directory, as simulators do that look for their files there."""

    def reset(self, **how: Any) -> Any:
        Path("elsewhere").mkdir(exist_ok=True)
        os.chdir("elsewhere")
        return super().reset(**how)


@pytest.mark.parametrize("out", ["mine", None])
def test_an_environment_that_changes_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, out: str | None
) -> None:
    """If wrong: the run is written where the environment went, or its end is not found."""
    monkeypatch.chdir(tmp_path)
    task = Task(lambda: Wanderer(gym.make("CartPole-v1")), max_episode_steps=5)
    some = {"generations": 1, "population": 10, "heldout_episodes": 2, "final_episodes": 2}
    search = Search(task, out=out, workers=0, **some)  # type: ignore[arg-type]
    result = search.run()
    assert result.path.parent == (tmp_path if out else tmp_path / "runs")
    assert (result.path / "config.json").is_file()
    assert len(result.run.evaluations) > 0
    assert not list((tmp_path / "elsewhere").rglob("config.json"))


def test_the_configuration_says_where_a_run_came_from(tmp_path: Path) -> None:
    cartpole(tmp_path / "run", generations=1).run()
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    assert config["engine"] == "compiled"
    assert config["num_parameters"] == 10
    assert {"numpy", "gymnasium", "ray"} <= set(config["versions"])


def test_episodes_can_be_replayed_from_the_log(tmp_path: Path) -> None:
    """Parameters and seed in a row are enough to earn its return again."""
    result = cartpole(tmp_path / "run").run()
    row = result.run.episodes.sort_values("episode_return").iloc[-1]
    policy = result.search.built_policy()
    env = result.search.task.make_env()  # type: ignore[union-attr]
    act = policy.bind(np.array(row["parameters"]))
    observation, _ = env.reset(seed=int(row["seed"]))
    total = 0.0
    for _ in range(500):
        observation, reward, terminated, _, _ = env.step(act(policy.encode(observation), None))
        total += float(reward)
        if terminated:
            break
    assert total == row["episode_return"]
    population = result.run.population(int(row["generation"]))
    drawn = population.distribution.draw(np.array([row["candidate"]]))[0]
    np.testing.assert_array_equal(drawn, row["parameters"])


def test_timing_columns_are_filled(tmp_path: Path) -> None:
    """Telemetry is not compared anywhere else: it must be there and be plausible."""
    began = time.time()
    run = cartpole(tmp_path / "run").run().run
    started = run.episodes["started_at"].astype("int64") / 1e6
    assert started.between(began - 1, time.time() + 1).all()
    assert (run.episodes["duration_s"] > 0).all()
    assert (run.generations[["ask_s", "run_s", "tell_s", "log_s"]] >= 0).all(axis=None)


class Replaced(Observer):
    """Changes what a search was started from while it runs, then interrupts it."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def generation(self, row: Any) -> None:
        if row["generation"] == 1:
            np.save(self.path, np.full(3, 99.0))
            raise KeyboardInterrupt


def test_a_start_is_read_once(tmp_path: Path) -> None:
    """A file that changed since would make the resumed run another one, silently."""
    start = tmp_path / "start.npy"

    def search(name: str, **changes: Any) -> Search:
        task = FunctionTask(environments.noisy_sphere, 3, noisy=True)
        return Search(
            task, strategy=RandomSearch(), population=12, generations=4, start_from=start,
            workers=0, out=tmp_path / name, **changes,
        )  # fmt: skip

    np.save(start, np.arange(3.0))
    search("whole").run()
    with pytest.raises(KeyboardInterrupt):
        search("stopped", observers=(Replaced(start),)).run()
    Search.resume(tmp_path / "stopped", workers=0)
    assert_same_run(tmp_path / "stopped", tmp_path / "whole")


def test_a_start_brings_its_observation_statistics(tmp_path: Path) -> None:
    """Parameters learnt on normalised observations are worth nothing without them."""
    cartpole(tmp_path / "first", normalize_observations=True, generations=3).run()
    first = distes.load(tmp_path / "first").snapshot().solution.frozen
    with pytest.raises(UsageError, match="give normalize_observations, too"):
        cartpole(
            tmp_path / "second", start_from=tmp_path / "first", normalize_observations=False
        ).run()
    second = cartpole(
        tmp_path / "second",
        start_from=tmp_path / "first",
        normalize_observations=True,
        generations=1,
    ).run()
    population = second.run.population(0)
    for name in ("observation_mean", "observation_std", "observation_count"):
        np.testing.assert_allclose(population.frozen[name], first[name], rtol=1e-12)
    assert second.solution.frozen["observation_count"] > first["observation_count"]


def test_a_run_goes_on_with_the_settings_it_has(tmp_path: Path) -> None:
    """Another seed half-way would be neither run."""
    path = tmp_path / "run"
    with pytest.raises(KeyboardInterrupt):
        cartpole(path, observers=(StopAt(1),)).run()
    with pytest.raises(UsageError, match="started with seed 5, not 6"):
        cartpole(path, seed=6).proceed()


def test_a_run_in_which_most_episodes_fail_stops_and_can_go_on(tmp_path: Path) -> None:
    """What is left of such a generation says nothing; the user is told, nothing is lost."""
    task = Task(environments.walk, env_kwargs={"fail_above": 0.5})
    settings: dict[str, Any] = {"population": 40, "seed": 1, "workers": 0}
    with pytest.raises(RunFailed, match=r"more than max_failed_fraction 0\.1 allows"):
        Search(task, max_failed_fraction=0.1, out=tmp_path / "run", **settings).run()
    assert distes.load(tmp_path / "run").snapshot().generation == 1
    allowed = Search(
        task, max_failed_fraction=1.0, generations=2, out=tmp_path / "other", **settings
    )
    assert allowed.run().stopped == "2 generations"


def test_a_solution_that_fails_gives_way_to_a_candidate_that_does_not() -> None:
    """NaN ranks last here, too; a lucky candidate does not replace a solution as good."""
    good, failing = np.ones(20), np.array([np.nan] + [2.0] * 19)
    candidates = np.stack([failing, good])
    assert find_clearly_better(candidates, failing) == 1
    assert find_clearly_better(np.stack([failing, failing]), failing) is None
    noise = np.random.default_rng(0)
    wrong = sum(
        find_clearly_better(noise.standard_normal((5, 20)), noise.standard_normal(20)) is not None
        for _ in range(400)
    )
    assert wrong < 400 * 0.06
    assert (
        find_clearly_better(noise.standard_normal((5, 20)) + 2, noise.standard_normal(20))
        is not None
    )


def test_a_relative_directory_is_refused_inside_a_ray_job(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There the working directory is a copy that goes with the job."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("RAY_JOB_CONFIG_JSON_ENV_VAR", "{}")
    for out in (None, "runs/x"):
        with pytest.raises(UsageError, match="is relative"):
            cartpole(out).run()  # type: ignore[arg-type]
    cartpole(tmp_path / "run", generations=1).run()


SIGNALS = """
import signal, sys
sys.path.insert(0, sys.argv[2])
from pathlib import Path
import searches
from distes.errors import UsageError
from distes.signals import Interrupted, interruptible
path = Path(sys.argv[1])
search = searches.long_search(path, quick=True)
with interruptible():
    # A real signal, 20 ms to 300 ms from here: it falls on any part of the loop.
    signal.signal(signal.SIGALRM, signal.getsignal(signal.SIGINT))
    signal.setitimer(signal.ITIMER_REAL, float(sys.argv[3]))
    try:
        search.proceed() if (path / "config.json").exists() else search.run()
        print("done")
    except Interrupted:
        print("interrupted")
    except UsageError as error:
        assert "is finished" in str(error), error
        print("done")
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
"""


@pytest.mark.slow
def test_interrupts_inside_the_loop_and_the_log(tmp_path: Path) -> None:
    """A signal between two steps of queueing must not double a generation, nor hang."""
    long_search(tmp_path / "whole", quick=True).run()
    path = tmp_path / "run"
    moments = random.Random(1)  # noqa: S311 - moments to interrupt at
    interrupted = 0
    for _ in range(60):
        done = subprocess.run(
            [sys.executable, "-c", SIGNALS, str(path), str(SUPPORT),
             str(moments.uniform(0.02, 0.3))],
            capture_output=True, text=True, timeout=60, check=True,
        )  # fmt: skip
        interrupted += "interrupted" in done.stdout
        if "done" in done.stdout:
            break
    assert "done" in done.stdout
    assert interrupted >= 3
    assert_same_run(path, tmp_path / "whole")


def test_policies_come_back_from_the_log(tmp_path: Path) -> None:
    """A trained policy is of use only if a later program can have it."""
    result = cartpole(tmp_path / "run", normalize_observations=True).run()
    observation = np.array([0.1, -0.2, 0.03, 0.4], dtype=np.float32)
    assert distes.load_policy(tmp_path / "run")(observation) == result.policy()(observation)
    row = result.run.episodes.query("generation == 1").iloc[7]
    logged = distes.load_policy(tmp_path / "run", generation=1, candidate=int(row["candidate"]))
    frozen = result.run.population(1).frozen
    seen = (observation - frozen["observation_mean"]) / frozen["observation_std"]
    act = result.search.built_policy().bind(np.array(row["parameters"]))
    assert logged(observation) == act(seen, None)
    with pytest.raises(UsageError, match="candidate 99 is not one of the 24"):
        distes.load_policy(tmp_path / "run", generation=1, candidate=99)


def test_nothing_to_evaluate_is_said(tmp_path: Path) -> None:
    """A run whose first generation failed has no solution, and NaN is not a score."""
    with pytest.raises(RunFailed):
        Search(environments.broken, workers=0, out=tmp_path / "run").run()
    with pytest.raises(UsageError, match="has no generation yet"):
        distes.evaluate(tmp_path / "run")


def test_strategies_and_policies_by_name(tmp_path: Path) -> None:
    """What the command line takes, Python takes: a name, a class, or an instance."""
    named = Search("CartPole-v1", strategy="icem", policy="mlp")
    assert (named.strategy, named.policy) == (ICEM(), MLP())
    assert Search("CartPole-v1", strategy=ICEM).strategy == ICEM()  # type: ignore[arg-type]
    for given, said in (
        ({"strategy": "icme"}, "unknown strategy 'icme': did you mean 'icem'"),
        ({"policy": "liner"}, "unknown policy 'liner': did you mean 'linear'"),
        ({"policy": 3}, "policy 3 is no policy: accepted are gaussian, linear"),
        ({"strategy": "external"}, r"external needs factory: make it with External\("),
    ):
        with pytest.raises(UsageError, match=said):
            Search("CartPole-v1", **given)  # type: ignore[arg-type]
