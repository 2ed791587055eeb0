"""Only sound safetensors files get in; everything else is one clear WeightsError, before memory is spent."""

from __future__ import annotations

import json
import pickle
import shutil
import struct
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from homereel.core.errors import WeightsError
from homereel.weights import hashes
from homereel.weights.hashes import hash_files
from homereel.weights.load import load_network
from homereel.weights.model_folder import ModelFolder, packaged_folder, read_json
from homereel.weights.safetensors_file import MAX_HEADER_BYTES, read_header


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(3, 2)
        self.norm = nn.LayerNorm(2)


def load(folder: Path, **options: Any) -> nn.Module:
    settings = {"device": "cpu", "dtype": "float32", **options}
    return load_network(Net, folder=ModelFolder(folder), component="net", **settings)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "net").mkdir()
    save_file(Net().state_dict(), tmp_path / "net" / "model.safetensors")
    return tmp_path


def write_raw(path: Path, header: object, data: bytes = b"", *, header_bytes: int | None = None) -> Path:
    raw = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(raw) if header_bytes is None else header_bytes) + raw + data)
    return path


def test_a_header_is_read(folder: Path) -> None:
    tensors = read_header(folder / "net" / "model.safetensors")
    assert tensors["linear.weight"].shape == (2, 3)
    assert tensors["linear.weight"].dtype == "F32"


def test_a_network_is_filled_with_the_stored_numbers(folder: Path) -> None:
    network = load(folder)
    assert not network.training
    assert all(not parameter.requires_grad for parameter in network.parameters())
    with torch.inference_mode():
        stored = ModelFolder(folder).weight_files("net")[0]
        from safetensors.torch import load_file

        for name, tensor in load_file(stored).items():
            assert torch.equal(network.state_dict()[name], tensor)


def test_numbers_are_converted_and_some_kept_exact(folder: Path) -> None:
    network = load(folder, dtype="bfloat16", keep_float32=("norm",))
    assert network.state_dict()["linear.weight"].dtype == torch.bfloat16
    assert network.state_dict()["norm.weight"].dtype == torch.float32


def test_shards_are_found_by_their_index(folder: Path) -> None:
    state = Net().state_dict()
    (folder / "net" / "model.safetensors").unlink()
    names = {name: f"part-{index % 2}.safetensors" for index, name in enumerate(state)}
    for part in set(names.values()):
        save_file({name: state[name] for name in state if names[name] == part}, folder / "net" / part)
    index = folder / "net" / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": names}))
    assert torch.equal(load(folder).state_dict()["linear.bias"], state["linear.bias"])
    index.write_text(json.dumps({"weight_map": {"linear.bias": "../../secret.safetensors"}}))
    with pytest.raises(WeightsError, match="outside its folder"):
        load(folder)


@pytest.mark.parametrize("keep", [0, 4, 8, 40, -1])
def test_a_truncated_file_is_refused(folder: Path, keep: int) -> None:
    file = folder / "net" / "model.safetensors"
    file.write_bytes(file.read_bytes()[:keep])
    with pytest.raises(WeightsError, match="fetch it again") as caught:
        load(folder)
    assert str(file) in str(caught.value)


def test_a_pickle_under_a_false_name_is_refused_and_does_not_run(folder: Path) -> None:
    class Trap:
        def __reduce__(self) -> tuple[Any, ...]:
            return (Path.touch, (folder / "ran",))

    (folder / "net" / "model.safetensors").write_bytes(pickle.dumps(Trap()))
    with pytest.raises(WeightsError, match="not a safetensors file"):
        load(folder)
    assert not (folder / "ran").exists()


def test_pickled_weights_are_refused_by_name(folder: Path) -> None:
    file = folder / "net" / "model.safetensors"
    file.rename(file.with_name("pytorch_model.bin"))
    with pytest.raises(WeightsError, match="pickled"):
        load(folder)
    shutil.rmtree(folder / "net")
    with pytest.raises(WeightsError, match="not complete"):
        load(folder)


@pytest.mark.parametrize(
    "header",
    [
        {"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 4]}},
        {"a": {"dtype": "F99", "shape": [1], "data_offsets": [0, 4]}},
        {"a": {"dtype": "F32", "shape": [-1], "data_offsets": [0, 4]}},
        {"a": {"dtype": "F32", "shape": [1.0], "data_offsets": [0, 4]}},
        {"a": {"dtype": "F32", "shape": [1]}},
        {"a": 3},
        [],
        b"{" * 5000,
        b"\xff\xfe",
    ],
)
def test_a_damaged_header_is_refused(tmp_path: Path, header: object) -> None:
    with pytest.raises(WeightsError, match="damaged header"):
        read_header(write_raw(tmp_path / "a.safetensors", header, b"\0" * 4))


def test_overlaps_and_gaps_are_refused(tmp_path: Path) -> None:
    part = {"dtype": "F32", "shape": [1]}
    overlap = {"a": {**part, "data_offsets": [0, 4]}, "b": {**part, "data_offsets": [0, 4]}}
    gap = {"a": {**part, "data_offsets": [4, 8]}}
    for header in (overlap, gap):
        with pytest.raises(WeightsError, match="overlap or leave gaps"):
            read_header(write_raw(tmp_path / "a.safetensors", header, b"\0" * 8))


def test_a_huge_header_is_refused_without_reading_it(tmp_path: Path) -> None:
    file = write_raw(tmp_path / "a.safetensors", {}, header_bytes=2**60)
    with pytest.raises(WeightsError, match="not a safetensors file"):
        read_header(file)
    with file.open("r+b") as opened:
        opened.write(struct.pack("<Q", MAX_HEADER_BYTES + 1))
        opened.truncate(MAX_HEADER_BYTES * 2)
    with pytest.raises(WeightsError, match="not a safetensors file"):
        read_header(file)


def test_wrong_shapes_missing_and_foreign_tensors_are_named(folder: Path) -> None:
    file = folder / "net" / "model.safetensors"
    state = Net().state_dict()
    save_file({**state, "linear.weight": torch.zeros(2, 4)}, file)
    with pytest.raises(WeightsError, match=r"linear.weight has shape \(2, 4\).*\(2, 3\)"):
        load(folder)
    save_file({**state, "extra": torch.zeros(1)}, file)
    with pytest.raises(WeightsError, match="extra"):
        load(folder)
    save_file({name: state[name] for name in state if name != "norm.bias"}, file)
    with pytest.raises(WeightsError, match=r"lacks 1 of its tensors, such as norm\.bias"):
        load(folder)


def test_one_of_two_tied_tensors_is_enough(folder: Path) -> None:
    file = folder / "net" / "model.safetensors"
    state = Net().state_dict()
    save_file({name: state[name] for name in state if name != "norm.bias"}, file)
    tied = {"norm.bias": "linear.bias", "linear.bias": "norm.bias"}
    assert torch.equal(load(folder, tied=tied).state_dict()["norm.bias"], state["linear.bias"])


def test_a_configuration_that_describes_nothing_is_told(folder: Path) -> None:
    def build() -> nn.Module:
        raise ValueError("dim_mult is wrong\nand more")

    with pytest.raises(WeightsError, match=r"net/config.json does not describe a network: dim_mult is wrong$"):
        load_network(build, folder=ModelFolder(folder), component="net", device="cpu", dtype="float32")


@pytest.mark.parametrize("content", ["", "nope", "[1]", "[" * 100_000])
def test_json_that_is_none_is_told(tmp_path: Path, content: str) -> None:
    file = tmp_path / "config.json"
    file.write_text(content)
    with pytest.raises(WeightsError, match=r"config\.json"):
        read_json(file)
    with pytest.raises(WeightsError, match="cannot be read"):
        read_json(tmp_path / "absent.json")


def test_hashes_are_right_and_large_files_remembered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import hashlib

    file, memory = tmp_path / "a", tmp_path / "home" / "hashes.json"
    file.write_bytes(b"abc")
    right = hashlib.sha256(b"abc").hexdigest()
    assert hash_files({"x": file}, memory=memory) == {"x": right}
    assert not memory.exists(), "small files are hashed anew each time"
    monkeypatch.setattr(hashes, "REMEMBER_FROM_BYTES", 1)
    assert hash_files({"x": file}, memory=memory) == {"x": right}
    remembered = json.loads(memory.read_text())
    memory.write_text(json.dumps(dict.fromkeys(remembered, "0" * 64)))
    assert hash_files({"x": file}, memory=memory) == {"x": "0" * 64}, "it was not remembered"
    file.write_bytes(b"abcd")
    assert hash_files({"x": file}, memory=memory) == {"x": hashlib.sha256(b"abcd").hexdigest()}
    memory.write_text("broken")
    assert hash_files({"x": file}, memory=memory)["x"] == hashlib.sha256(b"abcd").hexdigest()
    with pytest.raises(WeightsError, match="cannot be read"):
        hash_files({"x": tmp_path / "absent"}, memory=memory)


def test_a_package_without_that_model_has_none() -> None:
    assert packaged_folder("no-such-model") is None
