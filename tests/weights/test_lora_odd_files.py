"""What PEFT's configuration says of a LoRA, and parts that do not apply: listed, and the rest applied."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from homereel.core.errors import WeightsError
from homereel.weights.lora.apply import apply_loras, network_shapes
from homereel.weights.lora.match import describe_unmatched, match_lora
from tests.tiny_loras import (
    RANK,
    assert_accounted,
    assert_close,
    assert_same_weights,
    factors,
    in_layout,
    lora_of,
    merged_by_hand,
)


@pytest.mark.parametrize(
    ("peft", "factor"),
    [
        ({"r": RANK, "lora_alpha": 12}, 3.0),
        ({"r": RANK, "lora_alpha": 12, "use_rslora": True}, 6.0),
        ({"r": RANK, "lora_alpha": 1, "alpha_pattern": {"blocks.0.attn1.to_q": 12}}, 3.0),
        ({"r": RANK, "lora_alpha": 1, "alpha_pattern": {"^attn1.to_q": 12}}, 0.25),
    ],
)
def test_alpha_from_pefts_configuration(
    tmp_path: Path, network: nn.Module, peft: dict[str, Any], factor: float
) -> None:
    name = "blocks.0.self_attn.q"
    down, up = factors(network)[name]
    expected = network.get_parameter("blocks.0.attn1.to_q.weight") + factor * up @ down
    packed = {f"transformer.{key}": value for key, value in peft.items()}
    lora = lora_of(tmp_path, in_layout("diffusers", {name: (down, up)}), lora_adapter_metadata=json.dumps(packed))
    applied = apply_loras(network, [(lora, 1.0)])
    assert_close(network.get_parameter("blocks.0.attn1.to_q.weight"), expected)
    applied.undo()
    (tmp_path / "adapter_config.json").write_text(json.dumps(peft))
    beside = lora_of(tmp_path, in_layout("peft", {name: (down, up)}), name="adapter_model")
    apply_loras(network, [(beside, 1.0)])
    assert_close(network.get_parameter("blocks.0.attn1.to_q.weight"), expected)


@pytest.mark.parametrize(
    ("peft", "message"),
    [
        ("{", "damaged"),
        ("[1]", "damaged"),
        ('{"lora_alpha": "8"}', "alpha of"),
        ('{"alpha_pattern": {"(a+)+$": 8}}', "plain name"),
    ],
)
def test_configuration_without_sense_is_told(tmp_path: Path, network: nn.Module, peft: str, message: str) -> None:
    lora = lora_of(tmp_path, in_layout("diffusers", factors(network)), lora_adapter_metadata=peft)
    with pytest.raises(WeightsError, match=message):
        apply_loras(network, [(lora, 1.0)])


def test_what_does_not_apply_is_listed_and_the_rest_applied(tmp_path: Path, network: nn.Module) -> None:
    pairs = factors(network)
    tensors = in_layout("comfyui down", pairs, alpha=4.0)
    odd = {
        "diffusion_model.blocks.9.self_attn.q.lora_down.weight": torch.zeros(4, 24),
        "diffusion_model.blocks.9.self_attn.q.lora_up.weight": torch.zeros(24, 4),
        "diffusion_model.blocks.0.self_attn.k.lora_down.weight": torch.zeros(4, 20),
        "diffusion_model.blocks.0.self_attn.k.lora_up.weight": torch.zeros(24, 4),
        "diffusion_model.blocks.0.self_attn.k.alpha": torch.tensor(4.0),
        "diffusion_model.blocks.0.self_attn.v.lora_up.weight": torch.zeros(24, 4),
        "diffusion_model.blocks.0.dance.lora_up.weight": torch.zeros(24, 4),
        "diffusion_model.patch_embedding.diff": torch.zeros(24, 36, 1, 2, 2),
        "diffusion_model.blocks.0.cross_attn.q.lora_down.weight": torch.zeros(4, 24, dtype=torch.int8),
        "diffusion_model.blocks.0.cross_attn.q.lora_up.weight": torch.zeros(24, 4, dtype=torch.int8),
        "diffusion_model.blocks.0.cross_attn.o.lora_down.weight": torch.zeros(3, 24),
        "diffusion_model.blocks.0.cross_attn.o.lora_up.weight": torch.zeros(24, 4),
        "text_encoder.layers.0.q.lora_A.weight": torch.zeros(4, 24),
        "diffusion_model.blocks.0.ffn.0.lora_down.weight": torch.zeros(0, 24),
        "diffusion_model.blocks.0.ffn.0.lora_up.weight": torch.zeros(32, 0),
        "something": torch.zeros(1),
    }
    lora = lora_of(tmp_path, {**tensors, **odd})
    match = match_lora(lora, network_shapes(network))
    assert_accounted(lora, match)
    reasons = {entry.key: entry.reason for entry in match.unmatched}
    assert reasons.keys() == odd.keys()
    for key, words in {
        "diffusion_model.blocks.9.self_attn.q.lora_up.weight": "no such layer",
        "diffusion_model.blocks.0.self_attn.k.alpha": "24 by 20 where the model has 24 by 24",
        "diffusion_model.blocks.0.self_attn.v.lora_up.weight": "down",
        "diffusion_model.blocks.0.dance.lora_up.weight": "no layer of the family wan has this name",
        "diffusion_model.patch_embedding.diff": "where the model has (24, 4, 1, 2, 2)",
        "diffusion_model.blocks.0.cross_attn.q.lora_up.weight": "I8",
        "diffusion_model.blocks.0.cross_attn.o.lora_up.weight": "do not fit each other",
        "text_encoder.layers.0.q.lora_A.weight": "the text encoder",
        "diffusion_model.blocks.0.ffn.0.lora_up.weight": "do not fit each other",
        "something": "no part of a LoRA",
    }.items():
        assert words in reasons[key]
    expected = merged_by_hand(network, factor=1.0)
    applied = apply_loras(network, [(lora, 1.0)])
    assert all(warning.startswith("a.safetensors: ") for warning in applied.warnings)
    assert len(applied.warnings) == len(set(reasons.values())) == len(describe_unmatched(match))
    assert_same_weights(network, expected)
