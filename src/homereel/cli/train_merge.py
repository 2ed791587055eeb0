"""`homereel train merge`: a student that also carries tuned sparse attention."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from homereel.core.errors import InvalidRequest, UnknownModel


def train_merge(
    *,
    student: Annotated[str, typer.Option("--student", metavar="FOLDER", help="The student of `train distill`.")],
    sparse: Annotated[str, typer.Option("--sparse", metavar="FOLDER", help="The tuned model of `train sparse`.")],
    base: Annotated[
        str, typer.Option("--base", metavar="ID|FOLDER", help="The model from which both were trained.")
    ] = "pocket",
    to: Annotated[Path, typer.Option("--to", metavar="FOLDER", help="A new folder for the merged model.")],
    weight: Annotated[
        float, typer.Option("--weight", min=0.0, max=2.0, metavar="W", help="How much of the tuning is added.")
    ] = 1.0,
) -> None:
    """Join a student and a model that was tuned to sparse attention: student + W * (sparse - base)."""
    from homereel.models.registry import model_folder
    from homereel.training.merge import merge_models

    folders: list[Path] = []
    for option, name in (("student", student), ("sparse", sparse), ("base", base)):
        try:
            found = model_folder(name)
        except UnknownModel:
            found = None
        if found is None:
            raise InvalidRequest(f"--{option}: there is no model in {name}; give a folder of a model", field=option)
        folders.append(found.path)
    of_student, of_sparse, of_base = folders
    made = merge_models(of_student, of_sparse, of_base, to, weight=weight)
    print(f"the merged model is in {made}")
