"""What the shell completes behind a flag or an argument: nothing that a user names is imported."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from glob import escape, glob
from pathlib import Path
from typing import TypeAlias

import click
from click.shell_completion import CompletionItem

Completer: TypeAlias = Callable[[click.Context, click.Parameter, str], list[CompletionItem]]


def complete_words(words: Iterable[str]) -> Completer:
    """Make what completes words that are known beforehand."""

    def complete(_: click.Context, __: click.Parameter, begun: str) -> list[CompletionItem]:
        return [CompletionItem(word) for word in words if word.startswith(begun)]

    return complete


def complete_names(folder: str, base: str) -> Completer:
    """Make what completes the names of a kind.

    Args:
        folder: of its files below distes.
        base: what they derive from, as ``package.module:Class``.
    """

    def complete(_: click.Context, __: click.Parameter, begun: str) -> list[CompletionItem]:
        from distes.registry import load, names

        found = names(folder, load("base", base))
        return [CompletionItem(name) for name in found if name.startswith(begun)]

    return complete


def complete_runs(_: click.Context, __: click.Parameter, begun: str) -> list[CompletionItem]:
    """Complete run directories, here and one folder below; else any folder."""
    found = _list_beginning(begun, "*/config.json") + _list_beginning(begun, "*/*/config.json")
    runs = sorted(str(Path(config).parent) for config in found)
    return [CompletionItem(run) for run in runs] or [CompletionItem(begun, type="dir")]


def complete_targets(_: click.Context, __: click.Parameter, begun: str) -> list[CompletionItem]:
    """Complete ids of registered environments, and TOML files; else any file."""
    from distes.tasks.envs import list_registered

    found = [name for name in list_registered() if name.startswith(begun)]
    found += sorted(_list_beginning(begun, "*.toml"))
    return [CompletionItem(name) for name in found] or [CompletionItem(begun, type="file")]


def _list_beginning(begun: str, pattern: str) -> list[str]:
    return glob(escape(begun) + pattern)  # noqa: PTH207 - a Path forgets a slash at the end
