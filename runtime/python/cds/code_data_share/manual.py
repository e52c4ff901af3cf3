"""The functions of the module `_cds`: archives of one object, and the mode of the process.

A process is in one mode at a time, and can use one such archive.  The first mode is the one
that the start-up hook of code-data-share 0.1.0 sets if no variable is set: initialized and
disabled.  The archive of the standard library and the archive of `-X cds=` are independent of
this.
"""

# As in `environment`.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, SupportsIndex

MANUAL = -1
DISABLED = 0
TRACER = 1
DUMPER = 2
# Only _load_archive() and share() set this mode.
SHARER = 3

_SETTABLE = (MANUAL, DISABLED, TRACER, DUMPER)


class CDSException(RuntimeError):
    """The call is not possible in this mode, or with this archive or object."""

    __module__ = "_cds"


class _Flags:
    """The current mode and verbosity."""

    __slots__ = ("mode", "verbose")
    mode: int
    verbose: int

    def __repr__(self) -> str:
        return f"_cds.flags(mode={self.mode}, verbose={self.verbose})"


_Flags.__name__ = _Flags.__qualname__ = "flags"
_Flags.__module__ = "_cds"

flags = _Flags()
flags.mode = DISABLED
flags.verbose = 0


class _State:
    """The archive that this process writes to or has loaded."""

    def __init__(self) -> None:
        self.target: str | None = None
        self.loaded: "tuple[Any, ...]" = ()
        # Whether modules come from an archive, which `_get_obj()` has not returned yet.
        self.has_modules = False


_state = _State()


def _set_mode(mode: "SupportsIndex") -> None:
    """Set the mode: manual (-1), disabled (0), tracer (1) or dumper (2)."""
    mode = mode.__index__() if hasattr(mode, "__index__") else _refuse_integer(mode)
    if mode not in _SETTABLE:
        raise CDSException(
            f"invalid mode: {mode}, only disabled ({DISABLED}), tracer ({TRACER}), dumper ({DUMPER}) "
            f"and manual mode ({MANUAL}) can be set with _cds._set_mode."
        )
    _enter(mode)


def _set_verbose(mode: "SupportsIndex") -> None:
    """Set how much is printed: 0, 1 or 2."""
    verbose = mode.__index__() if hasattr(mode, "__index__") else _refuse_integer(mode)
    if not 0 <= verbose <= 2:
        raise CDSException(f"invalid verbose: {verbose}.")
    flags.verbose = verbose


def _get_initialized() -> bool:
    """Return whether a mode has been set."""
    return True


def _create_archive(archive: str) -> None:
    """Create an empty archive, for `_move_in()`."""
    path = _checked_path("_create_archive", archive)
    _enter(DUMPER)
    from _cds_archive import write_object

    try:
        write_object(path, ())
    except OSError as error:
        raise CDSException("create mmap file failed.") from error
    _state.target = path


def _move_in(op: object) -> None:
    """Write an object to the archive; possible once per archive."""
    if _state.target is None:
        raise CDSException("move in already finished or archive file not opened.")
    from _cds_archive import find_unsuitable, write_object

    unsuitable = find_unsuitable(op)
    if unsuitable is not None:
        raise CDSException(f"Trying to move in a {unsuitable} object.")
    target, _state.target = _state.target, None
    try:
        write_object(target, (op,))
    except OSError as error:
        raise CDSException(f"writing the archive failed: {error}") from error


def _load_archive(archive: str) -> None:
    """Map an archive that `_move_in()` or `cds.dump` has written."""
    path = _checked_path("_load_archive", archive)
    if flags.mode != MANUAL:
        raise _already_initialized()
    flags.mode = SHARER
    from _cds_archive import load_object

    try:
        open(path, "rb").close()
    except OSError as error:
        raise CDSException("open mmap file failed.") from error
    try:
        _state.loaded = load_object(path)
    except OSError as error:
        raise CDSException("read archive header failed.") from error
    _state.has_modules = not _state.loaded


def _get_obj() -> "Any":
    """Return the object of the loaded archive, or the entries of an archive of modules."""
    if _state.has_modules:
        from _cds_archive import archived_modules

        entries = tuple(_entry(*module) for module in archived_modules())
        _state.has_modules = False
        _state.loaded = (entries,) if entries else ()
    if not _state.loaded:
        raise CDSException("No object in heap.")
    return _state.loaded[0]


def _entry(name: str, file: str, code: object) -> "tuple[str, tuple[Any, ...]]":
    """Return a module as code-data-share stores it: name, package, file, search path and code."""
    directory, _, base = file.rpartition("/")
    if base.startswith("__init__."):
        return name, (name, file, (directory,), code)
    return name, (name.rpartition(".")[0], file, None, code)


def _enter(mode: int) -> None:
    """Change the mode; raise CDSException if this change is not allowed."""
    allowed = flags.mode == MANUAL or (flags.mode, mode) == (DISABLED, DUMPER)
    if not allowed:
        raise _already_initialized()
    flags.mode = mode


def _already_initialized() -> CDSException:
    return CDSException(f"cds already initialized, current mode: {flags.mode}.")


def _checked_path(function: str, path: object) -> str:
    if not isinstance(path, str):
        kind = "None" if path is None else type(path).__name__
        raise TypeError(f"{function}() argument 'archive' must be str, not {kind}")
    if "\0" in path:
        raise ValueError("embedded null character")
    return path


def _refuse_integer(value: object) -> int:
    raise TypeError(f"{type(value).__name__!r} object cannot be interpreted as an integer")
