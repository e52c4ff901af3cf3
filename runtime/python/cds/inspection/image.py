"""The reports of `cds inspect` and `cds verify` on a startup image."""

import os
import sys
from collections.abc import Iterator
from typing import Any

from cds.inspection.archive import InspectionError, ask
from cds.text.terminal import Style, count, size, table


def is_image(path: str) -> bool:
    """Return whether a file begins like a startup image; False if it cannot be read."""
    found: bool = ask("is_image", path)
    return found


def note(path: str) -> str | None:
    """Return why there is no startup image, or None if there is no note in its place."""
    found: str | None = ask("image_note", path)
    return found


def inspect_image(path: str) -> dict[str, Any]:
    """Return the contents of an image, and what has changed since it was taken.

    Raise DamagedError if it is broken.
    """
    found: dict[str, Any] = ask("inspect_image", path)
    found["environment"] = dict(found["environment"])
    found["files"] = dict(found["files"])
    return found


def brief(path: str) -> dict[str, Any] | None:
    """Return a description of the image beside an archive; None if there is no image.

    It is the result of `inspect_image()`, or a dict with a `note` or `error` in its place.
    """
    if not os.path.lexists(path):
        return None
    if (reason := note(path)) is not None:
        return {"note": reason}
    try:
        return inspect_image(path)
    except InspectionError as error:
        return {"error": str(error).removeprefix(f"{path}: ")}


def brief_screen(path: str, top: int) -> Iterator[str]:
    """Yield lines about the image beside an archive, for a terminal."""
    style = Style(sys.stdout)
    found = brief(path)
    if found is None:
        yield style("bold", "Startup image: ") + "none"
        return
    yield style("bold", "Startup image")
    if "note" in found:
        yield f"  {found['note']}"
        yield f"  To try again, remove {path}."
    elif "error" in found:
        yield style("red", f"  {path}: {found['error']}")
    else:
        yield f"  {path}: {size(found['stored_bytes'])}, for {found['program'] or 'any program'}"
        yield from (f"  {line}" for line in _changed(found, top, style))


def screen(path: str, found: dict[str, Any], top: int) -> Iterator[str]:
    """Yield lines about an image, for a terminal."""
    style = Style(sys.stdout)
    yield style("bold", f"{path}: a startup image, {size(found['stored_bytes'])}")
    rows = [
        ("  made by", found["executable"]),
        ("  options", " ".join(found["options"]) or "none"),
        ("  program", found["program"] or "any"),
        *([("  stopped at", found["stopped_at"])] if found["stopped_at"] else []),
        ("  memory", count(found["regions"], "region")),
        ("    in the image", size(found["stored_bytes"])),
        ("    in other files", size(found["file_bytes"])),
        ("    zero", size(found["zero_bytes"])),
        ("  modules of", count(len(found["names"]), "package")),
        (
            "  imports looked at",
            count(found["paths"], "file or directory", "files and directories"),
        ),
        (
            "  variables compared",
            "all" if found["compares_whole_environment"] else str(len(found["environment"])),
        ),
        ("  terminals compared", ", ".join(found["terminals"]) or "none"),
    ]
    yield from table(rows, "<<")
    yield ""
    yield style("bold", "Files that it maps")
    files = sorted(found["files"].items(), key=lambda item: (-item[1], item[0]))
    yield from table([(f"  {name}", size(length)) for name, length in files[:top]], "<>")
    if len(files) > top:
        yield f"  and {count(len(files) - top, 'other')}"
    yield ""
    if found["reported"]:
        yield style("yellow", "Imports looked at, or changed, what differs from run to run")
        yield from (f"  {text}" for text in found["reported"][:top])
        if len(found["reported"]) > top:
            yield f"  and {count(len(found['reported']) - top, 'other')}"
        yield ""
    yield from _changed(found, top, style)


def _changed(found: dict[str, Any], top: int, style: Style) -> Iterator[str]:
    if not found["changed"]:
        yield "Nothing that it depends on has changed."
        return
    yield style("yellow", "Changed since the image was taken, so it is not used")
    yield from (f"  {name}" for name in found["changed"][:top])
    if len(found["changed"]) > top:
        yield f"  and {count(len(found['changed']) - top, 'other')}"
