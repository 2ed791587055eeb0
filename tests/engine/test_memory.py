"""What a clip frees stays at hand for the next one, and goes back to the system when it is told to."""

from __future__ import annotations

import subprocess
import sys

import pytest

from homereel.core.environment import heap_is_told

# Freed and asked for again, as the layers of a decoder do: 4 pieces of 8 MiB. Told: page faults of the second time, and
# how much less is held after giving back.
_ROUNDS = """
import resource, torch
from homereel.engine.memory import give_back, keep_freed, own_bytes
torch.set_num_threads(1)
keep_freed("cpu")
def work():
    kept = [torch.ones(2 * 2**20) for _ in range(4)]
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    del kept
    [torch.ones(2 * 2**20) for _ in range(4)]
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
work()
faults = work()
held = own_bytes()
give_back("cpu")
print(faults, held - own_bytes())
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="of glibc")
def test_a_layers_memory_is_not_fetched_anew() -> None:
    """Where the user says that pieces of a MiB are the system's again, all 8192 pages are."""

    def run(**surroundings: str) -> tuple[int, int]:
        code = [sys.executable, "-c", _ROUNDS]
        told = subprocess.run(code, capture_output=True, text=True, check=True, env={"PATH": "", **surroundings})
        faults, returned = map(int, told.stdout.split())
        return faults, returned

    faults, returned = run()
    assert faults < 100
    assert returned > 24 * 2**20
    faults, _ = run(MALLOC_MMAP_THRESHOLD_=str(2**20))
    assert faults > 8000


@pytest.mark.parametrize(
    ("variables", "told"),
    [
        ({}, False),
        ({"PATH": "/bin"}, False),
        ({"MALLOC_TRIM_THRESHOLD_": "1"}, True),
        ({"GLIBC_TUNABLES": "glibc.malloc.tcache_count=0"}, True),
    ],
)
def test_what_users_tell_the_heap_stays(variables: dict[str, str], told: bool) -> None:
    assert heap_is_told(variables) == told
