"""One repository's place in the cache that all tools of Hugging Face share: blobs, and snapshots that link to them."""

from __future__ import annotations

import hashlib
import os
import shutil
import stat
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from homereel.core.errors import WeightsError
from homereel.weights.hashes import hash_files
from homereel.weights.hub_listing import Listing, RemoteFile
from homereel.weights.transfer import OnNote

_SMALL_BYTES = 64 * 1024**2
_PATIENCE_SECONDS = 0.5


@dataclass(frozen=True)
class HubCache:
    """The folder of one repository below the cache's root."""

    root: Path
    repo: str

    @property
    def folder(self) -> Path:
        return self.root / ("models--" + self.repo.replace("/", "--"))

    def blob(self, file: RemoteFile) -> Path:
        """Where the file's content lies once it is whole and right."""
        return self.folder / "blobs" / file.etag

    def part(self, file: RemoteFile) -> Path:
        """Where it grows. A changed file has another name, so parts of two versions never mix."""
        return self.folder / "blobs" / f"{file.etag}.homereel.incomplete"

    def snapshot(self, listing: Listing) -> Path:
        return self.folder / "snapshots" / listing.revision

    @contextmanager
    def locked(self, *, on_note: OnNote | None) -> Iterator[None]:
        """Only one process fetches a repository; another waits, then finds it done."""
        from huggingface_hub.utils import WeakFileLock

        lock = self.root / ".locks" / self.folder.name / "homereel.lock"
        _make_folder(lock.parent)
        with ExitStack() as held:
            try:
                held.enter_context(WeakFileLock(lock, timeout=_PATIENCE_SECONDS))
            except TimeoutError:
                if on_note is not None:
                    on_note(f"another process is fetching {self.repo}; waiting for it")
                held.enter_context(WeakFileLock(lock))
            yield

    def prepare(self) -> None:
        """Raises WeightsError if the cache cannot be written."""
        _make_folder(self.folder / "blobs")
        _make_folder(self.folder / "snapshots")
        _make_folder(self.folder / "refs")

    def point(self, listing: Listing, file: RemoteFile) -> Path:
        """The file's name in the snapshot, leading to its blob."""
        name, blob = self.snapshot(listing) / file.path, self.blob(file)
        _make_folder(name.parent)
        if name.is_symlink() or name.exists():
            with suppress(OSError):
                if name.samefile(blob):
                    return name
            name.unlink()
        target = os.path.relpath(blob, name.parent)
        with suppress(OSError):
            name.symlink_to(target)
            return name
        link_or_copy(blob, name)
        return name

    def finish(self, listing: Listing) -> None:
        """Other tools find this commit as the newest."""
        (self.folder / "refs" / "main").write_text(listing.revision, encoding="utf-8")

    def remove(self, revision: str, names: Iterable[str]) -> int:
        """Take files of a snapshot away, and their blobs if no other snapshot needs them; returns bytes freed."""
        snapshot, blobs = self.folder / "snapshots" / revision, set()
        for name in names:
            path = snapshot / name
            blobs.add(_leads_to(path))
            path.unlink(missing_ok=True)
        others = {_leads_to(path) for path in (self.folder / "snapshots").rglob("*") if path.is_symlink()}
        doomed = {blob for blob in blobs - others if blob.parent == self.folder / "blobs"}
        doomed |= {*self.folder.glob("blobs/*.homereel.incomplete"), *self.folder.glob("quarantine/*")}
        freed = sum(_own_bytes(blob) for blob in doomed)
        for blob in doomed:
            blob.unlink(missing_ok=True)
        folders = [path for path in self.folder.rglob("*") if path.is_dir() and not path.is_symlink()]
        for folder in sorted(folders, key=lambda path: -len(path.parts)):
            with suppress(OSError):  # not empty
                folder.rmdir()
        return freed

    def quarantine(self, path: Path) -> Path:
        """Put a wrong file where nothing uses it; returns the new place."""
        folder = self.folder / "quarantine"
        _make_folder(folder)
        target = folder / path.name.removesuffix(".homereel.incomplete")
        os.replace(path, target)  # noqa: PTH105  # a link is moved itself, not followed
        return target


def _leads_to(name: Path) -> Path:
    """The blob behind a name in a snapshot: one step only, for a blob may itself lead to another tool's file."""
    return Path(os.path.normpath(name.parent / name.readlink())) if name.is_symlink() else name


def _own_bytes(blob: Path) -> int:
    """What the disk gains when this goes: nothing for a link."""
    try:
        state = blob.lstat()
    except OSError:
        return 0
    return state.st_size if stat.S_ISREG(state.st_mode) and state.st_nlink == 1 else 0


def is_right(path: Path, file: RemoteFile) -> bool:
    """Whether this is the file that the hub describes, by size and hash."""
    try:
        if path.stat().st_size != file.size:
            return False
    except OSError:
        return False
    if file.sha256 is not None:
        return hash_files({"": path})[""] == file.sha256
    if file.size > _SMALL_BYTES:
        return False
    content = path.read_bytes()
    return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest() == file.git_sha1


def adopt(found: Path, blob: Path) -> bool:
    """Make a file from elsewhere on this disk the blob, without copying; False if the disk cannot."""
    with suppress(OSError):
        os.link(found.resolve(), blob)
        return True
    with suppress(OSError):
        blob.symlink_to(found.resolve())
        return True
    return False


def link_or_copy(source: Path, target: Path) -> None:
    """For disks without symbolic links."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


def free_bytes(folder: Path) -> int:
    """Room on the disk of a folder, which need not be there yet."""
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    return shutil.disk_usage(folder).free


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise WeightsError(
            f"{folder} cannot be made: {error.strerror or error}; set HF_HOME to a folder that can be written"
        ) from None
