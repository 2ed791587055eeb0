"""Whom a model's card names as its student, and what was imported with the model as its base."""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict
from pathlib import Path

import pytest

from homereel.models.students import student_of
from homereel.weights.imported import NOTE, ImportNote, import_root


def with_student(tiny_model_dir: Path, target: Path, *, sampler: str = "rcm") -> Path:
    """A teacher whose card names the folder within it."""
    shutil.copytree(tiny_model_dir, target)
    shutil.copytree(tiny_model_dir, target / "fast")
    amend(target, student="fast")
    amend(target / "fast", defaults={"sampler": sampler, "steps": 4, "guidance": 1})
    return target


def amend(folder: Path, *, defaults: dict[str, object] | None = None, **keys: str) -> None:
    card = json.loads((folder / "homereel.json").read_text())
    card["defaults"] |= defaults or {}
    (folder / "homereel.json").write_text(json.dumps(card | keys))


def test_the_card_names_it(tiny_model_dir: Path, tmp_path: Path) -> None:
    assert student_of(str(tiny_model_dir)) is None
    teacher = with_student(tiny_model_dir, tmp_path / "teacher")
    assert student_of(str(teacher)) == str(teacher / "fast")
    amend(teacher, student="pocket")
    assert student_of(str(teacher)) == "pocket"
    for absent in ("wan2.1-t2v-14b", "nobody-knows-this"):
        amend(teacher, student=absent)
        assert student_of(str(teacher)) is None


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HOMEREEL_HOME", str(tmp_path))
    return tmp_path


@pytest.mark.parametrize(("base", "sampler", "found"), [
    ("wan2.1-t2v-1.3b", "rcm", "mine"), ("wan2.1-t2v-1.3b", "unipc", None), ("wan2.1-t2v-14b", "rcm", None),
])  # fmt: skip
def test_an_import_is_found_by_its_base(
    tiny_model_dir: Path, home: Path, base: str, sampler: str, found: str | None
) -> None:
    assert import_root().is_relative_to(home)
    shutil.copytree(tiny_model_dir, import_root() / "mine")
    amend(import_root() / "mine", defaults={"sampler": sampler, "steps": 4, "guidance": 1})
    note = ImportNote("mine", "wan", ("a.pth",), base, "bfloat16", ())
    (import_root() / "mine" / NOTE).write_text(json.dumps(asdict(note)))
    assert student_of("wan2.1-t2v-1.3b") == found
    assert student_of("wan2.1") == found  # an alias
