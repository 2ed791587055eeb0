"""Measures how fast this machine is at what clips are made of, for `homereel doctor --calibrate`, in about a minute.

Each figure is the median of a few rounds, of a piece that is large enough for this machine, in the number format in
which it computes. What cannot be measured here keeps what is known of its kind.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from homereel.core.machine import Machine, Rates
from homereel.planning.rates import known_rates

_ROUNDS = 5
_RUNS = 5
_DISK_BYTES = 64 * 1024**2
_SMALL_CALLS = 300
_FIRST_CLIP = """
import time
import homereel.engine.generate
from homereel.engine.session import Session
started = time.perf_counter()
with Session() as session:
    family = session.family("pocket")
    for part in family.components:
        session.component(part, dtype="float32")
print(time.perf_counter() - started)
"""


def measure_rates(machine: Machine, *, folder: Path) -> Rates:
    """Its rates, measured; a file is written in `folder` for a moment."""
    rounds = [_round(machine, folder=folder) for _ in range(_ROUNDS)]
    found = {field.name: statistics.median(getattr(each, field.name) for each in rounds) for field in fields(Rates)}
    return replace(Rates(**found), measured=True)


def _round(machine: Machine, *, folder: Path) -> Rates:
    """All of it once. Rounds are seconds apart, so that what else the machine does for a moment decides nothing."""
    import torch

    dtype, device = getattr(torch, machine.dtype), machine.device
    scale = 8 if device == "cuda" else 1
    known, matrix = known_rates(machine), _matrix(device, dtype, features=512 * scale)
    return replace(
        known,
        matrix=matrix,
        matrix_8bit=known.matrix_8bit / known.matrix * matrix,
        attention=_attention(device, dtype, tokens=1024 * scale),
        conv=_conv(device, dtype, side=48 * scale),
        memory=_memory(device, num_values=2**22 * scale**2),
        copy=_copy(device) if device == "cuda" else known.copy,
        disk=_disk(folder),
        call_seconds=_call(device),
        encode=_encode(folder),
        start_seconds=known.start_seconds if device == "cuda" else _start(),
    )


def _seconds(work: Callable[[], Any], *, device: str) -> float:
    """The median of some runs after one that warms up."""
    import torch

    found = []
    for _ in range(_RUNS + 1):
        started = time.perf_counter()
        work()
        if device == "cuda":
            torch.cuda.synchronize()
        found.append(time.perf_counter() - started)
    return max(1e-9, statistics.median(found[1:]))


def _matrix(device: str, dtype: Any, *, features: int) -> float:
    """As layers have them: many tokens, and weights that are small against them."""
    import torch

    tokens, wider = 4096, 4 * features
    x = torch.randn(tokens, features, device=device, dtype=dtype)
    weight = torch.randn(wider, features, device=device, dtype=dtype)
    return 2 * tokens * features * wider / _seconds(lambda: torch.nn.functional.linear(x, weight), device=device)


def _attention(device: str, dtype: Any, *, tokens: int) -> float:
    import torch

    q, k, v = (torch.randn(1, 8, tokens, 64, device=device, dtype=dtype) for _ in range(3))
    attend = torch.nn.functional.scaled_dot_product_attention
    return 4 * tokens**2 * 8 * 64 / _seconds(lambda: attend(q, k, v), device=device)


def _conv(device: str, dtype: Any, *, side: int) -> float:
    """As our decoders do them, with what lies between. Operations are those of the plain way, of which a processor may
    find a shorter one."""
    import torch

    from homereel.kernels.causal_conv import CausalConv, in_layout

    channels = 32
    x = in_layout(torch.randn(1, channels, 8, side, side, device=device, dtype=dtype))
    layer = CausalConv(torch.randn(channels, channels, 3, 3, 3, device=device, dtype=dtype), None)

    def work() -> None:
        layer(torch.nn.functional.silu(torch.nn.functional.normalize(x, dim=1)))

    return 2 * 27 * channels**2 * x[0, 0].numel() / _seconds(work, device=device)


def _memory(device: str, *, num_values: int) -> float:
    import torch

    x = torch.randn(num_values, device=device)
    return 2 * x.numel() * x.element_size() / _seconds(lambda: torch.nn.functional.silu(x), device=device)


def _copy(device: str) -> float:
    import torch

    source = torch.empty(256 * 1024**2, dtype=torch.uint8, pin_memory=True)
    target = torch.empty_like(source, device=device)
    return source.numel() / _seconds(lambda: target.copy_(source, non_blocking=True), device=device)


def _call(device: str) -> float:
    """A small layer's own time, most of which is not arithmetic."""
    import torch

    x = torch.randn(64, 64, device=device)

    def calls() -> None:
        for _ in range(_SMALL_CALLS):
            torch.add(x, x)

    return _seconds(calls, device=device) / _SMALL_CALLS


def _start() -> float:
    """In a new process, after what any command imports: the built-in model, whose files are small."""
    done = subprocess.run([sys.executable, "-c", _FIRST_CLIP], stdout=subprocess.PIPE, check=True)
    return max(0.1, float(done.stdout))


def _disk(folder: Path) -> float:
    """Reading what was just written may come from memory: then that is what loading a model again will be like."""
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=folder, prefix=".rate-") as file:
        file.write(bytes(_DISK_BYTES))
        file.flush()
        path = Path(file.name)
        return _DISK_BYTES / _seconds(path.read_bytes, device="cpu")


def _encode(folder: Path) -> float:
    """Pixels a second into an mp4, of frames that are neither empty nor noise."""
    import numpy as np

    from homereel import media

    frames, height, width = 24, 240, 416
    x, y, t = np.meshgrid(np.arange(width), np.arange(height), np.arange(frames), indexing="xy")
    moving = np.stack([x + 3 * t, y + 2 * t, (x * y) // 64 + t], axis=-1)
    picture = np.ascontiguousarray(moving.transpose(2, 0, 1, 3).astype(np.uint8))
    with tempfile.TemporaryDirectory(dir=folder) as made:
        started = time.perf_counter()
        media.write_clip(picture, Path(made) / "rate.mp4", fps=24)
        return frames * height * width / (time.perf_counter() - started)
