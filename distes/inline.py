"""The door from runs and searches to notebooks.

A notebook asks an object itself for what it shows of it, so objects of the layers below must
find the drawing above them: here, by name, when it is asked for.
"""

from __future__ import annotations

import importlib
import sys
from typing import Any


def in_notebook() -> bool:
    """Whether this process is a notebook's kernel; a terminal, IPython's too, is none."""
    ipython: Any = sys.modules.get("IPython")
    shell = None if ipython is None else ipython.get_ipython()
    return getattr(shell, "kernel", None) is not None


def html(shown: Any) -> str:
    """Show a run or a result as HTML; never raises."""
    text: str = importlib.import_module("distes.views.notebook").html(shown)
    return text


def live_curve() -> Any:
    """Make the observer that shows a notebook how a search goes."""
    return importlib.import_module("distes.views.observers.notebook").LiveCurve()
