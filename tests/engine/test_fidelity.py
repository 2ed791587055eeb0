"""Fidelity: the same seed with and without a change, against the noise of the unchanged clip itself."""

from __future__ import annotations

import math

import numpy as np
import pytest

from homereel import media
from homereel.core.errors import InvalidRequest, Stopped
from homereel.core.request import Request
from homereel.engine import fidelity
from homereel.engine.fidelity import Distance, Subject, measure_fidelity, summary
from homereel.engine.generate import generate
from homereel.engine.session import Session
from tests.engine.conftest import MakeRequest

SUBJECTS = (Subject("a red ball falls", 1), Subject("a blue cube spins", 2))


def test_nothing_changed(session: Session, tiny: MakeRequest) -> None:
    """On a CPU two runs are the same to the bit, so any difference would be of the measuring."""
    found = measure_fidelity(tiny(), tiny(), subjects=SUBJECTS, session=session)
    assert all(clip.changed.is_exact and clip.again is not None and clip.again.is_exact for clip in found.clips)
    told = found.as_dict()
    nothing = {"median": None, "p5": None}
    assert told["exact"] is told["floor"]["exact"] is True
    assert told["psnr"] == told["latent_snr"] == nothing
    assert told["latent_cosine"] == told["ssim"] == {"median": 1, "p5": 1}
    assert told["denoise_seconds"]["speedup"] > 0


def test_another_guidance(session: Session, tiny: MakeRequest) -> None:
    base, changed = tiny(), tiny(guidance=3.5)
    seen: list[tuple[int, int]] = []
    found = measure_fidelity(
        base, changed, subjects=SUBJECTS, session=session, num_again=1, on_clip=lambda *told: seen.append(told)
    )
    assert seen == [(number, 5) for number in range(1, 6)]  # two, one of them again, two
    assert [clip.again is not None for clip in found.clips] == [True, False]
    assert (found.base.guidance, found.other.guidance) == (3.0, 3.5)
    for clip, subject in zip(found.clips, SUBJECTS, strict=True):
        a, b = (
            generate(asked.replace(prompt=subject.prompt, seed=subject.seed), session=session).frames
            for asked in (base, changed)
        )
        assert clip.subject == subject
        assert clip.changed.psnr == media.psnr(a, b) < math.inf
        assert clip.changed.ssim is not None
        assert clip.changed.ssim < 1
        assert 0.5 < clip.changed.latent_cosine < 1
        assert 0 < clip.changed.latent_snr < math.inf


def test_a_larger_change_is_farther(session: Session, tiny: MakeRequest) -> None:
    near, far = (
        measure_fidelity(tiny(), tiny(guidance=guidance), subjects=SUBJECTS[:1], session=session).changed[0]
        for guidance in (3.1, 5.0)
    )
    assert near.psnr > far.psnr
    assert near.latent_cosine > far.latent_cosine
    assert near.latent_snr > far.latent_snr


def test_a_noisy_baseline_shows(session: Session, tiny: MakeRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine whose runs differ: every run gets another seed behind our back."""
    seeds = iter(range(100))

    def noisy(request: Request, **more: object) -> object:
        return generate(request.replace(seed=next(seeds)), **more)  # type: ignore[arg-type]

    monkeypatch.setattr(fidelity, "generate", noisy)
    found = measure_fidelity(tiny(), tiny(), subjects=SUBJECTS, session=session)
    assert not any(distance.is_exact for distance in found.floor)
    told = found.as_dict()["floor"]
    assert (told["exact"], told["num_clips"]) == (False, 2)
    assert told["psnr"]["p5"] < 30


def test_latent_figures() -> None:
    base = np.array([3.0, 4.0], np.float32)
    assert fidelity._latent_distance(base, base * 2) == pytest.approx((1, 0))
    cosine, ratio = fidelity._latent_distance(base, np.array([3.0, 4.5], np.float32))
    assert ratio == pytest.approx(20)  # a tenth of its length
    assert cosine == pytest.approx((9 + 18) / (5 * math.hypot(3, 4.5)))


def test_median_and_fifth_percentile() -> None:
    distances = [Distance(psnr, None, psnr / 100, math.inf) for psnr in range(1, 41)]
    told = summary(distances)
    assert told["psnr"] == {"median": 20.5, "p5": 2}
    assert told["ssim"] is None
    assert told["latent_snr"] == {"median": None, "p5": None}
    assert not told["exact"]


@pytest.mark.parametrize(("wish", "field"), [({"width": 48}, "width"), ({"num_frames": 9}, "num_frames")])
def test_clips_that_cannot_be_compared(session: Session, tiny: MakeRequest, wish: dict[str, int], field: str) -> None:
    with pytest.raises(InvalidRequest, match=field):
        measure_fidelity(tiny(), tiny(**wish), subjects=SUBJECTS, session=session)


def test_no_subject(session: Session, tiny: MakeRequest) -> None:
    with pytest.raises(InvalidRequest, match="prompt"):
        measure_fidelity(tiny(), tiny(), subjects=(), session=session)


def test_stop(session: Session, tiny: MakeRequest) -> None:
    with pytest.raises(Stopped):
        measure_fidelity(tiny(), tiny(), subjects=SUBJECTS, session=session, should_stop=lambda: True)
