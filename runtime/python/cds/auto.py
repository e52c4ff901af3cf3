"""`-X cds_auto=FILE`: an archive that renews itself.

A run that had to do without the archive for some module hands the names of its modules
to a process that outlives it, which writes the archive while nobody waits for it.
"""

import os
import sys
from collections.abc import Iterable

from cds.interpreter import environment, options

_NICENESS = 19


def refresh(archive: str, lines: Iterable[str]) -> None:
    """Start writing the archive, from the lines of a trace list, and do not wait for it.

    The interpreter calls this when it is about to end.  What it needs is imported
    already: it shall end soon.
    """
    listing = os.memfd_create("cds_auto")
    try:
        _write_all(listing, "".join(f"{line}\n" for line in lines).encode())
        os.lseek(listing, 0, os.SEEK_SET)
        nowhere = os.open(os.devnull, os.O_RDWR)
        try:
            os.posix_spawn(
                sys.executable,
                # -P: modules beside a script are in the list with their files.
                [sys.executable, *options(), "-P", "-m", "cds.auto", os.path.abspath(archive)],
                environment(),
                file_actions=[
                    (os.POSIX_SPAWN_DUP2, listing, 0),
                    (os.POSIX_SPAWN_DUP2, nowhere, 1),
                    (os.POSIX_SPAWN_DUP2, nowhere, 2),
                ],
                setsid=True,
            )
        finally:
            os.close(nowhere)
    finally:
        os.close(listing)


def _write_all(descriptor: int, data: bytes) -> None:
    while data:
        data = data[os.write(descriptor, data) :]


def _write(archive: str) -> None:
    import fcntl

    from cds import tracelist
    from cds.dump import Selection, dump

    os.nice(_NICENESS)
    directory = os.open(os.path.dirname(archive), os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(directory, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        # Somebody writes an archive here; the next run that misses something is soon enough.
        return
    entries = tracelist.read("-")
    dump(archive, Selection(entries), freshness=_freshness(archive), note_skipped=True)


def _freshness(archive: str) -> str:
    """Return the policy of the archive that is to be replaced."""
    from cds.inspection import InspectionError, inspect

    try:
        return inspect(archive).freshness
    except InspectionError:
        return "mtime"


if __name__ == "__main__":
    _write(sys.argv[1])
