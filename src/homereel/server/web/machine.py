"""/machine: what this machine has, and whether all that a film needs is in order."""

from __future__ import annotations

import json
import platform
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import asdict, dataclass

from fastapi import APIRouter, Request
from starlette.responses import Response

from homereel import __version__
from homereel.core.gpu import has_cuda_gpu
from homereel.core.machine import Machine
from homereel.models.model_list import ModelInfo
from homereel.server.parts import Here, Parts
from homereel.server.web.render import PageRoute, render

router = APIRouter(include_in_schema=False, route_class=PageRoute)

_PROBE = (
    "import json, dataclasses; from homereel.planning.machine import probe_machine; "
    "print(json.dumps(dataclasses.asdict(probe_machine())))"
)
_PROBE_SECONDS = 120
_LOW_DISK_BYTES = 5 * 10**9
_lock = threading.Lock()
_known: list[Machine] = []


@dataclass(frozen=True)
class Check:
    """One thing that was looked at; `way_out` says what to do where it is not well."""

    name: str
    is_well: bool
    told: str
    way_out: str = ""


def known_machine() -> Machine | None:
    """What computes here; looked at once, which takes seconds. None if it cannot be told."""
    with _lock:
        if not _known:
            found = _look()
            if found is None:
                return None
            _known.append(found)
        return _known[0]


def fits(model: ModelInfo, machine: Machine | None) -> str:
    """A word on whether a model is for this machine: fits, tight, too large, or nothing where it is not known."""
    if machine is None or model.vram_bytes is None:
        return ""
    room = machine.vram_bytes if machine.device == "cuda" and machine.vram_bytes else machine.ram_bytes
    if model.vram_bytes > room:
        return "too large"
    if machine.device == "cpu":
        return "slow here"
    return "tight" if model.vram_bytes > 0.8 * room else "fits"


@router.get("/machine")
def show_machine(request: Request) -> Response:
    """The page; what takes a moment to look at comes behind it."""
    return render(request, "machine.html", page="machine")


@router.get("/studio/machine")
def show_checks(here: Here, request: Request) -> Response:
    """What was found."""
    machine = known_machine()
    checks = list(_checks(here, machine))
    workers = [] if here.launcher is None else [asdict(worker) for worker in here.launcher.workers()]
    return render(request, "_machine.html", machine=machine, checks=checks, workers=workers, facts=_facts())


def _checks(here: Parts, machine: Machine | None) -> Iterator[Check]:
    if machine is None:
        yield Check("Processor", False, "torch could not be asked", 'run `homereel generate "a red ball"` to see why')
    elif machine.device == "cuda":
        yield Check("GPU", True, f"{machine.name}, {(machine.vram_bytes or 0) / 1e9:.0f} GB")
    else:
        yield Check(
            "GPU", True, "none: the processor computes", "pocket is made for that; large models take hours here"
        )
    free = shutil.disk_usage(here.settings.data if here.settings.data.is_dir() else here.settings.data.anchor).free
    way_out = "empty the trash in the library, or remove a model"
    yield Check("Disk", free > _LOW_DISK_BYTES, f"{free / 1e9:.0f} GB free", "" if free > _LOW_DISK_BYTES else way_out)
    launcher = here.launcher
    if launcher is None:
        text = "this server only takes jobs"
        yield Check("Worker", False, text, "start one with `homereel serve`, or `python -m homereel.jobs.worker`")
    else:
        problem = launcher.problem
        yield Check("Worker", problem is None, problem or "ready", "" if problem is None else "its log says more")
    yield _encoder()
    told = "nothing leaves this machine" if here.settings.offline else "models are fetched when you ask for them"
    yield Check("Network", True, told)


def _encoder() -> Check:
    from av.codec import Codec
    from av.codec.codec import UnknownCodecError

    try:
        Codec("libx264", "w")
    except UnknownCodecError:
        return Check("H.264", False, "PyAV has no encoder for it", "pip install --force-reinstall av")
    return Check("H.264", True, "clips play in every browser")


def _facts() -> dict[str, str]:
    from importlib.metadata import version

    return {
        "homereel": __version__,
        "Python": platform.python_version(),
        "torch": version("torch"),
        "diffusers": version("diffusers"),
        "system": f"{platform.system()} {platform.release()}",
    }


def _look() -> Machine | None:
    """Another process looks at a GPU: whoever has looked holds hundreds of megabytes of its memory."""
    if not has_cuda_gpu():
        from homereel.planning.machine import probe_machine

        return probe_machine()
    try:
        told = subprocess.run(
            [sys.executable, "-c", _PROBE], stdout=subprocess.PIPE, timeout=_PROBE_SECONDS, check=True, text=True
        )
    except (subprocess.SubprocessError, OSError):
        return None
    return Machine.read(json.loads(told.stdout))
