"""Chinese, Japanese, Thai: tokens of Whisper's multilingual vocabulary in, words and subtitles out; no character moves.

The tokens were recorded with that vocabulary (`tests/data/whisper_multilingual_tokens.json`: each one's bytes, in
hexadecimal). They are bytes, and so parts of characters at times.
"""

import json
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders
from tokenizers.models import BPE

from spoken import silence
from stt.audio import samples
from stt.engines.rescoring import Scored, propose
from stt.engines.terms import Lexicon
from stt.engines.whisper_words import TimedToken, characters, sound_in, timed_words
from stt.events import TurnCompleted
from stt.recognition import Hypothesis
from stt.subtitles import LINE, cues
from stt.transcript import Transcript
from stt.turns import Window
from stt.words import Word, joined, may_break

RECORDED = json.loads((Path(__file__).parent / "data" / "whisper_multilingual_tokens.json").read_text())
TEXTS = {row["name"]: row["text"] for row in RECORDED}
TOKENS = {row["name"]: [bytes.fromhex(token) for token in row["tokens"]] for row in RECORDED}
EACH_S = 0.12


def written(raw: bytes) -> str:
    """Write bytes as the vocabularies of GPT-2's kind do, a visible character for each."""
    visible = {*range(33, 127), *range(161, 173), *range(174, 256)}
    hidden = [byte for byte in range(256) if byte not in visible]
    return "".join(chr(byte if byte in visible else 256 + hidden.index(byte)) for byte in raw)


def heard(tokens: Sequence[bytes], start: int = 0) -> tuple[Hypothesis, list[str]]:
    """Return what an engine hears that says these tokens, one every `EACH_S`, and their whole characters."""
    vocabulary = {token: number for number, token in enumerate(dict.fromkeys(map(written, tokens)))}
    tokenizer = Tokenizer(BPE(vocabulary, []))
    tokenizer.decoder = decoders.ByteLevel()
    ids = [vocabulary[written(token)] for token in tokens]
    timed, pieces, at = [], [], 0
    for end, text in characters(ids, tokenizer.decode):
        timed.append(TimedToken(text, at * EACH_S, end * EACH_S, 0.9))
        pieces.append(text)
        at = end
    text = tokenizer.decode(ids).strip()
    loud = np.full(samples(len(tokens) * EACH_S), 0.3, np.float32)
    return Hypothesis(text, tuple(ids), 0.9, words=timed_words(text, timed, sound_in(loud), start)), pieces


def in_order_and_apart(words: Sequence[Word]) -> bool:
    return all(word.start <= word.end for word in words) and all(a.end <= b.start for a, b in pairwise(words))


@pytest.mark.parametrize("name", TEXTS)
def test_words_are_the_text_whole_characters_in_order_and_apart(name: str) -> None:
    found, _ = heard(TOKENS[name], start=500)
    assert found.text == TEXTS[name]
    assert "".join(word.text for word in found.words) == TEXTS[name]
    assert in_order_and_apart(found.words)
    assert all(500 <= word.start < word.end <= 500 + samples(len(TOKENS[name]) * EACH_S) for word in found.words)
    assert all(may_break(before.text, after.text) for before, after in pairwise(found.words))
    assert len(found.words) >= len(TEXTS[name].split())
    if name != "Korean":  # which has spaces
        assert len(found.words) >= len(TEXTS[name]) / 4


@given(
    st.text("今天我們在東京タワーでちょっと、「。」ถึงเก้าอี้ดีOK 12", min_size=1, max_size=40),
    st.lists(st.integers(1, 5), min_size=1, max_size=60),
)
def test_however_the_bytes_are_cut_into_tokens_the_text_stays(text: str, lengths: list[int]) -> None:
    raw, tokens = text.strip().encode(), []
    for length in lengths:
        tokens, raw = ([*tokens, raw[:length]], raw[length:]) if raw else (tokens, raw)
    found, _ = heard([*tokens, raw] if raw else tokens)
    assert "".join(word.text for word in found.words) == (found.text if any(map(str.isalnum, found.text)) else "")
    assert found.text == text.strip()
    assert in_order_and_apart(found.words)


@pytest.mark.parametrize("name", TEXTS)
def test_windows_put_together_keep_the_spacing(name: str) -> None:
    transcript, at = Transcript(), 0
    for index in range(3):
        hypothesis, _ = heard(TOKENS[name], start=at)
        audio = silence(len(TOKENS[name]) * EACH_S)
        transcript.update(Window(0, index, at, 0, audio, "cut" if index < 2 else "end"), hypothesis)
        at += len(audio)
    assert transcript.text == joined([TEXTS[name]] * 3)
    assert transcript.text.count(" ") == 3 * TEXTS[name].count(" ") + (2 if name == "Korean" else 0)
    assert "".join(word.text for word in transcript.words) == transcript.text
    assert in_order_and_apart(transcript.words)


@pytest.mark.parametrize(
    ("texts", "whole"),
    [
        (["今天。", "", "明天。"], "今天。明天。"),
        (["one.", "two"], "one. two"),
        (["明日", "OK", "です"], "明日 OK です"),
        (["ดี", "มาก"], "ดีมาก"),
        (["𠮷野家", "𠮷"], "𠮷野家𠮷"),
        ([], ""),
    ],
)
def test_texts_are_joined_by_what_their_script_puts_between(texts: list[str], whole: str) -> None:
    assert joined(texts) == whole


@pytest.mark.parametrize("name", TEXTS)
def test_subtitles_break_between_words_and_after_sentences(name: str) -> None:
    words: list[Word] = []
    for index in range(4):
        more = heard(TOKENS[name], start=samples(index * len(TOKENS[name]) * EACH_S))[0].words
        words += [Word(joined([words[-1].text[-1], more[0].text])[1:], *_times(more[0])), *more[1:]] if words else more
    text = "".join(word.text for word in words)
    turn = TurnCompleted(0, words[0].start, words[-1].end, text, (), None, words=tuple(words))
    found = list(cues([turn]))
    assert "".join(word.text for cue in found for line in cue.lines for word in line) == text
    assert all(before.end_s <= after.start_s for before, after in pairwise(found))
    assert len(found) > 1
    begins = {word.start_s for word in words}
    for cue in found:
        assert cue.start_s in begins
        lines = cue.text.split("\n")
        assert len(lines) <= 2
        assert all(_columns(line) <= LINE for line in lines)
        assert all(may_break(*lines) for lines in pairwise(lines))
    assert all(may_break(before.text, after.text) for before, after in pairwise(found))
    # A sentence ends well within what a cue has room for, so most cues end with one, or with a clause.
    if name in ("Chinese", "Japanese"):
        ended = [cue.text[-1] in "。?!？！、,，" for cue in found]  # noqa: RUF001 - fullwidth
        assert sum(ended) >= len(ended) / 2


def _times(word: Word) -> tuple[int, int, float | None]:
    return word.start, word.end, word.confidence


def _columns(line: str) -> int:
    return sum(2 if ord(char) >= 0x1100 and not 0x1780 <= ord(char) <= 0x17FF else 1 for char in line)


@pytest.mark.parametrize(
    ("name", "term", "place"),
    [("Chinese", "虹橋", "虹桥"), ("Japanese", "東京タワ", "東京タワー"), ("Thai", "อากาด", "อากาศ")],
)
def test_terms_of_scripts_without_spaces_take_the_place_of_whole_characters(name: str, term: str, place: str) -> None:
    found, pieces = heard(TOKENS[name])
    scored = Scored(found.tokens, (0.5,) * len(found.tokens), (None,) * len(found.tokens))
    proposal = propose(Lexicon([term]), scored, _ends(TOKENS[name], pieces), lambda text: list(map(ord, text)))
    assert proposal is not None
    [candidate] = proposal.candidates
    replaced = b"".join(TOKENS[name][candidate.first : candidate.end]).decode()
    assert replaced in place or place in replaced


def _ends(tokens: Sequence[bytes], pieces: Sequence[str]) -> list[tuple[int, str]]:
    found, at = [], 0
    for piece in pieces:
        end, raw = at, b""
        while raw != piece.encode():
            raw, end = raw + tokens[end], end + 1
        found.append((end, piece))
        at = end
    return found
