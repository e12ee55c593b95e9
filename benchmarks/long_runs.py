"""What a long run costs its readers: files, memory, seconds.

A log of many commits is written by the writer itself, with generations that were never run:
eight candidates, two episodes each, a held-out score of four episodes every other generation,
one commit a generation. Then processes of their own read it: `distes info`, all episodes as
a frame, one column of them in batches, and a resume.

    python benchmarks/long_runs.py --commits 10000
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from common import keep, options

sys.path.append(str(Path(__file__).parents[1] / "tests" / "support"))
from run_logs import evaluated, population, snapshot

from distes.population.distributions import Point
from distes.population.records import Population, Purpose, RunKey
from distes.population.statistics import summarise_generation
from distes.runs.writer import RunLog

CONFIG = {"search": {"function": "<sphere>", "seed": 0}, "engine": "function"}
FIGURES = {
    **dict.fromkeys(("ask_s", "run_s", "tell_s", "log_s", "utilisation", "elapsed_s"), 0.5),
    **dict.fromkeys(("workers", "chunks", "retries", "duplicates"), 0),
}
READERS = {
    "distes info": "from distes.cli import main; main(['info', {path!r}])",
    "all episodes": "import distes; len(distes.load({path!r}).episodes)",
    "returns, in batches": (
        "import distes; [each for each in "
        "distes.load({path!r}).iterate('episodes', columns=['episode_return'])]"
    ),
    "resume": "from distes.runs.writer import RunLog; RunLog.resume({path!r})[0].close()",
}
MEASURED = """
import json, re, sys, time
sys.path.insert(0, {support!r})
import run_logs  # whose class is in the snapshots
import distes, distes.cli, distes.runs.writer, distes.views.report
def peak():  # of this program alone: getrusage has what its parent had, too
    return int(re.search(r"VmHWM:\\s+(\\d+)", open("/proc/self/status").read())[1]) / 1024
before, began = peak(), time.perf_counter()
{work}
print(json.dumps([time.perf_counter() - began, before, peak()]), file=sys.stderr)
"""


def write_run(path: Path, commits: int) -> float:
    """Write a log; gives the writer's seconds a commit."""
    held = Population(Point(np.ones(2)), 1, 4, purpose=Purpose.HELDOUT)
    log = RunLog.create(path, CONFIG, interval_s=0)
    began = time.perf_counter()
    for generation in range(commits):
        key, asked = RunKey(0, generation), population(generation, 8)
        answer = evaluated(key, asked)
        row = {**summarise_generation(asked, answer.episodes), **FIGURES}
        log.add_generation(row, key, asked, answer)
        if generation % 2:
            again = RunKey(0, generation, 1)
            log.add_evaluation(again, held, evaluated(again, held))
        log.commit(snapshot(generation + 1), now=True)
    log.close()
    return (time.perf_counter() - began) / commits


def read_run(work: str, path: Path) -> dict[str, Any]:
    """Read a run in a process of its own: seconds, and its peak memory after imports and in all."""
    code = MEASURED.format(support=sys.path[-1], work=work.format(path=str(path)))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    seconds, before_mb, peak_mb = json.loads(done.stderr.splitlines()[-1])
    return {"s": seconds, "imports_mb": before_mb, "peak_mb": peak_mb}


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("--commits", type=int, default=10_000)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "x"
        writing_s = write_run(path, given.commits)
        files = sum(each.is_file() for each in path.rglob("*"))
        rows = [{"reader": name, **read_run(work, path)} for name, work in READERS.items()]
    about = {"commits": given.commits, "files": files, "ms_per_commit": 1e3 * writing_s}
    keep("long_runs", [{**about, **row} for row in rows], given.out)


if __name__ == "__main__":
    main()
