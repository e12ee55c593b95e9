"""Tables made of the log's own: of several runs, and of a generation's candidates."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from distes.types import FloatArray


def join_runs(tables: Sequence[tuple[Mapping[str, Any], pd.DataFrame]]) -> pd.DataFrame:
    """Put the same table of several runs into one.

    Args:
        tables: of each run the columns that are to stand in front, one value each, and its
            rows. What a run has no column for is NaN.

    >>> one, two = pd.DataFrame({"x": [1.0, 2.0]}), pd.DataFrame({"y": [3.0]})
    >>> join_runs([({"run": "a"}, one), ({"run": "b"}, two)])
      run    x    y
    0   a  1.0  NaN
    1   a  2.0  NaN
    2   b  NaN  3.0
    """
    joined = [
        pd.concat([pd.DataFrame(dict(front), index=rows.index), rows], axis=1)
        for front, rows in tables
    ]
    # One without rows does not know what types its columns will have.
    return pd.concat([each for each in joined if len(each)] or joined[:1], ignore_index=True)


def name_columns(contexts: Sequence[FloatArray], names: Sequence[str] | None) -> dict[str, Any]:
    """Name the columns that show contexts.

    Args:
        contexts: a column for each component.
        names: of the components, (k,); None numbers them.
    """
    named = range(len(contexts)) if names is None else names
    return {f"context_{name}": column for name, column in zip(named, contexts, strict=False)}


def tabulate_candidates(
    rows: pd.DataFrame, contexts: Sequence[str] | None, parameters: Sequence[str] | None
) -> pd.DataFrame:
    """Sum up the episodes of one generation by candidate.

    Args:
        rows: of the episodes table, by candidate.
        contexts: (k,) names of a context's components; None numbers them.
        parameters: (d,) names; None numbers them.

    Returns:
        The columns that `Run.candidates` describes.
    """
    candidate, first, which = np.unique(rows["candidate"], return_index=True, return_inverse=True)

    def share(column: str) -> list[FloatArray]:
        """What all episodes of a candidate have in common: (n,) for each number of the column."""
        if rows[column].isna().any():
            return []
        values = np.stack(rows[column].to_list())
        differs = np.bincount(which, (values != values[first][which]).any(axis=1)) > 0
        return list(np.where(differs[:, np.newaxis], np.nan, values[first]).T)

    shared = share("parameters")
    names = parameters or [f"parameter_{number}" for number in range(len(shared))]
    return pd.DataFrame(
        {
            "candidate": candidate,
            "fitness": rows["fitness"].to_numpy()[first],
            "episode_return_mean": rows["episode_return"].groupby(which).mean(),
            "episodes": np.bincount(which),
            "failed": np.bincount(which, rows["status"] != "ok").astype(np.int64),
            **name_columns(share("context"), contexts),
            **dict(zip(names, shared, strict=False)),
        }
    )
