"""Frames on their way out of a decoder: counted, told, hashed and looked at while whoever takes them goes on."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from homereel.core.errors import GenerationFailed
from homereel.core.plan import Plan
from homereel.core.protocols import Component, Use
from homereel.core.result import start_frames_hash
from homereel.engine.run import Run

# A clip whose brightest and darkest values are closer than this shows nothing.
FLAT_LEVELS = 8


class Decodes(Protocol):
    """What is needed of a family."""

    def decode(self, latents: Tensor, *, plan: Plan, use: Use) -> Generator[NDArray[np.uint8]]: ...


class Decoding:
    """The frames of one clip, to be taken once; `frames_sha256` is known when all are taken."""

    def __init__(self, latents: Tensor, *, plan: Plan, family: Decodes, use: Use, run: Run) -> None:
        self.shape = (plan.num_frames, plan.height, plan.width, 3)
        self._latents, self._plan, self._family = latents, plan, family
        self._use, self._run = use, run
        self._hash = start_frames_hash(self.shape)
        self._num_done = 0
        self._darkest, self._brightest = 255, 0

    @property
    def frames_sha256(self) -> str:
        assert self._num_done == self.shape[0], "not all frames are taken"
        return self._hash.hexdigest()

    def pieces(self) -> Generator[NDArray[np.uint8]]:
        """(t, H, W, 3) after one another.

        A stop takes effect between them. Raises GenerationFailed, at the end, if the frames show nothing.
        """
        with closing(self._family.decode(self._latents, plan=self._plan, use=self._lend)) as decoded:
            while True:
                self._run.stop_point()
                with self._run.timed("decode"):
                    piece = next(decoded, None)
                    if piece is None:
                        break
                    self._take(piece)
                yield piece
        assert self._num_done == self.shape[0], f"{self._num_done} frames came, {self.shape[0]} were planned"
        self._check_shown()

    def frames(self) -> Generator[NDArray[np.uint8]]:
        """The same, (H, W, 3) after one another."""
        with closing(self.pieces()) as pieces:
            for piece in pieces:
                yield from piece

    def whole(self) -> NDArray[np.uint8]:
        """All of them in memory."""
        frames = np.empty(self.shape, np.uint8)
        at = 0
        for piece in self.pieces():
            frames[at : at + len(piece)] = piece
            at += len(piece)
        return frames

    def _lend(self, name: str) -> AbstractContextManager[Component]:
        """Loading counts as such; decoding is told to begin when the decoder is there."""

        @contextmanager
        def lent() -> Iterator[Component]:
            with self._use(name) as part:
                self._tell()
                yield part

        return lent()

    def _take(self, piece: NDArray[np.uint8]) -> None:
        assert piece.shape[1:] == self.shape[1:], (piece.shape, self.shape)
        self._hash.update(np.ascontiguousarray(piece).data)
        self._darkest = min(self._darkest, int(piece.min()))
        self._brightest = max(self._brightest, int(piece.max()))
        self._num_done += len(piece)
        self._tell()

    def _tell(self) -> None:
        self._run.report("decode", self._num_done, self.shape[0])

    def _check_shown(self) -> None:
        if self._brightest - self._darkest < FLAT_LEVELS:
            level = "black" if self._brightest < FLAT_LEVELS else "one flat colour"
            raise GenerationFailed(f"the whole clip came out {level}; try another seed, or more steps")
