"""How fast a machine is: as it was measured and kept in HOMEREEL_HOME, else as its kind is known to be.

What is known of GPUs are sustained figures of large products, not those of leaflets. Whatever is taken from a table
is good to a factor of two.
"""

from __future__ import annotations

import json
import os
from collections.abc import Set
from dataclasses import asdict
from importlib import metadata
from pathlib import Path

from homereel.core.environment import asked_threads
from homereel.core.errors import StoreUnavailable
from homereel.core.machine import Machine, Rates

FILE = "machine.json"
_SCHEMA = 1
# By a word of the name: operations of bfloat16 and of 8 bits, bytes of memory, each times 1e12 a second.
_BY_NAME = (
    ("H200", 790, 1580, 4.3),
    ("H100", 650, 1300, 3.0),
    ("B200", 1500, 3000, 7.0),
    ("A100", 250, 480, 1.6),
    ("5090", 168, 670, 1.6),
    ("5080", 90, 360, 0.9),
    ("4090", 132, 528, 0.95),
    ("4080", 80, 320, 0.7),
    ("3090", 60, 200, 0.9),
)
# The same by generation, for a card of the middle.
_BY_GENERATION = (
    ((12, 0), 80, 320, 0.7),
    ((10, 0), 1200, 2400, 6.0),
    ((9, 0), 600, 1200, 3.0),
    ((8, 9), 60, 240, 0.45),
    ((8, 6), 35, 120, 0.45),
    ((8, 0), 250, 480, 1.5),
    ((7, 0), 20, 20, 0.4),
)
# Of a GPU's large products: what attention and convolutions reach.
_ATTENTION, _CONV = 0.7, 0.5
_PINNED_COPY, _DISK, _GPU_CALL = 20e9, 1.5e9, 8e-6
# One thread of a processor: operations in float32 (in bfloat16 with AMX), of attention and of convolutions.
_THREAD_AMX = (1.0e12, 3.5e11, 8e11)
_THREAD_AVX512 = (1.4e11, 5e10, 8e10)
_THREAD_OTHER = (6e10, 2.5e10, 6e10)
_THREAD_MEMORY, _CPU_CALL, _ENCODE, _START = 6e9, 1.2e-5, 8e6, 3.0


def known_rates(machine: Machine, *, flags: Set[str] = frozenset()) -> Rates:
    """What is known of this kind of machine; `flags` are those of its processor."""
    if machine.device == "cuda":
        matrix, eight, memory = (value * 1e12 for value in _gpu_figures(machine))
        return Rates(
            matrix=matrix,
            matrix_8bit=eight,
            attention=_ATTENTION * matrix,
            conv=_CONV * matrix,
            memory=0.8 * memory,
            copy=_PINNED_COPY,
            disk=_DISK,
            call_seconds=_GPU_CALL,
            encode=4 * _ENCODE,
            start_seconds=2 * _START,
        )
    per_thread = _THREAD_AVX512 if "avx512f" in flags else _THREAD_OTHER
    matrix, attention, conv = (
        value * machine.num_threads**0.8 for value in (_THREAD_AMX if machine.bf16_fast else per_thread)
    )
    return Rates(
        matrix=matrix,
        matrix_8bit=matrix,
        attention=attention,
        conv=conv,
        memory=_THREAD_MEMORY * machine.num_threads**0.5,
        copy=_THREAD_MEMORY,
        disk=_DISK,
        call_seconds=_CPU_CALL,
        encode=_ENCODE,
        start_seconds=_START,
    )


def kept_rates(machine: Machine, *, home: Path) -> Rates | None:
    """What was measured of this machine as it is now; None if nothing was, or of another state of it."""
    try:
        kept = json.loads((home / FILE).read_text(encoding="utf-8"))
        return Rates.read(kept["rates"]) if kept["of"] == _state(machine) and kept["schema"] == _SCHEMA else None
    except (OSError, ValueError, TypeError, KeyError):
        return None


def usual_threads(home: Path) -> int | None:
    """How many threads torch took here of its own accord when the machine was measured: what it will take cannot be
    told from outside for every processor. None if nothing was measured, or on another machine.
    """
    try:
        kept = json.loads((home / FILE).read_text(encoding="utf-8"))
        usual = kept["usual_threads"] if kept["processors"] == os.cpu_count() else None
    except (OSError, ValueError, TypeError, KeyError):
        return None
    return usual if isinstance(usual, int) and usual > 0 else None


def keep_rates(rates: Rates, *, machine: Machine, home: Path) -> Path:
    """Write down what was measured. Raises StoreUnavailable if that cannot be done."""
    path = home / FILE
    try:
        home.mkdir(parents=True, exist_ok=True)
        fresh = path.with_suffix(".new")
        told = {"schema": _SCHEMA, "of": _state(machine), "rates": asdict(rates)}
        if asked_threads() is None:
            told |= {"usual_threads": machine.num_threads, "processors": os.cpu_count()}
        fresh.write_text(json.dumps(told, indent=2) + "\n", encoding="utf-8")
        fresh.replace(path)
    except OSError as error:
        raise StoreUnavailable(f"{path} cannot be written: {error.strerror or error}; set HOMEREEL_HOME") from None
    return path


def _state(machine: Machine) -> dict[str, object]:
    """What must be the same for a measurement to hold."""
    return {
        "device": machine.device,
        "name": machine.name,
        "num_threads": machine.num_threads,
        "dtype": machine.dtype,
        "torch": metadata.version("torch"),
    }


def _gpu_figures(machine: Machine) -> tuple[float, float, float]:
    for word, *figures in _BY_NAME:
        if word in machine.name:
            return figures[0], figures[1], figures[2]
    capability = machine.capability or (8, 9)
    for least, *figures in _BY_GENERATION:
        if capability >= least:
            return figures[0], figures[1], figures[2]
    return 10, 10, 0.2
