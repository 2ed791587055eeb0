"""Files as others pass them on: checked first, read one tensor at a time, and never without their scales."""

from __future__ import annotations

import json
import math
import pickle
import struct
import time
from pathlib import Path

import gguf
import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from homereel.core.errors import InvalidRequest, Stopped, WeightsError
from homereel.weights.checkpoint import Checkpoint, group_parts, open_checkpoint
from homereel.weights.imported import ImportNote, imported_models, new_import, remove_imported
from homereel.weights.scaled import Weights, apply_scale, unscaled_weights
from homereel.weights.shard_writer import Entry, write_shards

FP8 = torch.float8_e4m3fn
MATRIX = torch.randn(48, 64, generator=torch.Generator().manual_seed(1)) * 0.05


def weights_of(tensors: dict[str, Tensor], folder: Path, *, metadata: dict[str, str] | None = None) -> Weights:
    save_file(tensors, folder / "a.safetensors", metadata=metadata)
    checkpoint = open_checkpoint([folder / "a.safetensors"])
    return unscaled_weights(checkpoint, {name: name for name in checkpoint.tensors})


def stretched(matrix: Tensor = MATRIX, *, dtype: torch.dtype = FP8) -> tuple[Tensor, Tensor]:
    """The matrix over the whole range of fp8, and its scale."""
    scale = matrix.abs().max() / torch.finfo(dtype).max
    return (matrix / scale).to(dtype), scale


def text(content: object) -> Tensor:
    return torch.tensor(list(json.dumps(content).encode()), dtype=torch.uint8)


def gguf_file(path: Path, tensors: dict[str, np.ndarray], *, kind: gguf.GGMLQuantizationType) -> Checkpoint:
    writer = gguf.GGUFWriter(path, "wan")
    for name, tensor in tensors.items():
        writer.add_tensor(name, gguf.quants.quantize(tensor, kind), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return open_checkpoint([path])


# Rounding to so many bits costs at most this much of a number: half a step of 3 or 2 bits of mantissa.
@pytest.mark.parametrize(("dtype", "error"), [(torch.float8_e4m3fn, 1 / 16), (torch.float8_e5m2, 1 / 8)])
@pytest.mark.parametrize("ending", ["scale_weight", "weight_scale"])
def test_fp8_is_multiplied_by_its_scale(tmp_path: Path, dtype: torch.dtype, error: float, ending: str) -> None:
    stored, scale = stretched(dtype=dtype)
    found = weights_of({"q.weight": stored, f"q.{ending}": scale, "q.bias": torch.ones(48)}, tmp_path)
    assert set(found.shapes) == {"q.weight", "q.bias"}
    large = MATRIX.abs() > MATRIX.abs().max() / 1000  # smaller ones may fall below what fp8 can tell from 0
    assert ((found.read("q.weight") - MATRIX).abs() / MATRIX.abs())[large].max() <= error * 1.001
    assert torch.equal(found.read("q.bias"), torch.ones(48))
    assert "multiplied by their scales" in found.remarks[0]


@pytest.mark.parametrize("shape", [(48,), (48, 1)])
def test_a_scale_a_row(tmp_path: Path, shape: tuple[int, ...]) -> None:
    scale = MATRIX.abs().amax(dim=1) / 127
    stored = (MATRIX / scale[:, None]).round().to(torch.int8)
    found = weights_of({"q.weight": stored, "q.scale": scale.reshape(shape)}, tmp_path).read("q.weight")
    assert torch.equal(found, stored.float() * scale[:, None])
    assert (found - MATRIX).abs().max() <= float(scale.max()) / 2 * 1.001  # half a step of the coarsest row


def test_a_scale_a_stretch_of_a_row(tmp_path: Path) -> None:
    scale = MATRIX.reshape(48, 4, 16).abs().amax(dim=2, keepdim=True) / 448
    stored = (MATRIX.reshape(48, 4, 16) / scale).reshape(48, 64).to(FP8)
    found = weights_of({"q.weight": stored, "q.scale_weight": scale}, tmp_path).read("q.weight")
    assert torch.equal(found, (stored.float().reshape(48, 4, 16) * scale).reshape(48, 64))


def test_blocks_with_ragged_edges(tmp_path: Path) -> None:
    stored = torch.randint(-128, 128, (200, 300), dtype=torch.int8)
    scale = torch.rand(2, 3) + 0.5
    found = weights_of({"q.int8_weight": stored, "q.scale": scale}, tmp_path)
    numbers = found.read("q.weight")
    for row, column in [(0, 0), (127, 127), (128, 128), (199, 255), (0, 256), (199, 299)]:
        assert numbers[row, column] == stored[row, column].float() * scale[row // 128, column // 128]
    assert torch.equal(apply_scale(stored.float(), scale), numbers)


def test_a_parameter_called_scale_is_no_scale(tmp_path: Path) -> None:
    found = weights_of({"norm.weight": torch.ones(4), "norm.scale": torch.full((4,), 2.0)}, tmp_path)
    assert set(found.shapes) == {"norm.weight", "norm.scale"}
    assert torch.equal(found.read("norm.weight"), torch.ones(4))


def test_scales_of_activations_are_told_and_left(tmp_path: Path) -> None:
    stored, scale = stretched()
    found = weights_of({"q.weight": stored, "q.weight_scale": scale, "q.input_scale": torch.tensor(3.0)}, tmp_path)
    assert set(found.shapes) == {"q.weight"}
    assert "1 scales of activations were not used" in found.remarks


def test_a_plain_cast_is_taken_as_it_is(tmp_path: Path) -> None:
    found = weights_of({"q.weight": MATRIX.to(FP8)}, tmp_path)
    assert torch.equal(found.read("q.weight"), MATRIX.to(FP8).float())
    assert "plain cast" in found.remarks[0]


def lost_scales() -> dict[str, dict[str, Tensor]]:
    stored, scale = stretched()
    rows = MATRIX.abs().amax(dim=1, keepdim=True) / 448
    cast = MATRIX.to(FP8)
    return {
        "fp8": {"q.weight": stored},
        "fp8 of the wide kind": {"q.weight": stretched(dtype=torch.float8_e5m2)[0]},
        "fp8 by rows": {"q.weight": (MATRIX / rows).to(FP8)},
        "int8": {"q.weight": torch.ones(4, 4, dtype=torch.int8)},
        "int8 blocks": {"q.int8_weight": torch.ones(4, 4, dtype=torch.int8)},
        "marked": {"q.weight": cast, "scaled_fp8": torch.zeros(0, dtype=FP8)},
        "marked beside it": {"q.weight": cast, "q.comfy_quant": text({"format": "float8_e4m3fn"})},
        "one of two": {"q.weight": stored, "q.scale_weight": scale, "k.weight": cast},
    }


@pytest.mark.parametrize("case", lost_scales())
def test_without_its_scales_a_file_is_refused(tmp_path: Path, case: str) -> None:
    with pytest.raises(WeightsError, match="its scale is missing"):
        weights_of(lost_scales()[case], tmp_path)


def test_a_promise_in_the_files_remarks_counts(tmp_path: Path) -> None:
    promise = {"_quantization_metadata": json.dumps({"layers": {"q": {"format": "float8_e4m3fn"}}})}
    with pytest.raises(WeightsError, match="its scale is missing"):
        weights_of({"q.weight": MATRIX.to(FP8)}, tmp_path, metadata=promise)
    turned = {"_quantization_metadata": json.dumps({"layers": {"q": {"format": "int8_tensorwise", "convrot": True}}})}
    with pytest.raises(WeightsError, match="int8_tensorwise with convrot"):
        weights_of(
            {"q.weight": torch.ones(4, 4, dtype=torch.int8), "q.weight_scale": torch.ones(4)}, tmp_path, metadata=turned
        )


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        ({"q.scale_weight": torch.ones(7)}, "no scale for a weight"),
        ({"q.scale_weight": torch.ones(64)}, "no scale for a weight"),
        ({"q.scale_weight": torch.tensor(0.0)}, "not above 0"),
        ({"q.scale_weight": torch.tensor(float("nan"))}, "not above 0"),
        ({"q.scale_weight": torch.tensor(-1.0)}, "not above 0"),
        ({"q.weight_scale": torch.ones(48, 2, dtype=torch.uint8)}, "form of scales that is not read"),
        ({"q.scale_weight": torch.tensor(1.0), "q.weight_scale": torch.tensor(1.0)}, "two scales"),
        ({"q.weight_scale": torch.tensor(1.0), "q.comfy_quant": text({"format": "mxfp8"})}, "quantised as mxfp8"),
        ({"q.weight_scale": torch.tensor(1.0), "q.comfy_quant": text("?")}, "no format"),
        ({"q.weight_scale": torch.tensor(1.0), "q.comfy_quant": text({"format": "float8_e5m2"})}, "as it says"),
        ({"k.weight": torch.ones(4, 4, dtype=torch.uint8)}, "packed form"),
    ],
)
def test_scales_that_make_no_sense_are_refused(tmp_path: Path, tensors: dict[str, Tensor], message: str) -> None:
    stored, scale = stretched()
    extra = {} if any("scale" in name for name in tensors) else {"q.scale_weight": scale}
    with pytest.raises(WeightsError, match=message):
        weights_of({"q.weight": stored, **extra, **tensors}, tmp_path)


# A step of 8 bits is 1/127 of the largest of 32 numbers, one of 4 bits 1/8: the root mean square stays below half.
@pytest.mark.parametrize(
    ("kind", "error"), [("Q8_0", 0.01), ("Q5_1", 0.05), ("Q4_0", 0.15), ("BF16", 0.005), ("F16", 0.001)]
)
def test_gguf_is_unpacked(tmp_path: Path, kind: str, error: float) -> None:
    checkpoint = gguf_file(tmp_path / "a.gguf", {"q.weight": MATRIX.numpy()}, kind=gguf.GGMLQuantizationType[kind])
    found = unscaled_weights(checkpoint, {"q.weight": "q.weight"}).read("q.weight").float()
    assert found.shape == MATRIX.shape
    assert 0 < float((found - MATRIX).norm() / MATRIX.norm()) < error


def test_gguf_in_pieces_is_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoint = gguf_file(tmp_path / "a.gguf", {"w": MATRIX.numpy()}, kind=gguf.GGMLQuantizationType.Q8_0)
    whole = checkpoint.read("w")
    monkeypatch.setattr("homereel.weights.gguf_file.CHUNK_NUMBERS", 100)
    assert torch.equal(checkpoint.read("w"), whole)


def test_a_cut_gguf_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.gguf"
    gguf_file(path, {"w": MATRIX.numpy()}, kind=gguf.GGMLQuantizationType.Q8_0)
    data = path.read_bytes()
    for keep in (4, 8, 30, 100, len(data) - 1):
        path.write_bytes(data[:keep])
        with pytest.raises(WeightsError, match=r"cut off|damaged|not a GGUF"):
            open_checkpoint([path])


def hostile_headers() -> dict[str, bytes]:
    start, huge = b"GGUF" + struct.pack("<I", 3), 2**60
    name = struct.pack("<Q", 1) + b"w"
    return {
        "tensors": start + struct.pack("<QQ", huge, 0),
        "pairs": start + struct.pack("<QQ", 0, huge),
        "string": start + struct.pack("<QQ", 0, 1) + struct.pack("<Q", huge) + b"x" * 99,
        "list": start + struct.pack("<QQ", 0, 1) + name + struct.pack("<IIQ", 9, 4, huge) + b"x" * 99,
        "list of strings": start + struct.pack("<QQ", 0, 1) + name + struct.pack("<IIQ", 9, 8, 900_000) + b"x" * 99,
        "list in a list": start + struct.pack("<QQ", 0, 1) + name + struct.pack("<IIQ", 9, 9, 1) + b"x" * 99,
        "sides": start + struct.pack("<QQ", 1, 0) + name + struct.pack("<IQIQ", 1, huge, 0, 0) + b"x" * 99,
        "dimensions": start + struct.pack("<QQ", 1, 0) + name + struct.pack("<I", 2**31) + b"x" * 99,
        "type": start + struct.pack("<QQ", 1, 0) + name + struct.pack("<IQIQ", 1, 32, 999, 0) + b"x" * 999,
        "offset": start + struct.pack("<QQ", 1, 0) + name + struct.pack("<IQIQ", 1, 1, 0, huge) + b"x" * 99,
        "empty": start + struct.pack("<QQ", 1, 0) + name + struct.pack("<IQIQ", 1, 0, 0, 0) + b"x" * 99,
    }


@pytest.mark.parametrize("case", hostile_headers())
def test_hostile_gguf_headers_are_refused_before_memory_is_taken(tmp_path: Path, case: str) -> None:
    (tmp_path / "a.gguf").write_bytes(hostile_headers()[case])
    started = time.process_time()
    with pytest.raises(WeightsError):
        open_checkpoint([tmp_path / "a.gguf"])
    assert time.process_time() - started < 5  # counting to 2^60 would not end


def test_a_pickle_under_any_name_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    path.write_bytes(pickle.dumps({"w": 1}))
    with pytest.raises(WeightsError, match="pickled"):
        open_checkpoint([path])
    torch.save({"w": MATRIX}, path)
    with pytest.raises(WeightsError, match="pickled"):
        open_checkpoint([path])


def test_parts_are_taken_together(tmp_path: Path) -> None:
    paths = [tmp_path / f"wan-0000{number}-of-00002.safetensors" for number in (1, 2)]
    save_file({"a": torch.ones(1)}, paths[0])
    save_file({"b": torch.ones(1)}, paths[1])
    other = tmp_path / "other.safetensors"
    assert group_parts([paths[1], other, paths[0]]) == [tuple(paths), (other,)]
    assert set(open_checkpoint(paths).tensors) == {"a", "b"}
    assert open_checkpoint(paths).name == "wan"
    with pytest.raises(WeightsError, match="one of 2 parts"):
        group_parts(paths[:1])
    save_file({"a": torch.ones(1)}, paths[1])
    with pytest.raises(WeightsError, match="a second time"):
        open_checkpoint(paths)


def test_shards_are_written_tensor_by_tensor(tmp_path: Path) -> None:
    state = {"a": torch.randn(10, 4), "b": torch.randn(7), "c": torch.tensor(2.0)}
    entries = {name: Entry("F32", tuple(tensor.shape)) for name, tensor in state.items()}
    told: list[int] = []
    write_shards(tmp_path, entries=entries, read=state.__getitem__, max_shard_bytes=170, on_bytes=told.append)
    index = json.loads((tmp_path / "diffusion_pytorch_model.safetensors.index.json").read_text())
    assert sum(told) == index["metadata"]["total_size"] == 4 * sum(math.prod(t.shape) for t in state.values())
    for name, file in index["weight_map"].items():
        assert torch.equal(load_file(tmp_path / file)[name], state[name])
    assert len(set(index["weight_map"].values())) == 2


def note(name: str) -> ImportNote:
    return ImportNote(name=name, family="wan", sources=(), base="", dtype="bfloat16", remarks=())


def fail_halfway(error: BaseException) -> None:
    with new_import(note("half")) as folder:
        (folder / "x").write_text("x")
        raise error


def test_an_import_is_whole_or_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOMEREEL_HOME", str(tmp_path))
    for error in (Stopped("stopped"), KeyboardInterrupt(), ValueError()):
        with pytest.raises(type(error)):
            fail_halfway(error)
        assert [path.name for path in (tmp_path / "imported").iterdir() if path.is_dir()] == []
    (tmp_path / "imported" / ".importing-of-one-that-was-killed").mkdir()
    with new_import(note("whole")) as folder:
        (folder / "x").write_text("x")
        assert imported_models() == ()
    assert [path.name for path in (tmp_path / "imported").iterdir() if path.is_dir()] == ["whole"]
    assert [model.note.name for model in imported_models()] == ["whole"]
    assert remove_imported("whole") > 0
    assert imported_models() == ()
    for name in ("whole", "../whole", ""):
        with pytest.raises(InvalidRequest, match="no imported model"):
            remove_imported(name)
