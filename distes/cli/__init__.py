"""The command line: parsing, exit codes, and what is said when something is wrong.

Exit codes: 0 done, 1 failed, 2 bad usage, 130 and 143 interrupted by SIGINT and SIGTERM.
"""

from __future__ import annotations

import os
import re
import signal
import sys
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click

from distes.cli.commands import distes
from distes.errors import Notice, RunFailed, StorageError, UsageError, unknown
from distes.registry import look_beside
from distes.signals import Interrupted
from distes.views.escapes import escape_controls

__all__ = ["main"]

FAILED, BAD_USAGE = 1, 2


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command line.

    A mistake of the user is one sentence on stderr. A fault in the user's own code, or in
    ours, passes through with its traceback.

    Args:
        arguments: without the program's name; None takes the process's own.

    Returns:
        The exit code.
    """
    look_beside(Path.cwd())  # modules there are the user's to name
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("always", Notice)
            warnings.showwarning = _show_notices(warnings.showwarning)
            given = None if arguments is None else list(arguments)
            code = distes.main(args=given, prog_name="distes", standalone_mode=False)
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message(), err=True)
        return BAD_USAGE
    except click.ClickException as error:
        return _refuse(_explain(error), BAD_USAGE)
    except UsageError as error:
        return _refuse(str(error), BAD_USAGE)
    except (RunFailed, StorageError) as error:
        click.echo(f"distes: {escape_controls(str(error))}", err=True)
        return FAILED
    except Interrupted as interruption:
        return 128 + interruption.signal
    except (KeyboardInterrupt, click.Abort):
        return 128 + signal.SIGINT
    except SystemExit as left:
        # While Ray starts, SIGTERM is answered by Ray: it exits with the signal's number.
        if left.code == signal.SIGTERM:
            return _refuse("stopped by SIGTERM", 128 + signal.SIGTERM)
        raise
    except BrokenPipeError:
        # The reader has seen enough; keep Python from complaining at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
    return code if isinstance(code, int) else 0


def _show_notices(others: Callable[..., None]) -> Callable[..., None]:
    """Show a notice as one line, and any other warning as before, but once."""
    shown = set()

    def show(message: Warning | str, category: type[Warning], *place: Any, **more: Any) -> None:
        text = escape_controls(str(message))
        if issubclass(category, Notice):
            click.echo(f"distes: {text}", err=True)
        elif (category, text) not in shown:
            shown.add((category, text))
            others(text, category, *place, **more)

    return show


def _refuse(sentence: str, exit_code: int) -> int:
    click.echo("distes: " + escape_controls(re.sub(r"\s+", " ", sentence)), err=True)
    return exit_code


def _explain(error: click.ClickException) -> str:
    """Say what click found wrong as the rest of the project would."""
    if isinstance(error, click.exceptions.NoSuchCommand):
        return str(unknown("command", error.command_name, distes.commands))
    if isinstance(error, click.NoSuchOption) and error.ctx is not None:
        command = error.ctx.command
        spelled = [flag for option in command.get_params(error.ctx) for flag in option.opts]
        flags = [flag for flag in spelled if flag.startswith("--")]
        explain = getattr(command, "explain_unknown", None)
        said = explain(error.ctx, error.option_name, flags) if explain else None
        return said or str(unknown("flag", error.option_name, flags))
    return error.format_message()
