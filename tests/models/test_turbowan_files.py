"""TurboWan's files as they are published: their names and full sizes, and what of them is refused."""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from homereel.core.errors import WeightsError
from homereel.models.single_file.config import settle_config
from homereel.models.single_file.identify import find_network
from homereel.models.single_file.import_model import import_model
from homereel.models.single_file.plan import Plan, default_name
from homereel.models.single_file.student import check_projections
from tests.models import turbowan_file as makers
from tests.models.original_names import State, save
from tests.models.test_turbowan_import import SPARSE, base, left_behind, own_home, state
from tests.models.turbowan_file import PROJECTION, WAN_1_3B, WAN_14B, WAN_A14B, Sizes

__all__ = ["base", "own_home", "state"]  # fixtures

Missing = Callable[[State], State]
STRANGE: dict[str, tuple[Missing, str]] = {
    "a projection": (
        lambda s: {n: t for n, t in s.items() if n != f"blocks.1.{PROJECTION}.bias"},
        r"lacks blocks\.1\.",
    ),
    "a size": (lambda s: {**s, f"blocks.0.{PROJECTION}.weight": torch.ones(64, 64)}, "no projection for heads of 72"),
    "one too many": (lambda s: {**s, f"blocks.2.{PROJECTION}.bias": torch.ones(72)}, "no projection for heads of 72"),
    "another name": (lambda s: {**s, "blocks.0.self_attn.attn_op.proj_l.bias": torch.ones(72)}, "has no place for"),
    "not a number": (lambda s: {**s, f"blocks.0.{PROJECTION}.bias": torch.full((72,), torch.nan)}, "not finite"),
    "a lost scale": (
        lambda s: {n: t for n, t in makers.quantise(s).items() if n != "blocks.0.ffn.0.scale"},
        "its scale is missing",
    ),
    "the same twice": (
        lambda s: {**s, "net.head.head.bias": torch.ones(16), "head.head.bias": torch.ones(16)},
        "one and the same",
    ),
    "an average beside": (
        lambda s: {"net." + n: t for n, t in s.items()} | {"net_ema.x": torch.ones(1)},
        "no place for",
    ),
}


@pytest.mark.parametrize("case", STRANGE)
def test_what_is_not_whole_is_refused(tmp_path: Path, base: Path, state: State, case: str) -> None:
    change, message = STRANGE[case]
    with pytest.raises(WeightsError, match=message):
        import_model([save(change(state), tmp_path / "a.safetensors")], base=str(base))
    assert left_behind() == []


def test_names_of_published_files() -> None:
    names = {
        "TurboWan2.1-T2V-1.3B-480P.pth": "turbowan2.1-t2v-1.3b-480p-imported",
        "TurboWan2.1-T2V-14B-720P-quant.pth": "turbowan2.1-t2v-14b-720p-quant",
    }
    assert {name: default_name(Path(name)) for name in names} == names
    pair = Path("TurboWan2.2-I2V-A14B-high-720P-quant.pth")
    assert default_name(pair, two_experts=True) == "turbowan2.2-i2v-a14b-720p-quant"
    assert default_name(Path("mine_high_noise.gguf"), two_experts=True) == "mine"


def full_size(path: Path, sizes: Sizes, *, quantised: bool) -> Path:
    """A file of a published student's names, types and shapes, in which only scales were written."""
    item_bytes = {"BF16": 2, "F32": 4, "I8": 1}
    header: dict[str, Any] = {}
    end = 0
    for name, (shape, dtype) in makers.published_shapes(sizes, quantised=quantised).items():
        start, end = end, end + math.prod(shape) * item_bytes[dtype]
        header[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [start, end]}
    raw = json.dumps(header).encode()
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(raw)) + raw)
        for name, entry in header.items():
            if name.endswith(".scale"):
                file.seek(8 + len(raw) + entry["data_offsets"][0])
                file.write(struct.pack("<f", 0.01) * math.prod(entry["shape"]))
        file.truncate(8 + len(raw) + end)
    return path


LAYERS = ("attn1.to_q", "ffn.net.0.proj", "ffn.net.2")


@pytest.mark.parametrize(
    ("sizes", "base_model", "student", "scales"),
    [
        (WAN_1_3B, "wan2.1-t2v-1.3b", "TurboWan2.1-T2V-1.3B-480P", None),
        (WAN_1_3B, "wan2.1-t2v-1.3b", "TurboWan2.1-T2V-1.3B-480P-quant", ((12, 12), (70, 12), (12, 70))),
        (WAN_14B, "wan2.1-t2v-14b", "TurboWan2.1-T2V-14B-720P", None),
        (WAN_A14B, "wan2.2-i2v-a14b", "TurboWan2.2-I2V-A14B-720P-quant", ((40, 40), (108, 40), (40, 108))),
    ],
    ids=["1.3B", "1.3B-quant", "14B", "A14B-quant"],
)
def test_full_size_students(
    tmp_path: Path, sizes: Sizes, base_model: str, student: str, scales: tuple[Any, ...] | None
) -> None:
    """Their headers are read; weights of these sizes exist neither on disk nor in memory."""
    path = full_size(tmp_path / f"{student}.safetensors", sizes, quantised=scales is not None)
    assert path.stat().st_size > (14e9 if sizes.layers == 40 else 1.4e9)
    network = find_network([path])
    variant = network.family.variant(network.figures)
    assert variant is not None
    assert variant.base == base_model
    config = settle_config(network, None)
    assert (config["num_layers"], config["attention_head_dim"]) == (sizes.layers, 128)
    check_projections({"transformer": network}, {"transformer": config})
    plan: Any = Plan.__new__(Plan)
    for name, value in {
        "note": type("Note", (), {"dtype": "bfloat16"}),
        "networks": {"transformer": network},
        "base": type("Base", (), {"card": type("Card", (), {"id": base_model})}),
        "keeps_int8": True,
    }.items():
        object.__setattr__(plan, name, value)
    entries = plan.entries("transformer")
    last = [entries.get(f"blocks.{sizes.layers - 1}.{layer}.scale") for layer in LAYERS]
    assert tuple(each.shape if each else None for each in last) == (scales or (None,) * 3)
    assert len([each for each in entries.values() if each.dtype == "I8"]) == (10 * sizes.layers if scales else 0)
    assert len(plan.projections("transformer")) == 2 * sizes.layers
    assert entries["patch_embedding.weight"].shape == (sizes.dim, sizes.channels_in, 1, 2, 2)
    clip = plan.clip()
    assert (clip.sampler, clip.steps, clip.guidance) == ("rcm", 4, 1)
    assert clip.width == (1280 if "720" in student else 832)
    assert clip.passes == ((SPARSE, "int8_block") if scales else (SPARSE,))
    with pytest.raises(WeightsError, match=rf"homereel models pull {base_model.replace('.', '[.]')}"):
        import_model([path])
