"""Blocks that travel to a real GPU: the same bits, room for two of them, and copies that hide behind computation."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from homereel.passes.residency import Source, StreamBlocks

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")]
NUM_BLOCKS, FEATURES, TOKENS = 10, 1536, (9, 60, 104)


@pytest.fixture(scope="module")
def family() -> Any:
    """What the pass asks of a family, of a Wan of ten blocks as wide as those of 1.3B."""
    return SimpleNamespace(
        model="wide",
        block_facts=SimpleNamespace(num_blocks=NUM_BLOCKS, num_side_blocks=0),
        blocks=lambda network: tuple(network.blocks),
        side_blocks=lambda _: (),
    )


def _network() -> Any:
    from diffusers import WanTransformer3DModel

    torch.manual_seed(0)
    made: Any = WanTransformer3DModel(
        num_attention_heads=12,
        attention_head_dim=128,
        in_channels=16,
        out_channels=16,
        text_dim=4096,
        freq_dim=256,
        ffn_dim=8960,
        num_layers=NUM_BLOCKS,
    )
    return made.to(torch.bfloat16).requires_grad_(False).eval()


@torch.inference_mode()
def _flow(network: Any) -> torch.Tensor:
    torch.manual_seed(1)
    frames, height, width = TOKENS
    flow: torch.Tensor = network(
        hidden_states=torch.randn(1, 16, frames, height, width, device="cuda", dtype=torch.bfloat16),
        timestep=torch.tensor([500.0], device="cuda"),
        encoder_hidden_states=torch.randn(1, 512, 4096, device="cuda", dtype=torch.bfloat16),
        return_dict=False,
    )[0]
    return flow


def _four_steps_ms(network: Any) -> float:
    _flow(network)
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    start.record()
    for _ in range(4):
        _flow(network)
    end.record()
    end.synchronize()
    return float(start.elapsed_time(end))


@pytest.mark.parametrize("source", ["memory", "disk"])
@pytest.mark.parametrize("resident", [0, 5])
def test_the_same_bits_in_the_room_of_two_blocks(
    family: Any, source: Source, resident: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    monkeypatch.setenv("HOMEREEL_HOME", str(tmp_path))
    whole = _network().cuda()
    expected = _flow(whole)
    block_bytes = sum(each.nbytes for each in whole.blocks[0].parameters())
    outside = sum(each.nbytes for each in whole.parameters()) - NUM_BLOCKS * block_bytes
    del whole
    torch.cuda.empty_cache()
    before = torch.cuda.memory_allocated()
    network = _network()
    undo = StreamBlocks(resident, "cuda", source).apply(network, family)
    held = torch.cuda.memory_allocated() - before
    assert held <= outside + (resident + 2) * block_bytes + 8 * 2**20
    for _ in range(3):
        assert torch.equal(_flow(network), expected)
    undo()
    assert torch.cuda.memory_allocated() - before <= outside
    assert all(parameter.device.type == "cpu" for parameter in network.parameters())


def test_copies_hide_behind_computation(family: Any) -> None:
    network = _network().cuda()
    resident = _four_steps_ms(network)
    del network
    network = _network()
    undo = StreamBlocks(0, "cuda", "memory").apply(network, family)
    streamed = _four_steps_ms(network)
    undo()
    assert streamed <= 1.35 * resident, f"{streamed:.0f} ms streamed, {resident:.0f} ms resident"


def test_two_experts_in_one_room(family: Any) -> None:
    experts = [_network(), _network()]
    for parameter in experts[1].parameters():
        parameter.mul_(1.01)
    expected = []
    for expert in experts:
        expected.append(_flow(expert.cuda()))
        expert.cpu()
    streaming = StreamBlocks(6, "cuda", "memory", shared=True)
    undos = [streaming.apply(expert, family) for expert in experts]
    for index in (0, 1, 1, 0, 1):
        assert torch.equal(_flow(experts[index]), expected[index])
    for undo in undos:
        undo()
