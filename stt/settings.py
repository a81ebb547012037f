"""Settings, one frozen dataclass per concern. Only the command line reads the environment."""

from dataclasses import dataclass, replace
from typing import Final, Literal, get_args

from stt.errors import SettingsError

EndOfTurnPolicy = Literal["auto", "silence", "meaning"]
Eagerness = Literal["fast", "medium", "careful"]
POLICIES: Final[tuple[EndOfTurnPolicy, ...]] = get_args(EndOfTurnPolicy)
EAGERNESSES: Final[tuple[Eagerness, ...]] = get_args(Eagerness)
_LONGEST_MEANT_S: Final = 3.0
"""Silence that ends a turn at the latest, where meaning decides and nothing else was said."""
# Three frames of the detector, which itself hears a silence about so much too late. Of 179 s of speech in 26 recordings
# 57 pauses were as long as that, and 53 as long as 0.2 s: few texts are asked for in vain.
_BEFORE_FLUSHES_S: Final = 0.09


@dataclass(frozen=True, slots=True)
class TurnSettings:
    """How sound becomes turns. Times in seconds."""

    speech_threshold: float = 0.5
    """Silence becomes speech at this probability or more."""
    silence_threshold: float = 0.35
    """Speech becomes silence below this probability."""
    pre_roll_s: float = 0.3
    """Sound kept from before the first speech frame, so that the first word is whole."""
    min_speech_s: float = 0.1
    """A turn with less speech than this (a click, a knock) is not worth a recognition: it ends empty."""
    interim_s: float | None = 0.5
    """New speech between two interim recognitions; `None`: finals only."""
    pause_s: float = 0.2
    """Silence after which the turn counts as paused."""
    speculative: bool = True
    """Recognize at the pause already, so that the final is there when the turn ends."""
    end_of_turn: EndOfTurnPolicy = "silence"
    """What ends a turn: `end_of_turn_s` of silence, or that it sounds and reads as if the speaker were done; `auto`:
    meaning where its weights are on this machine, else silence."""
    end_of_turn_s: float | None = 1.5
    """Silence that ends the turn where silence decides, also where meaning has no time to; `None`: only the client or
    the end of the stream does, whatever else is set."""
    eagerness: Eagerness = "medium"
    """How soon, where meaning decides: `fast` cuts in more often, `careful` less. It stands for these three numbers:"""
    eot_threshold: float | None = None
    """Probability that the speaker is done at which a turn ends; `None`: what the eagerness says."""
    eot_delay_s: float | None = None
    """No turn ends by meaning before so much silence."""
    eot_timeout_s: float | None = None
    """Silence that ends a turn whatever it means."""
    eager: bool = False
    """Tell at every pause how probable it is that the speaker is done, also before that could end the turn."""
    window_s: float = 24.0
    """Longest audio given to the engine at once (Canary-Qwen was trained on at most 40 s, Whisper sees 30 s)."""
    overlap_s: float = 5.0
    """Audio that two windows share where a long turn had to be cut without a pause."""

    def __post_init__(self) -> None:
        def check(holds: bool, expected: str, got: object) -> None:
            if not holds:
                msg = f"expected {expected}, got {got}"
                raise SettingsError(msg)

        low, high = self.silence_threshold, self.speech_threshold
        check(0 < low <= high < 1, "0 < silence_threshold <= speech_threshold < 1", f"{low} and {high}")
        check(0 <= self.pre_roll_s <= 5, "pre_roll_s of 0 to 5 seconds", self.pre_roll_s)
        check(0 <= self.min_speech_s <= 5, "min_speech_s of 0 to 5 seconds", self.min_speech_s)
        check(self.interim_s is None or 0.05 <= self.interim_s <= 60, "interim_s of 0.05 to 60 s", self.interim_s)
        check(0.05 <= self.pause_s <= 10, "pause_s of 0.05 to 10 seconds", self.pause_s)
        check(
            self.end_of_turn_s is None or self.pause_s <= self.end_of_turn_s <= 60,
            f"end_of_turn_s from pause_s ({self.pause_s}) to 60 seconds",
            self.end_of_turn_s,
        )
        check(self.end_of_turn in POLICIES, f"end_of_turn of {', '.join(POLICIES)}", self.end_of_turn)
        check(self.eagerness in EAGERNESSES, f"eagerness of {', '.join(EAGERNESSES)}", self.eagerness)
        threshold, delay, timeout = self.eot_threshold, self.eot_delay_s, self.eot_timeout_s
        check(threshold is None or 0 < threshold <= 1, "eot_threshold above 0, up to 1", threshold)
        check(delay is None or 0.05 <= delay <= 60, "eot_delay_s of 0.05 to 60 seconds", delay)
        check(
            timeout is None or self.pause_s <= timeout <= 60,
            f"eot_timeout_s from pause_s ({self.pause_s}) to 60 seconds",
            timeout,
        )
        check(
            delay is None or timeout is None or delay <= timeout,
            f"eot_delay_s up to eot_timeout_s ({timeout})",
            delay,
        )
        check(5 <= self.window_s <= 28, "window_s of 5 to 28 seconds", self.window_s)
        check(0 <= self.overlap_s <= self.window_s / 3, "overlap_s of 0 to a third of window_s", self.overlap_s)

    def after_silence(self, silence_s: float) -> "TurnSettings":
        """Return settings whose turns end after so much silence, whatever it means; they pause no later than that."""
        return replace(
            self, end_of_turn="silence", end_of_turn_s=silence_s, pause_s=min(self.pause_s, silence_s), eager=False
        )

    def before_flushes(self) -> "TurnSettings":
        """Return settings for clients that flush as soon as they hear a silence themselves, 0.2 s of it mostly.

        The text of a pause is asked for before that, so that the flush finds it under way, or there.
        """
        return replace(self, pause_s=min(self.pause_s, _BEFORE_FLUSHES_S))

    @property
    def longest_silence_s(self) -> float | None:
        """Silence by which a turn has ended whoever decides; `None`: there is none."""
        if self.end_of_turn == "silence" or self.end_of_turn_s is None:
            return self.end_of_turn_s
        return self.eot_timeout_s or max(self.end_of_turn_s, _LONGEST_MEANT_S)


@dataclass(frozen=True, slots=True)
class EngineSettings:
    """Which speech model, where it runs."""

    engine: str = "auto"
    """`whisper`, `canary-qwen`, or `auto`: canary-qwen where a GPU and its weights are there, else whisper."""
    model: str | None = None
    """A directory with weights or a hub id; `None`: the engine's default; `auto`: of Whisper's weights on this machine
    the most accurate that keep up with speech."""
    interim_model: str | None = None
    """Weights of a second model, for interims alone, named as `model` is: one that keeps up, so that `model` may take
    its time with what stands. `auto`: the most accurate of Whisper's here that keep up; `model="auto"` need not keep up
    then. `None`: one model does both."""
    model_dir: str | None = None
    """Where weights are, or are to be downloaded to; `None`: the shared Hugging Face cache."""
    device: str = "auto"
    """`cuda`, `cpu`, or `auto`: cuda where the engine can use it."""
    dtype: str = "auto"
    """What it computes in: `float32`, `bfloat16`, `float16`, `int8`, canary-qwen also `fp8`; `auto`: what suits the
    device."""
    kernels: str = "auto"
    """What canary-qwen computes with between its matrix products: `torch`, `triton` (fused, for CUDA), or `auto`: fused
    ones where they have shown that they are right."""
    fast_interims: bool = False
    """Whether interims of canary-qwen may use what was encoded for those before them: an approximation, less work."""
    threads: int = 0
    """CPU threads of the engine; 0: as many as this process may use cores."""
    language: str | None = "en"
    """What the weights have to know where they are chosen (`auto`); `None`: many languages."""
