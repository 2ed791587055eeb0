"""The order in which the blocks of a network of Wan's kind see a clip's tokens.

Whatever order they have, a block computes the same for each, as long as positions go with them. What changes is which
tokens lie in one block of sparse attention: frame by frame (`thw`, as the network has them) a block of 64 holds a few
rows of one frame, column by column (`wth`) a few frames of one column, so that it sees motion.
Shape letters: B batch, L tokens, C channels, D head size; T latent frames, H rows, W columns of tokens.
"""

from __future__ import annotations

from functools import lru_cache
from itertools import permutations
from typing import Any

import torch
from torch import Tensor

from homereel.core.errors import UnsupportedPass
from homereel.core.protocols import Component, Family, Undo
from homereel.passes.blocks import Changes, blocks_of

ORDERS = tuple("".join(letters) for letters in permutations("thw"))
"""The outermost loop first: frames (t), rows (h), columns (w)."""
PLAIN = "thw"


def reorder_tokens(network: Component, family: Family, *, order: str, name: str) -> Undo:
    """Let the chain of blocks see the tokens in this order; what goes in and comes out stays as it was.

    Raises UnsupportedPass for networks whose blocks are not of Wan's plain kind: those with blocks beside the chain,
    or with masks, which say what tokens see by their places.
    """
    from diffusers import WanTransformer3DModel

    if order == PLAIN:
        return lambda: None
    blocks: Any = blocks_of(network, family, name=name, side=False)
    if not isinstance(network, WanTransformer3DModel) or family.block_facts.num_side_blocks:
        raise UnsupportedPass(f"{name}: tokens of {family.model} cannot be put in another order; leave order out")
    ordered, whole = _Ordered(order), Changes()
    for handle in (
        network.rope.register_forward_hook(ordered.positions),
        network.condition_embedder.register_forward_hook(ordered.times),
        blocks[0].register_forward_pre_hook(ordered.enter),
        blocks[-1].register_forward_hook(ordered.leave),
    ):
        whole.then(handle.remove)
    return whole.undo


class _Ordered:
    """Hooks of one network: positions come first in a pass, and tell the clip's size."""

    def __init__(self, order: str) -> None:
        self._order = order
        self._places_L = self._back_L = torch.empty(0, dtype=torch.long)

    def positions(self, rope: Any, args: tuple[Tensor], rotary: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        (latents_BCTHW,) = args
        grid = tuple(side // part for side, part in zip(latents_BCTHW.shape[2:], rope.patch_size, strict=True))
        self._places_L, self._back_L = _places(grid, self._order, latents_BCTHW.device)
        cos_1L1D, sin_1L1D = rotary
        return cos_1L1D[:, self._places_L], sin_1L1D[:, self._places_L]

    def times(self, _embedder: Any, _args: Any, embedded: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """Modulation has a row a clip, or one a token (Wan2.2's TI2V-5B)."""
        final, modulation, *words = embedded
        if modulation.ndim == 3:
            modulation = modulation[:, self._places_L]
        return (final, modulation, *words)

    def enter(self, _block: Any, args: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        tokens_BLC, *rest = args
        return (tokens_BLC[:, self._places_L], *rest)

    def leave(self, _block: Any, _args: Any, tokens_BLC: Tensor) -> Tensor:
        return tokens_BLC[:, self._back_L]


@lru_cache(maxsize=8)
def _places(grid: tuple[int, ...], order: str, device: torch.device) -> tuple[Tensor, Tensor]:
    """Where each token of the new order stood, and where each of the old one stands now."""
    with torch.inference_mode(False):  # they are kept, and a training may need them later
        places_L = torch.arange(grid[0] * grid[1] * grid[2]).view(grid)
        places_L = places_L.permute([PLAIN.index(letter) for letter in order]).flatten()
        return places_L.to(device), places_L.argsort().to(device)
