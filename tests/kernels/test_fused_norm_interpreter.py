"""Runs the cases of `interpreted_fused_norm.py`: the Triton kernels of fused norms without a GPU.

Triton's interpreter has to be chosen before Triton is imported, so they run in a process of their own.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.kernels.compile_for import NEEDS_TRITON

pytest.importorskip("triton", reason=NEEDS_TRITON)


def test_the_kernels_compute_what_the_reference_says() -> None:
    cases = Path(__file__).with_name("interpreted_fused_norm.py")
    arguments = ["-m", "pytest", "-q", "--noconftest", "-p", "no:cacheprovider", str(cases)]
    surroundings = {**os.environ, "TRITON_INTERPRET": "1"}
    done = subprocess.run([sys.executable, *arguments], env=surroundings, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
    assert " passed" in done.stdout
    assert "skipped" not in done.stdout
