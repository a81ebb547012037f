"""Terms in what the engine hears: those that were said are written as they were given, those that were not stay out."""

import math
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spoken import sentences, talk
from stt.engines.rescoring import Scored, propose, said
from stt.engines.terms import Lexicon, Resemblance, sound
from stt.engines.whisper import Whisper
from stt.recognition import RecognitionOptions, Utterance

# what sounds alike: without a model


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Velquist", "Vel quist"),
        ("Brixlow", "Brickslow"),
        ("Phelan", "Felan"),
        ("Thandeka", "Tandeca"),
        ("Zoë", "Zoe"),
        ("knight", "night"),
        ("Ysolde  Varn", "ysolde varn"),
    ],
)
def test_spellings_of_one_sound_are_one(one: str, other: str) -> None:
    assert sound(one) == sound(other)


@pytest.mark.parametrize(
    ("terms", "heard", "found"),
    [
        ("Velquist", "tell Valkwist that", [(1, 1, "Velquist")]),
        ("Trasimene", "tell tras I mean that", [(1, 3, "Trasimene")]),
        ("Ysolde Varn", "that Ucel de Varn wrote", [(1, 3, "Ysolde Varn")]),
        ("Velquist,Marrowdeen", "Marotin met Valkwist", [(0, 0, "Marrowdeen"), (2, 2, "Velquist")]),
        ("GitHub", "from github to", [(1, 1, "GitHub")]),
        ("Velquist", "Valkwist saw Belkwist", [(0, 0, "Velquist"), (2, 2, "Velquist")]),
        ("Velquist", "Velquist arrived", []),  # nothing to mend
        ("Velquist", "nothing of the kind was said", []),
        ("東京タワー", "東 京 タ ワ ー", [(0, 2, "東京タワー")]),
        ("?", "what", []),
        ("", "what", []),
    ],
)
def test_spans_that_sound_like_a_term(terms: str, heard: str, found: list[tuple[int, int, str]]) -> None:
    words = heard.split()
    got = Lexicon(terms.split(",")).resembling(words, [True] * len(words))
    assert sorted((one.first, one.last, one.term) for one in got) == found


def test_words_that_the_engine_is_sure_of_are_no_misheard_names() -> None:
    lexicon = Lexicon(["Ombrelle"])
    assert lexicon.resembling(["an", "umbrella"], [False, True]) == [Resemblance(1, 1, "Ombrelle")]
    assert lexicon.resembling(["an", "umbrella"], [True, False]) == []
    # Nor does a word beside it change that.
    assert Lexicon(["Milner"]).resembling(["Miller", "that"], [False, True]) == []


words = st.lists(
    st.sampled_from(["Valkwist", "tras", "I", "mean", "Marotin", "the", "brick", "slow", "x"]), max_size=12
)


@settings(deadline=None)
@given(words, st.data())
def test_no_word_is_taken_twice(heard: list[str], data: st.DataObject) -> None:
    doubtful = data.draw(st.lists(st.booleans(), min_size=len(heard), max_size=len(heard)))
    terms = ["Velquist", "Trasimene", "Marrowdeen", "Brixlow", "Brick Slow"]
    found = Lexicon(terms).resembling(heard, doubtful)
    taken = [at for one in found for at in range(one.first, one.last + 1)]
    assert len(taken) == len(set(taken))
    assert all(any(doubtful[one.first : one.last + 1]) for one in found)


# what the engine makes of them: tokens are characters, and a scripted score


def scored(text: str, probability: float = 0.5) -> Scored:
    return Scored(
        tuple(map(ord, text)), (probability,) * len(text), tuple((float(i), float(i + 1)) for i in range(len(text)))
    )


def rewrite(heard: str, terms: Sequence[str], believed: Sequence[str]) -> tuple[str, list[str]]:
    """Return what comes of it, and what was scored: the engine is sure of the terms it believes."""

    def encode(text: str) -> list[int]:
        return list(map(ord, text))

    pieces = [(at + 1, char) for at, char in enumerate(heard)]
    proposal = propose(Lexicon(terms), scored(heard), pieces, encode)
    if proposal is None:
        return heard, []
    text = "".join(map(chr, proposal.tokens))
    probabilities = [1e-6] * len(text)
    for term in believed:
        if (at := text.find(term)) >= 0:
            probabilities[at : at + len(term)] = [0.9] * len(term)
            probabilities[max(0, at - 1)] = 0.9  # the space belongs to the word
    candidates = proposal.parts(Scored(proposal.tokens, tuple(probabilities), scored(text).places))
    found = proposal.written([said(candidate) for candidate in candidates])
    asked = [f"{''.join(map(chr, proposal.before))} |{text}"]
    assert len(found.tokens) == len(found.probabilities) == len(found.places)
    return "".join(map(chr, found.tokens)), asked


@pytest.mark.parametrize(
    ("heard", "believed", "written"),
    [
        (" tell Valkwist, that", ["Velquist"], " tell Velquist, that"),
        (" tell Valkwist, that", [], " tell Valkwist, that"),
        (" met Marotin. And Valkwist?", ["Velquist"], " met Marotin. And Velquist?"),
        (" met Marotin. And Valkwist?", ["Velquist", "Marrowdeen"], " met Marrowdeen. And Velquist?"),
        ("Valkwist", ["Velquist"], "Velquist"),
    ],
)
def test_only_what_the_engine_believes_is_written_and_punctuation_stays(
    heard: str, believed: list[str], written: str
) -> None:
    assert rewrite(heard, ["Velquist", "Marrowdeen"], believed)[0] == written


def test_all_are_scored_at_once_after_a_text_that_shows_how_they_are_written() -> None:
    _, asked = rewrite(" met Marotin and Valkwist", ["Velquist", "Marrowdeen", "Brixlow"], [])
    assert asked in (
        [" Velquist, Marrowdeen | met Marrowdeen and Velquist"],
        [" Marrowdeen, Velquist | met Marrowdeen and Velquist"],
    )
    assert rewrite(" nothing of the kind", ["Velquist"], []) == (" nothing of the kind", [])
    _, [asked] = rewrite(" Valkwist met Belkwist", ["Velquist"], [])
    assert asked == " Velquist | Velquist met Velquist"


# the embedded engine

NAMES = ("Velquist", "Marrowdeen", "Thandeka", "Brixlow", "Quenneville", "Kestrelum", "Trasimene", "Tolliver Askew")
OTHERS = ("Corvanthe", "Tremaglia", "Vostanik", "Zelmira", "Brockatoo", "Radzimir", "Wrexin", "Yarrowmere")


@pytest.fixture(scope="module")
def whisper() -> Whisper:
    return Whisper(device="cpu")


def hear(whisper: Whisper, text: str, terms: tuple[str, ...], kind: str = "final", *, words: bool = False) -> str:
    audio = talk([text], [0.4], lead_s=0.3, seed=7)
    options = RecognitionOptions(terms=terms, words=words)
    [heard] = whisper.transcribe([Utterance(audio, options, kind)])  # type: ignore[arg-type]
    if words and kind != "interim":
        assert "".join(word.text for word in heard.words) == heard.text
        assert all(a.end <= b.start for a, b in zip(heard.words, heard.words[1:], strict=False))
        assert all(word.confidence is not None and math.isfinite(word.confidence) for word in heard.words)
    return heard.text


def test_names_are_written_as_they_were_given(whisper: Whisper) -> None:
    said = [f"Please tell {name} that the meeting moved to Friday." for name in NAMES]
    plain = sum(name in hear(whisper, text, ()) for name, text in zip(NAMES, said, strict=True))
    given = sum(name in hear(whisper, text, NAMES + OTHERS, words=True) for name, text in zip(NAMES, said, strict=True))
    assert plain <= 2
    assert given >= plain + 4


def test_what_was_not_said_is_not_written(whisper: Whisper) -> None:
    for text in sentences(6, seed=11):
        assert hear(whisper, text, NAMES + OTHERS) == hear(whisper, text, ())


def test_interims_have_no_second_pass(whisper: Whisper) -> None:
    text = f"Please tell {NAMES[0]} that the meeting moved to Friday."
    assert hear(whisper, text, NAMES, "interim") == hear(whisper, text, (), "interim")
