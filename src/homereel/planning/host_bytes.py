"""What a process holds besides weights and what layers pass on: libraries, a GPU's driver, the file being written."""

from __future__ import annotations

from homereel.core.machine import Machine
from homereel.core.plan import Plan

MIB = 1024**2
# A process with all that a clip imports, before any weights, measured on Linux.
PROCESS_BYTES = 520 * MIB
# With CUDA's own libraries, which a GPU needs in the host's memory.
CUDA_PROCESS_BYTES = 1800 * MIB
# On the GPU itself: the driver's context and the kernels of libraries.
CONTEXT_BYTES = 500 * MIB
# Gaps between tensors, as a share of what is allocated; blocks of one size leave few.
SLACK_SHARE = 0.03
# What an encoder holds, and the frames that it looks at ahead, with all that it keeps of each; measured likewise.
ENCODER_BYTES, ENCODER_FRAMES, ENCODER_BYTES_A_PIXEL = 8 * MIB, 60, 18.0
# A record and its hashes are small; a frame on its way is held once as it is and once as it is written.
_BYTES_A_PIXEL_ON_ITS_WAY = 9


def process_bytes(machine: Machine) -> int:
    """Before anything of a model is there."""
    return CUDA_PROCESS_BYTES if machine.device == "cuda" else PROCESS_BYTES


def file_bytes(plan: Plan) -> int:
    """While a clip is written."""
    pixels = plan.width * plan.height
    ahead = min(plan.num_frames, ENCODER_FRAMES)
    return round(ENCODER_BYTES + pixels * (ahead * ENCODER_BYTES_A_PIXEL + _BYTES_A_PIXEL_ON_ITS_WAY))


def device_need_bytes(allocated: int) -> int:
    """Of a GPU's memory, for so much that is allocated."""
    return round(allocated * (1 + SLACK_SHARE)) + CONTEXT_BYTES


def device_room_bytes(limit: int) -> int:
    """How much may be allocated where so much is free."""
    return max(0, round((limit - CONTEXT_BYTES) / (1 + SLACK_SHARE)))
