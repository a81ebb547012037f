"""A draft changes how many passes a decode takes, never what comes out."""

import random

import pytest
import torch

SIZES = [("nano", "amnoise_3p37s"), ("nano", "chirp_1s"), ("toy", "multi_10s"), ("toy", "silence_2s")]


def drafts_of(tokens: list[int], vocab: int, eos: int, r: random.Random):
    """(name, draft, how many of its tokens are right)"""
    text = [token for token in tokens if token != eos]

    def wrong(token: int) -> int:
        return r.choice([t for t in (token + 1, token + 7, 0) if t not in (token, eos) and t < vocab])

    def right(draft: list[int]) -> int:
        return next(
            (i for i, (a, b) in enumerate(zip(draft, text, strict=False)) if a != b), min(len(draft), len(text))
        )

    yield "empty", [], 0
    yield "perfect", text, len(text)
    yield "perfect with its end", tokens, len(text)
    yield "past the end", [*text, eos, 5, 6, 7], len(text)
    noise = [r.randrange(vocab) for _ in range(r.randrange(1, 40))]
    yield "noise", noise, None
    if text:
        yield "wrong at once", [wrong(text[0]), *text[1:]], 0
        yield "too long", [*text, wrong(eos), 5, 6], None
        for _ in range(6):
            cut, at = r.randrange(len(text) + 1), r.randrange(len(text))
            yield "a prefix", text[:cut], cut
            partly = [*text[:at], wrong(text[at]), *text[at + 1 :]]
            yield "one wrong", partly, right(partly)
            scattered = [wrong(t) if r.random() < 0.2 else t for t in text]
            yield "a fifth wrong", scattered, right(scattered)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(("size", "name"), SIZES)
def test_equal_tokens_whatever_the_draft(models, clip, size, name, seed):
    model, audio = models[size], clip(size, name)
    [plain] = model.transcribe([audio], max_new_tokens=64)
    eos = model.tokenizer.eos_id
    for what, draft, right in drafts_of(list(plain.token_ids), model.config.llm.vocab, eos, random.Random(seed)):
        [answer] = model.transcribe([audio], max_new_tokens=64, drafts=[draft])
        assert answer.token_ids == plain.token_ids, what
        assert answer.logprobs == pytest.approx(plain.logprobs, abs=1e-4), what
        assert (answer.text, answer.stop) == (plain.text, plain.stop), what
        if right is not None:
            assert answer.draft_kept >= min(right, 63), what  # at least the right prefix
        assert answer.forwards == len(plain.token_ids) - answer.draft_kept, what
        if what.startswith("perfect"):
            assert answer.forwards <= 2


def test_a_batch_of_drafts(models, clip):
    """Rows that keep much, little and nothing, in one batch, and one without a draft."""
    for size, names in (
        ("nano", ["chirp_1s", "amnoise_3p37s", "noise_0p5s"]),
        ("toy", ["timer", "multi_10s", "digits"]),
    ):
        model = models[size]
        clips = [clip(size, name) for name in names]
        plain = model.transcribe(clips, max_new_tokens=40)
        r = random.Random(size)
        for _ in range(12):
            drafts = []
            for answer in plain:
                tokens = list(answer.token_ids)
                if r.random() < 0.5:
                    tokens[r.randrange(len(tokens))] = 3
                drafts.append(r.choice([tokens, tokens[: r.randrange(len(tokens) + 1)], None, []]))
            answers = model.transcribe(clips, max_new_tokens=40, drafts=drafts)
            assert [a.token_ids for a in answers] == [a.token_ids for a in plain]


def test_a_draft_longer_than_allowed(models, clip):
    model, audio = models["nano"], clip("nano", "chirp_1s")
    [long] = model.transcribe([audio], max_new_tokens=32)
    for limit in (1, 2, 5, 31):
        [plain] = model.transcribe([audio], max_new_tokens=limit)
        [answer] = model.transcribe([audio], max_new_tokens=limit, drafts=[long.token_ids])
        assert answer.token_ids == plain.token_ids == long.token_ids[:limit]
        assert answer.stop == "length"
        assert answer.forwards == 1


def test_every_hypothesis_is_the_next_ones_draft(toy, heldout):
    """A clip that grows by half a second at a time, as a live session decodes it; NeMo kept 95.9 % of draft tokens."""
    kept = offered = forwards = plain_forwards = 0
    for audio, _ in heldout[34:36]:
        previous: tuple[int, ...] = ()
        for end in range(8000, len(audio) + 8000, 8000):
            [answer] = toy.transcribe([audio[:end]], drafts=[previous])
            [plain] = toy.transcribe([audio[:end]])
            assert answer.token_ids == plain.token_ids
            kept += answer.draft_kept
            offered += len([token for token in previous if token != toy.tokenizer.eos_id])
            forwards += answer.forwards
            plain_forwards += plain.forwards
            previous = answer.token_ids
    assert kept > 0.9 * offered
    assert forwards < 0.4 * plain_forwards


@pytest.mark.parametrize(
    ("change", "passes"),
    [
        (lambda tokens: tokens, 1),
        (lambda tokens: [*tokens[:5], 3, *tokens[6:]], 4),  # one replaced
        (lambda tokens: [*tokens[:5], *tokens[6:]], 5),  # one left out
        (lambda tokens: [*tokens[:5], 3, *tokens[5:]], 4),  # one put in
        (lambda tokens: [*tokens[:3], 3, *tokens[4:15], 3, 3, *tokens[15:]], 6),
    ],
)
def test_a_draft_is_taken_up_again_behind_a_wrong_token(toy, clip, change, passes):
    [plain] = toy.transcribe([clip("toy", "multi_10s")])
    assert len(plain.token_ids) == plain.forwards == 26
    [answer] = toy.transcribe([clip("toy", "multi_10s")], drafts=[change(list(plain.token_ids[:-1]))])
    assert answer.token_ids == plain.token_ids
    assert answer.forwards <= passes


def test_a_draft_that_leads_nowhere_is_given_up(toy, clip):
    """After the first pass and one wide step in vain the passes are as narrow as without a draft."""
    [plain] = toy.transcribe([clip("toy", "multi_10s")])
    widths = []
    handle = toy.llm.register_forward_hook(lambda _m, _a, out: widths.append(out.shape[1]))
    [answer] = toy.transcribe([clip("toy", "multi_10s")], drafts=[[3] * 60])
    handle.remove()
    assert answer.token_ids == plain.token_ids
    assert widths[-25:] == [9, *[1] * 24]


@pytest.mark.parametrize("draft", [[-1], [10**6], [448]])
def test_tokens_outside_the_vocabulary_are_refused(nano, draft):
    with pytest.raises(ValueError, match=r"expected draft ids in 0 \.\.\. 447"):
        nano.transcribe([torch.zeros(1600)], drafts=[draft])


def test_a_draft_that_is_all_right_takes_one_pass_also_where_looks_come_late(static, toy, clip):
    """On a GPU the host is a step behind, but for the first pass over drafts, which may have been all."""
    model, _ = static("toy")
    [plain] = model.transcribe([clip("toy", "multi_10s")])
    assert plain.token_ids == toy.transcribe([clip("toy", "multi_10s")])[0].token_ids
    for drafts, passes in (([plain.token_ids], 1), ([plain.token_ids[:-4]], 1 + 3 + 1), ([None], 26 + 1)):
        widths = []
        handle = model.llm.register_forward_hook(lambda _m, _a, out, widths=widths: widths.append(out.shape[1]))
        with model.encoder_graphs.paused(), model.decoder.graphs.paused():
            [answer] = model.transcribe([clip("toy", "multi_10s")], drafts=drafts)
        handle.remove()
        assert answer.token_ids == plain.token_ids
        assert len(widths) <= passes, drafts
