"""`python -m cds`: the command line."""

import os
import sys


def _drop_current_directory() -> None:
    """Take back the path entry that `-m` adds, unless -P already did.

    The programs that will use an archive do not have it, and a `json.py` that happens
    to lie here must neither be archived nor be imported by this tool.
    """
    if sys.flags.safe_path:
        return
    try:
        directory = os.getcwd()
    except FileNotFoundError:
        # Then nothing was added.
        return
    if sys.path[:1] == [directory]:
        del sys.path[0]


if __name__ == "__main__":
    _drop_current_directory()

    from cds.cli import main

    sys.exit(main())
