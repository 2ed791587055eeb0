"""What can be said of a LoRA from its file alone: format, base, ranks, and what its metadata tells."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from homereel.weights.lora.family import guess_family
from homereel.weights.lora.file import LoraFile, read_lora
from homereel.weights.lora.layers import LoraLayers, read_layers
from homereel.weights.lora.names import is_diffusers_name
from homereel.weights.lora.scale import layer_alpha
from homereel.weights.lora.settings import find_settings

# Names that say nothing by themselves, so that the folder's name counts, too.
_PLAIN_STEMS = ("high_noise_model", "low_noise_model", "pytorch_lora_weights", "adapter_model", "model", "lora")
_MAX_TAGS = 10
_MAX_TEXT = 300
_TRIGGERS = ("modelspec.trigger_phrase", "trigger_words", "trigger_word", "trigger", "trained_words", "activation_text")
_TITLES = ("modelspec.title", "ss_output_name", "title", "name")
_AUTHORS = ("modelspec.author", "author", "creator")
_BASES = ("modelspec.architecture", "ss_base_model_version", "base_model", "ss_sd_model_name")


@dataclass(frozen=True)
class LoraReport:
    """A LoRA as `homereel lora check` tells of it. `family` is empty if it is for none that homereel knows."""

    path: str
    bytes: int
    format: str  # diffusers, peft, kohya, comfyui, lightx2v or unknown
    family: str
    base: str
    width: int | None
    from_picture: bool
    with_control: bool
    with_sound: bool
    reasons: tuple[str, ...]
    ranks: tuple[int, ...]
    alphas: tuple[float, ...]
    dtype: str
    num_layers: int
    num_tensors: int
    num_whole: int  # tensors that are added as they are: weights, norms, biases, tables
    components: tuple[str, ...]  # the parts of a model that the names speak of; empty: the transformer
    methods: tuple[str, ...]  # besides plain LoRA; with any of them it cannot be applied
    trigger_words: tuple[str, ...]
    tags: tuple[str, ...]  # the most frequent words of what it was trained with
    title: str
    author: str
    base_model: str  # as the metadata has it
    distilled: str  # the name of a known kind that needs few steps, or empty

    @property
    def texts(self) -> tuple[str, ...]:
        """What is searched for words that tell what it is."""
        return _texts(Path(self.path), title=self.title)


def inspect_lora(path: str | Path) -> LoraReport:
    """Read and describe a LoRA. Raises WeightsError if the file is missing, damaged, pickled, or no LoRA."""
    return report_lora(read_lora(path))


def report_lora(lora: LoraFile) -> LoraReport:
    """The same for a file that is open already."""
    layers = read_layers(lora)
    guess = guess_family(lora, layers=layers)
    title = _first(lora.metadata, _TITLES)
    settings = find_settings(guess.family, texts=_texts(lora.path, title=title))
    roles = [role for layer in layers.layers for role in layer.keys]
    ranks = {lora.tensors[layer.keys["down"]].shape[0] for layer in layers.layers if "down" in layer.keys}
    alphas = {layer_alpha(lora, layer) for layer in layers.layers if "down" in layer.keys}
    return LoraReport(
        path=str(lora.path),
        bytes=lora.data_start + max(info.end for info in lora.tensors.values()),
        format=_format(layers, family=guess.family),
        family=guess.family,
        base=guess.base,
        width=guess.width,
        from_picture=guess.from_picture,
        with_control=guess.with_control,
        with_sound=guess.with_sound,
        reasons=guess.reasons,
        ranks=tuple(sorted(ranks)),
        alphas=tuple(sorted(alpha for alpha in alphas if alpha is not None)),
        dtype=Counter(info.dtype for info in lora.tensors.values()).most_common(1)[0][0],
        num_layers=len(layers.layers),
        num_tensors=len(lora.tensors),
        num_whole=sum(role in ("diff", "bias", "up_bias") for role in roles),
        components=tuple(sorted({layer.component for layer in layers.layers if layer.component})),
        methods=layers.methods,
        trigger_words=_trigger_words(lora.metadata),
        tags=_tags(lora.metadata),
        title=title,
        author=_first(lora.metadata, _AUTHORS),
        base_model=_first(lora.metadata, _BASES),
        distilled=settings.name if settings else "",
    )


def _format(layers: LoraLayers, *, family: str) -> str:
    """By what the names begin with; without a prefix, by whose names they are."""
    prefix = Counter(layer.prefix for layer in layers.layers).most_common(1)[0][0]
    if prefix.endswith("_"):
        return "kohya"
    if prefix.startswith("base_model."):
        return "peft"
    if prefix.startswith("transformer"):
        return "diffusers"
    roles = {role for layer in layers.layers for role in layer.keys}
    if prefix and roles & {"diff", "bias"}:
        return "lightx2v"
    if not prefix and family and any(is_diffusers_name(layer.name, family=family) for layer in layers.layers):
        return "diffusers"
    return "comfyui" if prefix or family else "unknown"


def _texts(path: Path, *, title: str) -> tuple[str, ...]:
    folder = path.absolute().parent.name if path.stem in _PLAIN_STEMS else ""
    return tuple(filter(None, (path.stem, title, folder)))


def _first(metadata: Mapping[str, str], names: tuple[str, ...]) -> str:
    return next(
        (metadata[name][:_MAX_TEXT] for name in names if metadata.get(name, "").strip() not in ("", "None")), ""
    )


def _trigger_words(metadata: Mapping[str, str]) -> tuple[str, ...]:
    text = _first(metadata, _TRIGGERS)
    try:
        words = json.loads(text)
    except (ValueError, RecursionError):
        words = text.split(",")
    if not isinstance(words, list):
        words = text.split(",")
    return tuple(word.strip() for word in words if isinstance(word, str) and word.strip())


def _tags(metadata: Mapping[str, str]) -> tuple[str, ...]:
    """kohya's table of words and how often each was used, one a folder of pictures."""
    try:
        folders = json.loads(metadata.get("ss_tag_frequency", ""))
    except (ValueError, RecursionError):
        return ()
    counts: Counter[str] = Counter()
    for folder in folders.values() if isinstance(folders, dict) else ():
        for tag, count in folder.items() if isinstance(folder, dict) else ():
            if isinstance(count, int):
                counts[tag.strip()[:_MAX_TEXT]] += count
    return tuple(tag for tag, _ in counts.most_common(_MAX_TAGS) if tag)
