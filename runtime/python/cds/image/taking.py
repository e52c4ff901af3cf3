"""What a process does that a startup image is to be taken of: imports, or a program."""

import marshal

from cds.image.imports import Imports
from cds.image.program import Program

# As in `startup`.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from cds.image.preparing import Preparation


def prepare(request: str) -> "Preparation":
    """Begin with what a request wants."""
    with open(request, "rb") as file:
        wanted = marshal.load(file)
    kind = Program if wanted["is_of_program"] else Imports
    return kind(request, wanted)
