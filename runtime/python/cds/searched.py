"""Directories that were searched for modules while an image was made: what of them counts."""

import _imp
import os
import sys

import cds

# As in `startup`.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from collections.abc import Set as AbstractSet

    # A directory, names that were searched for, if they are known, and what was there before.
    Search = tuple[str, tuple[str, ...] | None, tuple[bytes, ...]]

# As in Lib/importlib/_bootstrap_external.py.
_SUFFIXES = (*_imp.extension_suffixes(), ".py", ".pyc")


class Searches:
    """What was searched for, and where."""

    def __init__(self, noted: "Iterable[Search]", listed: set[str]) -> None:
        """`listed` are directories that finders have listed."""
        # None where others may have been searched for, too.
        self.names: "dict[str, AbstractSet[str] | None]" = dict.fromkeys(
            _search_path(), frozenset()
        )
        # A finder of another class does not say what it searches for.
        self.names |= dict.fromkeys(listed)
        self._before: dict[str, tuple[bytes, ...]] = {}
        found: "dict[str, AbstractSet[str] | None]" = {}
        for place, names, before in noted:
            path = os.path.abspath(place)
            self._before.setdefault(path, before)
            known = found.setdefault(path, frozenset())
            found[path] = None if known is None or names is None else {*known, *names}
        self.names |= found
        for place in cds.__path__:
            self.names.pop(place, None)

    def with_unknown_names(self) -> set[str]:
        return {path for path, names in self.names.items() if names is None}

    def with_known_names(self) -> "dict[str, AbstractSet[str]]":
        return {path: names for path, names in self.names.items() if names is not None}

    def changed(self, compared: "Mapping[str, AbstractSet[str]]", since: int) -> list[str]:
        """Return directories that have got or lost entries with these names while the image was made.

        `since` is a time in nanoseconds; what has not changed since then is as it was.
        """
        return [
            path
            for path, names in compared.items()
            if os.stat(path).st_mtime_ns >= since
            and _with(names, map(os.fsdecode, self._before.get(path, ())))
            != _with(names, os.listdir(path))
        ]


def _with(names: "AbstractSet[str]", entries: "Iterable[str]") -> set[str]:
    """Return the entries that a search for these names looks at."""
    return {
        entry
        for entry in entries
        if entry in names
        or any(entry.endswith(end) and entry[: -len(end)] in names for end in _SUFFIXES)
    }


def _search_path() -> set[str]:
    return {os.path.abspath(path) for path in [*sys.path, *sys.path_importer_cache] if path}
