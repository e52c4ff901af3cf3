"""Trace lists: the names of the modules that programs imported.

A trace list is a text file in UTF-8, with one module name per line.  Blank lines and
repeated names have no effect.  `#` starts a comment.  A comment that is an absolute path
names the file of the module.  It is written if a search along the path would not find
this file: for modules beside a script, editable installs, and packages that change
their `__path__`.

    json
    json.decoder
    utils  # /srv/app/utils.py

After `re`, a comment may be a regular expression that a program compiled: the flags, and
the pattern as a Python literal.

    re  # 32 '[^/]+'

The comment `not imported` marks a module that a program has run without an import, as
`-m` does.  The module is archived, but a startup image must not import it, because the
import would run the program.  If there is a file, it follows the mark.

    json.tool  # not imported
    tool  # not imported /srv/app/tool.py

A component of a name need not be an identifier, because import_module() accepts any text:
Django has migrations with names like `0001_initial`.  If there is a file, the name is a
label: any text that the program used when it loaded the file itself.
"""

import ast
import re
import sys
from typing import NamedTuple

_NOT_IMPORTED = "not imported"
_MODULE_NAME = re.compile(r"[\w-]+(\.[\w-]+)*")


class Pattern(NamedTuple):
    """A regular expression with the flags that it was compiled with."""

    flags: int
    pattern: str | bytes


class Entry(NamedTuple):
    """One line: a module's name, and the contents of its comment."""

    name: str
    file: str | None
    pattern: Pattern | None = None
    is_imported: bool = True


class TraceListError(ValueError):
    """A line that is not valid in a trace list; the text names the file and the line."""


def is_module_name(text: str) -> bool:
    """Return whether `text` is valid as a name in a list: `a`, `a.b`, `a.0001_b`, `a-b`."""
    return _MODULE_NAME.fullmatch(text) is not None


def read(path: str) -> list[Entry]:
    """Read the list at `path`, or from standard input if `path` is `-`."""
    if path == "-":
        return parse(sys.stdin.buffer.read(), "<stdin>")
    with open(path, "rb") as file:
        return parse(file.read(), path)


def parse(data: bytes, filename: str) -> list[Entry]:
    """Return the entries of a list in order, each once; `filename` is for errors."""
    entries: dict[Entry, None] = {}
    for number, line in enumerate(data.split(b"\n"), start=1):
        try:
            entry = _parse_line(line)
        except ValueError as error:
            raise TraceListError(f"{filename}:{number}: {error}") from None
        if entry is not None:
            entries[entry] = None
    return list(entries)


def line(entry: Entry) -> str:
    """Return the line of a list for an entry."""
    if entry.pattern is not None:
        return f"{entry.name}  # {entry.pattern.flags} {ascii(entry.pattern.pattern)}"
    comments = [] if entry.is_imported else [_NOT_IMPORTED]
    if entry.file is not None:
        comments.append(entry.file)
    return f"{entry.name}  # {' '.join(comments)}" if comments else entry.name


def _parse_line(line: bytes) -> Entry | None:
    try:
        text = line.decode()
    except UnicodeDecodeError as error:
        raise ValueError(
            f"byte {line[error.start]:#04x} in column {error.start + 1} is not UTF-8; "
            "check that this is a trace list"
        ) from None
    name, _, comment = (part.strip() for part in text.partition("#"))
    if not name:
        return None
    file = comment.removeprefix(f"{_NOT_IMPORTED} ")
    if file.startswith("/"):
        return Entry(name, file, is_imported=file == comment)
    if not is_module_name(name):
        raise ValueError(f"not a module name: {_shortened(name)}; write one name per line")
    if comment == _NOT_IMPORTED:
        return Entry(name, None, is_imported=False)
    return Entry(name, None, _parse_pattern(comment) if name == "re" else None)


def _parse_pattern(comment: str) -> Pattern | None:
    flags, _, literal = comment.partition(" ")
    try:
        pattern = ast.literal_eval(literal)
        return Pattern(int(flags), pattern) if isinstance(pattern, str | bytes) else None
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        # An ordinary comment of the author.
        return None


def _shortened(text: str) -> str:
    shown = ascii(text)
    return shown if len(shown) <= 60 else f"{shown[:57]}..."
