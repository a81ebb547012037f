"""Canary-Qwen: speech in, text out.

    waveforms -> log-mel -> FastConformer -> linear projection --+
    prompt -> token embeddings, with the audio frames in place --+--> Qwen3 + LoRA -> greedy tokens -> text

What NVIDIA NeMo's `SALM` (2.5 and later) computes for `nvidia/canary-qwen-2.5b`, without NeMo; see docs/nemo-lite.md
for how that is shown and where it differs.
"""

import logging
import math
import time
from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import product
from os import PathLike
from typing import TYPE_CHECKING, Self

import numpy as np
import torch
from torch import Tensor, nn

from nemo_lite import hub
from nemo_lite.alignment import Head
from nemo_lite.audio import Batch, Staging, Waveform, as_clip
from nemo_lite.config import CanaryQwenConfig, read_config
from nemo_lite.decode import GreedyDecoder
from nemo_lite.device import Gate, computing, default_dtype, numerics, to_device
from nemo_lite.encoder import TABLE_FRAMES, FastConformer, encoder_frames
from nemo_lite.features import AudioPreprocessor
from nemo_lite.graphs import Graphs
from nemo_lite.growing import PASS_FRAMES, GrowingWindows, cut, spliced
from nemo_lite.kernels import Wish, choose
from nemo_lite.language_model import LanguageModel
from nemo_lite.linear import Weights, check_fp8, quantize
from nemo_lite.llm import Qwen3
from nemo_lite.scoring import Scored, score
from nemo_lite.shapes import DRAFT_STEP, most_slots, up
from nemo_lite.state import TEXT, Decoded, Memory, Row
from nemo_lite.tokenizer import DEFAULT_PROMPT, ChatTokenizer
from nemo_lite.transcription import Piece, Request, Transcription
from nemo_lite.weights import load_weights

if TYPE_CHECKING:
    from pathlib import Path

LOGGER = logging.getLogger(__name__)

LOUDEST = 100.0
"""Samples belong in [-1, 1]; a little more is bad mastering, this much is another unit."""
FRAME_STEP = 16
"""Under static shapes, clips are padded to multiples of this many encoder frames (1.28 s)."""
PROMPT_TOKENS = 64
"""Tokens around the audio that a `ContinuousBatch` has room for, unless it is told otherwise."""
GRAPH_FRAMES = 8192
"""An encoder pass over more frames than this keeps the device busy without a graph."""


class CanaryQwen(nn.Module):
    """One loaded model. Calls are serialised by a lock; the weights are never written after loading."""

    def __init__(self, config: CanaryQwenConfig, tokenizer: ChatTokenizer) -> None:
        """The modules alone, without weights; use `from_pretrained`."""
        super().__init__()
        self.config = config
        self.tokenizer = tokenizer
        self.preprocessor = AudioPreprocessor(config.preprocessor)
        self.encoder = FastConformer(config.encoder)
        self.proj = nn.Linear(config.encoder.d_model, config.llm.hidden)
        self.llm = Qwen3(config.llm)
        self.embed_tokens = nn.Embedding(config.llm.vocab, config.llm.hidden)
        self.checkpoint: Path | None = None
        """Where its weights were read from."""
        self.requires_grad_(requires_grad=False).eval()

    @classmethod
    def from_pretrained(
        cls,
        path_or_hub_id: str | PathLike[str] = "nvidia/canary-qwen-2.5b",
        device: str | torch.device | None = None,
        dtype: torch.dtype | None = None,
        *,
        weights: Weights | None = None,
        kernels: Wish = "auto",
    ) -> Self:
        """Load from a local directory, or from the hub's cache, downloading what is not there.

        A directory holds the checkpoint's `config.json` and `model.safetensors`, either itself or in `checkpoint/`, and
        the language model's config and tokenizer in `llm/` inside or beside it (otherwise they come from the hub).
        `device` defaults to "cuda" if there is one; `dtype` to bfloat16 on CUDA (float16 where the GPU lacks it) and
        float32 on a CPU. `weights` keeps those of the linear layers in 8 bits (`linear.py`); `kernels`: see
        `kernels.choose`. Raises ModelNotFoundError, CheckpointError, DownloadError or KernelsError, each saying what to
        do.
        """
        files = hub.locate(path_or_hub_id) or hub.download(str(path_or_hub_id))
        device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        config = read_config(files.checkpoint, files.llm)
        dtype = dtype or default_dtype(device)
        if weights == "fp8":
            check_fp8(device, dtype)  # before gigabytes are read
        model = cls.empty(config, ChatTokenizer(files.llm, config.audio_tag), device, dtype)
        load_weights(model, files.checkpoint / "model.safetensors")
        model.checkpoint = files.checkpoint
        model.llm.kernels = choose(kernels, config.llm, model.dtype, device)
        return model.prepare(weights=weights)

    @classmethod
    def empty(
        cls, config: CanaryQwenConfig, tokenizer: ChatTokenizer, device: torch.device, dtype: torch.dtype
    ) -> Self:
        """The model with its memory allocated on `device` but not filled; `prepare()` is due once it is."""
        with torch.device("meta"):
            model = cls(config, tokenizer)
        for part in (model.encoder, model.proj, model.llm, model.embed_tokens):
            part.to(dtype)
        return model.to_empty(device=device)  # the preprocessor stays float32

    @torch.no_grad()
    def prepare(
        self, *, static: bool | None = None, graphs: Graphs | None = None, weights: Weights | None = None
    ) -> Self:
        """To be called once, when the weights are in place: merge, fold, quantize if asked, set up decoding.

        `static` shapes and `graphs` default to what the device wants; tests turn them on without one.
        """
        with numerics():  # what is merged is so in float32, whatever the process has set
            self.encoder.prepare()
            self.llm.prepare()
            self.weights = weights
            if weights:
                quantize(self, weights)
        self.static = self.device.type == "cuda" if static is None else static
        self.encoder_graphs = graphs or Graphs.on(self.device)
        self.decoder = GreedyDecoder(
            self.llm,
            self.embed_tokens.weight,
            self.tokenizer.eos_id,
            Graphs(self.encoder_graphs.capture),
            static=self.static,
        )
        self.language_model = LanguageModel(self)
        self.staging = Staging(pinned=self.device.type == "cuda")
        self.growing = GrowingWindows(self.config.preprocessor.hop_samples, PASS_FRAMES if self.static else 0)
        self.gate = Gate()
        return self

    @contextmanager
    def alone(self, *, background: bool = False) -> Iterator[None]:
        """One call at a time, on this model's GPU, whichever is the caller's, computing as it should.

        One in the background goes when nobody else wants to; while rows are running, after some of their passes.
        """
        with self.gate(background=background, busy=lambda: bool(self.decoder.running)), computing(self.device):
            yield

    @property
    def device(self) -> torch.device:
        return self.embed_tokens.weight.device

    @property
    def dtype(self) -> torch.dtype:
        return self.embed_tokens.weight.dtype

    @torch.inference_mode()
    def transcribe(
        self,
        waveforms: Sequence[Waveform | Sequence[Waveform]],
        *,
        prompt: str | Sequence[str] = DEFAULT_PROMPT,
        max_new_tokens: int = 256,
        drafts: Sequence[Sequence[int] | None] | None = None,
        timed: Sequence[bool] | None = None,
        remembered: Sequence[bool] | None = None,
        windows: Sequence[Hashable | None] | None = None,
    ) -> list[Transcription]:
        """Transcribe a batch of clips of any lengths, greedily.

        waveforms: one clip per row, or, for a prompt with N audio placeholders, a sequence of N clips per row.
        prompt: the user's turn, for all rows or one per row; every placeholder takes a clip, in order.
        drafts: token ids expected per row, e.g. those of the previous hypothesis. They are scored in one pass and the
            longest prefix that greedy decoding gives is kept, so a draft changes the time taken and never the result
            (in float32; in bfloat16 as far as a pass of many tokens rounds like a pass of one).
        timed: for which rows to give `attention` as well (after `align_with`); changes nothing else.
        remembered: for which rows to give `memory` as well; changes nothing else.
        windows: for rows of one clip that has been transcribed before as far as it went, by what name; what was encoded
            then is used again where that is worth it. An approximation (`growing.py`), of these rows alone.
        Raises ValueError for audio that is not one-dimensional, floating point, finite and within reason, for a number
        of clips, prompts or drafts that does not fit, and for token ids outside the vocabulary.
        """
        _at_least_one(max_new_tokens)
        if (request := self.request(waveforms, prompt, drafts, timed, remembered, windows)) is None:
            return []
        with self.alone():
            decoded = self.decoder.decode(*self.rows(request), max_new_tokens)
        return [self.transcription(row) for row in decoded]

    def request(
        self,
        waveforms: Sequence[Waveform | Sequence[Waveform]],
        prompt: str | Sequence[str],
        drafts: Sequence[Sequence[int] | None] | None,
        timed: Sequence[bool] | None = None,
        remembered: Sequence[bool] | None = None,
        windows: Sequence[Hashable | None] | None = None,
    ) -> "Request | None":
        """Check what `transcribe` is given and put it in order on the host, without the model; `None`: no rows."""
        if isinstance(waveforms, (np.ndarray, Tensor)) and waveforms.ndim < 2:
            raise ValueError("expected a sequence of clips, got one clip; put it into a list")
        rows = [[row] if isinstance(row, (np.ndarray, Tensor)) else list(row) for row in waveforms]
        if not rows:
            return None
        clips = [[as_clip(clip, f"row {i}") for clip in row] for i, row in enumerate(rows)]
        prompts = [prompt] * len(rows) if isinstance(prompt, str) else list(prompt)
        drafts = [None] * len(rows) if drafts is None else drafts
        if not len(rows) == len(prompts) == len(drafts):
            raise ValueError(
                f"expected as many prompts and drafts as rows, got {len(rows)}, {len(prompts)}, {len(drafts)}"
            )
        tokens = [self.tokenizer.prompt(content) for content in prompts]
        for i, (row, ids) in enumerate(zip(clips, tokens, strict=True)):
            if (places := ids.count(self.tokenizer.audio_id)) != len(row):
                raise ValueError(f"row {i}: expected {places} clips, one per placeholder in its prompt, got {len(row)}")
        checked = [self._draft(draft, i) for i, draft in enumerate(drafts)]
        named = [(f"row {i}", clip) for i, row in enumerate(clips) for clip in row]
        lengths = [encoder_frames(self.preprocessor.frames(len(clip))) for _, clip in named]
        wanted = [_for_rows("timed", timed, len(rows)), _for_rows("remembered", remembered, len(rows))]
        if any(wanted[0]) and self.decoder.aligner is None:
            raise ValueError("expected a model with an aligning head, for rows that are `timed`; see `align_with`")
        growing = self.growing.look(clips, windows)
        again = [window is not None and window.tail is not None for window in growing]

        def load(*, tails: bool) -> Batch | None:
            some = [one for one, is_tail in zip(named, again, strict=True) if is_tail == tails]
            return self._load([clip for _, clip in some], [name for name, _ in some]) if some else None

        loaded = load(tails=False), load(tails=True)
        return Request(tokens, checked, lengths, list(zip(*wanted, strict=True)), *loaded, growing)

    def rows(self, request: "Request") -> tuple[list[Row], Tensor]:
        """Encode the audio of a request: what the decoder takes. Within `alone`, and valid until the next request."""
        audio = self._embed(request.batch)
        if any(request.growing):
            audio = self._grown(request, audio)
        starts = range(0, len(request.lengths) * audio.shape[1], audio.shape[1])
        places = iter(zip(starts, request.lengths, strict=True))
        each = zip(request.tokens, request.drafts, request.wanted, strict=True)
        rows = [self._row(ids, places, draft, *wanted) for ids, draft, wanted in each]
        return rows, audio.flatten(0, 1)

    @torch.inference_mode()
    def score(self, memories: Sequence[Memory], answers: Sequence[Sequence[int]]) -> list[Scored]:
        """What the model thinks of answers that it need not have given, as token ids: one pass for some rows.

        memories: what was heard, of transcriptions that were `remembered`; one may be there more than once.
        Raises ValueError for another number of answers, an empty one, and token ids outside the vocabulary.
        """
        if len(memories) != len(answers) or not all(answers):
            raise ValueError(f"expected {len(memories)} answers, one per memory and none empty, got {len(answers)}")
        for i, answer in enumerate(answers):
            self._in_vocabulary(answer, f"row {i}: expected token ids")
        with self.alone():
            return score(self.decoder, memories, answers)

    def align_with(self, head: Head | None) -> None:
        """Keep what this head asks from now on, so that rows can be `timed`; graphs are captured anew."""
        with self.alone():
            self.decoder.align_with(head)

    def generate_text(self, prompt: str, *, max_new_tokens: int = 512, adapter: bool = False) -> Transcription:
        """Answer a prompt without audio, with the adapter off: the language model as it was ("LLM mode").

        The answer alone, without the prompt; what is to be transcribed meanwhile goes first. Raises ValueError if the
        prompt has an audio placeholder.
        """
        tokens = self.tokenizer.prompt(prompt)
        if self.tokenizer.audio_id in tokens:
            raise ValueError(f"expected a prompt without {self.tokenizer.audio_tag}: this mode takes no audio")
        _at_least_one(max_new_tokens)
        *_, ids = self.language_model.generate(tokens, max_new_tokens, adapter=adapter)
        return self.transcription(ids)

    @torch.inference_mode()
    def warm_up(
        self,
        batches: Sequence[int] = (1,),
        *,
        longest_s: float = 30.0,
        max_new_tokens: int = 256,
        draft: int = 0,
        largest: int = 1,
        rows: int = 0,
        budget_s: float = math.inf,
        progress: Callable[[int, int], None] | None = None,
    ) -> None:
        """Meet every shape up to `longest_s` for these batch sizes, so that no caller waits for its graph or memory.

        `max_new_tokens` as it will be used; `draft`: also with drafts of up to so many tokens; `largest`: a batch that
        will come as well, not worth graphs of its own, but memory, which growing later would cost all graphs; `rows`:
        those of a `ContinuousBatch` for `longest_s`. Without static shapes (on a CPU) one short run suffices.

        Afterwards no graph is captured any more, until `forget_shapes`: a shape that was not met runs without one, also
        where `budget_s` seconds did not suffice for all. `progress(done, of)` is called after each shape.
        """
        hop, longest = self.config.preprocessor.hop_samples, self.most_frames(longest_s)
        sizes = range(FRAME_STEP, longest + FRAME_STEP, FRAME_STEP) if self.static else range(1, 2)
        widths = range(0, up(draft, DRAFT_STEP) + 1, DRAFT_STEP)
        tokens = self.tokenizer.prompt(DEFAULT_PROMPT)

        def meet(batch: int, frames: int, width: int, steps: int) -> None:
            # the shortest draft of that width: with it, the most spans lie ahead
            draft = tuple([0] * max(0, width - DRAFT_STEP + 1))
            samples = self._load([torch.zeros(frames * 8 * hop)] * batch)
            each = [tokens] * batch, [draft] * batch, [frames] * batch, [(False, False)] * batch
            rows = self.rows(Request(*each, samples))
            self.decoder.decode(*rows, max_new_tokens, rehearse=min(steps, max_new_tokens - 1))

        # The largest first, for it sizes the cache; then the smallest, which come most often.
        shapes: list[Callable[[], None]] = []
        for batch, frames, width in product(sorted(set(batches)), reversed(sizes), widths):
            # The first two widths meet the steps, without and with a draft: two here, and from the longest prompt
            # as many as there can be.
            steps = 0 if width > DRAFT_STEP else max_new_tokens if frames == sizes[-1] else 2
            shapes.append(partial(meet, batch, frames, width, steps))
        if self.static:  # more rows than ever begin together: of those only the steps are met
            more = [1 << i for i in range(rows.bit_length()) if max(batches) < 1 << i]
            shapes[:0] = [partial(self.decoder.rehearse, size, max_new_tokens) for size in more]
        began = time.monotonic()
        with self.alone():
            self.llm.kernels.meet(self.config.llm, self.dtype, self.device)
            if rows:
                self.decoder.reserve(rows, most_slots(longest + PROMPT_TOKENS, max_new_tokens))
            most = partial(meet, max(*batches, largest), sizes[-1], widths[-1], 0)
            with self.encoder_graphs.paused(), self.decoder.graphs.paused():
                most()
            for done, shape in enumerate(shapes):
                if time.monotonic() - began >= budget_s:
                    LOGGER.warning("warm-up: %d of %d shapes met in %.0f s", done, len(shapes), budget_s)
                    break
                shape()
                if progress is not None:
                    progress(done + 1, len(shapes))
            self.encoder_graphs.sealed = self.decoder.graphs.sealed = True
            if self.static:  # once more, beside all the graphs: what does not fit any more should be known now
                most()

    def most_frames(self, longest_s: float) -> int:
        """Encoder frames of a clip of so many seconds."""
        return encoder_frames(self.preprocessor.frames(int(longest_s * self.config.preprocessor.sample_rate)))

    def forget_shapes(self) -> None:
        """Give back what was kept for shapes met so far: graphs with the memory they share, and the cache's memory."""
        with self.alone():
            self.decoder.forget()
            self.decoder.graphs.sealed = False
            self.encoder_graphs.renew()  # the pool is the decoder's as well

    @torch.inference_mode()
    def embed_audio(self, waveforms: Sequence[Waveform]) -> tuple[Tensor, list[int]]:
        """What the language model hears: [B, T, hidden], of which row b's first lengths[b] frames mean something."""
        clips = [as_clip(clip, f"row {i}") for i, clip in enumerate(waveforms)]
        batch = self._load(clips) if clips else None
        with self.alone():
            audio = self._embed(batch)
            # A graph's own memory, it may be, which the next call writes again.
            return audio[: len(clips)].clone(), [encoder_frames(self.preprocessor.frames(len(clip))) for clip in clips]

    def mel(self, clips: Sequence[Tensor] | Batch) -> tuple[Tensor, Tensor]:
        """Log-mel of clips on the host: [B, mels, T] float32 and [B] valid frames, on the model's device.

        T is the longest clip's length, rounded up where shapes are static.
        """
        batch = clips if isinstance(clips, Batch) else self._load(clips)
        samples = to_device(batch.samples, self.device)
        mel = self.preprocessor(to_device(batch.audio, self.device), samples)
        self.staging.give_back(batch)
        hop = self.config.preprocessor.hop_samples
        return mel[:, :, : batch.audio.shape[1] // hop], torch.div(samples, hop, rounding_mode="floor")

    def _load(self, clips: Sequence[Tensor], names: Sequence[str] = ()) -> Batch:
        mel_frames = max(1, *(self.preprocessor.frames(len(clip)) for clip in clips))
        rows, padded = self._shape(len(clips), encoder_frames(mel_frames))
        frames, hop = 8 * padded if self.static else mel_frames, self.config.preprocessor.hop_samples
        longest = frames * hop + hop - 1  # of so many frames
        return self.staging.load(clips, rows, longest, loudest=LOUDEST, names=names)

    def _shape(self, clips: int, frames: int) -> tuple[int, int]:
        """Rows and encoder frames of a batch for so many clips of up to so many frames."""
        return (1 << (clips - 1).bit_length(), up(frames, FRAME_STEP)) if self.static else (clips, frames)

    def _embed(self, batch: Batch | None) -> Tensor:
        """[B, T, hidden]; valid until the next call."""
        if batch is None:
            return torch.zeros(1, 1, self.config.llm.hidden, dtype=self.dtype, device=self.device)
        return self._encode(*self.mel(batch))

    def _encode(self, mel: Tensor, mel_lengths: Tensor) -> Tensor:
        """Likewise, of mel [B, mels, T]."""

        def encode(mel: Tensor, mel_lengths: Tensor) -> tuple[Tensor, ...]:
            return (self.proj(self.encoder(mel.to(self.dtype), mel_lengths)),)

        frames = mel.shape[0] * encoder_frames(mel.shape[2])
        if frames <= GRAPH_FRAMES and encoder_frames(mel.shape[2]) <= TABLE_FRAMES:
            [audio] = self.encoder_graphs(("encode", *mel.shape), encode, mel, mel_lengths)
        else:
            [audio] = encode(mel, mel_lengths)
        return audio

    def _grown(self, request: Request, audio: Tensor) -> Tensor:
        """[B, T, hidden] of all clips, where `audio` is that of those that were encoded as a whole."""
        if request.tails is not None:
            some = [window for window in request.growing if window is not None and window.tail is not None]
            longest = max(window.tail.frames for window in some if window.tail is not None)
            audio = audio.clone()  # the next pass of the encoder may write there
            again = self._encode(*cut(self.mel(request.tails)[0], some, *self._shape(len(some), longest)))
            shape = self._shape(len(request.lengths), max(request.lengths))
            audio = spliced(audio, again, request.growing, request.lengths, *shape)
        self.growing.keep(request.growing, audio, request.lengths)
        return audio

    def _row(self, tokens: list[int], places: Iterator[tuple[int, int]], draft: tuple[int, ...], *wanted: bool) -> Row:
        """Put the frames of one clip after the other (where they start, how many) in the place of the placeholders."""
        ids: list[int] = []
        frames: list[int] = []
        for token in tokens:
            if token == self.tokenizer.audio_id:
                start, length = next(places)
                ids += [0] * length
                frames += range(start, start + length)
            else:
                ids.append(token)
                frames.append(TEXT)
        return Row(np.array(ids, dtype=np.int64), np.array(frames, dtype=np.int64), draft, *wanted)

    def _draft(self, draft: Sequence[int] | None, row: int) -> tuple[int, ...]:
        tokens = tuple(int(token) for token in draft) if draft is not None else ()
        self._in_vocabulary(tokens, f"row {row}: expected draft ids")
        end = tokens.index(self.tokenizer.eos_id) if self.tokenizer.eos_id in tokens else len(tokens)
        return tokens[:end]  # nothing comes after the end, and the end itself is scored without being asked

    def _in_vocabulary(self, tokens: Sequence[int], expected: str) -> None:
        if wrong := [token for token in tokens if not 0 <= token < self.config.llm.vocab]:
            raise ValueError(f"{expected} in 0 ... {self.config.llm.vocab - 1}, got {wrong[:5]}")

    def transcription(self, decoded: Decoded) -> Transcription:
        """What was decoded, as text."""
        ended = bool(decoded.ids) and decoded.ids[-1] == self.tokenizer.eos_id
        stop = "overflow" if decoded.overflowed else "eos" if ended else "length"
        counts = decoded.draft_kept, decoded.forwards
        said = self.tokenizer.decode(decoded.ids), tuple(decoded.ids), tuple(decoded.logprobs)
        return Transcription(*said, stop, *counts, decoded.attention, decoded.memory)

    def pieces(self, transcription: Transcription) -> list[Piece]:
        """The text as its tokens make it, in pieces of whole characters."""
        pieces: list[Piece] = []
        first, pending = 0, 0.0
        for i, logprob in enumerate(transcription.logprobs):
            pending += logprob
            text = self.tokenizer.decode(list(transcription.token_ids[first : i + 1]))
            if not text or text.endswith("\ufffd"):  # the end token, or a part of a character: it counts with the rest
                continue
            pieces.append(Piece(text, first, i + 1, math.exp(pending)))
            first, pending = i + 1, 0.0
        return pieces

    def words(self, transcription: Transcription) -> list[tuple[str, float]]:
        """The words of a transcription, each with its probability: the product of its tokens'."""
        words: list[tuple[str, float]] = []
        for piece in self.pieces(transcription):
            if piece.text[0].isspace() or not words:
                words.append((piece.text.strip(), piece.probability))
            else:
                words[-1] = (words[-1][0] + piece.text, words[-1][1] * piece.probability)
        return words


def _for_rows(name: str, wanted: Sequence[bool] | None, rows: int) -> list[bool]:
    """Whether something is wanted, for each row; `None`: for none."""
    if wanted is None:
        return [False] * rows
    if len(wanted) != rows:
        raise ValueError(f"expected as many `{name}` as rows, got {len(wanted)} and {rows}")
    return [bool(want) for want in wanted]


def _at_least_one(max_new_tokens: int) -> None:
    if max_new_tokens < 1:
        raise ValueError(f"expected max_new_tokens of at least 1, got {max_new_tokens}")
