"""Directories that were searched for modules while an image was taken, and what is compared."""

import os
import sys

import cds.image

# As in `startup`.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from collections.abc import Set as AbstractSet

    # A directory, the names that were searched for (None if unknown), and its earlier entries.
    Search = tuple[str, tuple[str, ...] | None, tuple[bytes, ...]]


class Searches:
    """The names that were searched for, by directory."""

    def __init__(
        self,
        noted: "Iterable[Search]",
        listed: set[str],
        found_by_search: "Callable[[Sequence[bytes], bytes], bytes]",
    ) -> None:
        """`listed` are directories that finders have listed."""
        self._found_by_search = found_by_search
        # None if the directory may have been searched for unknown names.
        self.names: "dict[str, AbstractSet[str] | None]" = dict.fromkeys(
            _search_path(), frozenset()
        )
        # Finders of other classes do not record the names that they search for.
        self.names |= dict.fromkeys(listed)
        self._before: dict[str, tuple[bytes, ...]] = {}
        found: "dict[str, AbstractSet[str] | None]" = {}
        for place, names, before in noted:
            path = os.path.abspath(place)
            self._before.setdefault(path, before)
            known = found.setdefault(path, frozenset())
            found[path] = None if known is None or names is None else {*known, *names}
        self.names |= found
        for place in (*cds.__path__, *cds.image.__path__):
            self.names.pop(place, None)

    def with_unknown_names(self) -> set[str]:
        return {path for path, names in self.names.items() if names is None}

    def with_known_names(self) -> "dict[str, AbstractSet[str]]":
        return {path: names for path, names in self.names.items() if names is not None}

    def changed(self, compared: "Mapping[bytes, bytes]", since: int) -> list[str]:
        """Return directories where entries with searched names appeared or disappeared.

        `since` is the time in nanoseconds when taking the image began.  Directories that have not
        changed since then are not read.
        """
        return [
            os.fsdecode(path)
            for path, names in compared.items()
            if os.stat(path).st_mtime_ns >= since
            and self._found_by_search(self._before.get(os.fsdecode(path), ()), names)
            != self._found_by_search(os.listdir(path), names)
        ]


def in_one(names: "Iterable[str]") -> bytes:
    """Return the names in the format of `Searched` in searched.rs."""
    return b"".join(name + b"\0" for name in sorted(map(os.fsencode, names)))


def _search_path() -> set[str]:
    return {os.path.abspath(path) for path in [*sys.path, *sys.path_importer_cache] if path}
