"""Which worker runs which episodes next: decisions alone, without Ray and without a clock.

An evaluation is a range of flat episode numbers, cut as it goes along:

- Chunks aim at a fixed time, learnt from the seconds that episodes took. While nothing is
  known a chunk is one episode, or as many as an engine is sure to run in less.
- Chunks shrink as an evaluation runs out (guided self-scheduling; Polychronopoulos and
  Kuck 1987, "Guided self-scheduling"), but not below some milliseconds: small work makes
  few chunks.
- Chunks are powers of two and aligned to their size, so that a chunk's sums are one node
  of the folding tree.
- A worker holds a second chunk while work is plentiful, so that it need not wait for the
  driver. A chunk that waits behind one that takes unexpectedly long moves to another
  worker.
- Where nothing is left to hand out, idle workers run the longest-overdue chunks a second
  time; the first answer counts.
- A chunk that killed its worker is a suspect: it is split, and suspects run alone, so
  that the next death names its episode. An episode that goes on killing is given up.

Episodes do not depend on any of this; it decides only when the answer is there.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

CHUNK_S = 0.075  # seconds that a chunk aims at; with many workers more, see `DRIVER_S`
FLOOR_S = 0.01  # seconds below which chunks do not shrink, however little is left
DRIVER_S = 0.001  # seconds that the driver spends on a chunk, with room to spare
# Times the driver's seconds for all workers that a chunk lasts at least, while work is
# plentiful: with many workers chunks are longer, or workers would wait for the driver.
ROOM = 4

SHRINK = 1.5  # a chunk is at most a worker's share of what is left, divided by this
MEMORY = 0.98  # how much of what was learnt of durations remains with each new answer
ERRATIC = 0.5  # relative standard deviation of durations above which no chunk waits for another
PATIENCE = 2.0  # times its expected duration after which a chunk is overdue
# Standard deviations above its expected duration after which a chunk may run twice: long
# episodes are no reason where episodes differ much in length.
SURPRISE = 3.0

LOOK_S = 0.02  # seconds between two searches for overdue chunks, at least
LOOK_WORKER_S = 40e-6  # further seconds for every worker: a search takes about 1 µs for each
SPLIT = 64  # parts into which a chunk that killed its worker is cut, at most
MAX_NODE_LOSSES = 3  # losses with their node after which a chunk is suspected of them


@dataclass(eq=False)
class EpisodeRange:
    """Episodes ``start .. stop`` of one evaluation, to be run by one worker."""

    evaluation: int  # number of the evaluation
    start: int  # first flat episode number
    stop: int  # one past the last
    attempt: int = 1  # 1 for the first try
    suspect: bool = False  # whether a worker died while it ran these episodes
    deaths: int = 0  # workers that died of it since it was cut
    node_losses: int = 0  # workers that it lost together with their node
    holders: int = 0  # workers that have it
    answered: bool = False  # whether an answer counts already
    sent_at: float = 0.0  # when a worker was given it

    @property
    def size(self) -> int:
        """Episodes."""
        return self.stop - self.start

    def split(self) -> list[EpisodeRange]:
        """Cut into at most `SPLIT` suspects, aligned powers of two where this piece is."""
        size = max(1, _power_of_two(math.ceil(self.size / SPLIT)))
        if size * SPLIT < self.size:
            size *= 2
        return [
            EpisodeRange(self.evaluation, at, min(at + size, self.stop), self.attempt, suspect=True)
            for at in range(self.start, self.stop, size)
        ]


class Departure(NamedTuple):
    """What the loss of a worker means for the pieces it held."""

    running: EpisodeRange | None  # what it ran, or None
    again: list[EpisodeRange]  # to be run again, in whole or in parts
    given_up: EpisodeRange | None  # one episode that killed too many workers, or None


@dataclass(frozen=True, eq=False)
class Assignment:
    """Give a piece to a worker; if it waited on another, take it from there."""

    worker: int
    piece: EpisodeRange
    taken_from: int | None = None  # on whom it waited, or None
    duplicate: bool = False  # whether another worker goes on running it, too


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
    def spread(self) -> float:
        """Relative standard deviation of chunks' durations."""
        return math.sqrt(self.squares / self.compared) if self.compared else 0.0


@dataclass
class _Work:
    """What is left of one evaluation."""

    stop: int
    cap: int
    pace: _Pace
    like: _Pace
    first: int = 1
    start: int = 0
    returned: list[EpisodeRange] = field(default_factory=list)

    @property
    def remaining(self) -> int:
        return self.stop - self.start


@dataclass
class _Worker:
    """The pieces a worker holds: the first runs, the others wait."""

    held: list[EpisodeRange] = field(default_factory=list)
    running_since: float = 0.0
    leaving: bool = False


class Dispatcher:
    """Keeps account of evaluations and workers, and hands out pieces of ``chunk_s`` seconds."""

    def __init__(self, chunk_s: float = CHUNK_S) -> None:
        self._chunk_s = chunk_s
        self._works: dict[int, _Work] = {}
        self._workers: dict[int, _Worker] = {}
        # Workers by the number of pieces they hold, so that none is asked in vain.
        self._holding: tuple[dict[int, None], ...] = ({}, {}, {})
        self._paces: dict[Hashable, _Pace] = {}
        self._looked_at = self._none_late_at = -math.inf

    @property
    def idle(self) -> bool:
        """Whether a worker has nothing to do."""
        return bool(self._holding[0])

    def submit(
        self,
        work: int,
        episodes: int,
        kind: Hashable,
        cap: int,
        first: int = 1,
        like: Hashable = None,
    ) -> None:
        """Take on an evaluation; those taken on earlier go first.

        Args:
            work: its number.
            episodes: m.
            kind: evaluations of one kind have episodes of about one length.
            cap: most episodes of a chunk.
            first: episodes of a chunk while nothing is known of their durations.
            like: another kind, whose episodes may take a few times more or less: it tells how
                few are not worth cutting while nothing is known of this one's.
        """
        pace = self._paces.setdefault(kind, _Pace())
        known = self._paces.get(like, pace)
        self._works[work] = _Work(episodes, _power_of_two(cap), pace, known, first)

    def forget(self, work: int) -> None:
        """Drop an evaluation, finished or given up; pieces already sent are left to end."""
        self._works.pop(work, None)

    def is_exhausted(self, work: int) -> bool:
        """Whether all of an evaluation was handed out."""
        account = self._works[work]
        return not account.remaining and not account.returned

    def join(self, worker: int) -> None:
        """A worker is ready."""
        self._workers[worker] = _Worker()
        self._holding[0][worker] = None

    def retire(self, worker: int) -> list[EpisodeRange]:
        """Give a worker nothing more; the pieces that waited on it, which go elsewhere."""
        account = self._workers[worker]
        account.leaving = True
        del self._holding[len(account.held)][worker]
        waiting = account.held[1:]
        del account.held[1:]
        self._put_back(waiting)
        return waiting

    def leave(self, worker: int, *, deaths_allowed: int | None) -> Departure:
        """A worker is gone: what it held is run again, before anything else.

        ``deaths_allowed`` is how many workers one episode may cost before it is given up; None
        where the loss was not the episodes' fault.
        """
        account = self._workers.pop(worker, None)
        if account is None:
            return Departure(None, [], None)
        if not account.leaving:
            del self._holding[len(account.held)][worker]
        running = account.held[0] if account.held else None
        waiting = account.held[1:]
        again = self._put_back(waiting)
        if running is None or not self._is_awaited(running):
            return Departure(running, again, None)
        running.attempt += 1
        if deaths_allowed is None:
            running.node_losses += 1
        if deaths_allowed is not None or running.node_losses > MAX_NODE_LOSSES:
            running.suspect = True
            running.deaths += 1
        running.holders -= 1
        if running.holders:
            return Departure(running, again, None)
        parts = [running]
        if running.suspect and running.size > 1:
            parts = running.split()
        elif running.suspect and running.deaths >= (deaths_allowed or MAX_NODE_LOSSES):
            running.answered = True
            return Departure(running, again, running)
        self._works[running.evaluation].returned += parts
        return Departure(running, parts + again, None)

    def finish(self, worker: int, piece: EpisodeRange, seconds: float, now: float) -> bool:
        """A worker has answered after some seconds; whether this is the piece's first answer."""
        account = self._workers[worker]
        self._move(worker, account, -1)
        account.held.remove(piece)
        account.running_since = now
        piece.holders -= 1
        if piece.evaluation in self._works:
            self._works[piece.evaluation].pace.learn(piece.size, seconds)
        first, piece.answered = not piece.answered, True
        return first

    def is_resting(self, worker: int) -> bool:
        """Whether a worker holds nothing."""
        return not self._workers[worker].held

    def running_for(self, worker: int, now: float) -> tuple[EpisodeRange, float] | None:
        """Tell what a worker runs, and for how many seconds; None if nothing."""
        account = self._workers.get(worker)
        if account is None or not account.held:
            return None
        return account.held[0], now - account.running_since

    def assign(self, now: float) -> list[Assignment]:
        """Say what to hand out now; the pieces count as handed out."""
        assignments: list[Assignment] = []
        under_way = self._under_way(now)
        for depth in (0, 1):
            for number in list(self._holding[depth]):
                worker = self._workers[number]
                if depth and not self._may_wait(worker, now):
                    continue
                assignment = self._choose(number, depth, now, under_way)
                if assignment is None:
                    break  # nothing for any other worker at this depth either
                if not worker.held:
                    worker.running_since = now
                piece = assignment.piece
                piece.sent_at = now
                piece.holders += 1
                self._move(number, worker, +1)
                worker.held.append(piece)
                assignments.append(assignment)
        return assignments

    def _choose(
        self, worker: int, depth: int, now: float, under_way: tuple[int, float]
    ) -> Assignment | None:
        for work in self._works.values():
            for index, piece in enumerate(work.returned):
                if not (depth and piece.suspect):
                    del work.returned[index]
                    return Assignment(worker, piece)
        if now - self._looked_at >= self._look_s:
            overdue = self._take_waiting(worker, now, overdue_only=True)
            if overdue is not None:
                return overdue
            self._looked_at = now
        for number, work in self._works.items():
            if work.remaining:
                size = self._size(work, under_way)
                # Near the end a second chunk had better wait for whoever is free first.
                plenty = work.remaining > len(self._workers) * size
                if depth and not (plenty and work.pace.answers and work.pace.spread <= ERRATIC):
                    return None
                piece = EpisodeRange(number, work.start, min(work.start + size, work.stop))
                work.start = piece.stop
                return Assignment(worker, piece)
        if depth:
            return None
        return self._take_waiting(worker, now, overdue_only=False) or self._duplicate(worker, now)

    def _under_way(self, now: float) -> tuple[int, float]:
        """Seconds already spent on what runs, for the first evaluation with work to hand out.

        The first to answer are the short ones; those still running tell of the others.
        """
        for number, work in self._works.items():
            if work.remaining:
                if work.pace.answers >= 2 * len(self._workers):
                    return number, 0.0
                return number, sum(
                    now - worker.running_since
                    for worker in self._workers.values()
                    if worker.held and self._pace(worker.held[0]) is work.pace
                )
        return 0, 0.0

    def _size(self, work: _Work, under_way: tuple[int, float]) -> int:
        workers = len(self._workers)
        share = work.remaining / (SHRINK * workers)
        if not work.pace.answers:
            few, most = 0.0, float(work.first)
            if work.like.answers:
                known_s = work.like.per_episode()
                few = min(FLOOR_S, self._chunk_s) / known_s
                most = max(few, min(most, self._chunk_s / known_s))
            return self._align(work, min(max(share, few), most))
        spent = under_way[1] if self._works.get(under_way[0]) is work else 0.0
        seconds = work.pace.per_episode(spent)
        # Rounded to the nearest power of two, but down where durations are erratic.
        nearest = 1.0 if work.pace.spread > ERRATIC else math.sqrt(2)
        chunk_s, driver_s = self._chunk_s * nearest, DRIVER_S * workers
        aim_s = max(chunk_s, ROOM * driver_s * nearest)
        # At the end it may be busy without a pause.
        floor_s = max(min(max(FLOOR_S, driver_s), chunk_s), driver_s / 2)
        return self._align(work, min(max(share, floor_s / seconds), aim_s / seconds))

    @staticmethod
    def _align(work: _Work, wanted: float) -> int:
        size = min(_power_of_two(wanted), work.cap)
        return min(size, work.start & -work.start) if work.start else size

    def _take_waiting(self, worker: int, now: float, *, overdue_only: bool) -> Assignment | None:
        """Take back the piece that has waited longest behind another."""
        owners = [(number, self._workers[number]) for number in self._holding[2]]
        waiting = [
            (number, owner)
            for number, owner in owners  # a piece is not awaited where its evaluation was given up
            if self._is_awaited(owner.held[1])
            and not (overdue_only and not self._overdue(owner, now))
        ]
        if not waiting:
            return None
        number, owner = min(waiting, key=lambda each: each[1].held[1].sent_at)
        self._move(number, owner, -1)
        piece = owner.held.pop(1)
        piece.holders -= 1
        return Assignment(worker, piece, number)

    def _duplicate(self, worker: int, now: float) -> Assignment | None:
        """Choose the chunk that is longest overdue, in terms of its expected duration."""
        if now - self._none_late_at < self._look_s:
            return None
        best: tuple[float, EpisodeRange] | None = None
        for owner in self._workers.values():
            if not owner.held or owner.held[0].suspect or owner.held[0].holders > 1:
                continue
            pace = self._pace(owner.held[0])
            if pace is None or not pace.answers:
                continue
            lateness = self._lateness(owner, pace, now)
            allowed = max(PATIENCE, 1 + SURPRISE * pace.spread)
            if lateness > allowed and (best is None or lateness > best[0]):
                best = lateness, owner.held[0]
        if best is None:
            self._none_late_at = now
            return None
        return Assignment(worker, best[1], duplicate=True)

    @property
    def _look_s(self) -> float:
        return LOOK_S + LOOK_WORKER_S * len(self._workers)

    def _may_wait(self, worker: _Worker, now: float) -> bool:
        """Whether a piece may wait behind what a worker runs."""
        running = worker.held[0]
        if running.suspect or running.holders > 1 or self._pace(running) is None:
            return False  # nobody knows for how long
        return not self._overdue(worker, now)

    def _overdue(self, worker: _Worker, now: float) -> bool:
        """Whether what a worker runs takes far longer than it should."""
        pace = self._pace(worker.held[0])
        if pace is None or not pace.answers:
            return False
        return self._lateness(worker, pace, now) > PATIENCE

    def _lateness(self, worker: _Worker, pace: _Pace, now: float) -> float:
        expected = max(pace.per_episode() * worker.held[0].size, FLOOR_S)
        return (now - worker.running_since) / expected

    def _pace(self, piece: EpisodeRange) -> _Pace | None:
        """Give the pace that a piece should keep; None where nobody waits for it."""
        work = self._works.get(piece.evaluation)
        return None if work is None or piece.answered else work.pace

    def _is_awaited(self, piece: EpisodeRange) -> bool:
        return piece.evaluation in self._works and not piece.answered

    def _put_back(self, pieces: Iterable[EpisodeRange]) -> list[EpisodeRange]:
        """Put pieces that waited on a worker back, unless another has them."""
        again = []
        for piece in pieces:
            piece.holders -= 1
            if self._is_awaited(piece) and not piece.holders:
                self._works[piece.evaluation].returned.append(piece)
                again.append(piece)
        return again

    def _move(self, number: int, worker: _Worker, change: int) -> None:
        """Keep account of how many pieces a worker holds."""
        if not worker.leaving:
            del self._holding[len(worker.held)][number]
            self._holding[len(worker.held) + change][number] = None


def _power_of_two(size: float) -> int:
    """Round down to a power of two, at least 1."""
    return 1 << (max(int(size), 1).bit_length() - 1)
