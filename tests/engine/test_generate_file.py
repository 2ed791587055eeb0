"""A clip that is written while it is decoded: the frames of `generate`, and whole or not at all."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from homereel.core.errors import GenerationFailed, Stopped
from homereel.core.events import Progress
from homereel.core.plan import Plan
from homereel.engine.generate import generate, generate_file
from homereel.engine.session import Session
from homereel.media import read_clip, read_record
from homereel.models.wan import facts as wan_facts
from homereel.models.wan.family import WanFamily
from tests.engine.conftest import MakeRequest


@pytest.fixture(autouse=True)
def short_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """A latent frame each: 1 frame, then 4 and 4."""
    monkeypatch.setattr(wan_facts, "PIECE_BYTES", 0)


def without_times(plan: Plan) -> Plan:
    """What the ledger knows better from clip to clip is left out."""
    plan = replace(plan, seconds=None, stages=(), band=None, correction=1.0)
    return replace(plan, peak_bytes=0, peak_ram_bytes=0, peak_correction=1.0)


def test_the_file_holds_the_frames_of_generate(tiny: MakeRequest, session: Session, tmp_path: Path) -> None:
    request = tiny(num_frames=9)
    kept = generate(request, session=session)
    frames = generate_file(request, f"{tmp_path}/frames/", session=session)
    assert frames.frames_sha256 == kept.frames_sha256
    assert np.array_equal(read_clip(frames.path).frames, kept.frames)
    film = generate_file(request, lambda: tmp_path / "a.mp4", quality=70, session=session, parents=("a" * 64,))
    assert film.frames_sha256 == kept.frames_sha256
    assert film.peak_bytes > 0
    assert without_times(film.plan) == without_times(kept.plan)
    found: Any = read_record(film.path)
    assert found == film.record
    assert found["homereel"]["frames_sha256"] == kept.frames_sha256
    assert found["homereel"]["encoding"] == {"quality": 70}


def test_frames_are_written_while_later_ones_are_decoded(tiny: MakeRequest, session: Session, tmp_path: Path) -> None:
    told: list[tuple[str, int, int]] = []
    written: list[int] = []

    def listen(progress: Progress) -> None:
        if progress.stage == "decode":
            told.append((progress.stage, progress.step, progress.num_steps))
            written.append(sum(path.suffix == ".png" for path in tmp_path.rglob("*")))

    clip = generate_file(tiny(num_frames=9), f"{tmp_path}/frames/", session=session, on_progress=listen)
    assert told == [("decode", done, 9) for done in (0, 1, 5, 9)]
    assert written == [0, 0, 1, 5]
    assert clip.timing.decode_seconds > 0
    assert clip.timing.write_seconds > 0


def test_a_stop_between_pieces_leaves_nothing(tiny: MakeRequest, session: Session, tmp_path: Path) -> None:
    decoded: list[int] = []
    open_files: list[str] = []

    @contextmanager
    def writing() -> Iterator[None]:
        open_files.append("open")
        try:
            yield
        finally:
            open_files.append("closed")

    def listen(progress: Progress) -> None:
        if progress.stage == "decode":
            decoded.append(progress.step)

    with pytest.raises(Stopped):
        generate_file(
            tiny(num_frames=9),
            tmp_path / "a.mp4",
            session=session,
            on_progress=listen,
            should_stop=lambda: 5 in decoded,
            writing=writing,
        )
    assert decoded == [0, 1, 5]
    assert open_files == ["open", "closed"]
    assert list(tmp_path.iterdir()) == []


def test_a_clip_that_fails_at_its_end_leaves_nothing(
    tiny: MakeRequest, session: Session, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    grey = np.full((5, 32, 32, 3), 130, np.uint8)
    monkeypatch.setattr(WanFamily, "decode", lambda self, latents, **_: (piece for piece in (grey[:1], grey[1:])))
    with pytest.raises(GenerationFailed, match="one flat colour"):
        generate_file(tiny(), tmp_path / "a.mp4", session=session)
    assert list(tmp_path.iterdir()) == []
