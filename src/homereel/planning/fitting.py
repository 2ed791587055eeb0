"""Where a clip's weights lie and in what pieces it is decoded, so that it fits: the fastest way that does.

Stages come one after the other, and each choice bears on one of them, so each is made for itself: reading words on
the GPU or the host, blocks that stay or travel (from memory or from the disk), the decoder's tiles. All are exact
but tiles, whose seams are blended. What would be given up next are the rungs of the plan.
"""

from __future__ import annotations

import math
import sys
from bisect import bisect
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from homereel.core.plan import Residency, Rung, StageCost
from homereel.planning.cost import Workload, disk_bytes, stage_bytes, stage_costs
from homereel.planning.host_bytes import device_need_bytes

# Tiles of the decoder, in pixels and frames; the first is the largest.
TILE_SIDES, TILE_FRAMES = (768, 512, 384, 256, 192, 128), (65, 33, 17, 9)
# Neighbouring tiles overlap by this share of their side, which is computed twice.
OVERLAP_SHARE = 0.25
# Of the disk so much is left alone.
_DISK_RESERVE_BYTES = 2 * 1000**3


@dataclass(frozen=True)
class Fit:
    """The way that was chosen, what its stages take, and what could be given up further, best first."""

    residency: Residency
    stages: tuple[StageCost, ...]
    rungs: tuple[Rung, ...]

    @property
    def vram_bytes(self) -> int:
        return max(stage.vram_bytes for stage in self.stages)

    @property
    def ram_bytes(self) -> int:
        return max(stage.ram_bytes for stage in self.stages)


@dataclass(frozen=True)
class Limits:
    """What may be taken; None is no limit."""

    vram_bytes: int | None
    ram_bytes: int
    disk_bytes: int | None = None
    peak_factor: float = 1.0  # so many times more than is counted is taken, of the memory that computes

    @classmethod
    def of(cls, work: Workload, *, now: bool) -> Limits:
        """All that the machine has, or (`now`) what of it is free."""
        machine = work.machine
        room = (machine.vram_room_bytes, machine.ram_room_bytes) if now else (machine.vram_bytes, machine.ram_bytes)
        return cls(*room, machine.disk_free_bytes, work.peak_factor)

    def allow(self, vram_bytes: int, ram_bytes: int) -> bool:
        """Whether so much fits."""
        if self.vram_bytes is None:
            return ram_bytes * self.peak_factor <= self.ram_bytes
        return (
            device_need_bytes(round(vram_bytes * self.peak_factor)) <= self.vram_bytes and ram_bytes <= self.ram_bytes
        )


def fit(work: Workload, limits: Limits) -> Fit | None:
    """The fastest way within the limits; None if there is none."""
    if work.machine.device != "cuda":
        only = _lightest_reader(work)
        stages = stage_costs(work, only)
        fits = all(limits.allow(each.vram_bytes, each.ram_bytes) for each in stages)
        return Fit(only, stages, ()) if fits else None
    found = Residency()
    ways = {"denoise": _placements(work, limits), "decode": _tiles(work), "text": _readers(work)}
    for name, candidates in ways.items():
        fitting = (
            candidate
            for change in candidates
            if _allowed(candidate := change(found), name, work=work, limits=limits)
        )  # fmt: skip
        chosen = next(fitting, None)
        if chosen is None:
            return None
        found = chosen
    return Fit(found, stage_costs(work, found), tuple(_rungs(work, found)))


def least_bytes(work: Workload) -> tuple[int, int]:
    """Of the GPU's memory and of the host's the least with which there is a way: of the host's the least that goes
    with the GPU at hand, if any does.
    """
    if work.machine.device != "cuda":
        return 0, max(stage.ram_bytes for stage in stage_costs(work, _lightest_reader(work)))
    bare = replace(work, keeps_all=False)
    small = Residency(resident_blocks=0, source="disk", text_encoder="cpu", vae_tiles=_smallest_tile(work))
    needs = []
    read = [replace(small, text_encoder="cached")] if work.read else []
    for way in (small, replace(small, text_encoder="gpu"), *read):
        stages = stage_costs(bare, way)
        vram = device_need_bytes(max(stage.vram_bytes for stage in stages))
        needs.append((vram, max(stage.ram_bytes for stage in stages)))
    possible = [need for need in needs if need[0] <= (work.machine.vram_bytes or 0)]
    return min(possible, key=lambda need: need[1]) if possible else min(needs)


def tile_overhead(tiles: tuple[int, int, int] | None, *, size: tuple[int, int, int], frame_scale: int) -> float:
    """How many times as much is computed, since tiles overlap; `size` is the clip's, in the tiles' order.

    A tile of time shares its end with the next one, which also begins a latent frame early.
    """
    if tiles is None:
        return 1.0
    found = 1.0
    if tiles[0] < size[0]:
        length = (tiles[0] - 1) // frame_scale + 1
        found *= length / max(1, length - max(1, round(length * OVERLAP_SHARE)) - 1)
    for tile, whole in zip(tiles[1:], size[1:], strict=True):
        count = 1 if tile >= whole else math.ceil((whole - tile) / (tile * (1 - OVERLAP_SHARE))) + 1
        found *= max(1.0, count * tile / whole)
    return found


_Change = Callable[[Residency], Residency]


def _allowed(candidate: Residency, name: str, *, work: Workload, limits: Limits) -> bool:
    """Whether this stage fits, and its file on the disk."""
    room = limits.disk_bytes is None or disk_bytes(work, candidate) + _DISK_RESERVE_BYTES <= limits.disk_bytes
    return limits.allow(*stage_bytes(work, candidate, name)) and (room or candidate.source == "memory")


def _placements(work: Workload, limits: Limits) -> Iterator[_Change]:
    """All blocks stay; else as many as can, the others travelling from memory, else from the disk."""
    yield lambda found: found
    if work.keeps_all:
        return
    sources: tuple[Residency, ...] = (Residency(source="memory"), Residency(source="disk"))
    for source in sources:
        most = _most_blocks(work, source, limits=limits)
        if most is not None:
            yield lambda found, source=source, most=most: replace(found, resident_blocks=most, source=source.source)  # type: ignore[misc]


def _most_blocks(work: Workload, source: Residency, *, limits: Limits) -> int | None:
    """The largest number of blocks that can stay; the more stay, the less the host holds."""

    def fits(count: int) -> bool:
        return _allowed(replace(source, resident_blocks=count), "denoise", work=work, limits=roomy)

    roomy = replace(limits, ram_bytes=sys.maxsize, disk_bytes=None)
    most = bisect(range(work.num_blocks), False, key=lambda count: not fits(count)) - 1
    chosen = replace(source, resident_blocks=most)
    return most if most >= 0 and _allowed(chosen, "denoise", work=work, limits=limits) else None


def _tiles(work: Workload) -> Iterator[_Change]:
    """The whole clip, then tiles: those first that compute least twice, of these the largest."""
    yield lambda found: found
    for tiles in _tile_ladder(work):
        yield lambda found, tiles=tiles: replace(found, vae_tiles=tiles)  # type: ignore[misc]


def _tile_ladder(work: Workload) -> list[tuple[int, int, int]]:
    if work.shapes.tile_bytes is None:
        return []
    plan, grid = work.plan, work.model.grid
    size = (plan.num_frames, plan.height, plan.width)
    frames = [plan.num_frames, *(length for length in TILE_FRAMES if length < plan.num_frames)]
    tiles = []
    for length in frames:
        for side in TILE_SIDES:
            tile = (
                (length - 1) // grid.frame_multiple * grid.frame_multiple + 1,
                min(plan.height, side // grid.height_multiple * grid.height_multiple),
                min(plan.width, side // grid.width_multiple * grid.width_multiple),
            )
            if tile != size and 0 not in tile and tile not in tiles:
                tiles.append(tile)
    return sorted(
        tiles, key=lambda tile: (tile_overhead(tile, size=size, frame_scale=grid.frame_multiple), -_volume(tile))
    )


def _smallest_tile(work: Workload) -> tuple[int, int, int] | None:
    ladder = _tile_ladder(work)
    return min(ladder, key=lambda tile: tile[0] * tile[1] * tile[2]) if ladder else None


def _readers(work: Workload) -> Iterator[_Change]:
    """What was read before is taken where it was read as it would be now: its numbers are the same."""
    if "gpu" in work.read:
        yield lambda found: replace(found, text_encoder="cached")
    yield lambda found: found
    if "cpu" in work.read:
        yield lambda found: replace(found, text_encoder="cached")
    yield lambda found: replace(found, text_encoder="cpu")


def _lightest_reader(work: Workload) -> Residency:
    return Residency(text_encoder="cached") if "gpu" in work.read else Residency()


def _rungs(work: Workload, chosen: Residency) -> Iterator[Rung]:
    """Step by step down: smaller tiles, the words on the host, half of the blocks, none, from the disk."""
    ladder = _tile_ladder(work)
    at = ladder.index(chosen.vae_tiles) + 1 if chosen.vae_tiles in ladder else 0
    smaller = [tile for tile in ladder[at:] if _volume(tile) <= _volume(chosen.vae_tiles) / 2]
    for tiles in _halving(smaller):
        frames, height, width = tiles
        yield Rung(f"decoding in tiles of {width}x{height} and {frames} frames", {"vae_tiles": tiles})
    if chosen.text_encoder != "cpu":
        yield Rung("reading the words on the processor", {"text_encoder": "cpu"})
    resident = work.num_blocks if chosen.resident_blocks is None else chosen.resident_blocks
    for count in sorted({resident * 3 // 4, resident // 2, resident // 4, 0} - {resident}, reverse=True):
        told = f"{count} of {work.num_blocks} blocks stay on the GPU"
        yield Rung(told, {"resident_blocks": count})
    if chosen.source == "memory":
        yield Rung("blocks travel from the disk", {"source": "disk", "resident_blocks": 0})


def _volume(tiles: tuple[int, int, int] | None) -> float:
    return float("inf") if tiles is None else float(tiles[0] * tiles[1] * tiles[2])


def _halving(tiles: list[tuple[int, int, int]]) -> Iterator[tuple[int, int, int]]:
    """Of these, so few that each has at most half of the one before."""
    last = float("inf")
    for tile in tiles:
        if _volume(tile) <= last / 2:
            last = _volume(tile)
            yield tile
