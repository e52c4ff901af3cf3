"""The command line `python -m cds COMMAND …`; each command is a module with the same name."""

import argparse
import importlib
import os
import signal
import sys
from collections.abc import Sequence

_COMMANDS = {
    "enable": "start every program from the cache",
    "disable": "start programs without the cache",
    "status": "show what is in the cache",
    "explain": "show what is in the cache for a program, and why",
    "clear": "remove the files in the cache",
    "dump": "write an archive of modules",
    "inspect": "show what is in an archive",
    "verify": "check that an archive is intact and up to date",
    "diff": "compare two archives",
    "stats": "run a program and report what came from archives",
    "merge": "combine trace lists",
}

_DESCRIPTION = """\
Work with archives of Python code. The interpreter maps an archive into memory when
it starts, instead of reading and unmarshalling each module. The cache has an archive
and a startup image of each program, and nothing has to be configured.

commands:
{commands}

`python -m cds COMMAND --help` explains a command.
"""


def command_parser(
    command: str, description: str, epilog: str, usage: str | None = None
) -> argparse.ArgumentParser:
    """Return the parser of a command; its texts are not wrapped again."""
    return argparse.ArgumentParser(
        prog=f"python -m cds {command}",
        usage=usage,
        description=description,
        epilog=epilog,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return its exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m cds",
        usage="%(prog)s [-h] COMMAND ...",
        description=_DESCRIPTION.format(
            commands="\n".join(f"  {name:8} {text}" for name, text in _COMMANDS.items())
        ),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("command", metavar="COMMAND", choices=_COMMANDS, help=argparse.SUPPRESS)
    parser.add_argument("arguments", nargs=argparse.REMAINDER, help=argparse.SUPPRESS)
    parsed = parser.parse_args(arguments)
    command = importlib.import_module(f"cds.cli.{parsed.command}")
    try:
        status: int = command.run(parsed.arguments)
        sys.stdout.flush()
    except KeyboardInterrupt:
        # 128 + SIGINT, as in shells.
        return 130
    except BrokenPipeError:
        # The reader has closed the pipe.  The interpreter would fail to flush the rest at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + signal.SIGPIPE
    return status
