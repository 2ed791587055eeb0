"""Small networks of Wan's kind, and LoRAs for them in every layout that is found in the wild."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from homereel.weights.lora.file import LoraFile, read_lora
from homereel.weights.lora.match import LoraMatch

RANK = 4
# Layers by the makers' names, and what diffusers calls them: written down once more, as the tables under test have it.
LAYERS = {
    "blocks.0.self_attn.q": "blocks.0.attn1.to_q",
    "blocks.0.self_attn.o": "blocks.0.attn1.to_out.0",
    "blocks.1.cross_attn.k": "blocks.1.attn2.to_k",
    "blocks.1.cross_attn.v_img": "blocks.1.attn2.add_v_proj",
    "blocks.1.ffn.0": "blocks.1.ffn.net.0.proj",
    "blocks.1.ffn.2": "blocks.1.ffn.net.2",
    "time_projection.1": "condition_embedder.time_proj",
    "head.head": "proj_out",
}


def tiny_wan(**changes: Any) -> nn.Module:
    """A transformer as of Wan 2.1's picture-to-video, 24 wide, the same at every call."""
    from diffusers import WanTransformer3DModel

    config = {
        "num_attention_heads": 2,
        "attention_head_dim": 12,
        "in_channels": 4,
        "out_channels": 4,
        "text_dim": 16,
        "freq_dim": 16,
        "ffn_dim": 32,
        "num_layers": 2,
        "rope_max_seq_len": 16,
        "image_dim": 8,
        "added_kv_proj_dim": 24,
    }
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network: nn.Module = WanTransformer3DModel(**{**config, **changes})
    return network.requires_grad_(False).eval()


def run_wan(network: nn.Module) -> Tensor:
    """What the network makes of fixed inputs."""
    generator = torch.Generator().manual_seed(1)
    with torch.inference_mode():
        output: Tensor = network(
            hidden_states=torch.randn(1, 4, 2, 4, 4, generator=generator),
            timestep=torch.tensor([500.0]),
            encoder_hidden_states=torch.randn(1, 6, 16, generator=generator),
            encoder_hidden_states_image=torch.randn(1, 3, 8, generator=generator),
            return_dict=False,
        )[0]
    return output


def factors(network: nn.Module, *, seed: int = 2) -> dict[str, tuple[Tensor, Tensor]]:
    """Random (down, up) for LAYERS, by the makers' names."""
    generator = torch.Generator().manual_seed(seed)
    pairs = {}
    for theirs, ours in LAYERS.items():
        outputs, inputs = network.get_parameter(f"{ours}.weight").shape
        down = torch.randn(RANK, inputs, generator=generator) / inputs**0.5
        pairs[theirs] = down, torch.randn(outputs, RANK, generator=generator)
    return pairs


def in_layout(
    layout: str, pairs: Mapping[str, tuple[Tensor, Tensor]], *, alpha: float | None = None
) -> dict[str, Tensor]:
    """The tensors as a file of this layout names them."""
    tensors: dict[str, Tensor] = {}
    for theirs, (down, up) in pairs.items():
        flat, ours = theirs.replace(".", "_"), LAYERS[theirs]
        base, names = {
            "diffusers": (f"transformer.{ours}", ("lora_A.weight", "lora_B.weight")),
            "bare diffusers": (ours, ("lora_A.weight", "lora_B.weight")),
            "peft": (f"base_model.model.{ours}", ("lora_A.weight", "lora_B.weight")),
            "peft adapter": (f"base_model.model.{ours}", ("lora_A.default.weight", "lora_B.default.weight")),
            "kohya": (f"lora_unet_{flat}", ("lora_down.weight", "lora_up.weight")),
            "kohya on diffusers": (
                f"lora_transformer_{ours.replace('.', '_')}",
                ("lora_down.weight", "lora_up.weight"),
            ),
            "comfyui": (f"diffusion_model.{theirs}", ("lora_A.weight", "lora_B.weight")),
            "comfyui down": (f"diffusion_model.{theirs}", ("lora_down.weight", "lora_up.weight")),
            "original": (theirs, ("lora_down.weight", "lora_up.weight")),
        }[layout]
        tensors |= {f"{base}.{names[0]}": down.contiguous(), f"{base}.{names[1]}": up.contiguous()}
        if alpha is not None:
            tensors[f"{base}.alpha"] = torch.tensor(alpha)
    return tensors


LAYOUTS = {
    "diffusers": "diffusers",
    "bare diffusers": "diffusers",
    "peft": "peft",
    "peft adapter": "peft",
    "kohya": "kohya",
    "kohya on diffusers": "kohya",
    "comfyui": "comfyui",
    "comfyui down": "comfyui",
    "original": "comfyui",
}


def save_lora(path: Path, tensors: Mapping[str, Tensor], *, metadata: Mapping[str, str] | None = None) -> Path:
    """Write a LoRA; returns its path."""
    copies = {name: tensor.clone() for name, tensor in tensors.items()}  # a file shares no memory
    save_file(copies, path, metadata=dict(metadata) if metadata else None)
    return path


def lora_of(tmp_path: Path, tensors: Mapping[str, Tensor], *, name: str = "a", **metadata: str) -> LoraFile:
    return read_lora(save_lora(tmp_path / f"{name}.safetensors", tensors, metadata=metadata))


def merged_by_hand(network: nn.Module, *, factor: float, seed: int = 2) -> nn.Module:
    expected = copy.deepcopy(network)
    for theirs, (down, up) in factors(network, seed=seed).items():
        expected.get_parameter(f"{LAYERS[theirs]}.weight").add_(factor * up @ down)
    return expected


def assert_same_weights(one: nn.Module, other: nn.Module) -> None:
    others = dict(other.named_parameters())
    for name, tensor in one.named_parameters():
        assert_close(tensor, others[name], name=name)


def assert_close(one: Tensor, other: Tensor, *, name: str = "") -> None:
    """Weights are near 1; sums of four products in float32 differ in the last digits by their order."""
    torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6, msg=name or None)


def assert_accounted(lora: LoraFile, match: LoraMatch) -> None:
    keys = [*match.matched, *(entry.key for entry in match.unmatched), *match.elsewhere]
    assert sorted(keys) == sorted(lora.tensors)
