"""What all figures have in common: where they are written, their title, size, axes and names."""

from __future__ import annotations

import shlex
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import environments
import numpy as np
import pytest

import distes
from distes.cli import main
from distes.errors import UsageError
from distes.runs.reader import load
from distes.search.search import Search
from distes.strategies import CREPS
from distes.tasks.function import FunctionTask
from distes.views.figures.base import Figure
from distes.views.figures.style import make_figure, scale_logarithmically


def cost(parameters: Any, context: Any) -> float:
    return -0.5 - float(np.sum((parameters - context) ** 2))


cost.parameter_names = ("left $wheel$", "right", "$")  # type: ignore[attr-defined]
cost.context_names = ("mass $in$ kg",)  # type: ignore[attr-defined]


def mixed(parameters: Any) -> float:
    return float(parameters[0])


def search(out: Path, task: Any, **changes: Any) -> Path:
    settings: dict[str, Any] = {"population": 30, "generations": 3, "workers": 0, "target": 1e9}
    Search(task, out=out, final_episodes=30, **{**settings, **changes}).run()
    return out


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("runs")
    bounds: Any = {"context": "uniform", "context_low": (-1.0,), "context_high": (1.0,)}
    return {
        "cost": search(folder / "cost", FunctionTask(cost, 3, **bounds), strategy=CREPS()),
        "mixed": search(folder / "mixed", FunctionTask(mixed, 2)),
        "sphere": search(folder / "sphere", FunctionTask(environments.sphere, 2, (1.0, 1.0))),
    }


def test_a_file_is_overwritten_only_if_asked(runs: dict[str, Path], tmp_path: Path) -> None:
    """If wrong: a figure of yesterday is lost to a slip of the fingers."""
    file = tmp_path / "a.svg"
    file.write_text("mine")
    with pytest.raises(UsageError, match=r"is there already.*--force"):
        distes.plot(runs["cost"], file)
    assert file.read_text() == "mine"
    distes.plot(runs["cost"], file, force=True)
    assert "<svg" in file.read_text()
    (tmp_path / "b.svg").mkdir()
    with pytest.raises(UsageError, match="is a directory"):
        distes.plot(runs["cost"], tmp_path / "b.svg", force=True)


@pytest.mark.parametrize("suffix", [".png", ".svg", ".html"])
def test_a_place_that_cannot_be_written_is_said(
    runs: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str], suffix: str
) -> None:
    """If wrong: a read-only disk is a traceback through matplotlib."""
    nowhere = tmp_path / f"nowhere{suffix}"
    nowhere.symlink_to(tmp_path / "gone" / "x")
    (tmp_path / "file").touch()
    for place in (nowhere, tmp_path / "file" / f"x{suffix}"):
        assert main(["plot", str(runs["cost"]), "--out", str(place)]) == 2
        assert capsys.readouterr().err.startswith(f"distes: '{place}' can't be written: ")


@pytest.mark.parametrize("over", [None, "context", "parameters", "returns"])
def test_title_and_size_are_those_asked_for(runs: dict[str, Path], over: str | None) -> None:
    """If wrong: a figure does not fit where it is to stand, or is headed by another text."""
    title = "Cost in $ and $, " + "at length " * 12
    figure = distes.plot(runs["cost"], over=over, title=title, size=(7, 4.5))
    assert figure.get_size_inches().tolist() == [7, 4.5]
    assert " ".join(figure.get_suptitle().split()) == title.strip()
    figure.draw_without_rendering()
    box = figure._suptitle.get_window_extent()
    assert 0 <= box.x0 < box.x1 <= figure.bbox.x1
    assert not any(axes.get_title(loc="left") for axes in figure.axes)


class Plain(Figure):
    """A figure of a user's that knows nothing of titles and sizes."""

    def draw(self, runs: Any) -> Any:
        figure = make_figure(3)
        figure.subplots()
        return figure


def test_a_users_figure_has_title_and_size_too(runs: dict[str, Path]) -> None:
    """If wrong: the flags are silently of no use, or each figure has to know of them."""
    over = f"{Plain.__module__}:Plain"
    figure = distes.plot(runs["cost"], over=over, title="Mine", size=(4, 4))
    assert figure.get_size_inches().tolist() == [4, 4]
    assert figure.get_suptitle() == "Mine"
    with pytest.raises(UsageError, match=r"log_y \(--log-y\) is of learning curves"):
        distes.plot(runs["cost"], over=over, log_y=True)


@pytest.mark.parametrize("names", [["cost"], ["sphere", "sphere"]])
def test_logarithmic_axes_show_all_values(runs: dict[str, Path], names: list[str]) -> None:
    """If wrong: returns below 0, which are most costs, vanish or lie in a linear stretch."""
    figure = distes.plot([runs[name] for name in names], log_x=True, log_y=True)
    figure.draw_without_rendering()
    for axes in figure.axes:
        for line in axes.get_lines():
            points = np.column_stack(line.get_data())
            inside = axes.viewLim.padded(1e-9).contains
            assert all(inside(x, y) for x, y in points if np.isfinite(y))
    top = figure.axes[0]
    low, high = top.get_ylim()
    assert high < 0
    middle = top.transData.inverted().transform(top.transAxes.transform((0.5, 0.5)))[1]
    assert middle == pytest.approx(-np.sqrt(low * high))
    assert 2 <= sum(low <= tick <= high for tick in top.get_yticks()) < 9


def test_returns_on_both_sides_of_0_have_no_logarithm(runs: dict[str, Path]) -> None:
    """If wrong: half the episodes are left out of a figure without a word."""
    with pytest.raises(UsageError, match=r"have no logarithmic axis.*all above 0, or all below"):
        distes.plot(runs["mixed"], log_y=True)


def test_nothing_to_scale_is_left_alone() -> None:
    """If wrong: a search without a width, or whose values are all NaN, ends in a traceback."""
    axes = make_figure(3).subplots()
    scale_logarithmically(axes.yaxis, np.array([np.nan, 0.0, np.inf]))
    assert axes.get_yscale() == "linear"


class Page(HTMLParser):
    """Collects what a page would load, its title, and what stands for its pictures."""

    def __init__(self) -> None:
        super().__init__()
        self.loaded: list[str] = []
        self.labels: list[str] = []
        self.tags: list[str] = []

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        given = dict(attrs)
        self.tags.append(tag)
        self.loaded += [given[key] for key in ("src", "href", "xlink:href") if key in given]
        if given.get("role") == "img":
            self.labels.append(given["aria-label"])


@pytest.mark.parametrize("over", [None, "parameters", "context"])
def test_a_page_needs_nothing_besides(
    runs: dict[str, Path], tmp_path: Path, over: str | None
) -> None:
    """If wrong: a page that is sent to somebody shows nothing, or nothing to who can't see."""
    title = 'a < b & "c"'
    pages = []
    for name in ("a.html", "b.html"):
        distes.plot(runs["cost"], tmp_path / name, over=over, title=title)
        pages.append((tmp_path / name).read_text(encoding="utf-8"))
    assert pages[0] == pages[1]
    page = Page()
    page.feed(pages[0])
    assert all(each.startswith("#") for each in page.loaded)
    assert "svg" in page.tags
    assert "script" not in page.tags
    (label,) = page.labels
    assert label.startswith(title)
    assert {None: "episode return over search episodes"}.get(over, "over mass $in$ kg") in label
    drawing = pages[0][pages[0].index("<svg") : pages[0].index("</svg>") + 6]
    assert ET.fromstring(drawing).tag.endswith("svg")  # noqa: S314 - ours


def test_axes_have_the_names_that_were_given(runs: dict[str, Path], tmp_path: Path) -> None:
    """If wrong: readers look up numbers; or a dollar sign ends in a traceback."""
    figure = distes.plot(runs["cost"], tmp_path / "a.png", over="parameters")
    assert [axes.get_ylabel() for axes in figure.axes] == ["left $wheel$", "right", "$"]
    assert {axes.get_xlabel() for axes in figure.axes} == {"mass $in$ kg"}
    figure = distes.plot(runs["cost"], tmp_path / "b.png", over="context")
    assert figure.axes[0].get_xlabel() == "mass $in$ kg"
    assert list(load(runs["cost"]).candidates(0))[-3:] == ["left $wheel$", "right", "$"]


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ("--size 9", "size 9 is not WIDTHxHEIGHT in inches, each from 3 to 50"),
        ("--size 9x1", "size 9x1 is not WIDTHxHEIGHT"),
        ("--size nanx5", "size nanx5 is not WIDTHxHEIGHT"),
        ("--size 9xhigh", "--size '9xhigh' is not WIDTHxHEIGHT in inches: for example 9x5"),
        ("--over returns --log-x", "log_x (--log-x) is of learning curves"),
        ("--out there.svg", "'there.svg' is there already"),
        ("--out x.htm", "unknown image format '.htm': did you mean '.html'?"),
    ],
)
def test_the_command_says_what_is_wrong(
    runs: dict[str, Path], tmp_path: Path, monkeypatch: Any, capfd: Any, flags: str, said: str
) -> None:
    """If wrong: a slip is answered by a traceback, or leaves a file behind."""
    monkeypatch.chdir(tmp_path)
    Path("there.svg").write_text("")
    assert main(["plot", str(runs["cost"]), "--out", "a.svg", *shlex.split(flags)]) == 2
    assert said in capfd.readouterr().err
    assert [each.name for each in tmp_path.iterdir()] == ["there.svg"]


def test_the_command_takes_all(runs: dict[str, Path], tmp_path: Path) -> None:
    """If wrong: what Python can draw, the command line can't."""
    file = tmp_path / "a.svg"
    file.write_text("")
    flags = shlex.split("--force --size 5X4 --title Mine --log-x --log-y --x env-steps")
    assert main(["plot", str(runs["cost"]), "--out", str(file), *flags]) == 0
    assert 'width="360pt" height="288pt"' in file.read_text()
