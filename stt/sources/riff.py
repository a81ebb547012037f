"""The chunks of a WAV file's header. Pure."""

import struct
from collections.abc import Iterator
from typing import Final

_EXTENSIBLE: Final = 0xFFFE
_PCM: Final = 1


def riff_chunks(head: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Yield name, place and length of the contents of each chunk that begins in `head`, a RIFF file's first bytes."""
    at = 12
    while at + 8 <= len(head):
        (length,) = struct.unpack_from("<I", head, at + 4)
        yield head[at : at + 4], at + 8, length
        at += 8 + length + length % 2


def plain_samples(head: bytes) -> int | None:
    """Return where the samples of a WAV begin that can be nothing but PCM; `None`: not known (yet), or it is another.

    As PCM of 16 bits with two channels at 32 kHz or more, S/PDIF may be stored, which is compressed.
    """
    plain = False
    for name, at, length in riff_chunks(head):
        if name == b"fmt " and length >= 16 and at + length <= len(head):
            kind, channels, rate, _, _, bits = struct.unpack_from("<HHIIHH", head, at)
            if kind == _EXTENSIBLE and length >= 26:
                (kind,) = struct.unpack_from("<H", head, at + 24)
            plain = kind == _PCM and not (bits == 16 and channels == 2 and rate >= 32_000)
        elif name == b"data":
            return at if plain else None
    return None
