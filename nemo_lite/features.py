"""16 kHz PCM to normalised log-mel frames, as NeMo's `AudioToMelSpectrogramPreprocessor` computes them in evaluation.

Always float32, whatever the model runs in. The mel filters and the window come out of the checkpoint: there they are
rounded to bfloat16, and NeMo computes with the rounded values. Fresh ones would move the mel by up to 0.25 RMS.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from nemo_lite.config import PreprocessorConfig

PRE_EMPHASIS = 0.97
LOG_GUARD = 2.0**-24
STD_GUARD = 1e-5


class AudioPreprocessor(nn.Module):
    """Pre-emphasis, STFT power, mel filters, log, per-feature normalisation over the valid frames."""

    def __init__(self, config: PreprocessorConfig) -> None:
        super().__init__()
        self.config = config
        self.fb = nn.Buffer(torch.zeros(1, config.mels, config.n_fft // 2 + 1))
        self.window = nn.Buffer(torch.zeros(config.window_samples))

    def frames(self, samples: int) -> int:
        """Valid frames of a clip. The STFT yields one more, which is always masked."""
        return samples // self.config.hop_samples

    def forward(self, audio: Tensor, samples: Tensor) -> Tensor:
        """Log-mel of a padded batch.

        audio [B, L] float32 in [-1, 1], samples [B] int64 valid samples per row -> mel [B, mels, L // hop + 1], where
        frames from `samples // hop` on are 0.0. A row without a whole frame is all zeros.
        """
        audio = torch.cat([audio[:, :1], audio[:, 1:] - PRE_EMPHASIS * audio[:, :-1]], dim=1)
        audio = audio.masked_fill(torch.arange(audio.shape[1], device=audio.device) >= samples[:, None], 0.0)
        spectrum = torch.stft(
            audio,
            self.config.n_fft,
            self.config.hop_samples,
            self.config.window_samples,
            self.window,
            center=True,
            pad_mode="constant",
            return_complex=True,
        )
        # NeMo takes the root and squares it again; so do we, for the last bit
        power = torch.view_as_real(spectrum).pow(2).sum(-1).sqrt().pow(2)
        mel = torch.log(self.fb @ power + LOG_GUARD)

        lengths = torch.div(samples, self.config.hop_samples, rounding_mode="floor")[:, None]  # [B, 1]
        valid = (torch.arange(mel.shape[2], device=mel.device) < lengths)[:, None]  # [B, 1, T]
        mean = torch.where(valid, mel, 0.0).sum(2) / lengths  # [B, mels]
        deviation = torch.where(valid, mel - mean[:, :, None], 0.0)
        std = torch.sqrt(deviation.pow(2).sum(2) / (lengths - 1.0))
        std = std.masked_fill(std.isnan(), 0.0) + STD_GUARD  # one frame: 0 / 0
        return ((mel - mean[:, :, None]) / std[:, :, None]).masked_fill(~valid, 0.0)


def resample(audio: Tensor, from_hz: int, to_hz: int = 16_000) -> Tensor:
    """Band-limited resampling of whole clips: audio [..., L] -> [..., ceil(L * to_hz / from_hz)].

    The Hann-windowed sinc kernel of `torchaudio.functional.resample` (width 6, roll-off 0.99), in plain torch so that
    nothing depends on torchaudio, whose last release imports next to a single release of torch only.
    """
    if from_hz == to_hz:
        return audio
    divisor = math.gcd(from_hz, to_hz)
    old, new = from_hz // divisor, to_hz // divisor
    cutoff = min(old, new) * 0.99
    half = math.ceil(6 * old / cutoff)
    phase = torch.arange(0, -new, -1, dtype=torch.float64)[:, None, None] / new  # [new, 1, 1]
    t = (phase + torch.arange(-half, half + old, dtype=torch.float64) / old) * cutoff
    t = t.clamp(-6, 6)
    kernel = torch.sinc(t) * torch.cos(t * math.pi / 12) ** 2 * (cutoff / old)
    rows = F.pad(audio.reshape(-1, 1, audio.shape[-1]), (half, half + old))
    out = F.conv1d(rows, kernel.to(audio), stride=old).transpose(1, 2).reshape(rows.shape[0], -1)
    return out[:, : math.ceil(audio.shape[-1] * new / old)].reshape(*audio.shape[:-1], -1)
