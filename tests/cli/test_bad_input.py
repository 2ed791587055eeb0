"""Bad input: one line that says what to do, exit code 2, nothing left behind; each through the real program."""

from __future__ import annotations

import errno
import os
import struct
import zlib
from collections import namedtuple
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.conftest import Cli, Outcome


@pytest.fixture(autouse=True)
def nothing_left_behind(folder: Path) -> Iterator[None]:
    """No test of this file makes anything in the present folder that it did not put there itself."""
    yield
    assert [path.name for path in folder.iterdir() if not path.name.startswith("given")] == []


def refusal(done: Outcome) -> str:
    assert done.code == 2, done
    return done.complaint


@pytest.mark.parametrize("prompt", ["", "   \n", "\x07\x00"])
def test_empty_prompt(generate: Cli, prompt: str) -> None:
    assert "describe what to see" in refusal(generate(prompt))


def test_prompt_of_ten_megabytes(generate: Cli) -> None:
    assert "at most 10000 are allowed: shorten it" in refusal(generate("ball " * 2_000_000))
    assert "at most 10,000 characters" in refusal(generate("-", stdin=b"ball " * 2_000_000))
    assert "shorten it" in refusal(generate("-", stdin=b"ball " * 10_000))


def test_prompt_that_is_no_text(generate: Cli) -> None:
    assert "UTF-8" in refusal(generate("-", stdin=b"\xff\xfe\x00ball"))


def test_unknown_model_names_the_nearest(cli: Cli) -> None:
    assert "did you mean pocket" in refusal(cli("generate", "a ball", "-m", "poket"))
    assert "wan2.1-t2v-1.3b" in refusal(cli("generate", "a ball", "-m", "wan2.1-t2v-1.4b"))
    assert "did you mean pocket" in refusal(cli("models", "info", "pockt"))


@pytest.mark.parametrize(
    ("option", "value", "hint"),
    [
        ("--seed", "4294967296", "4294967295"),
        ("--seed", "-1", "0"),
        ("--steps", "0", "1"),
        ("--frames", "0", "1"),
        ("--seconds", "nan", "finite"),
        ("--fps", "0", "1"),
        ("--guidance", "inf", "finite"),
        ("--sampler", "magic", "euler"),
        ("--size", "huge", "WIDTHxHEIGHT"),
        ("--size", "0x96", "1"),
        ("--quality", "101", "100"),
        ("--num", "0", "1"),
        ("--steps", "many", "integer"),
    ],
)
def test_numbers_out_of_range(generate: Cli, option: str, value: str, hint: str) -> None:
    complaint = refusal(generate("a ball", option, value))
    assert hint in complaint
    assert option in complaint or "width" in complaint


def test_both_lengths(generate: Cli) -> None:
    assert "keep one of them" in refusal(generate("a ball", "--seconds", "1", "--frames", "5"))


def test_seeds_of_several_clips_must_fit(generate: Cli) -> None:
    assert "seed 4294967297" in refusal(generate("a ball", "--seed", "4294967294", "--num", "4"))


def test_unknown_option_and_command(cli: Cli) -> None:
    assert "see homereel generate --help" in refusal(cli("generate", "a ball", "--quallity", "3"))
    assert "see homereel --help" in refusal(cli("generat", "a ball"))
    assert "Missing argument" in refusal(cli("generate"))


def bomb() -> bytes:
    """A PNG of 60 kB that claims 3.6 thousand million pixels."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    pixels = zlib.compress(bytes(2**26))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


IMAGES = {
    "bomb": bomb(),
    "text": b"this is no picture",
    "cut short": bomb()[:40],
    "empty": b"",
    "page": b"<svg xmlns='http://www.w3.org/2000/svg' width='9' height='9'/>",
}


@pytest.mark.parametrize("content", IMAGES.values(), ids=IMAGES.keys())
def test_hostile_picture(cli: Cli, tiny_image_model_dir: Path, content: bytes) -> None:
    Path("given.png").write_bytes(content)
    done = cli("generate", "a ball", "-m", tiny_image_model_dir, "--image", "given.png")
    assert "given.png" in refusal(done)


@pytest.mark.parametrize("name", ["given-missing.png", ".", "/dev/zero", "http://127.0.0.1:9/a.png", "concat:a|b"])
def test_picture_that_is_no_file(cli: Cli, tiny_image_model_dir: Path, name: str) -> None:
    refusal(cli("generate", "a ball", "-m", tiny_image_model_dir, "--image", name))


def test_model_that_takes_no_picture(generate: Cli) -> None:
    Path("given.png").write_bytes(bomb())
    assert "models that do: pocket" in refusal(generate("a ball", "--image", "given.png"))


@pytest.mark.parametrize(
    ("target", "hint"),
    [
        ("no/such/folder/a.mp4", "make it first"),
        ("a.avi", "use a name ending in .mp4"),
        ("noending", "use a name ending in .mp4"),
        ("{prompt}.mp4", "{seed} and {index}"),
        ("x" * 300 + ".mp4", "give a shorter one"),
        ("", "use a name ending in .mp4"),
    ],
)
def test_target_that_cannot_be(generate: Cli, target: str, hint: str) -> None:
    assert hint in refusal(generate("a ball", "-o", target))


def test_target_is_a_device(generate: Cli) -> None:
    Path("given.mp4").symlink_to("/dev/full")
    assert "not a regular file" in refusal(generate("a ball", "-o", "given.mp4"))


@pytest.mark.skipif(not Path("/proc/self").is_dir(), reason="needs a folder that refuses files even from root")
def test_folder_that_takes_no_files(generate: Cli) -> None:
    assert "nothing can be written to /proc/self" in refusal(generate("a ball", "-o", "/proc/self/a.mp4"))


def test_folder_without_permission(generate: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the system says to a user without the right; root would be let in."""
    really_open = os.open

    def refuse(path: str | Path, flags: int, *more: int, **options: int) -> int:
        if flags & os.O_CREAT:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
        return really_open(path, flags, *more, **options)

    monkeypatch.setattr(os, "open", refuse)
    assert "Permission denied" in refusal(generate("a ball", "-o", tmp_path / "a.mp4"))


def test_disk_nearly_full_is_seen_before_the_work(generate: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = namedtuple("usage", "total used free")  # as shutil has it
    monkeypatch.setattr("shutil.disk_usage", lambda path: usage(10**9, 10**9 - 5, 5))
    monkeypatch.setattr("homereel.engine.generate.generate", lambda *_, **__: pytest.fail("it began to work"))
    assert "free some room" in refusal(generate("a ball", "-o", "a.mp4"))


def test_disk_full_while_writing(generate: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    """The disk takes the bytes and says only at the end, when they are flushed, that it had no room."""

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    done = generate("a ball", "-o", "a.mp4", "--json")
    assert done.code == 2
    assert "the disk is full" in done.complaint


def test_last_of_several_targets_is_checked_before_the_first_clip(generate: Cli, folder: Path) -> None:
    Path("given-2.mp4").symlink_to("/dev/full")
    assert "given-2.mp4" in refusal(generate("a ball", "-n", "2", "-o", "given.mp4"))
    assert not Path("given-1.mp4").exists()


@pytest.mark.parametrize("command", ["info", "replay"])
def test_file_that_is_no_clip(cli: Cli, command: str) -> None:
    Path("given.mp4").write_bytes(b"nothing of the kind")
    assert "given.mp4" in refusal(cli(command, "given.mp4"))
    assert "check the path" in refusal(cli(command, "missing.mp4"))
