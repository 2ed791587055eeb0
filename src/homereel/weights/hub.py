"""Fetches a model from the hub into the shared cache: only what is needed, checked by hash, never twice."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from homereel.core.errors import WeightsError
from homereel.weights.file_index import FileIndex
from homereel.weights.hashes import remember_hash
from homereel.weights.hub_cache import HubCache, adopt, free_bytes, is_right
from homereel.weights.hub_download import download
from homereel.weights.hub_errors import check_online, hub_errors
from homereel.weights.hub_listing import INDEX, Listing, Parts, RemoteFile, list_model, needed_files
from homereel.weights.model_folder import read_json
from homereel.weights.transfer import Forecast, Meter, OnForecast, OnNote, OnTransfer, ShouldStop

SPARE_BYTES = 256 * 1024**2  # what must stay free on the disk


@dataclass(frozen=True)
class Fetched:
    """A whole model on this disk. `files` gives each file's size; `fetched_bytes` came over the line now."""

    snapshot: Path
    revision: str
    files: Mapping[str, int]
    fetched_bytes: int
    reused_bytes: int


def fetch_model(
    repo: str,
    *,
    parts: Parts | None = None,
    index: FileIndex | None = None,
    on_forecast: OnForecast | None = None,
    on_transfer: OnTransfer | None = None,
    on_note: OnNote | None = None,
    should_stop: ShouldStop | None = None,
) -> Fetched:
    """Bring a model in diffusers layout, or what is missing of it.

    `parts` says where the model differs from its own index. `index` knows files elsewhere on this disk; one with
    the right size and hash is linked instead of fetched.
    `on_forecast` is told what it will take before the weights come, and may raise to call it off.

    Raises WeightsError: offline, refused, no room, cut for good, or a file that is not what the hub says it is
    (it is put into quarantine). What has come stays, and the next call goes on from there.
    """
    check_online()
    from huggingface_hub import constants

    cache = HubCache(Path(constants.HF_HUB_CACHE), repo)
    with hub_errors(repo):
        listing = list_model(repo)
        listing.file(INDEX)
        with cache.locked(on_note=on_note):
            cache.prepare()
            job = _Fetch(cache, listing, parts=parts, on_transfer=on_transfer, on_note=on_note, should_stop=should_stop)
            return job.run(index or FileIndex({}), on_forecast=on_forecast)


def remove_model(repo: str, *, revision: str, names: Iterable[str]) -> int:
    """Take a fetched model's files out of the cache; returns the bytes that are free again."""
    from huggingface_hub import constants

    cache = HubCache(Path(constants.HF_HUB_CACHE), repo)
    with cache.locked(on_note=None):
        return cache.remove(revision, names)


class _Fetch:
    """One call of `fetch_model`."""

    def __init__(
        self,
        cache: HubCache,
        listing: Listing,
        *,
        parts: Parts | None,
        on_transfer: OnTransfer | None,
        on_note: OnNote | None,
        should_stop: ShouldStop | None,
    ) -> None:
        self.cache, self.listing, self.parts = cache, listing, parts
        self.on_transfer, self.on_note, self.should_stop = on_transfer, on_note, should_stop

    def run(self, index: FileIndex, *, on_forecast: OnForecast | None) -> Fetched:
        first = self.listing.file(INDEX)
        if not self._is_here(first):
            self._bring(first, Meter(total_bytes=first.size, on_transfer=None))
        files = needed_files(self.listing, read_json(self.cache.blob(first)), parts=self.parts)
        missing = [file for file in files if not self._is_here(file)]
        reused = [file for file in missing if self._reuse(file, index)]
        missing = [file for file in missing if file not in reused]
        meter = Meter(total_bytes=sum(file.size for file in missing), on_transfer=self.on_transfer)
        forecast = self._forecast(missing, total_bytes=sum(file.size for file in files))
        if on_forecast is not None:
            on_forecast(forecast)
        for file in missing:
            self._bring(file, meter)
        for file in files:
            self.cache.point(self.listing, file)
        self.cache.finish(self.listing)
        return Fetched(
            snapshot=self.cache.snapshot(self.listing),
            revision=self.listing.revision,
            files={file.path: file.size for file in files},
            fetched_bytes=forecast.fetch_bytes,
            reused_bytes=sum(file.size for file in reused),
        )

    def _is_here(self, file: RemoteFile) -> bool:
        """A blob of this name that is not what it should be is put aside."""
        blob = self.cache.blob(file)
        if not blob.exists():
            blob.unlink(missing_ok=True)  # a link into nowhere
            return False
        if is_right(blob, file):
            return True
        place = self.cache.quarantine(blob)
        self._note(f"{file.path} in the cache was damaged; it lies in {place} now, and is fetched anew")
        return False

    def _reuse(self, file: RemoteFile, index: FileIndex) -> bool:
        if file.sha256 is None:
            return False
        found = index.find(size=file.size, sha256=file.sha256)
        if found is None or not adopt(found, self.cache.blob(file)):
            return False
        self._note(f"{file.path} is on this disk already: {found}")
        return True

    def _forecast(self, missing: list[RemoteFile], *, total_bytes: int) -> Forecast:
        """Raises WeightsError if the disk has no room."""
        begun = sum(_size(self.cache.part(file)) for file in missing)
        needed = sum(file.size for file in missing) - begun
        free = free_bytes(self.cache.folder)
        if needed and needed + SPARE_BYTES > free:
            raise WeightsError(
                f"{self.listing.repo} needs {needed:,} bytes more, and {self.cache.root} has {free:,} free "
                f"(of which {SPARE_BYTES:,} stay free); make room, or set HF_HOME to another disk"
            )
        return Forecast(
            fetch_bytes=needed,
            here_bytes=total_bytes - needed,
            free_bytes=free,
            folder=str(self.cache.root),
        )

    def _bring(self, file: RemoteFile, meter: Meter) -> None:
        part, blob = self.cache.part(file), self.cache.blob(file)
        download(self.listing, file, part, meter=meter, should_stop=self.should_stop)
        meter.checking(file.path)
        if not is_right(part, file):
            place = self.cache.quarantine(part)
            raise WeightsError(
                f"{file.path} of {self.listing.repo} is not what the hub says it is (size or hash differ): it is not "
                f"used, and lies in {place}; run the same command to fetch it anew, or use another HF_ENDPOINT"
            )
        os.replace(part, blob)  # noqa: PTH105
        if file.sha256 is not None:
            remember_hash(blob, file.sha256)

    def _note(self, message: str) -> None:
        if self.on_note is not None:
            self.on_note(message)


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0
