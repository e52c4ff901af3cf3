"""`python -m cds enable`: start every program from the cache."""

import sys
from collections.abc import Sequence

from cds.cache.place import obstacle, own_cache
from cds.cache.setting import (
    SettingError,
    find,
    set_for_environment,
    set_for_user,
    turned_off_by,
)
from cds.cli import command_parser

_DESCRIPTION = """\
Turn on the cache, for the virtual environment of this python, or with --user for all
programs of this user. Then each program gets an archive and a startup image of its own:
its first start is noted, its second start is recorded, and a background process of low
priority makes the files. Later starts use them.

Programs need no options and no changes. PYTHON_CDS=off turns the cache off for one run;
PYTHON_CDS=auto turns it on where this command cannot be used, for example in a container.

Images are experimental: see "Startup images" in the README.
"""

_EPILOG = """\
examples:
  .venv/bin/python -m cds enable
  python -m cds enable --user

exit status:
  0  the cache is on
  2  wrong usage, or the setting cannot be written
"""


def run(arguments: Sequence[str]) -> int:
    """Run the command and return its exit status."""
    parser = command_parser("enable", _DESCRIPTION, _EPILOG)
    parser.add_argument("--user", action="store_true", help="for all programs of this user")
    options = parser.parse_args(arguments)
    directory = own_cache()
    if directory is None:
        print(
            "cds enable: error: there is no place for a cache; "
            "set HOME, XDG_CACHE_HOME or PYTHON_CDS_CACHE to an absolute path",
            file=sys.stderr,
        )
        return 2
    try:
        path = set_for_user(is_on=True) if options.user else set_for_environment("auto")
    except SettingError as error:
        print(f"cds enable: error: {error}", file=sys.stderr)
        return 2
    if find() is not None:
        print(f"The cache is on ({path}).")
    elif off := turned_off_by():
        print(f"The cache is on ({path}), but {off} turns it off here.")
    else:
        reason = obstacle(directory) or "a filter of system calls is active (seccomp)"
        print(f"The cache is on ({path}), but it is not used here: {reason}.")
    print(f"Archives and images will be in {directory}.")
    print("`python -m cds status` lists them. `python -m cds disable` turns the cache off.")
    return 0
