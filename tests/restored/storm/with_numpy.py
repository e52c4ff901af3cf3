"""Arrays that are made before the freeze and grow after the freeze."""

import numpy

TABLE = numpy.arange(200_000, dtype=numpy.int64)
MATRIX = numpy.fromfunction(lambda row, column: (row * 7 + column * 3) % 11, (120, 120))


def run() -> None:
    """Calculate with the arrays."""
    TABLE.resize(400_000, refcheck=False)
    print(int(TABLE.sum()), int(TABLE[200_000:].sum()))
    print(int((MATRIX @ MATRIX).sum()), float(numpy.linalg.norm(MATRIX)).__round__(6))
    print(int(numpy.concatenate((TABLE, TABLE)).sum()), numpy.sort(MATRIX.ravel())[:3])
