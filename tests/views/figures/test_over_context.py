"""Figures over contexts: what they show is what the log says, and it can be read."""

from __future__ import annotations

import re
import shlex
from itertools import combinations
from pathlib import Path
from typing import Any

import environments
import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.text import Text
from pictures import shown_texts
from searches import StopAt

import distes
from distes.cli import main
from distes.errors import UsageError
from distes.population.statistics import compute_score
from distes.runs.reader import load
from distes.search.search import Search
from distes.strategies import CEM, CREPS
from distes.strategies.base import Strategy
from distes.tasks.function import FunctionTask
from distes.views.figures.context import Context, assign_bins, average_cells
from distes.views.figures.parameters import Parameters, choose_most_varying


def draw_returns(path: Path, components: Any = None) -> Any:
    return Context(components).draw([load(path)])


def draw_parameters(path: Path, components: Any = None) -> Any:
    return Parameters(components).draw([load(path)])


def bowl(k: int, d: int = 3, **changes: Any) -> FunctionTask:
    bounds: Any = {"context_low": (-1.0,) * k, "context_high": (1.0,) * k}
    settings = {"noisy": True, "context": "uniform", **bounds, **changes}
    function = environments.noisy_bowl if settings["noisy"] else environments.fragile_bowl
    return FunctionTask(function if d == 3 else wide_bowl, d, **settings)


def wide_bowl(parameters: Any, context: Any, seed: int) -> float:
    return -float(np.sum((parameters - context[0] * np.arange(len(parameters))) ** 2))


def narrow(k: int) -> Any:
    """Bounds whose ticks have many digits."""
    return {"context_low": (-0.048,) * k, "context_high": (0.048,) * k}


def search(out: Path, task: Any, **changes: Any) -> Path:
    settings: dict[str, Any] = {"population": 100, "generations": 4, "seed": 5, "workers": 0}
    settings |= {"strategy": CREPS(), "heldout_every": 2, "final_episodes": 90}
    Search(task, out=out, **(settings | changes)).run()
    return out


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("runs")
    rbf: Strategy[Any] = CREPS(policy_features="rbf:5", covariance="diagonal")
    made = {
        "one": search(folder / "one", bowl(1), strategy=rbf, final_episodes=400),
        "two": search(folder / "two", bowl(2)),
        "three": search(folder / "three", bowl(3)),
        "four": search(folder / "four", bowl(4, **narrow(4)), population=200),
        "ten": search(folder / "ten", bowl(10), population=300),
        "wide": search(folder / "wide", bowl(1, 14)),
        "wide, two": search(folder / "wide two", bowl(2, 14)),
        "fragile": search(folder / "fragile", bowl(2, noisy=False)),
        "custom": search(
            folder / "custom", bowl(2), strategy=CREPS(policy_features=environments.bumps)
        ),
        "cem": search(folder / "cem", bowl(1), strategy=CEM()),
        "plain": search(folder / "plain", FunctionTask(environments.sphere, 2), strategy=CEM()),
        "cut": folder / "cut",
        "young": folder / "young",
    }
    for name, after in (("cut", 2), ("young", 0)):
        with pytest.raises(KeyboardInterrupt):
            search(folder / name, bowl(1), observers=(StopAt(after),))
    return made


def episodes(path: Path, purpose: str = "test") -> tuple[Any, Any]:
    rows = load(path).evaluations.query(f"purpose == '{purpose}'")
    return np.stack(rows["context"].to_list()), rows["episode_return"].to_numpy()


def test_points_are_the_test_episodes(runs: dict[str, Path]) -> None:
    """Episodes of the search, or of earlier solutions, would flatter or blacken it."""
    contexts, returns = episodes(runs["one"])
    (axes,) = draw_returns(runs["one"]).axes
    points = axes.collections[0].get_offsets()
    np.testing.assert_allclose(points, np.column_stack([contexts[:, 0], returns]))
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("context", "episode return")


def test_means_are_those_of_their_bins(runs: dict[str, Path]) -> None:
    """A mean drawn at another place, or over other episodes, invents a trend."""
    contexts, returns = episodes(runs["one"])
    (axes,) = draw_returns(runs["one"]).axes
    line, _, bars = axes.containers[0].lines
    x, y = line.get_data()
    assert len(x) == 14
    placed = assign_bins(contexts[:, 0], 14)
    assert set(np.bincount(placed)) <= {28, 29}
    centres = [contexts[placed == number, 0].mean() for number in range(14)]
    np.testing.assert_allclose(x, centres)
    found = [compute_score(returns[placed == number]) for number in range(14)]
    np.testing.assert_allclose(y, [each.mean for each in found])
    ends = np.array([segment[:, 1] for segment in bars[0].get_segments()])
    np.testing.assert_allclose(ends, [(each.low, each.high) for each in found])


@given(
    st.lists(st.sampled_from([*range(4), 0.5, 2.25, -1e6]) | st.floats(-5, 5), min_size=1),
    st.integers(1, 8),
)
def test_bins_keep_order_and_hold_something(values: list[float], most: int) -> None:
    """An empty bin has no mean; equal contexts apart would have two."""
    placed = assign_bins(np.array(values), most)
    assert sorted(set(placed)) == list(range(placed.max() + 1))
    assert placed.max() < most
    for i, j in combinations(range(len(values)), 2):
        if values[i] < values[j]:
            assert placed[i] <= placed[j]
        if values[i] == values[j]:
            assert placed[i] == placed[j]


def test_few_contexts_have_a_bin_each() -> None:
    assert assign_bins(np.array([3.0, 1.0, 3.0, 2.0, 1.0]), 5).tolist() == [2, 0, 2, 1, 0]


def test_cells_hold_the_mean_of_their_episodes(runs: dict[str, Path]) -> None:
    """Axes taken for one another would mirror the picture."""
    contexts, returns = episodes(runs["two"])
    axes, bar = draw_returns(runs["two"]).axes
    mesh = axes.collections[0]
    corners = mesh.get_coordinates()
    shown = np.ma.filled(mesh.get_array(), np.nan)
    assert shown.shape == (3, 3)
    assert np.isfinite(shown).all()
    for row in range(3):
        for column in range(3):
            (x0, y0), (x1, y1) = corners[row, column], corners[row + 1, column + 1]
            inside = ((contexts >= [x0, y0]) & (contexts <= [x1, y1])).all(axis=1)
            assert shown[row, column] == pytest.approx(returns[inside].mean())
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("context 0", "context 1")
    assert bar.get_ylabel() == "mean episode return"
    means = average_cells(
        [np.array([0, 0, 1]), np.array([1, 1, 0])], np.array([1.0, 3.0, 5.0]), (2, 2)
    )
    np.testing.assert_array_equal(means, [[np.nan, 2.0], [5.0, np.nan]])


def test_failed_episodes_are_marked_where_they_failed(runs: dict[str, Path]) -> None:
    """Left out, they would let a context look good in which nothing works."""
    contexts, returns = episodes(runs["fragile"])
    failed = np.isnan(returns)
    assert failed.any()
    axes = draw_returns(runs["fragile"]).axes[0]
    marks = [c for c in axes.collections if c.get_label() == f"{failed.sum()} failed"]
    np.testing.assert_allclose(marks[0].get_offsets(), contexts[failed])
    axes = draw_returns(runs["fragile"], [0]).axes[0]
    marks = [c for c in axes.collections if c.get_label() == f"{failed.sum()} failed"]
    np.testing.assert_allclose(marks[0].get_offsets()[:, 0], contexts[failed, 0])
    low, high = axes.get_xlim()
    assert low < contexts[:, 0].min()
    assert contexts[:, 0].max() < high


def test_components_can_be_chosen(runs: dict[str, Path]) -> None:
    """Three components are a panel each; a pair of them is a map, one a panel."""
    contexts, returns = episodes(runs["three"])
    panels = draw_returns(runs["three"]).axes
    assert [axes.get_xlabel() for axes in panels] == ["context 0", "context 1", "context 2"]
    for number, axes in enumerate(panels):
        points = axes.collections[0].get_offsets()
        np.testing.assert_allclose(points, np.column_stack([contexts[:, number], returns]))
    pair = draw_returns(runs["three"], [2, 0]).axes[0]
    assert (pair.get_xlabel(), pair.get_ylabel()) == ("context 2", "context 0")
    (one,) = draw_returns(runs["three"], [1]).axes
    assert one.get_xlabel() == "context 1"
    assert len(draw_returns(runs["ten"], range(9)).axes) == 9


def test_before_the_end_the_newest_heldout_score_is_drawn(runs: dict[str, Path]) -> None:
    run = load(runs["cut"])
    assert set(run.evaluations["purpose"]) == {"heldout"}
    figure = draw_returns(runs["cut"])
    contexts, returns = episodes(runs["cut"], "heldout")
    points = figure.axes[0].collections[0].get_offsets()
    np.testing.assert_allclose(points, np.column_stack([contexts[:, 0], returns]))
    text = figure.get_suptitle()
    assert "20 held-out episodes of the solution after generation 1" in text


def test_the_confirming_batch_is_drawn(runs: dict[str, Path]) -> None:
    """The first batch at the target is there because it was high: showing it flatters."""
    run = load(runs["cut"])
    first = run.evaluations
    again = first.assign(call=1, episode_return=first["episode_return"] - 5)
    run.__dict__["evaluations"] = pd.concat([again, first])
    points = Context().draw([run]).axes[0].collections[0].get_offsets()
    np.testing.assert_allclose(points[:, 1], again["episode_return"])


def test_lines_are_the_upper_policys_means(runs: dict[str, Path]) -> None:
    """The parameters on the axis must be those that a deployment would use."""
    for name, k in (("one", 1), ("two", 2), ("custom", 2)):
        run = load(runs[name])
        solution = run.snapshot().solution.distribution
        panels = draw_parameters(runs[name]).axes
        assert len(panels) == 3 * k
        for number, axes in enumerate(panels):
            parameter, component = divmod(number, k)
            x, y = axes.get_lines()[0].get_data()
            assert (x[0], x[-1]) == (-1, 1)
            contexts = np.zeros((len(x), k))
            contexts[:, component] = x
            drawn = solution.draw(np.zeros(len(x), dtype=np.int64), contexts)
            np.testing.assert_array_equal(y, drawn[:, parameter])


def test_bands_are_as_wide_as_the_last_generation_explored(runs: dict[str, Path]) -> None:
    """Five standard errors of a standard deviation from 400 candidates are 18%."""
    explored = load(runs["one"]).population(3).distribution
    assert explored.scale.shape == (3,)
    for axes, std in zip(draw_parameters(runs["one"]).axes, explored.scale, strict=True):
        x, mean = axes.get_lines()[0].get_data()
        outline = axes.collections[0].get_paths()[0].vertices
        for at, middle in ((x[0], mean[0]), (x[60], mean[60])):
            ends = outline[np.isclose(outline[:, 0], at), 1]
            assert (ends.max() + ends.min()) / 2 == pytest.approx(middle, abs=1e-6)
            assert np.ptp(ends) / 2 == pytest.approx(std, rel=0.18)


def test_of_many_parameters_those_that_vary_most_are_shown(runs: dict[str, Path]) -> None:
    figure = draw_parameters(runs["wide"])
    assert len(figure.axes) == 12
    assert "the 12 of 14 parameters that vary most" in figure.get_suptitle()
    names = [axes.get_ylabel() for axes in figure.axes]
    assert "parameter 13" in names
    assert names == sorted(names, key=lambda name: int(name.split()[1]))
    both = draw_parameters(runs["wide, two"])
    assert len(both.axes) == 12
    assert "the 6 of 14 parameters that vary most, other components" in both.get_suptitle()
    assert len(draw_parameters(runs["wide, two"], [1]).axes) == 12
    ranges = [np.array([[0.0, 2.0, 0.0], [1.0, 0.0, 0.5]]), np.array([[0.0, 0.0, 9.0]] * 2)]
    assert choose_most_varying(ranges, 2).tolist() == [0, 1]


@pytest.mark.parametrize(
    ("draw", "name"),
    [
        *[
            (draw_returns, name)
            for name in ("one", "two", "three", "four", "fragile", "cut", "cem")
        ],
        *[(draw_parameters, name) for name in ("one", "two", "three", "four", "wide", "wide, two")],
    ],
)
def test_texts_are_legible(runs: dict[str, Path], draw: Any, name: str) -> None:
    """Texts that overlap, are cut off or small can't be read in a README."""
    figure = draw(runs[name])
    figure.draw_without_rendering()
    assert figure.get_figwidth() == 9
    texts = [text for axes in figure.axes for text in shown_texts(axes)]
    texts += [figure._suptitle, *(t for legend in figure.legends for t in legend.get_texts())]
    assert min(text.get_fontsize() for text in texts) >= 10
    boxes = {text: Text.get_window_extent(text) for text in texts}
    width, height = figure.bbox.size
    for text, box in boxes.items():
        inside = box.x0 >= 0 and box.y0 >= 0 and box.x1 <= width + 1 and box.y1 <= height + 1
        assert inside, text.get_text()
    for one, other in combinations(texts, 2):
        assert not boxes[one].overlaps(boxes[other]), (one.get_text(), other.get_text())


REFUSED: list[tuple[str, Any, str, str]] = [
    ("context", None, "plain", "plain has no contexts: there is no return over them"),
    ("parameters", None, "plain", "plain has no contexts: its parameters depend on nothing"),
    ("parameters", None, "cem", "cem has the same parameters for every context"),
    ("context", [1], "one", "component 1 is not one of the 1 of a context, counted from 0"),
    ("context", [-1], "two", "component -1 is not one of the 2 of a context"),
    ("parameters", [0, 0], "two", "components 0,0 are not one or more, each once"),
    ("context", None, "ten", "a context has 10 components, and a figure shows at most 9"),
    ("parameters", None, "ten", "a context has 10 components, and a figure shows at most 4"),
    ("context", None, "young", "young has no held-out score yet: there is nothing to draw"),
]


@pytest.mark.parametrize(("over", "components", "name", "says"), REFUSED)
def test_what_can_not_be_drawn_is_one_sentence(
    runs: dict[str, Path], tmp_path: Path, over: str, components: Any, name: str, says: str
) -> None:
    with pytest.raises(UsageError, match=re.escape(says)) as refusal:
        distes.plot(runs[name], tmp_path / "a.png", over=over, components=components)
    assert "\n" not in str(refusal.value)
    assert list(tmp_path.iterdir()) == []


def test_the_command_draws_both(runs: dict[str, Path], tmp_path: Path, capfd: Any) -> None:
    for what in ("context", "parameters"):
        files = [tmp_path / f"{what}{number}.svg" for number in (1, 2)]
        for file in files:
            line = f"plot {runs['custom']} --over {what} --out {file} --components 1"
            assert main(shlex.split(line)) == 0
        assert capfd.readouterr().out == "".join(f"{file}\n" for file in files)
        first, second = (file.read_bytes() for file in files)
        assert first.startswith(b"<?xml")
        assert first == second


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        ("--over contxt --out a.png", "unknown figure 'contxt': did you mean 'context'"),
        ("--over context --out a.pgn", "did you mean '.png'"),
        ("--over context --out a.png --x seconds", "leave it out with --over context"),
        ("--over context --out a.png --components a", "--components 'a' is not whole numbers"),
        ("--over context --out a.png {one}", "--over context draws one run, and 2 are given"),
        ("--out a.png --components 0", "give over (--over), too"),
    ],
)
def test_the_command_says_what_is_wrong(
    runs: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: Any,
    flags: str, says: str,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    line = f"plot {runs['one']} {flags.format(one=runs['one'])}"
    assert main(shlex.split(line)) == 2
    out, err = capfd.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert says in err
    assert list(tmp_path.iterdir()) == []
