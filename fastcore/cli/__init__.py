"""The command line: ``fastcore select``, ``methods``, ``train``, ``experiment``, ``report``, ``doctor``, ``demo``.

Exit status: 0 done, 1 a failure while running, 2 wrong usage or input, 130 interrupted. An error is one
line on standard error, and so is a warning.
"""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Sequence
from typing import Annotated

import typer

from fastcore import __version__
from fastcore.cli import demo, doctor, experiment, methods, report, select, train

app = typer.Typer(
    name="fastcore",
    help="Choose the rows of a data set that stand for all of it.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.command("select")(select.command)
app.command("methods")(methods.command)
app.command("train")(train.command)
app.command("experiment")(experiment.command)
app.command("report")(report.command)
app.command("doctor")(doctor.command)
app.command("demo")(demo.command)


def _show_version(asked: bool) -> None:
    if asked:
        typer.echo(f"fastcore {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    pass


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line on ``arguments`` (by default those of the process); returns the exit status."""
    plain, warnings.formatwarning = warnings.formatwarning, _as_line
    try:
        status = typer.main.get_command(app).main(
            args=None if arguments is None else list(arguments), prog_name="fastcore", standalone_mode=False
        )
        sys.stdout.flush()
        return status if isinstance(status, int) else 0
    except (KeyboardInterrupt, typer.Abort):
        return _fail("interrupted", 130)
    except BrokenPipeError:
        # The reader went away. Python would complain once more when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except (ValueError, TypeError) as error:
        return _fail(error, 2)
    except OSError as error:
        return _fail(error.strerror or error, 1)
    except MemoryError as error:
        return _fail(f"out of memory {error}", 1)
    except Exception as error:
        # Wrong usage, as the library that parses the command line reports it, knows its own message.
        usage = getattr(error, "format_message", None)
        return _fail(usage(), 2) if usage else _fail(str(error) or type(error).__name__, 1)
    finally:
        warnings.formatwarning = plain


def _as_line(message: Warning | str, *_: object, **__: object) -> str:
    """A warning as a user of the command needs it: without the line of the source that it came from."""
    return f"fastcore: {' '.join(str(message).removeprefix('fastcore: ').split())}\n"


def _fail(reason: object, status: int) -> int:
    line = " ".join(str(reason).split())
    if line:  # `fastcore` alone shows its help, and has nothing to add
        print(f"fastcore: {line}", file=sys.stderr)
    return status
