"""Features of contexts: what an upper-level policy and a value function are linear in.

A row's features depend on that row alone, to the last bit, so that driver and worker agree.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from dataclasses import astuple, dataclass, replace
from functools import cached_property
from itertools import combinations_with_replacement
from typing import Any, ClassVar

import numpy as np

from distes.errors import UsageError, unknown
from distes.population import coverage
from distes.types import FloatArray

FeatureFunction = Callable[[FloatArray], Any]
"""Contexts (m, k) -> features (m, p)."""

FeatureChoice = str | FeatureFunction
"""A name of `build_features`, or a function of the user's."""

DEGREES = {"constant": 0, "linear": 1, "affine": 1, "quadratic": 2, "cubic": 3}
NAMES = (*DEGREES, "rbf:COUNT")

SAME = 1e-3
"""Share of the contexts' spread below which two count as one, for bumps around them."""

TRIAL_CONTEXTS = (1.0, 0.0, 0.5, 2.0)
"""Contexts, one after the other, that a user's function is asked for the shape of features."""


@dataclass(frozen=True)
class Polynomial:
    """All monomials of the contexts up to a degree, lowest first.

    >>> Polynomial(2, 2)(np.array([[2.0, 3.0]]))
    array([[1., 2., 3., 4., 6., 9.]])

    Attributes:
        num_contexts: k.
        degree: highest.
        bias: whether the constant is among them.
    """

    num_contexts: int
    degree: int
    bias: bool = True

    @cached_property
    def monomials(self) -> tuple[tuple[int, ...], ...]:
        """The components that each feature multiplies."""
        return tuple(
            monomial
            for degree in range(0 if self.bias else 1, self.degree + 1)
            for monomial in combinations_with_replacement(range(self.num_contexts), degree)
        )

    @property
    def num_features(self) -> int:
        return len(self.monomials)

    @property
    def uses_context(self) -> bool:
        """Whether there is more than the constant."""
        return any(self.monomials)

    @property
    def constant(self) -> int | None:
        """The first, with bias."""
        return 0 if self.bias else None

    def __call__(self, contexts: FloatArray) -> FloatArray:
        """Multiply components, (m, k) -> (m, p)."""
        out = np.ones((len(contexts), self.num_features))
        for column, monomial in enumerate(self.monomials):
            for component in monomial:
                out[:, column] *= contexts[:, component]
        return out

    def adapt_to(self, contexts: FloatArray) -> Polynomial:
        return self


@dataclass(frozen=True, eq=False)
class RadialBasis:
    """A constant, and Gaussian bumps around centres among the contexts seen.

    Centres are chosen by farthest-point traversal (Gonzalez 1985), so that they cover the
    contexts. A generation adds bumps until there are ``count``, at most as many as keep them
    independent of each other and of the constant: one less than there are different contexts.

    A bump stays as it was added, so that coefficients keep their meaning: its width is the
    mean distance, over the bumps added together, to the nearest centre then. Those added
    later, between the first, are narrower, and those beyond them wider.

    Attributes:
        count: bumps, once enough contexts were seen.
        num_contexts: k.
        centers: (c, k); none before contexts were seen.
        widths: (c, k) in the units of each component.
    """

    count: int
    num_contexts: int
    centers: FloatArray
    widths: FloatArray
    constant: ClassVar[int | None] = 0

    @property
    def num_features(self) -> int:
        return 1 + len(self.centers)

    @property
    def uses_context(self) -> bool:
        """Once there are bumps."""
        return len(self.centers) > 0

    def __call__(self, contexts: FloatArray) -> FloatArray:
        """Evaluate the bumps, (m, k) -> (m, p)."""
        out = np.ones((len(contexts), self.num_features))
        distance = np.zeros((len(contexts), len(self.centers)))
        for component in range(self.num_contexts):
            apart = contexts[:, component, None] - self.centers[:, component]
            apart /= self.widths[:, component]
            apart *= apart
            distance += apart
        out[:, 1:] = np.exp(-0.5 * distance)
        return out

    def adapt_to(self, contexts: FloatArray) -> RadialBasis:
        """Add bumps where contexts are far from those there are."""
        before = len(self.centers)
        if before >= self.count or not contexts.size:
            return self
        center, spread = coverage.mean_and_spread(np.concatenate([self.centers, contexts]))
        known, rows = (self.centers - center) / spread, (contexts - center) / spread
        found = coverage.choose_farthest(rows, self.count - before + 1, known, SAME)
        # The last is left out: a bump for each context would add up to the constant.
        added = found[:-1]
        if not added:
            return self
        chosen = np.concatenate([known, rows[added]])
        apart = ((chosen[before:, None] - chosen[None]) ** 2).sum(axis=2)
        apart[np.arange(len(added)), before + np.arange(len(added))] = np.inf
        typical = float(np.sqrt(apart.min(axis=1)).mean()) if len(chosen) > 1 else 1.0
        widths = np.tile(spread * typical, (len(added), 1))
        return replace(
            self,
            centers=np.concatenate([self.centers, contexts[added]]),
            widths=np.concatenate([self.widths, widths]),
        )


_FUNCTIONS: dict[str, FeatureFunction] = {}
"""Users' functions by name: records hold the name alone, so that no file can name code."""


@dataclass(frozen=True)
class Custom:
    """A user's function of the contexts, called with one context at a time.

    Row by row it cannot depend on which other contexts it is given.

    Attributes:
        name: of the function.
        num_contexts: k.
        num_features: p.
    """

    name: str
    num_contexts: int
    num_features: int
    uses_context: ClassVar[bool] = True
    constant: ClassVar[int | None] = None

    def __reduce__(self) -> tuple[Any, ...]:
        """Travel to a worker together with the function."""
        return _rebuild_custom, (_FUNCTIONS[self.name], *astuple(self))

    def __call__(self, contexts: FloatArray) -> FloatArray:
        """Call the function, (m, k) -> (m, p); NaN for contexts that hold NaN.

        Raises:
            UsageError: features have another shape, or are not finite.
        """
        function = _FUNCTIONS.get(self.name)
        if function is None:
            raise UsageError(f"features {self.name} are of a function that is not loaded here")
        out = np.full((len(contexts), self.num_features), np.nan)
        for row in np.flatnonzero(np.isfinite(contexts).all(axis=1)):
            out[row] = _call_function(
                function, self.name, contexts[row : row + 1], self.num_features
            )
            if not np.isfinite(out[row]).all():
                raise UsageError(
                    f"features {self.name} are not finite for context {contexts[row].tolist()}"
                )
        return out

    def adapt_to(self, contexts: FloatArray) -> Custom:
        return self


Features = Polynomial | RadialBasis | Custom
"""Maps contexts (m, k) to features (m, p): p is `num_features`; `uses_context` says whether they
differ between contexts, `constant` which is 1 for every context, if one is. `adapt_to` adapts to
contexts that were seen, (m, k); features there were keep their places."""


def build_features(choice: FeatureChoice, num_contexts: int, label: str = "features") -> Features:
    """Make features by name: constant, linear, affine, quadratic, cubic, rbf:COUNT.

    Args:
        choice: a name; or a function, contexts (m, k) -> (m, p).
        num_contexts: k.
        label: how the setting is called, for messages.

    Raises:
        UsageError: there is none of that name, or the function does not give features.
    """
    if callable(choice):
        return _build_custom(choice, num_contexts, label)
    name, _, number = choice.partition(":")
    if name == "rbf":
        if not number.isdigit() or int(number) < 1:
            raise UsageError(f"{label} '{choice}' is not rbf:COUNT with a number of at least 1")
        none = np.empty((0, num_contexts))
        return RadialBasis(int(number), num_contexts, none, none)
    if choice not in DEGREES:
        raise unknown(label, choice, NAMES)
    if choice == "linear" and num_contexts == 0:
        raise UsageError(f"{label} 'linear' of no context are no features: use constant or affine")
    return Polynomial(num_contexts, DEGREES[choice], bias=choice != "linear")


def remember_functions(settings: Iterable[object]) -> None:
    """Know users' functions again, among a strategy's settings, for records that name them."""
    for each in settings:
        if callable(each) and _find_by_name(each) is each:
            _FUNCTIONS[_name_of(each)] = each


def _name_of(function: object) -> str:
    module = getattr(function, "__module__", None)
    return f"{module}:{getattr(function, '__qualname__', '<unnamed>')}"


def _find_by_name(function: object) -> object:
    """What the function's module holds under its name: a record of it is read so."""
    module, _, path = _name_of(function).partition(":")
    found: object = sys.modules.get(module)
    for part in path.split("."):
        found = getattr(found, part, None)
    return found


def _build_custom(function: FeatureFunction, num_contexts: int, label: str) -> Custom:
    name = _name_of(function)
    path = name.partition(":")[2]
    if "<" in name:
        raise UsageError(f"{label} {path} has no name of its own: use a function of a module")
    if _find_by_name(function) is not function:
        raise UsageError(
            f"{label} {path} is not what its module has under that name, a method of one object, "
            "say: use a function of a module"
        )
    _FUNCTIONS[name] = function
    return Custom(name, num_contexts, _count_features(function, name, num_contexts))


def _count_features(function: FeatureFunction, name: str, num_contexts: int) -> int:
    """How many features a function gives."""
    faults: list[Exception] = []
    for value in TRIAL_CONTEXTS:
        context = np.full((1, num_contexts), value)
        try:
            with np.errstate(all="ignore"):
                return len(_call_function(function, name, context, None))
        except UsageError:
            raise
        except Exception as error:  # noqa: BLE001 - the user's function may raise anything
            faults.append(error)
    said = " ".join(str(faults[0]).split())
    raise UsageError(
        f"features {name} of {TRIAL_CONTEXTS[0]:g} fail: {type(faults[0]).__name__}: {said}"
    ) from faults[0]


def _call_function(
    function: FeatureFunction, name: str, context: FloatArray, expected: int | None
) -> FloatArray:
    """Features of one context, (1, k) -> (p,)."""
    # A copy: it may be computed with in place, and is the episode's own.
    features: FloatArray = np.asarray(function(context.copy()), dtype=np.float64)
    if features.ndim != 2 or len(features) != 1 or expected not in (None, features.shape[1]):
        due = "(1, p)" if expected is None else f"(1, {expected})"
        raise UsageError(
            f"features {name} gave shape {features.shape} for one context of shape "
            f"{context.shape}: {due} is due"
        )
    row: FloatArray = features[0]
    return row


def _rebuild_custom(function: FeatureFunction, name: str, *sizes: int) -> Custom:
    """Make features on the process that they travelled to."""
    _FUNCTIONS[name] = function
    return Custom(name, *sizes)
