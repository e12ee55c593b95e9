"""What the benchmarks share: pairs in turn, medians, the machine, a kept table."""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import ray
from rich.console import Console
from rich.table import Table

RESULTS = Path(__file__).parent / "results"


def machine() -> dict[str, Any]:
    """Describe what the figures were taken on."""
    model = platform.processor()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        lines = cpuinfo.read_text().splitlines()
        model = next((x.split(":", 1)[1].strip() for x in lines if x.startswith("model name")), "")
    return {
        "processor": model,
        "cores": os.cpu_count(),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "numpy": np.__version__,
        "gymnasium": gymnasium.__version__,
        "ray": ray.__version__,
        "date": time.strftime("%Y-%m-%d"),
    }


def options(text: str | None) -> argparse.ArgumentParser:
    """Make the parser that every benchmark begins with: help, and where its table is kept.

    Args:
        text: the benchmark's docstring.
    """
    parser = argparse.ArgumentParser(
        description=text, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--out",
        type=Path,
        metavar="FOLDER",
        help="keep the table there, for example benchmarks/results; without it, print it alone",
    )
    return parser


def seconds(work: Callable[[], object]) -> float:
    """Time one call."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def in_turn(first: Callable[[], object], second: Callable[[], object], pairs: int) -> list[Any]:
    """Time two pieces of work in turn, the order swapped every time.

    Returns:
        (seconds of the first, seconds of the second) of each pair.
    """
    first()
    second()
    timed = []
    for pair in range(pairs):
        if pair % 2:
            b, a = seconds(second), seconds(first)
        else:
            a, b = seconds(first), seconds(second)
        timed.append((a, b))
    return timed


def ratio(pairs: list[Any]) -> dict[str, float]:
    """Second over first, pair by pair: how many times as fast the first is."""
    ratios = sorted(b / a for a, b in pairs)
    quarter = len(ratios) // 4
    return {
        "ratio_median": statistics.median(ratios),
        "ratio_q25": ratios[quarter],
        "ratio_q75": ratios[-1 - quarter],
        "pairs": len(ratios),
    }


def keep(name: str, rows: list[dict[str, Any]], out: Path | None) -> None:
    """Print a table, and keep it with the machine's description where a folder is given."""
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
        text = json.dumps({"machine": machine(), "rows": rows}, indent=2)
        (out / f"{name}.json").write_text(text + "\n")
    table = Table(title=name)
    for column in rows[0]:
        table.add_column(column)
    for row in rows:
        table.add_row(*(f"{v:.4g}" if isinstance(v, float) else str(v) for v in row.values()))
    console = Console(width=160)
    console.print(table)
    console.print(", ".join(f"{k} {v}" for k, v in machine().items()))
