"""Running the program that a startup image is taken of, until it is stopped.

At the ends of imports the process forks candidates for the image, as long as it has nothing that
cannot be restored.  It is stopped when it is about to look at what differs from run to run, or to
do what others can see (`point.rs`): so what it does here, each start does.
"""

import gc
import os
import sys

import cds.image
from cds.image import arguments, hooks, looks, observed, preparing, seeds, startup, variables

# As in `startup`.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType
    from typing import Any

# What a path has behind that of the request: as in `point.rs`.
_LOOKS = ".looks."

# To fork takes time: within an import, that is done when so many modules have been loaded.
_MODULES_AT_ONCE = 16

# So late is the time that a file gets, in nanoseconds (CONFIG_HZ=100).
_CLOCK_TICK = 10_000_000

# The file of the code that does an import which the program has begun.
_IMPORTER = "<frozen importlib._bootstrap>"


class Program(preparing.Preparation):
    """A program, up to the point where it is stopped."""

    is_of_program = True

    def __init__(self, request: str, wanted: "dict[str, Any]") -> None:
        super().__init__(request, wanted)
        self._lines: "Callable[[], list[str]] | None" = None
        if wanted["lists"]:
            from _cds_archive import loaded_lines

            self._lines = loaded_lines
        self._modules = sys.modules
        self._loaded = 0
        self._seed_watch = seeds.Watch()
        self.looks = arguments.ArgumentWatch(self._look, self._count, self._look_at_arguments)
        self._stream_watch = looks.StreamWatch(self._look)

    def hide(self) -> "dict[str, ModuleType]":
        """Take the modules of this package from `sys.modules`; return them."""
        own = {name: module for name, module in sys.modules.items() if _is_own(name)}
        for name in own:
            del sys.modules[name]
        # The interpreter loads them for this package only, if no other module has them.
        modules = map(startup.variables_of, sys.modules.values())
        others = {id(it) for variables in modules for it in variables.values()}
        for module in (gc, startup.atexit):  # type: ignore[attr-defined]
            if id(module) not in others:
                own[module.__name__] = sys.modules.pop(module.__name__)
        # What it was found by is found again.
        for place in (*cds.__path__, *cds.image.__path__):
            sys.path_importer_cache.pop(place, None)
        self._own_modules = own
        self._loaded = len(sys.modules)
        return own

    def _look(self, what: str) -> None:
        """Have this process be stopped."""
        variables.look_for(os.fsencode(self._request + _LOOKS + what))

    def _count(self) -> None:
        """Take notice that the program has asked how many arguments it has."""
        variables.look_for(os.fsencode(self._request + observed.COUNT))

    def _look_at_arguments(self) -> None:
        """Take notice that the program looks at its arguments."""
        if self._wanted["is_for_any_arguments"]:
            self._look(arguments.NAME)
        else:
            startup.keep_arguments()
            variables.look_for(os.fsencode(self._request + observed.ARGUMENTS))

    def is_candidate(self, imported: "ModuleType | None") -> bool:
        """Say whether the process can become an image, and it is worth it.

        It has just imported a module, or nothing so far.
        """
        with startup.OwnBuiltins():
            return self._is_candidate(imported)

    def _is_candidate(self, imported: "ModuleType | None") -> bool:
        startup.forget_system()
        if self._seed_watch.are_used():
            # An import may take numbers that do not matter.
            if (looks.NUMBERS, _file(imported), "") not in self._wanted["excused"]:
                self._look(looks.NUMBERS)
            self._seed_watch.begin_anew()
        # Before anybody uses one that is new.
        self._seed_watch.look()
        if imported is not None:
            grown = len(self._modules) - self._loaded
            if grown < (_MODULES_AT_ONCE if _is_importing() else 1):
                return False
        if not self.is_restorable():
            return False
        startup.keep_seeds(self._seed_watch.seeded())
        self._loaded = len(self._modules)
        return True

    def written_streams(self) -> "list[Any]":
        """Return the streams that may still have what was written to them."""
        streams = (sys.stdout, sys.stderr, sys.__stdout__, sys.__stderr__)
        return [stream for stream in streams if stream is not None]

    def end_program(self) -> None:
        """Go on in the program's place, as a candidate."""
        self._stream_watch.end()
        # A program that has imported the package has one of its own.
        if theirs := sys.modules.get("cds.image.hooks"):
            hooks.before_snapshot, hooks.after_restore = (
                theirs.before_snapshot,
                theirs.after_restore,
            )
        hooks.run_before_snapshot()
        self._end()

    def _observe(self, observation: preparing.Observation, record: observed.Record) -> None:
        observation.is_of_program = True
        observation.is_for_any_arguments = self._wanted["is_for_any_arguments"]
        if self._lines is not None and self._begin_anew("list", self._lines()):
            observation.problem = ""
            return
        observation.reported = [record.ended_by]
        if observation.problem is None and not record.is_traced:
            observation.problem = "the program cannot be watched (ptrace)"
        names = {name.partition(".")[0] for name, _ in preparing.from_files()}
        observation.top_level_modules = sorted(names)
        self._compare(observation, record)
        if observation.problem is None:
            observation.problem = self._what_has_changed(observation)

    def _what_has_changed(self, observation: preparing.Observation) -> str | None:
        """Have the image be taken anew if files may have been read before they were changed."""
        since = self._wanted["started"] - _CLOCK_TICK
        changed = [
            os.fsdecode(path) for path, _, *times, _, _ in observation.paths if max(times) >= since
        ]
        changed += self._searches.changed(observation.searched, since)
        if not changed:
            return None
        if self._begin_anew("changed", changed):
            return ""
        return f"changed while it was taken, perhaps by that: {', '.join(changed)}"


def _is_own(name: str) -> bool:
    return name in ("cds", "_cds_archive") or name.startswith("cds.")


def _file(module: "ModuleType | None") -> str | None:
    """Return the file of a module, without having it loaded if that is still to be done."""
    if not isinstance(module, type(sys)):
        return None
    file = startup.variables_of(module).get("__file__")
    return file if isinstance(file, str) else None


def _is_importing() -> bool:
    """Say whether an import is under way."""
    frame = sys._getframe()
    while frame is not None:
        if frame.f_code.co_filename == _IMPORTER:
            return True
        frame = frame.f_back  # type: ignore[assignment]
    return False
