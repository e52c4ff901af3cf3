"""`-X cds_auto=FILE[,image]`: an archive, and a startup image, that renew themselves.

A run that has to do without the archive for some module, or without the image, leaves a record
beside the archive (runtime/library/src/record/runs.rs).  The process that this module is for writes both anew
from the records of runs that have ended, while nobody waits for it.
"""

import contextlib
import os
import sys
from collections.abc import Sequence
from typing import NamedTuple

from cds import interpreter

_NICENESS = 19

# A program that never ends, and never does what it is stopped at, shall not be waited for.
_MOST_SECONDS = 120


class _Subject(NamedTuple):
    """What an image is taken of."""

    # `-m`, `-c` or nothing; what follows, and a directory.
    program: bytes
    options: list[str]
    # Of a script, the first is its path.
    arguments: list[bytes]
    terminal: bytes | None

    def words(self) -> tuple[str, str, str]:
        kind, name, directory = map(os.fsdecode, self.program.split(b"\0"))
        return kind, name, directory


class _Run(NamedTuple):
    """What a run has left."""

    record: str
    # None if its command line is not understood.
    subject: _Subject | None
    wants_image: bool
    # Modules that it had to load without the archive, and their files; None for frozen ones.
    missed: list[tuple[str, str | None]]
    # Of a trace list.
    lines: list[str]


def _renew(archive: str, record: str) -> None:
    """Renew what runs have lacked.  An image is taken for the one with this record."""
    import fcntl

    from _cds_archive import ended_runs, wake

    os.nice(_NICENESS)
    _leave_what_is_gone()
    directory = os.open(os.path.dirname(archive), os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(directory, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        # Who writes an archive here wakes another process if something is left then.
        return
    runs = [
        _Run(record, subject and _Subject(*subject), *rest)
        for record, subject, *rest in ended_runs(archive)
    ]
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


def _leave_what_is_gone() -> None:
    """Have a working directory, if that of the run was removed: the program may do without it."""
    try:
        os.getcwd()
    except FileNotFoundError:
        os.chdir("/")


def _write(archive: str, runs: Sequence[_Run], chosen: _Run | None) -> None:
    from _cds_archive import archived_lines, needs_renewal

    from cds.collect import tracelist
    from cds.dump import Selection, dump
    from cds.image.imaging import image_path

    subject = chosen.subject if chosen is not None else None
    image = subject if chosen is not None and chosen.wants_image else None
    is_incomplete = not all(_is_archived(*module) for run in runs for module in run.missed)
    if not is_incomplete:
        if image is None:
            return
        if not needs_renewal(image_path(archive), image.program, image.arguments):
            return
    # What this run needs comes first.
    ordered = sorted(runs, key=lambda run: run is not chosen)
    lines = [line for run in ordered for line in run.lines] + archived_lines()
    entries = tracelist.parse("\n".join(lines).encode(), "the records")
    dump(
        archive,
        Selection(entries),
        freshness=_freshness(archive),
        note_skipped=True,
        command=_command(archive, image is not None, subject) if subject else "",
    )
    if image is not None:
        _take_image(archive, image, _do_arguments_vary(archive, image, runs))


def _do_arguments_vary(archive: str, subject: _Subject, runs: Sequence[_Run]) -> bool:
    """Say whether different arguments of a program are known."""
    from _cds_archive import do_arguments_vary

    from cds.image.imaging import image_path

    if do_arguments_vary(image_path(archive), subject.program, subject.arguments):
        return True
    others = [run.subject for run in runs if run.subject is not None]
    return any(
        other.program == subject.program and other.arguments != subject.arguments
        for other in others
    )


def _command(archive: str, with_image: bool, subject: _Subject) -> str:
    """Return how the program is run, which renews both, but for its arguments."""
    kind, name, directory = subject.words()
    setting = f"cds_auto={archive}{',image' * with_image}"
    words = [sys.executable, *subject.options, "-X", setting, *filter(None, (kind, name))]
    return interpreter.command_here(words, directory)


def _is_archived(name: str, file: str | None) -> bool:
    """Say whether a module that a run has missed is in the archive meanwhile."""
    import _imp

    return file is not None and _imp._cds_get_code(name, file) is not None  # type: ignore[attr-defined]


def _take_image(archive: str, subject: _Subject, is_for_any_arguments: bool) -> None:
    """Take an image, or leave a note in its place so that no other run tries in vain."""
    from cds.image.imaging import image_path, note_problem, take_program_image
    from cds.inspection.archive import InspectionError

    kind, name, directory = subject.words()
    if directory:
        os.chdir(directory)
    arguments = subject.arguments if kind else subject.arguments[1:]
    words = [*filter(None, (kind, name)), *map(os.fsdecode, arguments)]
    problem = take_program_image(
        archive,
        words,
        options=subject.options,
        terminal=subject.terminal,
        is_for_any_arguments=is_for_any_arguments,
        seconds=_MOST_SECONDS,
    )
    try:
        reason = problem.reason if problem else _what_would_renew(image_path(archive))
    except InspectionError as error:
        reason = str(error)
    if reason is not None:
        note_problem(archive, reason)


def _what_would_renew(image: str) -> str | None:
    """Say what an image depends on that has changed already: it would be renewed for ever."""
    from cds.inspection.image import inspect_image

    changed = inspect_image(image)["changed"]
    if not changed:
        return None
    return f"changed while it was taken, perhaps by that: {', '.join(changed)}"


def _freshness(archive: str) -> str:
    """Return the policy of the archive that is to be replaced."""
    from cds.inspection.archive import InspectionError, inspect

    try:
        return inspect(archive).freshness
    except InspectionError:
        return "mtime"


if __name__ == "__main__":
    _renew(*sys.argv[1:])
