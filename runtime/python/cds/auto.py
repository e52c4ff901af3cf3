"""`-X cds_auto=FILE[,image]`: an archive, and a startup image, that renew themselves.

A run that had to do without the archive for some module, or without the image, hands the
names of its modules to a process that outlives it, which writes both while nobody waits
for it.
"""

import os
import sys
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from _cds_archive import image_options, variable_changes

from cds import interpreter

if TYPE_CHECKING:
    from cds.tracelist import Entry

_NICENESS = 19

# A module whose import never ends shall not be waited for.
_MOST_SECONDS = 600


def refresh(archive: str, lines: Iterable[str], has_image: bool) -> None:
    """Start writing the archive, from the lines of a trace list, and do not wait for it.

    And the startup image beside it, if that is wanted.  The interpreter calls this when it is
    about to end.  What it needs is imported already: it shall end soon.
    """
    variables = interpreter.environment()
    image = None
    if has_image and (options := image_options()) is not None:
        image = (_main_module(), options, _changes(variables))
    listing = os.memfd_create("cds_auto")
    try:
        # A literal needs no module.  Not an argument: others may see these.
        _write_all(listing, "".join(f"{line}\n" for line in (repr(image), *lines)).encode())
        os.lseek(listing, 0, os.SEEK_SET)
        nowhere = os.open(os.devnull, os.O_RDWR)
        try:
            os.posix_spawn(
                sys.executable,
                # -P: modules beside a script are in the list with their files.
                [sys.executable, *interpreter.options(), "-P", "-m", "cds.auto", archive],
                variables,
                file_actions=[
                    (os.POSIX_SPAWN_DUP2, listing, 0),
                    (os.POSIX_SPAWN_DUP2, nowhere, 1),
                    (os.POSIX_SPAWN_DUP2, nowhere, 2),
                ],
                setsid=True,
                # Not what the program has blocked: an image would have it from here.
                setsigmask=(),
            )
        finally:
            os.close(nowhere)
    finally:
        os.close(listing)


def _main_module() -> str:
    """Return the name of the module that was run by `-m`, which an image must not import."""
    spec = getattr(sys.modules.get("__main__"), "__spec__", None)
    return "" if spec is None else str(spec.name)


def _changes(variables: dict[bytes, bytes]) -> dict[bytes, list[bytes | None]]:
    """Return the values that the program has given to variables, with which it was started."""
    changes: dict[bytes, list[bytes | None]] = {}
    for name, value in variable_changes():
        changes.setdefault(name, []).append(value)
    now = dict(os.environb)
    for name in variables.keys() | now.keys() | changes.keys():
        value = now.get(name)
        last = changes[name][-1] if name in changes else variables.get(name)
        if value != last:
            changes.setdefault(name, []).append(value)
    return {name: values for name, values in changes.items() if interpreter.is_inherited(name)}


def _write_all(descriptor: int, data: bytes) -> None:
    while data:
        data = data[os.write(descriptor, data) :]


def _write(archive: str) -> None:
    import ast
    import fcntl

    from cds import tracelist
    from cds.dump import Selection, dump
    from cds.imaging import NEEDED

    os.nice(_NICENESS)
    directory = os.open(os.path.dirname(archive), os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(directory, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        # Somebody writes an archive here; the next run that misses something is soon enough.
        return
    image = ast.literal_eval(sys.stdin.buffer.readline().decode())
    entries = tracelist.read("-")
    if image:
        entries += NEEDED
    dump(archive, Selection(entries), freshness=_freshness(archive), note_skipped=True)
    if image:
        main, options, changes = image
        entries = [entry for entry in entries if entry.name != main]
        _take_image(archive, entries, options, changes)


def _take_image(
    archive: str,
    entries: Iterable["Entry"],
    options: Sequence[str],
    changes: dict[bytes, list[bytes | None]],
) -> None:
    """Take an image, or leave a note in its place so that no other run tries in vain."""
    import tempfile

    from cds.imagereport import inspect_image
    from cds.imaging import image_path, take_image

    path = image_path(archive)
    with tempfile.NamedTemporaryFile(
        "w", dir=os.path.dirname(archive), prefix=".cds-", delete_on_close=False
    ) as note:
        note.write("no startup image could be taken; to try again, remove this file\n")
        note.flush()
        # What went wrong is told there.
        os.dup2(note.fileno(), 2)
        problem = take_image(
            archive, entries, (), options=options, changes=changes, seconds=_MOST_SECONDS
        )
        if problem is None and (changed := inspect_image(path)["changed"]):
            # It would be renewed for ever.
            problem = f"changed while it was taken, perhaps by that: {', '.join(changed)}"
        if problem is not None:
            note.write(f"{problem}\n")
            note.flush()
            os.replace(note.name, path)


def _freshness(archive: str) -> str:
    """Return the policy of the archive that is to be replaced."""
    from cds.inspection import InspectionError, inspect

    try:
        return inspect(archive).freshness
    except InspectionError:
        return "mtime"


if __name__ == "__main__":
    _write(sys.argv[1])
