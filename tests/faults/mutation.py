"""Edits of bytes that nobody would make."""

from __future__ import annotations

from random import Random


def mutated(random: Random, data: bytes) -> bytes:
    """A few edits, or none."""
    edited = bytearray(data)
    for _ in range(random.choice([0, 0, 0, 1, 1, 2, 5])):
        start = random.randint(0, len(edited))
        end = start + random.randint(0, 16)
        match random.randrange(5):
            case 0:
                del edited[start:end]
            case 1:
                edited[start:start] = random.randbytes(random.randint(1, 16))
            case 2:
                edited[start:end] = random.randbytes(random.randint(1, 16))
            case 3:
                edited[end:end] = edited[start:end] * random.randint(1, 50)
            case 4:
                del edited[start:]
    return bytes(edited)
