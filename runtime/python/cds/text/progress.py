"""Progress reports of long work."""

import time
from collections.abc import Callable
from typing import TextIO

_SILENT_SECONDS = 2.0
_TERMINAL_SECONDS = 0.1
_PLAIN_SECONDS = 5.0
_CLEAR_LINE = "\r\x1b[K"


class Progress:
    """Receives progress reports, and shows nothing."""

    def show(self, text: str) -> None:
        pass

    def announce(self, text: str) -> None:
        pass

    def clear(self) -> None:
        pass


class ProgressLine(Progress):
    """Shows the progress of work that takes more than two seconds.

    On a terminal, it is one line that is rewritten.  In a log, it is a new line every few
    seconds.
    """

    def __init__(
        self, prefix: str, stream: TextIO, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._prefix = prefix
        self._stream = stream
        self._clock = clock
        self._terminal = stream.isatty()
        self._due = clock() + _SILENT_SECONDS
        self._shown = False

    def show(self, text: str) -> None:
        """Show what is being done, if the last report is old enough; call it for each step."""
        if self._clock() >= self._due:
            self.announce(text)

    def announce(self, text: str) -> None:
        """Show a text at once, because the next step takes long and cannot call show()."""
        now = self._clock()
        line = f"{self._prefix}: {text}"
        if self._terminal:
            # Seldom needed, and slow to import.
            import shutil

            self._due = now + _TERMINAL_SECONDS
            width = shutil.get_terminal_size().columns
            self._stream.write(_CLEAR_LINE + line[: width - 1])
        else:
            self._due = now + _PLAIN_SECONDS
            self._stream.write(f"{line}\n")
        self._stream.flush()
        self._shown = True

    def clear(self) -> None:
        """Remove the line from the terminal before other output."""
        if self._terminal and self._shown:
            self._stream.write(_CLEAR_LINE)
            self._stream.flush()
            self._shown = False
