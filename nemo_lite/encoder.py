"""The FastConformer encoder of Canary: log-mel frames to one vector per 80 ms.

NeMo's `ConformerEncoder` with `dw_striding` subsampling and full-context relative attention (Rekesh et al. 2023,
arXiv 2305.05084; Gulati et al. 2020, arXiv 2005.08100; Dai et al. 2019, arXiv 1901.02860, appendix B). Names follow the
checkpoint. Frames beyond a row's length never reach a valid frame, so a padded batch equals its rows one by one.

What is done differently for speed, with the same result to rounding: q, k and v are one product; the projected
relative positions are computed once at load (a shorter clip's table is the middle of a longer one's); the relative
shift is a strided view; 1x1 convolutions are linear layers; BatchNorm is folded into the convolution before it.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from nemo_lite.config import EncoderConfig
from nemo_lite.linear import FusedLinear

TABLE_FRAMES = 512
"""Relative positions are kept for clips up to here (41 s; the model was trained on <= 40 s)."""
CHUNK_ELEMENTS = 2**28
"""The first convolution's output is bounded to this many elements, by taking the rows of a batch in turns."""


def encoder_frames(mel_frames: int) -> int:
    """Three stride-2 convolutions: ceil(ceil(ceil(n / 2) / 2) / 2), which is ceil(n / 8); 0 stays 0."""
    return -(-mel_frames // 8)


class Subsampling(nn.Module):
    """[B, mels, T] -> [B, ceil(T / 8), d_model], frames beyond a row's length set to zero before every convolution."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        c = config.conv_channels
        self.conv = nn.Sequential(
            nn.Conv2d(1, c, 3, stride=2, padding=1),
            nn.ReLU(inplace=True),
            nn.Conv2d(c, c, 3, stride=2, padding=1, groups=c),
            nn.Conv2d(c, c, 1),
            nn.ReLU(inplace=True),
            nn.Conv2d(c, c, 3, stride=2, padding=1, groups=c),
            nn.Conv2d(c, c, 1),
            nn.ReLU(inplace=True),
        )
        self.out = nn.Linear(c * (config.mels // 8), config.d_model)
        self.channels = c

    def prepare(self) -> None:
        if self.out.weight.device.type == "cpu":  # measured there: twice as fast, row by row even more
            self.conv.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]

    def forward(self, mel: Tensor, lengths: Tensor) -> Tensor:
        rows = max(1, CHUNK_ELEMENTS // (self.channels * mel.shape[1] * mel.shape[2] // 4)) if mel.is_cuda else 1
        if rows < mel.shape[0]:
            chunks = zip(mel.split(rows), lengths.split(rows), strict=True)
            return torch.cat([self._convolve(*chunk) for chunk in chunks])
        return self._convolve(mel, lengths)

    def _convolve(self, mel: Tensor, lengths: Tensor) -> Tensor:
        x = mel.transpose(1, 2)[:, None]  # [B, 1, T, mels]
        if not x.is_cuda:
            x = x.contiguous(memory_format=torch.channels_last)
        for stage in (self.conv[:2], self.conv[2:5], self.conv[5:]):
            x = stage(x)  # [B, C, ~T/2, ~mels/2]
            lengths = torch.div(lengths + 1, 2, rounding_mode="floor")
            x.masked_fill_(torch.arange(x.shape[2], device=x.device)[:, None] >= lengths[:, None, None, None], 0.0)
        return self.out(x.transpose(1, 2).flatten(2))


class RelativeAttention(nn.Module):
    """softmax(((q + u) k^T + shift((q + v) p^T)) / sqrt(d_k)) v, with u and v learned per layer."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        d, self.heads = config.d_model, config.heads
        self.d_head = d // self.heads
        self.qkv = FusedLinear(d, {"linear_q": d, "linear_k": d, "linear_v": d}, bias=True)
        self.linear_pos = nn.Linear(d, d, bias=False)
        self.linear_out = nn.Linear(d, d)
        self.pos_bias_u = nn.Parameter(torch.empty(self.heads, self.d_head))
        self.pos_bias_v = nn.Parameter(torch.empty(self.heads, self.d_head))
        self.table = nn.Buffer(torch.empty(0), persistent=False)  # [H, d_k, 2 * TABLE_FRAMES]

    def project(self, positions: Tensor) -> Tensor:
        """[2T, d] -> [H, d_k, 2T]."""
        return self.linear_pos(positions).view(-1, self.heads, self.d_head).permute(1, 2, 0).contiguous()

    def forward(self, x: Tensor, positions: Tensor | None, key_bias: Tensor | None) -> Tensor:
        """Inputs x [B, T, d]; positions [2T, d], or None where the table reaches; key_bias [B, 1, 1, T] or None."""
        b, t, d = x.shape
        q, k, v = self.qkv(x).view(b, t, 3, self.heads, self.d_head).unbind(2)  # each [B, T, H, d_k]
        middle = self.table.shape[2] // 2
        p = self.table[:, :, middle - t : middle + t] if positions is None else self.project(positions)
        q_v = (q + self.pos_bias_v) * self.d_head**-0.5
        scores = q_v.permute(2, 0, 1, 3).reshape(self.heads, b * t, self.d_head) @ p  # [H, B * T, 2T]
        # Column c of `scores` is relative position T - c; query i wants i - j for key j, so it starts at column T - i:
        # one step less per row, which is a row stride one short of the row.
        shifted = scores.as_strided(
            (b, self.heads, t, t), (2 * t * t, 2 * t * t * b, 2 * t - 1, 1), scores.storage_offset() + t
        )
        bias = shifted if key_bias is None else shifted + key_bias
        out = F.scaled_dot_product_attention(
            (q + self.pos_bias_u).transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2), attn_mask=bias
        )  # [B, H, T, d_k]
        return self.linear_out(out.transpose(1, 2).reshape(b, t, d))


class Convolution(nn.Module):
    """1x1, GLU, depthwise over time, BatchNorm, SiLU, 1x1."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        d, k = config.d_model, config.conv_kernel
        self.pointwise_conv1 = nn.Conv1d(d, 2 * d, 1)
        self.depthwise_conv = nn.Conv1d(d, d, k, padding=k // 2, groups=d)
        self.batch_norm = nn.BatchNorm1d(d)
        self.pointwise_conv2 = nn.Conv1d(d, d, 1)
        self.kernel = nn.Buffer(torch.empty(0), persistent=False)  # depthwise_conv then batch_norm
        self.shift = nn.Buffer(torch.empty(0), persistent=False)

    def fold(self) -> None:
        conv, norm = self.depthwise_conv, self.batch_norm
        assert norm.running_mean is not None and norm.running_var is not None and conv.bias is not None  # noqa: S101, PT018
        scale = norm.weight.float() / torch.sqrt(norm.running_var.float() + norm.eps)
        self.kernel = (conv.weight.float() * scale[:, None, None]).to(conv.weight.dtype)
        shift = (conv.bias.float() - norm.running_mean.float()) * scale + norm.bias.float()
        self.shift = shift.to(conv.weight.dtype)

    def forward(self, x: Tensor, padded: Tensor | None) -> Tensor:
        """Inputs x [B, T, d]; padded [B, T, 1] true beyond a row's length, or None."""
        x = F.glu(F.linear(x, self.pointwise_conv1.weight[:, :, 0], self.pointwise_conv1.bias), dim=-1)
        if padded is not None:
            x = x.masked_fill(padded, 0.0)
        x = F.conv1d(x.transpose(1, 2), self.kernel, self.shift, padding=self.kernel.shape[2] // 2, groups=x.shape[2])
        x = F.silu(x, inplace=True).transpose(1, 2)
        return F.linear(x, self.pointwise_conv2.weight[:, :, 0], self.pointwise_conv2.bias)


class FeedForward(nn.Module):
    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.linear1 = nn.Linear(config.d_model, config.d_ff)
        self.linear2 = nn.Linear(config.d_ff, config.d_model)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear2(F.silu(self.linear1(x), inplace=True))


class ConformerLayer(nn.Module):
    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.norm_feed_forward1 = nn.LayerNorm(config.d_model)
        self.feed_forward1 = FeedForward(config)
        self.norm_self_att = nn.LayerNorm(config.d_model)
        self.self_attn = RelativeAttention(config)
        self.norm_conv = nn.LayerNorm(config.d_model)
        self.conv = Convolution(config)
        self.norm_feed_forward2 = nn.LayerNorm(config.d_model)
        self.feed_forward2 = FeedForward(config)
        self.norm_out = nn.LayerNorm(config.d_model)

    def forward(self, x: Tensor, positions: Tensor | None, key_bias: Tensor | None, padded: Tensor | None) -> Tensor:
        x = torch.add(x, self.feed_forward1(self.norm_feed_forward1(x)), alpha=0.5)
        x = x + self.self_attn(self.norm_self_att(x), positions, key_bias)
        x = x + self.conv(self.norm_conv(x), padded)
        x = torch.add(x, self.feed_forward2(self.norm_feed_forward2(x)), alpha=0.5)
        return self.norm_out(x)


class FastConformer(nn.Module):
    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.config = config
        self.pre_encode = Subsampling(config)
        self.layers = nn.ModuleList(ConformerLayer(config) for _ in range(config.layers))

    def prepare(self) -> None:
        """To be called once the weights are in place: fold BatchNorm, project the relative positions."""
        self.pre_encode.prepare()
        positions = self.positions(TABLE_FRAMES)
        for module in self.modules():
            if isinstance(module, Convolution):
                module.fold()
            elif isinstance(module, RelativeAttention):
                module.table = nn.Buffer(module.project(positions), persistent=False)

    def positions(self, frames: int) -> Tensor:
        """Sinusoids for relative positions frames ... -(frames - 1): [2 * frames, d], sin and cos interleaved.

        One row more than NeMo's table, so that its width suits matrix units; that row is never read.
        """
        d, like = self.config.d_model, self.pre_encode.out.weight
        steps = torch.arange(0, d, 2, device=like.device, dtype=torch.float32)
        inverse = torch.exp(steps * (-torch.log(torch.tensor(10000.0)).item() / d))
        angle = torch.arange(frames, -frames, -1, device=like.device, dtype=torch.float32)[:, None] * inverse
        return torch.stack([angle.sin(), angle.cos()], dim=-1).flatten(1).to(like.dtype)

    def forward(self, mel: Tensor, lengths: Tensor) -> Tensor:
        """Encode mel [B, mels, T], 0.0 beyond `lengths` [B] int64 mel frames -> [B, ceil(T / 8), d_model].

        Of row b the first ceil(lengths[b] / 8) frames mean something. No value is read back to the host on a GPU, so
        the call can be captured in a CUDA graph.
        """
        x = self.pre_encode(mel, lengths)
        t = x.shape[1]
        frames = torch.div(lengths + 7, 8, rounding_mode="floor")
        padded = key_bias = None
        if x.is_cuda or bool((frames < t).any()):
            outside = torch.arange(t, device=x.device) >= frames[:, None]  # [B, T]
            padded = outside[:, :, None]
            # a row without any frame still attends to its first, or its softmax would be 0 / 0
            hidden = outside & (torch.arange(t, device=x.device) > 0)
            key_bias = torch.zeros_like(hidden, dtype=x.dtype).masked_fill(hidden, float("-inf"))[:, None, None]
        positions = None if t <= TABLE_FRAMES else self.positions(t)
        for layer in self.layers:
            x = layer(x, positions, key_bias, padded)
        return x
