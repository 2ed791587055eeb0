"""What is said of failures: a word for programs, a line for people, and whether it is worth another try."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from homereel.core.errors import GenerationFailed, HomereelError, UnreadableMedia, UnwritableTarget
from homereel.jobs import worker_death
from homereel.jobs.causes import cause_of
from homereel.jobs.worker_death import death_reason, oom_kills


@pytest.mark.parametrize(
    ("error", "code", "retry"),
    [
        (UnreadableMedia("x"), "invalid_input", False),
        (UnwritableTarget("x"), "storage", False),
        (GenerationFailed("x"), "generation_failed", False),
        (HomereelError("x"), "failed", False),
        (MemoryError(), "out_of_memory", False),
        (torch.OutOfMemoryError("x"), "out_of_memory", False),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: 9 bytes"), "out_of_memory", False),
        (RuntimeError("CUDA error: device-side assert"), "internal", True),
        (OSError("x"), "internal", True),
    ],
)
def test_a_code_for_every_error(error: Exception, code: str, retry: bool) -> None:
    cause = cause_of(error)
    assert (cause.error.code, cause.retry) == (code, retry)
    assert cause.error.message


def test_a_worthless_clip_keeps_no_state_and_a_message_is_one_line() -> None:
    assert not cause_of(GenerationFailed("x")).keeps_state
    assert cause_of(UnwritableTarget("x")).keeps_state
    long = cause_of(ValueError("a\nb\t" + "c" * 5000)).error.message
    assert long.startswith("unexpected ValueError: a b c")
    assert len(long) == 1000


def test_37_a_death_says_whether_memory_ran_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    counter = tmp_path / "vmstat"
    monkeypatch.setattr(worker_death, "_COUNTERS", (tmp_path / "absent", counter))
    counter.write_text("pgfault 12\noom_kill 3\n")
    before = oom_kills()
    assert before == (3,)
    assert "by someone or because" in death_reason(-9, oom_kills_before=before)
    counter.write_text("oom_kill 4\n")
    assert "as the machine's memory ran out" in death_reason(-9, oom_kills_before=before)
    assert death_reason(-11, oom_kills_before=before) == "its worker crashed with SIGSEGV"
    assert death_reason(1, oom_kills_before=before, last_words="no") == "its worker ended with exit code 1: no"
