"""The code object of a source file, as an import creates it, with mtime and size.

It does the same as importlib's SourceLoader.get_code(), with two differences.  It writes
no .pyc file, and the result belongs to one state of the source (cds.collect.freshness).
SourceLoader itself cannot be used: its answer may come from the archive that this dump
replaces.
"""

import _imp
import marshal
import os
from importlib.util import MAGIC_NUMBER, cache_from_source, source_hash
from types import CodeType
from typing import NamedTuple

from cds.collect.freshness import Unsettled, observe

# PEP 552: magic number, flags, and then either a hash, or mtime and size.
_PYC_HEADER_SIZE = 16
_HASH_BASED = 0b01
_CHECK_SOURCE = 0b10


class SourceCode(NamedTuple):
    """A module's code, and the mtime and size of the source that it belongs to."""

    mtime_ns: int
    size: int
    code: CodeType


class Unusable(Exception):
    """A file without code to archive; `reason` names a class, `detail` this case."""

    def __init__(self, reason: str, detail: str | None = None) -> None:
        super().__init__(reason if detail is None else f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail


def load(path: str) -> SourceCode:
    """Return the code of the source file at `path`, or raise Unusable."""
    try:
        status, code = observe(path, lambda status: _code(path, status), attempts=2)
    except OSError as error:
        raise Unusable("cannot be read", error.strerror) from error
    except Unsettled as error:
        raise Unusable("changed while it was read") from error
    return SourceCode(status.st_mtime_ns, status.st_size, code)


def _code(path: str, status: os.stat_result) -> CodeType:
    code = _cached_code(path, status)
    return _compiled(path) if code is None else code


def _compiled(path: str) -> CodeType:
    try:
        return compile(_read(path), path, "exec", dont_inherit=True, optimize=-1)
    except SyntaxError as error:
        where = f" (line {error.lineno})" if error.lineno else ""
        raise Unusable("does not compile", f"{error.msg}{where}") from error
    except (ValueError, OverflowError, RecursionError, MemoryError) as error:
        # compile() raises these for sources that are too large or too deeply nested.
        raise Unusable("does not compile", str(error) or type(error).__name__) from error


def _cached_code(path: str, status: os.stat_result) -> CodeType | None:
    """Return the code in the file's .pyc, or None if an import would not use the .pyc."""
    try:
        pyc = _read(cache_from_source(path))
    except (OSError, NotImplementedError):
        # There is no .pyc, or sys.implementation.cache_tag is None: then there are no .pyc files.
        return None
    if len(pyc) < _PYC_HEADER_SIZE or pyc[:4] != MAGIC_NUMBER:
        return None
    flags = int.from_bytes(pyc[4:8], "little")
    if flags & ~(_HASH_BASED | _CHECK_SOURCE):
        return None
    if flags & _HASH_BASED:
        valid = _hash_is_current(path, pyc[8:16], bool(flags & _CHECK_SOURCE))
    else:
        valid = pyc[8:16] == _uint32(int(status.st_mtime)) + _uint32(status.st_size)
    return _unmarshalled(pyc[_PYC_HEADER_SIZE:], path) if valid else None


def _hash_is_current(path: str, pyc_hash: bytes, check_source: bool) -> bool:
    if pyc_hash == source_hash(_read(path)):
        return True
    policy = _imp.check_hash_based_pycs
    if policy == "always" or (policy != "never" and check_source):
        return False
    # An import uses the code of the .pyc, but only while this .pyc exists.  The mtime and
    # size of the source do not tell whether it does, so the code cannot be archived.
    raise Unusable("has an unchecked .pyc made from another source")


def _unmarshalled(data: bytes, path: str) -> CodeType | None:
    try:
        code = marshal.loads(data)
    except (EOFError, ValueError, TypeError):
        return None
    if not isinstance(code, CodeType):
        return None
    if code.co_filename != path:
        # The .pyc was compiled at another place.  importlib corrects the path, too.
        _imp._fix_co_filename(code, path)  # type: ignore[attr-defined]
    return code


def _uint32(number: int) -> bytes:
    return (number & 0xFFFFFFFF).to_bytes(4, "little")


def _read(path: str) -> bytes:
    with open(path, "rb", buffering=0) as file:
        return file.readall()
