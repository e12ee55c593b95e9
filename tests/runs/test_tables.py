"""Tables of several runs, and of candidates: each row says what it is of, in its own words."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from typing import Any

import environments
import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from run_logs import record, snapshot

import distes
from distes.errors import UsageError
from distes.population.distributions import Table
from distes.population.records import Population
from distes.runs.reader import load
from distes.runs.writer import RunLog
from distes.search.search import Search
from distes.strategies import CREPS
from distes.views.report import describe_run

TABLES = ("generations", "episodes", "evaluations")


def write(path: Path, seed: int, generations: int = 2, info: tuple[str, ...] = ()) -> Path:
    """Write a run of so many generations, which logs some info."""
    config = {"search": {"seed": seed, "strategy": {"name": f"strategy {seed}"}}}
    log = RunLog.create(path, config, info=info)
    for generation in range(generations):
        record(log, generation, info=info)
    log.commit(snapshot(generations))
    log.close()
    return path


def search(out: Path, task: Any, **changes: Any) -> Path:
    settings = {"population": 12, "generations": 2, "workers": 0, "heldout_every": 1}
    Search(task, out=out, **{**settings, **changes}).run()
    return out


@pytest.fixture(scope="module")
def searched(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Runs whose logs have little in common."""
    folder = tmp_path_factory.mktemp("searched")
    pole = distes.Task("distes/ContextualCartPole-v0", context="observation:2,0")
    angles = distes.Task("Pendulum-v1", max_episode_steps=5, log_info=("gone", "away"))
    return {
        "function": search(
            folder / "function", distes.FunctionTask(environments.sphere, 3), strategy="cmaes"
        ),
        "pole": search(folder / "pole", pole, strategy=CREPS(), policy="threshold", population=40),
        "angles": search(folder / "angles", angles, policy="mlp", strategy="snes", episodes=3),
    }


def test_rows_of_several_runs_say_whose_they_are(tmp_path: Path) -> None:
    """If wrong: a comparison of runs or seeds credits one with the results of another."""
    plain = write(tmp_path / "a", 3)
    told = write(tmp_path / "b", 4, info=("distance",))
    young = write(tmp_path / "c", 5, generations=0)
    runs = load([plain, str(told), young])
    for table in TABLES:
        found, parts = getattr(runs, table), []
        assert list(found)[:3] == ["run", "run_seed", "strategy"]
        for path, seed in ((plain, 3), (told, 4)):
            rows = found[found["run"] == str(path)].reset_index(drop=True)
            assert set(rows["run_seed"]) == {seed}
            assert set(rows["strategy"]) == {f"strategy {seed}"}
            own = getattr(load(path), table)
            pd.testing.assert_frame_equal(rows[list(own)], own)
            parts.append(len(own))
        assert len(found) == sum(parts) > 0
    info = runs.episodes.set_index("run")["info_distance"]
    assert info[str(plain)].isna().all()
    assert info[str(told)].notna().all()
    assert runs.generations["generation"].dtype == np.int64
    assert list(load([plain]).generations)[:4] == ["run", "run_seed", "strategy", "generation"]
    assert load([young]).episodes.empty
    with pytest.raises(UsageError, match="no run is given"):
        load([])


def test_candidates_are_summed_up(tmp_path: Path) -> None:
    """If wrong: who picks a candidate by its fitness deploys another one's parameters."""
    names = {"parameter_names": ["x", "y"], "num_parameters": 2, "num_contexts": 1}
    log = RunLog.create(tmp_path / "a", names)
    asked = Population(Table(np.array([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]])), 3, 2)
    contexts = np.array([[0.5], [0.5], [1.0], [2.0], [3.0], [3.0]])
    record(log, 0)
    record(log, 1, asked, contexts=contexts)
    log.commit(None)
    log.close()
    found = load(tmp_path / "a").candidates(1)
    expected = {
        "candidate": [0, 1, 2],
        "fitness": [0.0, 0.0, 0.0],
        "episode_return_mean": [100.5, 102.5, 104.0],
        "episodes": [2, 2, 2],
        "failed": [0, 0, 1],
        "context_0": [0.5, np.nan, 3.0],
        "x": [1.0, 3.0, 5.0],
        "y": [2.0, 4.0, 6.0],
    }
    pd.testing.assert_frame_equal(found, pd.DataFrame(expected))
    assert "context_0" not in load(tmp_path / "a").candidates(0)
    with pytest.raises(UsageError, match="no episodes of generation 7"):
        load(tmp_path / "a").candidates(7)


def test_fitness_is_what_the_strategy_saw(tmp_path: Path) -> None:
    """If wrong: a user's rule, which reading may not import, is replaced by the mean."""

    def worst(returns: Any) -> Any:
        return returns.min(axis=1) - 1

    task = distes.Task("CartPole-v1", fitness=worst)
    run = load(search(tmp_path / "a", task, episodes=2, generations=1, policy="threshold"))
    rows = run.episodes.groupby("candidate")["episode_return"]
    np.testing.assert_array_equal(run.candidates(0)["fitness"], rows.min() - 1)
    assert run.generations["fitness_max"][0] == (rows.min() - 1).max()


def test_names_are_read_without_the_environment(searched: dict[str, Path]) -> None:
    """If wrong: a column or an axis is named as another number of the context."""
    pole = load(searched["pole"])
    assert pole.context_names == ["pole angle in rad", "cart position in m"]
    found = pole.candidates(1)
    contexts = np.stack(pole.episodes_of(1)["context"].to_list())
    np.testing.assert_array_equal(found["context_cart position in m"], contexts[:, 1])
    assert list(found)[-4:] == [
        "w[cart position in m]",
        "w[cart velocity in m/s]",
        "w[pole angle in rad]",
        "w[pole velocity in rad/s]",
    ]
    told = " ".join(describe_run(searched["pole"]).split())
    assert "2 numbers (pole angle in rad, cart position in m)" in told


def test_scores_at_contexts_have_their_names(tmp_path: Path) -> None:
    """If wrong: who reads a score looks up what the number beside it is."""
    pole = distes.Task("distes/PhysicalPendulum-v0", context="info", max_episode_steps=5)
    run = search(tmp_path / "a", pole, strategy="random_search", generations=1)
    scored = distes.evaluate_contexts(run, [[1.0, 0.5]], episodes=2)
    assert list(scored)[:2] == ["context_mass in kg", "context_length in m"]
    assert scored["context_length in m"][0] == 0.5


def test_names_that_are_lost_are_numbers(tmp_path: Path) -> None:
    """If wrong: a run of before, or one whose names do not fit, can't be tabulated."""
    log = RunLog.create(tmp_path / "a", {"parameter_names": ["x"], "num_parameters": 2})
    record(log, 0)
    log.commit(None)
    log.close()
    run = load(tmp_path / "a")
    assert run.parameter_names is None
    assert list(run.candidates(0))[-2:] == ["parameter_0", "parameter_1"]


def test_columns_that_runs_share_have_one_type(searched: dict[str, Path]) -> None:
    """If wrong: no reader takes the tables of several runs at once."""
    for table in TABLES:
        types = defaultdict(set)
        for path in searched.values():
            for part in (path / table).glob("*.parquet"):
                for field in pq.read_schema(part):
                    types[field.name].add(str(field.type))
        assert {name: found for name, found in types.items() if len(found) > 1} == {}
        assert "null" not in set().union(*types.values())


@pytest.mark.slow
@pytest.mark.parametrize("table", TABLES)
def test_polars_reads_several_runs(searched: dict[str, Path], table: str) -> None:
    """If wrong: what docs/log-schema.md says of polars loses rows, or fails."""
    polars = pytest.importorskip("polars")
    folder = searched["pole"].parent
    ours = getattr(load(searched.values()), table)
    how = {"missing_columns": "insert", "extra_columns": "ignore"}
    shared = polars.scan_parquet(f"{folder}/*/{table}/*.parquet", **how).collect()
    assert len(shared) == len(ours)
    parts = [polars.scan_parquet(f"{path}/{table}/*.parquet") for path in searched.values()]
    whole = polars.concat(parts, how="diagonal").collect()
    assert set(whole.columns) == set(ours) - {"run", "run_seed", "strategy"}
    for name in ("generation", "episode_return", "info_gone", "fitness_max"):
        if name in ours:
            np.testing.assert_array_equal(
                whole[name].cast(polars.Float64).fill_null(np.nan), ours[name].astype(float)
            )


@pytest.mark.slow
@pytest.mark.parametrize("table", TABLES)
def test_duckdb_reads_several_runs(searched: dict[str, Path], table: str) -> None:
    """If wrong: what docs/log-schema.md says of DuckDB loses rows, or fails."""
    duckdb = pytest.importorskip("duckdb")
    ours = getattr(load(searched.values()), table)
    files = f"{searched['pole'].parent}/*/{table}/*.parquet"
    query = f"SELECT * FROM read_parquet('{files}', union_by_name = true, filename = true)"  # noqa: S608
    found = duckdb.sql(query).df()
    assert set(found) == (set(ours) - {"run", "run_seed", "strategy"}) | {"filename"}
    assert len(found) == len(ours)
    for path in searched.values():
        own = getattr(load(path), table)
        rows = found[found["filename"].str.startswith(f"{path}/")]
        np.testing.assert_array_equal(rows["generation"], own["generation"])
