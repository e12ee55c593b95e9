"""Learning curves: what they show is what the log says, and it can be read."""

import sys
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.text import Text
from pictures import shown_texts

import distes
from distes.errors import UsageError
from distes.runs.reader import load
from distes.runs.writer import RunLog
from distes.strategies.cem import CEM
from distes.strategies.random_search import RandomSearch
from distes.views import scores
from distes.views.figures.base import Figure
from distes.views.figures.learning_curves import LearningCurves, spread_apart
from distes.views.figures.style import make_figure


def draw(paths, x="episodes"):
    return LearningCurves(x).draw([load(path) for path in paths])


def hill(parameters, seed):
    return -float(np.sum((parameters - 1) ** 2)) + np.random.default_rng(seed).normal()


def search(out, **settings):
    task = distes.FunctionTask(hill, 3, noisy=True, threshold=settings.pop("threshold", -0.1))
    defaults = {
        "strategy": "cem",
        "population": 20,
        "generations": 8,
        "target": 1e9,
        "heldout_every": 2,
        "heldout_episodes": 5,
        "final_episodes": 6,
        "workers": 0,
    }
    distes.Search(task, out=out, **{**defaults, **settings}).run()
    return out


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    return {
        "one": search(folder / "one"),
        "two": search(folder / "two", seed=1, generations=5),
        "half": search(folder / "half", strategy=CEM(elite_fraction=0.5), target=9),
        "random": search(folder / "random", strategy=RandomSearch()),
        "reached": search(folder / "reached", target=-1e9),
        "cartpole": search_cartpole(folder / "cartpole"),
    }


def search_cartpole(out):
    distes.Search("CartPole-v1", population=10, generations=2, workers=0, out=out).run()
    return out


def line(axes, number=0):
    return np.array(axes.get_lines()[number].get_data())


def test_one_run_shows_the_logged_figures(runs):
    """A curve against the wrong axis or column would tell another story than the log."""
    rows = load(runs["one"]).generations
    for x, positions in {
        "episodes": rows["episodes"].cumsum(),
        "env_steps": rows["env_steps"].cumsum(),
        "seconds": rows["elapsed_s"],
    }.items():
        top, below = draw([runs["one"]], x).axes
        np.testing.assert_allclose(line(top), [positions, rows["episode_return_mean"]])
        np.testing.assert_allclose(line(top, 1)[1], rows["elite_return_mean"])
        np.testing.assert_allclose(line(below), [positions, rows["std_mean"]])
        assert below.get_xlim() == (0, positions.iloc[-1])
    assert below.get_xlabel() == "elapsed time (s)"
    assert [axes.get_ylabel() for axes in (top, below)] == ["episode return", "search std"]


def test_heldout_scores_stand_where_they_were_taken(runs):
    """The solution scored after generation 1 has cost two generations of episodes."""
    run = load(runs["one"])
    taken = scores.score_heldout(run)
    assert list(taken) == [1, 3, 5, 7]
    returns = run.evaluations.query("purpose == 'heldout' and generation == 3")["episode_return"]
    assert taken[3].mean == pytest.approx(returns.mean())
    top = draw([runs["one"]]).axes[0]
    points = top.containers[0].lines[0].get_xydata()
    expected = [[20.0 * (generation + 1), score.mean] for generation, score in taken.items()]
    np.testing.assert_allclose(points, expected)


def test_confirming_batch_is_the_score_that_counts(runs):
    """The first batch at the target is there because it was high: showing it flatters."""
    run = load(runs["reached"])
    rows = run.evaluations.query("purpose == 'heldout' and generation == 0")
    assert set(rows["call"]) == {0, 1}
    confirming = rows.query("call == 1")["episode_return"]
    assert scores.score_heldout(run)[0].mean == pytest.approx(confirming.mean())
    assert scores.score_heldout(run)[0].episodes == 6


def test_final_score_is_of_the_test_episodes(runs):
    """Held-out episodes decided when to stop; only the test's are unseen."""
    run = load(runs["one"])
    returns = run.evaluations.query("purpose == 'test'")["episode_return"]
    final = scores.score_test(run)
    assert final is not None
    assert (final.episodes, final.mean) == (6, pytest.approx(returns.mean()))


def test_target_is_the_runs_own_or_the_tasks():
    """A line at another height would say that a run stopped for no reason."""
    assert scores.find_target({"search": {"env": "CartPole-v1"}}) == 475
    assert scores.find_target({"search": {"env": "CartPole-v1", "target": 10}}) == 10
    assert scores.find_target({"search": {"env": "not_here:Robot-v0"}}) is None
    assert scores.find_target({"search": {"function": "m:f", "threshold": 3}}) == 3
    assert scores.find_target({"search": {"function": "m:f"}}) is None


def test_target_far_away_does_not_squeeze_the_curves(runs):
    """A curve of no height shows nothing; the target is still named."""
    top = draw([runs["one"]]).axes[0]
    assert top.get_ylim()[1] < 100
    assert "target 1,000M, above" in [text.get_text() for text in top.texts]
    near = draw([runs["half"]]).axes[0]
    assert [9, 9] in [list(found.get_ydata()) for found in near.get_lines()]
    assert "target 9" in [text.get_text() for text in near.texts]


def test_seeds_of_a_configuration_become_one_line(runs):
    """Seeds drawn as rivals, or rivals averaged, would turn a comparison upside down."""
    held, below = draw([runs["one"], runs["two"], runs["half"]]).axes
    names = [text.get_text() for text in below.texts]
    assert names == [
        "elite\xa0fraction\xa00.2\n(2\xa0seeds)",
        "elite\xa0fraction\xa00.5\n(1\xa0seed)",
    ]
    assert held.get_ylabel() == "held-out score"
    first, second = (load(runs[name]).generations["episode_return_mean"] for name in ("one", "two"))
    x, mean = line(below)
    both = (first[:5] + second) / 2
    np.testing.assert_allclose(np.interp(20.0 * np.arange(1, 6), x, mean), both, rtol=1e-6)
    assert x[-1] == 100


def test_run_that_ended_keeps_its_last_value(runs):
    """Dropping ended runs would let the mean jump to those that had not yet succeeded."""
    figure = draw([runs["one"], runs["two"]])
    x, mean = line(figure.axes[1], 1)
    long, short = (load(runs[name]).generations["episode_return_mean"] for name in ("one", "two"))
    assert (x[0], x[-1]) == (100, 160)
    assert mean[-1] == pytest.approx((long.iloc[-1] + short.iloc[-1]) / 2)
    assert "dashed" in figure.axes[0].get_title(loc="left")


def test_strategies_are_told_apart_by_name(runs):
    """All their fields differ, too: naming those would bury the difference."""
    figure = draw([runs["one"], runs["random"]])
    assert [text.get_text() for text in figure.axes[1].texts] == ["cem", "random_search"]
    colours = [found.get_color() for found in figure.axes[1].get_lines()]
    assert len(set(colours)) == 2


@pytest.mark.parametrize(
    "names",
    [
        ["one"],
        ["random"],
        ["reached"],
        ["cartpole"],
        ["one", "two", "half"],
        ["one", "half", "random"],
    ],
)
def test_texts_are_legible(runs, names):
    """Texts that overlap, are cut off or small can't be read in a README."""
    figure = draw([runs[name] for name in names], "env_steps")
    figure.draw_without_rendering()
    texts = [text for axes in figure.axes for text in shown_texts(axes)]
    assert min(text.get_fontsize() for text in texts) >= 10
    boxes = {text: Text.get_window_extent(text) for text in texts}
    width, height = figure.bbox.size
    for text, box in boxes.items():
        inside = box.x0 >= 0 and box.y0 >= 0 and box.x1 <= width + 1 and box.y1 <= height + 1
        assert inside, text.get_text()
    for one, other in combinations(texts, 2):
        assert not boxes[one].overlaps(boxes[other]), (one.get_text(), other.get_text())


@dataclass(frozen=True)
class Heading(Figure):
    """A figure of a user's."""

    x: str = "nothing"

    def draw(self, runs):
        figure = make_figure(1)
        figure.suptitle(f"{self.x}, {[run.path.name for run in runs]}")
        return figure


def test_a_users_figure_is_found_and_given_what_it_takes(runs, tmp_path):
    """One that had to be registered somewhere, or handled apart, would be no door."""
    over = f"{__name__}:Heading"
    for x, said in ((None, "nothing, ['one']"), ("anything", "anything, ['one']")):
        figure = distes.plot(runs["one"], tmp_path / "a.png", x, over=over, force=True)
        assert figure.get_suptitle() == said
    with pytest.raises(UsageError, match="draws one run, and 2 are given"):
        distes.plot([runs["one"], runs["two"]], over=over)
    with pytest.raises(UsageError, match="leave them out here"):
        distes.plot(runs["one"], over=over, components=[0])
    with pytest.raises(UsageError, match="did you mean 'context'"):
        distes.plot(runs["one"], over="contxt")


@pytest.mark.parametrize(
    ("suffix", "magic"), [("png", b"\x89PNG"), ("svg", b"<?xml"), ("pdf", b"%PDF")]
)
def test_format_follows_the_suffix_and_repeats(runs, tmp_path, suffix, magic):
    """A file that changes by itself shows up in every diff."""
    files = [tmp_path / "new" / f"{number}.{suffix}" for number in (1, 2)]
    for file in files:
        distes.plot([runs["one"]], file)
    first, second = (file.read_bytes() for file in files)
    assert first.startswith(magic)
    assert first == second


def test_bad_requests_are_refused(runs, tmp_path):
    """Each mistake is one sentence, and no file is left behind."""
    one = runs["one"]
    for wrong, sentence in [
        (([one], tmp_path / "a.pgn"), r"'\.pgn': did you mean '\.png'"),
        (([one], tmp_path / "a"), r"unknown image format 'a'"),
        (([one], tmp_path / ".png"), r"\.png' has no name before its format"),
        (([one], tmp_path / "a.png", "steps"), "did you mean 'env_steps'"),
        (([], tmp_path / "a.png"), "no run is given"),
        (([tmp_path / "none"], tmp_path / "a.png"), "there is no run directory"),
        (([one, runs["cartpole"]], tmp_path / "a.png"), "2 tasks .*can't be compared"),
    ]:
        with pytest.raises(UsageError, match=sentence):
            distes.plot(*wrong)
    assert list(tmp_path.iterdir()) == []


def test_run_without_a_generation_is_refused(tmp_path):
    """A run that has just started has nothing to draw, which is no crash."""
    RunLog.create(tmp_path / "new", load_config()).close()
    with pytest.raises(UsageError, match="has no generation yet"):
        draw([tmp_path / "new"])


def load_config():
    return {"search": {"env": "CartPole-v1", "strategy": {"name": "cem"}}}


def test_missing_matplotlib_is_said(runs, tmp_path, monkeypatch):
    """matplotlib is an extra: its absence must name the remedy, not a traceback."""
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(UsageError, match=r"pip install 'distes\[plot\]'"):
        distes.plot([runs["one"]], tmp_path / "a.png")


@given(
    st.lists(st.tuples(st.floats(-50, 150), st.floats(1, 10)), max_size=8),
)
def test_spread_apart_overlaps_nothing_and_keeps_the_order(wanted):
    """Labels in another order than their lines would name the wrong ones."""
    centres, sizes = [w for w, _ in wanted], [s for _, s in wanted]
    places = spread_apart(centres, sizes, 0, 100)
    for i, j in combinations(range(len(wanted)), 2):
        assert abs(places[i] - places[j]) >= (sizes[i] + sizes[j]) / 2 - 1e-9
        if centres[i] < centres[j]:
            assert places[i] < places[j]
    for place, size in zip(places, sizes, strict=True):
        assert size / 2 - 1e-9 <= place <= 100 - size / 2 + 1e-9


def test_labels_that_have_room_stay():
    """A label moved without need points at nothing."""
    assert spread_apart([20.0, 50.0], [10.0, 10.0], 0.0, 100.0) == [20.0, 50.0]
