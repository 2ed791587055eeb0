"""What a clip frees stays at hand for the next one, and goes back to the system when it is told to."""

from __future__ import annotations

import subprocess
import sys

import pytest

from homereel.core.environment import heap_is_told

# Freed and asked for again, as the layers of a decoder do: 4 pieces of 8 MiB. Told: page faults of a later round, and
# how much less is held after giving back.
_ROUNDS = """
import resource, torch
from homereel.engine.memory import give_back, keep_freed, own_bytes
torch.set_num_threads(1)
if {keep}:
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
    def run(*, keep: bool) -> tuple[int, int]:
        code = _ROUNDS.format(keep=keep)
        told = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True, env={"PATH": ""}
        )
        faults, returned = map(int, told.stdout.split())
        return faults, returned

    faults, returned = run(keep=True)
    assert faults < 100
    assert returned > 24 * 2**20
    assert run(keep=False)[0] > 10 * max(1, faults)


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
