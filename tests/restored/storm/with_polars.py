"""Work before the freeze. Its allocator must continue to work after the freeze.

Work that needs a pool of threads comes after the freeze: with a pool, no image could be taken.
"""

import polars

_SIZES = (50_000, 100_000, 400_000, 1_000_000, 2_000_000)

FRAMES = [
    polars.DataFrame({"group": [number % 7 for number in range(size)], "value": list(range(size))})
    for size in (10, 1000, 50_000)
]


def _work() -> None:
    """Free memory. The allocator returns it to the kernel, and then expects zeros in it."""
    for size in _SIZES:
        numbers = polars.Series(range(1, size + 1), dtype=polars.Int64)
        _ = numbers + 1


_work()


def run() -> None:
    """Read the tables, and make columns of zeros."""
    for frame in FRAMES:
        groups = frame.group_by("group").agg(polars.col("value").sum()).sort("group")
        print(groups["value"].to_list(), frame["value"].sum())
    kept = []
    for size in _SIZES:
        kept.append(polars.zeros(size, dtype=polars.Int64, eager=True))
        missing = polars.repeat(None, size, eager=True, dtype=polars.Int64)
        kept.append(missing.fill_null(strategy="zero"))
        kept.append(polars.repeat(False, size * 64, eager=True, dtype=polars.Boolean))
    print([int(column.sum()) for column in kept])
    longer = polars.concat(FRAMES * 5)
    print(
        longer.height, longer["value"].sum(), longer.filter(polars.col("group") == 3)["value"].sum()
    )
