"""What a file promises in its header, against what is there. Estimates of a decoder are no promise.

Promises that FFmpeg knows come as the duration of a stream; here are those that it keeps to itself, or corrects.
"""

import struct
from typing import Final

from stt.sources.riff import riff_chunks

# Writers that cannot seek back leave 0, 0xFFFFFFFF, 0x7FFFFFFF, 0x7F000000 or something close to one of these.
_OPEN: Final = ((0, 0), (0x7EFF_0000, 0x8000_FFFF), (0xFFFE_0000, 0xFFFF_FFFF))
_PADDING: Final = 1024  # bytes by which honest writers are off


def is_open(size: int) -> bool:
    """Tell whether a size field is the mark of a writer that did not know it."""
    return any(low <= size <= high for low, high in _OPEN)


def riff_promise(head: bytes, size: int) -> float | None:
    """Return how many times more data than there is a WAV or AVI file's header promises; `None` if it keeps its word.

    Args:
        head: the beginning of the file.
        size: its length in bytes.

    """
    if head[:4] not in {b"RIFF", b"RF64"}:
        return None
    if head[8:12] == b"AVI ":
        return _excess(struct.unpack_from("<I", head, 4)[0], size - 8)
    long = None
    for name, at, length in riff_chunks(head):
        match name:
            case b"ds64" if at + 16 <= len(head):  # RF64: sizes of 64 bits
                (long,) = struct.unpack_from("<Q", head, at + 8)
            case b"data":
                return _excess(length if long is None else long, size - at)
    return None


def _excess(promised: int, there: int) -> float | None:
    return None if is_open(promised) or promised <= there + _PADDING else promised / max(1, there)


def index_comes_last(head: bytes) -> bool:
    """Tell whether an MP4 or QuickTime file, that begins like this, has its sound before its index, or has none."""
    at = 0
    while (kind := head[at + 4 : at + 8]) in {b"ftyp", b"free", b"skip", b"wide"}:
        at += max(8, int.from_bytes(head[at : at + 4]))
    return kind == b"mdat"


def mp3_frames(head: bytes) -> int | None:
    """Return how many frames an MP3 says it has (in its first one: Xing's and LAME's header, or Fraunhofer's)."""
    if head[:3] == b"ID3":  # the tag's length has 7 bits a byte
        head = head[10 + sum(byte << shift for byte, shift in zip(head[6:10], (21, 14, 7, 0), strict=True)) :]
    for mark, offset in ((b"Xing", 8), (b"Info", 8), (b"VBRI", 14)):
        at = head.find(mark, 0, 256)
        if at >= 0 and at + offset + 4 <= len(head) and (mark == b"VBRI" or head[at + 7] & 1):
            return struct.unpack_from(">I", head, at + offset)[0]
    return None


def ends_inside_a_packet(head: bytes, size: int) -> bool:
    """Tell whether an MPEG transport stream ends before its last packet of 188 bytes does."""
    return head[:1] == head[188:189] == head[376:377] == b"\x47" and size % 188 != 0


def ends_inside_a_page(tail: bytes) -> bool:
    """Tell whether an Ogg file, whose last bytes these are, ends before its last page does."""
    at = tail.rfind(b"OggS")
    if at < 0 or at + 27 > len(tail):
        return at >= 0
    segments = tail[at + 27 : at + 27 + tail[at + 26]]
    return at + 27 + tail[at + 26] + sum(segments) > len(tail)
