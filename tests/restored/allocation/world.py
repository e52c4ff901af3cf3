"""All blocks of a process, and their changes."""

import gc
import zlib
from random import Random

from allocation import allocators, objects
from allocation.blocks import Allocated, Mapped, Raw, Wrong

_MOST = 60


class World:
    """Blocks that are made at once. Some are freed, some are changed, most are kept."""

    def __init__(self, seed: int) -> None:
        random = Random(seed)
        self.allocators, self.missing = allocators.available()
        self.blocks: list[Raw | objects.Bytes] = []
        for _ in range(_MOST):
            self._make(random)
        # A few changes before the freeze, as programs do them.
        self.digest = 0
        self.run(random, 60)

    def _make(self, random: Random) -> str:
        choice = random.randrange(3)
        block: Raw | objects.Bytes
        if choice == 0:
            block = Allocated(random.choice(self.allocators), random)
        elif choice == 1:
            block = (
                Mapped(random) if random.random() < 0.5 else Allocated(self.allocators[0], random)
            )
        else:
            block = random.choice(objects.KINDS)(random)
        self.blocks.append(block)
        return f"made {block.name}"

    def run(self, random: Random, rounds: int) -> None:
        """Change blocks at random."""
        for number in range(rounds):
            try:
                self._round(random)
            except Wrong as error:
                raise Wrong(f"round {number}: {error}") from None
        for block in self.blocks:
            block.check()
            self._note(f"{block.name} {len(block.expected)} {zlib.crc32(block.expected)}")

    def _round(self, random: Random) -> None:
        if len(self.blocks) < 10 or random.random() < 0.1 and len(self.blocks) < _MOST:
            self._note(self._make(random))
            return
        number = random.randrange(len(self.blocks))
        block = self.blocks[number]
        block.check()
        if random.random() < 0.1:
            block.drop()
            del self.blocks[number]
            self._note(f"dropped {block.name}")
        elif random.random() < 0.01:
            gc.collect()
        else:
            self._note(f"{block.name} {block.step(random)}")
            block.check()

    def _note(self, text: str) -> None:
        self.digest = zlib.crc32(text.encode(), self.digest)
