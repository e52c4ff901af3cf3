"""Having a startup image taken: by an interpreter that is started for it."""

import marshal
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType

from cds import interpreter
from cds.tracelist import Entry

# What taking an image imports by itself; so even an image of nothing else has an archive.
NEEDED = [Entry("linecache", None)]

# A module that depends on what a program sets may be imported by others, which are found when it
# is left out.
_ATTEMPTS = 5


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
    verbose: bool = False,
    seconds: int | None = None,
) -> str | None:
    """Take the image of an interpreter with an archive, and with modules imported.

    It is started with the options given, or those that this process was started with (not
    those that variables stand for, which it has as well), and may take so many seconds.
    `changes` are values that the program gives to variables, one after the other (None if it
    removes one).  Modules that depend on one of these when they are imported are left out.
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
        "path": list(path),
        # The imports themselves are to load no more modules than a program does.
        "changes": {name: list(values) for name, values in changes.items()},
        "for_libraries": [name for name in map(os.fsdecode, changes) if is_read_by_libraries(name)],
        "verbose": verbose,
    }
    left_out: set[str] = set()
    for _ in range(_ATTEMPTS):
        request["modules"] = [
            (name, file) for name, file in modules.items() if not _is_part(name, left_out)
        ]
        status, found = _attempt(request, archive, options, seconds, verbose)
        if left_out.issuperset(found):
            break
        left_out |= found
    if status is None:
        return f"no startup image: imports have not ended within {seconds} seconds"
    if status < 0:
        return f"no startup image: imports were killed by signal {-status}"
    if status > 0:
        return "the archive is written, but no startup image"
    return None


def _attempt(
    request: dict[str, object],
    archive: str,
    options: Sequence[str],
    seconds: int | None,
    verbose: bool,
) -> tuple[int | None, set[str]]:
    """Have an image taken; return the status as `_run()` does, and modules to be left out."""
    with tempfile.TemporaryDirectory(prefix="cds-image-") as directory:
        name = os.path.join(directory, "request")
        record = request["record"] = os.path.join(directory, "record")
        left_out = request["left_out"] = os.path.join(directory, "left_out")
        with open(name, "wb") as file:
            marshal.dump(request, file)
        command = [
            sys.executable,
            *options,
            "-X",
            f"cds={archive}",
            "-X",
            f"cds_image={name}",
        ]
        status = _run(command, record, seconds, verbose)
        try:
            with open(left_out, "rb") as file:
                return status, set(marshal.load(file))
        except FileNotFoundError:
            return status, set()


def _is_part(name: str, packages: set[str]) -> bool:
    """Say whether a module is one of these, or in one of these packages."""
    parts = name.split(".")
    return any(".".join(parts[:count]) in packages for count in range(1, len(parts) + 1))


def _is_to_be_imported(entry: Entry) -> bool:
    # To import __main__.py of a package would be to run it.
    return entry.pattern is None and not entry.name.endswith(".__main__")


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
