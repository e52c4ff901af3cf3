"""Prepares the process that becomes a startup image.

The process does imports (`cds.image.imports`) or runs a program (`cds.image.program`).  The
preparation notes what the process looks at, and what it leaves that cannot be restored.  Before
the image is taken, the preparation removes itself: restored processes do not need it.
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
    seeds,
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

    # The variables that the process was started with, the names that were read, whether all
    # variables are compared, and the changes that C code sees: values, or None for variables that
    # are removed first.
    _Environment = tuple[
        list[tuple[bytes, bytes]], list[bytes], bool, list[tuple[bytes, bytes | None]]
    ]


class Observation:
    """What was looked at: what the image's key compares, and what it cannot compare."""

    def __init__(self, image: str, record: observed.Record, facts: set[str]) -> None:
        self.image = image
        # Whether the image is of a program, and not of a list of imports.
        self.is_of_program = False
        # Whether the image is of an interpreter before its program.
        self.is_base = False
        self.counts_arguments = record.counts_arguments
        self.compares_arguments = record.compares_arguments
        self.is_for_any_arguments = False
        self.counts_processors = record.counts_processors
        # Standard streams that must again be terminals, or not (`Record.terminals`).
        self.terminals = record.terminals
        asked = record.asked_for_directory
        self.counts_directory = asked is None or asked > _known_directories()
        # The names in `facts.rs` that were asked for.
        self.facts = facts if record.facts is None else record.facts
        self.counts_signals = record.counts_signals
        self.environment: "_Environment | None" = None
        # Whether only `site` knows HOME, as the beginning of two names that it keeps.
        self.renews_user_site = False
        # The path of the user's modules after HOME.  This directory must not exist.
        self.missing_user_site: bytes | None = None
        # The files and directories that are compared.
        self.paths: list[observed.Looked] = []
        # Directories that were searched for modules, and the searched names (`in_one()`).
        self.searched: dict[bytes, bytes] = {}
        # The first parts of the names of modules that come from files, or were not found.
        self.top_level_modules: list[str] = []
        # Modules, and what they looked at that cannot be compared.
        self.reported: list[str] = []
        # Why no image can be taken; empty if another process begins again.
        self.problem: str | None = None


class Preparation:
    """Notes what a process leaves, and what it looks at.

    After `_end()`, the process may do more until `conclude()`.  What it does then does not count,
    because each restored process does it, too.
    """

    is_of_program = False
    is_base = False
    called_at_forks = staticmethod(atfork.known)

    def __init__(self, request: str, wanted: "dict[str, Any]") -> None:
        self._archive = _archive_module()
        self._missing_stream = streams.watch()
        # Whether `site` has taken numbers of these generators, or given them a seed, is not known.
        self._early_generators = seeds.loaded()
        self._inherited = _open_files()
        self._request = request
        self._wanted = wanted
        # The dict that contains the modules of this package.
        self._own_modules: "dict[str, ModuleType]" = sys.modules
        self._environment = variables.current
        self._asked_before = self._environment.take_asked()
        self._seen: set[str] = set()
        # `site` searches before the program's directory is in `sys.path`.
        self._searches_before = list(self._archive.searches())
        self._searches_since: "list[Search]" = []
        # The first parts of the names of modules that imports have searched for.
        self._imported: set[str] = set()
        # Whether each restored process repeats what this process does now.
        self._has_ended = False
        # Whether readline is set up when the image is restored.
        self._is_set_up_later = False
        postponed.begin(self._archive.set_up)
        startup.keep_process_id()
        startup.begins_with_arguments(self.is_of_program and not self.is_base)
        self._user_site = self._environment.user_site.directory()
        if self._user_site is not None and os.path.isdir(self._user_site):
            # The directory is in `sys.path`, so HOME must be compared.
            self._environment.ask(usersite.HOME)
        # The library removes this hook, which is the only one, when it takes the image.
        sys.addaudithook(self._audit)

    def _audit(self, event: str, arguments: "tuple[Any, ...]") -> None:
        if self._has_ended:
            return
        if event == "import":
            # `platform` keeps what it tells a module of the catalogue.  Other modules must ask
            # the system again.
            startup.forget_system()
            self._imported.add(str(arguments[0]).partition(".")[0])
        if event in ("os.putenv", "os.unsetenv"):
            # In a plain start, the set-up of readline comes before this change.
            postponed.finish()
        if event in ("open", "os.listdir", "os.scandir") and isinstance(arguments[0], (str, bytes)):
            caller = sys._getframe().f_back
            is_search = caller is not None and caller.f_code.co_filename == _PATH_FINDER
            if not is_search and (event != "open" or observed.is_read(arguments[2])):
                self._seen.add(os.path.abspath(os.fsdecode(arguments[0])))

    def _end(self) -> None:
        """End the recording: each restored process repeats what comes now."""
        signals.end()
        self._environment.user_site.end()
        self._is_set_up_later = postponed.is_waiting()
        postponed.end()
        self._own_builtins = startup.OwnBuiltins()
        self._own_builtins.__enter__()
        streams.leave_alone()
        self._flush()
        observed.mark_end_of_imports(self._request)
        self._has_ended = True
        # Callbacks must not be called for the garbage collections that come now.
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
        """Have restored processes repeat the changes that imports have made to the environment.

        `of_c` is the environment of C code.  Return the environment that this process was started
        with.
        """
        self._of_c = variables.of_texts(of_c)
        changes, self._is_exact = self._environment.exact_changes()
        startup.keep_environment(list(changes.removed), changes.assigned)
        return [b"%b=%b" % item for item in self._environment.started.items()]

    def _looked_at_environment(self, record: observed.Record) -> "_Environment":
        watch = self._environment
        started, recorded = watch.started, record.changed_variables
        changes, is_exact = variables.changes_in_c(started, recorded, self._of_c)
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
        """Note whether HOME counts only for `site`, whose names are renewed."""
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

    def _what_has_a_generator(self) -> str | None:
        if not self._early_generators:
            return None
        names = ", ".join(self._early_generators)
        return (
            f"the start of the interpreter has loaded {names} (sitecustomize or a .pth file), and "
            "its random numbers would repeat; load it later"
        )

    def _what_is_missing(self) -> str | None:
        if self._missing_stream is None:
            return None
        return (
            f"{self._missing_stream} is closed, and an image needs all standard streams; "
            "open it, for example on /dev/null"
        )

    def _what_depends_on_variables(self) -> str | None:
        changed = postponed.changed_by_c(dict(dict.items(self._environment.environ)), self._of_c)
        if name := next(iter(changed), None):
            shown = os.fsdecode(name)
            return (
                f"C code has changed the variable {shown}, which the loaded module readline uses; "
                "leave out the module that changes it, or readline"
            )
        return None

    def is_restorable(self) -> bool:
        """Return whether everything that is left can be restored."""
        left = any(what_cannot_be_restored(self._inherited))
        return not (self._missing_stream or left)

    def conclude(self) -> Observation:
        """Return what was looked at, and prepare the process for the image."""
        left = self._left()
        # When this process opens the record, the observer writes it and stops observing.
        entries = self._archive.read_record(self._wanted["record"])
        record = observed.read(entries, self._request)
        facts = set(self._wanted["facts"])
        observation = Observation(self._wanted["image"], record, facts)
        observation.environment = self._looked_at_environment(record)
        if record.keeps_time_zone:
            observation.facts.add(looks.YEAR)
        else:
            startup.renew_time_zone()
        self._observe_user_site(observation)
        problem = (
            self._what_is_missing()
            or self._what_has_a_generator()
            or _what_depends_on_the_directory()
        )
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
        """Ask for another process that begins again, if the request allows this reason."""
        if reason not in self._wanted["reasons_to_begin_anew"]:
            return False
        with open(self._wanted["anew"], "wb") as file:
            marshal.dump((reason, names), file)
        return True

    def _observe(self, observation: Observation, record: observed.Record) -> None:
        """Add the modules and files that are compared, and why no image can be taken."""
        raise NotImplementedError

    def _forget(self) -> None:
        """Remove the modules that only the preparation needs."""
        for module in _OWN_MODULES:
            self._own_modules.pop(f"cds.image.{module}", None)
            vars(cds.image).pop(module, None)


# Modules that restored processes do not need.
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

# The file of the path finder's code.
_PATH_FINDER = "<frozen importlib._bootstrap_external>"


def _known_directories() -> int:
    """Count the modules that have asked for the working directory, where the answer is renewed."""
    here = startup.working_directory()
    variables = startup.variables_of
    found = [
        variables(sys.modules.get(module)).get(name) == here
        for module, name, _ in startup.DIRECTORIES
    ]
    # `tempfile` has asked for it as the last candidate, and has chosen another directory.
    found.append(variables(sys.modules.get("tempfile")).get("tempdir") not in (None, here))
    return sum(found)


def from_files() -> "Iterator[tuple[str, str]]":
    for name, module in list(sys.modules.items()):
        spec = startup.variables_of(module).get("__spec__")
        if spec is not None and spec.has_location and spec.origin:
            yield name, spec.origin


def _archive_module() -> "Any":
    """Return `_cds_archive`; it is in `sys.modules` only if the program has imported it."""
    is_loaded = "_cds_archive" in sys.modules
    import _cds_archive

    if not is_loaded:
        del sys.modules["_cds_archive"]
    return _cds_archive


def what_cannot_be_restored(inherited: dict[int, str]) -> "Iterator[str]":
    """Name threads, open files, timers, and tools that watch the program."""
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
    # Processes in other directories would find other modules.
    if not relative:
        return None
    return (
        f"PYTHONPATH has relative directories: {', '.join(map(repr, relative))}; make them absolute"
    )


def _open_files() -> dict[int, str]:
    """Return the targets of file descriptors other than the standard streams."""
    files = {}
    for name in os.listdir("/proc/self/fd"):
        try:
            files[int(name)] = os.readlink(f"/proc/self/fd/{name}")
        except FileNotFoundError:
            # The file descriptor of the listing itself, which is closed now.
            pass
    return {number: target for number, target in files.items() if number > 2}
