"""What travels between a front and a replica: plain values, audio as PCM16, and of that only what is new.

An interim extends the last one, and a window that was cut goes on where it was cut, so most of an utterance's audio has
been sent before. The front remembers which stretch of the stream the replica was sent last (`Sent`); of an utterance it
sends where it lies, what the replica is believed to have of it (`base`: how many samples, and their checksum), and the
rest. The replica keeps a stretch per session (`AudioCache`), and says `ForgottenError` where that does not fit: another
replica, a new process, too many sessions. Then the front sends all of it.

Messages are dictionaries of builtins and one int16 array, so that fronts and replicas of neighbouring versions
understand each other: fields one does not know are left out, those that are missing have their defaults.
"""

import time
import zlib
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Any, Final, TypeVar

import numpy as np
import numpy.typing as npt

from stt.audio import from_pcm16, to_pcm16
from stt.recognition import Hypothesis, RecognitionOptions, Utterance, WindowKey
from stt.words import Word

Message = dict[str, Any]
Pcm = npt.NDArray[np.int16]
"""16 kHz mono, shape [n]."""

CACHE_BYTES: Final = 256 << 20
"""Some 700 sessions in the middle of the longest windows there are."""
_KEPT_S: Final = 60.0  # of a session that says nothing more: nobody's speech is kept for longer than it may be of use


class ForgottenError(Exception):
    """The replica has not the audio that a message builds on: send all of it."""


@dataclass(frozen=True, slots=True)
class Sent:
    """The stretch of a session's stream that a replica was sent last: sample indices."""

    replica: str
    start: int
    end: int

    def shared(self, utterance: Utterance) -> int:
        """How many samples of the head of an utterance lie in it."""
        if not self.start <= utterance.start < self.end:
            return 0
        return min(self.end, utterance.end) - utterance.start


def pack(utterance: Utterance, session: str, shared: int = 0) -> Message:
    """Return the message that asks for a recognition; the replica has the first `shared` samples already.

    Float audio that did not come from 16-bit PCM is rounded to it, at every replica alike.
    """
    pcm = np.frombuffer(to_pcm16(utterance.audio), np.int16)
    return {
        "session": session,
        "turn": utterance.key.turn,
        "window": utterance.key.window,
        "start": utterance.start,
        "base": (shared, checksum(pcm[:shared])) if shared else None,
        "pcm": pcm[shared:],
        "kind": utterance.kind,
        "options": plain(utterance.options),
        "draft": None if utterance.draft is None else pack_hypothesis(utterance.draft),
        "speech_s": utterance.speech_s,
        "silences": utterance.silences,
        "trace": utterance.trace,
    }


def unpack(message: Message, pcm: Pcm) -> Utterance:
    """Return the utterance that a message and its whole audio stand for."""
    draft = message.get("draft")
    return Utterance(
        from_pcm16(pcm.tobytes())[:, 0],
        from_plain(RecognitionOptions, message.get("options", {})),
        message["kind"],
        None if draft is None else unpack_hypothesis(draft),
        WindowKey(message["session"], message["turn"], message["window"]),
        message["start"],
        message.get("speech_s"),
        tuple((a, b) for a, b in message.get("silences", ())),
        trace=message.get("trace", ""),
    )


def pack_hypothesis(hypothesis: Hypothesis) -> Message:
    """Return a hypothesis as plain values."""
    return {**plain(hypothesis), "words": [(w.text, w.start, w.end, w.confidence) for w in hypothesis.words]}


def unpack_hypothesis(message: Message) -> Hypothesis:
    """Return the hypothesis that plain values stand for."""
    return from_plain(Hypothesis, {**message, "words": tuple(Word(*word) for word in message.get("words", ()))})


def size(message: Message) -> int:
    """Return about how many bytes a message is on the wire: its audio, and a few for what it says of it."""
    draft = message.get("draft") or {}
    return message["pcm"].nbytes + 2 * len(draft.get("text", "")) + 3 * len(draft.get("tokens", ())) + 400


def checksum(pcm: Pcm) -> int:
    """Tell audio that is the same from audio that is not; against mistakes, not against malice."""
    return zlib.crc32(memoryview(pcm))  # pyright: ignore[reportArgumentType] - an array is a buffer


class AudioCache:
    """Of each session the stretch of audio heard last; it goes after a minute, and earlier when there is too much."""

    def __init__(self, most_bytes: int = CACHE_BYTES, clock: Callable[[], float] = time.monotonic) -> None:
        self._most_bytes, self._clock = most_bytes, clock
        self._bytes = 0
        # The longest unheard of first: when it was, the sample index of its first, and the audio.
        self._heard: OrderedDict[str, tuple[float, int, Pcm]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._heard)

    def whole(self, message: Message) -> Pcm:
        """Return all audio of a message, and keep it.

        Raises:
            ForgottenError: what it builds on is not here.

        """
        session, start, base, pcm = message["session"], message["start"], message.get("base"), message["pcm"]
        if base is not None:
            count, expected = base
            _, at, heard = self._heard.get(session, (0.0, 0, pcm[:0]))
            head = heard[start - at : start - at + count] if start >= at else heard[:0]
            if len(head) != count or checksum(head) != expected:
                raise ForgottenError
            pcm = np.concatenate([head, pcm])
        self.forget(session)
        now = self._clock()
        self._heard[session] = now, start, pcm
        self._bytes += pcm.nbytes
        while self._bytes > self._most_bytes or next(iter(self._heard.values()))[0] < now - _KEPT_S:
            if len(self._heard) == 1:
                break
            self.forget(next(iter(self._heard)))
        return pcm

    def forget(self, session: str) -> None:
        """Let the audio of a session go."""
        *_, pcm = self._heard.pop(session, (0.0, 0, None))
        self._bytes -= 0 if pcm is None else pcm.nbytes


def plain(value: Any) -> Message:
    """Return the fields of a flat dataclass."""
    return {field.name: getattr(value, field.name) for field in fields(value)}


_T = TypeVar("_T")


def from_plain(kind: type[_T], message: Mapping[str, Any]) -> _T:
    """Return the dataclass that fields stand for; those that this version does not know are left out."""
    names = {field.name for field in fields(kind)}  # type: ignore[arg-type] - a dataclass
    return kind(**{name: tuple(v) if isinstance(v, list) else v for name, v in message.items() if name in names})
