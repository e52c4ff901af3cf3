"""The environment variables of code-data-share 0.1.0.

They are `PYCDSMODE`, `PYCDSLIST`, `PYCDSARCHIVE` and `PYCDSVERBOSE`.  If one of them is set and
not ignored (`-E`, `-I`), the interpreter calls `start()` after `site`.  By then it already uses
the archive: it maps archives before the first object exists.
"""

import os
import sys
from importlib import _bootstrap_external

from cds.code_data_share import manual

# The program can see which modules are loaded, and what it imports later is reported.  So this
# module loads no other modules than it needs.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from importlib.machinery import ModuleSpec
    from types import CodeType, ModuleType


def say(message: str, verbosity: int = 1) -> None:
    """Print a message on stderr if the verbosity is high enough."""
    if manual.flags.verbose >= verbosity:
        print(f"[cds] {message}", file=sys.stderr, flush=True)


def start() -> None:
    """Enter the mode that the environment variables set."""
    manual.flags.mode = manual.MANUAL
    _read_verbosity()
    say("cds.init_from_env", 1)
    mode = os.environ.get("PYCDSMODE")
    class_list = os.environ.get("PYCDSLIST")
    archive = os.environ.get("PYCDSARCHIVE")
    if mode == "MANUALLY":
        return
    if mode == "TRACE" and class_list is not None:
        trace(class_list)
        return
    if mode == "SHARE" and archive is not None:
        try:
            share(archive)
        except manual.CDSException:
            # The interpreter has already reported what is wrong with the archive.
            pass
        return
    if mode == "TRACE":
        say("class list is required for tracer, ignoring.", 1)
    elif mode == "SHARE":
        say("archive is required for loader, ignoring.", 1)
    elif mode == "DUMP":
        say(
            "dumper should be run with `python -m cds.dump <class_list> <archive>, ignoring.`",
            1,
        )
    manual.flags.mode = manual.DISABLED


def trace(class_list: str) -> None:
    """Append the name of each module that is loaded from source to the file `class_list`."""
    manual._set_mode(manual.TRACER)
    file = open(class_list, "a+")
    get_code = _bootstrap_external.SourceLoader.get_code

    def traced(self: object, name: str) -> "CodeType | None":
        code: "CodeType | None" = get_code(self, name)  # type: ignore[arg-type]
        print(name, file=file, flush=True)
        say(f"code: {code}", 2)
        return code

    _bootstrap_external.SourceLoader.get_code = traced  # type: ignore[assignment, method-assign]


def share(archive: str) -> None:
    """Load modules from an archive that `run_dump()` has written."""
    from _cds_archive import status

    path = manual._checked_path("_load_archive", archive)
    if any(os.path.realpath(layer["path"]) == os.path.realpath(path) for layer in status()):
        if manual.flags.mode != manual.MANUAL:
            raise manual._already_initialized()
        manual.flags.mode = manual.SHARER
        manual._state.has_modules = True
    else:
        manual._load_archive(path)
    if manual.flags.verbose >= 1:
        _Reporter.install()


def _read_verbosity() -> None:
    text = os.environ.get("PYCDSVERBOSE")
    if text is None:
        return
    try:
        verbosity = int(text)
    except ValueError:
        say("failed to parse PYCDSVERBOSE, ignoring", 0)
        return
    if 0 <= verbosity <= 2:
        manual.flags.verbose = verbosity
    else:
        say("PYCDSVERBOSE should be [0, 2]", 0)


class _Reporter:
    """A finder that finds nothing, and reports which modules come from an archive."""

    def __init__(self, archived: frozenset[str]) -> None:
        self._archived = archived

    @classmethod
    def install(cls) -> None:
        from _cds_archive import module_names

        reporter = cls(frozenset(module_names()))
        sys.meta_path.insert(0, reporter)
        basics = _bootstrap_external._LoaderBasics  # type: ignore[attr-defined]
        basics.exec_module = reporter.reported(basics.exec_module)

    def find_spec(
        self,
        fullname: str,
        path: "Sequence[str] | None" = None,
        target: "ModuleType | None" = None,
    ) -> "ModuleSpec | None":
        if fullname not in self._archived:
            say(f"find_spec missed '{fullname}'", 1)
        return None

    def reported(
        self, exec_module: "Callable[[object, ModuleType], None]"
    ) -> "Callable[[object, ModuleType], None]":
        def reporting(loader: object, module: "ModuleType") -> None:
            name = module.__spec__.name if module.__spec__ else module.__name__
            if name in self._archived:
                say(f"exec_module cached '{name}'", 1)
            exec_module(loader, module)

        return reporting
