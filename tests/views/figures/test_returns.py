"""The distribution of returns over generations: what is drawn is what the log says."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import environments
import numpy as np
import pytest

import distes
from distes.cli import main
from distes.errors import UsageError
from distes.runs.reader import Run, load
from distes.search.observer import Observer
from distes.search.search import Search
from distes.strategies import CEM, RandomSearch
from distes.strategies.reinforce import Reinforce
from distes.tasks.environment import Task
from distes.tasks.function import FunctionTask
from distes.views.figures.returns import MAX_COLUMNS, RETURN_BINS, Returns, count_returns


def search(out: Path, task: Any, **changes: Any) -> Path:
    settings: dict[str, Any] = {"population": 30, "generations": 8, "seed": 5, "workers": 0}
    settings |= {"heldout_every": 4, "final_episodes": 3, "heldout_episodes": 3, "out": out}
    settings |= {"strategy": "cem"}
    return Path(Search(task, **(settings | changes)).run().path)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("runs")
    noisy = FunctionTask(environments.noisy_sphere, 2, noisy=True)
    shifted = Task(environments.walk, reward_shift=1.0)
    own = FunctionTask(environments.sphere, 2, fitness=environments.ranked)
    return {
        "noisy": search(folder / "noisy", noisy, episodes=2),
        "gradient": search(folder / "gradient", "CartPole-v1", strategy=Reinforce(), generations=2),
        "shifted": search(folder / "shifted", shifted, generations=2),
        "own": search(folder / "own", own, generations=2),
        "long": search(
            folder / "long",
            noisy,
            strategy=RandomSearch(),
            generations=2 * MAX_COLUMNS + 7,
            population=10,
        ),
        "capped": search(folder / "capped", Task("CartPole-v1", max_episode_steps=20)),
        "one": search(folder / "one", noisy, generations=1),
        "fragile": search(
            folder / "fragile",
            Task(environments.walk, env_kwargs={"fail_above": 1.0}),
            max_failed_fraction=1.0,
            generations=3,
        ),
    }


class AtOnce(Observer):
    """Interrupts a search before its first generation."""

    def started(self, search: Any, path: Any, resumed_at: int | None) -> None:
        raise KeyboardInterrupt


def lines(path: Path) -> dict[str, Any]:
    axes = Returns().draw([load(path)]).axes[0]
    return {str(line.get_label()): line.get_xydata() for line in axes.lines}


def test_cells_are_shares_of_a_generation(runs: dict[str, Path]) -> None:
    """Counted anew from the log, cell by cell."""
    axes = Returns().draw([load(runs["noisy"])]).axes[0]
    mesh = axes.collections[0]
    cells = np.asarray(mesh.get_array()).reshape(RETURN_BINS, -1)
    assert cells.shape == (RETURN_BINS, 8)
    rows = load(runs["noisy"]).episodes
    edges = np.asarray(mesh.get_coordinates())[:, 0, 1]
    for generation in range(8):
        returns = rows[rows["generation"] == generation]["episode_return"].to_numpy()
        for low, high, share in zip(edges, edges[1:], cells[:, generation], strict=False):
            inside = (returns >= low) & (returns < high)
            assert share == pytest.approx(inside.mean(), abs=1.1 / len(returns))
        seen = (returns >= edges[0]) & (returns <= edges[-1])
        assert cells[:, generation].sum() == pytest.approx(seen.mean())
    assert list(axes.get_xlim()) == [-0.5, 7.5]


def test_the_threshold_is_that_of_the_log(runs: dict[str, Path]) -> None:
    """The line says which episodes were learnt from."""
    found = lines(runs["noisy"])
    rows = load(runs["noisy"]).generations.sort_values("generation")
    np.testing.assert_array_equal(
        found["elite threshold: least fitness of an elite"],
        rows[["generation", "elite_fitness_min"]].to_numpy(),
    )
    np.testing.assert_array_equal(found["mean return"][:, 1], rows["episode_return_mean"])


@pytest.mark.parametrize("name", ["gradient", "shifted", "own"])
def test_no_threshold_where_there_is_none_on_this_axis(runs: dict[str, Path], name: str) -> None:
    """Fitness with a reward shift, or by a rule of one's own, is no return."""
    assert list(lines(runs[name])) == ["mean return"]


def test_long_runs_share_columns(runs: dict[str, Path]) -> None:
    """Thousands of generations are more than there are pixels."""
    run = load(runs["long"])
    generation, returns = run.returns()
    shares, x, y = count_returns(generation, returns, len(run.generations))
    assert shares.shape == (MAX_COLUMNS, RETURN_BINS)
    assert (np.diff(x) >= 2).all()
    assert x[0] == -0.5
    assert x[-1] == len(run.generations) - 0.5
    inside = ((returns >= y[0]) & (returns <= y[-1])).mean()
    np.testing.assert_allclose((shares.sum(axis=1) * np.diff(x)).sum() / x[-1], inside, rtol=0.01)


def test_returns_are_read_as_they_were_logged(runs: dict[str, Path]) -> None:
    run = load(runs["fragile"])
    generation, returns = run.returns()
    np.testing.assert_array_equal(generation, run.episodes["generation"])
    np.testing.assert_array_equal(returns, run.episodes["episode_return"])
    assert np.isnan(returns).any()
    failed = int(np.isnan(returns).sum())
    heading = Returns().draw([run]).get_suptitle()
    assert heading.endswith(f"90 search episodes, {failed} failed")


@pytest.mark.parametrize("outlier", [-1e9, 1e9])
def test_one_outlier_does_not_squeeze_the_rest(outlier: float) -> None:
    returns = np.append(np.random.default_rng(0).normal(size=5_000), outlier)
    shares, _, y = count_returns(np.zeros(5_001, np.int64), returns, 1)
    assert y[-1] - y[0] < 30
    assert (shares > 0).sum() > 8
    assert 0.999 < shares.sum() < 1


def test_equal_returns_have_a_cell(runs: dict[str, Path]) -> None:
    shares, _, y = count_returns(np.zeros(5, np.int64), np.full(5, 3.0), 1)
    assert shares.sum() == 1
    assert y[0] < 3 < y[-1]
    assert len(lines(runs["one"])["mean return"]) == 1


def test_the_command(
    runs: dict[str, Path], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    line = ["plot", str(runs["noisy"]), "--over", "returns", "--out"]
    assert main([*line, str(tmp_path / "a.png")]) == 0
    assert capfd.readouterr().out.strip() == str(tmp_path / "a.png")
    assert (tmp_path / "a.png").stat().st_size > 10_000
    assert main([*line, str(tmp_path / "b.png"), "--components", "0"]) == 2
    assert "--components" in capfd.readouterr().err
    assert main([*line, str(tmp_path / "b.gif")]) == 2
    assert not (tmp_path / "b.png").exists()


def test_lines_at_the_ends_of_the_axis_are_seen_whole(runs: dict[str, Path]) -> None:
    """Where all elites reach the greatest return, the threshold lies on the last bin's edge."""
    axes = Returns().draw([load(runs["capped"])]).axes[0]
    threshold = lines(runs["capped"])["elite threshold: least fitness of an elite"]
    low, high = axes.get_ylim()
    edges = np.asarray(axes.collections[0].get_coordinates())[:, 0, 1]  # type: ignore[attr-defined]
    assert threshold[:, 1].max() == edges[-1]
    assert high - edges[-1] == pytest.approx(0.04 * np.ptp(edges))
    assert edges[0] - low == pytest.approx(0.04 * np.ptp(edges))


@pytest.mark.parametrize(
    ("values", "marked"),
    [
        ([1.0, np.nan, 2.0, 3.0, np.nan, 4.0], [0, 5]),
        ([np.nan, 1.0, np.nan], [1]),
        ([1.0], [0]),
        ([1.0, 2.0], []),
        ([np.nan, np.nan], []),
    ],
)
def test_points_without_neighbours_are_marked(
    runs: dict[str, Path], monkeypatch: pytest.MonkeyPatch, values: list[float], marked: list[int]
) -> None:
    """A line shows nothing of them."""
    rows = load(runs["noisy"]).generations.iloc[: len(values)].copy()
    rows["elite_fitness_min"] = values
    monkeypatch.setattr(Run, "generations", rows)
    drawn = [
        line for line in Returns().draw([load(runs["noisy"])]).axes[0].lines if line.get_marker()
    ]
    named = {str(line.get_label())[:5]: line for line in drawn}
    if not np.isfinite(values).any():
        assert "elite" not in named
    elif marked:
        assert named["elite"].get_marker() == "o"
        assert named["elite"].get_markevery() == marked
    else:
        assert named["elite"].get_marker() == "None"


def test_runs_without_returns_say_so(runs: dict[str, Path], tmp_path: Path) -> None:
    copy = tmp_path / "emptied"
    shutil.copytree(runs["noisy"], copy, ignore=shutil.ignore_patterns("episodes"))
    with pytest.raises(UsageError, match="emptied holds no episodes"):
        distes.plot(copy, over="returns")
    with pytest.raises(KeyboardInterrupt):
        search(
            tmp_path / "young",
            FunctionTask(environments.sphere, 2),
            strategy=CEM(),
            observers=(AtOnce(),),
        )
    with pytest.raises(UsageError, match="no generation yet"):
        distes.plot(tmp_path / "young", tmp_path / "a.png", over="returns")
