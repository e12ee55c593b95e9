"""How IPython finds what notebooks show of runs and results: by the names of their classes."""

from __future__ import annotations

import sys
from typing import Any

SHOWN = (("distes.runs.reader", "Run"), ("distes.search.result", "Result"))
"""Module and name of the classes that are shown as HTML."""


def register_formatters() -> None:
    """Tell the running IPython how to show runs and results; nothing without one.

    Nothing of IPython, runs or figures is imported for it: IPython compares names when it
    shows an object.
    """
    ipython: Any = sys.modules.get("IPython")
    shell = None if ipython is None else ipython.get_ipython()
    if shell is None:
        return
    formatter = shell.display_formatter.formatters["text/html"]
    for module, name in SHOWN:
        formatter.for_type_by_name(module, name, _render_html)


def _render_html(shown: Any) -> str:
    from distes.views.notebook import render_html

    return render_html(shown)
