"""Compiles a Triton kernel for a GPU that need not be there, and reads from the machine code what it will need.

Only for a process without TRITON_INTERPRET. A test that uses this says first:
`pytest.importorskip("triton", reason=NEEDS_TRITON)`.
"""

from __future__ import annotations

import re
import subprocess
import tempfile
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

NEEDS_TRITON = "Triton is not installed: pip install --no-deps triton==3.7.1"
CAPABILITIES = (80, 89, 90, 100, 120)
SHARED_LIMIT_BYTES = {80: 163 * 1024, 89: 99 * 1024, 90: 227 * 1024, 100: 227 * 1024, 120: 99 * 1024}
"""Shared memory that one block may ask for, by compute capability (CUDA programming guide, table of limits)."""


@dataclass(frozen=True)
class Compiled:
    """What the compiler made of a kernel. `stack_bytes` above 0 means that registers were spilled."""

    ptx: str
    shared_bytes: int
    num_registers: int
    stack_bytes: int

    @property
    def is_pipelined(self) -> bool:
        """Copies to shared memory run ahead of the arithmetic: cp.async, or the tensor copy engine."""
        return "cp.async" in self.ptx

    def instructions(self, pattern: str) -> set[str]:
        """The instructions of the PTX that match, such as "mma.sync", "wgmma", "tcgen05.mma"."""
        return set(re.findall(rf"(?:^|\s)((?:{pattern})[\w.:]*)", self.ptx))


def compile_for(
    kernel: Any,
    *,
    capability: int,
    signature: Mapping[str, str],
    constants: Mapping[str, Any],
    divisible: Collection[str] = (),
    num_warps: int = 4,
    num_stages: int = 2,
) -> Compiled:
    """Compile a `@triton.jit` function.

    `signature` gives the type of each run-time argument, such as "*bf16", "i32", "fp32"; `constants` the constexpr
    ones. Pointers, and the integers named in `divisible`, are taken to be multiples of 16, as a launch finds them.
    """
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    types = {name: signature.get(name, "constexpr") for name in kernel.arg_names}
    strange = (set(signature) | set(constants) | set(divisible)) - set(kernel.arg_names)
    missing = {name for name, kind in types.items() if kind == "constexpr"} - set(constants)
    assert not strange, f"{kernel.__name__} has no {sorted(strange)}"
    assert not missing, f"{kernel.__name__} also needs {sorted(missing)}"
    aligned = [index for index, name in enumerate(kernel.arg_names) if name in divisible or types[name][0] == "*"]
    source = ASTSource(kernel, types, dict(constants), attrs={(index,): [["tt.divisibility", 16]] for index in aligned})
    target = GPUTarget("cuda", capability, 32)
    built = triton.compile(source, target=target, options={"num_warps": num_warps, "num_stages": num_stages})
    registers, stack_bytes = _resources(built.asm["cubin"])
    return Compiled(built.asm["ptx"], int(built.metadata.shared), registers, stack_bytes)


def _resources(cubin: bytes) -> tuple[int, int]:
    """Registers a thread, and bytes of stack, as the disassembler that comes with Triton reports them."""
    from triton.backends import nvidia

    tool = Path(str(nvidia.__file__)).parent / "bin" / "cuobjdump"
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(cubin)
        file.flush()
        done = subprocess.run([tool, "-res-usage", file.name], check=True, capture_output=True, text=True)
    found = re.search(r"REG:(\d+) STACK:(\d+)", done.stdout)
    assert found, done.stdout
    return int(found[1]), int(found[2])
