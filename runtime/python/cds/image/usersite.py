"""Finds out whether code other than `site` has used HOME, or the names that `site` makes of it.

At each start, `site` reads HOME to find the modules of the user.  It keeps the names of two
directories.  A restored process renews these names if no other code has read them.
"""

import sys

# As in `startup`.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType
    from typing import Any

HOME = b"HOME"

# Functions of `site` that lead from its start to `os.path.expanduser("~/.local")`.
_WAY = (
    "joinuser",
    "_getuserbase",
    "getuserbase",
    "getusersitepackages",
    "addusersitepackages",
    "main",
)

# The attributes of `site` that reveal these directories.
_TELLING = frozenset(
    (
        "USER_BASE",
        "USER_SITE",
        "__dict__",
        "_getuserbase",
        "_script",
        "addusersitepackages",
        "getuserbase",
        "getusersitepackages",
        "main",
    )
)


class Watch:
    """Watches whether HOME is used only for the names that `site` keeps."""

    def __init__(self, ask: "Callable[[], None]") -> None:
        self._ask = ask
        self._site: "Any" = None
        self._type = type(sys)

    @property
    def has_begun(self) -> bool:
        """Whether `site` has asked for HOME."""
        return self._site is not None

    def is_start(self, frame: "FrameType | None") -> bool:
        """Return whether the start of `site` asks for a variable; if so, begin to watch `site`."""
        files = {"<frozen site>", f"{sys._stdlib_dir}/site.py"}  # type: ignore[attr-defined]
        while frame is not None and frame.f_code.co_filename not in files:
            frame = frame.f_back
        for name in _WAY:
            if frame is None or frame.f_code.co_name != name:
                return False
            if frame.f_code.co_filename not in files:
                return False
            frame = frame.f_back
        self._begin(sys.modules["site"])
        return True

    def _begin(self, site: "Any") -> None:
        if self.has_begun:
            return
        watch = self

        class Site(self._type):  # type: ignore[misc, name-defined]
            def __getattribute__(self, name: str) -> "Any":
                if name in _TELLING:
                    watch._ask()
                return super().__getattribute__(name)

        Site.__name__ = Site.__qualname__ = "module"
        self._site = site
        site.__class__ = Site

    def end(self) -> None:
        if self.has_begun:
            self._site.__class__ = self._type

    def namespace(self) -> "dict[str, Any]":
        """Return the variables of `site`."""
        # This does not call the watching `__getattribute__()`.
        namespace: dict[str, Any] = object.__getattribute__(self._site, "__dict__")
        return namespace

    def directory(self) -> str | None:
        """Return the directory of the user's modules; None if `site` does not use it."""
        if not self.has_begun:
            return None
        namespace = self.namespace()
        return namespace["USER_SITE"] if namespace["ENABLE_USER_SITE"] else None
