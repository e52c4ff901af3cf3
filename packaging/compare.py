"""Measures starts of a package against Debian's own Python, in a tree of Debian 13.

`cargo xtask package --compare` runs this.  The arguments are the rounds and programs.
"""

import os
import random
import statistics
import subprocess
import sys
import time

WAYS = {
    "Debian's python3.13": ["/usr/bin/python3.13", "-I"],
    "package": ["/opt/python/bin/python3", "-I"],
    "package, -X cds=off": ["/opt/python/bin/python3", "-I", "-X", "cds=off"],
}
STOCK = next(iter(WAYS))


def seconds(command: list[str]) -> float:
    """Run a command to its end."""
    start = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - start


def measure(program: list[str], rounds: int) -> None:
    """Print the median of each way, and the median of its ratios to stock, round by round."""
    times: dict[str, list[float]] = {way: [] for way in WAYS}
    for way in WAYS:
        seconds([*WAYS[way], *program])
    for _ in range(rounds):
        for way in random.sample(list(WAYS), len(WAYS)):
            times[way].append(seconds([*WAYS[way], *program]))
    for way, own in times.items():
        pairs = zip(times[STOCK], own, strict=True)
        ratio = statistics.median(stock / this for stock, this in pairs)
        print(f"{program[-1]:24} {way:22} {statistics.median(own) * 1e3:7.1f} ms  {ratio:.2f}")


if __name__ == "__main__":
    # All run on one processor.
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    for path in sys.argv[2:]:
        measure(["-c", "pass"] if path == "pass" else [path], int(sys.argv[1]))
