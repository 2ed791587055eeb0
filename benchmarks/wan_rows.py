"""One row of the GPU benchmark: a network is made, changed by passes, warmed up, timed, compared with the dense one."""

from __future__ import annotations

import gc
import importlib.metadata
import platform
import statistics
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, cast

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

from homereel.core.protocols import Family
from homereel.passes import apply_passes, parse_passes
from homereel.planning.machine import probe_machine
from stopwatch import time_runs
from wan_cases import Resolution, Size, floor_seconds, forward_work
from wan_network import RandomWan, random_inputs, random_transformer, random_vae

_WARM_RUNS = 2
_BACKENDS = {
    "cudnn": SDPBackend.CUDNN_ATTENTION,
    "flash": SDPBackend.FLASH_ATTENTION,
    "efficient": SDPBackend.EFFICIENT_ATTENTION,
    "math": SDPBackend.MATH,
}
_MOST_KERNELS = 15


@dataclass(frozen=True)
class Setting:
    """How all rows are measured; `deadline` is of time.monotonic."""

    device: str
    dtype: torch.dtype
    repeat: int
    deadline: float | None
    toy: bool
    profile: bool

    @property
    def base(self) -> str:
        """The number format of what is not quantised, as ceilings are named."""
        return "bf16" if self.dtype == torch.bfloat16 else "fp32"


@torch.inference_mode()
def forward_row(
    passes: str,
    size: Size,
    resolution: Resolution,
    *,
    setting: Setting,
    ceilings: Mapping[str, Any],
    backends: Mapping[str, Any],
    references: dict[tuple[str, str], Tensor],
) -> dict[str, Any]:
    """Seconds of one forward with these passes (none: dense), with the fastest dense attention where it is dense.

    `references` holds dense outputs, which later rows are compared with. Raises what a pass refuses with.
    """
    _forget_rows(setting.device)
    chosen, family = parse_passes(passes), cast("Family", RandomWan(size))
    for each in chosen:
        each.check(family, probe_machine())
    network = random_transformer(size, device=setting.device, dtype=setting.dtype)
    inputs = random_inputs(size, resolution, device=setting.device, dtype=setting.dtype)
    started = time.perf_counter()
    apply_passes(network, family, chosen)  # what undo would keep is let go, as for a model that can be read again
    for each in chosen:
        each.start(network)
    apply_seconds = time.perf_counter() - started

    def forward() -> Tensor:
        with sdpa_kernel(_by_speed(backends), set_priority=True):
            output: Tensor = network(**inputs)[0]
        return output

    row, output = _timed(forward, setting=setting)
    case = (str(size), str(resolution))
    if not passes:
        references[case] = output
    work = forward_work(size, num_tokens=resolution.num_tokens, passes=passes)
    return {
        "passes": [each.spec for each in chosen],
        "num_tokens": resolution.num_tokens,
        **row,
        "apply_seconds": apply_seconds,
        **_against_dense(output, references.get(case)),
        **_roofline(work.by_format(setting.base), floor_seconds(work, dict(ceilings), base=setting.base), row),
    }


@torch.inference_mode()
def decode_row(
    variant: str, resolution: Resolution, *, setting: Setting, ceilings: Mapping[str, Any]
) -> dict[str, Any]:
    """Seconds of the video decoder for one clip."""
    _forget_rows(setting.device)
    network = random_vae(device=setting.device, dtype=setting.dtype, toy=setting.toy)
    if variant.endswith("channels last"):
        _lay_channels_last(network)
    latents = torch.randn(1, 16, *resolution.latents, device=setting.device, dtype=setting.dtype)
    row, _ = _timed(lambda: network.decode(latents, return_dict=False)[0], setting=setting)
    flops = {setting.base: decode_flops(resolution, toy=setting.toy)}
    rate = ceilings.get(f"{setting.base}_tflops")
    floor = flops[setting.base] / (rate * 1e12) if rate else None
    return {**row, **_roofline(flops, (floor, None), row)}


def _lay_channels_last(network: torch.nn.Module) -> None:
    """Weights of convolutions with their channels side by side; what they compute follows suit."""
    formats = {4: torch.channels_last, 5: torch.channels_last_3d}
    for parameter in network.parameters():
        if parameter.ndim in formats:
            parameter.data = parameter.data.contiguous(memory_format=formats[parameter.ndim])


@cache
def decode_flops(resolution: Resolution, *, toy: bool) -> float:
    """Counted on a network without memory, operation by operation."""
    from torch.utils.flop_counter import FlopCounterMode

    network = random_vae(device="meta", dtype=torch.float32, toy=toy)
    with FlopCounterMode(display=False) as counter:
        network.decode(torch.empty(1, 16, *resolution.latents, device="meta"), return_dict=False)
    return float(counter.get_total_flops())


@torch.inference_mode()
def attention_seconds(size: Size, resolution: Resolution, *, setting: Setting) -> dict[str, Any]:
    """Seconds of one dense self-attention a backend of PyTorch; what a backend refuses with stands in its place."""
    shape = (1, size.num_heads, resolution.num_tokens, size.head_size)
    q, k, v = (torch.randn(shape, device=setting.device, dtype=setting.dtype) for _ in range(3))
    found: dict[str, Any] = {}
    for name, backend in _BACKENDS.items():
        if name == "math" and setting.device == "cuda":
            continue  # it writes out all L x L weights
        try:
            with sdpa_kernel(backend):
                F.scaled_dot_product_attention(q, k, v)
                runs = time_runs(
                    lambda: F.scaled_dot_product_attention(q, k, v),
                    device=setting.device,
                    repeat=3,
                    deadline=setting.deadline,
                )
        except RuntimeError as error:
            found[name] = " ".join(str(error).split())[:200]
        else:
            found[name] = statistics.median(runs)
    return found


def machine_facts(device: str) -> dict[str, Any]:
    """What computes, and with which software."""
    versions = {name: _version(name) for name in ("torch", "triton", "diffusers", "numpy")}
    facts: dict[str, Any] = {"device": device, **versions, "python": platform.python_version()}
    if device == "cuda":
        properties = torch.cuda.get_device_properties(0)
        facts |= {"name": properties.name, "capability": list(torch.cuda.get_device_capability())}
        facts |= {"num_processors": properties.multi_processor_count, "memory_bytes": properties.total_memory}
        facts |= {"cuda": torch.version.cuda}
    return facts


def _by_speed(backends: Mapping[str, Any]) -> list[SDPBackend]:
    """The backends that ran, fastest first; PyTorch takes the first that can do a call."""
    ran = [name for name, seconds in backends.items() if isinstance(seconds, float)]
    ordered = [_BACKENDS[name] for name in sorted(ran, key=lambda name: backends[name])]
    return ordered if SDPBackend.MATH in ordered else [*ordered, SDPBackend.MATH]


def _timed(work: Callable[[], Tensor], *, setting: Setting) -> tuple[dict[str, Any], Tensor]:
    """Seconds (median) and peak memory of warm runs, the seconds of the first, cold one, and the output on the CPU."""
    cold = time_runs(work, device=setting.device, repeat=1)[0]
    time_runs(work, device=setting.device, repeat=_WARM_RUNS - 1, deadline=setting.deadline)
    if setting.device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    runs = time_runs(work, device=setting.device, repeat=setting.repeat, deadline=setting.deadline)
    peak = torch.cuda.max_memory_allocated() if setting.device == "cuda" else None
    output = work().float().cpu()
    if not bool(output.isfinite().all()):
        raise ValueError("the output holds numbers that are not finite")
    row = {"seconds": statistics.median(runs), "runs": runs, "cold_seconds": cold, "peak_bytes": peak}
    return (row | {"kernels": _longest_kernels(work, device=setting.device)} if setting.profile else row), output


def _longest_kernels(work: Callable[[], Tensor], *, device: str) -> list[dict[str, Any]]:
    """Where one run spends its time, the longest first."""
    from torch.profiler import ProfilerActivity, profile

    activity = ProfilerActivity.CUDA if device == "cuda" else ProfilerActivity.CPU
    with profile(activities=[activity]) as recorded:
        work()
        if device == "cuda":
            torch.cuda.synchronize()

    def seconds(event: Any) -> float:
        return float(event.self_device_time_total if device == "cuda" else event.self_cpu_time_total) / 1e6

    events = sorted(recorded.key_averages(), key=seconds, reverse=True)[:_MOST_KERNELS]
    return [{"name": event.key[:120], "calls": event.count, "seconds": seconds(event)} for event in events]


def _against_dense(output: Tensor, reference: Tensor | None) -> dict[str, Any]:
    """How near the output is to the dense one: a check of the kernels, since random weights attend to everything."""
    if reference is None:
        return {}
    a, b = output.flatten().double(), reference.flatten().double()
    return {
        "cosine_to_dense": float(F.cosine_similarity(a, b, dim=0)),
        "relative_error": float((a - b).norm() / b.norm()),
    }


def _roofline(
    flops: Mapping[str, float], floor: tuple[float | None, float | None], row: Mapping[str, Any]
) -> dict[str, Any]:
    """The share counts matrix products alone; with elementwise work, which a GPU can in part hide, it would be more."""
    matrix, elementwise = floor
    return {
        "tflop": {name: value / 1e12 for name, value in flops.items()},
        "floor_matrix_seconds": matrix,
        "floor_elementwise_seconds": elementwise,
        "share_of_roofline": None if matrix is None else matrix / row["seconds"],
    }


def _forget_rows(device: str) -> None:
    """Give back what earlier rows held, compiled code included."""
    if "torch._dynamo" in sys.modules:
        torch.compiler.reset()
    gc.collect()
    if device == "cuda":
        torch.cuda.empty_cache()


def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return ""
