"""Encoder frames kept from one interim of a window to the next: what they save, cost, and never touch."""

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pytest
import torch

from nemo_lite import CanaryQwen, ContinuousBatch, growing
from nemo_lite.growing import GrowingWindows

STEP = 8000


@pytest.fixture
def speech(heldout) -> torch.Tensor:
    """Sentences in a row, 16 s."""
    return torch.cat([clip for clip, _ in heldout if len(clip) < 16_000 * 3][:8])[: 16_000 * 16]


@pytest.fixture(params=["a CPU", "a GPU, emulated"])
def model(request, toy, static) -> Iterator[CanaryQwen]:
    model = static("toy")[0] if request.param.startswith("a GPU") else toy
    model.growing.worth_a_pass = 0
    yield model
    model.growing.forget(lambda _: True)


@contextmanager
def encoded(model: CanaryQwen) -> Iterator[list[int]]:
    """The frames of each row that comes to the encoder; graphs are left out."""
    frames: list[int] = []

    def note(_: object, given: tuple[torch.Tensor, torch.Tensor]) -> None:
        frames.extend(-(-n // 8) for n in given[1].tolist() if n)

    hook = model.encoder.register_forward_pre_hook(note)
    with model.encoder_graphs.without():
        yield frames
    hook.remove()


def texts_of(model: CanaryQwen, clip: torch.Tensor, window: object = None) -> list[str]:
    """Of interims every half second, each with the draft of the one before."""
    texts, draft = [], ()
    for end in range(STEP, len(clip), STEP):
        [heard] = model.transcribe([clip[:end]], drafts=[draft], windows=[window])
        texts.append(heard.text)
        draft = heard.token_ids
    return texts


def test_interims_of_a_growing_window_encode_half_of_it_and_hear_nearly_the_same(toy, speech):
    with encoded(toy) as whole:
        expected = texts_of(toy, speech)
    with encoded(toy) as again:
        heard = texts_of(toy, speech, "window")
    toy.growing.forget(lambda _: True)
    assert len(again) == len(whole) == len(heard)
    assert sum(again) < 0.6 * sum(whole)
    assert all(some <= every for some, every in zip(again, whole, strict=True))
    assert max(again[len(again) // 2 :]) > 2 * min(again[len(again) // 2 :]), "now and then all is encoded"
    assert sum(a == b for a, b in zip(heard, expected, strict=True)) > 0.85 * len(heard)


def test_what_is_of_no_window_is_bit_for_bit_what_it_is_without_windows_beside_it(model, speech, heldout):
    finals = [clip for clip, _ in heldout[10:13]]
    expected, lengths = model.embed_audio(finals)
    for more in (0, STEP, 2 * STEP):
        clips = [finals[0], speech[: 16_000 * 9 + more], finals[1], speech[: 16_000 * 12 + more], finals[2]]
        request = model.request(clips, "<|audioplaceholder|>", None, windows=[None, "a", None, "b", None])
        assert [window is not None and window.tail is not None for window in request.growing] == [
            False, more > 0, False, more > 0, False
        ]  # fmt: skip
        with model.alone(), torch.inference_mode():
            rows, audio = model.rows(request)
            for i, row in enumerate((0, 2, 4)):
                got = audio[rows[row].frames[rows[row].frames >= 0]]
                if more:
                    assert torch.equal(got, expected[i][: lengths[i]])


def test_kept_frames_are_those_of_before_and_the_others_are_close_to_a_whole_window_s(model, speech):
    before, _ = model.embed_audio([speech[: 16_000 * 10]])
    whole, [length] = model.embed_audio([speech[: 16_000 * 11]])
    model.transcribe([speech[: 16_000 * 10]], max_new_tokens=1, windows=["w"])
    request = model.request([speech[: 16_000 * 11]], "<|audioplaceholder|>", None, windows=["w"])
    tail = request.growing[0].tail
    with model.alone(), torch.inference_mode():
        [row], audio = model.rows(request)
        got = audio[row.frames[row.frames >= 0]]
    assert len(got) == length == tail.end
    assert torch.equal(got[: tail.kept], before[0, : tail.kept])
    error = (got - whole[0, :length]).square().mean().sqrt() / whole[0, :length].square().mean().sqrt()
    assert 0 < error < 0.2


@pytest.mark.parametrize(
    ("before", "now"),
    [
        ("nothing", "the same"),
        ("another window", "the same"),
        ("other audio", "the same"),
        ("one other sample", "the same"),
        ("forgotten", "the same"),
        ("much less of it", "the same"),
        ("more of it", "little"),
        ("the whole of it", "no frame"),
    ],
)
def test_what_is_missing_or_does_not_fit_means_that_all_is_encoded(toy, speech, before, now):
    clip = {"the same": speech[: 16_000 * 8], "little": speech[: 16_000 * 2], "no frame": speech[:100]}[now]
    [expected] = toy.transcribe([clip])
    earlier = {
        "other audio": speech.flip(0)[: 16_000 * 7],
        "much less of it": speech[: 16_000 * 2],
        "the whole of it": speech[:16_000],
    }.get(before, speech[: 16_000 * 7]).clone()
    if before == "one other sample":
        earlier[16_000] += 0.01
    if before != "nothing":
        toy.transcribe([earlier], max_new_tokens=1, windows=["other" if before == "another window" else "w"])
    if before == "forgotten":
        toy.growing.forget(lambda window: window == "w")
    with encoded(toy) as frames:
        [heard] = toy.transcribe([clip], windows=["w"])
    toy.growing.forget(lambda _: True)
    assert sum(frames) == -(-(len(clip) // 160) // 8)
    assert heard == expected


def test_a_window_that_is_no_longer_as_long_uses_what_is_left_of_it(toy, speech):
    toy.transcribe([speech[: 16_000 * 10]], max_new_tokens=1, windows=["w"])
    with encoded(toy) as frames:
        [heard] = toy.transcribe([speech[: 16_000 * 9]], windows=["w"])
    toy.growing.forget(lambda _: True)
    assert frames == [growing.LEFT + growing.RIGHT]
    assert heard.text == toy.transcribe([speech[: 16_000 * 9]])[0].text


def test_memory_is_bounded_and_what_was_met_last_stays(nano, monkeypatch):
    monkeypatch.setattr(growing, "FRAMES_KEPT", 100)
    windows = GrowingWindows(160)
    clip = torch.randn(16_000 * 2)  # 25 frames, and one for its place
    for name in range(10):
        found = windows.look([[clip], [clip]], [name, "often"])
        windows.keep(found, torch.zeros(2, 32, 8), [25, 25])
        assert windows.size == sum(1 + len(kept.frames) for kept in windows.kept.values() if kept) <= 100
        assert all(kept.frames.untyped_storage().nbytes() == 25 * 8 * 4 for kept in windows.kept.values())
    assert list(windows.kept) == [8, 9, "often"]
    for name in range(1000):  # looked at, and then their call fails
        windows.look([[clip]], [("failed", name)])
        windows.keep(windows.look([[clip]], ["w"]), torch.zeros(1, 32, 8), [25])
        assert windows.size <= 100
    windows.forget(lambda _: True)
    assert windows.size == 0


def test_a_pass_for_tails_beside_whole_windows_has_to_save_more_than_it_costs():
    windows = GrowingWindows(160, worth_a_pass=100)
    clips = [[torch.randn(16_000 * 10)], [torch.randn(16_000 * 10)], [torch.randn(16_000)]]
    windows.keep(windows.look(clips[:2], ["a", "b"]), torch.zeros(2, 128, 8), [125, 125])

    def tails(rows, names):
        return [one is not None and one.tail is not None for one in windows.look(rows, names)]

    assert tails(clips[:1], ["a"]) == [True], "no pass more"
    assert tails(clips, ["a", "b", None]) == [True, True, False], "176 frames"
    assert tails(clips[1:], ["b", None]) == [False, False], "88"
    assert tails([*clips[1:], []], ["b", None, None]) == [False, False]


def test_a_window_forgotten_while_it_is_encoded_is_not_kept():
    windows = GrowingWindows(160)
    found = windows.look([[torch.zeros(16_000)], [torch.zeros(16_000)]], ["gone", "stays"])
    windows.forget(lambda window: window == "gone")
    windows.keep(found, torch.zeros(2, 16, 8), [13, 13])
    assert list(windows.kept) == ["stays"]


def test_rows_that_come_and_go_keep_their_windows_apart(model, toy, heldout):
    """Several windows grow side by side, in any order, with drafts; what stands is heard as it is alone."""
    clips = [torch.cat([clip for clip, _ in heldout[i : i + 3]]) for i in (0, 3)]
    alone = [toy.transcribe([clip], max_new_tokens=96)[0].token_ids for clip in clips]
    expected = [texts_of(toy, clip, ("alone", i)) for i, clip in enumerate(clips)]
    toy.growing.forget(lambda _: True)
    batch = ContinuousBatch(model, 4, longest_s=30.0, max_new_tokens=256)
    wanted: dict[int, int] = {}
    ends, heard = [STEP, STEP], [[], []]
    drafts: list[tuple[int, ...]] = [(), ()]
    while any(end < len(clip) for end, clip in zip(ends, clips, strict=True)) or batch.running:
        for i, clip in enumerate(clips):
            if i not in wanted.values() and ends[i] < len(clip):
                [ticket] = batch.add([clip[: ends[i]]], drafts=[drafts[i]], windows=[i])
                wanted[ticket] = i
        for ticket, found in batch.step().items():
            i = wanted.pop(ticket)
            heard[i].append(found.text)
            drafts[i], ends[i] = found.token_ids, ends[i] + STEP
    assert sum(
        a == b for one, other in zip(heard, expected, strict=True) for a, b in zip(one, other, strict=True)
    ) >= 0.97 * sum(map(len, expected))
    tickets = batch.add(clips)
    done = {}
    while batch.running:
        done |= batch.step()
    assert [done[ticket].token_ids for ticket in tickets] == alone


@pytest.mark.parametrize(
    ("clips", "windows", "said"),
    [
        ([np.zeros(1600)], [], "expected as many `windows` as rows, got 0 and 1"),
        ([[np.zeros(1600), np.zeros(1600)]], ["w"], "row 0: expected one clip in a window, got 2"),
    ],
)
def test_windows_that_do_not_fit_their_rows_are_refused(nano, clips, windows, said):
    prompt = "<|audioplaceholder|>" * (len(clips[0]) if isinstance(clips[0], list) else 1)
    with pytest.raises(ValueError, match=said):
        nano.transcribe(clips, prompt=prompt, windows=windows)


def test_a_call_of_tails_alone_and_one_of_text_beside_them(toy, speech):
    toy.transcribe([speech[: 16_000 * 8]], max_new_tokens=1, windows=["w"])
    prompts = ["Transcribe the following: <|audioplaceholder|>", "Say nothing."]
    clip = speech[: 16_000 * 9]
    heard, text = toy.transcribe([[clip], []], prompt=prompts, max_new_tokens=40, windows=["w", None])
    toy.growing.forget(lambda _: True)
    assert heard.text == toy.transcribe([clip], max_new_tokens=40)[0].text
    assert text.token_ids == toy.transcribe([[]], prompt=prompts[1], max_new_tokens=40)[0].token_ids
