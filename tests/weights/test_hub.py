"""The real client against a hub on this machine that cuts, corrupts, refuses and redirects."""

from __future__ import annotations

import hashlib
import json
import shutil
import socket
from collections import namedtuple
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import constants

from homereel.core.errors import Stopped, WeightsError
from homereel.weights.file_index import read_index, scan_folder
from homereel.weights.hub import Fetched, fetch_model, remove_model
from homereel.weights.hub_listing import Parts
from homereel.weights.transfer import Forecast, Transfer
from tests.local_hub import REVISION, Fault, LocalHub

REPO = "someone/tiny"
WEIGHTS = "transformer/model.safetensors"
CONTENT = bytes(range(256)) * 1024  # 256 KiB
INDEX = {"_class_name": "WanPipeline", "transformer": ["diffusers", "X"], "tokenizer": ["transformers", "Y"]}


@pytest.fixture(autouse=True)
def model(hub: LocalHub) -> None:
    hub.files[REPO] = {
        "model_index.json": json.dumps({**INDEX, "transformer_2": [None, None]}).encode(),
        WEIGHTS: CONTENT,
        "transformer/config.json": b"{}",
        "tokenizer/tokenizer.json": b"{}",
        "tokenizer/spiece.model": b"words",
    }


def fetch(**options: Any) -> Fetched:
    return fetch_model(REPO, **options)


def cached(hub: LocalHub) -> Path:
    return Path(constants.HF_HUB_CACHE) / "models--someone--tiny"


def test_a_model_lands_in_the_shared_cache(hub: LocalHub) -> None:
    from huggingface_hub import scan_cache_dir, try_to_load_from_cache

    fetched = fetch()
    assert (fetched.snapshot / WEIGHTS).read_bytes() == CONTENT
    assert fetched.files[WEIGHTS] == len(CONTENT)
    assert fetched.revision == REVISION
    found = try_to_load_from_cache(REPO, WEIGHTS, cache_dir=constants.HF_HUB_CACHE)
    assert Path(str(found)).samefile(fetched.snapshot / WEIGHTS), "other tools do not find it"
    scanned = scan_cache_dir(constants.HF_HUB_CACHE)
    assert not scanned.warnings
    assert [repo.repo_id for repo in scanned.repos] == [REPO]
    num_requests = len(hub.seen)
    again = fetch()
    assert (again.fetched_bytes, len(hub.seen)) == (0, num_requests + 1), "only the listing is asked for again"


def test_only_what_is_needed_is_fetched(hub: LocalHub) -> None:
    hub.files[REPO] |= {
        "transformer/model.bin": b"pickle",
        "transformer/model.fp16.safetensors": b"second copy",
        "transformer/custom.py": b"import os",
        "examples/big.safetensors": b"not of a component",
        "whole.safetensors": b"not of a component",
        "README.md": b"read me",
        "tokenizer/run.py": b"import os",
    }
    hub.false_paths = [
        "../../evil.json",
        "transformer/../../evil.safetensors",
        "/etc/evil.json",
        "transformer/a\\b.json",
    ]
    assert set(fetch().files) == {
        *("model_index.json", WEIGHTS, "transformer/config.json"),
        *("tokenizer/tokenizer.json", "tokenizer/spiece.model"),
    }
    assert not [seen.path for seen in hub.seen if seen.path.endswith((".bin", ".py", ".md")) or "evil" in seen.path]


def test_parts_beside_the_index_come_and_unused_ones_do_not(hub: LocalHub) -> None:
    index = {**INDEX, "prompt_enhancer": ["transformers", "Z"]}
    hub.files[REPO] |= {
        "model_index.json": json.dumps(index).encode(),
        "latent_upsampler/config.json": b"{}",
        "latent_upsampler/model.safetensors": b"beside",
        "prompt_enhancer/model.safetensors": b"large",
    }
    parts = Parts(extra=("latent_upsampler",), unused=("prompt_enhancer",))
    files = set(fetch(parts=parts).files)
    assert {"latent_upsampler/config.json", "latent_upsampler/model.safetensors", WEIGHTS} <= files
    assert "prompt_enhancer/model.safetensors" not in files


def test_three_cuts_at_half_are_resumed_by_range(hub: LocalHub) -> None:
    hub.faults[WEIGHTS] = [Fault(cut=0.5), Fault(cut=0.5), Fault(cut=0.5)]
    told: list[Transfer] = []
    fetched = fetch(on_transfer=told.append)
    assert hashlib.sha256((fetched.snapshot / WEIGHTS).read_bytes()).digest() == hashlib.sha256(CONTENT).digest()
    starts = [int(seen.range.removeprefix("bytes=").removesuffix("-") or 0) for seen in hub.fetches(WEIGHTS)]
    size = len(CONTENT)
    assert starts == [0, size // 2, size * 3 // 4, size * 7 // 8]
    assert max(transfer.done_bytes for transfer in told) == told[-1].total_bytes, "bytes are counted once"
    assert any(transfer.bytes_per_second and transfer.remaining_seconds is not None for transfer in told)


def test_a_later_call_goes_on_where_an_earlier_one_was_cut(hub: LocalHub) -> None:
    hub.faults[WEIGHTS] = [Fault(cut=0.5), *[Fault(status=503)] * 9]
    with pytest.raises(WeightsError, match=r"stays cut at 131,072 of 262,144 bytes .*run the same command again"):
        fetch()
    hub.faults[WEIGHTS] = []
    forecasts: list[Forecast] = []
    fetch(on_forecast=forecasts.append)
    assert hub.fetches(WEIGHTS)[-1].range == "bytes=131072-"
    assert forecasts[0].fetch_bytes < len(CONTENT)
    assert not list(cached(hub).glob("blobs/*.incomplete"))


def test_a_hub_that_ignores_range_sends_all_again(hub: LocalHub) -> None:
    hub.faults[WEIGHTS] = [Fault(cut=0.5), Fault(ignore_range=True)]
    told: list[Transfer] = []
    assert (fetch(on_transfer=told.append).snapshot / WEIGHTS).read_bytes() == CONTENT
    assert told[-1].done_bytes == told[-1].total_bytes


def test_a_changed_file_is_not_glued_to_the_old_part(hub: LocalHub) -> None:
    hub.faults[WEIGHTS] = [Fault(cut=0.5), *[Fault(status=503)] * 9]
    with pytest.raises(WeightsError):
        fetch()
    hub.faults[WEIGHTS] = []
    hub.files[REPO][WEIGHTS] = CONTENT[::-1]
    assert (fetch().snapshot / WEIGHTS).read_bytes() == CONTENT[::-1]
    assert hub.fetches(WEIGHTS)[-1].range == ""


@pytest.mark.parametrize("path", [WEIGHTS, "tokenizer/spiece.model"])
def test_a_corrupted_file_is_put_into_quarantine(hub: LocalHub, path: str) -> None:
    hub.faults[path] = [Fault(corrupt=True)]
    with pytest.raises(WeightsError, match=r"not what the hub says .*quarantine") as caught:
        fetch()
    assert path in str(caught.value)
    (aside,) = (cached(hub) / "quarantine").iterdir()
    assert aside.read_bytes() != hub.files[REPO][path]
    assert str(aside) in str(caught.value)
    assert not (cached(hub) / "snapshots" / REVISION / path).exists()
    assert (fetch().snapshot / path).read_bytes() == hub.files[REPO][path], "the next try is clean"


def test_a_damaged_file_in_the_cache_is_fetched_anew(hub: LocalHub) -> None:
    blob = (fetch().snapshot / WEIGHTS).resolve()
    blob.write_bytes(CONTENT[:-1] + b"x")
    notes: list[str] = []
    assert (fetch(on_note=notes.append).snapshot / WEIGHTS).read_bytes() == CONTENT
    assert "damaged" in notes[0]


def test_the_token_goes_to_the_hub_and_nowhere_else(hub: LocalHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_secretsecretsecret")
    fetch()
    assert {seen.token for seen in hub.seen if not seen.is_cdn} == {"Bearer hf_secretsecretsecret"}
    assert {seen.token for seen in hub.seen if seen.is_cdn} == {""}, "the redirect's host was given the token"


@pytest.mark.parametrize("status", [401, 403])
@pytest.mark.parametrize("token", ["", "hf_secretsecretsecret"])
@pytest.mark.parametrize("at", ["listing", "file"])
def test_a_gated_model_says_what_to_do(
    hub: LocalHub, monkeypatch: pytest.MonkeyPatch, status: int, token: str, at: str
) -> None:
    fault = Fault(status=status, headers={"X-Error-Code": "GatedRepo"})
    if at == "listing":
        hub.listing_fault = fault
    else:
        hub.faults["model_index.json"] = [fault]
    if token:
        monkeypatch.setenv("HF_TOKEN", token)
    with pytest.raises(WeightsError, match=r"https://huggingface\.co/someone/tiny") as caught:
        fetch()
    message = str(caught.value)
    assert "accept" in message
    assert ("make a token" in message) == (not token)
    assert "secret" not in message
    assert "\n" not in message


def test_a_busy_hub_is_given_time(hub: LocalHub) -> None:
    hub.faults[WEIGHTS] = [Fault(status=429, headers={"Retry-After": "0"}), Fault(status=503), Fault(status=416)]
    assert (fetch().snapshot / WEIGHTS).read_bytes() == CONTENT
    hub.listing_fault = Fault(status=429)
    with pytest.raises(WeightsError, match="wait some minutes"):
        fetch()


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({}, "no model in diffusers layout"),
        ({"a.pth": b"x"}, "pickled weights"),
        ({"model_index.json": b"{}"}, r"no \.safetensors weights"),
        ({"model_index.json": b"[]"}, "no JSON object"),
    ],
)
def test_a_repository_without_a_usable_model_is_refused(hub: LocalHub, files: dict[str, bytes], message: str) -> None:
    hub.files[REPO] = files
    with pytest.raises(WeightsError, match=message):
        fetch()


def test_no_such_repository_and_no_hub(hub: LocalHub, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(WeightsError, match="has no someone/other"):
        fetch_model("someone/other")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    monkeypatch.setattr(constants, "ENDPOINT", f"http://user:hf_secretsecret@127.0.0.1:{port}")
    with pytest.raises(WeightsError, match=rf"127\.0\.0\.1:{port} cannot be reached") as caught:
        fetch()
    assert "secret" not in str(caught.value)


def test_no_room_is_told_before_anything_large_comes(hub: LocalHub, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr("shutil.disk_usage", lambda _: usage(10**12, 10**12, 1000))
    with pytest.raises(WeightsError, match=r"needs 262,\d{3} bytes more, and .* has 1,000 free"):
        fetch()
    assert not hub.fetches(WEIGHTS)


@pytest.mark.parametrize("variable", ["HOMEREEL_OFFLINE", "HF_HUB_OFFLINE"])
def test_offline_opens_no_socket(hub: LocalHub, monkeypatch: pytest.MonkeyPatch, variable: str) -> None:
    def no_socket(*_: object, **__: object) -> None:
        raise AssertionError("a socket was opened")

    monkeypatch.setattr(socket, "socket", no_socket)
    monkeypatch.setattr(socket, "create_connection", no_socket)
    monkeypatch.setattr(socket, "getaddrinfo", no_socket)
    if variable == "HOMEREEL_OFFLINE":
        monkeypatch.setenv(variable, "1")
    else:
        monkeypatch.setattr(constants, variable, True)
    with pytest.raises(WeightsError, match=f"{variable} is set"):
        fetch()
    assert not hub.seen


def test_a_stop_keeps_what_has_come(hub: LocalHub) -> None:
    come: list[Transfer] = []
    with pytest.raises(Stopped, match="kept"):
        fetch(on_transfer=come.append, should_stop=lambda: bool(come) and come[-1].done_bytes > 50_000)
    (part,) = cached(hub).glob("blobs/*.incomplete")
    fetch()
    assert hub.fetches(WEIGHTS)[-1].range.startswith("bytes=")
    assert not part.exists()


@pytest.mark.parametrize("link", ["hard", "symbolic"])
def test_a_file_elsewhere_on_the_disk_is_linked(
    hub: LocalHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, link: str
) -> None:
    def other_disk(*_: object) -> None:
        raise OSError("the other folder is on another disk")

    if link == "symbolic":
        monkeypatch.setattr("os.link", other_disk)
    folder = tmp_path / "ComfyUI" / "models"
    folder.mkdir(parents=True)
    (folder / "wan.safetensors").write_bytes(CONTENT)
    (folder / "same-size.safetensors").write_bytes(CONTENT[::-1])
    (folder / "notes.txt").write_text("no weights")
    assert len(scan_folder(folder)) == 2
    notes: list[str] = []
    fetched = fetch(index=read_index(), on_note=notes.append)
    assert not hub.fetches(WEIGHTS)
    assert fetched.reused_bytes == len(CONTENT)
    assert (fetched.snapshot / WEIGHTS).samefile(folder / "wan.safetensors")
    assert "on this disk already" in notes[0]
    freed = remove_model(REPO, revision=fetched.revision, names=fetched.files)
    assert freed < len(CONTENT)
    assert not list(cached(hub).glob("blobs/*")), "a link into nowhere was left"
    assert (folder / "wan.safetensors").read_bytes() == CONTENT, "the other tool's file must stay"


def test_a_scan_forgets_what_is_gone(tmp_path: Path) -> None:
    folder = tmp_path / "models"
    folder.mkdir()
    (folder / "a.safetensors").write_bytes(CONTENT)
    scan_folder(folder)
    other = tmp_path / "models-2"
    other.mkdir()
    (other / "b.gguf").write_bytes(CONTENT)
    scan_folder(other)
    assert len(read_index().sizes) >= 2
    shutil.rmtree(folder)
    folder.mkdir()
    assert scan_folder(folder) == {}
    assert [Path(name).name for name in read_index().sizes if name.startswith(str(tmp_path))] == ["b.gguf"]


def test_removal_leaves_what_another_snapshot_needs(hub: LocalHub) -> None:
    fetched = fetch()
    other = cached(hub) / "snapshots" / "another"
    other.mkdir()
    (other / "config.json").symlink_to("../../blobs/" + (fetched.snapshot / WEIGHTS).readlink().name)
    remove_model(REPO, revision=fetched.revision, names=fetched.files)
    assert not fetched.snapshot.exists()
    assert (other / "config.json").read_bytes() == CONTENT
