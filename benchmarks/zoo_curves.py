"""Draw the curves of zoo.py: held-out return against environment steps, a panel for each task.

Lines are medians over seeds, bands their quartiles; a seed that has reached its threshold keeps
its last score. Peers are dashed.

    python benchmarks/zoo_curves.py docs/zoo.png [--runs benchmarks/results/zoo_runs.json]
        [--tasks CartPole-v1 ...] [--entries cmaes package-cma ...]
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from common import RESULTS
from zoo import ENTRIES, TASKS, group

from distes.views.figures.style import COLOURS, GREY, STYLE, count_columns, format_axis_number

SPACE = 0.12
"""Least distance of two labels, as a share of a panel's height."""


def draw(axes: Any, task: str, rows: list[dict[str, Any]], colours: dict[str, str]) -> None:
    """Draw the entries of a task."""
    threshold = TASKS[task].threshold
    ends, shown = [], [threshold]
    for seeds in group(rows, "entry"):
        name, curves = seeds[0]["entry"], [row["curve"] for row in seeds if row["curve"]]
        if not curves:
            continue
        first, last = min(c[0][0] for c in curves), max(c[-1][0] for c in curves)
        steps = np.geomspace(first, last, 200).clip(first, last)
        scores = [np.interp(steps, *np.transpose(curve), left=np.nan) for curve in curves]
        low, middle, high = np.nanquantile(scores, (0.25, 0.5, 0.75), axis=0)
        axes.fill_between(steps, low, high, color=colours[name], alpha=0.15, lw=0)
        axes.plot(steps, middle, color=colours[name], ls="--" if seeds[0]["peer"] else "-")
        axes.plot(last, middle[-1], "o", color=colours[name], ms=4.5)
        ends.append((middle[-1], -last, name))
        shown += [*middle]
    axes.axhline(threshold, color=GREY, lw=1, ls=":")
    axes.set(title=f"{task}, {format_axis_number(threshold)}", xscale="log")
    margin = 0.06 * (max(shown) - min(shown))
    axes.set_ylim(min(shown) - margin, max(shown) + margin)
    axes.yaxis.set_major_formatter(lambda value, _: format_axis_number(value))
    label(axes, sorted(ends), colours)


def label(axes: Any, ends: list[tuple[float, float, str]], colours: dict[str, str]) -> None:
    """Name lines right of a panel, lowest first, as near to their ends as there is room."""
    low, high = axes.get_ylim()
    heights = [(end - low) / (high - low) for end, _, _ in ends]
    top = 1.0
    for place in reversed(range(len(heights))):
        heights[place] = top = min(heights[place], top)
        top -= SPACE
    for place, (_, _, name) in enumerate(ends):
        heights[place] = max(heights[place], heights[place - 1] + SPACE if place else 0.0)
        axes.annotate(
            name,
            (1.03, heights[place]),
            xycoords="axes fraction",
            color=colours[name],
            va="center",
            fontsize=10,
        )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("figure", type=Path)
    parser.add_argument("--runs", type=Path, default=RESULTS / "zoo_runs.json", metavar="FILE")
    parser.add_argument("--tasks", nargs="+", default=list(TASKS), choices=TASKS)
    parser.add_argument("--entries", nargs="+", default=list(ENTRIES), choices=ENTRIES)
    given = parser.parse_args()
    rows = [
        row
        for row in json.loads(given.runs.read_text())
        if row["task"] in given.tasks and row["entry"] in given.entries
    ]
    if not rows:
        parser.error(f"{given.runs} has no such runs")
    names = [name for name in ENTRIES if any(row["entry"] == name for row in rows)]
    if len(names) > len(COLOURS):
        parser.error(f"{len(names)} entries are too many: name at most {len(COLOURS)}")
    colours = dict(zip(names, COLOURS, strict=False))
    tasks = group(rows, "task")
    columns = count_columns(len(tasks))
    lines = -(-len(tasks) // columns)
    with plt.rc_context(STYLE | {"axes.xmargin": 0.03, "axes.titlesize": 11}):
        size = (4.6 * columns, 3.1 * lines)
        figure, panels = plt.subplots(lines, columns, figsize=size, squeeze=False)
        for axes in panels.flat[len(tasks) :]:
            axes.remove()
        for axes, own in zip(panels.flat, tasks, strict=False):
            draw(axes, own[0]["task"], own, colours)
        figure.supxlabel("environment steps (logarithmic)", fontsize=11)
        figure.supylabel("held-out return; dotted: threshold", fontsize=11)
        figure.savefig(given.figure, dpi=110)


if __name__ == "__main__":
    main()
