"""What a repository on the hub holds, and which of its files a model in diffusers layout needs."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from homereel.core.errors import WeightsError
from homereel.weights.hub_errors import hub_name

INDEX, CARD = "model_index.json", "homereel.json"
_PART = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._+-]*")
_SHA256, _SHA1 = re.compile(r"[0-9a-f]{64}"), re.compile(r"[0-9a-f]{40}")
_VARIANT = re.compile(r"\.(fp16|fp32|bf16|fp8|non_ema)[.-]")  # a second copy in another number format
_TOKENIZER_SUFFIXES = (".json", ".model", ".txt")
_PICKLES = (".bin", ".pt", ".pth", ".ckpt")


@dataclass(frozen=True)
class RemoteFile:
    """One file on the hub; large ones have a SHA-256, small ones the SHA-1 that git gives them."""

    path: str
    size: int
    sha256: str | None
    git_sha1: str

    @property
    def etag(self) -> str:
        """Its name among the blobs of the cache."""
        return self.sha256 or self.git_sha1


@dataclass(frozen=True)
class Listing:
    """A repository at one commit."""

    repo: str
    revision: str
    files: tuple[RemoteFile, ...]

    def file(self, path: str) -> RemoteFile:
        """Raises WeightsError if there is no such file."""
        for file in self.files:
            if file.path == path:
                return file
        if any(file.path.endswith(_PICKLES) for file in self.files):
            raise WeightsError(f"{self.repo} holds pickled weights, which can run code; they are not fetched")
        raise WeightsError(f"{self.repo} is no model in diffusers layout: it has no {path}")


def list_model(repo: str) -> Listing:
    """Ask the hub. File names and hashes that could lead astray are left out or refused."""
    from huggingface_hub import HfApi, constants

    info = HfApi(endpoint=constants.ENDPOINT, library_name="homereel").model_info(
        repo, files_metadata=True, timeout=30.0
    )
    revision = str(info.sha or "")
    if not _SHA1.fullmatch(revision):
        raise WeightsError(f"{hub_name()} gave no commit for {repo}; check HF_ENDPOINT")
    return Listing(repo=repo, revision=revision, files=tuple(_files(info.siblings or ())))


@dataclass(frozen=True)
class Parts:
    """How a model's parts differ from those in its index: what lies beside it, and what homereel has no use for."""

    extra: tuple[str, ...] = ()
    unused: tuple[str, ...] = ()


def needed_files(listing: Listing, index: Mapping[str, Any], *, parts: Parts | None = None) -> tuple[RemoteFile, ...]:
    """The index, our own card, and of each component in the index: configuration, safetensors, tokenizer; no code."""
    parts = parts or Parts()
    components = {*parts.extra} | {
        name
        for name, value in index.items()
        if isinstance(value, list) and len(value) == 2 and value[0] is not None and _PART.fullmatch(name)
    }
    components -= {*parts.unused}
    needed = [file for file in listing.files if _is_needed(file.path, components)]
    if not any(file.path.endswith(".safetensors") for file in needed):
        listing.file(INDEX)  # tells of pickles, if that is all there is
        raise WeightsError(f"{listing.repo} holds no .safetensors weights for its components; it is not fetched")
    return tuple(sorted(needed, key=lambda file: file.path))


def _is_needed(path: str, components: set[str]) -> bool:
    folder, _, name = path.rpartition("/")
    if path in (INDEX, CARD):
        return True
    if folder not in components or _VARIANT.search(name):
        return False
    suffixes = _TOKENIZER_SUFFIXES if "tokenizer" in folder or "processor" in folder else (".json", ".safetensors")
    return name.endswith(suffixes)


def _files(siblings: Iterable[Any]) -> Iterable[RemoteFile]:
    for sibling in siblings:
        path, size, blob = sibling.rfilename, sibling.size, str(sibling.blob_id or "")
        sha256 = str(sibling.lfs.sha256) if sibling.lfs is not None else None
        harmless = all(_PART.fullmatch(part) for part in str(path).split("/"))
        known = _SHA256.fullmatch(sha256) if sha256 is not None else _SHA1.fullmatch(blob)
        if harmless and known and isinstance(size, int) and size >= 0:
            yield RemoteFile(path=path, size=size, sha256=sha256, git_sha1=blob)
