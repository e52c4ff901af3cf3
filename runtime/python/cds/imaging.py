"""Having a startup image taken: by an interpreter that is started for it."""

import marshal
import os
import signal
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType

from cds.tracelist import Entry

# What taking an image imports by itself; so even an image of nothing else has an archive.
NEEDED = [Entry("linecache", None)]


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
    program: bytes | None = None,
    sources: Sequence[str] = (),
    verbose: bool = False,
    seconds: int | None = None,
) -> str | None:
    """Take the image of an interpreter with an archive, and with modules imported.

    It is started with the options given, or those that this process was started with (not
    those that variables stand for, which it has as well), and may take so many seconds.
    `changes` are variables that the program sets, or removes, which imports must not depend on.
    With the identity of a `program`, the image is for no other, and only as long as its
    `sources` are what they are now.
    Return what went wrong, if something did.
    """
    from _cds_archive import image_options, is_read_by_libraries

    if options is None:
        options = image_options()
    if options is None:
        return "no startup image: there is none for the options of this process"
    modules = {entry.name: entry.file for entry in entries if _is_to_be_imported(entry)}
    archive = os.path.abspath(archive)
    request = {
        "archive": archive,
        "image": os.path.abspath(image_path(archive)),
        "modules": list(modules.items()),
        "path": list(path),
        # The imports themselves are to load no more modules than a program does.
        "changes": {name: (changes[name], is_read_by_libraries(name)) for name in changes},
        "program": program,
        "sources": list(sources),
        "verbose": verbose,
    }
    # Files without names: there is nothing to remove, should this process be killed.
    asked, recorded = os.memfd_create("cds_request"), os.memfd_create("cds_record")
    try:
        record = request["record"] = _path_of(recorded)
        with open(asked, "wb", closefd=False) as file:
            marshal.dump(request, file)
        command = [
            sys.executable,
            *options,
            "-X",
            f"cds={archive}",
            "-X",
            f"cds_image={_path_of(asked)}",
        ]
        status = _run(command, record, seconds, verbose)
    finally:
        os.close(asked)
        os.close(recorded)
    if status is None:
        return f"no startup image: imports have not ended within {seconds} seconds"
    if status < 0:
        return f"no startup image: imports were killed by signal {-status}"
    if status > 0:
        return "the archive is written, but no startup image"
    return None


def _path_of(descriptor: int) -> str:
    """Return a name by which another process of this user can open an open file."""
    return f"/proc/{os.getpid()}/fd/{descriptor}"


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
