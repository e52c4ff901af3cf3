"""The life of a process that is restored from a startup image, as far as Python code is concerned.

`begins_with()` says what the image has, `resumed()` runs when a process is restored from it.
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

# What is imported here is in every image, and has to be looked at whenever one is
# restored: so it is only what the interpreter has anyway.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

# The id of the process that did the imports, which libraries may have remembered.
_pid = 0
# And that of the process in which modules have got its own for the last time.
_renewed_pid = 0

# The state of `random`, if imports have given it a seed, and whether numpy's generator has one.
_random_state: "Any" = None
_numpy_is_seeded = False

# What modules have found and kept, by the name of the variable.
_findings: "dict[str, object]" = {}
# Objects that know when a program was started.
_applications: "list[_weakref.ref[Any]]" = []

# `sys.argv`, `sys.orig_argv`, `sys._xoptions`, and whether the first of `sys.argv` stays.
_arguments: list[str] = []
_original_arguments: list[str] = []
_options: "dict[str, Any]" = {}
_keeps_name = False
# Whether they are compared, and all of it stays.
_keeps_arguments = False

# Whether the time zone is what TZ tells, and not what it told when `time.tzset()` was called.
_renews_time_zone = False

# The environment: `os.environ` and `os.environb` have the same dict.
environ: dict[bytes, bytes] = posix.environ

# What imports have made of it: what they have removed first, and what they have set then.
_removed: list[bytes] = []
_assigned: dict[bytes, bytes] = {}

# The variables of `site`, and what it has made of HOME, if that is to be renewed.
_of_site: "dict[str, Any]" = {}
_user_base = ""

# Where modules keep the working directory that they were imported in, and what if there is none.
DIRECTORIES = (
    ("multiprocessing.process", "ORIGINAL_DIR", None),
    ("rich", "_IMPORT_CWD", ""),
    ("pip._vendor.rich", "_IMPORT_CWD", ""),
)


class OwnBuiltins:
    """While there is one, builtins are the interpreter's own, whatever a program has made of them."""

    _now = vars(builtins)
    _first = _now.copy()

    # Whether a program had made something else of them when the image was taken.
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
    """Take notice of generators that have got a seed."""
    global _random_state, _numpy_is_seeded
    if "random" in names:
        _random_state = _of("random")["getstate"]()
    _numpy_is_seeded = "numpy.random.mtrand" in names


def keep_environment(removed: list[bytes], assigned: dict[bytes, bytes]) -> None:
    """Take notice of what imports have made of the environment."""
    global _removed, _assigned
    _removed, _assigned = removed, assigned


def keep_user_site(of_site: "dict[str, Any]", home: bytes) -> None:
    """Have the directories of the user's modules follow HOME, as `site` has it."""
    global _of_site, _user_base
    _of_site, _user_base = of_site, _base_in(home)


def renews_user_site() -> bool:
    """Say whether that is so."""
    return bool(_of_site)


def begins_with_arguments(keep_name: bool) -> None:
    """Take notice of what has the arguments; a program may put something else in its place.

    What it has made of its own name it keeps: it is the same in each start.
    """
    global _arguments, _original_arguments, _options, _keeps_name
    _arguments, _original_arguments, _options = sys.argv, sys.orig_argv, sys._xoptions
    _keeps_name = keep_name


def keep_arguments() -> None:
    """Have a restored process find what a program has made of its arguments, which are compared."""
    global _keeps_arguments
    _keeps_arguments = True


def renew_time_zone() -> None:
    """Have a restored process set the time zone that TZ tells."""
    global _renews_time_zone
    _renews_time_zone = True


def keep_process_id() -> None:
    """Take the process for that which does the imports."""
    global _pid
    _pid = os.getpid()


def begins_with() -> None:
    """Take notice of what modules have found and kept."""
    global _findings, _applications
    application = _of("flake8.main.application").get("Application")
    objects = gc.get_objects() if application else ()
    _applications = [_weakref.ref(thing) for thing in objects if type(thing) is application]
    # What somebody has set to another value is to stay so.
    _findings = {
        name: value for name, (namespace, value) in _find().items() if namespace.get(name) == value
    }


def resumed(*arguments: "Any") -> None:
    """Make a restored process one that was started with these arguments."""
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
        # Which rules of the time zone hold depends on the year.
        time.tzset()
    _renew_memories()
    _renew_secrets()


def _renew_environment(texts: list[bytes]) -> None:
    """Make the environment what a start and the imports would make of these variables."""
    # Methods of `dict`: while the image is taken, it is watched who uses those of `environ`.
    dict.clear(environ)
    pairs = [text.partition(b"=")[::2] for text in texts if b"=" in text]
    dict.update(environ, pairs)
    if dict.__len__(environ) < len(pairs):
        # The first of a name counts.
        dict.update(environ, reversed(pairs))
    for name in _removed:
        dict.pop(environ, name, None)
    dict.update(environ, _assigned)


def _renew_user_site(texts: list[bytes]) -> None:
    # The first of a name counts.
    home = next(text for text in texts if text.startswith(b"HOME="))
    base = _base_in(home.removeprefix(b"HOME="))
    for name in ("USER_BASE", "USER_SITE"):
        known = _of_site.get(name)
        if isinstance(known, str) and known.startswith(_user_base):
            _of_site[name] = base + known[len(_user_base) :]


def _base_in(home: bytes) -> str:
    """Return what `os.path.expanduser("~/.local")` makes of HOME."""
    return os.fsdecode(home.rstrip(b"/") + b"/.local")


def _renew_memories() -> None:
    """Renew what modules have remembered of the process that imported them."""
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
    # Records tell the time since then.
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
        # Names of what a record has; but they hold one.
        record = stdlib["logging"].LogRecord("name", 0, "pathname", 0, "msg", (), None)
        _set("structlog.stdlib", "_LOG_RECORD_KEYS", vars(record).keys())


def _renew_processor_times() -> None:
    """Have psutil begin to count what the processors do."""
    psutil = _of("psutil")
    for name, arguments in (("_last_cpu_times", {}), ("_last_per_cpu_times", {"percpu": True})):
        for variable in (name, f"{name}_2"):
            kept: Any = psutil.get(variable)
            # By threads; it has none where they cannot be read.
            for thread in [*kept] if isinstance(kept, dict) else []:
                try:
                    kept[thread] = psutil["cpu_times"](**arguments)
                except Exception:
                    del kept[thread]


def _renew_process_ids() -> None:
    """Renew what modules have kept to know a forked child by, which would begin with nothing."""
    global _renewed_pid
    process = os.getpid()
    for owner, name in _process_ids():
        # What somebody has set to another value is to stay so.
        if vars(owner).get(name) in (_pid, _renewed_pid):
            setattr(owner, name, process)
    of_locks = _of("filelock._core._fork")
    if state := of_locks.get("_FORK_STATE"):
        if state.process_identity[0] in (_pid, _renewed_pid):
            state.process_identity = process, of_locks["_pid_namespace"]()
    _renewed_pid = process


def _process_ids() -> "Iterator[tuple[Any, str]]":
    """Yield what keeps the id of the process that has imported it, and the name of the variable."""
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
    """Have `platform` ask for the name of the system, and of the host, when it is asked."""
    _set("platform", "_uname_cache", None)


def _set(module: str, name: str, value: object) -> None:
    """Give a variable of a module another value, if there are both."""
    variables = _of(module)
    if name in variables:
        variables[name] = value


def _of(module: str) -> "dict[str, Any]":
    """Return the variables of a module, if it is loaded."""
    return variables_of(sys.modules.get(module))


def variables_of(module: object) -> "dict[str, Any]":
    """Return the variables of a module without its notice, or none.

    There are modules that are loaded when they are asked for one (`importlib.util.LazyLoader`).
    """
    try:
        variables: "dict[str, Any]" = object.__getattribute__(module, "__dict__")
    except AttributeError:
        return {}
    return variables


def _find() -> "dict[str, tuple[dict[str, Any], object]]":
    """Return what modules would find now that keep it: the variable, what has it, and the value."""
    found: "dict[str, tuple[dict[str, Any], object]]" = {}
    if util := _of("multiprocessing.util"):
        found["MAXFD"] = util, _most_files()
    connection = _of("urllib3.util.connection")
    has_ipv6 = connection.get("_has_ipv6")
    # Not one that somebody has put there.
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
        # As `multiprocessing.util` has it.
        return 256


def working_directory() -> str | None:
    try:
        return os.path.abspath(os.getcwd())
    except OSError:
        # It was removed.
        return None


def _renew_secrets() -> None:
    """Renew what must not repeat; `random` has done so as after a fork.

    A generator that imports have given a seed goes on from there.
    """
    if (ssl := _of("_ssl")) and os.getpid() == _pid:
        # OpenSSL knows a fork by the process id, which repeats in containers.
        ssl["RAND_add"](os.urandom(64), 64.0)
    if _random_state is not None:
        _of("random")["setstate"](_random_state)
    # A program may be in the middle of such an import.
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
    """Forget what packages want to be done: it is not for this process, which is to end."""
    atexit._clear()
    gc.callbacks.clear()


def warm_up() -> None:
    """Run an empty program."""
    for hook in sys.path_hooks:
        # As the interpreter asks whether a script is a directory or an archive.
        try:
            hook(__file__)
        except ImportError:
            pass
    exec(compile("pass\n", "<string>", "exec"), {})
