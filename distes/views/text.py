"""Numbers, scores, generations and searches in words: the same in all that is written of a run."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
from pandas import DataFrame

from distes.population.statistics import Score
from distes.registry import NONE, name_of, settings_of, to_plain
from distes.search.settings import Settings
from distes.tasks.environment import Task
from distes.tasks.function import FunctionTask

SPARKS = "▁▂▃▄▅▆▇█"


def format_generation(
    row: Mapping[str, Any], heldout: tuple[int, Score] | None, width: int | None = None
) -> str:
    """Say in one line what a generation came to.

    Args:
        row: of the generations log.
        heldout: the newest score at the time, and the generation after which it was taken.
        width: characters that it may have; what does not fit at the end is left out.
    """
    returns = {
        "mean": row["episode_return_mean"],
        "elite": row.get("elite_return_mean"),  # not every strategy has elites
        "best": row["episode_return_max"],
    }
    parts = [f"generation {row['generation']:>4}"]
    parts += [f"{k} {format_return(v):>8}" for k, v in returns.items() if v is not None]
    score = f"{format_return(heldout[1].mean):>8} after {heldout[0]:>4}" if heldout else f"{'-':>8}"
    parts += [f"held-out {score:19}"]
    if row.get("failed"):
        parts += [f"{row['failed']:.0f} episodes failed"]
    parts += [f"{format_rate(row):>9} env steps/s", f"elapsed {format_clock(row['elapsed_s'])}"]
    while width is not None and len("  ".join(parts)) > width and len(parts) > 1:
        parts.pop()
    return "  ".join(parts).rstrip()


def format_score(score: Score) -> str:
    """Say a score, its 95% confidence interval and the number of episodes.

    >>> format_score(Score(mean=490.2, std=20.0, low=486.1, high=493.4, episodes=100, failed=0))
    '490.2, 95% confidence interval 486.1 to 493.4, 100 unseen episodes'
    """
    failed = f" and {score.failed} failed" if score.failed else ""
    return (
        f"{format_return(score.mean)}, 95% confidence interval {format_return(score.low)} to "
        f"{format_return(score.high)}, {score.episodes} unseen episodes{failed}"
    )


def format_context_table(scores: DataFrame) -> str:
    """Lay out the scores at several contexts, as `distes.evaluate` gives them.

    >>> scores = DataFrame({"context_0": [-1.0, 0.5], "mean": [9.0, 10.25],
    ...     "low": [8.0, 9.0], "high": [9.9, 11.5], "episodes": [20, 19], "failed": [0, 1]})
    >>> print(format_context_table(scores))
    context 0  mean  95% confidence interval  episodes  failed
           -1     9                 8 to 9.9        20       0
          0.5  10.2                9 to 11.5        19       1
    """
    names = [str(name) for name in scores if str(name).startswith("context_")]
    columns = {name.replace("_", " "): scores[name].map("{:.6g}".format).tolist() for name in names}
    columns["mean"] = scores["mean"].map(format_return).tolist()
    ends = zip(scores["low"].map(format_return), scores["high"].map(format_return), strict=True)
    columns["95% confidence interval"] = [" to ".join(pair) for pair in ends]
    columns["episodes"] = scores["episodes"].map(str).tolist()
    if scores["failed"].any():
        columns["failed"] = scores["failed"].map(str).tolist()
    widths = [max(map(len, [name, *cells])) for name, cells in columns.items()]
    rows = [list(columns), *zip(*columns.values(), strict=True)]
    return "\n".join("  ".join(map(str.rjust, row, widths)) for row in rows)


def draw_sparkline(values: Sequence[float], low: float, high: float) -> str:
    """Draw values as bars between two bounds; a gap where a value is NaN.

    >>> draw_sparkline([0.0, 1.0, float("nan"), 2.0], 0.0, 2.0)
    '▁▅ █'
    """
    span = (high - low) or 1.0
    return "".join(
        SPARKS[min(len(SPARKS) - 1, int((value - low) / span * len(SPARKS)))]
        if math.isfinite(value)
        else " "
        for value in values
    )


def format_generation_size(
    candidates: int | None, episodes: int, source: str, env_steps: int | None = None
) -> str:
    """Say how large a generation is, and where the number of candidates is from.

    Args:
        candidates: None where that is not known before the strategy asks.
        episodes: of each.
        source: of the number: ``given``, ``auto``, or the strategy that chose it.
        env_steps: for which as many candidates follow again; None where none do.

    >>> format_generation_size(64, 1, "cem"), format_generation_size(24, 2, "given")
    ('64 candidates (default of cem) x 1 episode', '24 candidates (given) x 2 episodes')
    """
    many = f"{episodes:,} episode{'s' if episodes > 1 else ''}"
    if candidates is None:
        return f"candidates as {source} chooses x {many}"
    source = source if source in ("given", "auto") else f"default of {source}"
    again = "" if env_steps is None else f", again until {env_steps:,} env steps"
    return f"{candidates:,} candidates ({source}) x {many}{again}"


def name_population_source(population: Any, chosen: Collection[str], strategy: str) -> str:
    """Say where the number of candidates is from, for `format_generation_size`."""
    if population in (None, NONE):
        return strategy
    return "auto" if "population" in chosen else "given"


def describe_search(search: Settings) -> str:
    """Say what a search is about to do, in one line: task, strategy, policy, size, seed.

    What followed from the task is marked as chosen by ``auto``.
    """
    task: Any = search.task
    # A function that makes environments as the command line names it: ``make`` says little.
    reference = str(to_plain(task.env)) if isinstance(task, Task) else "<"
    name = str(task.name) if reference.startswith("<") else reference
    strategy = name_of("strategies", type(search.strategy))
    parts = [name, _describe_choice(search, "strategy", "strategies")]
    if not isinstance(task, FunctionTask):
        parts.append(_describe_choice(search, "policy", "policies"))
        if search.normalize_observations:
            auto = " (auto)" if "normalize_observations" in search.chosen else ""
            parts.append(f"normalised observations{auto}")
        parts.append(f"{search.resolved_engine()} engine")
    if contexts := task.num_contexts:
        parts.append(f"context of {contexts} from {task.contexts.name}")
    size = search.built_policy().num_parameters
    candidates = search.count_candidates()
    source = name_population_source(search.population, search.chosen, strategy)
    env_steps = search.generation_env_steps
    parts.append(format_generation_size(candidates, search.episodes, source, env_steps))
    if search.common_seeds:
        parts.append(f"common seeds{' (auto)' if 'common_seeds' in search.chosen else ''}")
    if search.first_episode_steps is not None:
        parts.append(f"episodes of {search.first_episode_steps:,} steps at first")
    if (target := search.resolved_target) is not None:
        parts.append(f"target {target:g}")
    if search.deploy == "best-heldout":
        auto = " (auto)" if "deploy" in search.chosen else ""
        parts.append(f"deploys its best held-out solution{auto}")
    return f"{', '.join(parts)}, {size} parameters, seed {search.seed}"


def _describe_choice(search: Settings, table: str, folder: str) -> str:
    """Name the strategy or the policy; where ``auto`` chose it, with what it set."""
    made = getattr(search, table)
    name = name_of(folder, type(made))
    if table not in search.chosen:
        return name
    changed = [
        f"{key.replace('_', ' ')} {format_setting(value)}"
        for key, setting in settings_of(type(made)).items()
        if (value := getattr(made, key)) != setting.default
    ]
    return f"{name} (auto{': ' if changed else ''}{', '.join(changed)})"


def format_setting(value: Any) -> str:
    """Write a setting's value in few words.

    >>> format_setting((16, 16)), format_setting(True), format_setting(0.5)
    ('16,16', 'on', '0.5')
    """
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, tuple):
        return ",".join(map(format_setting, value))
    return format_number(value) if isinstance(value, int | float) else str(value)


def format_rate(row: Mapping[str, Any]) -> str:
    """Write a generation's environment steps a second; ``-`` where no time is known."""
    seconds = float(row["run_s"])
    return f"{row['env_steps'] / seconds:,.0f}" if seconds > 0 else "-"


def format_return(value: float | None) -> str:
    """Write a return with about four digits, to be read while others follow; None is ``-``.

    >>> [format_return(v) for v in (486.123, -0.012345, 123456.7, float("nan"))]
    ['486.1', '-0.01235', '123457', 'nan']
    """
    if value is None or not math.isfinite(value):
        return "-" if value is None else str(value)
    if abs(value) >= 1000:
        return f"{value:.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.4g}"


def format_number(value: float) -> str:
    """Write a return or a setting with five digits, as they are quoted from a report.

    >>> [format_number(v) for v in (475.0, -1234.567, 0.0123456, 1e7, float("nan"))]
    ['475', '-1234.6', '0.012346', '10000000', 'nan']
    """
    if not math.isfinite(value):
        return str(float(value))
    return f"{value:.0f}" if abs(value) >= 1e5 else f"{np.round(value, 10):.5g}"


def format_clock(seconds: float) -> str:
    """Write seconds as minutes and seconds, with hours where there are any.

    >>> format_clock(83.4), format_clock(3723)
    ('1:23', '1:02:03')
    """
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def format_duration(seconds: float) -> str:
    """Write a duration with its units.

    >>> format_duration(4.21), format_duration(83.4), format_duration(3723)
    ('4.2 s', '1 min 23 s', '1 h 2 min')
    """
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"
