"""The format of reports: amounts, tables, and colours on terminals."""

import os
from collections.abc import Iterable, Iterator, Sequence
from typing import TextIO

_RESET = "\x1b[0m"
_CODES = {
    "bold": "\x1b[1m",
    "dim": "\x1b[2m",
    "red": "\x1b[31m",
    "green": "\x1b[32m",
    "yellow": "\x1b[33m",
}


class Style:
    """Colours text if the stream is a terminal and the user allows colours (no-color.org)."""

    def __init__(self, stream: TextIO) -> None:
        self._is_on = (
            stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
        )

    def __call__(self, look: str, text: str) -> str:
        return f"{_CODES[look]}{text}{_RESET}" if self._is_on else text


def count(number: int, one: str, many: str | None = None) -> str:
    """Return `1 module`, `2 modules`."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"


def size(number: int) -> str:
    """Return a number of bytes with a unit."""
    if number < 1024:
        return f"{number} B"
    if number < 1024 * 1024:
        return f"{number / 1024:.1f} KiB"
    return f"{number / (1024 * 1024):.1f} MiB"


def table(rows: Iterable[Sequence[object]], align: str) -> Iterator[str]:
    """Yield lines with columns; `align` has `<` or `>` for each column."""
    cells = [[str(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    for row in cells:
        parts = [
            f"{cell:{side}{width}}" for cell, side, width in zip(row, align, widths, strict=True)
        ]
        yield "  ".join(parts).rstrip()


def shortened(text: str, width: int) -> str:
    return text if len(text) <= width else f"{text[: width - 1]}…"
