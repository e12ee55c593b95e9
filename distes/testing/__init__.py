"""Conformance suites for strategies, policies and environments of your own."""
