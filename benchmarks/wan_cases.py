"""What the GPU benchmark runs: Wan's published shapes, sizes of clips, variants, and what a forward has to compute.

Shape letters: L tokens of the picture, S tokens of the text, D features, F features of the feed-forward part.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Size:
    """One network; heads have 128 features in both published sizes."""

    num_heads: int
    head_size: int
    feed_forward: int
    num_layers: int
    text_tokens: int = 512
    text_features: int = 4096
    time_features: int = 256
    channels: int = 16

    @property
    def features(self) -> int:
        return self.num_heads * self.head_size

    @property
    def config(self) -> dict[str, Any]:
        """As diffusers' WanTransformer3DModel takes it."""
        return {
            "num_attention_heads": self.num_heads,
            "attention_head_dim": self.head_size,
            "in_channels": self.channels,
            "out_channels": self.channels,
            "text_dim": self.text_features,
            "freq_dim": self.time_features,
            "ffn_dim": self.feed_forward,
            "num_layers": self.num_layers,
        }


@dataclass(frozen=True)
class Resolution:
    """Pixels and frames of a clip; latents are an eighth of a side, and a quarter of the frames plus one."""

    width: int
    height: int
    num_frames: int

    @property
    def latents(self) -> tuple[int, int, int]:
        """Frames, height, width."""
        return (self.num_frames - 1) // 4 + 1, self.height // 8, self.width // 8

    @property
    def num_tokens(self) -> int:
        """The transformer takes patches of 1 x 2 x 2."""
        frames, height, width = self.latents
        return frames * (height // 2) * (width // 2)


SIZES = {"1.3B": Size(12, 128, 8960, 30), "14B": Size(40, 128, 13824, 40)}
RESOLUTIONS = {"480p": Resolution(832, 480, 81), "720p": Resolution(1280, 720, 81)}
TOY_SIZES = {"toy": Size(2, 64, 320, 2, text_tokens=16, text_features=32, time_features=32)}
TOY_RESOLUTIONS = {"toy": Resolution(96, 96, 9)}

# A clip keeps its first layers and steps dense; here every layer of a step is sparse, to see what a step costs then.
SLA_10 = "sparse_attention:0.1:first_layers=0:first_steps=0"
SLA_15 = "sparse_attention:0.15:first_layers=0:first_steps=0"
SLA_10_8, SLA_15_8 = f"{SLA_10}:eight_bit=yes", f"{SLA_15}:eight_bit=yes"
VARIANTS = {
    "dense": "",
    "dense, compile": "compile",
    "norms": "fused_norms",
    "norms, compile": "fused_norms,compile",
    "int8": "fused_norms,int8",
    "fp8": "fused_norms,fp8",
    "sla15": f"{SLA_15},fused_norms",
    "sla10": f"{SLA_10},fused_norms",
    "sla15 8-bit": f"{SLA_15_8},fused_norms",
    "sla10 8-bit": f"{SLA_10_8},fused_norms",
    "sla15, int8": f"{SLA_15},fused_norms,int8",
    "sla10, int8": f"{SLA_10},fused_norms,int8",
    "sla10, fp8": f"{SLA_10},fused_norms,fp8",
    "sla15 8-bit, int8": f"{SLA_15_8},fused_norms,int8",
    "sla10 8-bit, int8": f"{SLA_10_8},fused_norms,int8",
    "sla10 8-bit, fp8": f"{SLA_10_8},fused_norms,fp8",
    "sla10, int8, compile": f"{SLA_10},fused_norms,int8,compile",
    "sla10, fp8, compile": f"{SLA_10},fused_norms,fp8,compile",
    "sla10 8-bit, int8, compile": f"{SLA_10_8},fused_norms,int8,compile",
    "sla10 8-bit, fp8, compile": f"{SLA_10_8},fused_norms,fp8,compile",
}
VAE_VARIANTS = ("vae", "vae, channels last")

_ELEMENTWISE_PASSES = 21
"""Reads and writes of (L, D) a block that no matrix product can take along, each operation fused into one kernel: the
three norms 2 each; q and k of the picture, normed and turned, 4, and q of the words 2; three sums with what went
around, gated, 3 each."""


@dataclass(frozen=True)
class Work:
    """Floating-point operations of one forward by number format, and bytes of elementwise work in two-byte numbers.

    `attention_formats` are those of its two products, which are equal in size; none is the format of all that is not
    quantised.
    """

    linear: float
    attention: float
    linear_format: str = "bf16"
    attention_formats: tuple[str, ...] = ()
    other: float = 0.0  # linears outside the blocks, and attention to words: never quantised
    elementwise_bytes: float = 0.0

    def by_format(self, base: str = "bf16") -> dict[str, float]:
        """Operations a number format, where what is not quantised is in `base`."""
        flops = {base: self.other}
        attention = self.attention_formats or (base,)
        chosen = base if self.linear_format == "bf16" else self.linear_format
        for name, part in ((chosen, self.linear), *((name, self.attention / len(attention)) for name in attention)):
            flops[name] = flops.get(name, 0.0) + part
        return flops


def forward_work(size: Size, *, num_tokens: int, passes: str = "", block_keys: int = 64) -> Work:
    """What one forward with these passes has to compute, kept blocks alone where attention is sparse.

    Attention in 8 bits is counted as GPUs with fp8 have it: queries with keys in int8, then values in fp8.
    """
    L, S, D, F = num_tokens, size.text_tokens, size.features, size.feed_forward
    in_blocks = 2 * (6 * L * D * D + 2 * S * D * D + 2 * L * D * F)  # q, k, v, o; q, k, v, o of words; feed-forward
    patch = 4 * size.channels
    outside = 2 * (2 * L * patch * D + S * (size.text_features * D + D * D) + size.time_features * D + 7 * D * D)
    words = 4 * L * S * D * size.num_layers
    names = [each.split(":") for each in passes.split(",") if each]
    ratio = next((float(name[1]) for name in names if name[0] == "sparse_attention"), 1.0)
    blocks = -(-L // block_keys)
    kept = max(1, int(ratio * blocks)) / blocks
    eight_bit = [name[0] for name in names if name[0] in ("int8", "int8_block", "fp8")]
    return Work(
        linear=in_blocks * size.num_layers,
        attention=4 * L * L * D * size.num_layers * kept,
        linear_format=eight_bit[0].partition("_")[0] if eight_bit else "bf16",
        attention_formats=("int8", "fp8") if any("eight_bit=yes" in name for name in names) else (),
        other=outside + words,
        elementwise_bytes=2.0 * _ELEMENTWISE_PASSES * L * D * size.num_layers,
    )


def floor_seconds(work: Work, ceilings: dict[str, Any], *, base: str = "bf16") -> tuple[float | None, float | None]:
    """Seconds that matrix products, and elementwise work, take at the ceilings measured; None where one is missing."""
    matrix: float | None = 0.0
    for name, flops in work.by_format(base).items():
        rate = ceilings.get(f"{name}_tflops")
        matrix = None if matrix is None or rate is None else matrix + flops / (rate * 1e12)
    memory = ceilings.get("copy_gb_per_second")
    return matrix, work.elementwise_bytes / (memory * 1e9) if memory else None
