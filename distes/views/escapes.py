"""Text of a run on its way to a terminal, which would obey what it holds."""

from __future__ import annotations


def escape_controls(text: str) -> str:
    r"""Write out what is no visible sign; ends of lines and tabs stay.

    >>> print(escape_controls("cem\x1b[2J\u202e"))
    cem\x1b[2J\u202e
    """
    return "".join(
        each if each.isprintable() or each in "\n\t" else each.encode("unicode_escape").decode()
        for each in text
    )
