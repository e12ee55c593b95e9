"""What a batch of episodes amounts to: a generation's figures, and a score with its interval."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from distes.population.records import Episodes, Population, Status
from distes.types import FloatArray

QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)


@dataclass(frozen=True, repr=False)
class Score:
    """A mean return and how far it can be trusted.

    Attributes:
        mean: of the returns; NaN without any.
        std: sample standard deviation (ddof 1) of the returns; NaN below two.
        low: lower end of the confidence interval of the mean; NaN below two.
        high: upper end.
        episodes: returns that count.
        failed: returns that were NaN and do not count.
    """

    mean: float
    std: float
    low: float
    high: float
    episodes: int
    failed: int

    def __repr__(self) -> str:
        """Say the mean and half the width of its interval.

        >>> Score(mean=490.2, std=20.0, low=486.1, high=493.4, episodes=100, failed=0)
        Score(490.2 ± 3.6, 100 episodes)
        >>> Score(mean=-0.0123456, std=1.0, low=-0.1, high=0.1, episodes=40, failed=2)
        Score(-0.01235 ± 0.1, 40 episodes, 2 failed)
        """
        figures = f"{_round(self.mean)} ± {_round((self.high - self.low) / 2)}"
        failed = f", {self.failed} failed" if self.failed else ""
        return f"Score({figures}, {self.episodes} episodes{failed})"


def _round(value: float) -> str:
    return f"{value:.1f}" if abs(value) >= 1 else f"{value:.4g}"


def compute_score(returns: FloatArray, confidence: float = 0.95) -> Score:
    """Estimate the expected return from independent episodes.

    The interval is Student's t shifted for skewness (Johnson 1978; in this form
    Hesterberg 2015, "What Teachers Should Know About the Bootstrap"):
    mean + s/√m·(κ(1 + 2t²) ± t) with κ = skewness/(6√m). Returns pile up at their bound
    and have a long tail of failures, where plain t and the percentile bootstrap sit too
    high: with 100 episodes of which one in ten fails, their lower end lies above the true
    mean two to three times as often as it should. The shift mends that as well as the BCa
    bootstrap does, without resampling, and a little better at 20 episodes. The shift never
    takes the mean out of its interval.

    Equal returns give an interval of no width: nothing in them speaks of a failure, but
    100 successes do not exclude 3 failures in 100.

    Args:
        returns: (m,) one per episode; NaN = failed.
        confidence: probability that the interval covers the expected return, in (0, 1).
    """
    valid = returns[~np.isnan(returns)]
    failed = len(returns) - len(valid)
    if len(valid) == 0:
        return Score(math.nan, math.nan, math.nan, math.nan, 0, failed)
    # Equal returns exactly: their floating-point mean may miss them by a bit.
    if np.all(valid == valid[0]):
        only = float(valid[0])
        low, std = (only, 0.0) if len(valid) > 1 else (math.nan, math.nan)
        return Score(only, std, low, low, len(valid), failed)
    mean, std = float(valid.mean()), float(valid.std(ddof=1))
    skewness = float(np.mean(((valid - mean) / valid.std()) ** 3))
    # κ(1 + 2t²) of the formula above, no larger than t.
    quantile = student_quantile(0.5 + confidence / 2, len(valid) - 1)
    shift = skewness / (6 * math.sqrt(len(valid))) * (1 + 2 * quantile**2)
    shift = min(max(shift, -quantile), quantile)
    error = std / math.sqrt(len(valid))
    low, high = mean + error * (shift - quantile), mean + error * (shift + quantile)
    return Score(mean, std, low, high, len(valid), failed)


@lru_cache  # a run has thousands of scores of as many episodes
def student_quantile(probability: float, degrees: int) -> float:
    """Quantile of Student's t, from the finite series of its distribution function.

    Abramowitz & Stegun (1964), 26.7.3 and 26.7.4, inverted by bisection.

    Args:
        probability: in [0.5, 1).
        degrees: of freedom, >= 1.

    >>> round(student_quantile(0.975, 99), 6)
    1.984217
    """
    odd = degrees % 2
    steps = np.arange(1 + odd, degrees - 1, 2, dtype=np.float64)
    factors = np.concatenate([[1.0], np.cumprod(steps / (steps + 1))])
    powers = np.arange(len(factors)) * 2 + odd

    def central(angle: float) -> float:  # P(|T| < √degrees·tan(angle))
        if degrees == 1:
            return 2 * angle / math.pi
        series = math.sin(angle) * float(np.sum(factors * math.cos(angle) ** powers))
        return 2 / math.pi * (angle + series) if odd else series

    low, high = 0.0, math.pi / 2
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if central(middle) < 2 * probability - 1 else (low, middle)
    return math.sqrt(degrees) * math.tan(low)


def summarise_generation(population: Population, episodes: Episodes) -> dict[str, float]:
    """Sum up a generation, as the generations log has it.

    Failed episodes count in ``episodes``, ``env_steps`` and ``failed`` and nowhere else;
    figures of which nothing is left are NaN. Standard deviations have ddof 0.

    Args:
        population: what was evaluated.
        episodes: what happened.

    Returns:
        ``episodes``, ``env_steps``, ``failed``;
        ``episode_return_{mean,std,min,q05,q25,q50,q75,q95,max}`` and
        ``episode_length_mean`` over episodes; ``fitness_{mean,std,min,max}`` over
        candidates.
    """
    ok = episodes.status == Status.OK
    lengths = episodes.episode_length[ok]
    returns = _spread("episode_return", episodes.episode_return[ok])
    return {
        "episodes": population.num_episodes,
        "env_steps": int(episodes.episode_length.sum()),
        "failed": int(np.count_nonzero(~ok)),
        **returns,
        **_spread("fitness", episodes.fitness, quantiles=()),
        "episode_length_mean": float(lengths.mean()) if len(lengths) else math.nan,
    }


def _spread(
    name: str, values: FloatArray, quantiles: tuple[float, ...] = QUANTILES
) -> dict[str, float]:
    """Describe values, NaN left out, from least to greatest."""
    valid = values[~np.isnan(values)]
    names = [f"q{round(100 * quantile):02}" for quantile in quantiles]
    if len(valid) == 0:
        figures = dict.fromkeys(["mean", "std", "min", *names, "max"], math.nan)
    else:
        with np.errstate(over="ignore"):  # returns too large to square have no finite spread
            mean, std = float(valid.mean()), float(valid.std())
        figures = {
            "mean": mean,
            "std": std,
            "min": float(valid.min()),
            **dict(zip(names, np.quantile(valid, quantiles).tolist(), strict=True)),
            "max": float(valid.max()),
        }
    return {f"{name}_{figure}": value for figure, value in figures.items()}
