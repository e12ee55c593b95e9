"""Examples in docstrings hold, in the package as it is installed."""

import doctest
import importlib
import pkgutil

import pytest

import distes

FOUND = pkgutil.walk_packages(distes.__path__, "distes.")
MODULES = ["distes", *(m.name for m in FOUND if "__main__" not in m.name)]


@pytest.mark.parametrize("name", MODULES)
def test_docstrings(name):
    assert doctest.testmod(importlib.import_module(name)).failed == 0


def test_some_docstrings_have_examples():
    """Were none found, the test above could not fail."""
    tried = sum(doctest.testmod(importlib.import_module(name)).attempted for name in MODULES)
    assert tried >= 5
