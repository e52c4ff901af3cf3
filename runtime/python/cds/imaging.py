"""Having a startup image taken: by an interpreter that is started for it."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
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
    verbose: bool = False,
    seconds: float | None = None,
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
    request = {
        "image": os.path.abspath(image_path(archive)),
        "modules": list(modules.items()),
        "path": list(path),
        # The imports themselves are to load no more modules than a program does.
        "changes": {name: (changes[name], is_read_by_libraries(name)) for name in changes},
        "verbose": verbose,
    }
    with tempfile.TemporaryDirectory(prefix="cds-image-") as directory:
        name = os.path.join(directory, "request.json")
        with open(name, "w", encoding="utf-8") as file:
            json.dump(request, file)
        command = [
            sys.executable,
            *options,
            "-X",
            f"cds={os.path.abspath(archive)}",
            "-X",
            f"cds_image={name}",
        ]
        try:
            with _no_ignored_signals():
                status = subprocess.run(
                    command,
                    stdin=subprocess.DEVNULL,
                    # What modules print is not this command's output.
                    stdout=sys.stderr.fileno(),
                    timeout=seconds,
                    check=False,
                ).returncode
        except subprocess.TimeoutExpired:
            return f"no startup image: imports have not ended within {seconds} seconds"
    if status < 0:
        return f"no startup image: imports were killed by signal {-status}"
    if status > 0:
        return "the archive is written, but no startup image"
    return None


def _is_to_be_imported(entry: Entry) -> bool:
    # To import __main__.py of a package would be to run it.
    return entry.pattern is None and not entry.name.endswith(".__main__")


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
