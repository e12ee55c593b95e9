"""What an environment's contexts are: drawn at reset, or imposed through its options."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.random import Generator

from distes.errors import UsageError
from distes.types import Array, FloatArray


@dataclass(frozen=True)
class Component:
    """One number of a context."""

    name: str  # with its unit
    low: float  # least that is drawn
    high: float  # greatest that is drawn
    least: float  # that may be imposed
    greatest: float  # that may be imposed


@dataclass(frozen=True)
class Contexts:
    """All contexts of an environment."""

    env: str  # its id
    components: tuple[Component, ...]  # of a context, in order

    @property
    def names(self) -> tuple[str, ...]:
        """What the components are called, (k,), with their units."""
        return tuple(each.name for each in self.components)

    def draw(self, generator: Generator) -> FloatArray:
        """Draw a context, uniform in each component, (k,)."""
        low = np.array([each.low for each in self.components])
        high = np.array([each.high for each in self.components])
        return generator.uniform(low, high)

    def read_imposed(self, options: Mapping[str, Any] | None) -> FloatArray | None:
        """Take the context that ``reset`` was asked for, (k,); None if it was not.

        Raises:
            UsageError: it is no vector of k numbers, or one of them is out of range.
        """
        given = None if options is None else options.get("context")
        if given is None:
            return None
        names = ", ".join(self.names)
        try:
            context: FloatArray = np.array(given, dtype=np.float64)
        except (TypeError, ValueError):
            shown = " ".join(repr(given).split())[:60]
            raise UsageError(f"{self.env}: the context {shown} is not numbers ({names})") from None
        if context.shape != (len(self.components),):
            raise UsageError(
                f"{self.env}: a context has shape {context.shape}, due are "
                f"{len(self.components)} numbers ({names})"
            )
        for each, value in zip(self.components, context.tolist(), strict=True):
            if not each.least <= value <= each.greatest:
                raise UsageError(
                    f"{self.env}: the context's {each.name} {value:g} is not from "
                    f"{each.least:g} to {each.greatest:g}"
                )
        return context

    def check(self, contexts: FloatArray) -> None:
        """Refuse contexts (m, k') that `read_imposed` refuses, as it does the first of them."""
        bad: Array = np.ones(len(contexts), bool)
        if contexts.shape[1] == len(self.components):
            least = np.array([each.least for each in self.components])
            greatest = np.array([each.greatest for each in self.components])
            bad = ~np.all((contexts >= least) & (contexts <= greatest), axis=1)
        for row in np.flatnonzero(bad)[:1]:
            self.read_imposed({"context": contexts[row]})
