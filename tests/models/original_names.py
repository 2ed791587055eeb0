"""Tiny networks in the layouts that their makers and ComfyUI publish, made by tables of this file's own."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

State = dict[str, Tensor]

# From diffusers' names to the makers', in the order in which they are replaced.
_WAN = (
    ("condition_embedder.time_embedder.linear_1", "time_embedding.0"),
    ("condition_embedder.time_embedder.linear_2", "time_embedding.2"),
    ("condition_embedder.text_embedder.linear_1", "text_embedding.0"),
    ("condition_embedder.text_embedder.linear_2", "text_embedding.2"),
    ("condition_embedder.time_proj", "time_projection.1"),
    ("condition_embedder.image_embedder.norm1", "img_emb.proj.0"),
    ("condition_embedder.image_embedder.ff.net.0.proj", "img_emb.proj.1"),
    ("condition_embedder.image_embedder.ff.net.2", "img_emb.proj.3"),
    ("condition_embedder.image_embedder.norm2", "img_emb.proj.4"),
    ("condition_embedder.image_embedder.pos_embed", "img_emb.emb_pos"),
    (".attn1.", ".self_attn."),
    (".attn2.", ".cross_attn."),
    (".to_q.", ".q."),
    (".to_k.", ".k."),
    (".to_v.", ".v."),
    (".to_out.0.", ".o."),
    (".add_k_proj.", ".k_img."),
    (".add_v_proj.", ".v_img."),
    (".norm_added_k.", ".norm_k_img."),
    (".norm2.", ".norm3."),
    (".ffn.net.0.proj.", ".ffn.0."),
    (".ffn.net.2.", ".ffn.2."),
    (".scale_shift_table", ".modulation"),
    (".proj_in.", ".before_proj."),
    (".proj_out.", ".after_proj."),
)
_WAN_WHOLE = {"scale_shift_table": "head.modulation", "proj_out.weight": "head.head.weight"}
_WAN_WHOLE["proj_out.bias"] = "head.head.bias"


def original_wan(name: str) -> str:
    """A tensor of diffusers' Wan, as its makers call it."""
    if name in _WAN_WHOLE:
        return _WAN_WHOLE[name]
    for new, old in _WAN:
        name = name.replace(new, old)
    return name


def original_state(network: nn.Module, rename: Callable[[str], str], *, dtype: torch.dtype = torch.float32) -> State:
    """A network's weights under other names."""
    return {rename(name): tensor.to(dtype).clone() for name, tensor in network.state_dict().items()}


def fp8_scaled(state: State, *, dtype: torch.dtype = torch.float8_e4m3fn, scale_name: str = "scale_weight") -> State:
    """The matrices inside blocks in fp8, each stretched over its range; scales beside them as ComfyUI names them."""
    scaled = {}
    for name, tensor in state.items():
        if not is_linear(name, tensor):
            scaled[name] = tensor
            continue
        scale = tensor.abs().max() / torch.finfo(dtype).max
        scaled[name] = (tensor / scale).to(dtype)
        scaled[name.removesuffix("weight") + scale_name] = scale
    return scaled


def int8_rows(state: State) -> State:
    """The matrices inside blocks in int8, a scale a row."""
    scaled = {}
    for name, tensor in state.items():
        if not is_linear(name, tensor):
            scaled[name] = tensor
            continue
        scale = tensor.abs().amax(dim=1, keepdim=True) / 127
        scaled[name] = (tensor / scale).round().to(torch.int8)
        scaled[name.removesuffix("weight") + "weight_scale"] = scale
    return scaled


def int8_blocks(tensor: Tensor, *, block: int = 128) -> tuple[Tensor, Tensor]:
    """A matrix in int8 with a scale for each block, computed block by block, ragged edges included."""
    rows, columns = tensor.shape
    stored = torch.zeros(rows, columns, dtype=torch.int8)
    scale = torch.zeros(-(-rows // block), -(-columns // block))
    for row in range(0, rows, block):
        for column in range(0, columns, block):
            part = tensor[row : row + block, column : column + block]
            size = part.abs().max() / 128
            scale[row // block, column // block] = size
            stored[row : row + block, column : column + block] = (part / size).round().clamp(-128, 127).to(torch.int8)
    return stored, scale


def is_linear(name: str, tensor: Tensor) -> bool:
    """Whether quantised files would hold it quantised."""
    return "blocks." in name and name.endswith(".weight") and tensor.ndim == 2


def save(state: Mapping[str, Tensor], path: Path, *, metadata: dict[str, str] | None = None, prefix: str = "") -> Path:
    """One safetensors file."""
    save_file({prefix + name: tensor.contiguous() for name, tensor in state.items()}, path, metadata=metadata)
    return path


def save_gguf(state: Mapping[str, Tensor], path: Path, *, kind: str) -> Path:
    """One GGUF file: matrices inside blocks packed if their rows allow it, all else in float32."""
    import gguf

    writer = gguf.GGUFWriter(path, "wan")
    packed = gguf.GGMLQuantizationType[kind]
    per_block = gguf.GGML_QUANT_SIZES[packed][0]
    for name, tensor in state.items():
        numbers = tensor.float().numpy()
        fits = is_linear(name, tensor) and tensor.shape[-1] % per_block == 0
        if fits:
            writer.add_tensor(name, gguf.quants.quantize(numbers, packed), raw_dtype=packed)
        elif numbers.ndim > 4:  # as ComfyUI's converter does with what the format has no room for
            writer.add_array(f"comfy.gguf.orig_shape.{name}", list(numbers.shape))
            writer.add_tensor(name, numbers.reshape(numbers.shape[0], -1))
        else:
            writer.add_tensor(name, numbers)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def wan_output(network: Any, *, channels: int = 4, text_dim: int = 16) -> Tensor:
    """What a Wan makes of one fixed input."""
    generator = torch.Generator().manual_seed(7)
    with torch.inference_mode():
        output: Tensor = network(
            hidden_states=torch.randn(1, channels, 2, 4, 4, generator=generator),
            timestep=torch.tensor([500.0]),
            encoder_hidden_states=torch.randn(1, 6, text_dim, generator=generator),
            return_dict=False,
        )[0]
    return output


def relative_error(found: Tensor, expected: Tensor) -> float:
    """The length of the difference over the length of what is right."""
    return float((found.float() - expected.float()).norm() / expected.float().norm())
