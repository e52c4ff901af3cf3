"""The directories of this interpreter's standard library and installed packages."""

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
    """Yield the path entries that contain extension modules of the standard library.

    In an installation, this is lib-dynload; in a build tree, a directory below build/.
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
    """Return the site-packages directories of this interpreter or its virtual environment."""
    return [path for path in dict.fromkeys(site.getsitepackages()) if os.path.isdir(path)]
