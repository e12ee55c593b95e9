"""Cases of a test that the default run leaves out."""

from __future__ import annotations

from typing import Any

import pytest


def slow(*values: Any, **settings: Any) -> Any:
    """One case of ``parametrize``, for `pytest -m slow` only."""
    return pytest.param(*values, marks=pytest.mark.slow, **settings)
