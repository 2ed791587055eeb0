"""`homereel doctor`: what works on this machine, what is missing, and the one command that mends each."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from importlib import metadata
from typing import TYPE_CHECKING, Annotated

import typer

from homereel.cli.output import bytes_text, show_json, show_rows, tell

if TYPE_CHECKING:
    from homereel.core.machine import Machine

EXAMPLES = """[bold]Examples[/bold]

homereel doctor

homereel doctor --calibrate"""

_LOW_DISK, _LOW_RAM = 20e9, 4e9


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at; `mend` is a command, or empty where nothing is to be done."""

    what: str
    ok: bool
    told: str
    mend: str = ""


def doctor(
    *,
    calibrate: Annotated[
        bool,
        typer.Option("--calibrate", metavar="", help="Measure how fast it is, in about a minute; plans go by it then."),
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", metavar="", help="One JSON object with all of it.")] = False,
) -> None:
    """Tell what works on this machine, and how to mend what does not."""
    from homereel.core.environment import read_environment
    from homereel.planning.machine import probe_machine

    if calibrate:
        from homereel.planning.calibrate import measure_rates
        from homereel.planning.rates import keep_rates

        home = read_environment().home
        import torch  # noqa: F401  # what it says of threads and numbers counts, so it comes before the probe

        machine = probe_machine()
        path = keep_rates(measure_rates(machine, folder=home), machine=machine, home=home)
        tell(f"measured; kept in {path}")
    machine = probe_machine()
    findings = list(_findings(machine))
    if as_json:
        found = {"machine": machine.as_dict(), "findings": [asdict(each) for each in findings]}
        show_json({**found, "ok": all(each.ok for each in findings)})
        return
    show_rows((f"{'ok' if each.ok else 'NO'}  {each.what}", _line(each)) for each in findings)


def _line(finding: Finding) -> str:
    return f"{finding.told}; to mend it: {finding.mend}" if finding.mend else finding.told


def _findings(machine: Machine) -> Iterator[Finding]:
    yield _torch(machine)
    if machine.device == "cuda":
        yield _gpu(machine)
        there = importlib.util.find_spec("triton") is not None
        mend = "" if there else "pip install triton"
        yield Finding("kernels", there, "triton is there" if there else "triton is missing; passes are slower", mend)
    yield Finding(
        "processor",
        True,
        f"{machine.name}, {machine.num_threads} threads, "
        + ("bfloat16 is fast" if machine.bf16_fast and machine.device == "cpu" else f"computes in {machine.dtype}"),
    )
    free = machine.ram_room_bytes
    yield Finding(
        "memory",
        free >= _LOW_RAM,
        f"{bytes_text(machine.ram_bytes)}, {bytes_text(free)} free",
        "" if free >= _LOW_RAM else "close other programs, or use --model pocket",
    )
    disk = machine.disk_free_bytes
    if disk is not None:
        low = disk < _LOW_DISK
        mend = "homereel models rm ID, or set HOMEREEL_HOME to another disk" if low else ""
        yield Finding("disk", not low, f"{bytes_text(disk)} free", mend)
    yield from _rates(machine)
    yield from _models()


def _torch(machine: Machine) -> Finding:
    from homereel.planning.gpus import list_gpus

    version = metadata.version("torch")
    if machine.device == "cpu" and version.endswith("+cpu") and list_gpus():
        told = f"torch {version} cannot use the GPU that is here"
        return Finding(
            "torch",
            False,
            told,
            "pip install --force-reinstall torch --index-url https://download.pytorch.org/whl/cu128",
        )
    return Finding(
        "torch", True, f"torch {version} computes on {'the GPU' if machine.device == 'cuda' else 'the processor'}"
    )


def _gpu(machine: Machine) -> Finding:
    total, free = machine.vram_bytes or 0, machine.vram_room_bytes or 0
    major, minor = machine.capability or (0, 0)
    told = f"{machine.name}, {bytes_text(total)}, {bytes_text(free)} free, generation {major}.{minor}"
    more = f", one of {machine.num_gpus}" if machine.num_gpus > 1 else ""
    busy = free < total / 2
    return Finding("GPU", not busy, told + more, "nvidia-smi, which names who holds the rest" if busy else "")


def _rates(machine: Machine) -> Iterator[Finding]:
    rates = machine.rates
    if rates is None:
        return
    told = f"{rates.matrix / 1e12:.2f} TFLOP/s of products, {rates.attention / 1e12:.2f} of attention"
    if machine.device == "cuda":
        told += f", {rates.copy / 1e9:.0f} GB/s to the GPU"
    told += f", {rates.disk / 1e9:.1f} GB/s from the disk"
    mend = "" if rates.measured else "homereel doctor --calibrate"
    yield Finding("speed", rates.measured, told + (", measured" if rates.measured else ", taken from a table"), mend)


def _models() -> Iterator[Finding]:
    from homereel.core.errors import HomereelError
    from homereel.models.registry import default_model, model_facts

    name = default_model()
    try:
        facts = model_facts(name)
    except HomereelError as error:
        yield Finding("models", False, str(error), "pip install --force-reinstall homereel")
    else:
        yield Finding("models", True, f"{facts.model} is the one that is used by default")
