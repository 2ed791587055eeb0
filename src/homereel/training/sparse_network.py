"""A network whose attention is sparse while it learns, with the projections that bring back what is left out."""

from __future__ import annotations

from functools import partial
from typing import Any

from torch import Tensor, nn

from homereel.core.protocols import Family
from homereel.passes.sparse_attention import LAYOUTS, attend_sparsely
from homereel.passes.steps import Progress
from homereel.passes.token_order import PLAIN, reorder_tokens


def make_sparse(
    network: Any,
    family: Family,
    *,
    ratio: float,
    first_layers: int,
    from_tokens: int = 0,
    order: str = PLAIN,
    progress: Progress | None = None,
) -> Any:
    """Let a network's blocks attend sparsely, in place, with projections that learn; returns the network.

    `order` is that of the tokens, as in the pass. In clips of fewer than `from_tokens` tokens, and while `progress` is
    early, attention is whole.
    """
    kind, head_size = LAYOUTS[family.block_facts.layout], family.block_facts.head_size
    progress = progress or Progress(first_share=0.0)
    for index, block in enumerate(family.blocks(network)):
        attention: Any = block.attn1  # type: ignore[attr-defined,unused-ignore]
        made = kind.from_processor(attention.processor)
        projection = made.add_projection(head_size, device=next(attention.parameters()).device)
        if (before := getattr(attention, "proj_l", None)) is not None:  # it was tuned before, and is tuned on
            projection.load_state_dict(before.state_dict())
            del attention.proj_l
        if index >= first_layers:
            projection.requires_grad_(True)
            made.attend = partial(
                _attend_long, ratio=ratio, tuned=True, eight_bit=False, progress=progress, from_tokens=from_tokens
            )
        attention.set_processor(made)
    reorder_tokens(network, family, order=order, name="sparse_attention")
    return network


def _attend_long(
    q_BLHD: Tensor, k_BLHD: Tensor, v_BLHD: Tensor, *, projection: nn.Linear, from_tokens: int, **settings: Any
) -> Tensor | None:
    """See `Attend`."""
    if q_BLHD.shape[1] < from_tokens:
        return None
    return attend_sparsely(q_BLHD, k_BLHD, v_BLHD, projection=projection, **settings)
