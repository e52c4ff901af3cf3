import os
import pathlib
import subprocess
import sys
import unittest

from cds.image import atfork

# A program that collects the registered handlers in the order of registration, and checks them.
_SEEN = """
import os
seen = []
os.register_at_fork = lambda **handlers: seen.extend(handlers.values())
import {modules}
from cds.image import atfork
own = lambda: None
assert len(seen) >= {count}, seen
assert atfork.known(seen) is seen, seen
assert atfork.known([own, *seen, own]) == seen
assert atfork.known([own, "".join]) == []
"""


# Older releases have no handler there.
_OF_NEWER = {"multiprocessing.resource_tracker"}


class AtForkTestCase(unittest.TestCase):
    def test_handlers_of_the_standard_library_are_known(self) -> None:
        modules = sorted({module for module, _ in atfork._STANDARD})
        count = len(atfork._STANDARD) - len(_OF_NEWER)
        code = _SEEN.format(modules=", ".join(modules), count=count)
        subprocess.run([sys.executable, "-c", code], check=True)

    def test_no_other_module_registers_handlers(self) -> None:
        library = pathlib.Path(os.__file__).parent
        found = set()
        for path in library.rglob("*.py"):
            parts = path.relative_to(library).with_suffix("").parts
            if parts[0] in ("test", "site-packages", "cds", "idlelib"):
                continue
            if ".register_at_fork(" in path.read_text(encoding="utf-8", errors="replace"):
                found.add(".".join(parts).removesuffix(".__init__"))
        known = {module for module, _ in atfork._STANDARD}
        self.assertLessEqual(found, known)
        self.assertLessEqual(known - found, _OF_NEWER)
