"""Memory with an advice (madvise(2)), given before the freeze.

The kernel keeps the advice with the mapping, and shows it in smaps. If the advice cannot be
restored, no image may be taken.
"""

from inventory import native
from inventory.kept import MB, Block

ADVICE = {
    "RANDOM": 1,
    "SEQUENTIAL": 2,
    "DONTFORK": 10,
    "MERGEABLE": 12,
    "HUGEPAGE": 14,
    "NOHUGEPAGE": 15,
    "DONTDUMP": 16,
    "WIPEONFORK": 18,
}


def _advised(advice: int) -> Block:
    block = Block(native.map_anonymous(MB), MB)
    native.libc.madvise(block.address, block.size, advice)
    return block


BLOCKS = {f"advice {name}": _advised(advice) for name, advice in ADVICE.items()}
