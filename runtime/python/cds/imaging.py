"""Having a startup image taken: by an interpreter that is started for it."""

import marshal
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

from cds import interpreter
from cds.tracelist import Entry

# What taking an image imports by itself; so even an image of nothing else has an archive.
NEEDED = [Entry("linecache", None)]

# How often an interpreter is started at most for one image.
_MOST_ROUNDS = 5


class Problem(NamedTuple):
    """What keeps an image from being taken: what a command says, and the reason that is kept."""

    message: str
    reason: str


def image_path(archive: str) -> str:
    """Return where the image beside an archive lies."""
    return f"{archive}.startup"


def take_image(
    archive: str,
    entries: Iterable[Entry],
    path: Sequence[str],
    *,
    options: Sequence[str] | None = None,
    changes: Mapping[bytes, Sequence[bytes | None]] = MappingProxyType({}),
    program: bytes | None = None,
    sources: Sequence[str] = (),
    beside: str | None = None,
    strict: bool = False,
    tells: bool = False,
    verbose: bool = False,
    seconds: int | None = None,
) -> Problem | None:
    """Take the image of an interpreter with an archive, and with modules imported.

    It is started with the options given, or those that this process was started with (not
    those that variables stand for, which it has as well), and may take so many seconds.
    `changes` are values that the program gives to variables, one after the other (None if it
    removes one).  Modules that depend on one of these when they are imported are left out.
    With the identity of a `program`, the image is for no other, and only as long as its
    `sources` are what they are now; modules are found `beside` it, and those that look at what
    differs from run to run are left out.  Another image `tells` what they looked at, and is not taken then if it is `strict`.
    Return what went wrong, if something did.
    """
    from _cds_archive import image_options, is_read_by_libraries

    if options is None:
        options = image_options()
    if options is None:
        return _problem("there is none for the options of this process")
    modules = {entry.name: entry.file for entry in entries if _is_to_be_imported(entry)}
    archive = os.path.abspath(archive)
    image = os.path.abspath(image_path(archive))
    former = _identity(image)
    request: dict[str, object] = {
        "archive": archive,
        "image": image,
        "path": list(path),
        # The imports themselves are to load no more modules than a program does.
        "changes": {name: list(values) for name, values in changes.items()},
        "for_libraries": [name for name in map(os.fsdecode, changes) if is_read_by_libraries(name)],
        "program": program,
        "sources": list(sources),
        "beside": beside,
        "strict": strict,
        "tells": tells,
        "verbose": verbose,
    }
    # Files without names: there is nothing to remove, should this process be killed.
    asked, recorded, left = map(os.memfd_create, ("cds_request", "cds_record", "cds_anew"))
    try:
        request["record"] = _path_of(recorded)
        request["anew"] = _path_of(left)
        command = [
            sys.executable,
            *options,
            "-X",
            f"cds={archive}",
            "-X",
            f"cds_image={_path_of(asked)}",
        ]
        status, reason = _run_in_rounds(command, request, modules, (asked, recorded, left), seconds)
    finally:
        for descriptor in (asked, recorded, left):
            os.close(descriptor)
    if status is None:
        return _problem(f"imports have not ended within {seconds} seconds")
    if status < 0:
        return _problem(f"imports were killed by signal {-status}")
    if status > 0:
        reason = reason or f"imports have ended with status {status}"
        return Problem("the archive is written, but no startup image", reason)
    if _identity(image) == former:
        return _problem("imports have ended the process")
    return None


def _problem(reason: str) -> Problem:
    return Problem(f"no startup image: {reason}", reason)


def note_problem(archive: str, reason: str) -> None:
    """Leave the reason in the place of the image."""
    from _cds_archive import write_image_note

    try:
        write_image_note(image_path(archive), f"{reason}\n".encode(errors="surrogateescape"))
    except OSError:
        # The archive could be written there a moment ago; the reason was told, if anybody listens.
        pass


def _run_in_rounds(
    command: Sequence[str],
    request: dict[str, object],
    modules: dict[str, str | None],
    files: tuple[int, int, int],
    seconds: int | None,
) -> tuple[int | None, str]:
    """Run an interpreter that takes the image; and another one, as long as it wants that.

    `files` are open, for the request, for what is recorded, and for what a process leaves that
    wants another one.  Return the status of the last one, or None if they took too long; and
    why it has not taken the image, as far as it has said so in the place of the request.
    """
    asked, _, left = files
    record, verbose = str(request["record"]), bool(request["verbose"])
    end = None if seconds is None else time.monotonic() + seconds
    reasons = {"failed", "late", "looked", "made"}
    for rounds_left in reversed(range(_MOST_ROUNDS)):
        request["modules"] = list(modules.items())
        request["reasons_to_begin_anew"] = tuple(reasons) if rounds_left else ()
        _empty(*files)
        sent = marshal.dumps(request)
        with open(asked, "wb", closefd=False) as file:
            file.write(sent)
        rest = None if end is None else max(1, round(end - time.monotonic()))
        status = _run(command, record, rest, verbose)
        verbose = False
        reason = _reason_to_begin_anew(left)
        if status is None or reason is None:
            break
        if reason[0] == "made":
            # What is made again is made each time.
            reasons.discard("made")
        else:
            left_out = set(reason[1])
            modules = {
                module: file for module, file in modules.items() if not _is_part(module, left_out)
            }
    told = os.pread(asked, os.fstat(asked).st_size, 0)
    return status, "" if told == sent else told.decode(errors="surrogateescape")


def _is_part(name: str, packages: set[str]) -> bool:
    """Say whether a module is one of these, or in one of these packages."""
    parts = name.split(".")
    return any(".".join(parts[:count]) in packages for count in range(1, len(parts) + 1))


def _path_of(descriptor: int) -> str:
    """Return a name by which another process of this user can open an open file."""
    return f"/proc/{os.getpid()}/fd/{descriptor}"


def _identity(path: str) -> tuple[int, int] | None:
    try:
        status = os.lstat(path)
    except OSError:
        return None
    return status.st_ino, status.st_mtime_ns


def _empty(*descriptors: int) -> None:
    for descriptor in descriptors:
        os.ftruncate(descriptor, 0)
        os.lseek(descriptor, 0, os.SEEK_SET)


def _reason_to_begin_anew(left: int) -> tuple[str, list[str]] | None:
    """Read what the process that did the imports has left, if it wants another to do them.

    These are modules that have failed, or that depend on what the program sets later: they are
    not to be imported; or files that were made, which the other may find.
    """
    with open(left, "rb", closefd=False) as file:
        data = file.read()
    if not data:
        return None
    reason: tuple[str, list[str]] = marshal.loads(data)
    return reason


def _is_to_be_imported(entry: Entry) -> bool:
    # To import __main__.py of a package would be to run it.
    is_program = entry.name.endswith(".__main__")
    return entry.is_imported and entry.pattern is None and not is_program


def _run(command: Sequence[str], record: str, seconds: int | None, verbose: bool) -> int | None:
    """Run an interpreter, recording what it looks at if that is possible.

    Return its status, or None if it took too long.  What modules print is not this command's
    output.
    """
    from _cds_archive import run_observed

    # Not what locale coercion or a program have made of it: as a start gets it that is to be
    # from the image.
    variables = interpreter.environment()
    try:
        texts = [b"%b=%b" % item for item in variables.items()]
        status: int | None = run_observed(command, texts, record, seconds or 0)
        return status
    except OSError as error:
        if verbose:
            told = "only what imports look at from Python, and all variables, will be compared"
            print(f"cds dump: note: {told} at each start: {error}", file=sys.stderr)
    # Imports that ask for a terminal are to find the one that there is.
    stdin = None if os.isatty(0) else subprocess.DEVNULL
    try:
        return subprocess.run(
            command,
            env=variables,
            stdin=stdin,
            stdout=sys.stderr.fileno(),
            preexec_fn=_stop_ignoring_signals,
            timeout=seconds,
            check=False,
        ).returncode
    except subprocess.TimeoutExpired:
        return None


def _stop_ignoring_signals() -> None:
    """Ignore no signal, though this process may (nohup, a shell's `&`)."""
    for number in signal.valid_signals():
        if signal.getsignal(number) == signal.SIG_IGN:
            signal.signal(number, signal.SIG_DFL)
