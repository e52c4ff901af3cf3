"""The state of the interpreter."""

import ctypes
import gc
import os
import sys
import threading
import types

from inventory.lines import Lines

_PLAIN = (str, bytes, int, float, bool, type(None))


def report(lines: Lines) -> None:
    """Report everything that needs no modules except the loaded ones."""
    # Before other modules are imported.
    modules = list(sys.modules)
    for part in (
        _report_sys,
        _report_imports,
        _report_collector,
        _report_threads,
        _report_builtins,
        _report_frames,
    ):
        part(lines)
    for name in sorted(modules):
        lines.add(f"module {name}", "is there")
    lines.add("modules in order", [name for name in modules if name.partition(".")[0] != "cds"])


def _plain(value: object) -> str:
    """Return a value, or its type if its text would contain an address."""
    if isinstance(value, _PLAIN):
        return repr(value)
    if isinstance(value, (list, tuple)) and type(value) in (list, tuple):
        return f"{type(value).__name__}({', '.join(map(_plain, value))})"
    if isinstance(value, tuple):
        return repr(value)
    if isinstance(value, (set, frozenset)):
        return f"{type(value).__name__} {sorted(map(_plain, value))}"
    if isinstance(value, dict):
        return f"dict {[(_plain(k), _plain(v)) for k, v in value.items()]}"
    if isinstance(value, types.SimpleNamespace):
        return f"namespace {[(k, _plain(v)) for k, v in vars(value).items()]}"
    if isinstance(value, type):
        return f"class {value.__qualname__}"
    name = getattr(value, "__qualname__", getattr(value, "__name__", ""))
    return f"{type(value).__name__} {name}".strip()


def _report_sys(lines: Lines) -> None:
    for name in sorted(vars(sys)):
        value = getattr(sys, name)
        if name in ("modules", "path_importer_cache"):
            continue
        if name == "_xoptions":
            value = {key: setting for key, setting in value.items() if not key.startswith("cds")}
        lines.add(f"sys.{name}", _plain(value))
    lines.add("order of sys's names", list(vars(sys)))
    for name in sorted(name for name in vars(sys) if name.startswith(("get", "is", "_is"))):
        # The amount of memory in use differs from run to run.
        if name not in ("getallocatedblocks", "getunicodeinternedsize"):
            lines.ask(f"sys.{name}()", lambda: _plain(getattr(sys, name)()))
    lines.add("sys.exc_info()", sys.exc_info())
    for tool in range(6):
        lines.add(f"monitoring tool {tool}", sys.monitoring.get_tool(tool))
        lines.ask(f"monitoring events {tool}", lambda: sys.monitoring.get_events(tool))


def _report_imports(lines: Lines) -> None:
    import _imp

    lines.add("meta path", [_plain(finder) for finder in sys.meta_path])
    lines.add("path hooks", [_plain(hook) for hook in sys.path_hooks])
    lines.add("import lock is held", _imp.lock_held())
    for path, finder in sys.path_importer_cache.items():
        lines.add(f"finder of {path}", _plain(finder))
    lines.add("finders in order", list(sys.path_importer_cache))
    main = sys.modules["__main__"]
    lines.add("names of __main__", list(vars(main)))
    for name in (
        "__name__",
        "__file__",
        "__cached__",
        "__doc__",
        "__package__",
        "__spec__",
        "__loader__",
    ):
        lines.add(f"__main__.{name}", _plain(getattr(main, name, "there is none")))
    for name, module in sorted(sys.modules.items()):
        spec = getattr(module, "__spec__", None)
        if spec is not None and name.partition(".")[0] != "cds":
            facts = _plain(spec.loader), spec.origin, spec.cached, spec.has_location
            lines.add(f"spec of {name}", [*facts, getattr(spec, "_initializing", None)])


def _report_collector(lines: Lines) -> None:
    lines.add(
        "gc", f"{gc.isenabled()} {gc.get_threshold()} {gc.get_debug()} {gc.garbage} {gc.callbacks}"
    )
    lines.add("gc has frozen objects", gc.get_freeze_count() > 0)
    for generation, statistics in enumerate(gc.get_stats()):
        for name, value in statistics.items():
            lines.add(f"gc generation {generation} {name}", value)
    lines.add(
        "gc knows this module", any(item is sys.modules[__name__] for item in gc.get_objects())
    )

    class Cycle:
        """Something to collect."""

    for _ in range(10):
        cycle = Cycle()
        cycle.itself = cycle  # type: ignore[attr-defined]
    del cycle
    lines.add("gc finds ten cycles", gc.collect() >= 10)


def _report_threads(lines: Lines) -> None:
    import _thread

    lines.add("threads in C", _thread._count())
    lines.add(
        "threads",
        [(thread.name, thread.daemon, thread.is_alive()) for thread in threading.enumerate()],
    )
    main = threading.main_thread()
    lines.add("main thread is this", main is threading.current_thread())
    lines.add("its identity", main.ident == threading.get_ident())
    lines.add("its native identity", main.native_id == threading.get_native_id() == os.getpid())
    lines.add("stack of new threads", threading.stack_size())
    lines.add("hooks", [threading.gettrace(), threading.getprofile(), _plain(threading.excepthook)])
    lines.add("thread's exception", [_plain(part) for part in sys.exc_info()])
    seen: list[object] = []
    thread = threading.Thread(
        target=lambda: seen.append((threading.current_thread().name, os.getpid()))
    )
    thread.start()
    thread.join()
    lines.add("a new thread", seen)
    runtime = ctypes.pythonapi
    runtime.PyThreadState_Get.restype = ctypes.c_void_p
    lines.add("interpreter is initialized", runtime.Py_IsInitialized())
    state = ctypes.c_void_p(runtime.PyThreadState_Get())
    runtime.PyThreadState_GetID.restype = ctypes.c_uint64
    lines.add("thread state's id", runtime.PyThreadState_GetID(state))


def _report_builtins(lines: Lines) -> None:
    import builtins

    for name, value in sorted(vars(builtins).items()):
        lines.add(f"builtin {name}", _plain(value))
    lines.add("order of builtins", list(vars(builtins)))


def _report_frames(lines: Lines) -> None:
    frame: types.FrameType | None = sys._getframe()
    names = []
    while frame is not None:
        names.append(f"{os.path.basename(frame.f_code.co_filename)}:{frame.f_code.co_name}")
        frame = frame.f_back
    lines.add("frames", names)

    def depth(number: int = 0) -> int:
        try:
            return depth(number + 1)
        except RecursionError:
            return number

    lines.add("recursion", depth())
    lines.add("frames of all threads", len(sys._current_frames()))
