"""Does the imports of a list in a separate process, for a startup image."""

import gc
import os
import sys

from cds.image import creations, hooks, looks, observed, preparing, seeds, startup

# As in `startup`.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from importlib.machinery import ModuleSpec
    from typing import Any


class Imports(preparing.Preparation):
    """The imports that a request names, and the preparation of their process for the image."""

    def __init__(self, request: str, wanted: "dict[str, Any]") -> None:
        self._creations = creations.Creations()
        self._is_audited = False
        super().__init__(request, wanted)
        # `-c` needs the module for its tracebacks, and `-i` needs it, too.
        __import__("linecache")
        sys.path[:0] = wanted["path"]
        self._makers: dict[str, str] = {}
        self._failed: list[str] = []
        self.looks = looks.Watch()

    def do_imports(self) -> None:
        """Import what the request names."""
        seed_watch = seeds.FindingWatch()
        for name, origin in self._wanted["modules"]:
            self._import(name, origin)
        hooks.run_before_snapshot()
        self._note_makers("hooks were called")
        startup.keep_seeds(seed_watch.seeded())
        seed_watch.end()
        self._end()
        self.looks.end()

    def _audit(self, event: str, arguments: "tuple[Any, ...]") -> None:
        self._creations.note(event, arguments)
        if event == "sys.addaudithook":
            self._is_audited = True
        super()._audit(event, arguments)

    def _import(self, name: str, origin: str | None) -> None:
        try:
            self._import_found(name, origin)
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            # The import may also have failed in the traced program.
            self._failed.append(name)
            if self._wanted["verbose"]:
                _report_failure(name, error)
        self._note_makers(f"{name} was imported")

    def _import_found(self, name: str, origin: str | None) -> None:
        """Import a module, if the search finds the file that the list names."""
        if name not in sys.modules:
            spec = self._find(name)
            # Only the script itself finds the modules in its directory.
            if spec is not None and origin in (None, spec.origin):
                __import__(name)

    def _find(self, name: str) -> "ModuleSpec | None":
        """Find a module, as `importlib.util.find_spec()` does."""
        parent = name.rpartition(".")[0]
        if parent:
            __import__(parent)
        path = sys.modules[parent].__path__ if parent else None
        # The import itself searches later; this search must not be recorded.
        self._archive.ignore_searches(True)
        try:
            specs = (finder.find_spec(name, path) for finder in sys.meta_path)
            return next((spec for spec in specs if spec is not None), None)
        finally:
            self._archive.ignore_searches(False)

    def _note_makers(self, what_was_done: str) -> list[str]:
        things = super()._left()
        if self._is_audited:
            things.append("an audit hook")
        for thing in things:
            self._makers.setdefault(thing, what_was_done)
        return things

    def is_restorable(self) -> bool:
        return super().is_restorable() and not (self._failed or self._is_audited)

    def _left(self) -> list[str]:
        things = self._note_makers("the warm-up ran")
        return [f"{thing}, since {self._makers[thing]}" for thing in things]

    def _observe(self, observation: preparing.Observation, record: observed.Record) -> None:
        del sys.path[: len(self._wanted["path"])]
        missing = {name for name in self._imported if name not in sys.modules}
        found = self.looks.looks | record.looks
        counting = looks.Counting(found, self._wanted["excused"], self._wanted["facts"])
        observation.reported = counting.report()
        observation.facts |= counting.facts
        if self._failed:
            observation.problem = self._what_failed()
        if observation.problem is None:
            observation.problem = self._what_was_made(record.made)
        if observation.problem is None:
            observation.problem = self._what_was_looked_at(observation.reported)
        # The program's directory must not have modules with these names.
        names = {name.partition(".")[0] for name, _ in preparing.from_files()}
        self._compare(observation, record)
        places = {os.path.abspath(path) for path in sys.path}
        for place, searched, _ in self._searches_since:
            if os.path.abspath(place) in places:
                names.update(searched or ())
        observation.top_level_modules = sorted(names | missing)

    def _forget(self) -> None:
        super()._forget()
        gc.collect()

    def _what_failed(self) -> str:
        """Ask for a new process that does the imports without the modules that have failed.

        The image must not contain what these modules did before they failed: they do it again
        when the program imports them.
        """
        if self._begin_anew("failed", self._failed):
            return ""
        return f"imports fail each time: {', '.join(self._failed)}; leave them out of the LIST"

    def _what_was_made(self, paths: set[str]) -> str | None:
        """Ask for a new process if imports have made files: that process may find the files."""
        made = creations.remaining(paths | self._creations.paths, os.path.dirname(self._request))
        if not made:
            return None
        if self._begin_anew("made", made):
            return ""
        return (
            f"imports make files or directories each time: {', '.join(made)}; "
            "leave out the modules that do so"
        )

    def _what_was_looked_at(self, report: list[str]) -> str | None:
        """Report what imports looked at that differs from run to run."""
        if self._wanted["reports"] and report:
            told = "imports looked at, or changed, what differs from run to run"
            print(f"cds: {told}; restored processes keep what was found:", file=sys.stderr)
            for text in report:
                print(f"  {text}", file=sys.stderr)
        if not (report and self._wanted["strict"]):
            return None
        return f"imports look at, or change, what differs from run to run: {'; '.join(report)}"


def _report_failure(name: str, error: BaseException) -> None:
    reason = str(error).partition("\n")[0]
    told = f"cds: not in the startup image: {name} ({type(error).__name__}: {reason})"
    print(told, file=sys.stderr)
