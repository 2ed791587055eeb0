"""Wan networks with random weights, made on the device that computes, and what passes want to know of them.

Shape letters: B batch, C channels, T frames, H height, W width, S tokens of the text, D features.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from homereel.core.model import Blocks
from wan_cases import Resolution, Size

VAE = {"z_dim": 16}
TOY_VAE: dict[str, Any] = {
    "base_dim": 4,
    "z_dim": 16,
    "dim_mult": [1, 1, 1, 1],
    "num_res_blocks": 1,
    "temperal_downsample": [False, True, True],
}


@dataclass(frozen=True)
class RandomWan:
    """What passes ask of a family; its weights come from no file."""

    size: Size
    model: str = "random Wan"
    name: str = "wan"

    @property
    def block_facts(self) -> Blocks:
        return Blocks(
            layout="wan",
            num_blocks=self.size.num_layers,
            num_heads=self.size.num_heads,
            head_size=self.size.head_size,
        )

    def blocks(self, denoiser: Any) -> Sequence[nn.Module]:
        return tuple(denoiser.blocks)

    def side_blocks(self, denoiser: Any) -> Sequence[nn.Module]:  # noqa: ARG002  # it has none
        return ()


def random_transformer(size: Size, *, device: str, dtype: torch.dtype) -> Any:
    """A WanTransformer3DModel; what diffusers keeps in float32 is so here, too. The same weights each time."""
    from diffusers import WanTransformer3DModel

    with torch.device("meta"):
        network: Any = WanTransformer3DModel(**size.config)
    _fill(network, device=device, dtype=dtype, keep_float32=tuple(network._keep_in_fp32_modules))
    config = network.config
    table: Any = type(network.rope)(config.attention_head_dim, config.patch_size, config.rope_max_seq_len)
    network.rope = table.to(device)  # its tables are no parameters
    return network.eval().requires_grad_(False)


def random_vae(*, device: str, dtype: torch.dtype, toy: bool) -> Any:
    """An AutoencoderKLWan."""
    from diffusers import AutoencoderKLWan

    with torch.device("meta"):
        network: Any = AutoencoderKLWan(**(TOY_VAE if toy else VAE))
    if device != "meta":
        _fill(network, device=device, dtype=dtype, keep_float32=())
    return network.eval().requires_grad_(False)


def random_inputs(size: Size, resolution: Resolution, *, device: str, dtype: torch.dtype) -> dict[str, Any]:
    """What one forward takes."""
    generator = torch.Generator(device).manual_seed(1)

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator, device=device, dtype=dtype)

    return {
        "hidden_states": normal(1, size.channels, *resolution.latents),
        "timestep": torch.full((1,), 500.0, device=device),
        "encoder_hidden_states": normal(1, size.text_tokens, size.text_features),
        "return_dict": False,
    }


def _fill(network: nn.Module, *, device: str, dtype: torch.dtype, keep_float32: tuple[str, ...]) -> None:
    """Give every parameter its place and random numbers, one after the other: no second copy is ever held."""
    generator = torch.Generator(device).manual_seed(0)
    for prefix, module in network.named_modules():
        for name, parameter in list(module.named_parameters(recurse=False)):
            full = f"{prefix}.{name}"
            kind = torch.float32 if any(part in full.split(".") for part in keep_float32) else dtype
            made = torch.empty(parameter.shape, device=device, dtype=kind)
            if name in ("gamma",) or (name == "weight" and "norm" in prefix):
                made.fill_(1)
            elif name == "bias":
                made.zero_()
            else:
                made.normal_(0, 1 / math.sqrt(max(parameter[0].numel(), 1)), generator=generator)
            module.register_parameter(name, nn.Parameter(made, requires_grad=False))
