"""Chooses what the process that becomes a startup image does: imports, or a program."""

import marshal

from cds.image.imports import Imports
from cds.image.program import Base, Program

# As in `startup`.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from cds.image.preparing import Preparation


def prepare(request: str) -> "Preparation":
    """Read a request, and begin the preparation that it asks for."""
    with open(request, "rb") as file:
        wanted = marshal.load(file)
    if not wanted["is_of_program"]:
        return Imports(request, wanted)
    kind = Base if wanted.get("is_base") else Program
    return kind(request, wanted)
