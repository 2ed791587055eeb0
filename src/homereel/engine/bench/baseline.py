"""One side of a bench: diffusers' own WanPipeline, as its documentation uses it. Nothing of homereel computes here.

The only additions are clocks at the doors of its stages; between them the pipeline runs untouched.
"""

from __future__ import annotations

import importlib.util
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from homereel.engine.bench.figures import Figures
from homereel.engine.memory import peak_bytes, start_peak


class DiffusersSide:
    """Loads the pipeline when it is made; each clip is then warm but for what the first run sets up."""

    def __init__(self, told: dict[str, Any]) -> None:
        start_peak(told["device"])  # for the first clip: the weights come in
        torch.set_num_threads(told["num_threads"])
        self._told = told
        started = time.perf_counter()
        self._pipeline = load_pipeline(told)
        self._load_seconds = time.perf_counter() - started
        self._marks = Marks(told["device"])
        self._marks.at(self._pipeline, "encode_prompt", end="text ends")
        self._marks.at(self._pipeline.vae, "decode", start="vae starts")

    def make(
        self, prompt: str, seed: int, *, target: Path | None, keep_frames: bool
    ) -> tuple[Figures, NDArray[np.uint8] | None]:
        """One clip; without a target nothing is encoded."""
        told, marks, load_seconds = self._told, self._marks, self._load_seconds
        if load_seconds == 0:
            start_peak(told["device"])
        self._load_seconds = 0.0
        started = marks.now()
        frames = self._pipeline(
            prompt=prompt,
            negative_prompt=told["negative_prompt"],
            width=told["width"],
            height=told["height"],
            num_frames=told["num_frames"],
            num_inference_steps=told["steps"],
            guidance_scale=told["guidance"],
            guidance_scale_2=told["guidance_2"],
            max_sequence_length=told["max_tokens"],
            generator=torch.Generator().manual_seed(seed),
        ).frames[0]
        decoded = marks.now()
        if target is not None:
            export(frames, target, fps=told["fps"])
        ended = marks.now()
        found = Figures(
            total_seconds=load_seconds + ended - started,
            text_seconds=marks["text ends"] - started,
            transformer_seconds=marks["vae starts"] - marks["text ends"],
            vae_seconds=decoded - marks["vae starts"],
            encode_seconds=ended - decoded,
            load_seconds=load_seconds,
            peak_bytes=peak_bytes(told["device"]),
        )
        return found, (frames * 255).round().astype(np.uint8) if keep_frames else None

    def close(self) -> None:
        """The process ends with it."""


class Marks:
    """Moments at which a method of an object begins or ends, once the device has done what it was given."""

    def __init__(self, device: str) -> None:
        self._device = device
        self._seen: dict[str, float] = {}

    def __getitem__(self, name: str) -> float:
        return self._seen[name]

    def now(self) -> float:
        """Seconds of the clock that all marks share."""
        if self._device == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter()

    def at(self, owner: Any, method: str, *, start: str | None = None, end: str | None = None) -> None:
        """Watch one method; of several calls in a clip the last counts."""
        inner: Callable[..., Any] = getattr(owner, method)

        def watched(*arguments: Any, **options: Any) -> Any:
            if start is not None:
                self._seen[start] = self.now()
            result = inner(*arguments, **options)
            if end is not None:
                self._seen[end] = self.now()
            return result

        setattr(owner, method, watched)


def load_pipeline(told: dict[str, Any]) -> Any:
    """The pipeline with its weights where it computes."""
    import diffusers

    diffusers.utils.logging.disable_progress_bar()
    stock: Any = diffusers.WanPipeline.from_pretrained(
        told["folder"], torch_dtype=getattr(torch, told["dtype"]), local_files_only=True
    )
    stock.set_progress_bar_config(disable=True)
    if told["offload"]:
        stock.enable_model_cpu_offload()
        return stock
    return stock.to(told["device"])


def export(frames: NDArray[Any], target: Path, *, fps: float) -> None:
    """Frames (T, H, W, 3) in 0 to 1 to an mp4, by diffusers' own exporter: the usual one where the library that it
    needs is here, else its newer one over PyAV."""
    from diffusers.utils import encode_video, export_to_video

    if exporter() == "export_to_video":
        export_to_video(list(frames), str(target), fps=round(fps))
    else:
        encode_video(frames, fps=round(fps), output_path=str(target))


def exporter() -> str:
    """Which of diffusers' exporters works here."""
    usual = all(importlib.util.find_spec(name) for name in ("imageio", "imageio_ffmpeg"))
    return "export_to_video" if usual else "encode_video"
