"""What was made of words is kept: the next clip is the same to the bit, without a text encoder, for every family."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from homereel.core.machine import Machine
from homereel.core.plan import Residency
from homereel.core.request import Request
from homereel.core.result import Result
from homereel.engine.generate import generate, make_plan
from homereel.engine.session import Session
from homereel.planning.machine import probe_machine
from homereel.planning.rates import known_rates
from homereel.weights.word_store import WordStore
from tests.tiny_hunyuan import save_tiny_hunyuan
from tests.tiny_ltx import save_tiny_ltx
from tests.tiny_models import save_tiny_model
from tests.tiny_skyreels import save_tiny_skyreels

PROMPT = 'a red ball falls on "the floor"'
FAMILIES: dict[str, Callable[[Path], Path]] = {
    "wan": lambda folder: save_tiny_model(folder, first_frame=False),
    "hunyuanvideo-1.5": save_tiny_hunyuan,
    "ltx-2": lambda folder: save_tiny_ltx(folder, generation="2.0", distilled=False),
    "skyreels-v2": save_tiny_skyreels,
}


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """A model of each family, made when it is first asked for."""
    made: dict[str, Path] = {}

    def folder(family: str) -> Path:
        if family not in made:
            made[family] = FAMILIES[family](tmp_path_factory.mktemp("tiny"))
        return made[family]

    return folder


@pytest.fixture(scope="module")
def machine() -> Machine:
    """This one, with rates, so that plans have seconds."""
    found = probe_machine()
    return replace(found, rates=known_rates(found))


@pytest.fixture
def store(tmp_path: Path) -> WordStore:
    return WordStore(tmp_path / "words", 10**6, worth_bytes=0)


def wish(model: Path, **others: Any) -> Request:
    return Request.parse({"prompt": PROMPT, "model": str(model), "seed": 7, "steps": 1, **others})


def made(request: Request, store: WordStore, machine: Machine) -> tuple[Result, frozenset[str]]:
    """A clip, and the parts that were loaded for it: all stay, since they are small."""
    with Session(machine=machine, words=store) as session:
        result = generate(request, session=session)
        return result, frozenset(name for name, _ in session._loaded)


def files(store: WordStore) -> list[Path]:
    return sorted(store.folder.iterdir()) if store.folder.exists() else []


@pytest.mark.parametrize("family", FAMILIES)
def test_kept_words_make_the_same_clip_without_the_encoder(
    family: str, folders: Callable[[str], Path], store: WordStore, machine: Machine
) -> None:
    request = wish(folders(family))
    plain, loaded = made(request, WordStore.none(), machine)
    assert files(store) == []
    first, _ = made(request, store, machine)
    again, parts = made(request, store, machine)
    assert (plain.plan.family, plain.plan.residency, first.plan.residency) == (family, None, None)
    assert again.plan.residency == Residency(text_encoder="cached")
    assert plain.frames_sha256 == first.frames_sha256 == again.frames_sha256
    readers = loaded - parts
    assert {"text_encoder"} <= readers
    assert "transformer" in parts
    counted = [clip.plan.peak_bytes / clip.plan.peak_correction for clip in (first, again)]
    assert counted[1] < counted[0]
    assert next(stage.seconds for stage in again.plan.stages if stage.name == "text") == 0
    assert again.timing.text_seconds == 0 < first.timing.text_seconds
    texts = 2 if max(first.plan.guidance, first.plan.guidance_2 or 1) > 1 else 1
    assert len(files(store)) == texts
    for file in files(store):
        assert b"ball" not in file.read_bytes()
        assert file.stat().st_mode & 0o077 == 0


def test_only_what_decides_the_words_makes_them_others(
    folders: Callable[[str], Path], store: WordStore, machine: Machine, tmp_path: Path
) -> None:
    model = save_tiny_model(tmp_path / "model", first_frame=False)

    def place(request: Request, on: Machine = machine) -> Residency | None:
        with Session(machine=on, words=store) as session:
            return make_plan(request, session=session).residency

    kept = Residency(text_encoder="cached")
    made(wish(model), store, machine)
    assert place(wish(model, seed=8, steps=3, fps=12, num_frames=9)) == kept
    assert place(wish(model, guidance=1)) == kept
    assert place(wish(folders("wan"))) == kept  # a copy of the same files
    assert place(wish(model, prompt="a blue cube")) is None
    assert place(wish(model, negative_prompt="a cube")) is None
    for other in ({"bf16_fast": not machine.bf16_fast}, {"num_threads": 3}, {"name": "another processor"}):
        assert place(wish(model), replace(machine, **other)) is None
    torch.set_num_threads(machine.num_threads)
    tokenizer = model / "tokenizer" / "tokenizer.json"
    tokenizer.write_text(tokenizer.read_text() + "\n")
    assert place(wish(model)) is None


def test_a_new_prompt_reads_what_is_not_there(
    folders: Callable[[str], Path], store: WordStore, machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    from homereel.models.wan.family import WanFamily

    read, seen = WanFamily.encode_text, []

    def encode_text(self: WanFamily, encoder: Any, text: str) -> Any:
        seen.append(text)
        return read(self, encoder, text)

    made(wish(folders("wan")), store, machine)
    monkeypatch.setattr(WanFamily, "encode_text", encode_text)
    other = wish(folders("wan"), prompt="a blue cube")
    clip, _ = made(other, store, machine)
    assert seen == ["a blue cube"]  # what it is compared with was there
    assert clip.frames_sha256 == made(other, WordStore.none(), machine)[0].frames_sha256


@pytest.mark.parametrize("damage", [b"", b"\x00" * 200, None])
def test_a_damaged_file_is_read_anew(
    damage: bytes | None, folders: Callable[[str], Path], store: WordStore, machine: Machine
) -> None:
    request = wish(folders("wan"), guidance=1)
    first, _ = made(request, store, machine)
    (file,) = files(store)
    whole, words = file.read_bytes(), store.load(file.stem)
    assert words is not None
    file.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]) if damage is None else damage)
    again, parts = made(request, store, machine)
    assert "text_encoder" in parts
    assert again.frames_sha256 == first.frames_sha256
    anew = store.load(file.stem)
    assert anew is not None
    assert torch.equal(anew["words"], words["words"])


def test_small_readers_are_not_worth_it(folders: Callable[[str], Path], machine: Machine, tmp_path: Path) -> None:
    store = WordStore(tmp_path / "words", 10**6)
    made(wish(folders("wan")), store, machine)
    assert files(store) == []


def test_the_longest_unused_goes_first(tmp_path: Path) -> None:
    words = {"words": torch.arange(1000.0).reshape(1, 10, 100), "none": torch.zeros(1, 0, 4, dtype=torch.bfloat16)}
    store = WordStore(tmp_path / "words", 10_000)
    for key, at in (("a", 1000), ("b", 2000)):
        store.save(key, words)
        os.utime(store.folder / f"{key}.safetensors", (at, at))
    found = store.load("a")
    assert found is not None
    assert all(torch.equal(found[name], tensor) and found[name].dtype == tensor.dtype for name, tensor in words.items())
    assert found.keys() == words.keys()
    store.save("c", words)  # there is room for two
    assert [store.has(key) for key in "abc"] == [True, False, True]
    assert store.load("b") is None
    assert replace(store, max_bytes=0).load("a") is None


def test_a_folder_that_cannot_be_written_is_no_failure(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "words").write_text("a file")
    store = WordStore(tmp_path / "words", 10_000)
    store.save("a", {"words": torch.zeros(3)})
    assert "cannot be kept" in caplog.text
    assert store.load("a") is None
