"""Wan's decoder over a clip piece by piece in time, in the memory of one piece, whatever the clip's length.

Each causal layer remembers the last frames that it saw, so the pieces join without a seam: the frames are those of
diffusers' own way, latent frame by latent frame, but for rounding. It is faster on a processor, because convolutions
take fewer multiplications, a doubled picture is never convolved at its doubled size, and channels lie innermost.

Shape letters: B batch (always 1), C channels, T frames, H height, W width.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from homereel.kernels.causal_conv import CausalConv, empty_clip, in_layout
from homereel.kernels.upsample_conv import UpsampleConv
from homereel.models.wan.vae import unpatchify

SMALLEST = 1e-12  # of what a norm divides by, as torch.nn.functional.normalize has it


def decode_pieces(vae: Any, latents_BCTHW: Tensor, *, at_once: int) -> Iterator[Tensor]:
    """(1, 3, t, H, W), roughly in -1..1 and not clamped: the first frame alone, then the frames of `at_once` latent
    frames each. The latents are as the decoder takes them (mean and spread restored).
    """
    decoder = _Decoder(vae)
    start, stop = 0, 1
    while start < latents_BCTHW.shape[2]:
        with torch.inference_mode():
            piece = decoder(latents_BCTHW[:, :, start:stop])
        yield piece
        start, stop = stop, stop + at_once


class _Decoder:
    """One clip on its way through the decoder."""

    def __init__(self, vae: Any) -> None:
        self._vae = vae
        self._layers: dict[nn.Module, CausalConv] = {}
        self._doublers: dict[nn.Module, UpsampleConv] = {}
        self._is_first = True

    def __call__(self, latents: Tensor) -> Tensor:
        decoder, patch = self._vae.decoder, self._vae.config.patch_size
        x = self._conv(decoder.conv_in, self._conv(self._vae.post_quant_conv, in_layout(latents)))
        x = self._block(decoder.mid_block.resnets[0], x)
        for attention, resnet in zip(decoder.mid_block.attentions, decoder.mid_block.resnets[1:], strict=True):
            x = self._block(resnet, x if attention is None else _attend(attention, x))
        for block in decoder.up_blocks:
            x = self._up(block, x)
        x = self._conv(decoder.conv_out, x, norm=decoder.norm_out)
        self._is_first = False
        return x if patch is None else unpatchify(x, patch)

    def _conv(self, layer: nn.Conv3d, x: Tensor, *, norm: Any = None) -> Tensor:
        """A causal convolution, with a norm and SiLU before it if one is given."""
        if layer not in self._layers:
            self._layers[layer] = CausalConv(layer.weight, layer.bias)

        def fill(x: Tensor, room: Tensor) -> None:
            F.silu(_normalize(norm, x, out=room), inplace=True)

        return self._layers[layer](x, fill=None if norm is None else fill)

    def _block(self, block: Any, x: Tensor) -> Tensor:
        shortcut = x if isinstance(block.conv_shortcut, nn.Identity) else self._conv(block.conv_shortcut, x)
        inner = self._conv(block.conv1, x, norm=block.norm1)
        return self._conv(block.conv2, inner, norm=block.norm2).add_(shortcut)

    def _up(self, block: Any, x: Tensor) -> Tensor:
        """An up block of Wan 2.1, or a residual one of Wan 2.2."""
        main = x
        for resnet in block.resnets:
            main = self._block(resnet, main)
        if not hasattr(block, "avg_shortcut"):
            for layer in block.upsamplers or ():
                main = self._upsample(layer, main)
            return main
        if block.upsampler is not None:
            main = self._upsample(block.upsampler, main)
        return (
            main
            if block.avg_shortcut is None
            else _add_repeated(block.avg_shortcut, x, to=main, is_first=self._is_first)
        )

    def _upsample(self, layer: Any, x: Tensor) -> Tensor:
        """The clip's first frame stays one frame; each later one becomes two."""
        if layer.mode == "upsample3d" and not self._is_first:
            pairs = self._conv(layer.time_conv, x)
            b, c, t, h, w = x.shape
            x = empty_clip(x, (b, c, 2 * t, h, w))
            x[:, :, 0::2], x[:, :, 1::2] = pairs[:, :c], pairs[:, c:]
        return self._double(layer.resample, x)

    def _double(self, resample: Any, x: Tensor) -> Tensor:
        """Twice the height and width, each frame by itself."""
        frames, conv = x[0].transpose(0, 1), resample[1]
        if x.device.type != "cpu":
            doubled: Tensor = resample(frames)
            return doubled.transpose(0, 1)[None]
        if conv not in self._doublers:
            self._doublers[conv] = UpsampleConv(conv.weight, conv.bias)
        out = empty_clip(x, (1, conv.out_channels, len(frames), 2 * x.shape[3], 2 * x.shape[4]))
        self._doublers[conv](frames, out=out[0].transpose(0, 1))
        return out


def _normalize(norm: Any, x: Tensor, *, out: Tensor) -> Tensor:
    """Each place's channels to one length, as the layer has it but in two passes: (1, C, T, H, W).

    A processor multiplies numbers of one kind ten times as fast as of two, and its sums are float32 anyway.
    """
    on_cpu = x.device.type == "cpu"
    lengths = torch.linalg.vector_norm(x, dim=1, keepdim=True, dtype=None if on_cpu else torch.float32)
    shares = lengths.float().clamp_min_(SMALLEST).reciprocal_().mul_(norm.scale)
    torch.mul(x, shares.to(x.dtype) if on_cpu else shares, out=out)
    out.mul_(norm.gamma.view(-1, 1, 1, 1))
    return out.add_(norm.bias.view(-1, 1, 1, 1)) if isinstance(norm.bias, Tensor) else out


def _attend(block: Any, x: Tensor) -> Tensor:
    """Each frame's places attend to one another."""
    _, channels, frames, *size = x.shape
    normed = _normalize(block.norm, x, out=empty_clip(x, x.shape))
    places = normed[0].permute(1, 2, 3, 0).reshape(frames, 1, -1, channels)
    query, key, value = F.linear(places, block.to_qkv.weight.flatten(1), block.to_qkv.bias).chunk(3, dim=-1)
    attended = F.scaled_dot_product_attention(query, key, value)
    seen = F.linear(attended, block.proj.weight.flatten(1), block.proj.bias)
    return x + seen.view(frames, *size, channels).permute(3, 0, 1, 2)


def _add_repeated(shortcut: Any, x: Tensor, *, to: Tensor, is_first: bool) -> Tensor:
    """What the shortcut makes of `x` added to `to`, in place: pixels are repeated, and where there are fewer channels
    after it than before, these are spread over the copies.
    """
    times, fewer = shortcut.factor_t, x.shape[1] // to.shape[1]
    copies = list(product(range(times), (0, 1), (0, 1)))
    for index, (time, row, column) in enumerate(copies):
        if is_first and time < times - 1:
            continue
        which = index // shortcut.repeats
        target = to[:, :, 0 if is_first else time :: 1 if is_first else times, row::2, column::2]
        target.add_(x[:, which::fewer])
    return to
