"""`python -m cds stats`: run a program and report what came from archives."""

import argparse
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence

from cds import interpreter
from cds.cli import command_parser

EXIT_TROUBLE = 125

_WITH_VALUE = ("--archive", "-o", "--output")
_WITHOUT_VALUE = ("-h", "--help", "--json")

_DESCRIPTION = """\
Run a program, and report what came from archives: the modules that did not and why, the
directories that were searched, the time that archives took, and for each section of an
archive the memory that the program used and the memory that it wrote to.

PROGRAM is a script, -m MODULE or -c CODE, with its arguments, as after `python`.
"""

_EPILOG = """\
The interpreter options `-X cds_stats` (report on standard error) and `-X cds_stats=FILE`
(JSON if FILE ends with .json) write the same report.

examples:
  python -m cds stats app.py --port 80
  python -m cds stats --archive app.cds -m django check
  python -m cds stats --json --archive app.cds -c 'import pandas'

exit status:
  the exit status of the program; 125 if there is no report, or OUT cannot be written;
  2 for wrong usage
"""


def run(arguments: Sequence[str]) -> int:
    """Run the command and return its exit status."""
    own, program = _split(arguments)
    parser = _parser()
    options = parser.parse_args(own)
    if not program:
        parser.error("name the PROGRAM to run: a script, -m MODULE or -c CODE")
    with tempfile.TemporaryDirectory(prefix="cds-stats-") as directory:
        report = os.path.join(directory, "report.json" if options.json else "report.txt")
        command = [sys.executable, *interpreter.options(), "-X", f"cds_stats={report}"]
        if options.archive is not None:
            command += ["-X", f"cds={options.archive}"]
        try:
            status = subprocess.run([*command, *program], check=False).returncode
            with open(report, encoding="utf-8") as file:
                text = file.read()
        except OSError as error:
            return _fail(
                f"the program left no report: {error.strerror}; "
                "a program that ends by os._exit(), exec or a signal writes none"
            )
    if options.output is None:
        sys.stderr.write(text)
    else:
        try:
            with open(options.output, "w", encoding="utf-8") as file:
                file.write(text)
        except OSError as error:
            return _fail(f"cannot write {options.output}: {error.strerror}; give another OUT")
    # If a signal ended the program, the status is the same as in a shell.
    return status if status >= 0 else 128 - status


def _split(arguments: Sequence[str]) -> tuple[Sequence[str], Sequence[str]]:
    """Divide the arguments into those of the command and those of the program."""
    index = 0
    while index < len(arguments):
        argument = arguments[index]
        if argument in _WITH_VALUE:
            index += 2
        elif argument in _WITHOUT_VALUE or argument.startswith(("--archive=", "--output=")):
            index += 1
        else:
            break
    return arguments[:index], arguments[index:]


def _fail(text: str) -> int:
    print(f"cds stats: error: {text}", file=sys.stderr)
    return EXIT_TROUBLE


def _parser() -> argparse.ArgumentParser:
    parser = command_parser(
        "stats",
        _DESCRIPTION,
        _EPILOG,
        "%(prog)s [-h] [--archive FILE] [--json] [-o OUT] PROGRAM ...",
    )
    parser.add_argument("--archive", metavar="FILE", help="run the program with -X cds=FILE")
    parser.add_argument("--json", action="store_true", help="report as JSON")
    parser.add_argument(
        "-o", "--output", metavar="OUT", help="write the report to OUT, not to standard error"
    )
    return parser
