"""Bytes and seconds of every stage of a clip, from shapes alone: nothing is loaded, nothing is measured.

Bytes of the GPU are what is allocated there at the stage's highest point: weights, what layers pass on, room for
blocks that travel. The rest that a process holds there (the driver's context, gaps between tensors) is added when it
is asked whether a stage fits. Bytes of the host are what the process holds that cannot be dropped.

Shape letters: n tokens of the clip, D features.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from homereel.core.machine import Machine, Rates
from homereel.core.model import Blocks, Shapes
from homereel.core.plan import Plan, Residency, StageCost
from homereel.core.protocols import ModelFacts
from homereel.planning.effects import Effect, effect_of
from homereel.planning.host_bytes import file_bytes, process_bytes

ITEM_BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}
DENOISERS = ("transformer", "transformer_2")
# Of a denoiser's weights those that lie in its blocks; the others are embeddings and projections.
BLOCK_SHARE = 0.98
# Places on the GPU for blocks that travel: one computes while the other is filled.
NUM_TURNS = 2
# The share of a block's weights that every token of the clip passes; the others are for words, sound or time.
_TOKEN_SHARE = {"wan": 0.82, "joint": 1 / 3, "two streams": 0.75}
# Rows of features a token that a block's layers without arithmetic read and write, and how many layers it calls.
_ROWS, _CALLS, _CALLS_HERE = 60, 70, 210
# A reader's rows of features a token at once; what it keeps of words is small beside its weights.
_READER_BYTES_A_TOKEN = 250_000
_ITEM_BYTES_8BIT = 1
# A piece of time that is put together from tiles lies beside the end of the piece before.
_PIECES_AT_ONCE = 1.5


@dataclass(frozen=True)
class Workload:
    """One clip on one machine: what stage costs are computed from."""

    plan: Plan
    model: ModelFacts
    machine: Machine
    keeps_all: bool  # all parts stay loaded side by side
    weights: Mapping[str, int]  # bytes a component
    read: frozenset[str] = frozenset()  # by whom its words were read before, "gpu" or "cpu"
    peak_factor: float = 1.0  # how many times more memory runs took than is counted here, where the clip is computed

    @classmethod
    def of(
        cls, plan: Plan, *, model: ModelFacts, machine: Machine, keeps_all: bool, read: frozenset[str] = frozenset()
    ) -> Workload:
        """The clip of a plan whose passes are settled."""
        weights = {part: model.weight_bytes(part, dtype=plan.dtype) for part in model.components}
        return cls(plan, model, machine, keeps_all, weights, read)

    @cached_property
    def shapes(self) -> Shapes:
        """Of the whole clip."""
        plan = self.plan
        return self.model.shapes(width=plan.width, height=plan.height, num_frames=plan.num_frames, dtype=plan.dtype)

    @cached_property
    def effect(self) -> Effect:
        return effect_of(self.plan.passes)

    @cached_property
    def denoisers(self) -> tuple[str, ...]:
        return tuple(part for part in self.weights if part in DENOISERS)

    @cached_property
    def readers(self) -> tuple[str, ...]:
        """What looks at words and pictures before there is any noise."""
        others = {*self.model.decoders, *DENOISERS, "latent_upsampler"}
        return tuple(part for part in self.weights if part not in others)

    def loaded(self, residency: Residency) -> Mapping[str, int]:
        """Bytes of the components that are needed: what reads words is not where they were read before."""
        if residency.text_encoder != "cached":
            return self.weights
        return {part: size for part, size in self.weights.items() if part not in self.model.readers}

    @cached_property
    def decoder_bytes(self) -> int:
        return sum(self.weights[part] for part in self.model.decoders if part in self.weights)

    @cached_property
    def denoiser_bytes(self) -> int:
        """The weights of one denoiser in full numbers."""
        return self.weights[self.denoisers[0]]

    @cached_property
    def blocks(self) -> Blocks:
        return self.model.block_facts

    @cached_property
    def num_blocks(self) -> int:
        """Of one denoiser, with those beside the main ones."""
        return self.blocks.num_blocks + self.blocks.num_side_blocks

    @cached_property
    def block_bytes(self) -> int:
        """Of one block as it lies on the device that computes."""
        smaller = _ITEM_BYTES_8BIT / ITEM_BYTES[self.plan.dtype] if self.effect.eight_bit else 1
        return round(self.denoiser_bytes * BLOCK_SHARE / self.num_blocks * smaller)

    @cached_property
    def outside_bytes(self) -> int:
        """Of a denoiser's weights those in no block."""
        return round(self.denoiser_bytes * (1 - BLOCK_SHARE))

    @cached_property
    def guided(self) -> int:
        """Runs of the denoiser, and texts, for a step: two where the clip is compared with another text."""
        return 2 if max(self.plan.guidance, self.plan.guidance_2 or 1) > 1 else 1

    @cached_property
    def num_calls(self) -> float:
        """How often a denoiser is run, in runs at the clip's full size."""
        full = math.prod(self.shapes.latents)
        stages = self.model.stages(self.plan)
        runs = sum(stage.steps_to_do * min(1, math.prod(stage.noise[0]) / full) for stage in stages)
        return runs * self.guided * self.effect.calls


def stage_costs(work: Workload, residency: Residency) -> tuple[StageCost, ...]:
    """Loading, reading words, denoising, decoding, writing, in this order; names are those of a run's stopwatch."""
    seconds = _seconds(work, residency)
    held = {name: stage_bytes(work, residency, name) for name in _BYTES}
    held["write"] = held["decode"]  # frames are written while they are decoded
    held["load"] = max(vram for vram, _ in held.values()), max(ram for _, ram in held.values())
    return tuple(StageCost(name, seconds[name], *held[name]) for name in STAGES)


def stage_bytes(work: Workload, residency: Residency, name: str) -> tuple[int, int]:
    """Allocated on the GPU, and held by the process on the host, at the highest point of one stage."""
    device_bytes, host_bytes = _BYTES[name](work, residency)
    on_gpu = work.machine.device == "cuda"
    host_bytes += process_bytes(work.machine) + (0 if on_gpu else device_bytes)
    host_bytes += file_bytes(work.plan) if name == "decode" else 0
    return device_bytes if on_gpu else 0, host_bytes


def disk_bytes(work: Workload, residency: Residency) -> int:
    """Room that blocks which travel from the disk take there while the clip is made."""
    if residency.source != "disk" or residency.resident_blocks is None:
        return 0
    return len(work.denoisers) * (work.num_blocks - residency.resident_blocks) * work.block_bytes


def denoiser_device_bytes(work: Workload, residency: Residency) -> int:
    """Of a denoiser's weights what lies on the device."""
    if residency.resident_blocks is None or residency.resident_blocks >= work.num_blocks:
        loading = work.denoiser_bytes if work.effect.eight_bit else 0  # in full numbers, then in 8 bits
        return max(loading, work.outside_bytes + work.num_blocks * work.block_bytes)
    return work.outside_bytes + (residency.resident_blocks + NUM_TURNS) * work.block_bytes


def _text_bytes(work: Workload, residency: Residency) -> tuple[int, int]:
    """On the device, and on the host beside it."""
    loaded = work.loaded(residency)
    weights = [loaded[part] for part in work.readers if part in loaded]
    rows = work.shapes.text_tokens * _READER_BYTES_A_TOKEN * ITEM_BYTES[work.plan.dtype] // 2
    rows = min(rows, max(weights, default=0))  # a small reader passes little on
    looks = _encode_bytes(work, residency) if _sees_pictures(work.plan) else 0
    if residency.text_encoder == "cpu":
        return looks, max(weights, default=0) + rows
    held = sum(loaded.values()) if work.keeps_all else max(weights, default=0)
    return max(held + rows, looks), 0


def _denoise_bytes(work: Workload, residency: Residency) -> tuple[int, int]:
    working = work.shapes.denoise_bytes
    if work.keeps_all:
        return sum(work.loaded(residency).values()) + working, 0
    on_host = 0
    if residency.resident_blocks is not None and residency.resident_blocks < work.num_blocks:
        travelling = work.num_blocks - residency.resident_blocks
        pinned = len(work.denoisers) * travelling if residency.source == "memory" else NUM_TURNS
        on_host = pinned * work.block_bytes
    return denoiser_device_bytes(work, residency) + working, on_host


def _decode_bytes(work: Workload, residency: Residency) -> tuple[int, int]:
    weights = sum(work.loaded(residency).values()) if work.keeps_all else work.decoder_bytes
    return weights + tile_bytes(work, residency.vae_tiles), _frames_bytes(work, residency)


def _encode_bytes(work: Workload, residency: Residency) -> int:
    """Of what looks at given pictures and footage: the decoder's other half, which is no larger."""
    return work.decoder_bytes + tile_bytes(work, residency.vae_tiles)


def tile_bytes(work: Workload, tiles: tuple[int, int, int] | None) -> int:
    """What decoding passes on at once: of the whole clip, or of a tile as if it were a clip."""
    if tiles is None:
        return work.shapes.decode_bytes
    frames, height, width = tiles
    plan = work.plan
    tile = work.model.shapes(
        width=min(width, plan.width),
        height=min(height, plan.height),
        num_frames=min(frames, plan.num_frames),
        dtype=plan.dtype,
    )
    # The latents of all, and the rows and columns by which neighbours overlap.
    return (tile.tile_bytes or tile.decode_bytes) + math.prod(work.shapes.latents) * 4


def _frames_bytes(work: Workload, residency: Residency) -> int:
    """Tiles are put together on the host, where they overlap in full numbers."""
    if residency.vae_tiles is None:
        return 0
    frames = round(min(residency.vae_tiles[0], work.plan.num_frames) * _PIECES_AT_ONCE)
    return frames * work.plan.height * work.plan.width * 3 * 4


def _sees_pictures(plan: Plan) -> bool:
    return bool(plan.keyframes or plan.num_references or plan.strength is not None)


_BYTES: Mapping[str, Callable[[Workload, Residency], tuple[int, int]]] = {
    "text": _text_bytes,
    "denoise": _denoise_bytes,
    "decode": _decode_bytes,
}
STAGES = ("load", "text", "denoise", "decode", "write")


def _seconds(work: Workload, residency: Residency) -> Mapping[str, float | None]:
    rates = work.machine.rates
    if rates is None:
        return dict.fromkeys(STAGES)
    return {
        "load": _load_seconds(work, residency, rates=rates),
        "text": _text_seconds(work, residency, rates=rates),
        "denoise": _denoise_seconds(work, residency, rates=rates),
        "decode": work.shapes.decode_operations / rates.conv,
        "write": work.plan.num_frames * work.plan.height * work.plan.width / rates.encode,
    }


def _load_seconds(work: Workload, residency: Residency, *, rates: Rates) -> float:
    """From the disk, and over to the GPU; what is cached or travels later is not loaded."""
    read = sum(work.loaded(residency).values())
    return rates.start_seconds + read / rates.disk + (read / rates.copy if work.machine.device == "cuda" else 0)


def _text_seconds(work: Workload, residency: Residency, *, rates: Rates) -> float:
    loaded = work.loaded(residency)
    item = ITEM_BYTES[work.plan.dtype]
    operations = sum(
        2 * work.weights[part] / item * work.shapes.text_tokens * work.guided for part in work.readers if part in loaded
    )
    rate = _host_matrix(work.machine) if residency.text_encoder == "cpu" else rates.matrix
    pictures = 0.3 * work.shapes.decode_operations / rates.conv if _sees_pictures(work.plan) else 0
    return operations / rate + pictures


def _host_matrix(machine: Machine) -> float:
    """Products of matrices on a GPU's host: about what a thread of a usual processor does, times its threads."""
    return 6e10 * math.pow(max(1, machine.num_threads), 0.8)


def _denoise_seconds(work: Workload, residency: Residency, *, rates: Rates) -> float:
    call = call_seconds(work, rates=rates)
    if residency.resident_blocks is not None and residency.resident_blocks < work.num_blocks:
        travelling = (work.num_blocks - residency.resident_blocks) * work.block_bytes
        lane = travelling / (rates.copy if residency.source == "memory" else min(rates.copy, rates.disk))
        call = max(call, lane) + work.block_bytes / rates.copy
    return call * work.num_calls + work.effect.once_seconds


def call_seconds(work: Workload, *, rates: Rates) -> float:
    """One run of a denoiser at the clip's full size."""
    blocks, effect, shapes = work.blocks, work.effect, work.shapes
    features = blocks.num_heads * blocks.head_size
    item = ITEM_BYTES[work.plan.dtype]
    tokens = shapes.num_tokens + (shapes.text_tokens if blocks.layout == "joint" else 0)
    parameters = work.denoiser_bytes / item * BLOCK_SHARE
    linear = 2 * tokens * parameters * _TOKEN_SHARE.get(blocks.layout, 0.8)
    linear += 2 * shapes.text_tokens * parameters * (1 - _TOKEN_SHARE.get(blocks.layout, 0.8))
    attention = _attention_operations(blocks, tokens=tokens, features=features) * effect.attention
    attention += 4 * tokens * shapes.text_tokens * features * work.num_blocks
    moved = tokens * features * item * _ROWS * work.num_blocks * effect.elementwise
    return (
        linear / (rates.matrix_8bit if effect.eight_bit else rates.matrix)
        + attention / rates.attention
        + moved / rates.memory
        + _calls(work) * work.num_blocks * rates.call_seconds * effect.elementwise
    )


def _calls(work: Workload) -> int:
    """Layers of a block, each of which takes its moment. A GPU does not wait for what only arranges numbers, while a
    processor does all of it itself."""
    return _CALLS if work.machine.device == "cuda" else _CALLS_HERE


def _attention_operations(blocks: Blocks, *, tokens: int, features: int) -> float:
    return 4.0 * tokens**2 * features * (blocks.num_blocks + blocks.num_side_blocks)


def total_seconds(stages: Sequence[StageCost]) -> float | None:
    """All stages one after the other; None if one is not known."""
    known = [stage.seconds for stage in stages if stage.seconds is not None]
    return sum(known) if len(known) == len(stages) else None
