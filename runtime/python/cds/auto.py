"""`-X cds_auto=FILE[,image]`: an archive, and a startup image, that renew themselves.

A run that had to do without the archive for some module, or without the image, hands the
names of its modules to a process that outlives it, which writes both while nobody waits
for it.
"""

import os
import sys
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from _cds_archive import command, image_options, variable_changes

from cds import interpreter

if TYPE_CHECKING:
    from cds.tracelist import Entry

# The source of a program: how it is called in messages, and its text; without one, that is a file.
type Source = tuple[str, bytes | None]

_NICENESS = 19

# No variable has it as value.
_UNKNOWN = b"\0"

# A module whose import never ends shall not be waited for.
_MOST_SECONDS = 600


def refresh(archive: str, lines: Iterable[str], program: bytes | None) -> None:
    """Start writing the archive, from the lines of a trace list, and do not wait for it.

    And the startup image beside it, if the identity of a program is given, which alone it is
    for.  The interpreter calls this when it is about to end.  What it needs is imported
    already: it shall end soon.
    """
    variables = interpreter.environment()
    image = None
    if program is not None and (options := image_options()) is not None:
        image = (program, _source(), options, _changes(variables))
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
                    # What the program has inherited is not for a process that outlives it.
                    (os.POSIX_SPAWN_CLOSEFROM, 3),
                ],
                setsid=True,
                # Not what the program has blocked: an image would have it from here.
                setsigmask=(),
            )
        finally:
            os.close(nowhere)
    finally:
        os.close(listing)


def _source() -> Source:
    text = command()
    if text is not None:
        return "-c", text
    # Of a script there is no `__file__` any more.
    loader = getattr(sys.modules.get("__main__"), "__loader__", None)
    file = getattr(loader, "path", None)
    return (file if isinstance(file, str) else "the program"), None


def _directory_of(source: Source) -> str | None:
    """Return where a script finds its own modules."""
    file, text = source
    return os.path.dirname(os.path.abspath(file)) if text is None and os.path.isfile(file) else None


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
        _take_image(archive, entries, *image)


def _take_image(
    archive: str,
    entries: Sequence["Entry"],
    program: bytes,
    source: Source,
    options: Sequence[str],
    changes: dict[bytes, list[bytes | None]],
) -> None:
    """Take an image, or leave a note in its place so that no other run tries in vain."""
    from _cds_archive import is_read_by_libraries, write_image_note

    from cds import programtext
    from cds.imaging import image_path, take_image
    from cds.inspection import InspectionError

    # What goes wrong is told there.
    note = os.memfd_create("cds_note")
    os.dup2(note, 2)
    os.close(note)
    sources = [source, *((file, None) for file in _own_files(entries))]
    files = [name for name, text in sources if text is None]
    times = _times(files)
    found = programtext.variables(sources)
    changed = programtext.may_change(found, is_read_by_libraries)
    problem = programtext.obstacle(found)
    if problem is None:
        # It is not known what value they get.
        changes |= {os.fsencode(name): [_UNKNOWN] for name in changed}
        problem = take_image(
            archive,
            entries,
            (),
            options=options,
            changes=changes,
            program=program,
            sources=files,
            beside=_directory_of(source),
            seconds=_MOST_SECONDS,
        )
    path = image_path(archive)
    if problem is None:
        try:
            problem = _what_would_renew(path)
        except InspectionError as error:
            problem = str(error)
    if problem is None and _times(files) != times:
        # The program was edited: its next run leaves another image.
        os.unlink(path)
    if problem is not None:
        _write_all(2, f"{problem}\n".encode(errors="surrogateescape"))
        with open(2, "rb", closefd=False) as file:
            file.seek(0)
            reason = file.read()
        # Whoever has done the imports knows the variable only.
        for name, place in changed.items():
            if f"variable {name},".encode() in reason:
                reason += f"{name} is changed in {place}\n".encode(errors="surrogateescape")
        write_image_note(path, reason)


def _own_files(entries: Iterable["Entry"]) -> list[str]:
    """Return the files of modules that the program has imported and an image has not.

    What is installed and found by a way of its own is none of the program.
    """
    from cds.installation import site_directories
    from cds.listing import Listings
    from cds.resolve import Resolver

    resolver = Resolver(sys.path, Listings())
    installed = tuple(os.path.join(directory, "") for directory in site_directories())
    own: dict[str, None] = {}
    for entry in entries:
        if entry.is_imported and entry.file is not None and not entry.file.startswith(installed):
            found = resolver.find(entry.name)
            if found is None or found.file != entry.file:
                own[entry.file] = None
    return list(own)


def _times(files: Iterable[str]) -> list[int]:
    return [os.stat(file).st_mtime_ns if os.path.exists(file) else 0 for file in files]


def _what_would_renew(image: str) -> str | None:
    """Say what an image depends on that has changed already: it would be renewed for ever."""
    from cds.imagereport import inspect_image

    changed = inspect_image(image)["changed"]
    if not changed:
        return None
    return f"changed while it was taken, perhaps by that: {', '.join(changed)}"


def _freshness(archive: str) -> str:
    """Return the policy of the archive that is to be replaced."""
    from cds.inspection import InspectionError, inspect

    try:
        return inspect(archive).freshness
    except InspectionError:
        return "mtime"


if __name__ == "__main__":
    _write(sys.argv[1])
