"""Thousands of inputs that nobody would give on purpose: what does distes answer?

Mistyped flags and TOML, values of the wrong kind, huge, negative, not finite, with control
characters; directories of runs with one or two files cut, flipped, deleted or replaced, then
read, evaluated and resumed; environments that raise, return or do one wrong thing. Each is
one command within this process. Findings are tracebacks for a user's mistake, resumes that
end well and differ from the undisturbed run without a word, commands that do not end, that
fail without a sentence, or that end well and leave no run. Environments that never answer
are left out: they need workers and an episode timeout.

    python benchmarks/fuzz.py [--inputs N] [--seed SEED] [--only INDEX] [--out benchmarks/results]
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections import Counter
from pathlib import Path

sys.path.append(str(Path(__file__).parents[1] / "tests" / "support"))

from common import keep, options
from fuzzing import OUTCOMES, Stage


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("--inputs", type=int, default=5000, metavar="N", help="how many (5000)")
    parser.add_argument("--seed", type=int, default=0, help="of the inputs (0)")
    parser.add_argument("--only", type=int, metavar="INDEX", help="try this one alone")
    given = parser.parse_args()
    inputs = range(given.inputs) if given.only is None else [given.only]
    counts: Counter[tuple[str, str]] = Counter()
    with tempfile.TemporaryDirectory() as folder:
        os.environ["XDG_STATE_HOME"] = folder  # the key that runs are signed with
        stage = Stage(Path(folder), given.seed)
        for index in inputs:
            verdict = stage.judge(index)
            counts[verdict.kind, verdict.outcome] += 1
            if verdict.is_finding or given.only is not None:
                print(f"{index}: {verdict.outcome}: {verdict.given}\n    {verdict.detail}")
        kinds = list(stage.kinds)
    rows = [
        {
            "kind": kind,
            "inputs": sum(counts[kind, outcome] for outcome in OUTCOMES),
            **{outcome: counts[kind, outcome] for outcome in OUTCOMES},
            "seed": given.seed,
        }
        for kind in kinds
    ]
    keep("fuzz", rows, given.out)


if __name__ == "__main__":  # `distes check` starts processes that import this file
    main()
