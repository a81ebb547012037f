"""How often `strops` stitches rightly, how often it sees an overlap where there is none, and how fast it is.

    python benchmarks/strops_merge.py [--cases N] [--seed S]

Cases are windows cut from a known word sequence, so the right answer is known. Three texts: *prose* is real English
(below, public domain). *zipf* draws each word on its own, from the words of that prose with probability proportional
to 1/rank; it has no grammar, and far more chance repetitions than speech. *refrain* is where words alone cannot tell:
"it was the age of wisdom, it was the age of foolishness" is two clauses or one heard twice, so it shows the limit.
An edge word is garbled as recognizers garble it: cut in half, a near word (one letter changed or lost), or any other.

`merge_by_overlap` and `find_overlap` here are the same alignment in plain Python: the yardstick for speed, and the
oracle of `tests/test_strops.py`.
"""

from __future__ import annotations

import argparse
import random
import time
import unicodedata
from typing import TYPE_CHECKING, NamedTuple

import strops

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

WORD, MISS, GAP, EDGE, LIMIT = 100, 100, 150, 50, 600  # hundredths of a word; reasons in strops-rs/src/overlap.rs
NEVER = -(10**9)


def is_mark(c: str) -> bool:
    return unicodedata.category(c).startswith("M")


def normalize(word: str) -> str:
    """Letters and digits only, without case, as strops.normalize."""
    if word.isascii():
        return "".join(filter(str.isalnum, word)).lower()
    # letter by letter, as in Rust: lower case of a whole word would give a final sigma of its own
    folded = "".join(c.lower().upper().lower() for c in unicodedata.normalize("NFKD", word))
    folded = unicodedata.normalize("NFKD", folded)
    letters = [c for c in folded if is_mark(c) or (c.isalnum() and c not in "\u02bb\u02bc")]
    return "" if all(map(is_mark, letters)) else unicodedata.normalize("NFC", "".join(letters))


def compare(a: str, b: str) -> int:
    """What it is worth to lay one normalised word beside another."""
    if a == b:
        return WORD
    short, long = min(len(a), len(b)), max(len(a), len(b))
    prefix = 0
    while prefix < short and a[prefix] == b[prefix]:
        prefix += 1
    suffix = 0
    while suffix < short - prefix and a[-1 - suffix] == b[-1 - suffix]:
        suffix += 1
    differs = long - prefix - suffix
    return -MISS if 3 * differs >= 2 * long else WORD - max(1, 3 * WORD * differs // long)


def find_overlap(prev: Sequence[str], new: Sequence[str]) -> tuple[int, int, int, int] | None:
    """(prev_end, new_start, matched, score in hundredths of a word), as strops.find_overlap."""
    p = [(normalized, i) for i, word in enumerate(prev) if (normalized := normalize(word))]
    q = [(normalized, j) for j, word in enumerate(new) if (normalized := normalize(word))]
    n, m = len(p), len(q)
    # A path is (score, kept, lost, matched, i, j): kept is prev_end - new_start, before the first match as if it came
    # next; lost is how far the score is below its highest; i and j are the first match. A higher (score, kept) wins.
    dead: tuple[int, ...] = (NEVER, 0, 0, 0, 0, 0)
    starts: list[tuple[int, ...]] = [
        (-EDGE * j, -j, EDGE * j, 0, 0, 0) if EDGE * j <= LIMIT else dead for j in range(m + 1)
    ]
    row, alive = starts.copy(), m
    best: tuple[int, ...] | None = None
    for i in range(n):
        word, left_over = p[i][0], EDGE * (n - i - 1)
        diagonal = row[0]
        row[0] = left = (0, i + 1, 0, 0, 0, 0)
        last = 0
        for j in range(m):
            up, path = row[j + 1], starts[j + 1]
            score, kept, lost = path[0], path[1] + i + 1, path[2]
            path = (score, kept, lost, 0, 0, 0)
            if diagonal[0] > NEVER:
                worth = compare(word, q[j][0])
                d_score, d_kept, d_lost, matched, at_i, at_j = diagonal
                d_score, d_lost = d_score + worth, max(0, d_lost - worth)
                if d_lost <= LIMIT and (d_score > score or (d_score == score and d_kept > kept)):
                    if worth == WORD:
                        at_i, at_j = (at_i, at_j) if matched else (i, j)
                        matched += 1
                    score, kept = d_score, d_kept
                    path = (score, kept, d_lost, matched, at_i, at_j)
            for other, step in (up, 1), (left, -1):
                o_score, o_kept, o_lost = other[0] - GAP, other[1] + (0 if other[3] else step), other[2] + GAP
                if o_lost <= LIMIT and (o_score > score or (o_score == score and o_kept > kept)) and o_score > NEVER:
                    score, kept = o_score, o_kept
                    path = (score, kept, o_lost, *other[3:])
            if score > NEVER:
                last = j + 1
                within = path[2] + left_over <= LIMIT
                if path[3] and within and (best is None or (score - left_over, kept) > best[:2]):
                    best = (score - left_over, *path[1:])
            elif j >= alive:
                row[j + 1] = dead
                break
            else:
                path = dead
            diagonal, left, row[j + 1] = up, path, path
        alive = last
    if best is None or best[0] < WORD:
        return None
    score, _, _, matched, i, j = best
    return p[i][1], q[j][1], matched, score


def merge_by_overlap(prev: Sequence[str], new: Sequence[str]) -> list[str]:
    """As strops.merge_by_overlap."""
    prev_end, new_start, *_ = find_overlap(prev, new) or (len(prev), 0)
    return [*prev[:prev_end], *new[new_start:]]


class Windows(NamedTuple):
    truth: list[str]
    prev: list[str]
    new: list[str]


def garble(word: str, words: Sequence[str], rng: random.Random, *, at_end: bool) -> str:
    """What a recognizer makes of a word that the edge of its window cuts."""
    for _ in range(100):
        middle, at = (len(word) + 1) // 2, rng.randrange(len(word))
        match rng.choice(("half", "near", "other")):
            case "half":
                garbled = word[:middle] if at_end else word[middle:]
            case "near":
                garbled = word[:at] + rng.choice(("", *"aeiou")) + word[at + 1 :]
            case _:
                garbled = rng.choice(words)
        if normalize(garbled) not in ("", normalize(word)):
            return garbled
    return "garbled"


def sample(words: Sequence[str], overlap: int, rng: random.Random, *, garbled: bool = True) -> Windows:
    """Two windows of 8 to 60 words, cut from `words` so that the last `overlap` of one are the first of the other."""
    n, m = (rng.randint(max(8, overlap + 1), min(60, len(words) // 2)) for _ in range(2))
    at = rng.randrange(len(words) - n - m + overlap + 1)
    truth = list(words[at : at + n + m - overlap])
    prev, new = truth[:n], truth[n - overlap :]
    if garbled:
        prev[-1] = garble(prev[-1], words, rng, at_end=True)
        new[0] = garble(new[0], words, rng, at_end=False)
    return Windows(truth, prev, new)


def zipf(words: Sequence[str], count: int, rng: random.Random) -> list[str]:
    """`count` independent words; the k-th most frequent of `words` with probability proportional to 1/k."""
    ranked = sorted(set(words), key=lambda word: (-words.count(word), word))
    return rng.choices(ranked, [1 / rank for rank in range(1, len(ranked) + 1)], k=count)


def recovered(words: Sequence[str], overlap: int, cases: int, rng: random.Random) -> float:
    """Fraction of cases whose merge is the original sequence, word for word."""
    samples = (sample(words, overlap, rng) for _ in range(cases))
    return sum(strops.merge_by_overlap(s.prev, s.new) == s.truth for s in samples) / cases


def falsely_merged(words: Sequence[str], cases: int, rng: random.Random, *, garbled: bool) -> float:
    """Fraction of neighbouring windows without overlap that are merged all the same.

    Windows that meet at a word said twice ("that that") are left out: they are an overlap as far as words can tell.
    """
    samples = [sample(words, 0, rng, garbled=garbled) for _ in range(cases)]
    samples = [s for s in samples if normalize(s.prev[-1]) != normalize(s.new[0])]
    return sum(strops.find_overlap(s.prev, s.new) is not None for s in samples) / len(samples)


def merged_seams(words: Sequence[str]) -> list[str]:
    """Every seam of `words` that is seen as an overlap, with its surroundings."""
    found = ((at, strops.find_overlap(words[max(0, at - 30) : at], words[at : at + 30])) for at in range(1, len(words)))
    return [" ".join((*words[max(0, at - 4) : at], "|", *words[at : at + 3])) for at, overlap in found if overlap]


def seconds(call: Callable[[], object], repeat: int, rounds: int = 7) -> float:
    """Seconds of this thread for one call, whatever else the machine does: the best of some rounds."""
    times = []
    for _ in range(rounds):
        begin = time.thread_time()
        for _ in range(repeat):
            call()
        times.append((time.thread_time() - begin) / repeat)
    return min(times)


def main() -> None:
    parser = argparse.ArgumentParser(description="How right and how fast strops stitches")
    parser.add_argument("--cases", type=int, default=20_000, help="random cases per line and vocabulary")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    rng = random.Random(args.seed)
    prose = PROSE.split()
    texts = {"prose": prose, "zipf": zipf(prose, 100_000, rng), "refrain": REFRAIN.split()}

    print(f"sequence recovered word for word, both edge words garbled, {args.cases} cases each, seed {args.seed}")
    for overlap in (3, 4, 5, 6, 10, 15):
        rates = (f"{name} {recovered(words, overlap, args.cases, rng):8.3%}" for name, words in texts.items())
        print(f"  overlap of {overlap:2} words   ", "   ".join(rates))
    print("merged although nothing overlaps (no word at the seam said twice)")
    for garbled in (False, True):
        rates = (f"{k} {falsely_merged(w, args.cases, rng, garbled=garbled):8.3%}" for k, w in texts.items())
        print(f"  {'edge words garbled ' if garbled else 'edge words as said '}   ", "   ".join(rates))
    print("  those in prose (as said):", "; ".join(merged_seams(prose)))

    prev, new = prose[:60], prose[45:105]
    assert strops.merge_by_overlap(prev, new) == merge_by_overlap(prev, new) == prose[:105]
    rust = seconds(lambda: strops.merge_by_overlap(prev, new), 2000)
    plain = seconds(lambda: merge_by_overlap(prev, new), 10)
    long = zipf(prose, 15_000, rng)
    print(f"60 + 60 words: {rust * 1e6:.1f} us, plain Python {plain * 1e6:.0f} us, {plain / rust:.0f} times as long")
    for name, a, b in (
        ("nothing shared", long[:10_000], prose[::-1] * 11),
        ("5,000 shared", long[:10_000], long[5_000:]),
        ("all equal", ["no"] * 10_000, ["no"] * 10_000),
        ("all equal but the edges", [*["no"] * 9_999, "yes"], ["oh", *["no"] * 9_999]),
    ):
        took = seconds(lambda a=a, b=b: strops.merge_by_overlap(a, b), 1, 3)
        print(f"10,000 + 10,000 words, {name}: {took * 1e3:.1f} ms")


PROSE = """
Four score and seven years ago our fathers brought forth on this continent, a new nation, conceived in Liberty, and
dedicated to the proposition that all men are created equal. Now we are engaged in a great civil war, testing whether
that nation, or any nation so conceived and so dedicated, can long endure. We are met on a great battle-field of that
war. We have come to dedicate a portion of that field, as a final resting place for those who here gave their lives
that that nation might live. It is altogether fitting and proper that we should do this. But, in a larger sense, we
can not dedicate, we can not consecrate, we can not hallow this ground. The brave men, living and dead, who struggled
here, have consecrated it, far above our poor power to add or detract. The world will little note, nor long remember
what we say here, but it can never forget what they did here. It is for us the living, rather, to be dedicated here to
the unfinished work which they who fought here have thus far so nobly advanced. It is rather for us to be here
dedicated to the great task remaining before us, that from these honored dead we take increased devotion to that cause
for which they gave the last full measure of devotion, that we here highly resolve that these dead shall not have died
in vain, that this nation, under God, shall have a new birth of freedom, and that government of the people, by the
people, for the people, shall not perish from the earth.

Alice was beginning to get very tired of sitting by her sister on the bank, and of having nothing to do: once or twice
she had peeped into the book her sister was reading, but it had no pictures or conversations in it, "and what is the
use of a book," thought Alice, "without pictures or conversations?" So she was considering in her own mind (as well as
she could, for the hot day made her feel very sleepy and stupid), whether the pleasure of making a daisy-chain would be
worth the trouble of getting up and picking the daisies, when suddenly a White Rabbit with pink eyes ran close by her.
There was nothing so very remarkable in that; nor did Alice think it so very much out of the way to hear the Rabbit say
to itself, "Oh dear! Oh dear! I shall be late!" (when she thought it over afterwards, it occurred to her that she ought
to have wondered at this, but at the time it all seemed quite natural); but when the Rabbit actually took a watch out
of its waistcoat-pocket, and looked at it, and then hurried on, Alice started to her feet, for it flashed across her
mind that she had never before seen a rabbit with either a waistcoat-pocket, or a watch to take out of it, and burning
with curiosity, she ran across the field after it, and fortunately was just in time to see it pop down a large
rabbit-hole under the hedge. In another moment down went Alice after it, never once considering how in the world she
was to get out again. The rabbit-hole went straight on like a tunnel for some way, and then dipped suddenly down, so
suddenly that Alice had not a moment to think about stopping herself before she found herself falling down a very deep
well. Either the well was very deep, or she fell very slowly, for she had plenty of time as she went down to look about
her and to wonder what was going to happen next.

It is a truth universally acknowledged, that a single man in possession of a good fortune, must be in want of a wife.
However little known the feelings or views of such a man may be on his first entering a neighbourhood, this truth is so
well fixed in the minds of the surrounding families, that he is considered as the rightful property of some one or
other of their daughters. "My dear Mr. Bennet," said his lady to him one day, "have you heard that Netherfield Park is
let at last?" Mr. Bennet replied that he had not. "But it is," returned she; "for Mrs. Long has just been here, and she
told me all about it." Mr. Bennet made no answer. "Do you not want to know who has taken it?" cried his wife
impatiently. "You want to tell me, and I have no objection to hearing it." This was invitation enough.

Call me Ishmael. Some years ago, never mind how long precisely, having little or no money in my purse, and nothing
particular to interest me on shore, I thought I would sail about a little and see the watery part of the world. It is a
way I have of driving off the spleen and regulating the circulation. Whenever I find myself growing grim about the
mouth; whenever it is a damp, drizzly November in my soul; whenever I find myself involuntarily pausing before coffin
warehouses, and bringing up the rear of every funeral I meet; then, I account it high time to get to sea as soon as I
can.
"""
REFRAIN = """
It was the best of times, it was the worst of times, it was the age of wisdom, it was the age of foolishness, it was
the epoch of belief, it was the epoch of incredulity, it was the season of Light, it was the season of Darkness, it was
the spring of hope, it was the winter of despair, we had everything before us, we had nothing before us, we were all
going direct to Heaven, we were all going direct the other way.
"""

if __name__ == "__main__":
    main()
