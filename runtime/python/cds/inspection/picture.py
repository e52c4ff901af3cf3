"""A map of an archive as an SVG picture."""

from collections.abc import Iterator, Sequence
from html import escape
from typing import NamedTuple

from cds.inspection.archive import WRITTEN, Inspection, Module, Section, own_bytes, packages
from cds.text.terminal import count, shortened, size

_WIDTH = 960
_MARGIN = 24
_INNER = _WIDTH - 2 * _MARGIN
_BAR = 22
_LABEL = 200
_TREEMAP_HEIGHT = 340
_MOST_PACKAGES = 40
_LARGE_SHARE = 0.2
# The average width of a letter at the sizes used, in pixels.
_LETTER_WIDTH = 6.6
_LINE_HEIGHT = 16

# Based on the palette of Okabe and Ito for colour-blind readers; black text is readable on it.
_COLOURS = {
    "never": "#56a5dc",
    "if hashed": "#1fb28a",
    "hashes, UTF-8": "#e69f00",
    "when run": "#ec7a2d",
    "not mapped": "#999999",
}

_STYLE = """\
  text { font: 12px system-ui, sans-serif; fill: #1a1a1a; }
  .title { font-size: 17px; font-weight: 600; }
  .head { font-size: 13px; font-weight: 600; }
  .light { fill: #595959; }
  .in { fill: #ffffff; }
  .on { fill: #000000; }
  .page { fill: #ffffff; }
  .edge { stroke: #ffffff; }
  .cold { fill-opacity: 0.45; }
  .package { fill: #44617b; }
  @media (prefers-color-scheme: dark) {
    text { fill: #e8e8e8; }
    .light { fill: #a8a8a8; }
    .in { fill: #ffffff; }
    .on { fill: #000000; }
    .page { fill: #14171a; }
    .edge { stroke: #14171a; }
  }
"""


class _Box(NamedTuple):
    x: float
    y: float
    width: float
    height: float


def draw(archive: Inspection) -> str:
    """Return the picture: sections by size, the file from start to end, and packages by size."""
    body: list[str] = []
    y = _MARGIN + 16
    title = f"{archive.path}: {count(len(archive.archived), 'module')}, {size(archive.bytes)}"
    body.append(_text(_MARGIN, y, title, "title"))
    y += 30
    heading = "Sections, with what writes to their pages (pale: not known to be used)"
    body.append(_text(_MARGIN, y, heading, "head"))
    y += 12
    largest = max((section.bytes for section in archive.sections), default=1) or 1
    for section in archive.sections:
        body += _bar(section, y, largest)
        y += _BAR + 6
    y += 22
    body.append(_text(_MARGIN, y, "The file, from its first byte to its last", "head"))
    y += 12
    body += _strip(archive, y)
    y += _BAR + 26
    body += _legend(y)
    y += 36
    if archive.is_decoded:
        body.append(
            _text(_MARGIN, y, "Packages, by the size of what only their modules use", "head")
        )
        y += 12
        body += _packages(archive, _Box(_MARGIN, y, _INNER, _TREEMAP_HEIGHT))
        y += _TREEMAP_HEIGHT
    height = y + _MARGIN
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{_WIDTH}" height="{height:.0f}" '
            f'viewBox="0 0 {_WIDTH} {height:.0f}" role="img">',
            f"<title>{escape(title)}</title>",
            f"<style>\n{_STYLE}</style>",
            f'<rect class="page" width="{_WIDTH}" height="{height:.0f}"/>',
            *body,
            "</svg>\n",
        ]
    )


def _bar(section: Section, y: float, largest: int) -> Iterator[str]:
    colour = _colour(section.name)
    scale = (_INNER - _LABEL - 90) / largest
    hot, cold = section.hot_bytes * scale, (section.bytes - section.hot_bytes) * scale
    x = _MARGIN + _LABEL
    middle = y + _BAR / 2 + 4
    yield _text(_MARGIN, middle, section.name)
    yield _text(_MARGIN + 84, middle, WRITTEN.get(section.name, "?"), "light")
    yield _rect(_Box(x, y, hot, _BAR), colour)
    yield _rect(_Box(x + hot, y, cold, _BAR), colour, "cold")
    yield _text(x + hot + cold + 8, middle, size(section.bytes))


def _strip(archive: Inspection, y: float) -> Iterator[str]:
    scale = _INNER / archive.bytes
    for section in archive.sections:
        for index, (offset, length) in enumerate(section.extents):
            is_cold = index > 0 or section.hot_bytes == 0
            box = _Box(_MARGIN + offset * scale, y, length * scale, _BAR)
            yield _rect(box, _colour(section.name), "cold" if is_cold else "")
            if len(section.name) * _LETTER_WIDTH + 8 < box.width:
                look = "" if is_cold else "on"
                yield _text(box.x + 5, y + _BAR / 2 + 4, section.name, look)


def _legend(y: float) -> Iterator[str]:
    x: float = _MARGIN
    for written, colour in _COLOURS.items():
        yield _rect(_Box(x, y - 11, 14, 14), colour)
        label = written if written == "not mapped" else f"written: {written}"
        yield _text(x + 20, y, label)
        x += 20 + len(label) * _LETTER_WIDTH + 26


def _packages(archive: Inspection, box: _Box) -> Iterator[str]:
    sizes = _parts(archive.archived)
    shown, rest = sizes[:_MOST_PACKAGES], sizes[_MOST_PACKAGES:]
    if rest:
        shown.append((f"{len(rest)} others", sum(number for _, number in rest)))
    shown.append(("shared", archive.shared_bytes))
    shown = sorted((item for item in shown if item[1] > 0), key=lambda item: -item[1])
    boxes = squarified([float(number) for _, number in shown], box)
    for (name, number), place in zip(shown, boxes, strict=True):
        yield f"<g><title>{escape(name)}: {size(number)}</title>"
        yield _rect(place, None, "package edge")
        letters = int((place.width - 10) / _LETTER_WIDTH)
        if letters >= 4 and place.height >= _LINE_HEIGHT + 4:
            yield _text(place.x + 5, place.y + _LINE_HEIGHT, shortened(name, letters), "in")
            if letters >= len(size(number)) and place.height >= 2 * _LINE_HEIGHT + 4:
                yield _text(place.x + 5, place.y + 2 * _LINE_HEIGHT, size(number), "in")
        yield "</g>"


def _parts(modules: list[Module]) -> list[tuple[str, int]]:
    """Return names and sizes of packages; a package with a large share is split into its parts."""
    total = own_bytes(modules)
    sizes: dict[str, int] = {}
    for package, members in packages(modules):
        parts: dict[str, int] = {}
        for module in members:
            name = ".".join(module.name.split(".")[:2])
            parts[name] = parts.get(name, 0) + own_bytes([module])
        if own_bytes(members) < total * _LARGE_SHARE:
            parts = {package: own_bytes(members)}
        sizes |= parts
    return sorted(sizes.items(), key=lambda part: -part[1])


def squarified(sizes: Sequence[float], box: _Box) -> list[_Box]:
    """Divide a box into boxes of the given sizes, which begin with the largest one.

    The boxes are nearly square.  Algorithm: Bruls, Huizing and van Wijk, Squarified Treemaps
    (2000).
    """
    total = sum(sizes)
    if total <= 0:
        return []
    scale = box.width * box.height / total
    areas = [number * scale for number in sizes]
    boxes: list[_Box] = []
    start = 0
    while start < len(areas):
        side = min(box.width, box.height)
        end = start + 1
        while end < len(areas) and _worst(areas[start : end + 1], side) <= _worst(
            areas[start:end], side
        ):
            end += 1
        row, box = _lay_out(areas[start:end], box)
        boxes += row
        start = end
    return boxes


def _worst(areas: Sequence[float], side: float) -> float:
    """Return the largest ratio of sides of the boxes in a row along `side`."""
    total = sum(areas)
    return max(max(side**2 * area / total**2, total**2 / (side**2 * area)) for area in areas)


def _lay_out(areas: Sequence[float], box: _Box) -> tuple[list[_Box], _Box]:
    """Put a row along the shorter side of a box; return the row, and the rest of the box."""
    total = sum(areas)
    row = []
    if box.width >= box.height:
        width, y = total / box.height, box.y
        for area in areas:
            row.append(_Box(box.x, y, width, area / width))
            y += area / width
        return row, _Box(box.x + width, box.y, max(box.width - width, 1e-9), box.height)
    height, x = total / box.width, box.x
    for area in areas:
        row.append(_Box(x, box.y, area / height, height))
        x += area / height
    return row, _Box(box.x, box.y + height, box.width, max(box.height - height, 1e-9))


def _colour(section: str) -> str:
    return _COLOURS[WRITTEN.get(section, "not mapped")]


def _rect(box: _Box, colour: str | None, look: str = "") -> str:
    fill = "" if colour is None else f' fill="{colour}"'
    look = f' class="{look}"' if look else ""
    return (
        f'<rect x="{box.x:.1f}" y="{box.y:.1f}" width="{box.width:.1f}" '
        f'height="{box.height:.1f}"{fill}{look}/>'
    )


def _text(x: float, y: float, text: str, look: str = "") -> str:
    look = f' class="{look}"' if look else ""
    return f'<text x="{x:.1f}" y="{y:.1f}"{look}>{escape(text)}</text>'
