"""Solutions of contextual runs in use: at chosen contexts, on grids, as policies and vectors."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import environments
import gymnasium as gym
import numpy as np
import pytest
from paths import SUPPORT

import distes
from distes.cli import main
from distes.errors import UsageError
from distes.policies import Softmax
from distes.search.search import Search
from distes.strategies import CEM, CREPS, Reinforce
from distes.tasks.environment import Task
from distes.tasks.function import FunctionTask
from distes.views.report import describe_run

BOUNDS: Any = {"context_low": (-1.0, 0.0), "context_high": (1.0, 2.0)}


def search(out: Path, task: Any, **changes: Any) -> Any:
    settings: dict[str, Any] = {"population": 40, "generations": 3, "seed": 5, "workers": 0}
    settings |= {"strategy": CREPS(), "heldout_every": 2, "final_episodes": 20}
    return Search(task, out=out, **(settings | changes)).run()


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("runs")
    bowl = FunctionTask(environments.bowl, 3, context="uniform", **BOUNDS)
    noisy = FunctionTask(environments.noisy_bowl, 3, noisy=True, context=environments.near_zero)
    fragile = FunctionTask(environments.fragile_bowl, 3, context="uniform", **BOUNDS)
    windy = Task(environments.windy, context="info")
    plain = FunctionTask(environments.sphere, 3)
    custom = CREPS(policy_features=environments.bumps)
    return {
        "bowl": search(folder / "bowl", bowl, strategy=custom),
        "noisy": search(folder / "noisy", noisy),
        "fragile": search(folder / "fragile", fragile),
        "windy": search(folder / "windy", windy, normalize_observations=True),
        "deaf": search(folder / "deaf", Task(environments.deaf, context="info")),
        "cem": search(folder / "cem", bowl, strategy=CEM()),
        "constant": search(folder / "constant", bowl, strategy=CREPS(policy_features="constant")),
        "plain": search(folder / "plain", plain, strategy=CEM()),
    }


CONTEXTS = np.array([[-0.9, 0.1], [0.0, 1.0], [0.7, 1.9]])


def test_parameters_are_those_of_the_upper_policy(runs: dict[str, Any]) -> None:
    """Parameters for another context are those of another problem."""
    result = runs["bowl"]
    upper = result.solution.distribution
    means = environments.bumps(CONTEXTS) @ upper.weights
    np.testing.assert_allclose(result.parameters_for(CONTEXTS), means, rtol=1e-12)
    np.testing.assert_array_equal(
        result.parameters_for(CONTEXTS[1]), result.parameters_for(CONTEXTS)[1]
    )
    np.testing.assert_array_equal(
        distes.load_parameters(result.path, context=CONTEXTS), result.parameters_for(CONTEXTS)
    )
    plain = runs["plain"]
    np.testing.assert_array_equal(distes.load_parameters(plain.path), plain.parameters)
    constant = runs["constant"]
    np.testing.assert_array_equal(
        constant.parameters_for(CONTEXTS), np.tile(constant.parameters, (3, 1))
    )


def test_returns_at_contexts_are_those_of_their_parameters(runs: dict[str, Any]) -> None:
    """The value at a context must be that of what the upper policy chooses there."""
    result = runs["bowl"]
    table = distes.evaluate_contexts(result.path, CONTEXTS, episodes=2)
    assert list(table[["context_0", "context_1"]].itertuples(index=False, name=None)) == [
        tuple(each) for each in CONTEXTS.tolist()
    ]
    expected = [environments.bowl(result.parameters_for(context), context) for context in CONTEXTS]
    np.testing.assert_array_equal(table["mean"], expected)
    assert (table["episodes"] == 2).all()
    alone = distes.evaluate_contexts(result.path, CONTEXTS[2])
    assert alone["mean"].tolist() == expected[2:]
    assert alone["episodes"].tolist() == [100]


def test_contexts_of_an_environment_are_imposed_at_its_reset(runs: dict[str, Any]) -> None:
    """The episode must be the one that a user gets with the same seed and options."""
    result = runs["windy"]
    table = distes.evaluate_contexts(result.path, CONTEXTS, episodes=1, seed=3)
    seed = distes.Population(
        result.solution.distribution, 1, purpose=distes.population.records.Purpose.TEST
    ).seeds(distes.population.records.RunKey(3, 0), 0, 1)[0]
    for context, mean in zip(CONTEXTS, table["mean"], strict=True):
        env = environments.windy()
        observation, _ = env.reset(seed=int(seed), options={"context": context})
        policy = distes.load_policy(result.path, context=context)
        total, ended = 0.0, False
        while not ended:
            assert policy(observation) == result.policy(context)(observation)
            observation, reward, ended, _, _ = env.step(policy(observation))
            total += float(reward)
        assert mean == pytest.approx(total, rel=1e-12)


def test_all_contexts_meet_the_same_seeds(runs: dict[str, Any]) -> None:
    """Luck that differs between contexts would look like an effect of the context."""
    path = runs["noisy"].path
    task = FunctionTask(environments.noisy_bowl, 3, noisy=True, context=environments.near_zero)
    table = distes.evaluate_contexts(path, CONTEXTS, episodes=30)
    values = [
        environments.bowl(runs["noisy"].parameters_for(context), context) for context in CONTEXTS
    ]
    assert task.num_contexts == 2
    np.testing.assert_allclose(np.ptp(table["mean"] - values), 0, atol=1e-12)
    again = distes.evaluate_contexts(path, CONTEXTS, episodes=30, seed=1)
    assert not np.allclose(table["mean"], again["mean"])


def test_a_grid_covers_the_context_space(runs: dict[str, Any]) -> None:
    """Bounds where they are known; elsewhere what the search saw, without its outliers."""
    table = distes.evaluate_contexts(runs["bowl"].path, grid=3)
    assert len(table) == 9
    assert sorted(set(table["context_0"])) == [-1.0, 0.0, 1.0]
    assert sorted(set(table["context_1"])) == [0.0, 1.0, 2.0]
    assert (table["episodes"] == 20).all()
    seen = np.stack(runs["noisy"].run.episodes["context"].to_list())
    table = distes.evaluate_contexts(runs["noisy"].path, grid=4, episodes=1)
    for component in range(2):
        axis = np.unique(table[f"context_{component}"])
        np.testing.assert_allclose(axis[[0, 3]], np.quantile(seen[:, component], [0.025, 0.975]))
        np.testing.assert_allclose(np.diff(axis), (axis[3] - axis[0]) / 3)
    middle = distes.evaluate_contexts(runs["bowl"].path, grid=1, episodes=1)
    assert middle[["context_0", "context_1"]].to_numpy().tolist() == [[0.0, 1.0]]


def test_components_that_do_not_vary_have_one_point(tmp_path: Path) -> None:
    """Ten equal points would cost ten times the episodes."""
    task = FunctionTask(
        environments.bowl, 3, context="uniform", context_low=(0.5, 0.0), context_high=(0.5, 1.0)
    )
    search(tmp_path / "run", task, strategy=CEM())
    assert len(distes.evaluate_contexts(tmp_path / "run", grid=10, episodes=1)) == 10


def test_failed_episodes_are_counted_where_they_failed(runs: dict[str, Any]) -> None:
    table = distes.evaluate_contexts(runs["fragile"].path, [[0.0, 0.0], [0.9, 0.0]], episodes=4)
    assert table["failed"].tolist() == [0, 4]
    assert table["mean"].isna().tolist() == [False, True]


def test_one_vector_can_be_evaluated_at_contexts(runs: dict[str, Any]) -> None:
    """To compare an upper policy with the best single vector, both are put on one grid."""
    result = runs["cem"]
    table = distes.evaluate_contexts(result.path, CONTEXTS, episodes=1)
    expected = [environments.bowl(result.parameters, context) for context in CONTEXTS]
    np.testing.assert_array_equal(table["mean"], expected)


def test_a_logged_candidate_comes_back_with_its_context(runs: dict[str, Any]) -> None:
    """Its parameters depend on the context that it met; another one can be asked for."""
    result = runs["windy"]
    row = result.run.episodes.query("generation == 1 and candidate == 7").iloc[0]
    frozen = result.run.population(1).frozen
    act = result.search.built_policy().bind(np.array(row["parameters"]))
    logged = distes.load_policy(result.path, generation=1, candidate=7)
    other = distes.load_policy(result.path, generation=1, candidate=7, context=[0.9, -0.9])
    differ = []
    for observation in np.random.default_rng(0).normal(size=(30, 3)).astype(np.float32):
        seen = (observation - frozen["observation_mean"]) / frozen["observation_std"]
        assert logged(observation) == act(seen, None)
        differ.append(other(observation) != logged(observation))
    assert any(differ)


REFUSED: list[tuple[str, dict[str, Any], str]] = [
    ("bowl", {"contexts": [0.1]}, r"shape \(1,\) is given, and a context of bowl has 2 numbers"),
    ("bowl", {"contexts": 0.1}, r"shape \(1,\) is given"),
    ("bowl", {"contexts": np.zeros((2, 3))}, r"shape \(2, 3\) is given"),
    ("bowl", {"contexts": np.zeros((1, 1, 2))}, r"shape \(1, 1, 2\) is given"),
    ("bowl", {"contexts": []}, r"shape \(0,\) is given"),
    ("bowl", {"contexts": [0.1, np.nan]}, r"the context \[0.1, nan\] is not finite"),
    ("bowl", {"contexts": [[0.1, 0.0], [np.inf, 0]]}, r"the context \[inf, 0.0\] is not finite"),
    ("bowl", {"contexts": "north"}, "the context 'north' is not a vector of numbers"),
    ("bowl", {"contexts": [[1, 2], [3]]}, "is not a vector of numbers"),
    ("bowl", {"contexts": [0.0, 0.0], "grid": 3}, "context and grid both say where"),
    ("bowl", {}, "contexts or grid: say where to evaluate"),
    ("bowl", {"grid": 2, "episodes": 0}, "episodes 0 is not at least 1"),
    ("bowl", {"grid": 0}, "grid 0 is not at least 1"),
    ("bowl", {"grid": 101}, "grid 101 is 10,201 contexts of 2 components, more than 10,000"),
    ("plain", {"contexts": [0.1]}, "sphere has no contexts: leave out the context"),
    ("plain", {"grid": 3}, "sphere has no contexts: there is no grid"),
    ("deaf", {"contexts": [0.1, 0.2]}, "deaf was asked for the context .* does not take up reset"),
    ("deaf", {"grid": 2}, "does not take up reset"),
]


@pytest.mark.parametrize(("name", "arguments", "says"), REFUSED)
def test_contexts_that_do_not_fit_are_refused(
    runs: dict[str, Any], name: str, arguments: dict[str, Any], says: str
) -> None:
    with pytest.raises(UsageError, match=says) as refusal:
        distes.evaluate_contexts(runs[name].path, **arguments)
    assert "\n" not in str(refusal.value)


def test_a_context_too_few_or_too_many_is_one_sentence(runs: dict[str, Any]) -> None:
    bowl, plain, windy = runs["bowl"], runs["plain"], runs["windy"]
    needed = "depend on the context: give context, 2 numbers"
    for draw in (windy.policy, lambda: distes.load_policy(windy.path),
                 lambda: distes.load_parameters(bowl.path)):  # fmt: skip
        with pytest.raises(UsageError, match=needed):
            draw()
    with pytest.raises(UsageError, match=r"depend on the context: use parameters_for\(context\)"):
        _ = bowl.parameters
    for draw in (lambda: plain.parameters_for([0.1]), lambda: plain.policy([0.1]),
                 lambda: distes.load_policy(plain.path, context=[0.1])):  # fmt: skip
        with pytest.raises(UsageError, match="sphere has no contexts"):
            draw()
    with pytest.raises(UsageError, match="a policy acts in one context, and 3 are given"):
        windy.policy(CONTEXTS)
    with pytest.raises(UsageError, match="is not finite"):
        windy.policy([np.nan, 0.0])


def test_a_contextual_run_is_no_start_but_its_parameters_are(
    runs: dict[str, Any], tmp_path: Path
) -> None:
    task = FunctionTask(environments.bowl, 3, context="uniform", **BOUNDS)
    with pytest.raises(UsageError, match=r"is a contextual run, .* distes\.load_parameters"):
        Search(task, start_from=runs["bowl"].path).check()
    start = distes.load_parameters(runs["bowl"].path, context=[0.0, 0.0])
    np.save(tmp_path / "start.npy", start)
    problem = Search(task, start_from=tmp_path / "start.npy", strategy=CREPS()).check()
    np.testing.assert_array_equal(problem.start, start)
    np.testing.assert_array_equal(
        Search(task, start_from=runs["constant"].path).check().start, runs["constant"].parameters
    )


Said = tuple[int, str, str]


@pytest.fixture
def command(capfd: pytest.CaptureFixture[str]) -> Any:
    def run(line: str) -> Said:
        code = main(shlex.split(line))
        return code, *capfd.readouterr()

    return run


def test_evaluate_prints_a_table(runs: dict[str, Any], command: Any) -> None:
    path = runs["fragile"].path
    line = f"evaluate {path} --context=-0.5,1 --context 0.75,1 --episodes 3"
    code, out, err = command(line)
    assert (code, err) == (0, "")
    head, first, second = out.splitlines()
    names = ["context 0", "context 1", "mean", "95% confidence interval", "episodes", "failed"]
    assert head.split() == " ".join(names).split()
    value = environments.bowl(runs["fragile"].parameters_for([-0.5, 1.0]), [-0.5, 1.0])
    assert first.split()[:3] == ["-0.5", "1", f"{value:.4g}"]
    assert second.split() == ["0.75", "1", "nan", "nan", "to", "nan", "0", "3"]
    assert len({len(each) for each in (head, first, second)}) == 1
    rows = json.loads(command(line + " --json")[1])
    assert [row["context_0"] for row in rows] == [-0.5, 0.75]
    assert rows[0]["mean"] == pytest.approx(value)
    assert rows[1]["mean"] is None
    assert len(command(f"evaluate {path} --grid 3 --episodes 1")[1].splitlines()) == 10
    whole = command(f"evaluate {path} --episodes 50")[1]
    assert "confidence interval" in whole
    assert "failed" in whole


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        ("--context 0.1", "a context of bowl has 2 numbers"),
        ("--context a,b", "--context 'a,b' is not numbers separated by commas"),
        ("--context ''", "--context '' is not numbers"),
        ("--context nan,1", "the context [nan, 1.0] is not finite"),
        ("--context 1,1 --context 1", "--context 1,1 and 1 are of different lengths"),
        ("--context 1,1 --grid 3", "context and grid both say where"),
        ("--grid 0", "--grid"),
    ],
)
def test_evaluate_says_what_is_wrong(
    runs: dict[str, Any], command: Any, flags: str, says: str
) -> None:
    code, out, err = command(f"evaluate {runs['bowl'].path} {flags}")
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert says in err


def test_another_process_finds_the_users_features(runs: dict[str, Any]) -> None:
    """A checkpoint names them alone; the command line must look the function up."""
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "distes",
            "evaluate",
            str(runs["bowl"].path),
            "--context",
            "0.5,0.5",
        ],
        env=os.environ | {"PYTHONPATH": os.pathsep.join([str(SUPPORT), *sys.path])},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    value = environments.bowl(runs["bowl"].parameters_for([0.5, 0.5]), [0.5, 0.5])
    assert f"{value:.4g}" in done.stdout


def test_info_says_that_a_run_is_contextual(runs: dict[str, Any]) -> None:
    text = " ".join(describe_run(runs["bowl"].path).split())
    assert (
        "context 2 numbers, from uniform, -1,0 to 1,2, dual features quadratic, policy features "
        "environments:bumps"
    ) in text
    assert f"distes plot {runs['bowl'].path} --over context" in text
    assert "context_low" not in text
    text = describe_run(runs["plain"].path)
    assert "\ncontext" not in text
    assert "--over" not in text


def test_a_run_shows_its_contexts(tmp_path: Path, command: Any) -> None:
    line = (
        "run environments:windy --context info --strategy creps --population 40 --generations 2 "
        f"--workers 0 --final-episodes 5 --out {tmp_path / 'run'}"
    )
    code, out, _ = command(line)
    assert code == 0
    assert "context of 2 from info" in out
    assert f"distes plot {tmp_path / 'run'} --over context" in out


def test_workers_give_the_same_table_and_the_same_refusal(
    runs: dict[str, Any], ray_local: Any
) -> None:
    """Where episodes run must not show, in what they earn and in what is said."""
    path = runs["windy"].path
    here = distes.evaluate_contexts(path, CONTEXTS, episodes=4)
    there = distes.evaluate_contexts(path, CONTEXTS, episodes=4, workers=1)
    assert here.equals(there)
    with pytest.raises(UsageError, match="deaf was asked for the context"):
        distes.evaluate_contexts(runs["deaf"].path, [0.1, 0.2], workers=1)


def test_a_stochastic_policy_acts_as_in_its_episode(tmp_path):
    """With a logged episode's seed it samples what it sampled there; without, the likeliest."""
    search = Search(
        "CartPole-v0",
        policy=Softmax(),
        strategy=Reinforce(),
        population=4,
        generations=2,
        final_episodes=3,
        workers=0,
        out=tmp_path / "run",
    )
    result = search.run()
    row = result.run.episodes.iloc[-1]
    policy = distes.load_policy(
        tmp_path / "run",
        generation=int(row["generation"]),
        candidate=int(row["candidate"]),
        seed=int(row["seed"]),
    )
    env = gym.make("CartPole-v0")
    seen, _ = env.reset(seed=int(row["seed"]))
    steps, over = 0, False
    while not over:
        seen, _, terminated, truncated, _ = env.step(policy(seen))
        over, steps = terminated or truncated, steps + 1
    assert steps == row["episode_length"]
    likeliest = result.policy()
    assert {likeliest(np.array([0.0, 0.0, 0.1, 0.0])) for _ in range(20)} in ({0}, {1})
    sampled = result.policy(seed=3)
    assert {sampled(np.array([0.0, 0.0, 0.0, 0.0])) for _ in range(50)} == {0, 1}
    with pytest.raises(UsageError, match="seed -1"):
        distes.load_policy(tmp_path / "run", seed=-1)
