"""Where this interpreter's standard library and its installed packages lie."""

import os
import site
import sys
from collections.abc import Iterator, Sequence

from cds.collect.filefinder import find, importable_names
from cds.collect.listing import Listings
from cds.collect.resolve import Origin, origin_of_file

# Packages of the standard library that programs do not import.
STDLIB_LEFT_OUT = frozenset({"ensurepip", "idlelib", "test", "tkinter", "turtledemo"})


def stdlib_directory() -> str:
    """Return the directory of the standard library's source, spelled as on sys.path."""
    return os.path.dirname(os.__file__)


def stdlib_extension_directories(path: Sequence[str], listings: Listings) -> Iterator[str]:
    """Yield the path entries that hold extension modules of the standard library.

    That is lib-dynload in an installation, and a directory below build/ in a build
    tree.
    """
    for entry in path:
        listing = listings.get(entry)
        if listing is None:
            continue
        for name in importable_names(listing) & sys.stdlib_module_names:
            answer = find(listing, name)
            if isinstance(answer, str) and origin_of_file(answer) is Origin.EXTENSION:
                yield entry
                break


def site_directories() -> list[str]:
    """Return the site-packages directories of this interpreter or its environment."""
    return [path for path in dict.fromkeys(site.getsitepackages()) if os.path.isdir(path)]
