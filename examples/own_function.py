"""A function of the parameters instead of an environment.

A thrown ball should land at a target in a gusty wind: two parameters (speed and angle),
a noisy simulator of five lines, and a search that deploys what works on average.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import numpy as np

import distes

TARGET_M = 30.0


def throw(parameters: Any, seed: int) -> float:
    """Return minus the distance between landing point and target, in metres."""
    speed = 20.0 + 5.0 * parameters[0]
    angle = np.pi / 4 + 0.2 * parameters[1]
    wind = np.random.default_rng(seed).normal(0.0, 0.5)
    seconds = 2 * speed * np.sin(angle) / 9.81
    landing = speed * np.cos(angle) * seconds + 0.5 * wind * seconds**2
    return -abs(float(landing) - TARGET_M)


def main(generations: int = 30, workers: int | Literal["auto"] = 0, out: Path | None = None) -> Any:
    result = distes.Search(
        distes.FunctionTask(throw, num_parameters=2, noisy=True),
        episodes=4,
        generations=generations,
        workers=workers,
        out=out,
    ).run()
    speed, angle = result.solution.distribution.draw(np.array([0]))[0]
    print(f"throw at {20 + 5 * speed:.1f} m/s, {np.degrees(np.pi / 4 + 0.2 * angle):.0f} degrees:")
    print(f"{-result.score.mean:.2f} m from the target on average over unseen gusts")
    return result


if __name__ == "__main__":
    main()
