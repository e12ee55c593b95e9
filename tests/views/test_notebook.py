"""In a notebook: what runs, results and searches show there, and the example that is one."""

from __future__ import annotations

import base64
import io
import itertools
import json
import math
import re
import sys
import tempfile
import types
from pathlib import Path
from typing import Any

import environments
import gymnasium as gym
import numpy as np
import pytest
from pandas import DataFrame
from paths import ROOT
from PIL import Image
from searches import StopAt

import distes
from distes.errors import UsageError
from distes.population.statistics import Score
from distes.search.observer import Observer, in_notebook
from distes.search.search import Search
from distes.strategies import CEM
from distes.tasks.environment import Task
from distes.tasks.function import FunctionTask
from distes.views import formatters, notebook, scores
from distes.views.figures.learning_curves import draw_progress
from distes.views.figures.style import render_png
from distes.views.notebook import render_html
from distes.views.observers import notebook as live
from distes.views.report import describe_run

gym.register("notebook/Painted-v0", environments.painted)

NOTEBOOKS = sorted((ROOT / "examples" / "notebooks").glob("*.ipynb"))


def search(out: Path, task: Any, **changes: Any) -> Any:
    settings: dict[str, Any] = {"population": 8, "generations": 3, "seed": 5, "workers": 0}
    settings |= {"heldout_every": 2, "final_episodes": 3, "heldout_episodes": 3, "out": out}
    return Search(task, strategy=CEM(elite_fraction=0.5), **(settings | changes))


@pytest.fixture(scope="module")
def painted(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The result of a run whose episodes can be seen; to be read alone."""
    return search(tmp_path_factory.mktemp("runs") / "run", Task("notebook/Painted-v0")).run()


def embedded(html: str, kind: str) -> bytes:
    found = re.findall(rf'src="data:{kind};base64,([^"]+)"', html)
    assert len(found) == 1, html[:500]
    return base64.b64decode(found[0])


@pytest.mark.parametrize("of", ["run", "result"])
def test_a_run_shows_its_curve_facts_and_an_episode(of: str, painted: Any) -> None:
    result = painted
    html = render_html(result.run if of == "run" else result)
    with Image.open(io.BytesIO(embedded(html, "image/png"))) as image:
        assert image.width == pytest.approx(675, abs=5)
    assert embedded(html, "video/mp4")[4:8] == b"ftyp"
    for line in describe_run(result.path).splitlines():
        assert line.replace("&", "&amp;").replace("<", "&lt;").replace("'", "&#x27;") in html
    assert len(html) < 500_000


def test_a_terminal_shows_no_parameters(painted: Any) -> None:
    """There may be thousands."""
    said = repr(painted)
    assert said.startswith(f"Result(Score({painted.score.mean:.1f} ± ")
    assert f", 3 episodes), stopped='3 generations', deployed={painted.deployed!r}" in said
    assert "parameters" not in said


class Local(environments.Painted):
    """Can't be found by its name again."""


def test_a_result_shows_the_task_that_it_has(tmp_path: Path) -> None:
    """A task that is an object of the notebook is not in the log."""
    result = search(tmp_path / "run", Task(lambda render_mode=None: Local(render_mode))).run()
    assert embedded(render_html(result), "video/mp4")
    html = render_html(distes.load(result.path))
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
    # Whoever made it, a run that is only looked at imports nothing that it names.
    for shown, why in ((result, said), (distes.load(result.path), "would be imported for it")):
        html = render_html(shown)
        assert "no video: " in html
        assert why in html
        assert embedded(html, "image/png")


def test_showing_never_raises(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A notebook would show a traceback where a result was asked for."""
    result = search(tmp_path / "run", Task("notebook/Painted-v0")).run()
    run = distes.load(result.path)
    monkeypatch.setattr(notebook, "MAX_SECONDS", -1.0)
    assert "takes more than" in render_html(run)
    monkeypatch.undo()
    monkeypatch.setattr(notebook, "MAX_VIDEO_BYTES", 10)
    assert "distes replay" in render_html(run)
    monkeypatch.undo()
    monkeypatch.setitem(sys.modules, "imageio_ffmpeg", None)
    assert "distes[video]" in render_html(run)
    monkeypatch.undo()
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    html = render_html(run)
    assert "no curve: plots need matplotlib" in html
    assert "<video" in html
    monkeypatch.undo()
    for file in sorted(result.path.rglob("*"), reverse=True):
        file.unlink() if file.is_file() else file.rmdir()
    for shown in (result, run):
        html = render_html(shown)
        assert "no curve: " in html
        assert "no facts: " in html


def test_endless_episodes_are_cut_short(painted: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(notebook, "MAX_STEPS", 4)
    seen: list[int] = []
    watch_episodes = notebook.watch_episodes

    def noting(*arguments: Any) -> Any:
        answer = watch_episodes(*arguments)
        seen.extend(answer.episodes.episode_length)
        return answer

    monkeypatch.setattr(notebook, "watch_episodes", noting)
    assert "<video" in render_html(painted)
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


def picture(bundle: Any) -> Any:
    with Image.open(io.BytesIO(base64.b64decode(bundle["image/png"]))) as image:
        return image.size


@pytest.mark.parametrize("resumes", [False, True], ids=["whole", "resumed"])
def test_a_search_in_a_notebook_shows_a_live_curve(
    tmp_path: Path, kernel: Handle, monkeypatch: pytest.MonkeyPatch, resumes: bool
) -> None:
    """The last picture is the one that stays in the notebook: it must hold the whole run."""
    drawn: list[Any] = []

    def noting(rows: Any, heldout: Any, heading: str, target: Any) -> Any:
        drawn.append((rows, dict(heldout), heading))
        return draw_progress(rows, heldout, heading, target)

    monkeypatch.setattr(live, "MIN_SECONDS", 0.0)
    monkeypatch.setattr(live, "MAX_SHARE", math.inf)
    monkeypatch.setattr(live, "draw_progress", noting)
    begun = search(tmp_path / "run", Task(environments.painted))
    if resumes:
        with pytest.raises(KeyboardInterrupt):
            search(begun.out, begun.task, observers=(StopAt(1),)).run()
    result = begun.proceed() if resumes else begun.run()
    counts = [len(rows) for rows, *_ in drawn]
    assert counts == ([2, 3, 3] if resumes else [1, 2, 3, 3])
    assert [("image/png" in each) for each in kernel.shown] == [
        resumes,
        *[True] * (len(counts) - resumes),
    ]
    rows, heldout, heading = drawn[-1]
    logged = result.run.generations
    np.testing.assert_array_equal(rows["episode_return_mean"], logged["episode_return_mean"])
    held = scores.score_heldout(result.run)
    assert heldout == {1: held[1]}
    assert picture(kernel.shown[-1])[0] == pytest.approx(675, abs=5)
    text = kernel.shown[-1]["text/plain"]
    assert heading.splitlines()[1:] == text.splitlines()[1:]
    assert text.startswith(f"{tmp_path / 'run'}\ngeneration    2  mean ")
    assert "stopped: 3 generations\nscore: " in text


def test_without_matplotlib_a_line_changes(
    tmp_path: Path, kernel: Handle, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    search(tmp_path / "run", Task(environments.painted)).run()
    assert len(kernel.shown) >= 2
    assert {name for each in kernel.shown for name in each} == {"text/plain"}


def test_drawing_takes_a_small_share_of_the_time(
    tmp_path: Path, kernel: Handle, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A picture a generation would take longer than the search."""
    now = itertools.count()
    clock = types.SimpleNamespace(monotonic=lambda: next(now) / 2)
    monkeypatch.setattr(live, "time", clock)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    search(tmp_path / "run", Task(environments.painted), generations=29).run()
    # Half a second each, so that five seconds pass to the next, half a second a generation.
    assert len(kernel.shown) == 1 + 2 + 1


def test_those_who_are_told_see_for_themselves(tmp_path: Path, kernel: Handle) -> None:
    search(tmp_path / "run", Task(environments.painted), observers=(Observer(),)).run()
    assert kernel.shown == []


@pytest.mark.parametrize("shell", [None, types.SimpleNamespace()], ids=["no shell", "terminal"])
def test_elsewhere_there_is_no_live_curve(shell: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """IPython's terminal shows no pictures; a script may import IPython."""
    ipython: Any = types.ModuleType("IPython")
    ipython.get_ipython = lambda: shell
    monkeypatch.setitem(sys.modules, "IPython", ipython)
    assert not in_notebook()
    monkeypatch.delitem(sys.modules, "IPython")
    assert not in_notebook()


def test_the_picture_survives_any_figures() -> None:
    """NaN has no place on an axis, and may be all that there is."""
    nan = float("nan")
    quantiles = {f"episode_return_{name}": nan for name in ("mean", "q05", "q25", "q75", "q95")}
    row = {"generation": 0, "episodes": 8, **quantiles}
    score = Score(mean=nan, std=nan, low=nan, high=nan, episodes=0, failed=3)
    for rows in ([row], [row, row | {"generation": 1, "episode_return_mean": -1e9}]):
        figure = draw_progress(DataFrame(rows), {0: score}, "a <run> & $more\n", target=4.0)
        assert render_png(figure).startswith(b"\x89PNG")


def test_the_live_curve_says_that_it_needs_a_notebook(tmp_path: Path) -> None:
    """Where IPython shows nothing it would print, again and again."""
    with pytest.raises(UsageError, match="in a notebook alone"):
        live.LiveCurve().started(Any, tmp_path, None)


class Shown:
    """Stands for the shell, with formatters as IPython makes them."""

    def __init__(self) -> None:
        from IPython.core.formatters import DisplayFormatter

        self.display_formatter = DisplayFormatter()


@pytest.mark.slow
def test_ipython_finds_how_runs_and_results_are_shown(
    painted: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Classes that moved would be shown as bare text, without a word."""
    shell = Shown()
    monkeypatch.setattr(sys.modules["IPython"], "get_ipython", lambda: shell)
    formatters.register_formatters()
    monkeypatch.setattr(notebook, "render_html", lambda shown: f"<b>{shown.path}</b>")
    for shown in (painted, painted.run):
        bundle, _ = shell.display_formatter.format(shown)
        assert bundle == {"text/html": f"<b>{painted.path}</b>", "text/plain": repr(shown)}


def test_there_is_a_notebook() -> None:
    assert [path.name for path in NOTEBOOKS] == ["cem_to_deep_cem.ipynb"]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_notebooks_are_kept_with_their_outputs(path: Path) -> None:
    """Read where they can't be run; small enough for a repository, and of no machine."""
    text = path.read_text(encoding="utf-8")
    assert len(text) < 1_000_000
    assert "/tmp" not in text  # noqa: S108
    assert "/home" not in text
    cells = [c for c in json.loads(text)["cells"] if c["cell_type"] == "code"]
    assert [c["execution_count"] for c in cells] == list(range(1, len(cells) + 1))
    kinds = [kind for c in cells for o in c["outputs"] for kind in o.get("data", {})]
    assert {"text/html", "image/png"} <= set(kinds)


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_notebooks_run(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Cell by cell, in a kernel that is reached through files, by nobody else."""
    import nbclient
    import nbformat
    from jupyter_client import AsyncKernelManager

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
            # Kernels that are not compiled yet are announced on stderr.
            kinds = [o.output_type for o in now.outputs if o.get("name") != "stderr"]
            assert kinds == [o.output_type for o in before.outputs]
    shown = [o.data for c in book.cells for o in c.get("outputs", []) if "data" in o]
    html = "".join(data.get("text/html", "") for data in shown)
    assert embedded(html, "video/mp4")
    said = "".join(o.text for c in book.cells for o in c.get("outputs", []) if "text" in o)
    assert ", as logged, " in said
    assert (tmp_path / "runs").is_dir()
