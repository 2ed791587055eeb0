"""The record that goes into a file: everything needed to make the clip again, and to say why it differs."""

from __future__ import annotations

import importlib.metadata
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

import homereel
from homereel.core.machine import Machine
from homereel.core.plan import Plan
from homereel.core.request import Request
from homereel.core.result import Timing

SCHEMA = 1
_SOFTWARE = ("torch", "diffusers", "transformers", "av")


def build_record(
    *,
    request: Request,
    plan: Plan,
    machine: Machine,
    file_hashes: Mapping[str, str],
    inputs: Mapping[str, str],
    frames_sha256: str,
    sound_sha256: str | None,
    timing: Timing,
    peak_bytes: int,
    loras: Sequence[Mapping[str, Any]] = (),
    parents: tuple[str, ...] = (),
    licence: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """The record as JSON would have it.

    `inputs` holds the SHA-256 of the pixels of each picture given and of each LoRA's file; `loras` say what these are;
    `licence` is the model's: name, kind and url.
    """
    terms = {} if licence is None else {"licence": dict(licence)}
    return {
        "homereel": {
            "schema": SCHEMA,
            "version": homereel.__version__,
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
            "request": request.model_dump(mode="json"),
            "resolved": plan.as_dict(),
            "model": {"id": plan.model, "files": dict(file_hashes), **terms},
            "inputs": dict(inputs),
            **({"loras": [dict(lora) for lora in loras]} if loras else {}),
            "software": software_versions(),
            "machine": machine_record(machine),
            "frames_sha256": frames_sha256,
            **({} if sound_sha256 is None else {"sound_sha256": sound_sha256}),
            "timing": {name: round(seconds, 3) for name, seconds in asdict(timing).items()},
            "peak_bytes": peak_bytes,
            "parents": list(parents),
            "ai_generated": True,
        }
    }


def software_versions() -> dict[str, str]:
    """Versions of what computes and encodes."""
    return {**{name: _version(name) for name in _SOFTWARE}, "python": platform.python_version()}


def machine_record(machine: Machine) -> dict[str, Any]:
    """What of the machine can change a result."""
    return {
        "device": machine.device,
        "name": machine.name,
        "num_threads": machine.num_threads,
        "dtype": machine.dtype,
    }


def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return ""
