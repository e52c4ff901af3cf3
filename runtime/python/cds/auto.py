"""`-X cds_auto=FILE[,image]`, `-X cds=auto`: an archive and an image that renew themselves.

If a run misses a module in the archive, or cannot use the image, it leaves a record
(runtime/library/src/record/runs.rs).  This module runs in a background process, which writes
the archive and the image again from the records of runs that have ended.
"""

import contextlib
import os
import sys
from collections.abc import Sequence
from typing import NamedTuple

from cds import cache, interpreter
from cds.cache import building, limits

_NICENESS = 19

# A limit for programs that never end, and never do anything that they are stopped at.
_MOST_SECONDS = 120


class _Subject(NamedTuple):
    """The program that an image is taken of."""

    # Separated by zero bytes: `-m`, `-c` or nothing; the module, text or script; a directory.
    program: bytes
    options: list[str]
    # For a script, the first argument is its path.
    arguments: list[bytes]
    terminal: bytes | None

    def words(self) -> tuple[str, str, str]:
        kind, name, directory = map(os.fsdecode, self.program.split(b"\0"))
        return kind, name, directory


class _Run(NamedTuple):
    """The record of a run."""

    record: str
    # None if no image can be taken with the command line of the run.
    subject: _Subject | None
    wants_image: bool
    # Modules that the run loaded without the archive, with their files; None for frozen modules.
    missed: list[tuple[str, str | None]]
    # The lines of a trace list.
    lines: list[str]


def _renew(archive: str, records: str, record: str) -> None:
    """Renew what the ended runs have missed.  Take the image for the run with this record.

    An archive of the cache is renewed for the run that has started this process: its program is
    handed over, and the record is `-`.
    """
    import fcntl

    from _cds_archive import ended_runs, handed_over, wake

    is_in_cache = record == "-"
    subject = handed_over() if is_in_cache else None
    os.nice(_NICENESS)
    _leave_what_is_gone()
    entry = os.open(os.path.dirname(archive), os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(entry, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if is_in_cache:
            building.begin_building(archive)
    except BlockingIOError:
        # Another process writes an archive here.  It starts a new one if records are left.
        return
    runs = [_Run(path, _subject(found), *rest) for path, found, *rest in ended_runs(records)]
    chosen = next((run for run in runs if run.record == record), None)
    if subject is not None:
        chosen = _Run("", _subject(subject), True, [], [])
    try:
        _write(archive, runs, chosen, is_in_cache)
    finally:
        for run in runs:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(run.record)
        if runs:
            # The directory is not empty while other runs have records.
            with contextlib.suppress(OSError):
                os.rmdir(records)
        if is_in_cache:
            limits.keep_to_the_limit(archive)
    os.close(entry)
    if not is_in_cache:
        wake(records)


def _subject(found: tuple[bytes, list[str], list[bytes], bytes | None] | None) -> _Subject | None:
    return None if found is None else _Subject(*found)


def _leave_what_is_gone() -> None:
    """Change to `/` if the working directory was removed: the program may not need it."""
    try:
        os.getcwd()
    except FileNotFoundError:
        os.chdir("/")


def _write(archive: str, runs: Sequence[_Run], chosen: _Run | None, is_in_cache: bool) -> None:
    """Write the archive and take the image, as far as they lack something."""
    from _cds_archive import archived_lines, is_idle, needs_renewal

    from cds.collect import tracelist
    from cds.dump import Selection, dump
    from cds.image.imaging import image_path

    subject = chosen.subject if chosen is not None else None
    image = subject if chosen is not None and chosen.wants_image else None
    is_incomplete = not all(_is_archived(*module) for run in runs for module in run.missed)
    if not is_incomplete:
        if image is None:
            return
        path = image_path(archive)
        if not needs_renewal(path, image.program, image.arguments) and not (
            is_in_cache and is_idle(path)
        ):
            return
    # The modules of the chosen run come first.
    ordered = sorted(runs, key=lambda run: run is not chosen)
    lines = [line for run in ordered for line in run.lines] + archived_lines()
    entries = tracelist.parse("\n".join(lines).encode(), "the records")
    with_image = ",image" if image is not None else ""
    setting = cache.OPTION if is_in_cache else f"cds_auto={archive}{with_image}"
    dump(
        archive,
        Selection(entries),
        freshness=_freshness(archive),
        note_skipped=True,
        command=_command(setting, subject) if subject else "",
    )
    if image is not None:
        _take_image(archive, image, _do_arguments_vary(archive, image, runs))


def _do_arguments_vary(archive: str, subject: _Subject, runs: Sequence[_Run]) -> bool:
    """Return whether the records or the image show that the program's arguments vary."""
    from _cds_archive import do_arguments_vary

    from cds.image.imaging import image_path

    if do_arguments_vary(image_path(archive), subject.program, subject.arguments):
        return True
    others = [run.subject for run in runs if run.subject is not None]
    return any(
        other.program == subject.program and other.arguments != subject.arguments
        for other in others
    )


def _command(setting: str, subject: _Subject) -> str:
    """Return the command that runs the program without its arguments, and so renews both files.

    `setting` is the value of `-X` with which the program uses them.
    """
    kind, name, directory = subject.words()
    words = [sys.executable, *subject.options, "-X", setting, *filter(None, (kind, name))]
    return interpreter.command_here(words, directory)


def _is_archived(name: str, file: str | None) -> bool:
    """Return whether the archive now has a module that a run has missed."""
    import _imp

    return file is not None and _imp._cds_get_code(name, file) is not None  # type: ignore[attr-defined]


def _take_image(archive: str, subject: _Subject, is_for_any_arguments: bool) -> None:
    """Take an image, or write a note in its place, so that the next runs do not try again."""
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
    """Return a reason if something that the new image depends on has already changed.

    Such an image would be out of date at once, and would be renewed again and again.
    """
    from cds.inspection.image import inspect_image

    changed = inspect_image(image)["changed"]
    if not changed:
        return None
    return f"changed while the image was taken, perhaps by taking it: {', '.join(changed)}"


def _freshness(archive: str) -> str:
    """Return the freshness policy of the archive that will be replaced."""
    from cds.inspection.archive import InspectionError, inspect

    try:
        return inspect(archive).freshness
    except InspectionError:
        return "mtime"


if __name__ == "__main__":
    _renew(*sys.argv[1:])
