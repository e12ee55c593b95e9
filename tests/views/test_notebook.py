"""In a notebook: what runs, results and searches show there, and the example that is one."""

from __future__ import annotations

import base64
import io
import re
import sys
import tempfile
import types
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import environments
import nbclient
import nbformat
import numpy as np
import pytest
from jupyter_client import AsyncKernelManager
from paths import ROOT
from PIL import Image

import distes
from distes import inline
from distes.search.observer import Observer
from distes.search.search import Search
from distes.strategies import CEM
from distes.tasks.base import FunctionTask, Task
from distes.views import notebook
from distes.views.observers.notebook import LiveCurve, svg
from distes.views.report import describe_run

NOTEBOOKS = sorted((ROOT / "examples" / "notebooks").glob("*.ipynb"))


def search(out: Path, task: Any, **changes: Any) -> Any:
    settings: dict[str, Any] = {"population": 8, "generations": 3, "seed": 5, "workers": 0}
    settings |= {"heldout_every": 2, "final_episodes": 3, "heldout_episodes": 3, "out": out}
    return Search(task, strategy=CEM(elite_fraction=0.5), **(settings | changes))


def embedded(html: str, kind: str) -> bytes:
    found = re.findall(rf'src="data:{kind};base64,([^"]+)"', html)
    assert len(found) == 1, html[:500]
    return base64.b64decode(found[0])


@pytest.mark.parametrize("of", ["run", "result"])
def test_a_run_shows_its_curve_facts_and_an_episode(of: str, tmp_path: Path) -> None:
    result = search(tmp_path / "run", Task(environments.painted)).run()
    html = (distes.load(result.path) if of == "run" else result)._repr_html_()
    with Image.open(io.BytesIO(embedded(html, "image/png"))) as image:
        assert image.width == pytest.approx(675, abs=5)
    assert embedded(html, "video/mp4")[4:8] == b"ftyp"
    for line in describe_run(result.path).splitlines():
        assert line.replace("&", "&amp;").replace("<", "&lt;").replace("'", "&#x27;") in html
    assert len(html) < 500_000


def test_a_terminal_shows_no_parameters(tmp_path: Path) -> None:
    """There may be thousands."""
    result = search(tmp_path / "run", Task(environments.painted)).run()
    score = f"{result.score.mean:.6g}"
    path = str(tmp_path / "run")
    assert repr(result) == f"Result(score={score}, stopped='3 generations', path={path!r})"


class Local(environments.Painted):
    """Can't be found by its name again."""


def test_a_result_shows_the_task_that_it_has(tmp_path: Path) -> None:
    """A task that is an object of the notebook is not in the log."""
    result = search(tmp_path / "run", Task(lambda render_mode=None: Local(render_mode))).run()
    assert embedded(result._repr_html_(), "video/mp4")
    html = distes.load(result.path)._repr_html_()
    assert "<video" not in html
    assert "no video: " in html


@pytest.mark.parametrize(
    ("task", "said"),
    [
        (FunctionTask(environments.sphere, 2), "is a function of the parameters"),
        (Task(environments.windy), "does not render"),
        (Task(environments.Smudged), "the canvas is wet"),
    ],
    ids=["function", "no rendering", "failing"],
)
def test_what_can_not_be_seen_says_why(task: Any, said: str, tmp_path: Path) -> None:
    result = search(tmp_path / "run", task).run()
    for shown in (result, distes.load(result.path)):
        html = shown._repr_html_()
        assert "no video: " in html
        assert said in html
        assert embedded(html, "image/png")


def test_showing_never_raises(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A notebook would show a traceback where a result was asked for."""
    result = search(tmp_path / "run", Task(environments.painted)).run()
    run = distes.load(result.path)
    monkeypatch.setattr(notebook, "MAX_SECONDS", -1.0)
    assert "takes more than" in run._repr_html_()
    monkeypatch.undo()
    monkeypatch.setattr(notebook, "MAX_VIDEO_BYTES", 10)
    assert "distes replay" in run._repr_html_()
    monkeypatch.undo()
    monkeypatch.setitem(sys.modules, "imageio_ffmpeg", None)
    assert "distes[video]" in run._repr_html_()
    monkeypatch.undo()
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    html = run._repr_html_()
    assert "no curve: plots need matplotlib" in html
    assert "<video" in html
    monkeypatch.undo()
    for file in sorted(result.path.rglob("*"), reverse=True):
        file.unlink() if file.is_file() else file.rmdir()
    for shown in (result, run):
        html = shown._repr_html_()
        assert "no curve: " in html
        assert "no facts: " in html


def test_endless_episodes_are_cut_short(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(notebook, "MAX_STEPS", 4)
    seen: list[int] = []
    watch_episodes = notebook.watch_episodes

    def noting(*arguments: Any) -> Any:
        answer = watch_episodes(*arguments)
        seen.extend(answer.episodes.episode_length)
        return answer

    monkeypatch.setattr(notebook, "watch_episodes", noting)
    result = search(tmp_path / "run", Task(environments.painted)).run()
    assert "<video" in result._repr_html_()
    assert seen == [4]


class Handle:
    """What IPython gives for a display that can be updated."""

    def __init__(self) -> None:
        self.shown: list[Any] = []

    def update(self, bundle: Any, raw: bool) -> None:
        assert raw
        self.shown.append(bundle)


@pytest.fixture
def kernel(monkeypatch: pytest.MonkeyPatch) -> Handle:
    """Make this process look like a notebook's kernel."""
    handle = Handle()

    def display(bundle: Any, raw: bool, display_id: bool) -> Handle:
        assert display_id
        handle.update(bundle, raw)
        return handle

    shell = types.SimpleNamespace(kernel=object())
    ipython: Any = types.ModuleType("IPython")
    ipython.get_ipython = lambda: shell
    ipython.display = types.ModuleType("IPython.display")
    ipython.display.display = display
    monkeypatch.setitem(sys.modules, "IPython", ipython)
    monkeypatch.setitem(sys.modules, "IPython.display", ipython.display)
    return handle


def test_a_search_in_a_notebook_shows_a_live_curve(
    tmp_path: Path, kernel: Handle, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("distes.views.observers.notebook.SECONDS", 0.0)
    result = search(tmp_path / "run", Task(environments.painted)).run()
    assert len(kernel.shown) == 1 + 3 + 1
    rows = result.run.generations
    counts = []
    for bundle in kernel.shown:
        root = ElementTree.fromstring(bundle["image/svg+xml"])  # noqa: S314 - our own
        lines = [e.get("points", "").split() for e in root.iter() if e.tag.endswith("polyline")]
        counts.append([len(line) for line in lines])
    assert counts == [[], [], [2] * 3, [3] * 3, [3] * 3]
    last = kernel.shown[-1]
    assert str(tmp_path / "run") in last["image/svg+xml"]
    assert "stopped: 3 generations\nscore: " in last["text/plain"]
    assert f"mean {rows['episode_return_mean'].iloc[-1]:8.4g}"[:12] in last["text/plain"]


def test_those_who_are_told_see_for_themselves(tmp_path: Path, kernel: Handle) -> None:
    search(tmp_path / "run", Task(environments.painted), observers=(Observer(),)).run()
    assert kernel.shown == []


def test_a_display_that_fails_does_not_stop_a_search(
    tmp_path: Path, kernel: Handle, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any, **__: Any) -> Any:
        raise OSError("the browser is gone")

    monkeypatch.setattr(sys.modules["IPython.display"], "display", broken)
    result = search(tmp_path / "run", Task(environments.painted)).run()
    assert len(result.run.generations) == 3


@pytest.mark.parametrize("shell", [None, types.SimpleNamespace()], ids=["no shell", "terminal"])
def test_elsewhere_there_is_no_live_curve(shell: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """IPython's terminal shows no pictures; a script may import IPython."""
    ipython: Any = types.ModuleType("IPython")
    ipython.get_ipython = lambda: shell
    monkeypatch.setitem(sys.modules, "IPython", ipython)
    assert not inline.in_notebook()
    monkeypatch.delitem(sys.modules, "IPython")
    assert not inline.in_notebook()


def test_the_picture_survives_any_figures() -> None:
    """NaN has no place on an axis; text may hold what XML reserves."""
    nan = float("nan")
    for curves, scores in (
        ({"mean": [], "elite": [], "best": []}, []),
        ({"mean": [(1.0, nan)], "elite": [], "best": [(1.0, nan)]}, [(1.0, nan)]),
        ({"mean": [(1.0, 5.0)], "elite": [], "best": [(1.0, 5.0)]}, []),
        ({"mean": [(float(i), -1e9 * i) for i in range(1, 9_000)]}, [(5.0, 1.0)]),
    ):
        text = svg(curves, scores, ["a <run> & more", ""], target=4.0)
        ElementTree.fromstring(text)  # noqa: S314
        assert "nan" not in text
        assert len(text) < 12_000


def test_heights_are_those_of_the_returns() -> None:
    text = svg({"mean": [(1.0, 0.0), (2.0, 5.0), (3.0, 10.0)]}, [(2.0, 5.0)], ["", ""], target=10.0)
    root = ElementTree.fromstring(text)  # noqa: S314
    (line,) = (e for e in root.iter() if e.tag.endswith("polyline"))
    points = np.array([p.split(",") for p in line.get("points", "").split()], dtype=float)
    assert np.ptp(np.diff(points[:, 0])) < 0.2
    assert points[0, 1] - points[1, 1] == pytest.approx(points[1, 1] - points[2, 1], abs=0.2)
    (dot,) = (e for e in root.iter() if e.tag.endswith("circle"))
    assert float(dot.get("cy", "")) == points[1, 1]
    dashed = [e for e in root.iter() if e.get("stroke-dasharray")]
    assert [float(e.get("y1", "")) for e in dashed] == [points[2, 1]]


def test_the_curve_starts_without_a_kernel() -> None:
    """An observer may be made anywhere; where nothing can be shown, it is silent."""
    LiveCurve().generation({"generation": 0, "episode_return_mean": 1.0, "episode_return_max": 2.0})


def test_there_is_a_notebook() -> None:
    assert [path.name for path in NOTEBOOKS] == ["cem_to_deep_cem.ipynb"]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_notebooks_are_kept_with_their_outputs(path: Path) -> None:
    """Read where they can't be run; small enough for a repository, and of no machine."""
    text = path.read_text(encoding="utf-8")
    assert len(text) < 1_000_000
    assert "/tmp" not in text  # noqa: S108
    assert "/home" not in text
    cells = [c for c in nbformat.reads(text, 4).cells if c.cell_type == "code"]
    assert [c.execution_count for c in cells] == list(range(1, len(cells) + 1))
    kinds = [kind for c in cells for o in c.outputs for kind in o.get("data", {})]
    assert {"image/svg+xml", "text/html", "image/png"} <= set(kinds)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_notebooks_run(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Cell by cell, in a kernel that is reached through files, by nobody else."""
    kept = nbformat.read(path, 4)
    book = nbformat.read(path, 4)
    for cell in book.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    with tempfile.TemporaryDirectory(prefix="k", dir="/tmp") as sockets:
        monkeypatch.setenv("JUPYTER_RUNTIME_DIR", sockets)
        manager = AsyncKernelManager(kernel_name="python3", transport="ipc", ip=f"{sockets}/k")
        client = nbclient.NotebookClient(
            book, km=manager, timeout=300, resources={"metadata": {"path": str(tmp_path)}}
        )
        client.execute()
    for now, before in zip(book.cells, kept.cells, strict=True):
        if now.cell_type == "code":
            assert [o.output_type for o in now.outputs] == [o.output_type for o in before.outputs]
    shown = [o.data for c in book.cells for o in c.get("outputs", []) if "data" in o]
    html = "".join(data.get("text/html", "") for data in shown)
    assert embedded(html, "video/mp4")
    said = "".join(o.text for c in book.cells for o in c.get("outputs", []) if "text" in o)
    assert ", as logged, " in said
    assert (tmp_path / "runs").is_dir()
