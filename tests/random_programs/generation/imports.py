"""How programs import modules."""

from generation.kinds import Kind
from generation.lifetimes import MODULE

# Ordered by the number of modules that they import, the smallest first.
STOCK = (
    *("argparse", "ast", "base64", "bisect", "calendar", "cmd", "configparser", "csv"),
    *("datetime", "difflib", "email.message", "enum", "fractions", "gzip", "hashlib"),
    *("html.parser", "http.cookies", "inspect", "json", "pickle", "pprint", "queue"),
    *("shelve", "shlex", "sqlite3", "statistics", "string", "tempfile", "textwrap"),
    *("typing", "urllib.parse", "uuid", "xml.etree.ElementTree", "zipfile", "zoneinfo"),
    *("http.client", "logging.handlers", "concurrent.futures", "asyncio", "unittest.mock"),
)

PLAIN = (
    "import @M",
    "import @M as name@N",
    "from @M import value as value@N",
    "import importlib; importlib.import_module('@M')",
    "__import__('@M')",
    "exec('import @M')",
)

_IN_FUNCTION = """\
def function@N():
    import @M
    return @M.value
saw.note(function@N())"""

_MISSING = """\
try:
    import there_is_no_module_@N
except ImportError as error:
    saw.note("missing", error.name)
    import @M"""

_IN_CLASS = """\
class Class@N:
    import @M as held
saw.note(Class@N.held.value)"""

_LAZY = """\
import importlib.util
def lazily@N(name):
    spec = importlib.util.find_spec(name)
    spec.loader = importlib.util.LazyLoader(spec.loader)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module
if "@M" not in sys.modules:
    lazy@N = lazily@N("@M")
    saw.note("not yet")
    saw.note(lazy@N.value)"""

_AGAIN = """\
import @M
sys.modules.pop("@M")
import @M"""

_STATUS = """\
try:
    import broken
except ZeroDivisionError:
    saw.note("broken", "broken" in sys.modules)
import @M"""

_IN_THREAD = """\
import threading
thread@N = threading.Thread(target=lambda: __import__("@M"))
thread@N.start()
thread@N.join()"""

IMPORTS = (
    Kind("imports in functions", in_main=(_IN_FUNCTION, _IN_CLASS)),
    Kind("missing modules", in_main=(_MISSING,)),
    Kind("imports that fail", "sys", in_main=(_STATUS,)),
    Kind("lazy modules", "sys", in_main=(_LAZY,)),
    Kind(
        "modules that are imported again",
        "importlib, sys",
        in_main=(_AGAIN, "import @M\nimportlib.reload(@M)"),
    ),
    Kind(
        "runpy",
        "runpy",
        in_main=(
            "saw.note(runpy.run_module('@M')['value'])",
            "import @M\nsaw.note(runpy.run_path(@M.__file__, run_name='ran')['value'])",
        ),
    ),
    Kind("imports in threads", in_main=(_IN_THREAD,)),
)


def importing(text: str, module: str) -> str:
    return text.replace(MODULE, module)
