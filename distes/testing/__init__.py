"""Conformance suites for strategies, policies and environments of your own."""

from distes.testing.policies import PolicyConformance
from distes.testing.problems import FunctionProblem
from distes.testing.purity import Finding, PurityReport, assert_pure
from distes.testing.strategies import StrategyConformance

__all__ = [
    "Finding",
    "FunctionProblem",
    "PolicyConformance",
    "PurityReport",
    "StrategyConformance",
    "assert_pure",
]
