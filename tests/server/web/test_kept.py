"""Settings that are used again bring back what the clip was made from, and say what is gone."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from starlette.testclient import TestClient

from homereel import media
from homereel.core.request import Request
from homereel.jobs.blobs import JobFolder
from homereel.jobs.records import Job
from homereel.jobs.store import JobStore
from homereel.server.attachments import Attachment
from tests.server.conftest import error_of, parts_of, png
from tests.server.web.clips import finished


@pytest.fixture
def lora(tmp_path: Path) -> Path:
    """One that the tiny models take."""
    import torch
    from safetensors.torch import save_file

    weights = {
        "diffusion_model.blocks.1.attn1.to_q.lora_A.weight": torch.zeros(2, 24),
        "diffusion_model.blocks.1.attn1.to_q.lora_B.weight": torch.zeros(24, 2),
    }
    save_file(weights, tmp_path / "style.safetensors")
    return tmp_path / "style.safetensors"


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    (tmp_path / "sunset.png").write_bytes(png())
    return tmp_path / "sunset.png"


def made_from(client: TestClient, *, image: Path | None = None, loras: tuple[tuple[Path, float], ...] = ()) -> Job:
    fields: dict[str, Any] = {"model": "tiny-image"}
    if image is not None:
        fields["image"] = Attachment(image, "x", "image")
    if loras:
        fields["loras"] = [{"path": Attachment(path, "y", "loras"), "strength": force} for path, force in loras]
    return finished(parts_of(client), **fields)


def sent_by_form(page: str) -> dict[str, Any]:
    """What a browser would send of the form as it was opened."""
    form = page[page.index('<form id="create"') : page.index("</form>")]
    told: dict[str, Any] = {}
    for tag in re.findall(r"<input [^>]*>", form):
        name, value = re.search(r'name="([^"]*)"', tag), re.search(r'value="([^"]*)"', tag)
        if name and value and value[1]:
            told[name[1]] = [told[name[1]], value[1]] if name[1] in told else value[1]
    prompt = re.search(r"<textarea[^>]*>([^<]*)</textarea>", form)
    model = re.search(r'<option value="([^"]*)" selected', form)
    return {**told, "prompt": prompt[1] if prompt else "", "model": model[1] if model else ""}


def message_of(answer: Any) -> str:
    return str(error_of(answer)["message"])


def test_settings_bring_back_the_picture_and_the_lora(
    client: TestClient, store: JobStore, picture: Path, lora: Path
) -> None:
    job = made_from(client, image=picture, loras=((lora, 0.8),))
    page = client.get(f"/?job={job.id}").text
    sent = sent_by_form(page)
    assert (sent["image"], sent["lora"], sent["lora_strength"]) == (f"{job.id}/image", f"{job.id}/loras.0", "0.8")
    assert client.get(f"/studio/inputs/{job.id}/image").content == picture.read_bytes()
    assert client.post("/studio/create", json={**sent, "seed": "8"}).status_code == 200
    (again,) = store.queue()
    own = JobFolder(parts_of(client).settings.data, again.id)
    assert own.is_inside(Path(again.request["image"])), "the new job has a copy of its own"
    assert Path(again.request["image"]).read_bytes() == picture.read_bytes()
    assert Path(again.request["loras"][0]["path"]).read_bytes() == lora.read_bytes()
    assert again.request["loras"][0]["strength"] == 0.8


def test_several_loras_and_settings_without_a_field_are_taken_over(
    client: TestClient, store: JobStore, lora: Path
) -> None:
    job = made_from(client, loras=((lora, 0.5), (lora, -1.0)))
    page = client.get(f"/?job={job.id}").text
    assert "LoRA 1 (strength 0.5)" in page
    assert sent_by_form(page)["kept"] == [f"{job.id}/loras.0", f"{job.id}/loras.1"]
    client.post("/studio/create", json=sent_by_form(page))
    (again,) = store.queue()
    assert [use["strength"] for use in again.request["loras"] if "strength" in use] == [0.5, -1.0]
    one = client.post("/studio/create", json={**sent_by_form(page), "kept": f"{job.id}/loras.1"})
    assert one.status_code == 200
    assert len(store.queue()[-1].request["loras"]) == 1


def test_a_refined_clip_is_refined_again_from_the_same(client: TestClient, store: JobStore) -> None:
    first = finished(parts_of(client))
    client.post(f"/studio/jobs/{first.id}/follow/refine", json={})
    (refined,) = store.queue()
    sent = sent_by_form(client.get(f"/?job={refined.id}").text)
    assert (sent["refine"], float(sent["strength"])) == (first.id, refined.request["strength"])
    client.post("/studio/create", json={**sent, "strength": "0.3"})
    again = store.queue()[-1]
    assert (again.request["refine"], again.request["strength"]) == (f"job:{first.id}", 0.3)
    store.delete(first.id)
    gone = client.get(f"/?job={refined.id}").text
    assert "Not here any more, and left out: clip that it refines" in gone
    assert "refine" not in sent_by_form(gone)
    refused = client.post(f"/studio/jobs/{refined.id}/follow/again", json={})
    assert (refused.status_code, "was deleted; use its settings" in message_of(refused)) == (400, True)


def test_a_picture_that_is_gone_is_told(client: TestClient, picture: Path) -> None:
    job = made_from(client, image=picture)
    Path(job.request["image"]).unlink()
    page = client.get(f"/?job={job.id}").text
    assert "Not here any more, and left out: first picture" in page
    assert "image" not in sent_by_form(page)
    again = client.post(f"/studio/jobs/{job.id}/follow/again", json={})
    assert (again.status_code, "is not here any more" in message_of(again)) == (400, True)
    form = {"prompt": "a", "model": "tiny-image", "image": f"{job.id}/image"}
    assert "is not here any more" in message_of(client.post("/studio/create", json=form))


def dropped(client: TestClient, path: Path) -> Any:
    upload = client.post("/api/v1/uploads", files={"file": (path.name, path.read_bytes())}).json()["id"]
    return client.post("/studio/recipe", json={"upload": upload})


def test_a_dropped_clip_finds_its_picture_where_it_was_made(client: TestClient, picture: Path) -> None:
    job = made_from(client, image=picture)
    answer = dropped(client, JobFolder(parts_of(client).settings.data, job.id).clip)
    page = client.get(answer.headers["hx-redirect"]).text
    assert sent_by_form(page)["image"] == f"{job.id}/image"
    assert "left out" not in page


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"image": "/home/ada/sunset.png"}, "first picture sunset.png"),
        ({"image": f"/x/jobs/video_{'0' * 32}/inputs/{'a' * 32}.png"}, "first picture"),
        (
            {"loras": [{"path": "/home/ada/style.safetensors", "strength": 0.5}]},
            "LoRA 1 (strength 0.5) style.safetensors",
        ),
        ({"refine": "/home/ada/ball.mp4", "strength": 0.5}, "clip that it refines ball.mp4"),
        ({"image": "job:video_" + "0" * 32}, "first picture"),
        ({"references": ["/a/<b>.png"]}, "reference 1 &lt;b&gt;.png"),
    ],
)
def test_a_clip_from_elsewhere_tells_what_is_not_here(
    client: TestClient, tmp_path: Path, fields: dict[str, Any], told: str
) -> None:
    settled = {"model": "tiny", "width": 32, "height": 32, "num_frames": 5, "fps": 8, "steps": 2, "seed": 3}
    request = Request.parse({"prompt": "a red ball", **fields}).model_dump(mode="json")
    record = {"homereel": {"schema": 1, "request": request, "resolved": settled}}
    clip = media.write_clip(np.zeros((5, 32, 32, 3), np.uint8), tmp_path / "from-ada.mp4", fps=8, record=record)
    page = client.get(dropped(client, clip).headers["hx-redirect"]).text
    assert f"Not here any more, and left out: {told}. " in page
    assert set(sent_by_form(page)) & {"image", "lora", "refine", "kept"} == set()


def test_files_without_settings_of_their_own_say_so(client: TestClient, tmp_path: Path) -> None:
    from homereel.workflows.film import join_clips

    job = finished(parts_of(client))
    clip = JobFolder(parts_of(client).settings.data, job.id).clip
    film = join_clips([(clip, 0), (clip, 0)], tmp_path / "film.mp4")
    assert "joined of 2 clips" in message_of(dropped(client, film))
    record = media.read_record(clip)
    frames = np.zeros((2, 32, 32, 3), np.uint8)
    private = media.write_clip(frames, tmp_path / "private.mp4", fps=8, record=record, private=True)
    assert "private parts" in message_of(dropped(client, private))


@pytest.mark.parametrize("name", ["image", "loras.0", "x", "image.1", "../../jobs.sqlite3", "prompt"])
def test_only_files_that_a_job_was_made_from_can_be_named(client: TestClient, store: JobStore, name: str) -> None:
    job = finished(parts_of(client))
    form = {"prompt": "a", "model": "tiny-image", "image": f"{job.id}/{name}"}
    assert client.post("/studio/create", json=form).status_code in (400, 404)
    assert client.post("/studio/create", json={**form, "image": "", "kept": f"{job.id}/{name}"}).status_code == 400
    assert client.get(f"/studio/inputs/{job.id}/{name}").status_code in (400, 404)
    assert not store.queue()
