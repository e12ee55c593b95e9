"""Environments of the project itself."""
