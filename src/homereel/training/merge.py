"""Joins two trainings of one base: few steps and sparse attention (arXiv 2512.16093).

W = student + weight * (sparse - base), tensor by tensor; what the base lacks, such as the projections of sparse
attention, is copied.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from homereel.core.errors import InvalidRequest, WeightsError
from homereel.training.distillation.student import (
    PROJECTIONS_FILE,
    TRANSFORMER,
    add_to_card,
    lay_out,
    read_card,
    write_weights,
)
from homereel.weights.model_folder import ModelFolder


def merge_weights(
    student: Mapping[str, Tensor], sparse: Mapping[str, Tensor], base: Mapping[str, Tensor], *, weight: float = 1.0
) -> dict[str, Tensor]:
    """The merged tensors, reckoned in float32, in the student's formats.

    Raises WeightsError where a shape differs, or where student or base lacks what the others have.
    """
    merged: dict[str, Tensor] = {}
    for name, tensor in sparse.items():
        if name not in base:
            merged[name] = student.get(name, tensor)
            continue
        if name not in student:
            raise WeightsError(f"the student lacks {name}, which the other two have; they are no kin")
        if not student[name].shape == tensor.shape == base[name].shape:
            raise WeightsError(f"{name} has other shapes in the three models; they are no kin")
        moved = student[name].float() + weight * (tensor.float() - base[name].float())
        merged[name] = moved.to(student[name].dtype)
    missing = sorted((student.keys() | base.keys()) - merged.keys())
    if missing:
        raise WeightsError(f"the tuned model lacks {missing[0]}; it was not tuned from this base")
    return merged


def merge_models(student: Path, sparse: Path, base: Path, target: Path, *, weight: float = 1.0) -> Path:
    """Write the model folder `target`: the student, carrying the tuned sparse attention.

    All are folders in diffusers layout. Raises InvalidRequest for a target that exists, WeightsError as above.
    """
    if target.exists():
        raise InvalidRequest(f"--to: {target} exists; name a new folder", field="to")
    projections = sparse / PROJECTIONS_FILE
    if not projections.is_file():
        raise WeightsError(f"{sparse} has no {PROJECTIONS_FILE}; make it with `homereel train sparse`")
    states = [_read(folder) for folder in (student, sparse, base)]
    merged = merge_weights(*states, weight=weight)
    lay_out(student, target)
    write_weights(merged, target)
    (target / PROJECTIONS_FILE).write_bytes(projections.read_bytes())
    tuned = read_card(sparse).get("defaults", {})
    add_to_card(target, {key: tuned[key] for key in ("passes", "passes_from_tokens") if key in tuned})
    return target


def _read(folder: Path) -> dict[str, Tensor]:
    from safetensors.torch import load_file

    found: dict[str, Tensor] = {}
    for file in ModelFolder(folder).weight_files(TRANSFORMER):
        found |= load_file(file)
    return found
