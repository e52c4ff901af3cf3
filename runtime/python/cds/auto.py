"""`-X cds_auto=FILE[,image]`, `-X cds=auto`: an archive and an image that renew themselves.

If a run misses a module in the archive, or cannot use the image, it writes a record into memory
(runtime/library/src/record/runs.rs).  This module runs in a background process, which was started
by the run and has waited for its end.  It writes the archive and the image again.
"""

import os
import sys
from typing import NamedTuple

from cds import cache, interpreter
from cds.cache import limits

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

    # None if no image can be taken with the command line of the run.
    subject: _Subject | None
    wants_image: bool
    is_in_cache: bool
    # Modules that the run loaded without the archive, with their files; None for frozen modules.
    missed: list[tuple[str, str | None]]
    # The lines of a trace list.
    lines: list[str]

    @property
    def subject_of_image(self) -> _Subject | None:
        return self.subject if self.wants_image else None


def _renew(archive: str) -> None:
    """Renew what the run of this process's record has missed, and take the image for it."""
    from _cds_archive import recorded_run

    recorded = recorded_run()
    if recorded is None:
        sys.exit("cds.auto: there is no record; -X cds_auto=FILE starts this command")
    subject, *rest = recorded
    run = _Run(None if subject is None else _Subject(*subject), *rest)
    _leave_what_is_gone()
    try:
        _write(archive, run)
    finally:
        if run.is_in_cache:
            limits.keep_to_the_limit(archive)


def _leave_what_is_gone() -> None:
    """Change to `/` if the working directory was removed: the program may not need it."""
    try:
        os.getcwd()
    except FileNotFoundError:
        os.chdir("/")


def _write(archive: str, run: _Run) -> None:
    """Write the archive and take the image, as far as they lack something."""
    from _cds_archive import archived_lines, do_arguments_vary, is_idle, needs_renewal

    from cds.collect import tracelist
    from cds.dump import Selection, dump
    from cds.image.imaging import image_path

    image = run.subject_of_image
    path = image_path(archive)
    if all(_is_archived(*module) for module in run.missed):
        if image is None:
            return
        if not needs_renewal(path, image.program, image.arguments) and not (
            run.is_in_cache and is_idle(path)
        ):
            return
    # The modules of the run come first.
    lines = run.lines + archived_lines()
    entries = tracelist.parse("\n".join(lines).encode(), "the record")
    with_image = ",image" if image is not None else ""
    setting = cache.OPTION if run.is_in_cache else f"cds_auto={archive}{with_image}"
    dump(
        archive,
        Selection(entries),
        freshness=_freshness(archive),
        note_skipped=True,
        command=_command(setting, run.subject) if run.subject else "",
    )
    if image is not None:
        _take_image(archive, image, do_arguments_vary(path, image.program, image.arguments))


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
    _renew(*sys.argv[1:2])
