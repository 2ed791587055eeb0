"""What a machine offers, as plain figures: plans are made from these alone, for this machine or another."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Machine:
    """One machine. `ram_bytes` is what this process may use (a container's limit counts)."""

    device: str  # "cpu" or "cuda"
    name: str  # the processor that computes, as it calls itself
    num_threads: int
    ram_bytes: int
    vram_bytes: int | None
    bf16_fast: bool  # bfloat16 is faster here than float32

    @property
    def dtype(self) -> str:
        """The number format in which this machine computes fastest."""
        return "bfloat16" if self.bf16_fast else "float32"
