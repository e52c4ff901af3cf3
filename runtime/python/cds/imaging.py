"""Having a startup image taken: by an interpreter that is started for it."""

import contextlib
import marshal
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator, Sequence

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
    request = {
        "image": os.path.abspath(image_path(archive)),
        "modules": list(modules.items()),
        "path": list(path),
        "verbose": verbose,
    }
    with tempfile.TemporaryDirectory(prefix="cds-image-") as directory:
        name = os.path.join(directory, "request")
        with open(name, "wb") as file:
            marshal.dump(request, file)
        command = [
            sys.executable,
            *interpreter.options(),
            "-X",
            f"cds={os.path.abspath(archive)}",
            "-X",
            f"cds_image={name}",
        ]
        # What modules print is not this command's output.
        with _no_ignored_signals():
            status = subprocess.run(command, stdout=sys.stderr, check=False).returncode
    if status < 0:
        return f"no startup image: imports were killed by signal {-status}"
    if status > 0:
        return "the archive is written, but no startup image"
    return None


@contextlib.contextmanager
def _no_ignored_signals() -> Iterator[None]:
    """Start processes that ignore no signal, though this one may (nohup, a shell's `&`)."""
    # These the interpreter ignores by itself.
    own = {signal.SIGPIPE, signal.SIGXFSZ}
    ignored = [n for n in signal.valid_signals() - own if signal.getsignal(n) == signal.SIG_IGN]
    for number in ignored:
        signal.signal(number, signal.SIG_DFL)
    try:
        yield
    finally:
        for number in ignored:
            signal.signal(number, signal.SIG_IGN)
