"""Files that torch.save wrote: opened in a locked process, read tensor by tensor, refused if they are anything else."""

from __future__ import annotations

import io
import os
import pickle
import socket
import struct
import zipfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from homereel.core.errors import WeightsError
from homereel.weights.checkpoint import open_checkpoint
from homereel.weights.locked.process import Answer, CallFailed, NotLocked
from homereel.weights.pickled import archive, file
from homereel.weights.pickled.describe import describe, warm_up
from tests.weights.test_locked_process import needs_linux

MATRIX = torch.randn(6, 5, generator=torch.Generator().manual_seed(2))


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same without a process of its own, which takes seconds to start."""
    monkeypatch.setattr(file, "call_locked", lambda _, data, **__: Answer(describe(data), ("a wall",)))


def saved(content: object, path: Path, **how: Any) -> Path:
    torch.save(content, path, **how)
    return path


def read_all(path: Path) -> dict[str, Tensor]:
    checkpoint = open_checkpoint([path])
    return {name: checkpoint.read(name) for name in checkpoint.tensors}


def all_types() -> dict[str, Tensor]:
    numbers = torch.arange(-20, 20, dtype=torch.float32).reshape(5, 8)
    types = ("float64", "float32", "float16", "bfloat16", "float8_e4m3fn", "float8_e5m2", "int8", "int32", "int64")
    tensors = {name: numbers.to(getattr(torch, name)) for name in types}
    return {**tensors, "uint8": numbers.abs().to(torch.uint8), "bool": numbers > 0, "scalar": torch.tensor(2.5)}


def test_numbers_come_back_as_they_were_saved(tmp_path: Path, here: None) -> None:
    tensors = all_types()
    found = read_all(saved(tensors, tmp_path / "a.pth"))
    assert found.keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert found[name].dtype == tensor.dtype
        assert torch.equal(found[name].double(), tensor.double()), name


def test_views_and_shared_storages(tmp_path: Path, here: None) -> None:
    tensors = {
        "whole": MATRIX,
        "turned": MATRIX.t(),
        "part": MATRIX[2:5, 1:3],
        "row": MATRIX[3],
        "every second": MATRIX.flatten()[::2],
        "parameter": nn.Parameter(MATRIX.clone()),
        "empty": torch.zeros(0, 3),
    }
    path = saved(tensors, tmp_path / "a.pt")
    assert path.stat().st_size < 4000
    for name, tensor in read_all(path).items():
        assert torch.equal(tensor, tensors[name]), name
    checkpoint = open_checkpoint([path])
    assert torch.equal(checkpoint.read("whole", max_numbers=7), MATRIX.flatten()[:7])
    assert torch.equal(checkpoint.read("turned", max_numbers=7), MATRIX.t().flatten()[:7])


@pytest.mark.parametrize("names", [("state_dict",), ("model",), ("module",), ("state_dict", "model")])
def test_wrappers_are_taken_off(tmp_path: Path, here: None, names: tuple[str, ...]) -> None:
    content: dict[str, Any] = {"a": MATRIX, "step": 3}
    for name in reversed(names):
        content = {name: content, "optimizer": {"lr": 0.1}}
    checkpoint = open_checkpoint([saved(content, tmp_path / "a.pth")])
    assert torch.equal(checkpoint.read("a"), MATRIX)
    assert any("not used: optimizer" in remark and "step" in remark for remark in checkpoint.remarks)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"generator": {"a": MATRIX}, "critic": {"a": MATRIX}}, "no table of tensors, but generator, critic; save"),
        ({"state_dict": {"a": MATRIX}, "model": {"a": MATRIX}}, "holds both state_dict and model; save the one"),
        ([MATRIX], "a list where a table"),
        (MATRIX, "a Tensor where a table"),
        ({}, "no table of tensors, but nothing"),
        ({1: MATRIX}, "have no names"),
        ({"a\x1b[2J": MATRIX}, r"a\?\[2J is no name of a tensor"),
        ({"a": MATRIX.to_sparse()}, "a is no plain tensor"),
        ({"a": torch.zeros(2, 2, device="meta")}, "a is no plain tensor"),
        ({"a": torch.ones(2, dtype=torch.complex64)}, "a does not lie in the file"),
        ({"a": torch.ones(1).expand(10**12)}, "a does not lie in the file"),
    ],
)
def test_what_is_no_table_of_tensors(tmp_path: Path, here: None, content: object, message: str) -> None:
    with pytest.raises(WeightsError, match=message) as refused:
        open_checkpoint([saved(content, tmp_path / "a.pth")])
    assert str(refused.value).isprintable()


class Calls:
    """Pickled as a call of a function, which is what a hostile file does."""

    def __init__(self, function: Callable[..., Any], *arguments: Any) -> None:
        self.how = function, arguments

    def __reduce__(self) -> Any:
        return self.how


@pytest.mark.parametrize(
    ("kind", "asked"),
    [("command", r"posix\.system|nt\.system"), ("file", r"io\.open"), ("socket", r"socket\.create_connection")],
)
def test_a_hostile_pickle_runs_nothing(tmp_path: Path, here: None, kind: str, asked: str) -> None:
    calls = {
        "command": Calls(os.system, f"touch {tmp_path / 'ran'}"),
        "file": Calls(open, str(tmp_path / "ran"), "w"),
        "socket": Calls(socket.create_connection, ("127.0.0.1", 9)),
    }
    path = saved({"a": MATRIX, "b": calls[kind]}, tmp_path / "a.pth")
    with pytest.raises(WeightsError, match=f"is refused: it asks for ({asked}), which a file of weights does not need"):
        open_checkpoint([path])
    assert [each.name for each in tmp_path.iterdir()] == ["a.pth"]


@needs_linux
def test_a_hostile_pickle_in_the_process_that_opens_files(tmp_path: Path) -> None:
    hostile = {"state_dict": {"a": MATRIX, "b": Calls(os.system, f"touch {tmp_path / 'ran'}")}}
    with pytest.raises(WeightsError, match=r"it asks for posix\.system") as refused:
        open_checkpoint([saved(hostile, tmp_path / "a.pth")])
    assert "\n" not in str(refused.value)
    assert [each.name for each in tmp_path.iterdir()] == ["a.pth"]


@pytest.mark.parametrize(
    "pickled",
    [
        b"",
        b"\x80",
        b"\x80\x02.",
        b"\x80\x04\x95\x00",
        b"\x80\x02}q\x00(X\xff\xff\xff\x7fa",
        b"cbuiltins\neval\n.",
        b"\x80\x02ccollections\nOrderedDict\nq\x00)Rq\x01.",
        b"\x80\x02(X\x07\x00\x00\x00storagectorch\nFloatStorage\nX\x01\x00\x00\x000X\x03\x00\x00\x00cpuJ\xff\xff\xff\xfftQ.",
        b"\x80\x02]" + b"(" * 5_000 + b".",
        pickle.dumps({"a": [1] * 10}, protocol=5),
    ],
)
def test_bytes_that_are_no_pickle_of_weights(pickled: bytes) -> None:
    assert list(describe(pickled)) == ["refused"]
    assert "\n" not in describe(pickled)["refused"]


def test_huge_tensors_take_no_memory_to_describe() -> None:
    with torch.serialization.skip_data():
        content = io.BytesIO()
        torch.save({"a": torch.empty(2**10, dtype=torch.int8)}, content)
    with zipfile.ZipFile(content) as opened:
        pickled = opened.read("archive/data.pkl")
    large = pickled.replace(struct.pack("<H", 2**10), struct.pack("<H", 2**15))
    assert large != pickled
    assert describe(large)["tensors"]["a"][:2] == ["int8", [2**15]]
    warm_up()


def test_what_was_cut_off_is_refused(tmp_path: Path, here: None) -> None:
    path = saved({"a": MATRIX, "b": torch.ones(500)}, tmp_path / "a.pth")
    whole = path.read_bytes()
    for kept in (4, 30, 100, 700, len(whole) // 2, len(whole) - 200, len(whole) - 30, len(whole) - 22, len(whole) - 1):
        path.write_bytes(whole[:kept])
        with pytest.raises(WeightsError, match=r"fetch it again|cut off|is refused|compressed"):
            read_all(path)


def test_a_file_that_was_changed_anywhere_never_breaks_out(tmp_path: Path, here: None) -> None:
    """One byte after the other is changed; it is read, or refused as any damaged file is."""
    path = saved({"a": MATRIX}, tmp_path / "a.pth")
    whole = path.read_bytes()
    for at in (*range(0, 700, 19), *range(len(whole) - 700, len(whole), 13)):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 0xFF]) + whole[at + 1 :])
        with suppress(WeightsError):
            read_all(path)


def zipped(path: Path, records: dict[str, bytes], *, how: int = zipfile.ZIP_STORED) -> Path:
    with zipfile.ZipFile(path, "w", how) as made:
        for name, content in records.items():
            made.writestr(name, content)
    return path


def unzipped(path: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(path) as opened:
        return {name: opened.read(name) for name in opened.namelist()}


def archives() -> dict[str, tuple[dict[str, bytes], str]]:
    content = io.BytesIO()
    torch.save({"a": MATRIX}, content)
    with zipfile.ZipFile(content) as opened:
        good = {name: opened.read(name) for name in opened.namelist()}
    short = {**good, "archive/data/0": good["archive/data/0"][:-4]}
    return {
        "any zip": ({"a.txt": b"x"}, "not one that torch.save wrote"),
        "two folders": ({**good, "other/data.pkl": b""}, "not one that torch.save wrote"),
        "a program": ({**good, "archive/constants.pkl": b""}, "is a program"),
        "other order": ({**good, "archive/byteorder": b"big"}, "another byte order"),
        "a short record": (short, "a does not lie in the file as it says"),
        "no record": ({n: d for n, d in good.items() if "data/0" not in n}, "a does not lie in the file as it says"),
    }


@pytest.mark.parametrize("case", archives())
def test_other_archives(tmp_path: Path, here: None, case: str) -> None:
    records, message = archives()[case]
    with pytest.raises(WeightsError, match=message):
        open_checkpoint([zipped(tmp_path / "a.pth", records)])


def test_bombs_are_refused_unopened(tmp_path: Path, here: None, monkeypatch: pytest.MonkeyPatch) -> None:
    bomb = zipped(tmp_path / "a.pth", {"archive/data.pkl": bytes(3_000_000)}, how=zipfile.ZIP_DEFLATED)
    assert bomb.stat().st_size < 10_000
    with pytest.raises(WeightsError, match=r"holds 'archive/data\.pkl' compressed"):
        open_checkpoint([bomb])
    many = zipped(tmp_path / "b.pth", {f"archive/{number}": b"" for number in range(500)})
    monkeypatch.setattr(archive, "MAX_TABLE_BYTES", 10_000)
    with pytest.raises(WeightsError, match="at most 10000 are read"):
        open_checkpoint([many])
    monkeypatch.setattr(file, "MAX_PICKLE_BYTES", 10)
    with pytest.raises(WeightsError, match="more than 10 bytes"):
        open_checkpoint([saved({"a": MATRIX}, tmp_path / "c.pth")])


def test_a_long_archive(tmp_path: Path, here: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """As of more than 4 GB: sizes and places stand in the extra fields and in the long end."""
    records = unzipped(saved({"a": MATRIX}, tmp_path / "a.pth"))
    monkeypatch.setattr(zipfile, "ZIP64_LIMIT", 10)
    path = zipped(tmp_path / "b.pth", records)
    assert b"PK\x06\x06" in path.read_bytes()
    assert torch.equal(read_all(path)["a"], MATRIX)


def test_28_gb_are_opened_in_no_memory(tmp_path: Path, here: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file of that size in which nearly nothing was ever written; one tensor in it is read."""
    content = io.BytesIO()
    torch.save({"a": MATRIX}, content)
    with zipfile.ZipFile(content) as opened:
        records = {name: opened.read(name) for name in opened.namelist()}
    path, far = tmp_path / "a.pth", 28_000_000_000
    with path.open("wb") as sparse, zipfile.ZipFile(sparse, "w") as made:
        for name, data in records.items():
            if name.endswith("data/0"):
                sparse.seek(far)
                made.start_dir = far
            made.writestr(name, data)
    assert path.stat().st_size > far
    assert torch.equal(read_all(path)["a"], MATRIX)


GOOD = ["float32", [6, 5], [5, 1], 0, "0"]


@pytest.mark.parametrize(
    "entry",
    [
        None,
        [],
        GOOD[:4],
        ["float31", *GOOD[1:]],
        [*GOOD[:4], "1"],
        [*GOOD[:4], ["0"]],
        ["float32", [6, 5], [5, 1], 1, "0"],
        ["float32", [6, 5], [5, 1], -1, "0"],
        ["float32", [6, -5], [5, 1], 0, "0"],
        ["float32", [6, 5], [5], 0, "0"],
        ["float32", [6, 5], [6, 1], 0, "0"],
        ["float32", [6, True], [5, 1], 0, "0"],
        ["float32", [6, 5.0], [5, 1], 0, "0"],
        ["float32", [10**9, 10**9], [0, 0], 0, "0"],
        ["float32", [2**60], [0], 0, "0"],
        ["float64", [6, 5], [5, 1], 0, "0"],
    ],
)
def test_what_the_process_answers_is_not_believed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, entry: object
) -> None:
    path = saved({"a": MATRIX}, tmp_path / "a.pth")
    monkeypatch.setattr(file, "call_locked", lambda *_, **__: Answer({"tensors": {"a": GOOD}}, ()))
    assert torch.equal(read_all(path)["a"], MATRIX)
    monkeypatch.setattr(file, "call_locked", lambda *_, **__: Answer({"tensors": {"a": entry}}, ()))
    with pytest.raises(WeightsError, match="a does not lie in the file as it says"):
        open_checkpoint([path])


@pytest.mark.parametrize("answer", [None, 3, {}, {"tensors": 3}, {"refused": 3}, {"refused": "x\n\x1b" * 500}])
def test_an_answer_that_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answer: object) -> None:
    monkeypatch.setattr(file, "call_locked", lambda *_, **__: Answer(answer, ()))
    with pytest.raises(WeightsError, match="is refused: ") as refused:
        open_checkpoint([saved({"a": MATRIX}, tmp_path / "a.pth")])
    assert str(refused.value).isprintable()
    assert len(str(refused.value)) < 1000


def test_where_no_process_can_be_locked_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = saved({"a": MATRIX}, tmp_path / "a.pth")

    def unlocked(_: str, data: bytes, *, trusted: bool) -> Answer:
        if not trusted:
            raise NotLocked("only Linux can lock a process in, and this is darwin")
        return Answer(describe(data), ())

    monkeypatch.setattr(file, "call_locked", unlocked)
    with pytest.raises(WeightsError, match=r"this is darwin\); convert it on a Linux machine.*--trust-pickle"):
        open_checkpoint([path])
    trusted = open_checkpoint([path], trust_pickle=True)
    assert "not locked in, as you asked" in trusted.remarks[0]

    def failing(*_: object, **__: object) -> Answer:
        raise CallFailed("it took more memory or time than it may")

    monkeypatch.setattr(file, "call_locked", failing)
    with pytest.raises(WeightsError, match="could not be opened: it took more memory or time"):
        open_checkpoint([path])


@pytest.mark.parametrize("name", ["a.safetensors", "a.bin", "a.gguf", "a"])
def test_a_pickle_must_say_so_in_its_name(tmp_path: Path, name: str) -> None:
    with pytest.raises(WeightsError, match=r"pickled, .* and its name hides it; .* or call it \.pth"):
        open_checkpoint([saved({"a": MATRIX}, tmp_path / name)])


def test_the_form_before_1_6_is_refused(tmp_path: Path) -> None:
    path = saved({"a": MATRIX}, tmp_path / "a.pth", _use_new_zipfile_serialization=False)
    with pytest.raises(WeightsError, match=r"pickled, .* before 1\.6"):
        open_checkpoint([path])
