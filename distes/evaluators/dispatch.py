"""Which worker runs which episodes next: decisions alone, without Ray and without a clock.

An evaluation is a range of flat episode numbers, cut as it goes along:

- Chunks aim at a fixed time, learnt from the seconds that episodes took. While nothing is
  known a chunk is one episode.
- Chunks shrink as an evaluation runs out (guided self-scheduling; Polychronopoulos and
  Kuck 1987, "Guided self-scheduling"), but not below a few milliseconds: small work makes
  few chunks.
- Chunks are powers of two and aligned to their size, so that a chunk's sums are one node
  of the folding tree.
- A worker holds a second chunk while work is plentiful, so that it need not wait for the
  driver. A chunk that waits behind one that takes unexpectedly long moves to another
  worker.

Episodes do not depend on any of this; it decides only when the answer is there.
"""

from __future__ import annotations

import math
from collections.abc import Hashable
from dataclasses import dataclass, field

CHUNK_S = 0.075
"""Seconds that a chunk aims at."""

FLOOR_S = 0.005
"""Seconds below which chunks do not shrink, however little is left."""

DRIVER_S = 0.001
"""Seconds that the driver spends on a chunk: with many workers chunks are longer, or they
would wait for the driver."""

SHRINK = 1.5
"""A chunk is at most a worker's share of what is left, divided by this."""

MEMORY = 0.98
"""How much of what was learnt of durations remains with each new answer."""

ERRATIC = 0.5
"""Relative standard deviation of chunks' durations above which none waits behind another."""

PATIENCE = 2.0
"""Times its expected duration after which a chunk is overdue."""

MAX_ATTEMPTS = 3
"""Times that a chunk is tried on workers that are lost with it."""


@dataclass(eq=False)
class Piece:
    """Episodes ``start .. stop`` of one evaluation, to be run by one worker.

    Attributes:
        work: number of the evaluation.
        start: first flat episode number.
        stop: one past the last.
        attempt: 1 for the first try.
        sent_at: when a worker was given it.
    """

    work: int
    start: int
    stop: int
    attempt: int = 1
    sent_at: float = 0.0

    @property
    def size(self) -> int:
        """Episodes."""
        return self.stop - self.start


@dataclass(frozen=True, eq=False)
class Assignment:
    """Give a piece to a worker; if it waited on another, take it from there."""

    worker: int
    piece: Piece
    taken_from: int | None = None


@dataclass
class _Pace:
    """How long episodes take, remembering recent answers most."""

    answers: int = 0
    seconds: float = 0.0
    episodes: float = 0.0
    compared: float = 0.0
    squares: float = 0.0

    def learn(self, episodes: int, seconds: float) -> None:
        if self.answers:
            ratio = seconds / (self.per_episode() * episodes)
            self.compared = MEMORY * self.compared + 1
            self.squares = MEMORY * self.squares + (ratio - 1) ** 2
        self.answers += 1
        self.seconds = MEMORY * self.seconds + seconds
        self.episodes = MEMORY * self.episodes + episodes

    def per_episode(self, under_way: float = 0.0) -> float:
        """Seconds per episode, given seconds already spent on episodes yet to end."""
        return max((self.seconds + under_way) / self.episodes, 1e-9)

    @property
    def erratic(self) -> bool:
        return self.squares > ERRATIC**2 * self.compared


@dataclass
class _Work:
    """What is left of one evaluation."""

    stop: int
    cap: int
    pace: _Pace
    start: int = 0
    returned: list[Piece] = field(default_factory=list)

    @property
    def remaining(self) -> int:
        return self.stop - self.start


@dataclass
class _Worker:
    """The pieces a worker holds: the first runs, the others wait."""

    held: list[Piece] = field(default_factory=list)
    running_since: float = 0.0


class Dispatcher:
    """Keeps account of evaluations and workers, and hands out pieces.

    Args:
        chunk_s: seconds that a chunk aims at.
    """

    def __init__(self, chunk_s: float = CHUNK_S) -> None:
        self._chunk_s = chunk_s
        self._works: dict[int, _Work] = {}
        self._workers: dict[int, _Worker] = {}
        self._paces: dict[Hashable, _Pace] = {}

    def submit(self, work: int, episodes: int, kind: Hashable, cap: int) -> None:
        """Take on an evaluation; those taken on earlier go first.

        Args:
            work: its number.
            episodes: m.
            kind: evaluations of one kind have episodes of about one length.
            cap: most episodes of a chunk.
        """
        pace = self._paces.setdefault(kind, _Pace())
        self._works[work] = _Work(episodes, _power_of_two(cap), pace)

    def forget(self, work: int) -> None:
        """Drop an evaluation, finished or given up; pieces already sent are left to end."""
        self._works.pop(work, None)

    def join(self, worker: int) -> None:
        """A worker is ready."""
        self._workers[worker] = _Worker()

    def leave(self, worker: int) -> list[Piece]:
        """A worker is gone: what it held is run again, before anything else.

        Returns:
            The pieces it held; the one that was running now counts one attempt more.
        """
        held = self._workers.pop(worker).held if worker in self._workers else []
        if held:
            held[0].attempt += 1
        lost = [piece for piece in held if piece.work in self._works]
        for piece in lost:
            self._works[piece.work].returned.append(piece)
        return lost

    def done(self, worker: int, piece: Piece, seconds: float, now: float) -> None:
        """A worker has answered.

        Args:
            worker: its number.
            piece: what it ran.
            seconds: that it spent on it.
            now: the time.
        """
        account = self._workers[worker]
        account.held.remove(piece)
        account.running_since = now
        if piece.work in self._works:
            self._works[piece.work].pace.learn(piece.size, seconds)

    def assign(self, now: float) -> list[Assignment]:
        """Say what to hand out now; the pieces count as handed out."""
        made: list[Assignment] = []
        for depth in (0, 1):
            for number, worker in self._workers.items():
                if len(worker.held) != depth or (depth and self._overdue(worker, now)):
                    continue
                piece, owner = self._choose(depth, now)
                if piece is None:
                    break  # nothing for any other worker at this depth either
                if not worker.held:
                    worker.running_since = now
                piece.sent_at = now
                worker.held.append(piece)
                made.append(Assignment(number, piece, owner))
        return made

    def _choose(self, depth: int, now: float) -> tuple[Piece | None, int | None]:
        for work in self._works.values():
            if work.returned:
                return work.returned.pop(0), None
        overdue = self._take_waiting(now, overdue_only=True)
        if overdue[0] is not None:
            return overdue
        for number, work in self._works.items():
            if work.remaining:
                size = self._size(work, now)
                # Near the end a second chunk had better wait for whoever is free first.
                plenty = work.remaining > len(self._workers) * size
                if depth and not (plenty and work.pace.answers and not work.pace.erratic):
                    return None, None
                piece = Piece(number, work.start, min(work.start + size, work.stop))
                work.start = piece.stop
                return piece, None
        return (None, None) if depth else self._take_waiting(now, overdue_only=False)

    def _size(self, work: _Work, now: float) -> int:
        if not work.pace.answers:
            return 1
        workers = len(self._workers)
        under_way = 0.0
        if work.pace.answers < 2 * workers:
            # The first to answer are the short ones; those still running tell of the others.
            under_way = sum(
                now - worker.running_since
                for worker in self._workers.values()
                if worker.held and self._pace(worker.held[0]) is work.pace
            )
        seconds = work.pace.per_episode(under_way)
        share = work.remaining / (SHRINK * workers)
        # Rounded to the nearest power of two, but down where durations are erratic.
        aim_s = self._chunk_s * (1.0 if work.pace.erratic else math.sqrt(2))
        floor_s = min(max(FLOOR_S, DRIVER_S * workers), aim_s)
        wanted = min(max(share, floor_s / seconds), aim_s / seconds)
        size = min(_power_of_two(wanted), work.cap)
        return min(size, work.start & -work.start) if work.start else size

    def _take_waiting(self, now: float, *, overdue_only: bool) -> tuple[Piece | None, int | None]:
        """Take back the piece that has waited longest behind another."""
        best: tuple[int, _Worker] | None = None
        for number, worker in self._workers.items():
            if len(worker.held) < 2 or (overdue_only and not self._overdue(worker, now)):
                continue
            if best is None or worker.held[1].sent_at < best[1].held[1].sent_at:
                best = number, worker
        if best is None:
            return None, None
        return best[1].held.pop(1), best[0]

    def _overdue(self, worker: _Worker, now: float) -> bool:
        """Whether what a worker runs takes far longer than it should."""
        pace = self._pace(worker.held[0])
        if pace is None or not pace.answers:
            return False
        expected = max(pace.per_episode() * worker.held[0].size, FLOOR_S)
        return now - worker.running_since > PATIENCE * expected

    def _pace(self, piece: Piece) -> _Pace | None:
        work = self._works.get(piece.work)
        return None if work is None else work.pace


def _power_of_two(size: float) -> int:
    """Round down to a power of two, at least 1."""
    return 1 << (max(int(size), 1).bit_length() - 1)
