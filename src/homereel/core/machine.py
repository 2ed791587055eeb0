"""What a machine offers, as plain figures: plans are made from these alone, for this machine or another."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any


@dataclass(frozen=True)
class Rates:
    """How fast a machine is at what clips are made of, in the number format that it computes in.

    Operations are additions and multiplications a second, the rest is a second's bytes or pixels.
    """

    matrix: float  # operations: products of large matrices
    matrix_8bit: float  # the same in 8 bits; no more than `matrix` where that gains nothing
    attention: float  # operations
    conv: float  # operations: convolutions over time and space
    memory: float  # bytes that a layer without arithmetic reads or writes
    copy: float  # bytes from the host's memory to the GPU; not used without one
    disk: float  # bytes from the disk to memory
    call_seconds: float  # that one small layer takes, however small
    encode: float  # pixels that are written to a file
    start_seconds: float  # that importing what a first clip needs takes
    measured: bool = False  # here, by `homereel doctor --calibrate`; else taken from a table of kinds of machines

    @classmethod
    def read(cls, told: Mapping[str, Any]) -> Rates:
        """Of what `dataclasses.asdict` told. Raises TypeError or ValueError for anything else."""
        rates = cls(**{**told, "measured": bool(told["measured"])})
        if not all(isinstance(value, (int, float)) and value > 0 for name, value in told.items() if name != "measured"):
            raise ValueError("a rate is not above 0")
        return rates


@dataclass(frozen=True)
class Machine:
    """One machine. `ram_bytes` is what this process may use (a container's limit counts); what is free may be less."""

    device: str  # "cpu" or "cuda"
    name: str  # the processor that computes, as it calls itself
    num_threads: int
    ram_bytes: int
    vram_bytes: int | None
    bf16_fast: bool  # bfloat16 is faster here than float32
    ram_free_bytes: int | None = None  # None is not known: all of it
    vram_free_bytes: int | None = None
    disk_free_bytes: int | None = None
    capability: tuple[int, int] | None = None  # the GPU's generation, such as (8, 9)
    num_gpus: int = 0
    rates: Rates | None = None  # None while nothing is known of it
    limited: bool = False  # less was granted than it has, or it is another machine

    @property
    def dtype(self) -> str:
        """The number format in which this machine computes fastest."""
        return "bfloat16" if self.bf16_fast else "float32"

    @property
    def ram_room_bytes(self) -> int:
        """Memory that a clip may take."""
        return self.ram_bytes if self.ram_free_bytes is None else min(self.ram_bytes, self.ram_free_bytes)

    @property
    def vram_room_bytes(self) -> int | None:
        """The same on the GPU."""
        if self.vram_bytes is None or self.vram_free_bytes is None:
            return self.vram_bytes
        return min(self.vram_bytes, self.vram_free_bytes)

    def granting(self, *, vram_bytes: int | None = None, ram_bytes: int | None = None) -> Machine:
        """The same machine with these limits in place of what it has, be it more or less."""
        changed: dict[str, Any] = {}
        if vram_bytes is not None and self.device == "cuda":
            changed |= {"vram_bytes": vram_bytes, "vram_free_bytes": None}
        if ram_bytes is not None:
            changed |= {"ram_bytes": ram_bytes, "ram_free_bytes": None}
        return replace(self, **changed, limited=True) if changed else self

    def as_dict(self) -> dict[str, Any]:
        """As JSON would have it."""
        return asdict(self)

    @classmethod
    def read(cls, told: Mapping[str, Any]) -> Machine:
        """Of what `as_dict` told, in this process or another."""
        capability, rates = told.get("capability"), told.get("rates")
        return cls(
            **{
                **told,
                "capability": None if capability is None else (int(capability[0]), int(capability[1])),
                "rates": None if rates is None else Rates.read(rates),
            }
        )
