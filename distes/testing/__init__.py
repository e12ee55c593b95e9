"""Conformance suites for strategies, policies and environments of your own."""

from distes.testing.purity import Finding, PurityReport, assert_pure

__all__ = ["Finding", "PurityReport", "assert_pure"]
