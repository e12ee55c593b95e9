"""A run as a notebook shows it: its curve, its facts, and an episode of its policy."""

from __future__ import annotations

import base64
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from html import escape
from pathlib import Path
from typing import Any

from distes.errors import UsageError
from distes.population.records import Purpose
from distes.runs.reader import Run, load
from distes.search.config_file import from_config
from distes.search.result import Result
from distes.search.settings import Settings
from distes.search.solution import read_solution
from distes.search.trust import list_code
from distes.types import Array
from distes.views.figures.learning_curves import LearningCurves
from distes.views.figures.style import render_png
from distes.views.replay.recording import Camera, find_rendering
from distes.views.replay.replay import watch_episodes
from distes.views.replay.video import Limits, Video, locate_video
from distes.views.report import describe_run

LIMITS = Limits(fps=30, frames=600, side=480)
"""Of a video within a notebook: 20 s, mostly less than 100 kB."""

MAX_VIDEO_BYTES = 500_000
MAX_STEPS = 1_000
MAX_SECONDS = 20.0
"""For an episode; a slower environment is not waited for."""


def render_html(shown: Run | Result) -> str:
    """Show a run or a result; what can't be shown says why, and nothing is raised.

    Args:
        shown: of a run in progress, as far as it is.
    """
    path = shown.path
    parts = [
        _render_part("curve", lambda: _render_curve(path)),
        _render_part("facts", lambda: f"<pre>{escape(describe_run(path))}</pre>"),
        _render_part("video", lambda: _render_video(shown)),
    ]
    return f"<div>{''.join(parts)}</div>"


def _render_part(name: str, make: Callable[[], str]) -> str:
    try:
        return make()
    except Exception as error:  # noqa: BLE001 - to look at a run must never fail
        reason = str(error) if isinstance(error, UsageError) else f"{type(error).__name__}: {error}"
        return f"<p><small>no {name}: {escape(' '.join(reason.split())[:300])}</small></p>"


def _render_curve(path: Any) -> str:
    image = render_png(LearningCurves().draw([load(path)]))
    encoded = base64.b64encode(image).decode("ascii")
    return f'<img alt="learning curve" src="data:image/png;base64,{encoded}"/>'


def _render_video(shown: Run | Result) -> str:
    if isinstance(shown, Result):
        search, solution = shown.search, shown.solution
    else:
        # Read anew: a run that is looked at may be in progress.
        run = load(shown.path)
        if code := list_code(run.config):
            names = ", ".join(map(repr, code))
            raise UsageError(f"{names} would be imported for it: distes replay does that")
        search, solution = from_config(run.config["search"], Settings), read_solution(run)
    how = find_rendering(search.resolved_task, "rgb_array")
    steps = min(filter(None, [MAX_STEPS, solution.max_steps]))
    solution = replace(solution, episodes=1, purpose=Purpose.TEST, max_steps=steps)
    every = how.count_steps_per_frame(LIMITS.fps)
    fps = how.fps / every
    end = time.monotonic() + MAX_SECONDS
    with tempfile.TemporaryDirectory(prefix="distes-") as folder:
        place = locate_video(Path(folder) / "episode.mp4")
        with Video(place, fps, LIMITS) as film:

            def add(frame: Array, caption: str, times: int) -> bool:
                if time.monotonic() > end:
                    raise UsageError(f"the episode takes more than {MAX_SECONDS:g} s")
                return film.add(frame, caption, times)

            camera = Camera(add, fps, every, 1)
            watch_episodes(search.resolved_task, how, search.built_policy(), solution, camera)
        data = place.read_bytes() if film.frames else b""
    if not data:
        raise UsageError("the episode fails before its first frame")
    if len(data) > MAX_VIDEO_BYTES:
        raise UsageError(f"it takes {len(data):,} bytes: distes replay writes it into a file")
    source = f"data:video/mp4;base64,{base64.b64encode(data).decode('ascii')}"
    return f'<video controls loop muted width="480" src="{source}"></video>'
