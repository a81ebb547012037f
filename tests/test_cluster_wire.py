"""What travels to replicas: everything arrives whole, and nothing is sent twice without need."""

import itertools
import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stt.cluster.wire import (
    AudioCache,
    ForgottenError,
    Sent,
    from_plain,
    pack,
    pack_hypothesis,
    size,
    unpack,
    unpack_hypothesis,
)
from stt.recognition import Hypothesis, RecognitionOptions, Utterance, WindowKey
from stt.words import Word

STREAM = np.random.default_rng(0).integers(-(2**15), 2**15, 40_000).astype(np.float32) / 32768

stretches = st.tuples(st.integers(0, 39_000), st.integers(1, 1_000)).map(lambda at: (at[0], at[0] + at[1]))


def utterance(start: int, end: int, **more: object) -> Utterance:
    return Utterance(STREAM[start:end], start=start, key=WindowKey("s", 1, 2), **more)  # type: ignore[arg-type]


@settings(max_examples=300, deadline=None)
@given(
    asked=st.lists(st.tuples(stretches, st.sampled_from("abc"), st.booleans()), max_size=30),
    shift=st.integers(0, 500),
)
def test_audio_arrives_as_it_is_whatever_was_sent_before_and_forgotten(asked, shift):
    """Any stretches of a stream, to replicas that change and forget: the same samples as if each were sent whole."""
    caches = {name: AudioCache(most_bytes=3_000) for name in "abc"}
    sent: Sent | None = None
    for number, ((start, end), replica, forgets) in enumerate(asked):
        if number % 2 and sent is not None:  # as windows go on, and overlap
            start, end = sent.start + shift, min(len(STREAM), sent.end + shift + 1)  # noqa: PLW2901
            if start >= end:
                continue
        if forgets:
            caches[replica].forget("s")
        now = utterance(start, end)
        shared = sent.shared(now) if sent is not None and sent.replica == replica else 0
        message = pickle.loads(pickle.dumps(pack(now, "s", shared)))
        try:
            pcm = caches[replica].whole(message)
        except ForgottenError:
            assert shared
            message = pack(now, "s")
            pcm = caches[replica].whole(message)
        sent = Sent(replica, start, end)
        np.testing.assert_array_equal(unpack(message, pcm).audio, now.audio)


def test_an_interim_sends_what_is_new_and_a_cut_window_what_it_does_not_overlap():
    cache, sent = AudioCache(), None
    lengths = []
    for start, end in ((0, 8_000), (0, 16_000), (0, 15_000), (0, 24_000), (20_000, 30_000), (32_000, 33_000)):
        shared = sent.shared(utterance(start, end)) if sent else 0
        message = pack(utterance(start, end), "s", shared)
        lengths.append(len(message["pcm"]))
        assert len(cache.whole(message)) == end - start
        sent = Sent("a", start, end)
    assert lengths == [8_000, 8_000, 0, 9_000, 6_000, 1_000]


def test_what_is_said_of_an_utterance_arrives():
    draft = Hypothesis("so far", (1, 2), 0.5, "de", (Word("so", 0, 100), Word(" far", 100, 200, 0.25)))
    asked = utterance(
        100,
        900,
        options=RecognitionOptions("de", ("Ladybug",), words=True, engine="large", live=False),
        kind="speculative",
        draft=draft,
        speech_s=0.5,
        silences=((100, 200),),
        trace="beef",
    )
    message = pack(asked, "x")
    got = unpack(message, AudioCache().whole(message))
    assert got.key == ("x", 1, 2)
    names = ("options", "kind", "draft", "start", "speech_s", "silences", "trace")
    assert [getattr(got, n) for n in names] == [getattr(asked, n) for n in names]


def test_audio_that_differs_from_what_was_sent_before_is_not_taken_for_it():
    cache = AudioCache()
    cache.whole(pack(utterance(0, 1_000), "s"))
    other = Utterance(-STREAM[:2_000], key=WindowKey("s"))
    with pytest.raises(ForgottenError):
        cache.whole(pack(other, "s", 1_000))


def test_versions_that_know_more_or_less_understand_each_other():
    message = pack_hypothesis(Hypothesis("yes"))
    assert unpack_hypothesis({**message, "mood": "good"}) == Hypothesis("yes")
    assert unpack_hypothesis({"text": "yes"}) == Hypothesis("yes")
    assert from_plain(RecognitionOptions, {"language": "de", "accent": 3}) == RecognitionOptions("de")
    least = {k: pack(utterance(0, 10), "s")[k] for k in ("session", "turn", "window", "start", "pcm", "kind")}
    assert len(unpack(least, AudioCache().whole(least)).audio) == 10


def test_a_cache_has_room_for_so_much_and_the_oldest_go():
    cache = AudioCache(most_bytes=5_000)
    for name in "abc":
        cache.whole(pack(utterance(0, 1_000), name))
    assert len(cache) == 2
    with pytest.raises(ForgottenError):
        cache.whole(pack(utterance(0, 1_100), "a", 1_000))
    cache.whole(pack(utterance(0, 1_100), "b", 1_000))
    cache.whole(pack(utterance(0, 9_000), "d"))  # more than there is room for: kept all the same, alone
    assert len(cache) == 1


def test_a_session_costs_hardly_more_than_its_sound():
    """Two interims a second with drafts, a pause and a cut with 5 s of overlap, as 16-bit PCM and what goes with it."""
    draft, sent, total = Hypothesis("word " * 60, tuple(range(80))), None, 0
    ends = [*range(8_000, 24 * 16_000, 8_000), 24 * 16_000 - 100]
    windows = [(0, end) for end in ends] + [(19 * 16_000, 19 * 16_000 + end) for end in ends]
    sound = np.zeros(43 * 16_000, np.float32)
    for start, end in windows:
        asked = Utterance(sound[start:end], start=start, key=WindowKey("s"), draft=draft)
        message = pack(asked, "s", sent.shared(asked) if sent else 0)
        total += max(size(message), len(pickle.dumps(message)))
        sent = Sent("a", start, end)
    assert total < 1.2 * 2 * max(end for _, end in windows)


def test_pcm_of_a_client_comes_out_bit_for_bit():
    for a, b in itertools.pairwise(range(0, 40_000, 8_000)):
        message = pack(utterance(a, b), "s")
        np.testing.assert_array_equal(unpack(message, AudioCache().whole(message)).audio, STREAM[a:b])


def test_nobodys_speech_is_kept_for_longer_than_a_minute():
    now = 0.0
    cache = AudioCache(clock=lambda: now)
    cache.whole(pack(utterance(0, 1_000), "gone"))
    now = 61.0
    cache.whole(pack(utterance(0, 1_000), "other"))
    assert len(cache) == 1
    with pytest.raises(ForgottenError):
        cache.whole(pack(utterance(0, 1_100), "gone", 1_000))
