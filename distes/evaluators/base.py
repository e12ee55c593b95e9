"""What an evaluator is: something that runs a population's episodes, anywhere."""

from __future__ import annotations

from typing import Protocol

from distes.population import Evaluated, Population, RunKey


class Pending(Protocol):
    """An evaluation under way."""

    def result(self) -> Evaluated:
        """Wait for the whole answer, helping it along."""


class Evaluator(Protocol):
    """Runs populations. How many workers there are cannot change a result."""

    def submit(self, population: Population, key: RunKey) -> Pending:
        """Start an evaluation; those submitted earlier go first."""

    def close(self) -> None:
        """End the workers."""
