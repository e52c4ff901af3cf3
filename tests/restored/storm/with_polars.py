"""Work before the freeze that its allocator has to go on with; what needs a pool of threads comes after."""

import polars

FRAMES = [
    polars.DataFrame({"group": [number % 7 for number in range(size)], "value": list(range(size))})
    for size in (10, 1000, 50_000)
]
# Freed again: the allocator keeps the memory, and gives it back to the kernel later.
for _size in (1000, 100_000, 300_000):
    polars.Series("gone", range(_size)).to_list()


def run() -> None:
    """Ask the tables something."""
    for frame in FRAMES:
        groups = frame.group_by("group").agg(polars.col("value").sum()).sort("group")
        print(groups["value"].to_list(), frame["value"].sum())
    for _ in range(20):
        longer = polars.concat(FRAMES)
        print(longer.height, longer["value"].sum(), longer.filter(polars.col("group") == 3)["value"].sum())
