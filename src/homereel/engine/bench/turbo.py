"""The other side of a bench: homereel, by the same door that everybody uses."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from homereel.core.request import Request
from homereel.core.result import FiledClip, Result
from homereel.engine.bench.figures import Figures
from homereel.engine.generate import generate, generate_file
from homereel.engine.memory import peak_bytes
from homereel.engine.session import Session
from homereel.planning.machine import probe_machine
from homereel.weights.word_store import WordStore


class HomereelSide:
    """Keeps a session warm; the first clip loads the weights."""

    def __init__(self, told: dict[str, Any], *, num_threads: int | None = None) -> None:
        self._request = Request.parse(told)
        machine = probe_machine()
        if num_threads is not None:
            machine = replace(machine, num_threads=num_threads)
        self._session = Session(
            machine=machine, words=WordStore.none()
        )  # each clip reads its words, as the other side does

    def make(
        self, prompt: str, seed: int, *, target: Path | None, keep_frames: bool
    ) -> tuple[Figures, NDArray[np.uint8] | None]:
        """One clip; without a target nothing is encoded."""
        request, session = self._request.replace(prompt=prompt, seed=seed), self._session
        started = time.perf_counter()
        result: Result | FiledClip
        if target is None or keep_frames:
            result = generate(request, session=session)
            if target is not None:
                result.save(target)
        else:
            result = generate_file(request, target, session=session)
        total, timing = time.perf_counter() - started, result.timing
        found = Figures(
            total_seconds=total,
            text_seconds=timing.text_seconds,
            transformer_seconds=timing.denoise_seconds,
            vae_seconds=timing.decode_seconds,
            encode_seconds=timing.write_seconds,
            load_seconds=timing.load_seconds,
            peak_bytes=max(result.peak_bytes, peak_bytes(self._session.machine.device)),
        )
        return found, result.frames if keep_frames and isinstance(result, Result) else None

    def close(self) -> None:
        """Give the weights back."""
        self._session.close()
