"""Runs the cases of the files `interpreted_….py`: Triton kernels against their references without a GPU.

Triton's interpreter has to be chosen before Triton is imported, so they run in a process of their own, one for all.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.kernels.compile_for import NEEDS_TRITON

pytest.importorskip("triton", reason=NEEDS_TRITON)
FILES = sorted(Path(__file__).parent.glob("interpreted_*.py"))


@pytest.mark.parametrize("marks", ["not slow", pytest.param("slow", marks=pytest.mark.slow)])
def test_the_kernels_compute_what_the_references_say(marks: str) -> None:
    alone = ["-o", "addopts=", "--noconftest", "-p", "no:cacheprovider"]  # no workers: one process is all
    arguments = ["-m", "pytest", "-q", "-m", marks, *alone, *map(str, FILES)]
    surroundings = {**os.environ, "TRITON_INTERPRET": "1", "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, *arguments], env=surroundings, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
    assert " passed" in done.stdout
    assert "skipped" not in done.stdout
