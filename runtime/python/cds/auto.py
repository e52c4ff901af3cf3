"""`-X cds_auto=FILE[,image]`: an archive, and a startup image, that renew themselves.

A run that has to do without the archive for some module, or without the image, leaves a record
beside the archive (runtime/src/runs.rs).  The process that this module is for writes both anew
from the records of runs that have ended, while nobody waits for it.
"""

import contextlib
import os
import sys
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, NamedTuple

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


class _Run(NamedTuple):
    """What a run has left."""

    record: str
    # The identity of its program, and its options, as far as they are understood.
    subject: tuple[bytes, list[str]] | None
    wants_image: bool
    # Modules that it had to load without the archive, and their files; None for frozen ones.
    missed: list[tuple[str, str | None]]
    # Of a trace list.
    lines: list[str]
    # What it has made of variables, one after the other.
    changes: list[tuple[bytes, bytes | None]]


def _directory_of(source: Source) -> str | None:
    """Return where a script finds its own modules."""
    file, text = source
    return os.path.dirname(os.path.abspath(file)) if text is None and os.path.isfile(file) else None


def _renew(archive: str, record: str) -> None:
    """Renew what runs have lacked.  An image is taken for the one with this record."""
    import fcntl

    from _cds_archive import ended_runs, wake

    os.nice(_NICENESS)
    directory = os.open(os.path.dirname(archive), os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(directory, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        # Who writes an archive here wakes another process if something is left then.
        return
    runs = [_Run(*fields) for fields in ended_runs(archive)]
    try:
        _write(archive, runs, next((run for run in runs if run.record == record), None))
    finally:
        for run in runs:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(run.record)
        if runs:
            # It is not empty if others are running.
            with contextlib.suppress(OSError):
                os.rmdir(os.path.dirname(runs[0].record))
    os.close(directory)
    wake(archive)


def _write(archive: str, runs: Sequence[_Run], chosen: _Run | None) -> None:
    from _cds_archive import archived_lines, needs_renewal

    from cds import tracelist
    from cds.dump import Selection, dump
    from cds.imaging import NEEDED, image_path

    subject = chosen.subject if chosen is not None else None
    image = subject if chosen is not None and chosen.wants_image else None
    is_incomplete = not all(_is_archived(*module) for run in runs for module in run.missed)
    if not is_incomplete and (image is None or not needs_renewal(image_path(archive))):
        return
    # What this run needs comes first.
    ordered = sorted(runs, key=lambda run: run is not chosen)
    lines = [line for run in ordered for line in run.lines] + archived_lines()
    entries = tracelist.parse("\n".join(lines).encode(), "the records")
    if image:
        entries += NEEDED
    dump(
        archive,
        Selection(entries),
        freshness=_freshness(archive),
        note_skipped=True,
        command=_command(archive, image is not None, *subject) if subject else "",
    )
    if chosen is not None and image is not None:
        program, options = image
        changes: dict[bytes, list[bytes | None]] = {}
        for name, value in chosen.changes:
            if interpreter.is_inherited(name):
                changes.setdefault(name, []).append(value)
        # Other programs may import in another order.
        imported = tracelist.parse("\n".join(chosen.lines).encode(), chosen.record) + NEEDED
        _take_image(archive, imported, program, options, changes)


def _command(archive: str, with_image: bool, program: bytes, options: Sequence[str]) -> str:
    """Return how the program is run, which renews both, but for its arguments."""
    kind, name, directory = map(os.fsdecode, program.split(b"\0"))
    setting = f"cds_auto={archive}{',image' * with_image}"
    words = [sys.executable, *options, "-X", setting, *filter(None, (kind, name))]
    return interpreter.command_here(words, directory)


def _is_archived(name: str, file: str | None) -> bool:
    """Say whether a module that a run has missed is in the archive meanwhile."""
    import _imp

    return file is not None and _imp._cds_get_code(name, file) is not None  # type: ignore[attr-defined]


def _source(program: bytes, entries: Iterable["Entry"]) -> Source:
    """Return the source of a program, by its identity and what it has loaded."""
    from cds.listing import Listings
    from cds.resolve import Resolver

    kind, name, directory = program.split(b"\0")
    if kind == b"-c":
        return "-c", name
    if not kind:
        script = os.fsdecode(os.path.join(directory, name))
        return os.path.join(script, "__main__.py") if os.path.isdir(script) else script, None
    names = (os.fsdecode(name), f"{os.fsdecode(name)}.__main__")
    for entry in entries:
        if entry.name in names and not entry.is_imported:
            found = Resolver(sys.path, Listings()).find(entry.name)
            file = entry.file or (found and found.file)
            if file:
                return file, None
    return "the program", None


def _take_image(
    archive: str,
    entries: Sequence["Entry"],
    program: bytes,
    options: Sequence[str],
    changes: dict[bytes, list[bytes | None]],
) -> None:
    """Take an image, or leave a note in its place so that no other run tries in vain."""
    from _cds_archive import is_read_by_libraries

    from cds import programtext
    from cds.imaging import image_path, note_problem, take_image
    from cds.inspection import InspectionError

    sources = [_source(program, entries), *((file, None) for file in _own_files(entries))]
    files = [name for name, text in sources if text is None]
    times = _times(files)
    found = programtext.variables(sources)
    changed = programtext.may_change(found, is_read_by_libraries)
    reason = programtext.obstacle(found)
    if reason is None:
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
            beside=_directory_of(sources[0]),
            seconds=_MOST_SECONDS,
        )
        reason = problem and problem.reason
    path = image_path(archive)
    if reason is None:
        try:
            reason = _what_would_renew(path)
        except InspectionError as error:
            reason = str(error)
    if reason is None and _times(files) != times:
        # The program was edited: its next run leaves another image.
        os.unlink(path)
    if reason is not None:
        # Whoever has done the imports knows the variable only.
        for name, place in changed.items():
            if f"variable {name}," in reason:
                reason += f"\n{name} is changed in {place}"
        note_problem(archive, reason)


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
    _renew(*sys.argv[1:])
