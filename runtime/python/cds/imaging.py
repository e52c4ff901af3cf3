"""Having a startup image taken: by an interpreter that is started for it."""

import marshal
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Sequence

from cds import interpreter
from cds.tracelist import Entry


def image_path(archive: str) -> str:
    """Return where the image beside an archive lies."""
    return f"{archive}.startup"


def take_image(
    archive: str, entries: Iterable[Entry], path: Sequence[str], *, verbose: bool
) -> str | None:
    """Take the image of an interpreter with an archive, and with modules imported.

    Return what went wrong, if something did.
    """
    modules = {entry.name: entry.file for entry in entries if entry.pattern is None}
    archive = os.path.abspath(archive)
    request = {
        "archive": archive,
        "image": os.path.abspath(image_path(archive)),
        "modules": list(modules.items()),
        "path": list(path),
        "verbose": verbose,
    }
    with tempfile.TemporaryDirectory(prefix="cds-image-") as directory:
        name = os.path.join(directory, "request")
        record = request["record"] = os.path.join(directory, "record")
        with open(name, "wb") as file:
            marshal.dump(request, file)
        command = [
            sys.executable,
            *interpreter.options(),
            "-X",
            f"cds={archive}",
            "-X",
            f"cds_image={name}",
        ]
        status = _run(command, record, verbose)
    if status < 0:
        return f"no startup image: imports were killed by signal {-status}"
    if status > 0:
        return "the archive is written, but no startup image"
    return None


def _run(command: Sequence[str], record: str, verbose: bool) -> int:
    """Run an interpreter, recording what it looks at if that is possible; return its status.

    What modules print is not this command's output.
    """
    from _cds_archive import run_observed

    try:
        status: int = run_observed(command, record)
    except OSError as error:
        if verbose:
            told = f"only what imports look at from Python will be compared at each start: {error}"
            print(f"cds dump: note: {told}", file=sys.stderr)
        status = subprocess.run(
            command, stdout=sys.stderr, preexec_fn=_stop_ignoring_signals, check=False
        ).returncode
    return status


def _stop_ignoring_signals() -> None:
    """Ignore no signal, though this process may (nohup, a shell's `&`)."""
    for number in signal.valid_signals():
        if signal.getsignal(number) == signal.SIG_IGN:
            signal.signal(number, signal.SIG_DFL)
