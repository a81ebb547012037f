"""The Python face of `strops`, held against the plain Python alignment in benchmarks/strops_merge.py.

The alignment itself is tested in strops-rs/tests; here: the same answers, the caller's own objects, clear errors.
"""

import ast
import importlib.util
import inspect
import random
import sys
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import strops

ROOT = Path(__file__).parents[1]
spec = importlib.util.spec_from_file_location("strops_merge", ROOT / "benchmarks" / "strops_merge.py")
assert spec is not None
assert spec.loader is not None
plain = importlib.util.module_from_spec(spec)
spec.loader.exec_module(plain)

PROSE = plain.PROSE.split()
# Few words, near words and punctuation among them: repetitions and chance matches all the time.
WORDS = st.sampled_from(
    ("the", "then", "a", "of", "brown", "browns", "Fox,", "fox", "dog", "don't", "dont", "...", ".", "jump", "café")
)
TEXT = st.lists(WORDS, max_size=30)


@pytest.mark.parametrize(
    ("prev", "new", "merged"),
    [
        ("The quick brown fox", "brown fox jumps", "The quick brown fox jumps"),
        ("saw quick brown foxes jum", "ick brown foxes jump", "saw quick brown foxes jump"),  # words cut in half
        ("we went to the", "the dog came", "we went to the dog came"),
        ("no no no", "no no no", "no no no"),
        ("a b c d .", "completely new sentence here .", "a b c d . completely new sentence here ."),
        ("i like the cat", "then the dog came home", "i like the cat then the dog came home"),
        ("over .", ". and", "over . . and"),
        ("", "so", "so"),
        ("so", "", "so"),
        ("", "", ""),
    ],
)
def test_merge(prev, new, merged):
    assert strops.merge_by_overlap(prev.split(), new.split()) == merged.split()


def test_overlap():
    overlap = strops.find_overlap(["saw", "the", "brown", "fox"], ["teh", "Brown", "fox,", "jump"])
    assert repr(overlap) == "Overlap(prev_end=2, new_start=1, matched=2, score=1.5)"
    match overlap:
        case strops.Overlap(prev_end, new_start):
            assert (prev_end, new_start) == (2, 1)
    again = strops.find_overlap(["saw", "the", "brown", "fox"], ["teh", "Brown", "fox,", "jump"])
    assert overlap == again
    assert hash(overlap) == hash(again)
    assert overlap != strops.find_overlap(["brown", "fox"], ["brown", "fox"])
    with pytest.raises(AttributeError):
        setattr(overlap, "prev_end", 0)  # noqa: B010 - a checker would object to the plain form
    assert strops.find_overlap(["so"], ["it"]) is None


def answer(prev, new):
    overlap = strops.find_overlap(prev, new)
    return overlap and (overlap.prev_end, overlap.new_start, overlap.matched, round(100 * overlap.score))


@given(TEXT, TEXT)
def test_same_answer_as_plain_python(prev, new):
    assert answer(prev, new) == plain.find_overlap(prev, new)


@pytest.mark.parametrize("text", ["prose", "zipf", "refrain"])
def test_same_answer_as_plain_python_on_windows(text):
    rng = random.Random(1)
    words = {"prose": PROSE, "zipf": plain.zipf(PROSE, 5000, rng), "refrain": plain.REFRAIN.split()}[text]
    found = 0
    for overlap in (0, 1, 3, 5, 9, 30) * 8:
        _, prev, new = plain.sample(words, overlap, rng)
        found += answer(prev, new) is not None
        assert answer(prev, new) == plain.find_overlap(prev, new)
    assert found > 20


@given(TEXT, TEXT)
def test_a_merge_is_a_beginning_and_an_end(prev, new):
    merged = strops.merge_by_overlap(prev, new)
    overlap = strops.find_overlap(prev, new)
    if overlap is None:
        assert merged == prev + new
    else:
        i, j = overlap.prev_end, overlap.new_start
        assert merged == prev[:i] + new[j:]
        assert strops.normalize(prev[i]) == strops.normalize(new[j]) != ""
        assert 1 <= overlap.matched <= min(len(prev) - i, len(new) - j)
        assert overlap.score >= 1
    assert merged == plain.merge_by_overlap(prev, new)


@given(st.text(max_size=8))
def test_normalize(word):
    normal = strops.normalize(word)
    assert strops.normalize(normal) == normal
    assert strops.normalize(f"'{word}'!") == normal


@given(TEXT, TEXT)
def test_agreed_prefix(a, b):
    pairs = [strops.normalize(x) == strops.normalize(y) for x, y in zip(a, b, strict=False)]
    assert strops.agreed_prefix(a, b) == [*pairs, False].index(False)


@pytest.mark.parametrize("text", ["prose", "zipf"])
def test_five_words_of_overlap_are_enough(text):
    rng = random.Random(2)
    words = PROSE if text == "prose" else plain.zipf(PROSE, 100_000, rng)
    assert plain.recovered(words, 5, 10_000, rng) >= 0.99


def test_merge_returns_the_objects_it_was_given():
    class Word(str):  # as a recognizer that hangs times on its words
        __slots__ = ("start",)

    prev, new = [Word(w) for w in ("saw", "The", "Fox,")], tuple(Word(w) for w in ("the", "fox", "jump"))
    counts = [sys.getrefcount(w) for w in (*prev, *new)]
    merged = strops.merge_by_overlap(prev, new)
    assert [id(w) for w in merged] == [id(w) for w in (prev[0], *new)]
    del merged
    assert [sys.getrefcount(w) for w in (*prev, *new)] == counts
    assert strops.merge_by_overlap(prev, []) is not prev


@pytest.mark.parametrize("call", [strops.merge_by_overlap, strops.find_overlap, strops.agreed_prefix])
def test_misuse(call):
    first, second = inspect.signature(call).parameters
    for wrong, got in (("the fox", "str"), (None, "NoneType"), (iter(["the"]), "list_iterator"), ({"the"}, "set")):
        with pytest.raises(TypeError, match=f"^{first}: expected a sequence of words, got {got}$"):
            call(wrong, ["fox"])
    with pytest.raises(TypeError, match=rf"^{second}\[1\]: expected str, got bytes$"):
        call(["fox"], ["the", b"fox"])


def test_lone_surrogates_are_no_letters():
    assert strops.merge_by_overlap(["the", "fox\udcff"], ["fox", "ran"]) == ["the", "fox", "ran"]
    assert strops.find_overlap(["\udcff"], ["\udcff"]) is None


def test_ten_thousand_words():
    text = [str(i) for i in range(15_000)]
    assert strops.merge_by_overlap(text[:10_000], text[5_000:]) == text
    assert strops.merge_by_overlap(["no"] * 10_000, ["no"] * 10_000) == ["no"] * 10_000
    assert strops.merge_by_overlap(text[:10_000], ["no"] * 10_000) == text[:10_000] + ["no"] * 10_000


def test_long_inputs_let_other_threads_run():
    # every diagonal is alive: far more than a switch interval of work, in one call
    prev, new = ["no"] * 3000 + ["yes"], ["no"] * 3000 + ["oh"]
    running, ticks = threading.Event(), []
    thread = threading.Thread(target=lambda: (running.set(), strops.find_overlap(prev, new), ticks.append("done")))
    thread.start()
    running.wait()
    while not ticks:
        ticks.append("tick")
    thread.join()
    assert ticks[0] == "tick"


def test_an_order_of_magnitude_faster_than_plain_python():
    prev, new = PROSE[:60], PROSE[45:105]
    rust = plain.seconds(lambda: strops.merge_by_overlap(prev, new), 200)
    assert plain.seconds(lambda: plain.merge_by_overlap(prev, new), 2) > 30 * rust


def test_stub_says_what_the_module_says():
    stub = ast.parse((ROOT / "strops.pyi").read_text())
    named = {node.name: node for node in stub.body if isinstance(node, ast.FunctionDef | ast.ClassDef)}
    assert sorted(named) == sorted(strops.__all__)
    assert ast.get_docstring(stub) == inspect.getdoc(strops)
    for name, node in named.items():
        thing = getattr(strops, name)
        assert ast.get_docstring(node) == inspect.getdoc(thing)
        if isinstance(node, ast.ClassDef):
            for method in (m for m in node.body if isinstance(m, ast.FunctionDef) and not m.name.startswith("_")):
                assert ast.get_docstring(method) == inspect.getdoc(getattr(thing, method.name))
        else:
            assert [a.arg for a in node.args.posonlyargs + node.args.args] == list(inspect.signature(thing).parameters)
