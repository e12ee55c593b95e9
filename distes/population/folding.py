"""The tree in which the reports of episodes are added up.

Floating-point addition depends on its order, and the order in which chunks of episodes
arrive depends on the cluster. So sums fold along the one binary tree over episode
numbers: node (level l, index j) covers episodes j·2^l up to (j + 1)·2^l. A chunk ships
the largest whole nodes inside it; the driver adds them in tree order. How the episodes
were cut into chunks cannot change a bit.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np

from distes.types import FloatArray

Sums = Mapping[str, FloatArray]
Node = tuple[int, int, Sums]
"""(level, index, sums): a folded stretch of 2**level episodes."""


class Folding:
    """Adds the reports of neighbouring episodes up as they come, along the tree.

    What is held does not grow with the episodes, but with the logarithm of their number.

    Attributes:
        nodes: the largest whole nodes so far, in episode order.
        next: flat number of the episode after them.
    """

    def __init__(self, start: int) -> None:
        """From a first flat episode number on."""
        self.nodes: list[Node] = []
        self.next = start

    def add(self, sums: Sums, level: int = 0) -> None:
        """Add the next episode's report, or the node of the next ``2**level`` episodes."""
        index = self.next >> level
        self.next += 1 << level
        while index % 2 and self.nodes and self.nodes[-1][:2] == (level, index - 1):
            sums = _add(self.nodes.pop()[2], sums)
            level, index = level + 1, index >> 1
        self.nodes.append((level, index, sums))


def fold_chunk(start: int, reports: Iterable[Sums]) -> list[Node]:
    """Fold the reports of neighbouring episodes into the largest whole nodes, in episode order.

    >>> [node[:2] for node in fold_chunk(3, [{"count": np.ones(1)}] * 6)]
    [(0, 3), (2, 1), (0, 8)]

    Args:
        start: flat number of the first.
        reports: one for each episode, of the same names and shapes.
    """
    folding = Folding(start)
    for sums in reports:
        folding.add(sums)
    return folding.nodes


def fold_rows(start: int, leaves: Mapping[str, FloatArray]) -> list[Node]:
    """Fold reports that lie in arrays (m, ...), by name, as `fold_chunk` folds them one by one.

    >>> [node[:2] for node in fold_rows(3, {"count": np.ones((6, 1))})]
    [(0, 3), (2, 1), (0, 8)]
    """
    nodes: list[Node] = []
    at, stop = start, start + len(next(iter(leaves.values())))
    while at < stop:
        alignment = (at & -at).bit_length() - 1 if at else stop.bit_length()
        level = min(alignment, (stop - at).bit_length() - 1)
        sums = {}
        for name, rows in leaves.items():
            stack = rows[at - start : at - start + (1 << level)]
            while len(stack) > 1:
                with np.errstate(over="ignore"):
                    stack = stack[0::2] + stack[1::2]
            sums[name] = stack[0]
        nodes.append((level, at >> level, sums))
        at += 1 << level
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
    folding = Folding(0)
    for level, index, sums in nodes:
        if index << level != folding.next:
            break
        folding.add(sums, level)
    else:
        if folding.next == num_episodes:
            # Past the last episode there is nothing to add: a left half moves up as it is.
            *lefts, (_, _, total) = folding.nodes
            for _, _, left in reversed(lefts):
                total = _add(left, total)
            return dict(total)
    raise ValueError(f"{len(nodes)} nodes do not cover {num_episodes} episodes exactly")


def _add(left: Sums, right: Sums) -> dict[str, FloatArray]:
    """Add two nodes' sums; one that overflows becomes infinite, which the strategy sees."""
    with np.errstate(over="ignore"):
        return {name: left[name] + right[name] for name in left}
