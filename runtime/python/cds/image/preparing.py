"""Preparing the process that a startup image is taken of.

What it looks at is noted, and what it leaves that cannot be restored, be it by imports
(`cds.image.imports`) or by a program (`cds.image.program`).  When the image is taken, all of this is forgotten:
processes that are restored have no use for it.
"""

import _signal
import _thread
import gc
import marshal
import os
import sys

import cds.image
from cds.image import (
    atfork,
    looks,
    observed,
    postponed,
    signals,
    startup,
    streams,
    usersite,
    variables,
)
from cds.image.searched import Searches, in_one

# As in `startup`.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import ModuleType
    from typing import Any

    from cds.image.searched import Search

    # Variables that the process was started with, names that were read, whether all count, and
    # what C code finds changed: values, or None for what is removed first.
    _Environment = tuple[
        list[tuple[bytes, bytes]], list[bytes], bool, list[tuple[bytes, bytes | None]]
    ]


class Observation:
    """What the imports have looked at: what the image's key compares, and what it cannot."""

    def __init__(self, image: str, record: observed.Record, facts: set[str]) -> None:
        self.image = image
        # Whether it is the program itself, which has asked how many arguments it has.
        self.is_of_program = False
        self.counts_arguments = record.counts_arguments
        self.compares_arguments = record.compares_arguments
        self.is_for_any_arguments = False
        self.counts_processors = record.counts_processors
        # Standard streams that were asked whether they are terminals.
        self.terminals = record.terminals
        asked = record.asked_for_directory
        self.counts_directory = asked is None or asked > _known_directories()
        # What of `facts.rs` was asked for, by name.
        self.facts = facts if record.facts is None else record.facts
        self.counts_signals = record.counts_signals
        self.environment: "_Environment | None" = None
        # Whether HOME is only the beginning of names that `site` keeps; what follows it in that of
        # a directory that must not be there.
        self.renews_user_site = False
        self.missing_user_site: bytes | None = None
        # Files and directories.
        self.paths: list[observed.Looked] = []
        # Directories that modules were searched in, and names that were searched for (`in_one()`).
        self.searched: dict[bytes, bytes] = {}
        # The first parts of the names of modules that come from files, or were not found.
        self.top_level_modules: list[str] = []
        # Modules, and what they looked at that cannot be compared.
        self.reported: list[str] = []
        # What makes an image impossible; nothing that is to be said, if it is to be taken anew.
        self.problem: str | None = None


class Preparation:
    """What a process leaves and looks at.

    When what is to be in the image is done, the process may do more that restored processes find
    done, until the preparation is concluded.
    """

    is_of_program = False
    called_at_forks = staticmethod(atfork.known)

    def __init__(self, request: str, wanted: "dict[str, Any]") -> None:
        self._archive = _archive_module()
        self._missing_stream = streams.watch()
        self._inherited = _open_files()
        self._request = request
        self._wanted = wanted
        # Where the modules of this package are found.
        self._own_modules: "dict[str, ModuleType]" = sys.modules
        self._environment = variables.current
        self._asked_before = self._environment.take_asked()
        self._seen: set[str] = set()
        # Those of `site` are made before there is a program, whose directory they do not see.
        self._searches_before = list(self._archive.searches())
        self._searches_since: "list[Search]" = []
        # First parts of the names of modules that were to be imported and were not loaded yet.
        self._imported: set[str] = set()
        # Whether what is looked at now is looked at again in each restored process.
        self._has_ended = False
        # Whether readline is to be set up when the image is restored.
        self._is_set_up_later = False
        postponed.begin(self._archive.set_up)
        startup.keep_process_id()
        startup.begins_with_arguments(self.is_of_program)
        self._user_site = self._environment.user_site.directory()
        if self._user_site is not None and os.path.isdir(self._user_site):
            # It is in `sys.path`.
            self._environment.ask(usersite.HOME)
        # Whoever takes the image removes this hook. There is no other.
        sys.addaudithook(self._audit)

    def _audit(self, event: str, arguments: "tuple[Any, ...]") -> None:
        if self._has_ended:
            return
        if event == "import":
            # What a module of the catalogue has asked it, no other is to find.
            startup.forget_system()
            self._imported.add(str(arguments[0]).partition(".")[0])
        if event in ("os.putenv", "os.unsetenv"):
            # A start has done it before.
            postponed.finish()
        if event in ("open", "os.listdir", "os.scandir") and isinstance(arguments[0], (str, bytes)):
            caller = sys._getframe().f_back
            is_search = caller is not None and caller.f_code.co_filename == _PATH_FINDER
            if not is_search and (event != "open" or observed.is_read(arguments[2])):
                self._seen.add(os.path.abspath(os.fsdecode(arguments[0])))

    def _end(self) -> None:
        """Take notice that what comes now is done again in each restored process."""
        signals.end()
        self._environment.user_site.end()
        self._is_set_up_later = postponed.is_waiting()
        postponed.end()
        self._own_builtins = startup.OwnBuiltins()
        self._own_builtins.__enter__()
        streams.leave_alone()
        self._flush()
        observed.tell_end_of_imports(self._request)
        self._has_ended = True
        # Nobody is to be told of the collections that come now.
        self._gc_callbacks = gc.callbacks[:]
        gc.callbacks.clear()
        self._keeps_walk = self._environment.keeps_walk()

    def _flush(self) -> None:
        streams.find_buffers()
        for stream in (sys.stdout, sys.stderr):
            if stream is not None:
                stream.flush()
        streams.flush()

    def keep_environment(self, of_c: list[bytes]) -> list[bytes]:
        """Have restored processes begin with what imports have made of the environment.

        `of_c` is that which C code sees.  Return that which this process was started with.
        """
        self._of_c = variables.of_texts(of_c)
        changes, self._is_exact = self._environment.exact_changes()
        startup.keep_environment(list(changes.removed), changes.assigned)
        return [b"%b=%b" % item for item in self._environment.started.items()]

    def _looked_at_environment(self, record: observed.Record) -> "_Environment":
        watch = self._environment
        started, told = watch.started, record.changed_variables
        changes, is_exact = variables.changes_in_c(started, told, self._of_c)
        names = self._asked_before | watch.asked() | record.variables
        is_blind = record.is_blind or not (is_exact and self._is_exact)
        if is_blind or self._keeps_walk:
            names.update(variables.OF_SHELLS)
        removed = [(name, None) for name in changes.removed]
        return (
            [*started.items()],
            sorted(names),
            is_blind or record.walks_environment or watch.has_walked,
            [*removed, *changes.assigned.items()],
        )

    def _observe_user_site(self, observation: Observation) -> None:
        """Tell whether HOME counts only for `site`, which is renewed."""
        environment = observation.environment
        if environment is None or not self._environment.user_site.has_begun:
            return
        _, asked, counts_all, _ = environment
        if counts_all or usersite.HOME in asked:
            return
        observation.renews_user_site = True
        home = self._environment.started[usersite.HOME]
        startup.keep_user_site(self._environment.user_site.namespace(), home)
        if self._user_site is not None:
            begin = len(home.rstrip(b"/"))
            observation.missing_user_site = os.fsencode(self._user_site)[begin:]

    def _what_is_missing(self) -> str | None:
        if self._missing_stream is None:
            return None
        return f"it needs all standard streams, and {self._missing_stream} is closed"

    def _what_depends_on_variables(self) -> str | None:
        changed = postponed.changed_by_c(dict(dict.items(self._environment.environ)), self._of_c)
        if name := next(iter(changed), None):
            shown = os.fsdecode(name)
            return f"it loads readline, and C code has changed the variable {shown}, which readline uses"
        return None

    def is_restorable(self) -> bool:
        """Say whether nothing is left that cannot be restored."""
        left = any(what_cannot_be_restored(self._inherited))
        return not (self._missing_stream or left)

    def conclude(self) -> Observation:
        """Return what was looked at."""
        left = self._left()
        # The observer lets this process go, and writes the record, when it is opened.
        record = observed.read(self._wanted["record"], self._request)
        facts = set(self._wanted["facts"])
        observation = Observation(self._wanted["image"], record, facts)
        observation.environment = self._looked_at_environment(record)
        if record.keeps_time_zone:
            observation.facts.add(looks.YEAR)
        else:
            startup.renew_time_zone()
        self._observe_user_site(observation)
        problem = self._what_is_missing() or _what_depends_on_the_directory()
        if problem is None and self._is_set_up_later:
            problem = self._what_depends_on_variables()
        if left:
            problem = f"imports have left what cannot be restored: {'; '.join(left)}"
        observation.problem = problem
        self._observe(observation, record)
        self._flush()
        self._forget()
        startup.begins_with()
        gc.callbacks[:] = self._gc_callbacks
        self._own_builtins.__exit__()
        return observation

    def _compare(self, observation: Observation, record: observed.Record) -> None:
        """Add the files and directories that are compared."""
        wanted = self._wanted
        own = [os.path.dirname(self._request), wanted["archive"], wanted["image"]]
        if startup.renews_user_site() and self._user_site is not None:
            own.append(self._user_site)
        listed = self._seen | record.opened
        self._searches_since = list(self._archive.searches())
        noted = (*self._searches_before, *self._searches_since)
        self._searches = Searches(noted, record.searched, self._archive.found_by_search)
        contents = listed | {origin for _, origin in from_files()}
        contents |= self._searches.with_unknown_names()
        contents.add(os.path.join(sys.prefix, "pyvenv.cfg"))
        searched = self._searches.with_known_names()
        observation.paths, names = observed.compared(
            contents,
            record.looked_at,
            own,
            record.asked_for_status,
            {path: searched[path] for path in searched.keys() - listed},
        )
        observation.searched = {
            os.fsencode(path): in_one(of_path) for path, of_path in sorted(names.items())
        }

    def _left(self) -> list[str]:
        """Name what cannot be restored."""
        return list(what_cannot_be_restored(self._inherited))

    def _begin_anew(self, reason: str, names: list[str]) -> bool:
        """Have another process do all of this, if that is wanted for such a reason."""
        if reason not in self._wanted["reasons_to_begin_anew"]:
            return False
        with open(self._wanted["anew"], "wb") as file:
            marshal.dump((reason, names), file)
        return True

    def _observe(self, observation: Observation, record: observed.Record) -> None:
        """Add what is compared of modules and files, and what makes an image impossible."""
        raise NotImplementedError

    def _forget(self) -> None:
        """Have nothing be found in the image that only its preparation needs."""
        for module in _OWN_MODULES:
            self._own_modules.pop(f"cds.image.{module}", None)
            vars(cds.image).pop(module, None)


# Those that processes which are restored have no use for.
_OWN_MODULES = (
    "arguments",
    "atfork",
    "creations",
    "imports",
    "looks",
    "observed",
    "postponed",
    "preparing",
    "program",
    "searched",
    "seeds",
    "signals",
    "taking",
    "usersite",
    "variables",
)

# The file of its code.
_PATH_FINDER = "<frozen importlib._bootstrap_external>"


def _known_directories() -> int:
    """Count modules that have asked for the working directory, to no avail but what is renewed."""
    here = startup.working_directory()
    variables = startup.variables_of
    found = [
        variables(sys.modules.get(module)).get(name) == here
        for module, name, _ in startup.DIRECTORIES
    ]
    # It was the last resort.
    found.append(variables(sys.modules.get("tempfile")).get("tempdir") not in (None, here))
    return sum(found)


def from_files() -> "Iterator[tuple[str, str]]":
    for name, module in list(sys.modules.items()):
        spec = startup.variables_of(module).get("__spec__")
        if spec is not None and spec.has_location and spec.origin:
            yield name, spec.origin


def _archive_module() -> "Any":
    """Return `_cds_archive`, which programs do not find unless they import it themselves."""
    is_loaded = "_cds_archive" in sys.modules
    import _cds_archive

    if not is_loaded:
        del sys.modules["_cds_archive"]
    return _cds_archive


def what_cannot_be_restored(inherited: dict[int, str]) -> "Iterator[str]":
    """Name threads, open files, timers, and what watches the program."""
    if _thread._count() > 0:
        yield from _threads()
    for number, target in _open_files().items():
        if inherited.get(number) != target:
            yield f"file descriptor {number} ({target})"
    for name in ("ITIMER_REAL", "ITIMER_VIRTUAL", "ITIMER_PROF"):
        if _signal.getitimer(getattr(_signal, name)) != (0.0, 0.0):
            yield f"a timer ({name})"
    if sys.gettrace() is not None:
        yield "a trace function (sys.settrace)"
    if sys.getprofile() is not None:
        yield "a profile function (sys.setprofile)"
    for number in range(6):
        if tool := sys.monitoring.get_tool(number):
            yield f"a tool of sys.monitoring ({tool})"
    tracer = startup.variables_of(sys.modules.get("_tracemalloc"))
    if tracer and tracer["is_tracing"]():
        yield "tracemalloc"


def _threads() -> "Iterator[str]":
    others = []
    if threading := startup.variables_of(sys.modules.get("threading")):
        main = threading["main_thread"]()
        others = [thread.name for thread in threading["enumerate"]() if thread is not main]
    if not others:
        yield "a thread (of the module _thread)"
    for name in others:
        yield f"a thread ({name})"


def _what_depends_on_the_directory() -> str | None:
    path = os.environ.get("PYTHONPATH")
    if not path or sys.flags.ignore_environment:
        return None
    relative = [part for part in path.split(os.pathsep) if not os.path.isabs(part)]
    # Processes in other directories would have other modules.
    if not relative:
        return None
    return f"PYTHONPATH has relative directories: {', '.join(map(repr, relative))}"


def _open_files() -> dict[int, str]:
    """Return what file descriptors behind the standard streams refer to."""
    files = {}
    for name in os.listdir("/proc/self/fd"):
        try:
            files[int(name)] = os.readlink(f"/proc/self/fd/{name}")
        except FileNotFoundError:
            # That of the listing itself.
            pass
    return {number: target for number, target in files.items() if number > 2}
