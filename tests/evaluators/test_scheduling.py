"""Scheduling, decided and simulated in virtual time: no Ray, no clock, no chance."""

import heapq
from collections import deque

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from distes.evaluators.scheduling import Dispatcher

DRIVER_S = 0.0005  # the driver's own time for each message, in or out
LATENCY_S = 0.0005  # on the way, each direction
IDLE_S = 0.05  # between two looks while workers are idle


class Simulation:
    """Workers that run pieces in order, and one driver that handles one message at a time.

    As in Ray, a piece that is taken back still runs where it waited: what was sent is sent.

    Args:
        workers: how many.
        slow: factor on the seconds of a worker's episodes; infinity never answers.
    """

    def __init__(self, workers, chunk_s=0.075, slow=None):
        self.dispatcher = Dispatcher(chunk_s)
        self.queues = {number: deque() for number in range(workers)}
        self.running = dict.fromkeys(self.queues)
        self.slow = slow or {}
        self.now = 0.0  # the driver's time
        self.events = []
        self.order = 0
        self.dead = set()
        self.messages = 0
        self.duplicates = 0
        self.durations = {}
        self.missing = {}
        self.ran = {}
        for number in self.queues:
            self.dispatcher.join(number)

    def _at(self, time, *event):
        self.order += 1
        heapq.heappush(self.events, (time, self.order, event))

    def _begin(self, worker, time):
        while self.running[worker] is None and self.queues[worker]:
            piece = self.queues[worker].popleft()
            self.running[worker] = piece
            seconds = float(self.durations[piece.evaluation][piece.start : piece.stop].sum())
            seconds *= self.slow.get(worker, 1.0)
            self._at(time + seconds, "end", worker, piece, seconds)

    def _assign(self):
        for assignment in self.dispatcher.assign(self.now):
            self.now += DRIVER_S
            self.messages += 1
            self.duplicates += assignment.duplicate
            self._at(self.now + LATENCY_S, "arrive", assignment.worker, assignment.piece)
        if self.dispatcher.idle:
            self._at(self.now + IDLE_S, "look", None)

    def run(self, durations, kill=()):
        """Run evaluations {number: seconds of each episode}; returns when each was complete."""
        self.durations |= durations
        for work, seconds in durations.items():
            self.missing[work] = len(seconds)
            self.ran[work] = np.zeros(len(seconds), int)
            self.dispatcher.submit(work, len(seconds), "search", 2048)
        complete = {}
        for time, worker in kill:
            self._at(time, "kill", worker)
        self._assign()
        while len(complete) < len(durations):
            time, _, (kind, worker, *rest) = heapq.heappop(self.events)
            if worker in self.dead:
                continue
            if kind == "look":
                self.now = max(self.now, time)
                self._assign()
            elif kind == "kill":
                self.dead.add(worker)
                self.dispatcher.leave(worker, deaths_allowed=None)
                self.now = max(self.now, time)
                self._assign()
            elif kind == "arrive":
                self.queues[worker].append(rest[0])
                self._begin(worker, time)
            elif kind == "end":
                self.running[worker] = None
                self._begin(worker, time)
                self._at(time + LATENCY_S, "answer", worker, *rest)
            else:
                piece, seconds = rest
                self.now = max(self.now, time) + DRIVER_S
                if piece not in self.dispatcher._workers[worker].held:
                    continue  # it was taken back
                if self.dispatcher.finish(worker, piece, seconds, self.now):
                    self.ran[piece.evaluation][piece.start : piece.stop] += 1
                    self.missing[piece.evaluation] -= piece.size
                    if self.missing[piece.evaluation] == 0:
                        self.dispatcher.forget(piece.evaluation)
                        complete[piece.evaluation] = self.now
                self._assign()
        for work in durations:
            assert (self.ran[work] == 1).all()
        return complete


def greedy(durations, workers):
    """When list scheduling in the given order, without any overhead, is through."""
    free = [0.0] * workers
    for seconds in durations:
        heapq.heapreplace(free, free[0] + seconds)
    return max(free)


WORKERS = 16

HEAVY_TAILED = {
    "lognormal": lambda rng, m: rng.lognormal(0, 1.5, m),
    "pareto": lambda rng, m: rng.pareto(1.5, m) + 0.1,
    "exponential": lambda rng, m: rng.exponential(1, m),
    "two kinds": lambda rng, m: np.where(rng.random(m) < 0.05, 10, 0.5),
}


def drawn(law, mean_s, episodes, seed):
    durations = HEAVY_TAILED[law](np.random.default_rng(seed), episodes)
    return durations * (mean_s / durations.mean())


def cuts(episodes, per_episode_s, cap):
    """All chunks of an evaluation by one worker, in order."""
    dispatcher = Dispatcher()
    dispatcher.join(0)
    dispatcher.submit(0, episodes, "search", cap)
    pieces, now = [], 0.0
    while True:
        pieces += [each.piece for each in dispatcher.assign(now)]
        if not (held := dispatcher._workers[0].held):
            return pieces
        now += per_episode_s * held[0].size
        dispatcher.finish(0, held[0], per_episode_s * held[0].size, now)


@pytest.mark.parametrize("episodes", [20 * WORKERS, 100 * WORKERS])
def test_workers_are_kept_busy(episodes):
    """Episodes of 50 ms: a worker that waits for the driver after each would lose 4%."""
    through = Simulation(WORKERS).run({0: np.full(episodes, 0.05)})[0]
    assert episodes * 0.05 / WORKERS / through >= 0.95


@pytest.mark.parametrize("law", HEAVY_TAILED)
def test_long_episodes_delay_as_little_as_in_list_scheduling(law):
    """Chunks queued behind a long one, or too large near the end, would cost 20% and more."""
    for seed in range(8):
        durations = drawn(law, 0.05, 1024, seed)
        through = Simulation(WORKERS).run({0: durations})[0]
        assert through <= 1.08 * greedy(durations, WORKERS)


@pytest.mark.parametrize("law", HEAVY_TAILED)
def test_long_episodes_in_chunks(law):
    """Episodes of 5 ms come several to a chunk; those chunks must shrink near the end."""
    ratios = []
    for seed in range(9):
        simulation = Simulation(WORKERS)
        simulation.run({0: drawn(law, 0.005, 2048, 100 + seed)})
        began = simulation.now
        durations = drawn(law, 0.005, 2048, seed)
        through = simulation.run({1: durations})[1] - began
        ratios.append(through / greedy(durations, WORKERS))
    assert np.median(ratios) <= 1.1


def test_small_work_makes_few_chunks():
    """256 evaluations of a free function: each further chunk would cost the driver 1 ms."""
    simulation = Simulation(2)
    simulation.run({0: np.full(256, 2e-6)})
    assert simulation.messages <= 16  # nothing is known yet: chunks grow from one episode
    before = simulation.messages
    simulation.run({1: np.full(256, 2e-6)})
    assert simulation.messages - before <= 2


def test_many_workers_get_longer_chunks():
    """One driver hands out 1000 chunks a second at best: 16 workers must not ask for more."""
    simulation = Simulation(WORKERS)
    simulation.run({0: np.full(16000, 0.001)})
    began = simulation.now
    through = simulation.run({1: np.full(16000, 0.001)})[1] - began
    assert 16000 * 0.001 / WORKERS / through >= 0.9


def test_hundreds_of_workers_do_not_wait_for_the_driver():
    """Chunks of 75 ms for 400 workers would be five times what one driver hands out."""
    simulation = Simulation(400)
    simulation.run({0: np.full(8000, 0.02)})
    began = simulation.now
    through = simulation.run({1: np.full(40000, 0.02)})[1] - began
    assert 40000 * 0.02 / 400 / through >= 0.4


@given(
    st.lists(st.integers(0, 3000), min_size=1, max_size=3),
    st.integers(1, 7),
    st.floats(1e-6, 0.2),
    st.floats(0.001, 1.0),
)
@settings(max_examples=40, deadline=None)
def test_every_episode_runs_exactly_once(sizes, workers, mean_s, chunk_s):
    """Whatever the sizes: an episode left out or counted twice would make other results."""
    rng = np.random.default_rng(0)
    works = {n: rng.exponential(mean_s, size) for n, size in enumerate(sizes) if size}
    assert set(Simulation(workers, chunk_s).run(works)) == set(works)


def test_loss_of_workers_loses_no_episode():
    """What lost workers held must run again; `run` counts every episode's answers."""
    durations = np.full(200, 0.05)
    kills = [(0.12, 0), (0.121, 1), (0.5, 2)]
    alone = Simulation(4)
    assert alone.run({0: durations}, kills)[0] >= 200 * 0.05 / 4
    assert set(alone.dispatcher._workers) == {3}


def test_only_the_running_chunk_counts_an_attempt():
    """A chunk that waited beside a fatal one must not be given up for it."""
    dispatcher = Dispatcher()
    dispatcher.join(0)
    dispatcher.submit(0, 100, "search", 2048)
    first = dispatcher.assign(0.0)[0].piece
    dispatcher.finish(0, first, 0.05, 0.05)
    running, waiting = (each.piece for each in dispatcher.assign(0.05))
    departure = dispatcher.leave(0, deaths_allowed=None)
    assert (departure.running, departure.given_up) == (running, None)
    assert set(departure.again) == {running, waiting}
    assert (running.attempt, waiting.attempt) == (2, 1)
    assert not running.suspect  # it was the node's fault
    dispatcher.join(1)
    again = [each.piece for each in dispatcher.assign(0.1)]
    assert set(again) == {running, waiting}


def learnt(episodes, per_episode_s, workers=1):
    """A dispatcher that knows how long episodes take, and has just got them to hand out."""
    dispatcher = Dispatcher()
    for number in range(workers):
        dispatcher.join(number)
    dispatcher.submit(0, 1, "search", 2048)
    (first,) = dispatcher.assign(0.0)
    dispatcher.finish(first.worker, first.piece, per_episode_s, per_episode_s)
    dispatcher.forget(0)
    dispatcher.submit(1, episodes, "search", 2048)
    return dispatcher


def kill(dispatcher, number, deaths_allowed=3):
    """Lose a worker to what it runs, and start another."""
    departure = dispatcher.leave(number, deaths_allowed=deaths_allowed)
    dispatcher.join(number + 1)
    return departure


@given(st.integers(1, 5000), st.integers(0, 10_000), st.data())
@settings(max_examples=60, deadline=None)
def test_a_poisonous_episode_is_found(episodes, poison, data):
    """One episode kills whoever runs it: it alone may be lost, after a bounded number of
    deaths, however the episodes were cut."""
    poison %= episodes
    dispatcher = learnt(episodes, data.draw(st.sampled_from([1e-5, 1e-3, 0.05])))
    now, worker, deaths, given_up = 1.0, 0, 0, None
    ran = np.zeros(episodes, int)
    while ran.sum() < episodes - 1 or given_up is None:
        now += 0.1
        dispatcher.assign(now)
        held = dispatcher._workers[worker].held
        if any(piece.suspect for piece in held):
            assert len(held) == 1  # else a death would not name its episode
        piece = held[0]
        if piece.start <= poison < piece.stop:
            departure = kill(dispatcher, worker)
            worker += 1
            deaths += 1
            given_up = departure.given_up
        else:
            dispatcher.finish(worker, piece, 0.0, now)
            ran[piece.start : piece.stop] += 1
    assert (given_up.start, given_up.size) == (poison, 1)
    assert ran[poison] == 0
    assert ran.max() <= 1
    assert deaths <= 6


def test_an_innocent_episode_outlives_a_coincidence():
    """Two deaths of other causes, out of memory next door say, must not mark an episode."""
    dispatcher = learnt(1, 0.05)
    for number in range(2):
        dispatcher.assign(1.0 + number)
        assert kill(dispatcher, number).given_up is None
    (last,) = dispatcher.assign(4.0)
    assert dispatcher.finish(2, last.piece, 0.05, 4.1)
    assert last.piece.attempt == 3


def test_losses_with_the_node_are_no_suspicion_until_they_repeat():
    """Spot nodes go at any time; but what takes node after node with it must not go on."""
    dispatcher = learnt(1, 0.05)
    given_up, losses = None, 0
    while given_up is None:
        (each,) = dispatcher.assign(float(losses))
        assert each.piece.suspect == (losses > 3)
        given_up = kill(dispatcher, losses, deaths_allowed=None).given_up
        losses += 1
        assert losses <= 6
    assert losses == 6


def test_a_late_chunk_runs_twice_and_counts_once():
    """A worker that hangs must not hold up the generation while others are idle."""
    simulation = Simulation(4)
    simulation.run({0: np.full(200, 0.05)})
    simulation.slow = {0: 40.0}
    began = simulation.now
    through = simulation.run({1: np.full(200, 0.05)})[1] - began
    assert simulation.duplicates
    assert through < 1.25 * 200 * 0.05 / 3 + 0.3  # not the 2 s that one chunk takes there


def test_a_worker_that_vanishes_holds_up_nothing():
    """A host that is gone without a word never answers; its chunk must not be waited for."""
    simulation = Simulation(3)
    simulation.run({0: np.full(100, 0.02)})
    simulation.slow = {1: 1e9}
    began = simulation.now
    for work in range(1, 4):
        simulation.run({work: np.full(100, 0.02)})
    assert simulation.now - began < 3 * (1.25 * 100 * 0.02 / 2 + 0.3)


def test_long_episodes_are_not_run_twice():
    """Where lengths differ much, a long episode is no reason; copies would block workers."""
    simulation = Simulation(WORKERS)
    chunks = 0
    for seed in range(8):
        simulation.run({seed: drawn("exponential", 0.05, 512, seed)})
        chunks = simulation.messages
    assert simulation.duplicates <= 0.02 * chunks


def test_a_retired_worker_gets_nothing_and_loses_nothing():
    """A draining node is given no new chunk, and what waited there goes elsewhere."""
    dispatcher = learnt(1000, 0.01, workers=2)
    given = dispatcher.assign(1.0)
    held = [each.piece for each in given if each.worker == 0]
    assert len(held) == 2
    assert dispatcher.retire(0) == [held[1]]
    assert not dispatcher.is_resting(0)
    dispatcher.finish(1, dispatcher._workers[1].held[0], 0.08, 1.1)
    after = dispatcher.assign(1.1)
    assert {each.worker for each in after} == {1}
    assert after[0].piece is held[1]
    assert dispatcher.finish(0, held[0], 0.08, 1.2)
    assert dispatcher.is_resting(0)
    assert not [each for each in dispatcher.assign(1.2) if each.worker == 0]
    assert dispatcher.leave(0, deaths_allowed=None) == (None, [], None)


def test_chunks_are_aligned_powers_of_two():
    """Otherwise a chunk with probes ships many nodes of the folding tree instead of one."""
    pieces = cuts(5000, 0.0005, cap=1000)
    assert [piece.start for piece in pieces[1:]] == [piece.stop for piece in pieces[:-1]]
    assert pieces[-1].stop == 5000
    for piece in pieces:
        assert piece.size & (piece.size - 1) == 0
        assert piece.start % piece.size == 0
    assert max(piece.size for piece in pieces) == 128  # of 0.5 ms: the most within 75 ms


def test_chunks_keep_below_the_cap():
    """Answers above 100 KB would leave the reply and be lost with their node."""
    assert max(piece.size for piece in cuts(100_000, 1e-6, cap=1000)) == 512


def test_earlier_evaluations_go_first():
    """A held-out evaluation that ran beside the search must not delay it, but fill gaps."""
    durations = {0: np.full(160, 0.05), 1: np.full(160, 0.05)}
    complete = Simulation(WORKERS).run(durations)
    assert complete[0] <= 1.1 * 10 * 0.05
    assert complete[1] <= 1.1 * 20 * 0.05


def test_a_chunk_behind_a_long_one_moves():
    """The waiting chunk must not wait for the long episode while a worker idles."""
    dispatcher = Dispatcher()
    dispatcher.join(0)
    dispatcher.join(1)
    dispatcher.submit(0, 100, "search", 1)
    for each in dispatcher.assign(0.0):
        dispatcher.finish(each.worker, each.piece, 0.1, 0.1)  # episodes take 0.1 s
    given = dispatcher.assign(0.1)
    behind = next(each.piece for each in given[2:] if each.worker == 0)
    for now in (0.2, 0.3, 0.4):  # worker 0 is stuck, worker 1 goes on
        dispatcher.finish(1, dispatcher._workers[1].held[0], 0.1, now)
        moved = [each for each in dispatcher.assign(now) if each.piece is behind]
        if moved:
            break
    assert [(each.worker, each.taken_from) for each in moved] == [(1, 0)]
    assert len(dispatcher._workers[0].held) == 1  # and it gets no other until it answers


@pytest.mark.parametrize(("first", "expected"), [(1, [1, 1]), (100, [64, 64]), (10**6, [256, 128])])
def test_fast_engines_begin_with_more_than_one_episode(first, expected):
    """Ten round trips to learn what is known beforehand; a share for each, however fast."""
    dispatcher = Dispatcher()
    dispatcher.join(0)
    dispatcher.join(1)
    dispatcher.submit(1, 1000, "search", 2048, first)
    assert [assignment.piece.size for assignment in dispatcher.assign(0.0)] == expected


@pytest.mark.parametrize(
    ("per_episode_s", "expected"),
    [(1e-6, [100]), (1e-4, [64, 36]), (1e-3, [16, 8, 8, 8]), (0.05, [1, 1, 1, 1])],
)
def test_what_is_known_of_others_says_how_few_are_not_worth_cutting(per_episode_s, expected):
    """Final scores are a hundred episodes: of microseconds or, with as fast a claim, of seconds."""
    dispatcher = Dispatcher()
    for worker in range(4):
        dispatcher.join(worker)
    dispatcher.submit(1, 64, "search", 2048)
    given = {each.worker: each.piece for each in dispatcher.assign(0.0)}
    for worker, piece in given.items():
        dispatcher.finish(worker, piece, per_episode_s * piece.size, 1.0)
    dispatcher.forget(1)
    dispatcher.submit(2, 100, "test", 2048, 1000, like="search")
    assert [each.piece.size for each in dispatcher.assign(2.0)] == expected
