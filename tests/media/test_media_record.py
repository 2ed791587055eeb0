"""Records: what goes into each format, what comes back, what strangers may see, and what nonsense is not
believed.
"""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from homereel import media
from homereel.core.errors import MediaError, UnreadableMedia
from homereel.media.record_check import parse_record

Clip = NDArray[np.uint8]
TARGETS = ["a.mp4", "a.gif", "a.webp", "a.png", "frames/", "x_%03d.png"]
PRIVATE = ["red ball", "blurry", "lovelace", "secret", "bermütig"]


@pytest.mark.parametrize("name", TARGETS)
def test_a_record_comes_back_whole(tmp_path: Path, clip: Clip, record: dict[str, Any], name: str) -> None:
    path = f"{tmp_path}/{name}"
    media.write_clip(clip, path, fps=16, record=record)
    assert media.read_record(path) == record
    assert media.probe(path).record == record


@pytest.mark.parametrize("name", TARGETS)
def test_no_record_is_none(tmp_path: Path, clip: Clip, name: str) -> None:
    media.write_clip(clip, f"{tmp_path}/{name}", fps=16)
    assert media.read_record(f"{tmp_path}/{name}") is None


@pytest.mark.parametrize("name", ["a.mp4", "a.gif", "a.webp", "a.png"])
def test_the_sidecar_helps_when_tags_were_stripped(
    tmp_path: Path, clip: Clip, record: dict[str, Any], name: str
) -> None:
    path = media.write_clip(clip, tmp_path / name, fps=16)
    media.write_sidecar(path, record)
    assert media.read_record(path) == record
    assert media.probe(path).record == record


@pytest.mark.parametrize("name", ["a.mp4", "a.gif", "a.webp", "a.png"])
def test_private_leaves_no_trace_of_the_prompt(tmp_path: Path, clip: Clip, record: dict[str, Any], name: str) -> None:
    path = media.write_clip(clip, tmp_path / name, fps=16, record=record, private=True)
    content = path.read_bytes()
    for text in PRIVATE:
        assert text.encode() not in content
        assert text.encode("utf-16-be") not in content
    kept = media.read_record(path)
    assert kept is not None
    assert kept["homereel"]["ai_generated"] is True
    assert kept["homereel"]["private"] is True
    assert kept["homereel"]["resolved"]["seed"] == 7


def test_private_sheets_show_no_caption(tmp_path: Path, clip: Clip, record: dict[str, Any]) -> None:
    """A sheet's pixels would give the prompt away: the private one equals the one of a clip without a
    prompt.
    """
    private = media.write_clip(clip, tmp_path / "p.png", fps=16, record=record, private=True)
    bare = media.write_clip(clip, tmp_path / "b.png", fps=16)
    assert np.array_equal(media.read_image(private), media.read_image(bare))


def test_strip_private_keeps_a_list_of_the_harmless(record: dict[str, Any]) -> None:
    before = copy.deepcopy(record)
    record["homereel"]["user"] = "lovelace"
    record["homereel"]["model"]["id"] = "/home/lovelace/models/mine"
    record["homereel"]["model"]["files"]["/home/lovelace/x.safetensors"] = "c" * 64
    record["homereel"]["resolved"]["device"] = "../lovelace"
    record["homereel"]["software"]["torch"] = "built by lovelace"
    kept = media.strip_private(record)
    assert "lovelace" not in json.dumps(kept)
    assert kept["homereel"]["model"] == {"files": before["homereel"]["model"]["files"]}
    assert kept["homereel"]["created"] == before["homereel"]["created"]
    bare = media.strip_private({})["homereel"]
    assert (bare["schema"], bare["ai_generated"], bare["private"]) == (1, True, True)
    assert parse_record(json.dumps(kept)) == kept


def test_parameters_are_what_galleries_read(record: dict[str, Any]) -> None:
    settings = (
        "Steps: 30, Sampler: UniPC, CFG scale: 4, Seed: 7, Size: 64x48, Frames: 9, FPS: 16, Shift: 3, "
        "Model: pocket, Version: homereel 0.1"
    )
    prompts = "a red ball bounces, übermütig\nNegative prompt: blurry\n"
    assert media.parameters_text(record) == prompts + settings
    assert media.parameters_text(media.strip_private(record)) == settings
    record["homereel"]["request"].update(prompt="one\nSteps: 1, Seed: 2", negative_prompt="")
    record["homereel"]["resolved"]["model"] = "a, b: c"
    lines = media.parameters_text(record).split("\n")
    assert lines[0] == "one Steps: 1, Seed: 2"
    assert 'Model: "a, b: c"' in lines[1]
    assert len(lines) == 2


def test_other_programs_find_what_they_look_for(tmp_path: Path, clip: Clip, record: dict[str, Any]) -> None:
    """The container's tags as PyAV shows them, PNG text chunks, EXIF user comment, and the mark for
    generated media.
    """
    import av

    mp4 = media.write_clip(clip, tmp_path / "a.mp4", fps=16, record=record)
    with av.open(str(mp4)) as container:
        tags = container.metadata
    assert tags["comment"] == "AI-generated video, made with homereel 0.1 and the model pocket"
    assert tags["parameters"] == media.parameters_text(record)
    assert json.loads(tags["homereel"]) == record
    with Image.open(media.write_clip(clip, tmp_path / "a.png", fps=16, record=record)) as png:
        assert png.info["parameters"] == media.parameters_text(record)
        assert "trainedAlgorithmicMedia" in png.info["XML:com.adobe.xmp"]
    with Image.open(media.write_clip(clip, tmp_path / "a.webp", fps=16, record=record)) as webp:
        comment = webp.getexif().get_ifd(0x8769)[0x9286]
        assert comment == b"UNICODE\0" + media.parameters_text(record).encode("utf-16-be")
        assert b"trainedAlgorithmicMedia" in webp.info["xmp"]
    with Image.open(media.write_clip(clip, tmp_path / "a.gif", fps=16, record=record)) as gif:
        assert gif.info["comment"].startswith(b"AI-generated video, made with homereel 0.1")


def test_a_rendered_clip_is_not_called_generated(tmp_path: Path, clip: Clip, record: dict[str, Any]) -> None:
    record["homereel"]["ai_generated"] = False
    content = media.write_clip(clip, tmp_path / "a.webp", fps=16, record=record).read_bytes()
    assert b"trainedAlgorithmicMedia" not in content
    assert b"AI-generated" not in content


def sound(**changes: Any) -> str:
    return json.dumps({"homereel": {"schema": 1, **changes}})


@pytest.mark.parametrize(
    "text",
    [
        "",
        "nonsense",
        "[]",
        "null",
        '"homereel"',
        "{}",
        '{"homereel": 1}',
        '{"homereel": {}}',
        sound(schema="1"),
        sound(schema=True),
        sound(schema=0),
        sound(version=1),
        sound(request=[]),
        sound(request={"prompt": {}}),
        sound(request={"seed": "7"}),
        sound(request={"last": 1}),
        sound(request={"strength": "0.6"}),
        sound(request={"sound": "yes"}),
        sound(request={"references": [1]}),
        sound(request={"references": "a.png"}),
        sound(request={"keyframes": [{"seconds": 2.0}]}),
        sound(request={"keyframes": [{"image": "a.png", "frame": "7"}]}),
        sound(request={"loras": [{"path": None}]}),
        sound(request={"loras": {"path": "a"}}),
        sound(sound_sha256="x"),
        sound(resolved={"fps": True}),
        sound(resolved=3),
        sound(model={"id": 1}),
        sound(model={"files": {"a": "short"}}),
        sound(frames_sha256="x"),
        sound(parents={}),
        sound(ai_generated="yes"),
        sound(peak_bytes=-1),
        '{"homereel": {"schema": 1, "x": NaN}}',
        '{"homereel": {"schema": 1, "x": Infinity}}',
        '{"homereel": {"schema": 1, "x": 1e999}}',
        '{"homereel": {"schema": 1, "x": ' + "9" * 5000 + "}}",
        '{"homereel": {"schema": 1, "x": ' + "[" * 30 + "]" * 30 + "}}",
        "[" * 100_000,
        '{"a":' * 50_000,
        sound(x="y" * 2**20),
        "__import__('os').system('true')",
    ],
)
def test_nonsense_is_no_record(tmp_path: Path, clip: Clip, text: str) -> None:
    assert parse_record(text) is None
    assert parse_record(text.encode()) is None


def test_every_field_of_a_request_may_stand_in_a_record() -> None:
    given = {
        "image": "a.png",
        "last": "b.png",
        "keyframes": [{"image": "c.png", "seconds": 2.0, "frame": None}, {"image": "d.png", "frame": 7}],
        "video": "e.mp4",
        "strength": 0.6,
        "mask": "f.png",
        "references": ["g.png"],
        "sound": False,
        "loras": [{"path": "h.safetensors", "strength": 0.8, "expert": None}],
    }
    for request in (given, dict.fromkeys(("image", "last", "keyframes", "video", "strength", "references", "loras"))):
        text = sound(request={"prompt": "x", **request}, sound_sha256="a" * 64)
        assert parse_record(text) == json.loads(text)


@pytest.mark.parametrize("content", [b"\xff\xfe\x00", b"{\xff}", b'{"homereel": {"schema": 1, "v": "\xc3"}}'])
def test_broken_bytes_are_no_record(content: bytes) -> None:
    assert parse_record(content) is None


def test_strings_of_strangers_cannot_command_a_terminal() -> None:
    text = sound(request={"prompt": "a\x1b[31mred\x07 \u202eball\nthere"}, version="1\x00")
    parsed = parse_record(text)
    assert parsed is not None
    assert parsed["homereel"]["request"]["prompt"] == "a [31mred   ball\nthere"
    assert parsed["homereel"]["version"] == "1 "


def test_a_foreign_tag_of_our_name_is_none(tmp_path: Path, clip: Clip) -> None:
    """The file itself is good: only its record is not believed."""
    path = media.write_clip(clip, tmp_path / "a.mp4", fps=16, record={"homereel": {"schema": 1}})
    content = path.read_bytes()
    path.write_bytes(content.replace(b'"schema":1', b'"schema":x'))
    assert media.read_record(path) is None
    assert media.probe(path).num_frames == len(clip)
    (tmp_path / "a.mp4.json").write_text("[" * 2_000_000)
    assert media.read_record(path) is None


def test_tags_that_are_not_utf8_do_not_hurt(tmp_path: Path, clip: Clip, record: dict[str, Any]) -> None:
    path = media.write_clip(clip, tmp_path / "a.mp4", fps=16, record=record)
    path.write_bytes(path.read_bytes().replace("übermütig".encode(), b"\xff\xfe" * 5 + b"!"))
    assert media.read_record(path) == record


def test_a_file_that_is_no_media_raises(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_text("hello")
    with pytest.raises(UnreadableMedia, match="neither"):
        media.read_record(tmp_path / "a.mp4")
    with pytest.raises(UnreadableMedia, match="there is no file"):
        media.read_record(tmp_path / "b.mp4")


def test_a_record_that_could_not_be_read_back_is_not_written(tmp_path: Path, clip: Clip) -> None:
    with pytest.raises(MediaError, match="at most 1,048,576 fit"):
        media.write_clip(clip, tmp_path / "a.mp4", fps=16, record={"homereel": {"x": "y" * 2**20}})
    assert list(tmp_path.iterdir()) == []


def test_a_record_of_almost_the_limit_survives(tmp_path: Path, clip: Clip) -> None:
    record = {"homereel": {"schema": 1, "request": {"prompt": "<&>é" * 100_000}}}
    for name in ("a.mp4", "a.gif", "a.webp", "a.png"):
        path = media.write_clip(clip[:2], tmp_path / name, fps=16, record=record)
        assert media.read_record(path) == record
