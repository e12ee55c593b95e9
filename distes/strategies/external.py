"""Optimisers of other packages: any object with ask() and tell().

Such objects keep state of their own that cannot be saved exactly. So the strategy's state
is the history of what the object was told; the live object is a cache, rebuilt by replay
when it is not at hand, after a resume say. A replay costs the object's own time for all
generations so far, without any episode.
"""

from __future__ import annotations

import hashlib
import inspect
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from operator import attrgetter
from typing import Any

import numpy as np

from distes.errors import UsageError
from distes.population.distributions import Point, Table
from distes.population.records import Episodes, Population
from distes.registry import load
from distes.seeds import strategy_generator
from distes.strategies.base import Problem, Strategy
from distes.strategies.numerics import ranking
from distes.strategies.parts.elite_figures import EliteFigures
from distes.types import FloatArray

Factory = Callable[..., Any]
"""factory(start (d,), seed) -> object; may take a keyword ``population_size``."""

_SEED = 3
"""Word that keys the generator of the object's seed."""

_REHEARSED = 3
"""Generations for which two replays are compared before a run."""


@dataclass(frozen=True, eq=False)
class ExternalState:
    """All that the object was told.

    Attributes:
        generation: generations told, the index of the next one.
        history: fitness as told but for the sign (maximised, finite), of all candidates of
            all generations in order, cut into blocks (see `_append_block`).
        digest: identifies what was told, generation by generation.
        recommended: (d,) what to deploy.
        elites: figures of the better half of the last generation.
    """

    generation: int
    history: tuple[FloatArray, ...]
    digest: str
    recommended: FloatArray
    elites: EliteFigures


@dataclass(frozen=True)
class External(Strategy[ExternalState]):
    """Drives any object with ``ask() -> (n, d)`` and ``tell(solutions, values)``.

    The object may draw from numpy's and Python's global generators: it sees private
    states of them, seeded like the object, and nothing leaks out or in.

    For example ``cma`` (``lambda``: any function, or "package.module:function")::

        External(lambda start, seed: cma.CMAEvolutionStrategy(
            start, 0.5, {"seed": seed, "verbose": -9}))

    Attributes:
        factory: called as factory(start, seed), with start (d,) and 1 <= seed < 2**31 (many
            packages take 0 for the time), and with ``population_size`` where it has a
            parameter of that name; or "package.module:function".
        minimises: values are told with the sign flipped.
        passes_solutions: False calls ``tell(values)``.
        recommendation: attribute or method of the object that holds what to deploy, dotted
            (``mean`` or ``result.xfavorite`` with ``cma``); None deploys the mean of the
            better half of the last generation.
    """

    factory: Factory | str
    minimises: bool = True
    passes_solutions: bool = True
    recommendation: str | None = None

    def __post_init__(self) -> None:
        """Refuse a factory that is none."""
        super().__post_init__()
        _load(self.factory)
        object.__setattr__(self, "_cached", _Cache())

    def check(self, problem: Problem) -> None:
        """Refuse an object that does not fit, or that does not replay identically."""
        size = problem.population_size
        for first, second in zip(self._rehearse(problem), self._rehearse(problem), strict=True):
            if size is not None and len(first) != size:
                raise UsageError(
                    f"{self._name} asks for {len(first)} candidates, the population is {size}: "
                    "give the factory a parameter population_size, or leave population out"
                )
            if first.tobytes() != second.tobytes() or first.shape != second.shape:
                raise UsageError(
                    f"{self._name} does not replay: called twice with the same start and seed, "
                    "its objects ask for different candidates; make it use its seed argument"
                )

    def init(self, problem: Problem) -> ExternalState:
        """Start with an empty history."""
        return ExternalState(
            generation=0,
            history=(),
            digest="",
            recommended=np.array(problem.start, dtype=np.float64),
            elites=EliteFigures(),
        )

    def ask(self, problem: Problem, state: ExternalState) -> Population:
        """Take the object's candidates."""
        solutions = self._find_live(problem, state).ask()
        return problem.population(Table(solutions), len(solutions))

    def tell(
        self, problem: Problem, state: ExternalState, population: Population, episodes: Episodes
    ) -> ExternalState:
        """Tell the object; NaN becomes the worst finite fitness so far."""
        live = self._find_live(problem, state)
        solutions = live.ask()
        told = episodes.fitness.copy()
        failed = np.isnan(told)
        if failed.any():
            known = state.history if failed.all() else (told[~failed],)
            told[failed] = min((block.min() for block in known), default=0.0)
        digest = _chain_digest(state.digest, told)
        self._cache.clear()  # an interrupted tell must leave no half-told object behind
        live.tell(told)
        self._cache[_key_of(problem, digest)] = live
        half = ranking.pick_elites(episodes.fitness, max(1, len(told) // 2))
        return ExternalState(
            generation=state.generation + 1,
            history=_append_block(state.history, told),
            digest=digest,
            recommended=self._read_recommendation(problem, state, live, solutions[half]),
            elites=EliteFigures.of(episodes, episodes.fitness, half),
        )

    def solution(self, problem: Problem, state: ExternalState) -> Population:
        """Deploy what the object recommends, or the mean of the better half."""
        return Population(Point(state.recommended), 1)

    def metrics(self, state: ExternalState) -> dict[str, float]:
        """Figures of the better half of the last generation."""
        return state.elites.metrics()

    @property
    def _cache(self) -> _Cache:
        # Not a field: it is no setting, and results do not depend on it.
        cache: _Cache = vars(self)["_cached"]
        return cache

    @property
    def _name(self) -> str:
        if isinstance(self.factory, str):
            return f"factory '{self.factory}'"
        return f"factory {getattr(self.factory, '__qualname__', repr(self.factory))}"

    def _read_recommendation(
        self, problem: Problem, state: ExternalState, live: _Live, better: FloatArray
    ) -> FloatArray:
        if self.recommendation is None:
            return better.mean(axis=0) if len(better) else state.recommended
        found = live.read(self.recommendation)
        parameters = np.array([] if found is None else found, dtype=np.float64)
        if parameters.shape != (problem.num_parameters,) or not np.isfinite(parameters).all():
            return state.recommended
        return parameters

    def _find_live(self, problem: Problem, state: ExternalState) -> _Live:
        """Find the object that was told the state's history, or replay it."""
        key = _key_of(problem, state.digest)
        live = self._cache.get(key)
        if live is None:
            live = _Live(self, problem)
            rest = np.concatenate([np.empty(0), *state.history])
            digest = ""
            for _ in range(state.generation):
                size = len(live.ask())
                if size > len(rest):
                    break
                told, rest = np.split(rest, [size])
                digest = _chain_digest(digest, told)
                live.tell(told)
            if digest != state.digest:
                raise UsageError(
                    f"{self._name} does not replay: it asks for other numbers of candidates "
                    "than in the run so far; give it the factory that the run began with"
                )
            self._cache.clear()
            self._cache[key] = live
        return live

    def _rehearse(self, problem: Problem) -> Iterator[FloatArray]:
        """Run the first generations on a made-up fitness."""
        live = _Live(self, problem)
        for _ in range(_REHEARSED):
            solutions = live.ask()
            yield solutions
            live.tell(-np.sum((solutions - problem.start - 1) ** 2, axis=1))
            if self.recommendation is not None:
                live.read(self.recommendation)


class _Live:
    """The third party's object, its pending candidates, and its global random states."""

    def __init__(self, settings: External, problem: Problem) -> None:
        self._settings = settings
        self._num_parameters = problem.num_parameters
        seed = int(strategy_generator(problem.seed, _SEED).integers(1, 2**31))
        self._states = (
            np.random.RandomState(seed).get_state(),
            random.Random(seed).getstate(),  # noqa: S311 - likewise
        )
        self._pending: Any = None
        factory = _load(settings.factory)
        extra = {}
        if problem.population_size is not None and _takes_population_size(factory):
            extra["population_size"] = problem.population_size
        with self._swap_random_states():
            self._object = factory(np.array(problem.start, dtype=np.float64), seed, **extra)
        for method in ("ask", "tell"):
            if not callable(getattr(self._object, method, None)):
                raise UsageError(
                    f"{settings._name} makes a {type(self._object).__name__} without "
                    f"{method}(): it must make an object with ask() and tell()"
                )

    def ask(self) -> FloatArray:
        """Candidates of the generation, (n, d); the same until `tell`."""
        if self._pending is None:
            with self._swap_random_states():
                self._pending = self._object.ask()
        solutions = np.array(self._pending, dtype=np.float64)
        if solutions.ndim != 2 or solutions.shape[1] != self._num_parameters or not len(solutions):
            raise UsageError(
                f"{self._settings._name}: ask() gave an array of shape {solutions.shape}, "
                f"not (n, {self._num_parameters})"
            )
        return solutions

    def tell(self, fitness: FloatArray) -> None:
        values = -fitness if self._settings.minimises else fitness.copy()
        with self._swap_random_states():
            if self._settings.passes_solutions:
                self._object.tell(self._pending, values)
            else:
                self._object.tell(values)
        self._pending = None

    def read(self, path: str) -> Any:
        try:
            with self._swap_random_states():
                found = attrgetter(path)(self._object)
                return found() if callable(found) else found
        except AttributeError as error:
            raise UsageError(f"recommendation '{path}': {error}") from error

    @contextmanager
    def _swap_random_states(self) -> Iterator[None]:
        """Swap the object's global random states in, and out again."""
        outside = (np.random.get_state(), random.getstate())  # noqa: NPY002
        np.random.set_state(self._states[0])  # noqa: NPY002
        random.setstate(self._states[1])
        try:
            yield
        finally:
            self._states = (np.random.get_state(), random.getstate())  # noqa: NPY002
            np.random.set_state(outside[0])  # noqa: NPY002
            random.setstate(outside[1])


class _Cache(dict[tuple[Any, ...], "_Live"]):
    """Holds the newest live object; copies of a strategy start without it."""

    def __reduce__(self) -> tuple[type[_Cache], tuple[()]]:
        return _Cache, ()


def _key_of(problem: Problem, digest: str) -> tuple[Any, ...]:
    """Identify what an object was made from and has been told."""
    start = np.asarray(problem.start, dtype=np.float64).tobytes()
    return problem.seed, problem.population_size, start, digest


def _chain_digest(digest: str, told: FloatArray) -> str:
    """Digest of a history with one more generation, from that of the history alone."""
    return hashlib.sha256(digest.encode() + told.tobytes()).hexdigest()


def _append_block(blocks: tuple[FloatArray, ...], newest: FloatArray) -> tuple[FloatArray, ...]:
    """Append to a history in blocks, each at most half as long as the one before.

    So there are few blocks to save, and a value is copied only when its block grows: a
    number of times that is logarithmic in the length of the history.
    """
    others = list(blocks)
    merged = [newest]
    length = len(newest)
    while others and len(others[-1]) < 2 * length:
        merged.insert(0, others.pop())
        length += len(merged[0])
    return (*others, np.concatenate(merged))


def _takes_population_size(factory: Factory) -> bool:
    try:
        return "population_size" in inspect.signature(factory).parameters
    except ValueError:  # built in: no signature to read
        return False


def _load(factory: Factory | str) -> Factory:
    found: Any = load("factory", factory) if isinstance(factory, str) else factory
    if not callable(found):
        raise UsageError(f"factory {factory!r} is neither a function nor package.module:function")
    loaded: Factory = found
    return loaded
