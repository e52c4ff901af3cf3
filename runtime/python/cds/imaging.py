"""Having a startup image taken: by an interpreter that is started for it."""

import marshal
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType

from cds.tracelist import Entry

# What taking an image imports by itself; so even an image of nothing else has an archive.
NEEDED = [Entry("linecache", None)]

# How often an interpreter is started at most for one image.
_MOST_ROUNDS = 5


def image_path(archive: str) -> str:
    """Return where the image beside an archive lies."""
    return f"{archive}.startup"


def take_image(
    archive: str,
    entries: Iterable[Entry],
    path: Sequence[str],
    *,
    options: Sequence[str] | None = None,
    changes: Mapping[str, str | None] = MappingProxyType({}),
    verbose: bool = False,
    seconds: int | None = None,
) -> str | None:
    """Take the image of an interpreter with an archive, and with modules imported.

    It is started with the options given, or those that this process was started with (not
    those that variables stand for, which it has as well), and may take so many seconds.
    `changes` are variables that the program sets, or removes, which imports must not depend on.
    Return what went wrong, if something did.
    """
    from _cds_archive import image_options, is_read_by_libraries

    if options is None:
        options = image_options()
    if options is None:
        return "no startup image: there is none for the options of this process"
    modules = {entry.name: entry.file for entry in entries if _is_to_be_imported(entry)}
    archive = os.path.abspath(archive)
    image = os.path.abspath(image_path(archive))
    former = _identity(image)
    request: dict[str, object] = {
        "archive": archive,
        "image": image,
        "path": list(path),
        # The imports themselves are to load no more modules than a program does.
        "changes": {name: (changes[name], is_read_by_libraries(name)) for name in changes},
        "verbose": verbose,
    }
    with tempfile.TemporaryDirectory(prefix="cds-image-") as directory:
        name = request["itself"] = os.path.join(directory, "request")
        request["record"] = os.path.join(directory, "record")
        request["anew"] = os.path.join(directory, "anew")
        command = [
            sys.executable,
            *options,
            "-X",
            f"cds={archive}",
            "-X",
            f"cds_image={name}",
        ]
        status = _run_in_rounds(command, request, modules, seconds)
    if status is None:
        return f"no startup image: imports have not ended within {seconds} seconds"
    if status < 0:
        return f"no startup image: imports were killed by signal {-status}"
    if status > 0:
        return "the archive is written, but no startup image"
    if _identity(image) == former:
        return "no startup image: imports have ended the process"
    return None


def _run_in_rounds(
    command: Sequence[str],
    request: dict[str, object],
    modules: dict[str, str | None],
    seconds: int | None,
) -> int | None:
    """Run an interpreter that takes the image; and another one, as long as it wants that.

    Return the status of the last one, or None if they took too long.
    """
    record, anew, verbose = str(request["record"]), str(request["anew"]), bool(request["verbose"])
    end = None if seconds is None else time.monotonic() + seconds
    reasons = {"failed", "made"}
    for rounds_left in reversed(range(_MOST_ROUNDS)):
        request["modules"] = list(modules.items())
        request["reasons_to_begin_anew"] = tuple(reasons) if rounds_left else ()
        with open(str(request["itself"]), "wb") as file:
            marshal.dump(request, file)
        _remove([record, anew])
        left = None if end is None else max(1, round(end - time.monotonic()))
        status = _run(command, record, left, verbose)
        verbose = False
        reason = _reason_to_begin_anew(anew)
        if status is None or reason is None:
            break
        if reason[0] == "made":
            # What is made again is made each time.
            reasons.discard("made")
        else:
            for module in reason[1]:
                del modules[module]
    return status


def _identity(path: str) -> tuple[int, int] | None:
    try:
        status = os.lstat(path)
    except OSError:
        return None
    return status.st_ino, status.st_mtime_ns


def _remove(paths: Iterable[str]) -> None:
    for path in paths:
        try:
            os.unlink(path)
        except FileNotFoundError:
            pass


def _reason_to_begin_anew(path: str) -> tuple[str, list[str]] | None:
    """Read what the process that did the imports has left, if it wants another to do them.

    These are modules that have failed, and are not to be imported, or files that were made,
    which the other may find.
    """
    try:
        with open(path, "rb") as file:
            reason: tuple[str, list[str]] = marshal.load(file)
    except FileNotFoundError:
        return None
    return reason


def _is_to_be_imported(entry: Entry) -> bool:
    # To import __main__.py of a package would be to run it.
    return entry.pattern is None and not entry.name.endswith(".__main__")


def _run(command: Sequence[str], record: str, seconds: int | None, verbose: bool) -> int | None:
    """Run an interpreter, recording what it looks at if that is possible.

    Return its status, or None if it took too long.  What modules print is not this command's
    output.
    """
    from _cds_archive import run_observed

    try:
        status: int | None = run_observed(command, record, seconds or 0)
        return status
    except OSError as error:
        if verbose:
            told = f"only what imports look at from Python will be compared at each start: {error}"
            print(f"cds dump: note: {told}", file=sys.stderr)
    # Imports that ask for a terminal are to find the one that there is.
    stdin = None if os.isatty(0) else subprocess.DEVNULL
    try:
        return subprocess.run(
            command,
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
