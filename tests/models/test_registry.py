"""From a name to a model, and what is told of each."""

from __future__ import annotations

import dataclasses
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from homereel.core.errors import InvalidRequest, UnknownModel, WeightsError
from homereel.core.model import Defaults
from homereel.core.request import Request
from homereel.models import registry
from homereel.models.model_list import list_models, model_info
from homereel.models.registry import (
    default_model,
    model_facts,
    model_family,
    model_licence,
    models_for_input,
)
from homereel.weights.model_folder import ModelFolder
from tests.tiny_models import MAX_TOKENS, WORDS


@pytest.fixture
def copied(tiny_model_dir: Path, tmp_path: Path) -> Path:
    """A model that a test may damage."""
    return Path(shutil.copytree(tiny_model_dir, tmp_path / "model"))


def change_json(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def test_the_list_tells_what_is_installed() -> None:
    models = {info.id: info for info in list_models()}
    assert not models["wan2.1-t2v-1.3b"].installed
    assert (models["wan2.1-t2v-1.3b"].bytes or 0) > 10**9
    assert models["wan2.2-ti2v-5b"].licence.kind == "open"
    assert "pocket" in models


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("wan2.1-t2v-1.4b", "wan2.1-t2v-1.3b"),
        ("Pockett", "pocket"),
        ("hunyuanvideo-1.6", "hunyuanvideo-1.5"),
        ("zzzzzz", "known are pocket"),
        ("no/such/folder", "no folder"),
        ("wan_fp8.safetensors", "`homereel models import wan_fp8.safetensors` makes a model of it"),
        ("~nobody-of-this-name/x", "no folder"),
        ("a\0b", "known are"),
        ("x" * 900, "known are"),
    ],
)
def test_an_unknown_model_is_told_with_its_nearest_names(name: str, hint: str) -> None:
    with pytest.raises(UnknownModel, match=hint) as caught:
        model_facts(name)
    assert caught.value.field == "model"
    assert len(str(caught.value)) < 250
    with pytest.raises(UnknownModel):
        model_info(name)


def test_a_model_that_is_not_here_says_what_it_is() -> None:
    with pytest.raises(WeightsError, match=r"24\.2 GB, Apache-2\.0, Wan-AI"):
        model_family("wan2.2-ti2v-5b")


def test_the_default_is_the_best_one_installed(monkeypatch: pytest.MonkeyPatch, tiny_model_dir: Path) -> None:
    monkeypatch.setattr(registry, "_installed", lambda card: None)
    assert default_model() == "pocket"
    with pytest.raises(WeightsError, match="install homereel again"):
        model_facts(None)
    here = {"pocket", "wan2.1-t2v-1.3b"}
    monkeypatch.setattr(registry, "_installed", lambda card: ModelFolder(tiny_model_dir) if card.id in here else None)
    assert default_model() == "pocket", "without a GPU the large ones take hours"
    monkeypatch.setattr(registry, "has_cuda_gpu", lambda: True)
    assert default_model() == "wan2.1-t2v-1.3b"
    here.add("wan2.1-i2v-14b-720p")
    assert default_model() == "wan2.1-t2v-1.3b", "this one cannot start from words alone"
    here.add("turbowan2.1-t2v-1.3b-480p")
    assert default_model() == "wan2.1-t2v-1.3b", "this one cannot be run yet"
    info = model_info("pocket")
    assert info.installed
    assert info.title == "a random model for tests"
    assert info.words["words"] == tuple(sorted(WORDS))
    assert info.defaults.width == 32
    assert (info.bytes or 0) > 100_000
    assert model_facts("pocket").model == "pocket"


def test_a_model_that_cannot_be_run_yet_says_so_and_where_to_look(monkeypatch: pytest.MonkeyPatch) -> None:
    later = registry.find_card("wan2.1-t2v-14b").model_copy(update={"supported": False})
    monkeypatch.setattr(registry, "find_card", lambda _: later)
    with pytest.raises(InvalidRequest, match=r"wan2\.1-t2v-14b cannot be run by this version .*`homereel models`"):
        model_facts("wan2.1-t2v-14b")


def test_a_model_that_is_published_as_a_pickle_says_how_to_get_it() -> None:
    with pytest.raises(InvalidRequest, match=r"TurboDiffusion/TurboWan2\.1-T2V-14B-720P, .* import FILE"):
        model_facts("turbowan2.1-t2v-14b-720p")
    assert model_info("turbowan2.2").pickled


def test_an_alias_is_the_model(monkeypatch: pytest.MonkeyPatch, tiny_model_dir: Path) -> None:
    monkeypatch.setattr(registry, "_installed", lambda card: ModelFolder(tiny_model_dir))
    assert model_facts("wan2.1").model == "wan2.1-t2v-1.3b"
    assert model_info("ltx").id == "ltx-2.5"


def test_the_licence_is_known_by_id_and_folder(tiny_model_dir: Path) -> None:
    licence = model_licence("hunyuanvideo-1.5")
    assert licence is not None
    assert licence.restricts
    assert model_licence(str(tiny_model_dir)) is None
    assert model_licence("no-such-model") is None


def test_a_folder_is_a_model(tiny_model_dir: Path, tiny_image_model_dir: Path) -> None:
    facts = model_facts(str(tiny_model_dir))
    assert facts.name == "wan"
    assert facts.inputs == {"text", "video", "strength", "refine"}
    assert facts.defaults == Defaults(32, 32, 5, 8, 3, 3.0, 2.0, "unipc")
    assert facts.grid.width_multiple == 16
    assert facts.grid.frame_multiple == 4
    assert facts.grid.max_width == 256
    assert facts.grid.max_frames == 61
    taken = {"text", "image", "video", "strength", "refine", "extend"}
    assert model_facts(str(tiny_image_model_dir)).inputs == taken


def test_a_folder_without_a_card_takes_what_its_scheduler_says(copied: Path) -> None:
    (copied / "homereel.json").unlink()
    change_json(copied / "scheduler" / "scheduler_config.json", flow_shift=7.0)
    defaults = model_facts(str(copied)).defaults
    assert (defaults.shift, defaults.sampler, defaults.width) == (7.0, "unipc", 832)
    change_json(copied / "scheduler" / "scheduler_config.json", _class_name="FlowMatchEulerDiscreteScheduler", shift=4)
    defaults = model_facts(str(copied)).defaults
    assert (defaults.shift, defaults.sampler) == (4.0, "euler")
    change_json(copied / "scheduler" / "scheduler_config.json", shift="much")
    with pytest.raises(WeightsError, match="'much'"):
        model_facts(str(copied))


def test_a_card_may_say_a_part_and_nothing_unknown(copied: Path) -> None:
    (copied / "homereel.json").write_text('{"defaults": {"steps": 9}}')
    assert model_facts(str(copied)).defaults.steps == 9
    assert model_facts(str(copied)).defaults.width == 832
    (copied / "homereel.json").write_text('{"defaults": {"stepps": 9}}')
    with pytest.raises(WeightsError, match=r"homereel\.json: defaults\.stepps"):
        model_facts(str(copied))


def damage_index(folder: Path) -> None:
    change_json(folder / "model_index.json", _class_name="EvilPipeline")


def damage_config(folder: Path) -> None:
    (folder / "transformer" / "config.json").write_text('{"patch_size": 3}')


def second_expert(folder: Path) -> None:
    change_json(folder / "model_index.json", transformer_2=["diffusers", "WanTransformer3DModel"])


def extra_channels(folder: Path) -> None:
    change_json(folder / "transformer" / "config.json", in_channels=36)


def no_index(folder: Path) -> None:
    (folder / "model_index.json").unlink()


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (damage_index, "EvilPipeline; supported are"),
        (damage_config, "no complete Wan configuration"),
        (second_expert, "no complete Wan configuration: 'boundary_ratio'"),
        (extra_channels, r"a Wan with 36 channels in; known are 4 \(text\) and 12 \(pictures\)"),
        (no_index, "cannot be read"),
    ],
)
def test_a_folder_that_is_no_wan_is_refused(copied: Path, damage: Callable[[Path], None], message: str) -> None:
    damage(copied)
    with pytest.raises(WeightsError, match=message):
        model_facts(str(copied))


def test_unknown_words_name_who_would_understand(tiny_model_dir: Path) -> None:
    facts = model_facts(str(tiny_model_dir))
    assert facts.remarks(Request(prompt="A RED ball bounces, on the floor")) == ()
    (remark,) = facts.remarks(Request(prompt="an Astronaut: a ball, an Astronaut; 7!"))
    assert '"an", "Astronaut", "7"' in remark
    assert "would understand: wan2.1-t2v-1.3b, wan2.1-t2v-14b" in remark
    (remark,) = facts.remarks(Request(prompt="a ball", negative_prompt="horse"))
    assert "negative prompt" in remark


def test_a_prompt_beyond_the_models_reach_is_told(tiny_model_dir: Path) -> None:
    (remark,) = model_facts(str(tiny_model_dir)).remarks(Request(prompt="red " * MAX_TOKENS))
    assert "1 tokens too long" in remark


def test_who_takes_a_picture() -> None:
    assert {"pocket", "wan2.2-ti2v-5b", "wan2.1-i2v-14b-480p"} <= set(models_for_input("image"))
    assert "wan2.1-t2v-1.3b" not in models_for_input("image")
    assert set(models_for_input("mask")) == {"wan2.1-vace-1.3b", "wan2.1-vace-14b"}
    assert models_for_input("video")[0] == "pocket", "what is here comes first"
    assert models_for_input("smell") == ()


def test_facts_need_no_torch(tiny_model_dir: Path) -> None:
    script = (
        "import sys; from homereel.models.model_list import list_models; list_models();"
        "from homereel.models.registry import model_facts;"
        "from homereel.core.request import Request;"
        f"facts = model_facts({str(tiny_model_dir)!r}); facts.remarks(Request(prompt='x'));"
        "facts.weight_bytes('vae', dtype='float32');"
        "sys.exit('torch came in' if 'torch' in sys.modules else None)"
    )
    done = subprocess.run([sys.executable, "-c", script], check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_the_family_is_the_facts_and_can_compute(tiny_model_dir: Path) -> None:
    facts, family = model_facts(str(tiny_model_dir)), model_family(str(tiny_model_dir))
    for field in dataclasses.fields(facts):  # type: ignore[arg-type]  # a dataclass behind a protocol
        assert getattr(facts, field.name) == getattr(family, field.name)
    assert set(family.files()) >= {"model_index.json", "tokenizer/tokenizer.json", "vae/config.json"}
