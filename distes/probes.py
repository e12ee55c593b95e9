"""What episodes report beyond their return, and the tree in which reports are added up.

Floating-point addition depends on its order, and the order in which chunks of episodes
arrive depends on the cluster. So sums fold along the one binary tree over episode
numbers: node (level l, index j) covers episodes j·2^l up to (j + 1)·2^l. A chunk ships
the largest whole nodes inside it; the driver adds them in tree order. How the episodes
were cut into chunks cannot change a bit.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from distes.numerics import arithmetic
from distes.policies.base import Policy
from distes.population import Trace
from distes.types import FloatArray

Sums = Mapping[str, FloatArray]
Node = tuple[int, int, Sums]
"""(level, index, sums): a folded stretch of 2**level episodes."""


@dataclass(frozen=True, eq=False)
class ObservationMoments:
    """Count, sum and sum of squares of the observations, about a fixed centre.

    A centre near the mean keeps the sum of squares from cancelling.

    Attributes:
        center: (k,) in the units of the encoded observation.
    """

    center: FloatArray

    @property
    def records(self) -> frozenset[str]:
        """Observations alone."""
        return frozenset({"observations"})

    def sums(self, trace: Trace, policy: Policy, frozen: Sums) -> Sums:
        """Reduce an episode to ``observation_{count,sum,square_sum}``."""
        shifted = trace.observations - self.center
        # Summed as two columns at least: numpy adds a single column pairwise, not in order.
        padded = arithmetic.weights(shifted)
        size = len(self.center)
        return {
            "observation_count": np.array([float(len(shifted))]),
            "observation_sum": np.add.reduce(padded, axis=0)[:size],
            "observation_square_sum": np.add.reduce(padded * padded, axis=0)[:size],
        }


def whole_nodes(start: int, stop: int) -> list[tuple[int, int]]:
    """List the largest tree nodes that together cover ``start .. stop``.

    >>> whole_nodes(3, 9)
    [(0, 3), (2, 1), (0, 8)]
    """
    nodes = []
    while start < stop:
        alignment = (start & -start).bit_length() - 1 if start else stop.bit_length()
        level = min(alignment, (stop - start).bit_length() - 1)
        nodes.append((level, start >> level))
        start += 1 << level
    return nodes


def fold_chunk(start: int, stop: int, leaves: Mapping[str, FloatArray]) -> list[Node]:
    """Fold a chunk's per-episode sums into its largest whole nodes.

    Args:
        start: first flat episode number.
        stop: one past the last.
        leaves: by name, (stop - start, ...): one row per episode.

    Returns:
        The nodes, in episode order.
    """
    nodes: list[Node] = []
    for level, index in whole_nodes(start, stop):
        first = (index << level) - start
        sums = {}
        for name, rows in leaves.items():
            stack = rows[first : first + (1 << level)]
            while len(stack) > 1:
                stack = stack[0::2] + stack[1::2]
            sums[name] = stack[0]
        nodes.append((level, index, sums))
    return nodes


def fold(nodes: Iterable[Node], num_episodes: int) -> dict[str, FloatArray]:
    """Add nodes that together cover all episodes, in the order of the tree.

    Args:
        nodes: from `fold_chunk`, of any chunking, in any order.
        num_episodes: m.

    Returns:
        The sums over all episodes; empty where there are no nodes.

    Raises:
        ValueError: the nodes do not cover the episodes exactly.
    """
    nodes = sorted(nodes, key=lambda node: node[1] << node[0])
    if not nodes:
        return {}
    covered = 0
    for level, index, _ in nodes:
        if index << level != covered:
            break
        covered += 1 << level
    if covered != num_episodes or covered != sum(1 << level for level, _, _ in nodes):
        raise ValueError(f"{len(nodes)} nodes do not cover {num_episodes} episodes exactly")
    pending = {(level, index): dict(sums) for level, index, sums in nodes}
    level = 0
    while len(pending) > 1 or (level, 0) not in pending:
        for here, index in sorted(node for node in pending if node[0] == level):
            if (here, index) not in pending:
                continue
            left = pending.pop((here, index))
            right = pending.pop((here, index + 1), None)
            # Past the last episode there is nothing to add: the left half moves up.
            pending[here + 1, index >> 1] = (
                left if right is None else {name: left[name] + right[name] for name in left}
            )
        level += 1
    return pending[level, 0]
