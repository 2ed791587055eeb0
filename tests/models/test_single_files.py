"""Single files become models whose networks compute the same as the ones that the files were made from."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import (
    WanTransformer3DModel,
)
from torch import Tensor, nn

from homereel.core.errors import InvalidRequest, Stopped, UnknownModel, WeightsError
from homereel.models.single_file import import_model as module
from homereel.models.single_file.config import Reference, settle_config
from homereel.models.single_file.identify import find_network
from homereel.models.single_file.import_model import Imported, Progress, import_model
from homereel.models.single_file.plan import default_name
from homereel.weights.imported import import_root, imported_folder, imported_models
from homereel.weights.model_folder import ModelFolder
from tests.models.original_names import (
    State,
    fp8_scaled,
    int8_blocks,
    int8_rows,
    is_linear,
    original_state,
    original_wan,
    relative_error,
    save,
    save_gguf,
    wan_output,
)

MARKER = {"scaled_fp8": torch.zeros(0, dtype=torch.float8_e4m3fn)}
PREFIX = "model.diffusion_model."


@pytest.fixture(autouse=True)
def own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOMEREEL_HOME", str(tmp_path / "home"))


@pytest.fixture(scope="module")
def network(tiny_model_dir: Path) -> Any:
    return WanTransformer3DModel.from_pretrained(tiny_model_dir / "transformer").eval()


@pytest.fixture(scope="module")
def state(network: nn.Module) -> State:
    return original_state(network, original_wan)


Importer = Callable[..., Imported]


@pytest.fixture
def imported(tiny_model_dir: Path) -> Importer:
    def run(*files: Path, **options: Any) -> Imported:
        return import_model(files, **{"base": str(tiny_model_dir), "dtype": "float32", **options})

    return run


def output(made: Imported) -> Tensor:
    return wan_output(WanTransformer3DModel.from_pretrained(Path(made.path) / "transformer").eval())


def check_same(made: Imported, network: Any, component: str = "transformer") -> None:
    """Every weight is equal to the bit; outputs may differ in the last one, as kernels depend on alignment."""
    found = WanTransformer3DModel.from_pretrained(Path(made.path) / component).eval()
    wanted = network.state_dict()
    assert found.state_dict().keys() == wanted.keys()
    assert all(torch.equal(tensor, wanted[name]) for name, tensor in found.state_dict().items())
    assert relative_error(wan_output(found), wan_output(network)) < 1e-5


def left_behind() -> list[str]:
    root = import_root()
    return [path.name for path in root.iterdir() if path.is_dir()] if root.is_dir() else []


# The blocks, which are what is quantised, make a fifth of this output; of that fifth, fp8's rounding costs 3 to 4 %.
@pytest.mark.parametrize("prefix", ["", PREFIX, "diffusion_model."])
def test_scaled_fp8_computes_what_the_unquantised_weights_do(
    tmp_path: Path, network: nn.Module, state: State, imported: Importer, prefix: str
) -> None:
    file = save({**fp8_scaled(state), **MARKER}, tmp_path / "a.safetensors", prefix=prefix)
    made = imported(file)
    assert 0 < relative_error(output(made), wan_output(network)) <= 0.02
    assert any("multiplied by their scales" in remark for remark in made.remarks)


def test_the_blocks_matter_to_the_output(network: Any) -> None:
    bare = WanTransformer3DModel.from_config(network.config).eval()
    numbers = network.state_dict()
    bare.load_state_dict({name: t * (1.2 if is_linear(name, t) else 1) for name, t in numbers.items()})
    assert relative_error(wan_output(bare), wan_output(network)) > 0.02, "a scale a fifth too large would not be seen"


@pytest.mark.parametrize("marked", [True, False])
def test_scaled_fp8_without_scales_is_refused(tmp_path: Path, state: State, imported: Importer, marked: bool) -> None:
    kept = {name: tensor for name, tensor in fp8_scaled(state).items() if not name.endswith("scale_weight")}
    file = save({**kept, **(MARKER if marked else {})}, tmp_path / "a.safetensors")
    with pytest.raises(WeightsError, match="its scale is missing"):
        imported(file)
    assert left_behind() == []


def test_a_bfloat16_original_is_exact(tmp_path: Path, network: Any, imported: Importer) -> None:
    rounded = WanTransformer3DModel.from_config(network.config).eval()
    rounded.load_state_dict({name: t.bfloat16().float() for name, t in network.state_dict().items()})
    file = save(original_state(network, original_wan, dtype=torch.bfloat16), tmp_path / "a.safetensors")
    made = imported(file, dtype="bfloat16")
    stored = ModelFolder(Path(made.path)).tensors("transformer")
    assert {tensor.dtype for tensor in stored.values()} == {"BF16"}
    check_same(made, rounded)


def test_modules_that_need_float32_keep_it(tmp_path: Path, state: State, imported: Importer) -> None:
    made = imported(save(state, tmp_path / "a.safetensors"), dtype="bfloat16")
    stored = ModelFolder(Path(made.path)).tensors("transformer")
    assert stored["condition_embedder.time_embedder.linear_1.weight"].dtype == "F32"
    assert stored["blocks.0.attn1.to_q.weight"].dtype == "BF16"
    assert any("--dtype float32 keeps them" in remark for remark in made.remarks)


def test_a_float32_original_and_diffusers_own_names_are_exact(
    tmp_path: Path, network: nn.Module, state: State, imported: Importer
) -> None:
    for number, tensors in enumerate((state, dict(network.state_dict()))):
        made = imported(save(tensors, tmp_path / f"{number}.safetensors"))
        check_same(made, network)


# Of 8 bits, rounding costs half a 127th of a row's largest number: some tenths of a percent of the blocks' fifth.
def test_int8_by_rows(tmp_path: Path, network: nn.Module, state: State, imported: Importer) -> None:
    made = imported(save(int8_rows(state), tmp_path / "a.safetensors"))
    assert 0 < relative_error(output(made), wan_output(network)) <= 0.005


def test_int8_blocks_as_turbowan_has_them(tmp_path: Path, network: nn.Module, state: State, imported: Importer) -> None:
    stored: State = {}
    for name, tensor in state.items():
        if is_linear(name, tensor):
            stem = name.removesuffix("weight").replace("blocks.", "_checkpoint_wrapped_module.blocks.")
            stored[stem + "int8_weight"], stored[stem + "scale"] = int8_blocks(tensor)
        else:
            stored[name] = tensor.flatten(1) if name == "patch_embedding.weight" else tensor
    made = imported(save(stored, tmp_path / "a.safetensors"))
    assert 0 < relative_error(output(made), wan_output(network)) <= 0.005


# Only ffn.2 has rows that are multiples of 32 in so small a network; 4 bits cost about a tenth of its share.
@pytest.mark.parametrize(("kind", "error"), [("Q8_0", 0.001), ("Q4_0", 0.02)])
def test_gguf(  # noqa: PLR0917
    tmp_path: Path, network: nn.Module, state: State, imported: Importer, kind: str, error: float
) -> None:
    made = imported(save_gguf(state, tmp_path / "a.gguf", kind=kind))
    assert 0 < relative_error(output(made), wan_output(network)) <= error
    assert any(f"{kind} was unpacked" in remark for remark in made.remarks)


def test_parts_of_one_file(tmp_path: Path, network: nn.Module, state: State, imported: Importer) -> None:
    names = sorted(state)
    paths = [tmp_path / f"wan-0000{number}-of-00002.safetensors" for number in (1, 2)]
    for path, part in zip(paths, (names[::2], names[1::2]), strict=True):
        save({name: state[name] for name in part}, path)
    made = imported(*paths)
    assert made.id == "wan-imported", "wan alone is a model of the catalogue"
    check_same(made, network)


def test_a_whole_checkpoint_says_what_is_not_used(tmp_path: Path, state: State, imported: Importer) -> None:
    whole = {PREFIX + name: tensor for name, tensor in state.items()}
    others = {"vae.decoder.conv1.weight": torch.ones(2), "text_encoders.umt5xxl.shared.weight": torch.ones(2)}
    made = imported(save({**whole, **others}, tmp_path / "a.safetensors"))
    told = " ".join(made.remarks)
    assert "VAE (1 tensors)" in told
    assert "text encoder (1 tensors)" in told


def test_two_experts(
    tmp_path: Path, tiny_model_dir: Path, network: nn.Module, state: State, imported: Importer
) -> None:
    other = WanTransformer3DModel.from_config(network.config).eval()
    high = save(original_state(other, original_wan), tmp_path / "wan_HIGH_noise.safetensors")
    low = save(state, tmp_path / "wan_low_noise.safetensors")
    base = tmp_path / "base"
    base.mkdir()
    for part in tiny_model_dir.iterdir():
        (base / part.name).symlink_to(part)
    (base / "model_index.json").unlink()
    index = json.loads((tiny_model_dir / "model_index.json").read_text())
    (base / "model_index.json").write_text(json.dumps(index))
    (base / "latent_upsampler").mkdir()
    (base / "latent_upsampler" / "config.json").write_text("{}")
    with pytest.raises(WeightsError, match="when its second expert takes over"):
        imported(low, high, base=str(base))
    (base / "model_index.json").write_text(json.dumps({**index, "boundary_ratio": 0.5}))
    made = imported(low, high, base=str(base), name="both")
    check_same(made, other)
    check_same(made, network, "transformer_2")
    written = json.loads((Path(made.path) / "model_index.json").read_text())
    assert written["transformer_2"] == ["diffusers", "WanTransformer3DModel"]
    assert written["boundary_ratio"] == 0.5
    assert (Path(made.path) / "latent_upsampler" / "config.json").is_file(), "the index names no upsampler"
    with pytest.raises(InvalidRequest, match="one of two experts"):
        imported(low)
    with pytest.raises(InvalidRequest, match="several files"):
        imported(save(state, tmp_path / "x.safetensors"), low)


def test_the_rest_comes_from_the_base(tmp_path: Path, tiny_model_dir: Path, state: State, imported: Importer) -> None:
    made = imported(save(state, tmp_path / "My Wan (v2).safetensors"))
    assert made.id == "my-wan-v2"
    vae = "vae/diffusion_pytorch_model.safetensors"
    assert (Path(made.path) / vae).samefile(tiny_model_dir / vae), "linked, not copied"
    for name in ("tokenizer/tokenizer.json", "scheduler/scheduler_config.json", "text_encoder/config.json"):
        assert (Path(made.path) / name).read_bytes() == (tiny_model_dir / name).read_bytes()
        assert not (Path(made.path) / name).samefile(tiny_model_dir / name), "may be changed without the base"
    folder = imported_folder("my-wan-v2")
    assert folder is not None
    assert str(folder.path) == made.path
    assert [model.note.base for model in imported_models()] == [str(tiny_model_dir)]
    card = json.loads((folder.path / "homereel.json").read_text())
    assert card["defaults"]["num_frames"] == 5
    assert card["licence"]["kind"] == "unknown"
    with pytest.raises(InvalidRequest, match="imported before"):
        imported(save(state, tmp_path / "my-wan-v2.safetensors"))
    again = imported(save(state, tmp_path / "other.safetensors"), base="my-wan-v2")
    assert again.base == "my-wan-v2"


def test_without_links_the_base_is_copied(
    tmp_path: Path, state: State, imported: Importer, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError

    monkeypatch.setattr("homereel.models.single_file.base.os.link", refuse)
    made = imported(save(state, tmp_path / "a.safetensors"))
    vae = Path(made.path) / "vae/diffusion_pytorch_model.safetensors"
    assert vae.is_symlink()
    assert "that copy must stay" in made.remarks[-1]
    monkeypatch.setattr(Path, "symlink_to", refuse)
    made = imported(save(state, tmp_path / "b.safetensors"))
    vae = Path(made.path) / "vae/diffusion_pytorch_model.safetensors"
    assert not vae.is_symlink()
    assert vae.stat().st_nlink == 1
    assert "must stay" not in made.remarks[-1]


def test_an_interrupted_import_leaves_nothing(tmp_path: Path, state: State, imported: Importer) -> None:
    file = save(state, tmp_path / "a.safetensors")
    told: list[Progress] = []
    with pytest.raises(Stopped):
        imported(file, on_progress=told.append, should_stop=lambda: len(told) == 3)
    assert 0 < told[-1].done_bytes < told[-1].total_bytes

    def interrupt(progress: Progress) -> None:
        if progress.done_bytes > progress.total_bytes // 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        imported(file, on_progress=interrupt)
    assert left_behind() == []
    made = imported(file, on_progress=told.append)
    assert told[-1].done_bytes == told[-1].total_bytes
    assert left_behind() == [made.id]


def test_too_little_room_is_told_beforehand(
    tmp_path: Path, state: State, imported: Importer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "free_bytes", lambda _: 1000)
    with pytest.raises(WeightsError, match="are free in"):
        imported(save(state, tmp_path / "a.safetensors"))
    assert left_behind() == []


def strangers(state: State) -> dict[str, tuple[State, str]]:
    one = {"x": torch.ones(1)}
    return {
        "unknown key": ({**state, "face_adapter.q.weight": torch.ones(2, 2)}, "no place for: face_adapter.q.weight"),
        "unknown key in a block": ({**state, "blocks.0.self_attn.attn_op.proj_l.weight": torch.ones(2, 2)}, "proj_l"),
        "missing key": ({n: t for n, t in state.items() if n != "blocks.1.ffn.0.bias"}, "lacks 1 tensors"),
        "missing figure": ({n: t for n, t in state.items() if n != "head.head.weight"}, "lacks proj_out.weight"),
        "missing block": ({n: t for n, t in state.items() if not n.startswith("blocks.1.")}, "num_layers 1"),
        "a gap": ({n.replace("blocks.1.", "blocks.2."): t for n, t in state.items()}, "blocks.1 is missing"),
        "another shape": ({**state, "blocks.0.ffn.2.bias": torch.ones(3)}, "has the shape"),
        "not finite": ({**state, "blocks.0.ffn.2.bias": torch.full((24,), float("nan"))}, "not finite"),
        "VAE": ({"decoder.middle.0.residual.0.gamma": torch.ones(1)}, "a VAE of Wan"),
        "text encoder": ({"token_embedding.weight": torch.ones(1)}, "text encoder"),
        "LoRA": ({"diffusion_model.blocks.0.self_attn.q.lora_A.weight": torch.ones(1)}, "is a LoRA"),
        "whatever": (one, "no diffusion model that is known"),
        "only a VAE": ({"vae.x": torch.ones(1)}, "no diffusion model that is known"),
    }


@pytest.mark.parametrize(
    "case",
    [
        *("unknown key", "unknown key in a block", "missing key", "missing figure", "missing block", "a gap"),
        *("another shape", "not finite", "VAE", "text encoder", "LoRA", "whatever", "only a VAE"),
    ],
)
def test_what_is_not_understood_wholly_is_refused(tmp_path: Path, state: State, imported: Importer, case: str) -> None:
    tensors, message = strangers(state)[case]
    with pytest.raises(WeightsError, match=message):
        imported(save(tensors, tmp_path / "a.safetensors"))
    assert left_behind() == []


def test_diffusers_own_names_may_not_have_more_either(tmp_path: Path, network: nn.Module, imported: Importer) -> None:
    more = {**network.state_dict(), "blocks.0.attn1.processor.proj_l.weight": torch.ones(2, 2)}
    with pytest.raises(WeightsError, match=r"no place for: blocks\.0\.attn1\.processor\.proj_l\.weight"):
        imported(save(more, tmp_path / "a.safetensors"))


def test_a_cut_file_is_refused(tmp_path: Path, state: State, imported: Importer) -> None:
    file = save(state, tmp_path / "a.safetensors")
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(WeightsError, match="fetch it again"):
        imported(file)


def test_sizes_that_are_not_known_need_a_config(tmp_path: Path, network: Any, state: State) -> None:
    file = save(state, tmp_path / "a.safetensors")
    found = find_network([file])
    with pytest.raises(InvalidRequest, match="--config"):
        settle_config(found, None)
    given = dict(network.config)
    assert settle_config(found, Reference("given", given, given=True))["attention_head_dim"] == 12
    with pytest.raises(WeightsError, match="24 wide"):
        settle_config(found, Reference("given", {**given, "attention_head_dim": 11}, given=True))
    with pytest.raises(WeightsError, match="ffn_dim 32 where given has 64"):
        settle_config(found, Reference("given", {**given, "ffn_dim": 64}, given=True))
    with pytest.raises(InvalidRequest, match="with --base, such as"):
        import_model([file])


def test_a_base_that_does_not_go_with_it(
    tmp_path: Path, state: State, imported: Importer, tiny_model_dir: Path
) -> None:
    file = save(state, tmp_path / "a.safetensors")
    with pytest.raises(UnknownModel, match="neither a model nor a folder"):
        imported(file, base="no-such-model")
    with pytest.raises(WeightsError, match=r"models pull wan2\.2-ti2v-5b"):
        imported(file, base="wan2.2")
    foreign = tmp_path / "foreign"
    foreign.mkdir()
    (foreign / "model_index.json").write_text('{"_class_name": "FluxPipeline"}')
    with pytest.raises(InvalidRequest, match="do not go with Wan"):
        imported(file, base=str(foreign))
    wide = save(
        {**state, "head.head.weight": torch.ones(32, 24), "head.head.bias": torch.ones(32)}, tmp_path / "b.safetensors"
    )
    with pytest.raises(WeightsError, match=r"VAE of .* has 4 channels"):
        imported(wide)
    for name in ("Wan", "../a", "pocket"):
        with pytest.raises(InvalidRequest, match="name"):
            imported(file, name=name)
    with pytest.raises(InvalidRequest, match="float16"):
        imported(file, dtype="float16")


def test_names_are_made_from_files() -> None:
    assert default_name(Path("Wan2.1 T2V_fp8.safetensors")) == "wan2.1-t2v_fp8"
    assert default_name(Path("x-00001-of-00002.safetensors")) == "x"
    assert default_name(Path("!!.gguf")) == "model"
    assert default_name(Path("LTX-2.5.gguf")) == "ltx-2.5-imported"
