"""`-X cds_auto=FILE[,image]`, `-X cds=auto`: an archive and an image that renew themselves.

If a run misses a module in the archive, or cannot use the image, it writes a record into memory
(runtime/library/src/record/runs.rs).  This module runs in a background process, which was started
by the run and has waited for its end.  It writes the archive and the image again.  Its standard
error is the file that PYTHON_CDS_LOG names, or leads nowhere.
"""

import functools
import os
import sys
import time
from typing import NamedTuple

from cds import cache, interpreter
from cds.cache import limits

# A limit for programs that never end, and never do anything that they are stopped at.
_MOST_SECONDS = 120


class _Subject(NamedTuple):
    """The program that an image is taken of."""

    # Separated by zero bytes: `-m`, `-c` or nothing; the module, text or script; a directory.  All
    # three are empty for a base image, which is taken before the program.
    program: bytes
    options: list[str]
    # For a script, the first argument is its path.
    arguments: list[bytes]
    terminal: bytes | None

    @property
    def is_base(self) -> bool:
        return not any(self.words())

    def words(self) -> tuple[str, str, str]:
        kind, name, directory = map(os.fsdecode, self.program.split(b"\0"))
        return kind, name, directory


class _Base(NamedTuple):
    """A base image to be taken."""

    archive: str
    subject: _Subject


class _Run(NamedTuple):
    """The record of a run."""

    # None if no image can be taken with the command line of the run.
    subject: _Subject | None
    wants_image: bool
    is_in_cache: bool
    base: _Base | None
    # Modules that the run loaded without the archive, with their files; None for frozen modules.
    missed: list[tuple[str, str | None]]
    # The lines of a trace list.
    lines: list[str]

    @property
    def subject_of_image(self) -> _Subject | None:
        return self.subject if self.wants_image else None


def _renew(archive: str) -> None:
    """Renew what the run of this process's record has missed, and take the image for it."""
    from _cds_archive import archived_lines, recorded_run

    recorded = recorded_run()
    if recorded is None:
        sys.exit("cds.auto: there is no record; -X cds_auto=FILE starts this command")
    subject, wants_image, is_in_cache, base, missed, lines = recorded
    base = None if base is None else _Base(base[0], _Subject(*base[1]))
    run = _Run(_subject(subject), wants_image, is_in_cache, base, missed, lines)
    _leave_what_is_gone()
    try:
        _write_or_note(archive, run, archived_lines())
        if base is not None:
            alone = _Run(base.subject, True, True, None, [], [])
            _write_or_note(base.archive, alone, [])
    finally:
        if run.is_in_cache:
            limits.keep_to_the_limit(archive)


def _write_or_note(archive: str, run: _Run, kept: list[str]) -> None:
    """Call `_write()`.  If it fails, write a note, so that not every start tries again."""
    from cds.image.imaging import note_problem

    try:
        _write(archive, run, kept)
    except Exception as error:
        # Seldom needed, and slow to import.
        import traceback

        _log(f"{archive}: {traceback.format_exc()}")
        if run.subject_of_image is not None:
            note_problem(archive, f"the background process failed: {error!r}")


def _subject(found: tuple[bytes, list[str], list[bytes], bytes | None] | None) -> _Subject | None:
    return None if found is None else _Subject(*found)


def _leave_what_is_gone() -> None:
    """Change to `/` if the working directory was removed: the program may not need it."""
    try:
        os.getcwd()
    except FileNotFoundError:
        os.chdir("/")


def _write(archive: str, run: _Run, kept: list[str]) -> None:
    """Write the archive and take the image, as far as they lack something.

    `kept` are the contents of the archive up to now, as lines of a trace list.
    """
    from _cds_archive import do_arguments_vary, image_taken, is_idle, needs_renewal

    from cds.collect import tracelist
    from cds.dump import Selection, dump
    from cds.image.imaging import NEEDED, image_path

    image = run.subject_of_image
    path = image_path(archive)
    if all(_is_archived(*module) for module in run.missed) and not (
        image is not None
        and (
            needs_renewal(path, image.program, image.arguments)
            or (run.is_in_cache and is_idle(path))
        )
    ):
        _log(f"{archive} lacks nothing")
        return
    # The modules of the run come first.
    entries = tracelist.parse("\n".join([*run.lines, *kept]).encode(), "the record")
    if image is not None and image.is_base:
        entries += NEEDED
    with_image = ",image" if image is not None else ""
    setting = cache.OPTION if run.is_in_cache else f"cds_auto={archive}{with_image}"
    command = _command(setting, run.subject) if run.subject else ""
    _log(f"write {archive} for: {command}")
    dump(
        archive,
        Selection(entries),
        freshness=_freshness(archive),
        note_skipped=True,
        command=command,
    )
    if image is None:
        return
    is_taken = _take_image(archive, image, do_arguments_vary(path, image.program, image.arguments))
    if is_taken and run.is_in_cache and not image.is_base:
        image_taken(os.fsencode(archive))


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


def _take_image(archive: str, subject: _Subject, is_for_any_arguments: bool) -> bool:
    """Take an image, or write a note in its place, so that the next runs do not try again.

    Return whether an image was taken.
    """
    from cds.image.imaging import (
        image_path,
        note_problem,
        take_base_image,
        take_program_image,
    )
    from cds.inspection.archive import InspectionError

    kind, name, directory = subject.words()
    if directory:
        os.chdir(directory)
    arguments = subject.arguments if kind else subject.arguments[1:]
    words = [*filter(None, (kind, name)), *map(os.fsdecode, arguments)]
    take = functools.partial(
        take_program_image, program=words, is_for_any_arguments=is_for_any_arguments
    )
    problem = (take_base_image if subject.is_base else take)(
        archive, options=subject.options, terminal=subject.terminal, seconds=_MOST_SECONDS
    )
    try:
        reason = problem.reason if problem else _what_would_renew(image_path(archive))
    except InspectionError as error:
        reason = str(error)
    if reason is not None:
        note_problem(archive, reason)
    _log(f"{image_path(archive)}: {'no image: ' + reason if reason is not None else 'taken'}")
    return reason is None


def _log(text: str) -> None:
    moment = time.strftime("%Y-%m-%d %H:%M:%S")
    print(f"{moment} [{os.getpid()}] {text}", file=sys.stderr, flush=True)


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


def _load_site() -> None:
    """Set the paths that `site` sets, but run no code of users: they have started no process."""
    import site

    # `site` goes on without a module that cannot be found.
    sys.modules["sitecustomize"] = sys.modules["usercustomize"] = None  # type: ignore[assignment]
    # Lines of .pth files that begin with `import` (Lib/site.py, `addpackage()`).
    site.exec = lambda _line: None  # type: ignore[attr-defined]
    site.main()


if __name__ == "__main__":
    _load_site()
    _renew(*sys.argv[1:2])
