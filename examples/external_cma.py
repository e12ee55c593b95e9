"""CMA-ES of the `cma` package as the strategy (pip install cma).

Its samples and its learning are the package's own; evaluation, logging, held-out scores
and exact resume are distes'. The same from the command line, in this folder:

    distes run CartPole-v1 --strategy external --strategy.factory external_cma:make
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import cma

import distes


def make(start: Any, seed: int) -> cma.CMAEvolutionStrategy:
    """Make the optimiser: where to start, and a seed for its sampling."""
    # A seed of 0 would mean "any" to this package, and it takes 32 bits.
    return cma.CMAEvolutionStrategy(start, 1.0, {"seed": 1 + seed % 2**31, "verbose": -9})


def main(
    generations: int = 40, workers: int | Literal["auto"] = "auto", out: Path | None = None
) -> Any:
    result = distes.Search(
        "CartPole-v1",
        strategy=distes.strategies.External(make),
        episodes=3,
        generations=generations,
        workers=workers,
        out=out,
    ).run()
    print(result.stopped, result.score)
    return result


if __name__ == "__main__":
    main()
