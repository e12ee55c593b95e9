"""Kinds of arguments and flags that commands share: runs, and what is found by name."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

from distes.cli.completion import complete_names, complete_runs
from distes.errors import UsageError

if TYPE_CHECKING:
    from distes.runs.storage.location import Location

NAMED = {
    "strategies": ("strategies", "distes.strategies.base:Strategy"),
    "policies": ("policies", "distes.policies.base:PolicySpec"),
    "engines": ("engines", "distes.engines.base:Engine"),
    "observers": ("views.observers", "distes.search.observer:Observer"),
    "figures": ("views.figures", "distes.views.figures.base:Figure"),
}
"""What is found by name: the folder of its files, and what they derive from."""


def locate_run(given: str) -> Location:
    """Read where a run is: a path, or a URI, which a `Path` would spoil."""
    from distes.runs.storage.location import locate

    return locate(given)


RUN = click.argument("run", type=locate_run, shell_complete=complete_runs)


FORCE = click.option("--force", is_flag=True, help="overwrite the file if it is there")

TRUST = click.option(
    "--trust",
    is_flag=True,
    help="import and run what the run names, though it is not known to be one of yours",
)
QUIET = click.option(
    "--quiet", is_flag=True, help="print the result alone, in one line; what goes wrong as ever"
)


class AtLeast(click.IntRange):
    """Whole numbers from one on, refused in the words that all settings have."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Read a number.

        Raises:
            UsageError: it is none, or too small.
        """
        try:
            return super().convert(value, param, ctx)
        except click.BadParameter:
            flag = param.opts[0] if param else "number"
            raise UsageError(
                f"{flag} '{value}' is not a whole number of at least {self.min}"
            ) from None


class NameOption(click.Option):
    """A flag that takes names of a kind; help and completion list them, imported only then."""

    def __init__(self, *spelled: Any, kind: str, **settings: Any) -> None:
        """Take a key of `NAMED`, and what any option takes; ``{}`` in its help is the list."""
        super().__init__(*spelled, shell_complete=complete_names(*NAMED[kind]), **settings)
        self.kind = kind

    def get_help_record(self, ctx: click.Context) -> tuple[str, str] | None:
        """Fill in the names."""
        from distes.registry import load, names

        flags, text = super().get_help_record(ctx) or ("", "")
        folder, base = NAMED[self.kind]
        return flags, text.format(", ".join(names(folder, load("base", base))))


OBSERVERS = click.option(
    "--observer",
    "observers",
    cls=NameOption,
    kind="observers",
    multiple=True,
    metavar="NAME",
    help="told how the run goes: {} or module:Class; may be repeated",
)


def add_choices(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the flags that name what a search is made of."""
    strategy = click.option(
        "--strategy",
        metavar="NAME",
        help="see distes list strategies; auto follows from the task (auto)",
        shell_complete=complete_names(*NAMED["strategies"]),
    )
    policy = click.option(
        "--policy",
        metavar="NAME",
        help="see distes list policies; auto follows from task and strategy (auto)",
        shell_complete=complete_names(*NAMED["policies"]),
    )
    return strategy(policy(OBSERVERS(command)))
