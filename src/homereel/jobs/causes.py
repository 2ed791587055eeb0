"""From an exception to what a job says of its failure, and whether trying again could help."""

from __future__ import annotations

from dataclasses import dataclass

from homereel.core.errors import (
    DoesNotFit,
    GenerationFailed,
    HomereelError,
    InvalidRequest,
    MediaError,
    RanOutOfMemory,
    UnknownModel,
    UnsupportedInput,
    UnsupportedPass,
    UnwritableTarget,
    WeightsError,
)
from homereel.core.shortage import is_out_of_memory
from homereel.jobs.records import JobError

# The first class that fits names the code.
_CODES: tuple[tuple[type[HomereelError], str], ...] = (
    (UnknownModel, "unknown_model"),
    (UnsupportedInput, "unsupported"),
    (DoesNotFit, "unsupported"),
    (UnsupportedPass, "unsupported"),
    (InvalidRequest, "invalid_request"),
    (UnwritableTarget, "storage"),
    (MediaError, "invalid_input"),
    (WeightsError, "weights"),
    (GenerationFailed, "generation_failed"),
)
_MAX_CHARACTERS = 1_000


@dataclass(frozen=True)
class Cause:
    """What is told of a failure; `retry` if the same request may well succeed the next time."""

    error: JobError
    retry: bool = False
    keeps_state: bool = True  # whether the steps that were done are worth going on from
    frees_model: bool = False  # whether the loaded model is in the way, or not to be trusted any more


def cause_of(error: BaseException) -> Cause:
    """The user's mistakes, and whatever would come again, are not tried again; what nobody expected is."""
    if is_out_of_memory(error):
        message = (
            "memory ran out where the clip cannot be made with less; ask for a smaller size or fewer frames, "
            "or close other programs"
        )
        return Cause(JobError("out_of_memory", message), frees_model=True)
    if isinstance(error, RanOutOfMemory):
        return Cause(JobError("out_of_memory", _short(str(error))), frees_model=True)
    if isinstance(error, HomereelError):
        code = next((code for kind, code in _CODES if isinstance(error, kind)), "failed")
        return Cause(JobError(code, _short(str(error))), keeps_state=not isinstance(error, GenerationFailed))
    message = _short(f"unexpected {type(error).__name__}: {error}")
    return Cause(JobError("internal", message), retry=True, frees_model=True)


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= _MAX_CHARACTERS else line[: _MAX_CHARACTERS - 1] + "…"
