"""Runs the program that becomes a startup image, until it is stopped.

At the ends of imports, the process forks candidates for the image, unless something is left that
cannot be restored.  It is stopped before it looks at what differs from run to run, or does what
others can see (`point.rs`).  So each start would do the same as this process.
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

# Follows the path of the request in a path that reports a look: as in `point.rs`.
_LOOKS = ".looks."

# A fork takes time.  Within an import, the process forks after this number of loaded modules.
_MODULES_AT_ONCE = 16

# The timestamp of a file may be this much earlier than the change, in nanoseconds (CONFIG_HZ=100).
_CLOCK_TICK = 10_000_000

# The file of the code that does the imports of a program.
_IMPORTER = "<frozen importlib._bootstrap>"


class Program(preparing.Preparation):
    """The preparation of a program, up to the point where the program is stopped."""

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
        """Remove the modules of this package from `sys.modules`, and return them."""
        own = {name: module for name, module in sys.modules.items() if _is_own(name)}
        for name in own:
            del sys.modules[name]
        # If no other module refers to `gc` and `atexit`, only this package has imported them.
        modules = map(startup.variables_of, sys.modules.values())
        others = {id(it) for variables in modules for it in variables.values()}
        for module in (gc, startup.atexit):  # type: ignore[attr-defined]
            if id(module) not in others:
                own[module.__name__] = sys.modules.pop(module.__name__)
        # The program must search the directories of this package again.
        for place in (*cds.__path__, *cds.image.__path__):
            sys.path_importer_cache.pop(place, None)
        self._own_modules = own
        self._loaded = len(sys.modules)
        return own

    def _look(self, what: str) -> None:
        """Tell the tracer to stop this process, because the program is about to look at `what`."""
        variables.look_for(os.fsencode(self._request + _LOOKS + what))

    def _count(self) -> None:
        """Record that the program has asked for the number of its arguments."""
        variables.look_for(os.fsencode(self._request + observed.COUNT))

    def _look_at_arguments(self) -> None:
        """Record that the program looks at an argument, or stop the process."""
        if self._wanted["is_for_any_arguments"]:
            self._look(arguments.NAME)
        else:
            startup.keep_arguments()
            variables.look_for(os.fsencode(self._request + observed.ARGUMENTS))

    def is_candidate(self, imported: "ModuleType | None") -> bool:
        """Return whether the process can become an image, and whether a candidate is worth a fork.

        The process has just imported a module; None if it has imported nothing yet.
        """
        with startup.OwnBuiltins():
            return self._is_candidate(imported)

    def _is_candidate(self, imported: "ModuleType | None") -> bool:
        startup.forget_system()
        if self._seed_watch.are_used():
            # The catalogue has imports that take numbers which need not differ.
            if (looks.NUMBERS, _file(imported), "") not in self._wanted["excused"]:
                self._look(looks.NUMBERS)
            self._seed_watch.begin_anew()
        # Note the states of new generators before their first use.
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
        """Return the streams that may have text in their buffers."""
        streams = (sys.stdout, sys.stderr, sys.__stdout__, sys.__stderr__)
        return [stream for stream in streams if stream is not None]

    def end_program(self) -> None:
        """End the program's part in this candidate, and begin the preparation for the image."""
        self._stream_watch.end()
        # If the program has imported `cds`, it has its own `cds.image.hooks`.
        if theirs := sys.modules.get("cds.image.hooks"):
            hooks.before_snapshot, hooks.after_restore = (
                theirs.before_snapshot,
                theirs.after_restore,
            )
        hooks.run_before_snapshot()
        self._end()

    def _observe(self, observation: preparing.Observation, record: observed.Record) -> None:
        self._describe(observation, record)
        if self._lines is not None and self._begin_anew("list", self._lines()):
            observation.problem = ""
            return
        if observation.problem is None and not record.is_traced:
            observation.problem = "the program cannot be watched; allow ptrace(2)"
        names = {name.partition(".")[0] for name, _ in preparing.from_files()}
        observation.top_level_modules = sorted(names)
        self._compare(observation, record)
        if observation.problem is None:
            observation.problem = self._what_has_changed(observation)

    def _describe(self, observation: preparing.Observation, record: observed.Record) -> None:
        observation.is_of_program = True
        observation.is_for_any_arguments = self._wanted["is_for_any_arguments"]
        observation.reported = [record.ended_by]

    def _what_has_changed(self, observation: preparing.Observation) -> str | None:
        """Ask for a new process if files may have changed after they were read."""
        since = self._wanted["started"] - _CLOCK_TICK
        changed = [
            os.fsdecode(path) for path, _, *times, _, _ in observation.paths if max(times) >= since
        ]
        changed += self._searches.changed(observation.searched, since)
        if not changed:
            return None
        if self._begin_anew("changed", changed):
            return ""
        return f"changed while the image was taken, perhaps by taking it: {', '.join(changed)}"


class Base(Program):
    """The preparation of an interpreter that is frozen before its program."""

    is_base = True

    def is_candidate(self, imported: "ModuleType | None") -> bool:
        """Return whether the process can become an image; it cannot after an import."""
        if imported is not None:
            self._look("the program")
            return False
        return super().is_candidate(imported)

    def _describe(self, observation: preparing.Observation, record: observed.Record) -> None:
        observation.is_base = True


def _is_own(name: str) -> bool:
    return name in ("cds", "_cds_archive") or name.startswith("cds.")


def _file(module: "ModuleType | None") -> str | None:
    """Return the file of a module, without loading a lazy module."""
    if not isinstance(module, type(sys)):
        return None
    file = startup.variables_of(module).get("__file__")
    return file if isinstance(file, str) else None


def _is_importing() -> bool:
    """Return whether an import is running."""
    frame = sys._getframe()
    while frame is not None:
        if frame.f_code.co_filename == _IMPORTER:
            return True
        frame = frame.f_back  # type: ignore[assignment]
    return False
