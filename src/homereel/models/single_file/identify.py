"""Which network a file holds: prefixes are taken off, other networks in it set aside, names and shapes looked at."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from homereel.core.errors import WeightsError
from homereel.models.single_file.family import Family, Figures
from homereel.models.single_file.hunyuan import HUNYUAN
from homereel.models.single_file.ltx2 import LTX2
from homereel.models.single_file.names import Shape, Source
from homereel.models.single_file.wan import WAN
from homereel.weights.checkpoint import open_checkpoint
from homereel.weights.scaled import Weights, unscaled_weights

if TYPE_CHECKING:
    from torch import Tensor

FAMILIES: tuple[Family, ...] = (WAN, HUNYUAN, LTX2)

_PREFIXES = ("model.diffusion_model.", "diffusion_model.", "module.", "net.")
# What else a whole checkpoint holds, by the first words of its names.
_OTHERS = {
    "vae.": "VAE",
    "first_stage_model.": "VAE",
    "audio_vae.": "audio VAE",
    "vocoder.": "vocoder",
    "text_encoders.": "text encoder",
    "cond_stage_model.": "text encoder",
    "text_embedding_projection.": "text connectors",
    "video_embeddings_connector.": "text connectors",
    "audio_embeddings_connector.": "text connectors",
}
_WRAPPERS = ("_checkpoint_wrapped_module.", "_fsdp_wrapped_module.", "_orig_mod.")  # left in names by training code
# Files that are no diffusion model, by a name that they have.
_STRANGERS = {
    "decoder.middle.0.residual.0.gamma": "a VAE of Wan",
    "encoder.conv_in.weight": "a VAE",
    "shared.weight": "a text encoder of the T5 kind",
    "token_embedding.weight": "a text encoder of the T5 kind",
    "model.embed_tokens.weight": "a language model",
    "lora_unet_blocks_0_self_attn_q.lora_down.weight": "a LoRA",
}


@dataclass(frozen=True)
class Network:
    """A diffusion model found in a file, by its names in diffusers."""

    file: str
    family: Family
    class_name: str
    figures: Figures
    sources: Mapping[str, Source]
    weights: Weights
    remarks: tuple[str, ...]
    not_used: Mapping[str, int]  # what else the file holds, and how many tensors of each
    projections: Mapping[str, Source] = field(default_factory=dict)  # of tuned sparse attention, by our names

    def shapes(self) -> dict[str, Shape]:
        """The shape of every tensor."""
        return {name: source.shape_of(self.weights.shapes[source.name]) for name, source in self.sources.items()}

    def form(self, name: str) -> str:
        """The type in which a tensor is stored in the file."""
        return self.weights.forms[self.sources[name].name]

    def is_block_int8(self, name: str) -> bool:
        """Whether it is a layer of the blocks in int8 with a scale a block, which can be kept as it is."""
        source = self.sources[name]
        return name.startswith("blocks.") and source.is_plain and source.name in self.weights.in_blocks

    def read_int8(self, name: str) -> tuple[Tensor, Tensor]:
        """Such a layer's numbers and scale, as they are stored."""
        return self.weights.read_int8(self.sources[name].name)

    def read(self, name: str) -> Tensor:
        """The numbers of a tensor or projection; raises WeightsError if some are not finite."""
        source = self.sources.get(name) or self.projections[name]
        tensor = source.take(self.weights.read(source.name))
        if not bool(tensor.isfinite().all()):
            raise WeightsError(f"{self.file}: {source.name} holds numbers that are not finite; fetch the file again")
        return tensor


def find_network(paths: Sequence[Path], *, trust_pickle: bool = False) -> Network:
    """The diffusion model in a file (or in all parts of one). Raises WeightsError if there is none that is known."""
    checkpoint = open_checkpoint(paths, trust_pickle=trust_pickle)
    file = str(paths[0])
    names, others = _split(checkpoint.tensors, file)
    weights = unscaled_weights(checkpoint, names)
    family = next((family for family in FAMILIES if family.recognises(weights.shapes)), None)
    if family is None:
        raise WeightsError(f"{file} {_strange(weights.shapes)}")
    renamed = family.rename(weights.shapes)
    if renamed.unknown:
        raise WeightsError(_unknown(file, family, renamed.unknown))
    found = Network(
        file=file,
        family=family,
        class_name="",
        figures={},
        sources=renamed.sources,
        weights=weights,
        remarks=(*checkpoint.remarks, *weights.remarks),
        not_used=Counter([*others, *renamed.others.values()]),
        projections=renamed.projections,
    )
    shapes = found.shapes()
    try:
        figures, class_name = family.figures(shapes), family.network(shapes)
    except (KeyError, IndexError) as error:
        raise WeightsError(f"{file} is a {family.title} that lacks {error.args[0]}; fetch it again") from None
    return replace(found, class_name=class_name, figures=figures)


def _split(names: Mapping[str, object], file: str) -> tuple[dict[str, str], list[str]]:
    """Short name → name in the file for the diffusion model, and for every other tensor what it belongs to."""
    prefix = _prefix(names)
    ours: dict[str, str] = {}
    others: list[str] = []
    for name in names:
        other = next((kind for start, kind in _OTHERS.items() if name.startswith(start)), None)
        if other is not None:
            others.append(other)
            continue
        short = name.removeprefix(prefix)
        for wrapper in _WRAPPERS:
            short = short.replace(wrapper, "")
        if short in ours:
            raise WeightsError(f"{file} holds {ours[short]} and {name}, which are one and the same; save one of them")
        ours[short] = name
    return ours, others


def _prefix(names: Iterable[str]) -> str:
    """What stands before the network's names, of one part or several, such as "module.net."."""
    found, names = "", list(names)
    while True:
        further = (found + prefix for prefix in _PREFIXES)
        longer = next((each for each in further if any(name.startswith(each) for name in names)), None)
        if longer is None:
            return found
        found = longer


def _strange(shapes: Mapping[str, Shape]) -> str:
    known = ", ".join(family.title for family in FAMILIES)
    for name, kind in _STRANGERS.items():
        if name in shapes:
            return f"is {kind}, and no diffusion model; give a file of {known}, the other parts come from --base"
    if any("lora" in name for name in shapes):
        return "is a LoRA, and no model; use it with `homereel generate --lora`"
    seen = ", ".join(sorted(shapes)[:3]) or "nothing"
    return f"holds no diffusion model that is known here ({known}); its tensors are called {seen} ..."


def _unknown(file: str, family: Family, names: Sequence[str]) -> str:
    shown = ", ".join(sorted(names)[:3]) + (" ..." if len(names) > 3 else "")
    return (
        f"{file} looks like {family.title}, but holds {len(names)} tensors that it has no place for: {shown}; "
        "it is a kind of model that is not supported"
    )
