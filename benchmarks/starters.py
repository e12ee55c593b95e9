"""Several starters of one run at once: is each episode in its log exactly once?

A round is some processes that begin `distes run … --resume-if-exists --out X` within
milliseconds of each other, for an X that does not exist. One of them writes; the others are
refused, go on with the run, or give its result. Then rows of the log are compared with those
of a run that was alone: a row too many is doubled, one too few is lost. In a bucket the
server is on this machine's loopback.

    python benchmarks/starters.py [--rounds N] [--bucket] [--starters N] [--out benchmarks/results]
"""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).parents[1] / "tests" / "support"))

from common import keep, options
from object_stores import Server

import distes

SEARCH = [
    *("CartPole-v1", "--workers", "0", "--engine", "loop"),
    *("--strategy", "cem", "--population", "20"),
    *("--generations", "3", "--heldout-every", "1", "--heldout-episodes", "5"),
    *("--final-episodes", "50", "--target", "1e9"),
]
TRIES = 4
"""Of the same command, as whatever retries a job would make them until one says done."""


def start(out: str) -> subprocess.Popen[bytes]:
    """Begin one starter."""
    command = [sys.executable, "-m", "distes", "run", *SEARCH, "--resume-if-exists", "--out", out]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)


def count_rows(out: str) -> Counter[tuple[Any, ...]]:
    """Count a run's rows by what they stand for."""
    run = distes.load(out)
    counts: Counter[tuple[Any, ...]] = Counter()
    for name, table, keys in (
        ("generations", run.generations, ["generation"]),
        ("episodes", run.episodes, ["generation", "candidate", "episode"]),
        ("evaluations", run.evaluations, ["purpose", "generation", "call", "candidate", "episode"]),
    ):
        counts.update((name, *row) for row in table[keys].itertuples(index=False, name=None))
    return counts


def play(out: str, starters: int, alone: Counter[tuple[Any, ...]]) -> dict[str, Any]:
    """Play one round."""
    children = [start(out) for _ in range(starters)]
    errors = [child.communicate()[1].decode() for child in children]
    codes = [child.returncode for child in children]
    for _ in range(TRIES):
        if 0 in codes:
            break
        again = start(out)
        errors.append(again.communicate()[1].decode())
        codes.append(again.returncode)
    found = count_rows(out)
    return {
        "doubled": (found - alone).total(),
        "lost": (alone - found).total(),
        "done": codes.count(0),
        "refused": codes.count(2),
        "other exit codes": len(codes) - codes.count(0) - codes.count(2),
        "tracebacks": sum("Traceback" in each for each in errors),
    }


@contextmanager
def bucket() -> Iterator[str]:
    """Serve a bucket that this process and its children reach; gives its URI."""
    logging.getLogger("werkzeug").setLevel(logging.ERROR)  # a line a request
    server = Server()
    os.environ |= {
        "AWS_ENDPOINT_URL": server.endpoint,
        "AWS_ACCESS_KEY_ID": "k",
        "AWS_SECRET_ACCESS_KEY": "s",
        "AWS_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
    }
    server.client().create_bucket(Bucket="starters")
    try:
        yield "s3://starters"
    finally:
        server.close()


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("--rounds", type=int, default=200, metavar="N", help="how many (200)")
    parser.add_argument("--starters", type=int, default=3, metavar="N", help="of a round (3)")
    parser.add_argument("--bucket", action="store_true", help="in a bucket instead of a folder")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        os.environ["XDG_STATE_HOME"] = folder  # the key that runs are signed with
        if given.bucket:
            with bucket() as place:
                rounds = play_rounds(place, Path(folder), given)
        else:
            rounds = play_rounds(folder, Path(folder), given)
    total: Counter[str] = Counter()
    for each in rounds:
        total.update(each)
    names = ("doubled", "lost", "done", "refused", "other exit codes", "tracebacks")
    row = {
        "where": "bucket" if given.bucket else "folder",
        "rounds": len(rounds),
        "starters": given.starters,
        **{name: total[name] for name in names},
        "rounds with a fault": sum(bool(each["doubled"] or each["lost"]) for each in rounds),
        "seconds": round(total["seconds"], 1),
    }
    keep("starters_bucket" if given.bucket else "starters", [row], given.out)
    if row["doubled"] or row["lost"]:
        sys.exit("rows were doubled or lost")


def play_rounds(place: str, folder: Path, given: Any) -> list[dict[str, Any]]:
    """Play all rounds, each in a place of its own; one run alone is what they should give."""
    first = str(folder / "alone")
    start(first).communicate()
    alone = count_rows(first)
    rounds = []
    for number in range(given.rounds):
        began = time.monotonic()
        found = play(f"{place}/r{number}", given.starters, alone)
        rounds.append({**found, "seconds": time.monotonic() - began})
        if found["doubled"] or found["lost"]:
            print(f"round {number}: {found}")
    return rounds


if __name__ == "__main__":
    main()
