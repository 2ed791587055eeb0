"""TurboWan's files, made without any of homereel or diffusers: their names and shapes, and what they compute.

Written from the makers' description of the layout (Wan 2.1; arXiv 2512.16093): a Linear over flattened patches, RMS
norm of queries and keys over all heads, rotary positions of time, row and column, six rows of modulation a block,
attention to the words, a feed-forward with GELU. Letters: B batch, C channels, T frames, H height, W width, L tokens,
N heads, D head size, F features.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from tests.models.original_names import State, int8_blocks

PROJECTION = "self_attn.attn_op.local_attn.proj_l"
Linear = Callable[[str, Tensor], Tensor]
Attend = Callable[[int, Tensor, Tensor, Tensor], Tensor]
"""Number of the block, queries, keys and values (L, N, D) to (L, N, D)."""


@dataclass(frozen=True)
class Sizes:
    """The figures of one network."""

    heads: int
    head: int
    ffn: int
    layers: int
    channels_in: int
    channels_out: int = 16
    text: int = 4096
    freq: int = 256

    @property
    def dim(self) -> int:
        return self.heads * self.head


TINY = Sizes(heads=2, head=72, ffn=160, layers=2, channels_in=4, channels_out=4, text=16, freq=16)
WAN_1_3B = Sizes(heads=12, head=128, ffn=8960, layers=30, channels_in=16)
WAN_14B = Sizes(heads=40, head=128, ffn=13824, layers=40, channels_in=16)
WAN_A14B = Sizes(heads=40, head=128, ffn=13824, layers=40, channels_in=36)


def published_shapes(sizes: Sizes, *, quantised: bool = False) -> dict[str, tuple[tuple[int, ...], str]]:
    """Shape and type of every tensor of a student's file."""
    dim = sizes.dim
    shapes: dict[str, tuple[int, ...]] = {"head.modulation": (1, 2, dim)}

    def linear(name: str, outputs: int, inputs: int) -> None:
        shapes.update({f"{name}.weight": (outputs, inputs), f"{name}.bias": (outputs,)})

    linear("patch_embedding", dim, sizes.channels_in * 4)
    linear("text_embedding.0", dim, sizes.text)
    linear("text_embedding.2", dim, dim)
    linear("time_embedding.0", dim, sizes.freq)
    linear("time_embedding.2", dim, dim)
    linear("time_projection.1", 6 * dim, dim)
    linear("head.head", sizes.channels_out * 4, dim)
    for number in range(sizes.layers):
        block = f"blocks.{number}."
        shapes |= {f"{block}modulation": (1, 6, dim), f"{block}norm3.weight": (dim,), f"{block}norm3.bias": (dim,)}
        for attention in ("self_attn", "cross_attn"):
            for part in "qkvo":
                linear(f"{block}{attention}.{part}", dim, dim)
            shapes |= {f"{block}{attention}.norm_{part}.weight": (dim,) for part in "qk"}
        linear(f"{block}ffn.0", sizes.ffn, dim)
        linear(f"{block}ffn.2", dim, sizes.ffn)
        linear(block + PROJECTION, sizes.head, sizes.head)
    found = {name: (shape, "F32" if "proj_l" in name else "BF16") for name, shape in shapes.items()}
    for name in [name for name in found if quantised and is_quantised(name)]:
        (outputs, inputs), _ = found.pop(name)
        stem = name.removesuffix("weight")
        found[stem + "int8_weight"] = ((outputs, inputs), "I8")
        found[stem + "scale"] = ((-(-outputs // 128), -(-inputs // 128)), "F32")
    return found


def is_quantised(name: str) -> bool:
    """Whether this is a weight that `-quant` files have in int8: ten of a block."""
    parts = name.split(".")
    return parts[0] == "blocks" and parts[-1] == "weight" and parts[-2] in ("q", "k", "v", "o", "0", "2")


def student(sizes: Sizes = TINY, *, seed: int = 0) -> State:
    """Random weights that bfloat16 can hold, so that storing them so changes nothing."""
    generator = torch.Generator().manual_seed(seed)
    state = {}
    for name, (shape, _) in published_shapes(sizes).items():
        numbers = torch.randn(shape, generator=generator)
        if name.endswith("weight") and len(shape) == 2:
            numbers = numbers / math.sqrt(shape[1])
        elif "norm" in name and name.endswith("weight"):
            numbers = 1 + 0.1 * numbers
        else:
            numbers = 0.2 * numbers
        state[name] = numbers.bfloat16().float()
    return state


def quantise(state: State) -> State:
    """The same as a `-quant` file has it."""
    stored: State = {}
    for name, tensor in state.items():
        if is_quantised(name):
            stem = name.removesuffix("weight")
            stored[stem + "int8_weight"], stored[stem + "scale"] = int8_blocks(tensor)
        else:
            stored[name] = tensor
    return stored


def unpacked(state: State) -> State:
    """What a `-quant` file's numbers stand for."""
    found: State = {}
    for name, tensor in state.items():
        if name.endswith("int8_weight"):
            stem = name.removesuffix("int8_weight")
            found[stem + "weight"] = spread(tensor, state[stem + "scale"])
        elif not name.endswith(".scale"):
            found[name] = tensor
    return found


def spread(numbers: Tensor, scale: Tensor) -> Tensor:
    """Each number times its block's scale."""
    made = numbers.float().clone()
    for row in range(scale.shape[0]):
        for column in range(scale.shape[1]):
            made[row * 128 : row * 128 + 128, column * 128 : column * 128 + 128] *= scale[row, column]
    return made


def plain_linear(state: State) -> Linear:
    return lambda name, x: x @ state[f"{name}.weight"].t() + state[f"{name}.bias"]


def eight_bit_linear(state: State) -> Linear:
    """Of a `-quant` file: inputs are quantised in blocks of 128 tokens x 128 features as they come (W8A8)."""

    def linear(name: str, x: Tensor) -> Tensor:
        if f"{name}.int8_weight" not in state:
            return plain_linear(state)(name, x)
        inputs = spread(*int8_blocks(x)).double()
        weight = spread(state[f"{name}.int8_weight"], state[f"{name}.scale"]).double()
        return (inputs @ weight.t()).float() + state[f"{name}.bias"]

    return linear


def dense(_: int, q_LND: Tensor, k_LND: Tensor, v_LND: Tensor) -> Tensor:
    q, k, v = (each.transpose(0, 1) for each in (q_LND, k_LND, v_LND))
    scores = q @ k.transpose(1, 2) / math.sqrt(q.shape[-1])
    return (scores.softmax(-1) @ v).transpose(0, 1)


def sparse_linear(state: State, *, ratio: float) -> Attend:
    """Sparse-linear attention (arXiv 2509.24006), one block of 128 queries after the other, head by head."""

    def attend(number: int, q_LND: Tensor, k_LND: Tensor, v_LND: Tensor) -> Tensor:
        weight = state[f"blocks.{number}.{PROJECTION}.weight"]
        bias = state[f"blocks.{number}.{PROJECTION}.bias"]
        out = torch.zeros_like(q_LND)
        for head in range(q_LND.shape[1]):
            q, k, v = q_LND[:, head], k_LND[:, head], v_LND[:, head]
            keys = list((k - k.mean(0)).split(64))
            kept = max(1, int(ratio * len(keys)))
            means = torch.stack([block.mean(0) for block in keys])
            rows = []
            for queries in q.split(128):
                best = (means @ queries.mean(0)).topk(kept).indices.sort().values.tolist()
                chosen = torch.cat([torch.arange(len(k)).split(64)[block] for block in best])
                rows.append((queries @ k[chosen].t() / math.sqrt(q.shape[1])).softmax(-1) @ v[chosen])
            phi_q, phi_k = q.softmax(-1), k.softmax(-1)
            linear = (phi_q @ (phi_k.t() @ v)) / (1e-5 + (phi_q * phi_k.sum(0)).sum(-1, keepdim=True))
            out[:, head] = torch.cat(rows) + linear @ weight.t() + bias
        return out

    return attend


def forward(
    state: State,
    x_CTHW: Tensor,
    time: float,
    text_LF: Tensor,
    sizes: Sizes = TINY,
    *,
    linear: Linear | None = None,
    attend: Attend = dense,
) -> Tensor:
    """The flow (C, T, H, W) of a network in the makers' layout."""
    line = linear or plain_linear(state)
    channels, frames, height, width = x_CTHW.shape
    grid = (frames, height // 2, width // 2)
    x = x_CTHW.reshape(channels, frames, grid[1], 2, grid[2], 2).permute(1, 2, 4, 0, 3, 5).reshape(-1, channels * 4)
    x = line("patch_embedding", x)
    angles = time * 10000 ** (-torch.arange(sizes.freq // 2, dtype=torch.float64) / (sizes.freq // 2))
    wave = torch.cat([angles.cos(), angles.sin()]).float()[None]
    e = line("time_embedding.2", functional.silu(line("time_embedding.0", wave)))
    e6 = line("time_projection.1", functional.silu(e)).reshape(1, 6, sizes.dim)
    words = line("text_embedding.2", functional.gelu(line("text_embedding.0", text_LF), approximate="tanh"))
    turns = positions(sizes.head, grid)
    for number in range(sizes.layers):
        block = f"blocks.{number}."
        shift, scale, gate, shift_2, scale_2, gate_2 = (state[f"{block}modulation"] + e6)[0].unbind(0)
        y = norm(x) * (1 + scale) + shift
        q, k, v = queries_keys_values(state, line, f"{block}self_attn", y, y, sizes)
        mixed = attend(number, rotate(q, turns), rotate(k, turns), v).flatten(1)
        x = x + line(f"{block}self_attn.o", mixed) * gate
        y = norm(x) * state[f"{block}norm3.weight"] + state[f"{block}norm3.bias"]
        q, k, v = queries_keys_values(state, line, f"{block}cross_attn", y, words, sizes)
        x = x + line(f"{block}cross_attn.o", dense(number, q, k, v).flatten(1))
        y = norm(x) * (1 + scale_2) + shift_2
        x = x + line(f"{block}ffn.2", functional.gelu(line(f"{block}ffn.0", y), approximate="tanh")) * gate_2
    shift, scale = (state["head.modulation"] + e[:, None])[0].unbind(0)
    x = line("head.head", norm(x) * (1 + scale) + shift)
    x = x.reshape(*grid, 2, 2, sizes.channels_out).permute(5, 0, 1, 3, 2, 4)
    return x.reshape(sizes.channels_out, frames, height, width)


def queries_keys_values(  # noqa: PLR0917
    state: State, line: Linear, name: str, x: Tensor, other: Tensor, sizes: Sizes
) -> tuple[Tensor, Tensor, Tensor]:
    q = root_norm(line(f"{name}.q", x)) * state[f"{name}.norm_q.weight"]
    k = root_norm(line(f"{name}.k", other)) * state[f"{name}.norm_k.weight"]
    heads = (-1, sizes.heads, sizes.head)
    return q.reshape(heads), k.reshape(heads), line(f"{name}.v", other).reshape(heads)


def norm(x: Tensor) -> Tensor:
    centred = x - x.mean(-1, keepdim=True)
    return centred * torch.rsqrt(centred.square().mean(-1, keepdim=True) + 1e-6)


def root_norm(x: Tensor) -> Tensor:
    return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + 1e-6)


def positions(head: int, grid: tuple[int, ...]) -> Tensor:
    """(L, D / 2) turns, as complex numbers: of a head's features the larger part for time, then rows and columns."""
    side = head // 6 * 2
    parts = []
    places = torch.meshgrid(*(torch.arange(length) for length in grid), indexing="ij")
    for size, place in zip((head - 2 * side, side, side), places, strict=True):
        pace = 10000 ** (-torch.arange(0, size, 2, dtype=torch.float64) / size)
        parts.append(place.reshape(-1, 1) * pace)
    angles = torch.cat(parts, dim=1)
    return torch.polar(torch.ones_like(angles), angles)


def rotate(x_LND: Tensor, turns: Tensor) -> Tensor:
    pairs = torch.view_as_complex(x_LND.double().unflatten(-1, (-1, 2)).contiguous())
    return torch.view_as_real(pairs * turns[:, None]).flatten(-2).float()
