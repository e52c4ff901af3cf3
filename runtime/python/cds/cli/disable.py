"""`python -m cds disable`: start programs without the cache."""

import sys
from collections.abc import Sequence

from cds.cache.setting import SettingError, set_for_environment, set_for_user
from cds.cli import command_parser

_DESCRIPTION = """\
Turn off the cache, for the virtual environment of this python, or with --user for all
programs of this user. In a virtual environment that is turned off, the setting of the
user has no effect. The files in the cache stay; `python -m cds clear` removes them.
"""

_EPILOG = """\
exit status:
  0  the cache is off, unless PYTHON_CDS=auto or `-X cds=auto` turns it on
  2  wrong usage, or the setting cannot be written
"""


def run(arguments: Sequence[str]) -> int:
    """Run the command and return its exit status."""
    parser = command_parser("disable", _DESCRIPTION, _EPILOG)
    parser.add_argument("--user", action="store_true", help="for all programs of this user")
    options = parser.parse_args(arguments)
    try:
        path = set_for_user(is_on=False) if options.user else set_for_environment("off")
    except SettingError as error:
        print(f"cds disable: error: {error}", file=sys.stderr)
        return 2
    print(f"The cache is off ({path}).")
    return 0
