"""Numerical building blocks that know nothing of the rest of the project."""
