"""The model whose text encoder, VAE and other parts an imported network goes with, and how its files are taken."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from homereel.core.errors import InvalidRequest, UnknownModel, WeightsError
from homereel.models.card import CARD_FILE, ClipCard, FolderCard, Licence, ModelCard, read_folder_card
from homereel.models.catalogue import CATALOGUE
from homereel.models.single_file.family import Variant
from homereel.models.single_file.identify import Network
from homereel.weights.imported import imported_folder
from homereel.weights.installed import installed_folder
from homereel.weights.model_folder import ModelFolder, packaged_folder

TRANSFORMERS = ("transformer", "transformer_2")
_BESIDE = ("latent_upsampler",)  # parts that no model_index.json names
_PICTURES = ("image_encoder", "image_processor")
_LINKED_SUFFIX = ".safetensors"
_LEFT_OUT = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".py", ".lock")


@dataclass(frozen=True)
class Base:
    """A model on this disk, and its card if the catalogue has one."""

    name: str
    folder: ModelFolder
    card: ModelCard | None


def find_base(name: str) -> Base:
    """The model of the catalogue, the imported model or the folder of this name.

    Raises WeightsError if it is not on this machine, UnknownModel if there is none.
    """
    card = next((card for card in CATALOGUE if name == card.id or name in card.aliases), None)
    if card is not None:
        folder = installed_folder(card.id, repo=card.repo) if card.repo else packaged_folder(card.id)
        if folder is None:
            anyway = "" if card.supported else " --anyway"
            raise WeightsError(
                f"the text encoder, the VAE and other parts come from {card.id}, which is not on this machine; "
                f"`homereel models pull {card.id}{anyway}` fetches it, or name a folder of it with --base"
            )
        return Base(card.id, folder, card)
    folder = imported_folder(name)
    if folder is None:
        path = Path(name).expanduser()
        if not path.is_dir():
            raise UnknownModel(
                f"{name} is neither a model nor a folder; give --base one of `homereel models`", field="base"
            )
        folder = ModelFolder(path.resolve())
    return Base(name, folder, None)


def check_base(base: Base, network: Network) -> None:
    """Raises InvalidRequest or WeightsError if the base's parts do not go with the network."""
    family = network.family
    pipeline = str(base.folder.index().get("_class_name", ""))
    if pipeline not in family.pipelines:
        raise InvalidRequest(
            f"{base.name} is a {pipeline or 'model without a name'}, whose parts do not go with {family.title}; "
            f"give --base one of {', '.join(family_models(family.name)) or 'its own kind'}",
            field="base",
        )
    vae = base.folder.config("vae")
    channels = vae.get("z_dim", vae.get("latent_channels"))
    if channels is not None and channels != network.figures["out_channels"]:
        raise WeightsError(
            f"the VAE of {base.name} has {channels} channels where {network.file} makes "
            f"{network.figures['out_channels']}; name another model with --base"
        )
    width = base.folder.config("text_encoder").get("d_model") if "text_dim" in network.figures else None
    if width is not None and width != network.figures["text_dim"]:
        raise WeightsError(
            f"the text encoder of {base.name} gives {width} features where {network.file} takes "
            f"{network.figures['text_dim']}; name another model with --base"
        )
    if network.figures.get("image_dim") is not None and not _has(base.folder.index(), "image_encoder"):
        raise WeightsError(
            f"{network.file} looks at its picture through an image encoder, which {base.name} lacks; "
            "give --base wan2.1-i2v-14b-480p or another model of that kind"
        )


def family_models(family: str) -> tuple[str, ...]:
    """Ids of the catalogue's models of a family."""
    return tuple(card.id for card in CATALOGUE if card.family == family)


def merged_index(base: Base, network: Network, *, variant: Variant | None, two_experts: bool) -> dict[str, Any]:
    """model_index.json of the imported model."""
    index = {**base.folder.index(), "transformer": ["diffusers", network.class_name]}
    if two_experts or "transformer_2" in index:
        index["transformer_2"] = ["diffusers", network.class_name] if two_experts else [None, None]
    if "boundary_ratio" in index and not two_experts:
        index["boundary_ratio"] = None
    if network.family.name == "wan" and network.figures.get("image_dim") is None:
        index.update({part: [None, None] for part in _PICTURES if part in index})
    if variant is not None:
        index["_class_name"] = variant.pipeline or index["_class_name"]
        index.update(variant.experts_index if two_experts else variant.index)
    if two_experts and not isinstance(index.get("boundary_ratio"), int | float):
        raise WeightsError(
            f"{base.name} does not say when its second expert takes over; name with --base one that does"
        )
    return index


def base_files(base: Base, index: Mapping[str, Any]) -> dict[str, Path]:
    """The base's files that the imported model needs, by their path in it."""
    named = [name for name in index if _has(index, name)]
    beside = [name for name in _BESIDE if name not in named and (base.folder.path / name).is_dir()]
    return dict(_component_files(base.folder.path, named + beside))


def take_files(files: Mapping[str, Path], target: Path) -> list[Path]:
    """Weights are linked where the disk allows it, all else is copied; returns what is linked by name only."""
    by_name = []
    try:
        for name, source in files.items():
            path = target / name
            path.parent.mkdir(parents=True, exist_ok=True)
            if source.suffix != _LINKED_SUFFIX:
                shutil.copyfile(source, path)
            elif not _link(source, path):
                by_name.append(source)
    except OSError as error:
        raise WeightsError(f"{target} cannot be written: {error.strerror or error}") from None
    return by_name


def write_card(base: Base, target: Path, *, title: str, source: str, clip: ClipCard) -> None:
    """homereel.json of the imported model: its standard clip, the base's but for `clip`, and what is known of the
    licence."""
    known = read_folder_card(base.folder.path)
    tokens, licence = known.max_sequence_length, known.licence
    clip = ClipCard(**{**known.defaults.model_dump(), **clip.model_dump(exclude_none=True)})
    if base.card is not None:
        clip = ClipCard(**{**base.card.defaults.model_dump(), **clip.model_dump(exclude_none=True)})
        tokens, licence = tokens or base.card.max_sequence_length, licence or base.card.licence
    if licence is None or not licence.restricts:
        known_terms = licence.name if licence else "unknown terms"
        terms = f"nothing is known of the terms of {source}; its base is under {known_terms}"
        licence = Licence(name="unknown", kind="unknown", terms=terms)
    card = FolderCard.model_validate(
        {
            "schema": 1,
            "title": title,
            "licence": licence,
            "defaults": clip,
            "max_sequence_length": tokens,
            "words": known.words,
            "examples": known.examples,
        }
    )
    content = card.model_dump(mode="json", by_alias=True, exclude_none=True)
    (target / CARD_FILE).write_text(json.dumps(content, indent=1), encoding="utf-8")


def _has(index: Mapping[str, Any], name: str) -> bool:
    entry = index.get(name)
    return isinstance(entry, list) and len(entry) == 2 and entry[1] is not None


def _component_files(root: Path, components: Iterable[str]) -> Iterator[tuple[str, Path]]:
    for component in components:
        if component in TRANSFORMERS:
            continue
        folder = root / component
        if Path(component).name != component or not folder.is_dir():
            raise WeightsError(f"{root} lacks {component}, which its model_index.json names; fetch it again")
        for file in sorted(folder.rglob("*")):
            if file.is_file() and not file.name.endswith(_LEFT_OUT):
                yield file.relative_to(root).as_posix(), file.resolve()


def _link(source: Path, path: Path) -> bool:
    """Whether the file will stay if the base goes: True for a hard link and a copy, False for a link by name."""
    try:
        os.link(source, path)
        return True
    except OSError:  # another disk, or one without such links
        pass
    try:
        path.symlink_to(source)
        return False
    except (OSError, NotImplementedError):  # Windows, without the right to make links
        shutil.copyfile(source, path)
        return True
