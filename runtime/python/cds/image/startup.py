"""The Python code that runs in a process that is restored from a startup image.

`begins_with()` runs when the image is taken, and notes what modules keep.  `resumed()` runs when a
process is restored.
"""

import _signal
import _weakref
import atexit
import builtins
import gc
import os
import posix
import sys
import time

from cds.image import streams

# The modules that are imported here are in every image, and each restore compares their files.
# So this module imports only what the interpreter has loaded anyway.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

# The id of the process that did the imports; libraries may keep it.
_pid = 0
# The id of the last process that has renewed the ids in modules.
_renewed_pid = 0

# The state of `random`, if imports have given it a seed, and whether numpy's generator has one.
_random_state: "Any" = None
_numpy_is_seeded = False

# The values that modules have found and keep, by the name of the variable.
_findings: "dict[str, object]" = {}
# Objects that keep the start time of a program.
_applications: "list[_weakref.ref[Any]]" = []

# `sys.argv`, `sys.orig_argv`, `sys._xoptions`, and whether the first item of `sys.argv` stays.
_arguments: list[str] = []
_original_arguments: list[str] = []
_options: "dict[str, Any]" = {}
_keeps_name = False
# Whether the arguments are compared, so that all items of `sys.argv` stay.
_keeps_arguments = False

# Whether a restored process calls `time.tzset()`: not if TZ was changed after the last call.
_renews_time_zone = False

# The environment: `os.environ` and `os.environb` use the same dict.
environ: dict[bytes, bytes] = posix.environ

# The changes of imports to the environment: first the removed variables, then the assigned ones.
_removed: list[bytes] = []
_assigned: dict[bytes, bytes] = {}

# If the user's directories are renewed: the variables of `site`, and its base directory in HOME.
_of_site: "dict[str, Any]" = {}
_user_base = ""

# Variables in which modules keep the working directory of their import, and their values if there
# is no working directory.
DIRECTORIES = (
    ("multiprocessing.process", "ORIGINAL_DIR", None),
    ("rich", "_IMPORT_CWD", ""),
    ("pip._vendor.rich", "_IMPORT_CWD", ""),
)


class OwnBuiltins:
    """A context in which builtins are the interpreter's own, also if a program changed them."""

    _now = vars(builtins)
    _first = _now.copy()

    # Whether a program had changed builtins when the image was taken.
    are_needed = False

    def __enter__(self) -> None:
        now, first = self._now, self._first
        self._changed = {
            name: now[name] for name in first if name in now and now[name] is not first[name]
        }
        self._removed = [name for name in first if name not in now]
        if self._changed or self._removed:
            now.update(first)

    def __exit__(self, *_: object) -> None:
        self._now.update(self._changed)
        for name in self._removed:
            self._now.pop(name, None)
        OwnBuiltins.are_needed = bool(self._changed or self._removed)


def keep_seeds(names: list[str]) -> None:
    """Keep the states of generators that have a seed."""
    global _random_state, _numpy_is_seeded
    if "random" in names:
        _random_state = _of("random")["getstate"]()
    _numpy_is_seeded = "numpy.random.mtrand" in names


def keep_environment(removed: list[bytes], assigned: dict[bytes, bytes]) -> None:
    """Keep the changes that imports have made to the environment."""
    global _removed, _assigned
    _removed, _assigned = removed, assigned


def keep_user_site(of_site: "dict[str, Any]", home: bytes) -> None:
    """Have a restored process renew the directories of the user's modules in `site` from HOME."""
    global _of_site, _user_base
    _of_site, _user_base = of_site, _base_in(home)


def renews_user_site() -> bool:
    """Return whether a restored process renews these directories."""
    return bool(_of_site)


def begins_with_arguments(keep_name: bool) -> None:
    """Keep the objects that contain the arguments, because a program may replace them.

    With `keep_name`, the first item of `sys.argv` stays as it is: the name of the program is the
    same in each start, and the program may have changed it.
    """
    global _arguments, _original_arguments, _options, _keeps_name
    _arguments, _original_arguments, _options = sys.argv, sys.orig_argv, sys._xoptions
    _keeps_name = keep_name


def keep_arguments() -> None:
    """Have a restored process keep `sys.argv` as it is, because the arguments are compared."""
    global _keeps_arguments
    _keeps_arguments = True


def renew_time_zone() -> None:
    """Have a restored process set the time zone from TZ."""
    global _renews_time_zone
    _renews_time_zone = True


def keep_process_id() -> None:
    """Keep the id of this process, which does the imports."""
    global _pid
    _pid = os.getpid()


def begins_with() -> None:
    """Keep the values that modules have found, before the image is taken."""
    global _findings, _applications
    application = _of("flake8.main.application").get("Application")
    objects = gc.get_objects() if application else ()
    _applications = [_weakref.ref(thing) for thing in objects if type(thing) is application]
    # If the program has set a variable to another value, this value stays.
    _findings = {
        name: value for name, (namespace, value) in _find().items() if namespace.get(name) == value
    }


def resumed(*arguments: "Any") -> None:
    """Give a restored process the state of a process that was started with these arguments."""
    if not OwnBuiltins.are_needed:
        _resume(*arguments)
        return
    with OwnBuiltins():
        _resume(*arguments)


def _resume(
    argv: list[bytes],
    orig_argv: list[bytes],
    options: list[bytes],
    environment: list[bytes],
    ignored_signals: list[int],
) -> None:
    streams.renew()
    _renew_environment(environment)
    if _of_site:
        _renew_user_site(environment)
    if not _keeps_arguments:
        kept = _arguments[:1] if _keeps_name else []
        _arguments[:] = kept + [os.fsdecode(argument) for argument in argv[len(kept) :]]
    _original_arguments[:] = map(os.fsdecode, orig_argv)
    for name in [name for name in _options if name.startswith("cds")]:
        del _options[name]
    for option in options:
        key, _, setting = os.fsdecode(option).partition("=")
        _options[key] = setting or True
    for number in ignored_signals:
        _signal.signal(number, _signal.SIG_IGN)
    if _renews_time_zone:
        # The rules of the time zone depend on the year.
        time.tzset()
    _renew_memories()
    _renew_secrets()


def _renew_environment(texts: list[bytes]) -> None:
    """Set the environment to these variables, with the changes that imports have made."""
    # While the image is taken, the methods of `environ` are watched; those of `dict` are not.
    dict.clear(environ)
    pairs = [text.partition(b"=")[::2] for text in texts if b"=" in text]
    dict.update(environ, pairs)
    if dict.__len__(environ) < len(pairs):
        # If a name occurs twice, the first value counts.
        dict.update(environ, reversed(pairs))
    for name in _removed:
        dict.pop(environ, name, None)
    dict.update(environ, _assigned)


def _renew_user_site(texts: list[bytes]) -> None:
    # If a name occurs twice, the first value counts.
    home = next(text for text in texts if text.startswith(b"HOME="))
    base = _base_in(home.removeprefix(b"HOME="))
    for name in ("USER_BASE", "USER_SITE"):
        known = _of_site.get(name)
        if isinstance(known, str) and known.startswith(_user_base):
            _of_site[name] = base + known[len(_user_base) :]


def _base_in(home: bytes) -> str:
    """Return the result of `os.path.expanduser("~/.local")` for this HOME."""
    return os.fsdecode(home.rstrip(b"/") + b"/.local")


def _renew_memories() -> None:
    """Renew what modules keep of the process that imported them."""
    for module, name, default in DIRECTORIES:
        if _of(module):
            _set(module, name, working_directory() or default)
    forget_system()
    _renew_times()
    _renew_processor_times()
    _renew_process_ids()
    if _findings:
        for name, (namespace, value) in _find().items():
            if _findings.get(name, value) != value:
                namespace[name] = value


def _renew_times() -> None:
    # Log records contain the time since then.
    _set("logging", "_startTime", time.time_ns())
    _set("hypothesis.internal.observability", "_imported_at", time.time())
    if now := _of("loguru._logger").get("aware_now"):
        _set("loguru._logger", "start_time", now())
    for reference in _applications:
        application = reference()
        for name in ("start_time", "end_time"):
            if getattr(application, name, None) is not None:
                setattr(application, name, time.time())
    stdlib = _of("structlog.stdlib")
    if "_LOG_RECORD_KEYS" in stdlib:
        # The variable is a view of the attribute names of a record, and keeps the record alive.
        record = stdlib["logging"].LogRecord("name", 0, "pathname", 0, "msg", (), None)
        _set("structlog.stdlib", "_LOG_RECORD_KEYS", vars(record).keys())


def _renew_processor_times() -> None:
    """Have psutil count processor times from now on."""
    psutil = _of("psutil")
    for name, arguments in (("_last_cpu_times", {}), ("_last_per_cpu_times", {"percpu": True})):
        for variable in (name, f"{name}_2"):
            kept: Any = psutil.get(variable)
            # The keys are thread ids.  The variable is no dict if the times cannot be read.
            for thread in [*kept] if isinstance(kept, dict) else []:
                try:
                    kept[thread] = psutil["cpu_times"](**arguments)
                except Exception:
                    del kept[thread]


def _renew_process_ids() -> None:
    """Renew the process ids by which modules detect a fork; after a fork, they drop their state."""
    global _renewed_pid
    process = os.getpid()
    for owner, name in _process_ids():
        # If the program has set the variable to another value, this value stays.
        if vars(owner).get(name) in (_pid, _renewed_pid):
            setattr(owner, name, process)
    of_locks = _of("filelock._core._fork")
    if state := of_locks.get("_FORK_STATE"):
        if state.process_identity[0] in (_pid, _renewed_pid):
            state.process_identity = process, of_locks["_pid_namespace"]()
    _renewed_pid = process


def _process_ids() -> "Iterator[tuple[Any, str]]":
    """Yield objects that keep the id of the process of their import, and the variables' names."""
    wrapper = _of("multiprocessing.heap").get("BufferWrapper")
    if heap := getattr(wrapper, "_heap", None):
        yield heap, "_lastpid"
    if object_id := _of("bson.objectid").get("ObjectId"):
        yield object_id, "_pid"
    for lock in _of("filelock._core._fork").get("_FORK_CLASSES", {}).values():
        yield lock, "_instances_pid"
    filesystem = _of("fsspec.spec").get("AbstractFileSystem")
    classes = [filesystem] if isinstance(filesystem, type) else []
    for kind in classes:
        yield kind, "_pid"
        classes += type.__subclasses__(kind)


def forget_system() -> None:
    """Have `platform` ask the system for its name, and for the host's name, at the next call."""
    _set("platform", "_uname_cache", None)


def _set(module: str, name: str, value: object) -> None:
    """Set a variable of a module, if the module is loaded and has the variable."""
    variables = _of(module)
    if name in variables:
        variables[name] = value


def _of(module: str) -> "dict[str, Any]":
    """Return the variables of a module; empty if it is not loaded."""
    return variables_of(sys.modules.get(module))


def variables_of(module: object) -> "dict[str, Any]":
    """Return the variables of a module, or an empty dict, without asking the module.

    A lazy module (`importlib.util.LazyLoader`) loads when it is asked for an attribute.
    """
    try:
        variables: "dict[str, Any]" = object.__getattribute__(module, "__dict__")
    except AttributeError:
        return {}
    return variables


def _find() -> "dict[str, tuple[dict[str, Any], object]]":
    """Return the values that modules would find now: by variable, its namespace and the value."""
    found: "dict[str, tuple[dict[str, Any], object]]" = {}
    if util := _of("multiprocessing.util"):
        found["MAXFD"] = util, _most_files()
    connection = _of("urllib3.util.connection")
    has_ipv6 = connection.get("_has_ipv6")
    # Do not call a replacement of the function.
    if has_ipv6 and getattr(has_ipv6, "__module__", None) == connection["__name__"]:
        found["HAS_IPV6"] = connection, has_ipv6("::1")
    parser = _of("dateutil.parser._parser").get("DEFAULTPARSER")
    if information := getattr(parser, "info", None):
        year = time.localtime().tm_year
        found["_year"] = vars(information), year
        found["_century"] = vars(information), year // 100 * 100
    metadata = _of("pymongo.pool_options").get("_METADATA")
    if metadata and isinstance(system := metadata.get("os"), dict):
        found["version"] = system, os.uname().release
    return found


def _most_files() -> int:
    try:
        return os.sysconf("SC_OPEN_MAX")
    except OSError:
        # The default of `multiprocessing.util`.
        return 256


def working_directory() -> str | None:
    try:
        return os.path.abspath(os.getcwd())
    except OSError:
        # The directory was removed.
        return None


def _renew_secrets() -> None:
    """Renew what must not repeat in other processes; `random` has done so, as after a fork.

    If imports have given a seed to a generator, it continues its sequence.
    """
    if (ssl := _of("_ssl")) and os.getpid() == _pid:
        # OpenSSL detects a fork by the process id, which can be the same in containers.
        ssl["RAND_add"](os.urandom(64), 64.0)
    if _random_state is not None:
        _of("random")["setstate"](_random_state)
    # The generator may be missing: the program may be in the middle of the import.
    generator = _of("numpy.random.mtrand").get("_rand")
    if generator is not None and not _numpy_is_seeded:
        generator.seed()
    if generator := _of("hypothesis.internal.conjecture.engine").get("_random"):
        generator.seed()
    for module in ("billiard.process", "multiprocessing.process"):
        variables = _of(module)
        if current := variables.get("_current_process"):
            key = variables["AuthenticationString"](os.urandom(32))
            current._config["authkey"] = key
    object_id = _of("bson.objectid").get("ObjectId")
    if hasattr(object_id, "_ObjectId__random"):
        object_id._ObjectId__random = os.urandom(5)  # type: ignore[union-attr]
        object_id._inc = int.from_bytes(os.urandom(3))  # type: ignore[union-attr]
    _set("sqlfluff.core.helpers.identity", "_cache_key_prefix", os.urandom(8).hex())
    _set("tempfile", "_name_sequence", None)
    _set("uuid", "_node", None)
    _set("uuid", "_last_timestamp", None)


def dry_run() -> None:
    """Remove the callbacks of `atexit` and of the garbage collector: this process only ends."""
    atexit._clear()
    gc.callbacks.clear()


def warm_up() -> None:
    """Run an empty program."""
    for hook in sys.path_hooks:
        # The interpreter also asks the hooks whether a script is a directory or a zip file.
        try:
            hook(__file__)
        except ImportError:
            pass
    exec(compile("pass\n", "<string>", "exec"), {})
