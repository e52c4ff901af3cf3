"""`python -m cds`: the command line."""

import os
import sys


def _drop_current_directory() -> None:
    """Remove the path entry that `-m` adds; with `-P` the interpreter adds none.

    The programs that will use an archive do not have this entry.  A `json.py` in the current
    directory must not be archived, and this tool must not import it.
    """
    if sys.flags.safe_path:
        return
    try:
        directory = os.getcwd()
    except FileNotFoundError:
        # The current directory was removed, so `-m` has added no entry.
        return
    if sys.path[:1] == [directory]:
        del sys.path[0]


if __name__ == "__main__":
    _drop_current_directory()

    from cds.cli import main

    sys.exit(main())
