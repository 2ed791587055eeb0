"""TurboWan's files become models that compute what the makers' layout does: dense, sparse as tuned, and in int8."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from homereel.core.errors import InvalidRequest, WeightsError
from homereel.core.request import Request
from homereel.engine.generate import generate, make_plan
from homereel.engine.replay import replay
from homereel.engine.session import Session
from homereel.kernels.int8_linear.modules import BlockInt8Linear
from homereel.models import eight_bit
from homereel.models.registry import model_facts, model_family
from homereel.models.single_file.import_model import Imported, import_model
from homereel.passes import apply_passes, parse_passes, sparse_attention
from homereel.weights.imported import import_root
from homereel.weights.locked.process import Answer
from homereel.weights.lora.branch import Branch, BranchHandle
from homereel.weights.model_folder import ModelFolder
from homereel.weights.pickled import file as pickled_file
from homereel.weights.pickled.describe import describe
from tests.models import turbowan_file as makers
from tests.models.original_names import State, original_wan, relative_error, save
from tests.models.turbowan_file import PROJECTION, TINY, Sizes
from tests.tiny_models import save_tiny_kind, save_tiny_model

SPARSE = "sparse_attention:0.1:first_layers=0:first_steps=0"
CPU = {"device": "cpu", "dtype": "float32"}
TIME = 932.0
# Both are float32, whose sums are taken in another order over two layers.
SAME = 2e-5


@pytest.fixture(autouse=True)
def own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOMEREEL_HOME", str(tmp_path / "home"))


@pytest.fixture(autouse=True)
def opened_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pickles without a process of their own, which takes seconds to start; tests/weights has that."""
    monkeypatch.setattr(pickled_file, "call_locked", lambda _, data, **__: Answer(describe(data), ("a wall",)))


def with_network(folder: Path, sizes: Sizes, experts: tuple[str, ...] = ("transformer",)) -> Path:
    """Give a tiny base the figures of these networks; its own weights are not taken."""
    figures = {
        "num_attention_heads": sizes.heads,
        "attention_head_dim": sizes.head,
        "ffn_dim": sizes.ffn,
        "in_channels": sizes.channels_in,
    }
    for expert in experts:
        path = folder / expert / "config.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), **figures}))
    return folder


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return with_network(save_tiny_model(tmp_path_factory.mktemp("base"), first_frame=False), TINY)


@pytest.fixture(scope="module")
def state() -> State:
    return makers.student()


@pytest.fixture(scope="module")
def given() -> dict[str, Any]:
    """243 tokens: two blocks of queries and four of keys, the last ones ragged."""
    generator = torch.Generator().manual_seed(9)
    return {"x": torch.randn(4, 3, 18, 18, generator=generator), "text": torch.randn(6, 16, generator=generator)}


def as_published(state: State) -> State:
    """As training leaves names: every block in a wrapper, all of it in `net`."""
    return {
        "net." + name.replace("self_attn.", "_checkpoint_wrapped_module.self_attn."): t for name, t in state.items()
    }


def pth(state: State, path: Path) -> Path:
    torch.save({"state_dict": as_published(state), "iteration": 3}, path)
    return path


def flow(network: Any, given: dict[str, Any]) -> Tensor:
    with torch.inference_mode():
        found: Tensor = network(
            hidden_states=given["x"][None],
            timestep=torch.tensor([TIME]),
            encoder_hidden_states=given["text"][None],
            return_dict=False,
        )[0]
    return found[0]


def makers_flow(state: State, given: dict[str, Any], **how: Any) -> Tensor:
    return makers.forward(state, given["x"], TIME, given["text"], **how)


def left_behind() -> list[str]:
    root = import_root()
    return [path.name for path in root.iterdir() if path.is_dir()] if root.is_dir() else []


def test_a_student_computes_what_its_makers_network_does(
    tmp_path: Path, base: Path, state: State, given: dict[str, Any]
) -> None:
    made = import_model([pth(state, tmp_path / "TurboWan-tiny.pth")], base=str(base))
    assert made.id == "turbowan-tiny"
    assert any("neither files nor network" in remark for remark in made.remarks)
    assert any("its sparse attention was tuned; 4 tensors" in remark for remark in made.remarks)
    family = model_family(made.path)
    network = family.load("transformer", **CPU)
    assert relative_error(flow(network, given), makers_flow(state, given)) < SAME
    assert family.defaults.passes == (SPARSE,)
    passes = parse_passes(family.defaults.passes)
    undo = apply_passes(network, family, passes)
    wanted = makers_flow(state, given, attend=makers.sparse_linear(state, ratio=0.1))
    assert relative_error(flow(network, given), wanted) < SAME
    assert relative_error(wanted, makers_flow(state, given)) > 0.02, "tuned attention would not be missed"
    untuned = {name: torch.zeros_like(t) if PROJECTION in name else t for name, t in state.items()}
    assert relative_error(makers_flow(untuned, given, attend=makers.sparse_linear(untuned, ratio=0.1)), wanted) > 0.02
    undo()
    assert relative_error(flow(network, given), makers_flow(state, given)) < SAME


def test_its_files_keep_what_was_tuned(tmp_path: Path, base: Path, state: State) -> None:
    made = import_model([save(state, tmp_path / "a.safetensors")], base=str(base))
    folder = ModelFolder(Path(made.path))
    tuned = folder.tuned_attention("transformer")
    assert tuned is not None
    assert tuned.name == "sparse_attention.safetensors"
    assert not any("proj_l" in name for name in folder.tensors("transformer"))
    assert "transformer/sparse_attention.safetensors" in model_facts(made.path).files()
    tuned.unlink()
    save({"x": torch.ones(1)}, tuned)
    with pytest.raises(WeightsError, match="does not hold a projection of 72 x 72 for each of 2 blocks"):
        model_family(made.path).load("transformer", **CPU)


@pytest.fixture
def quantised(tmp_path: Path, base: Path, state: State) -> tuple[Imported, State]:
    stored = makers.quantise(state)
    return import_model([pth(stored, tmp_path / "TurboWan-quant.pth")], base=str(base)), stored


def test_int8_is_kept_on_disk_and_unpacked_where_no_kernel_takes_it(
    quantised: tuple[Imported, State], given: dict[str, Any]
) -> None:
    made, stored = quantised
    folder = ModelFolder(Path(made.path))
    tensors = folder.tensors("transformer")
    kept = {name for name, info in tensors.items() if info.dtype == "I8"}
    assert len(kept) == 10 * TINY.layers
    assert tensors["blocks.1.ffn.net.2.scale"].shape == (2, 2)
    assert {info.dtype for name, info in tensors.items() if name not in kept} == {"BF16", "F32"}
    assert any("20 weights stay in int8" in remark for remark in made.remarks)
    family = model_family(made.path)
    assert family.defaults.passes == (SPARSE, "int8_block")
    network = family.load("transformer", **CPU)
    assert not any(isinstance(part, BlockInt8Linear) for part in network.modules())
    assert all(
        isinstance(part, nn.Linear) for part in (network.blocks[0].attn1.to_q, network.blocks[0].ffn.net[0].proj)
    )
    plain = makers.unpacked(stored)
    assert relative_error(flow(network, given), makers_flow(plain, given)) < SAME
    apply_passes(network, family, parse_passes(SPARSE))
    wanted = makers_flow(plain, given, attend=makers.sparse_linear(plain, ratio=0.1))
    assert relative_error(flow(network, given), wanted) < SAME


# A number that lies between two of 8 bits may be rounded up here and down there; further layers spread that.
ROUNDED = 0.004


def heard(network: nn.Module) -> dict[str, tuple[Tensor, Tensor]]:
    """What each layer in int8 is given and gives from now on, by its name in the makers' layout."""
    found: dict[str, tuple[Tensor, Tensor]] = {}

    def listen(name: str) -> Callable[..., None]:
        return lambda _, inputs, output: found.update({name: (inputs[0][0], output[0])})

    for name, layer in network.named_modules():
        if isinstance(layer, BlockInt8Linear):
            layer.register_forward_hook(listen(original_wan(name + ".weight").removesuffix(".weight")))
    return found


def test_int8_computes_as_w8a8_where_a_kernel_takes_it(
    quantised: tuple[Imported, State], given: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    made, stored = quantised
    monkeypatch.setattr("homereel.models.wan.family.stays_int8", lambda device: True)
    family, line = model_family(made.path), makers.eight_bit_linear(stored)
    network = family.load("transformer", **CPU)
    assert network.blocks[0].attn1.to_q.int8_weight.dtype == torch.int8
    assert network.blocks[0].attn1.to_q.scale.dtype == torch.float32
    wanted, layers = makers_flow(stored, given, linear=line), heard(network)
    assert relative_error(flow(network, given), wanted) < ROUNDED
    assert relative_error(makers_flow(makers.unpacked(stored), given), wanted) > 1.5 * ROUNDED
    assert len(layers) == 10 * TINY.layers
    for name, (inputs, output) in layers.items():
        assert relative_error(output, line(name, inputs)) < SAME, name


def test_its_own_passes_keep_the_numbers_of_the_file(
    quantised: tuple[Imported, State], given: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    made, stored = quantised
    monkeypatch.setattr("homereel.models.wan.family.stays_int8", lambda device: True)
    family = model_family(made.path)
    network = family.load("transformer", **CPU)
    plain, numbers = flow(network, given), network.blocks[1].attn1.to_k.int8_weight
    undo = apply_passes(network, family, parse_passes("int8_block"))
    assert network.blocks[1].attn1.to_k.layer.int8_weight is numbers
    assert network.blocks[1].ffn.net[0].gelu is True, "the kernel applies GELU"
    assert relative_error(flow(network, given), plain) < SAME
    undo()
    assert torch.equal(flow(network, given), plain)
    apply_passes(network, family, parse_passes(family.defaults.passes or ()))
    attend = makers.sparse_linear(makers.unpacked(stored), ratio=0.1)
    wanted = makers_flow(stored, given, linear=makers.eight_bit_linear(stored), attend=attend)
    assert relative_error(flow(network, given), wanted) < ROUNDED


def test_other_eight_bits_are_made_of_the_same_numbers(
    quantised: tuple[Imported, State], given: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    made, stored = quantised
    monkeypatch.setattr("homereel.models.wan.family.stays_int8", lambda device: True)
    family = model_family(made.path)
    network = family.load("transformer", **CPU)
    plain = makers_flow(makers.unpacked(stored), given)
    undo = apply_passes(network, family, parse_passes("int8"))
    assert network.blocks[0].attn1.to_q.layer.scheme == "int8"
    assert 0 < relative_error(flow(network, given), plain) < 0.05
    undo()
    branches = [
        BranchHandle(layer, Branch(None, torch.randn(layer.out_features, layer.in_features) * 0.05, factor=1.0))
        for layer in (network.blocks[0].ffn.net[0].proj, network.blocks[0].attn1.to_v)
    ]
    beside = flow(network, given)
    undo = apply_passes(network, family, parse_passes("int8_block"))
    assert relative_error(flow(network, given), beside) < ROUNDED, "a LoRA beside a layer comes before its GELU"
    undo()
    with pytest.raises(Exception, match="in int8_block already, with a LoRA beside them; leave int8 out"):
        apply_passes(network, family, parse_passes("int8"))
    for branch in branches:
        branch.remove()


def test_a_dtype_that_is_asked_for_unpacks_int8(
    tmp_path: Path, base: Path, state: State, given: dict[str, Any]
) -> None:
    stored = makers.quantise(state)
    made = import_model([save(stored, tmp_path / "a.safetensors")], base=str(base), dtype="float32")
    assert {info.dtype for info in ModelFolder(Path(made.path)).tensors("transformer").values()} == {"F32"}
    assert any("20 weights in int8 were multiplied by their scales" in remark for remark in made.remarks)
    assert model_facts(made.path).defaults.passes == (SPARSE,)
    found = flow(model_family(made.path).load("transformer", **CPU), given)
    assert relative_error(found, makers_flow(makers.unpacked(stored), given)) < SAME


def test_memory_counts_int8_as_what_it_will_be(
    quantised: tuple[Imported, State], monkeypatch: pytest.MonkeyPatch
) -> None:
    facts = model_facts(quantised[0].path)
    here = facts.weight_bytes("transformer", dtype="bfloat16")
    monkeypatch.setattr("homereel.models.wan.facts.has_cuda_gpu", lambda: True)
    num_kept = sum(math.prod(t.shape) for t in quantised[1].values() if t.dtype == torch.int8)
    assert here - facts.weight_bytes("transformer", dtype="bfloat16") == num_kept
    assert eight_bit.stays_int8("cpu") is False


@pytest.fixture
def experts(tmp_path: Path) -> dict[str, Path]:
    sizes = replace(TINY, channels_in=12)
    return {
        which: pth(makers.student(sizes, seed=seed), tmp_path / f"TurboWan2.2-I2V-{which}-720P.pth")
        for seed, which in enumerate(("high", "low"))
    }


@pytest.fixture(scope="module")
def experts_base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = save_tiny_kind(tmp_path_factory.mktemp("experts"), "i2v-a14b")
    return with_network(folder, replace(TINY, channels_in=12), ("transformer", "transformer_2"))


def test_two_files_make_one_model_of_two_experts(experts: dict[str, Path], experts_base: Path) -> None:
    made = import_model([experts["low"], experts["high"]], base=str(experts_base))
    assert made.id == "turbowan2.2-i2v-720p"
    family, sizes = model_family(made.path), replace(TINY, channels_in=12)
    generator = torch.Generator().manual_seed(4)
    given = {"x": torch.randn(12, 2, 18, 18, generator=generator), "text": torch.randn(6, 16, generator=generator)}
    for component, seed in (("transformer", 0), ("transformer_2", 1)):
        state, network = makers.student(sizes, seed=seed), family.load(component, **CPU)
        apply_passes(network, family, parse_passes(SPARSE))
        wanted = makers_flow(state, given, sizes=sizes, attend=makers.sparse_linear(state, ratio=0.1))
        assert relative_error(flow(network, given), wanted) < SAME
    defaults = family.defaults
    assert (defaults.sampler, defaults.steps, defaults.guidance, defaults.guidance_2) == ("rcm", 4, 1.0, 1.0)
    assert defaults.sigma_max == 200
    assert {"transformer/sparse_attention.safetensors", "transformer_2/sparse_attention.safetensors"} <= {
        *family.files()
    }


def test_experts_that_do_not_go_together(tmp_path: Path, experts: dict[str, Path], experts_base: Path) -> None:
    plain = {n: t for n, t in makers.student(replace(TINY, channels_in=12)).items() if PROJECTION not in n}
    with pytest.raises(WeightsError, match=r"-high-720P.pth was tuned to be sparse, that of .*low_noise"):
        import_model([experts["high"], save(plain, tmp_path / "low_noise.safetensors")], base=str(experts_base))
    again = pth(makers.student(replace(TINY, channels_in=12)), tmp_path / "high-2.pth")
    with pytest.raises(InvalidRequest, match="several files"):
        import_model([experts["high"], again], base=str(experts_base))
    assert left_behind() == []


@pytest.mark.parametrize("prefix", ["module.", "net.", "module.net.", "model.diffusion_model.", "net._orig_mod."])
def test_prefixes_and_plain_files_of_the_original_layout(
    tmp_path: Path, base: Path, state: State, given: dict[str, Any], prefix: str
) -> None:
    """Without projections it is a Wan as its makers have it, and no student; a convolution cuts the patches."""
    plain = {name: tensor for name, tensor in state.items() if PROJECTION not in name}
    plain["patch_embedding.weight"] = plain["patch_embedding.weight"].reshape(TINY.dim, -1, 1, 2, 2)
    torch.save({prefix + name: tensor for name, tensor in plain.items()}, tmp_path / "a.pt")
    made = import_model([tmp_path / "a.pt"], base=str(base))
    family = model_family(made.path)
    assert relative_error(flow(family.load("transformer", **CPU), given), makers_flow(state, given)) < SAME
    assert family.defaults.passes is None
    assert family.defaults.sampler == "unipc"


def wish(model: str, **fields: Any) -> Request:
    return Request.parse({"prompt": "a red ball falls", "model": model, "seed": 3, "width": 32, "height": 32, **fields})


def test_it_makes_a_clip_as_it_was_tuned(
    tmp_path: Path, base: Path, state: State, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = import_model([save(state, tmp_path / "a.safetensors")], base=str(base), name="tuned")
    with Session() as session:
        clip = generate(wish("tuned"), session=session)
        assert (clip.plan.sampler, clip.plan.steps, clip.plan.guidance) == ("rcm", 4, 1.0)
        assert clip.plan.passes == (SPARSE,)
        assert "transformer/sparse_attention.safetensors" in clip.record["homereel"]["model"]["files"]
        named = generate(wish("tuned", passes=SPARSE), session=session)
        assert named.frames_sha256 == clip.frames_sha256
        assert not [text for text in named.plan.warnings if "trained with" in text]
        off = generate(wish("tuned", turbo="off"), session=session)
        assert off.plan.passes == ()
        assert off.frames_sha256 != clip.frames_sha256
        assert replay(off.save(tmp_path / "off.png"), session=session).verdict == "exact", "also without its passes"
        for fields in ({"turbo": "off"}, {"passes": "step_cache"}):
            told = make_plan(wish("tuned", **fields), session=session).warnings
            assert any("trained with sparse_attention; without it" in text for text in told)
        assert make_plan(wish("tuned", turbo="max"), session=session).passes == (SPARSE, "fused_norms")
        monkeypatch.setattr(sparse_attention, "kernel_reason", lambda *_, **__: "it has no kernel here")
        without = make_plan(wish("tuned"), session=session)
        assert without.passes == ()
        assert any("left out: sparse_attention: it has no kernel here" in text for text in without.warnings)
        assert any("trained with sparse_attention; without it" in text for text in without.warnings)
    assert made.path.endswith("tuned")
