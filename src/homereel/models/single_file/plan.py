"""What an import will make: which network is which expert, its configuration, and whose other parts it takes.

All that can be wrong with the files is found here, before the first byte is written.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from homereel.core.errors import InvalidRequest, WeightsError
from homereel.models.card import ClipCard
from homereel.models.catalogue import CATALOGUE
from homereel.models.single_file.base import TRANSFORMERS, Base, check_base, family_models, find_base, merged_index
from homereel.models.single_file.config import Reference, network_class, settle_config
from homereel.models.single_file.experts import assign_experts, without_expert
from homereel.models.single_file.family import Variant
from homereel.models.single_file.identify import Network, find_network
from homereel.models.single_file.student import INT8_PASS, SPARSE_PASS, check_projections, student_clip
from homereel.weights.checkpoint import group_parts
from homereel.weights.imported import ImportNote, check_new_name
from homereel.weights.model_folder import read_json
from homereel.weights.scaled import block_scale_shape
from homereel.weights.shard_writer import Entry

DTYPES = {"bfloat16": "BF16", "float32": "F32"}
INT8_ENDINGS = (".int8_weight", ".scale")  # of a layer that is kept in int8
_ROUNDED = ("F32", "F16", "F64")


@dataclass(frozen=True)
class Plan:
    """All that was found out beforehand."""

    note: ImportNote
    networks: Mapping[str, Network]  # by component
    configs: Mapping[str, dict[str, Any]]
    base: Base
    variant: Variant | None
    keeps_int8: bool = False

    @property
    def num_bytes(self) -> int:
        """What the networks will take on disk."""
        parts = (part(component) for component in self.networks for part in (self.entries, self.projections))
        return sum(entry.num_bytes for part in parts for entry in part.values())

    def index(self) -> dict[str, Any]:
        """model_index.json."""
        first = self.networks[TRANSFORMERS[0]]
        return merged_index(self.base, first, variant=self.variant, two_experts=len(self.networks) == 2)

    def entries(self, component: str) -> dict[str, Entry]:
        """What is written of each tensor of a component."""
        return _entries(self.networks[component], dtype=self.note.dtype, keeps_int8=self.keeps_int8)

    def projections(self, component: str) -> dict[str, Entry]:
        """The same for what lies beside it: the projections of tuned sparse attention, if it has any."""
        network = self.networks[component]
        return {
            name: Entry("F32", source.shape_of(network.weights.shapes[source.name]))
            for name, source in network.projections.items()
        }

    def clip(self) -> ClipCard:
        """The settings that go with these networks, before what the base says; a student has its own."""
        first = self.networks[TRANSFORMERS[0]]
        settings, passes = ClipCard(), []
        if first.projections:
            base = self.base.card.id if self.base.card else ""
            settings = student_clip(first, base=base, two_experts=len(self.networks) == 2)
            passes.append(SPARSE_PASS)
        if self.keeps_int8 and any(map(first.is_block_int8, first.sources)):
            passes.append(INT8_PASS)
        return settings.model_copy(update={"passes": tuple(passes)}) if passes else settings


def plan_import(
    files: Sequence[Path],
    *,
    name: str | None,
    base: str | None,
    config: Path | None,
    dtype: str | None,
    trust_pickle: bool,
) -> Plan:
    """Raises InvalidRequest or WeightsError as `import_model` does."""
    if dtype is not None and dtype not in DTYPES:
        raise InvalidRequest(f"{dtype!r} is no type to store weights in; use {' or '.join(DTYPES)}", field="dtype")
    groups = group_parts([Path(file).expanduser() for file in files])
    called = name or default_name(groups[0][0], two_experts=len(groups) == 2)
    check_new_name(called)
    if called in _catalogue_names():
        raise InvalidRequest(f"{called} is a model of the catalogue; give another --name", field="name")
    networks = dict(assign_experts([find_network(group, trust_pickle=trust_pickle) for group in groups]))
    first = networks["transformer"]
    variant = first.family.variant(first.figures)
    found = find_base(base or _default_base(first, variant, two_experts=len(networks) == 2))
    check_base(found, first)
    reference = _reference(found, config)
    if variant is None and not first.family.strict:
        _check_kind(first, found, reference)
    configs = {component: settle_config(network, reference) for component, network in networks.items()}
    if len(configs) == 2 and configs["transformer"] != configs["transformer_2"]:
        raise WeightsError(f"{first.file} and {networks['transformer_2'].file} are not two experts of one model")
    check_projections(networks, configs)
    keeps_int8 = dtype is None and first.family.keeps_int8
    note = ImportNote(
        name=called,
        family=first.family.name,
        sources=tuple(str(path.resolve()) for group in groups for path in group),
        base=found.name if found.card else str(found.folder.path),
        dtype=dtype or "bfloat16",
        remarks=tuple(_remarks(networks, found, dtype=dtype or "bfloat16", keeps_int8=keeps_int8)),
    )
    return Plan(note=note, networks=networks, configs=configs, base=found, variant=variant, keeps_int8=keeps_int8)


def default_name(path: Path, *, two_experts: bool = False) -> str:
    """A model's name made from a file's, other than those of the catalogue."""
    stem = re.sub(r"-\d{5}-of-\d{5}$", "", path.stem).lower()
    stem = without_expert(stem) if two_experts else stem
    name = re.sub(r"[^a-z0-9._-]+", "-", stem).strip("-._")[:60] or "model"
    return f"{name}-imported" if name in _catalogue_names() else name


def _catalogue_names() -> set[str]:
    return {name for card in CATALOGUE for name in (card.id, *card.aliases)}


def _default_base(network: Network, variant: Variant | None, *, two_experts: bool) -> str:
    if variant is None:
        raise InvalidRequest(
            f"{network.file} is a {network.family.title}, but of which model it is a variant cannot be seen from its "
            f"shapes; name the model with --base, such as {', '.join(family_models(network.family.name))}",
            field="base",
        )
    if two_experts and not variant.experts_base:
        raise InvalidRequest(f"{network.file} is a {network.family.title} that has no two experts", field="files")
    return variant.experts_base if two_experts else variant.base


def _reference(base: Base, config: Path | None) -> Reference | None:
    if config is not None:
        return Reference(str(config), read_json(config.expanduser()), given=True)
    path = base.folder.path / "transformer" / "config.json"
    return Reference(base.name, read_json(path)) if path.is_file() else None


def _check_kind(network: Network, base: Base, reference: Reference | None) -> None:
    """A network of no known kind can only be fed as the base's is, if it takes the same."""
    for key in ("in_channels", "image_dim", "pos_embed_seq_len", "vace_in_channels"):
        wanted, known = network.figures.get(key), reference.config.get(key) if reference else None
        if wanted != known:
            raise WeightsError(
                f"{network.file} is a {network.family.title} of a kind that is not known here: its {key} is {wanted}, "
                f"where {base.name} has {known}; name with --base a model that takes the same"
            )


def _remarks(networks: Mapping[str, Network], base: Base, *, dtype: str, keeps_int8: bool) -> Iterator[str]:
    for component, network in networks.items():
        yield f"{network.file} is the {component}, a {network.class_name} of {len(network.sources)} tensors"
        yield from network.remarks
        yield from _int8_remarks(network, keeps_int8=keeps_int8)
        if network.projections:
            yield f"its sparse attention was tuned; {len(network.projections)} tensors of it are kept beside the others"
        for what, count in sorted(network.not_used.items()):
            yield f"not used: {what} ({count} tensors); what {base.name} has is taken"
        types = {network.form(name) for name in network.sources}
        rounded = sorted(types.intersection(_ROUNDED))
        if dtype == "bfloat16" and rounded:
            yield f"numbers in {', '.join(rounded)} are rounded to bfloat16; --dtype float32 keeps them"


def _int8_remarks(network: Network, *, keeps_int8: bool) -> Iterator[str]:
    found = len(network.weights.in_blocks)
    kept = sum(map(network.is_block_int8, network.sources)) if keeps_int8 else 0
    if kept:
        yield f"{kept} weights stay in int8 with a scale a block of 128 x 128; --dtype bfloat16 would unpack them"
    if found > kept:
        yield f"{found - kept} weights in int8 were multiplied by their scales"


def _entries(network: Network, *, dtype: str, keeps_int8: bool) -> dict[str, Entry]:
    """What is written of each tensor. Modules that diffusers keeps in float32 stay so if they came so."""
    kept = frozenset(getattr(network_class(network.class_name), "_keep_in_fp32_modules", None) or ())
    entries: dict[str, Entry] = {}
    for name, shape in network.shapes().items():
        if keeps_int8 and network.is_block_int8(name):
            numbers, scale = (name.removesuffix(".weight") + ending for ending in INT8_ENDINGS)
            entries |= {numbers: Entry("I8", shape), scale: Entry("F32", block_scale_shape(*shape))}
            continue
        exact = network.form(name) == "F32" and bool(kept.intersection(name.split(".")))
        entries[name] = Entry("F32" if exact else DTYPES[dtype], shape)
    return entries
