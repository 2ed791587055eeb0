"""Workflows as pure functions: which requests they make of which, without a model or a file of a clip."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from homereel.core.errors import InvalidRequest, UnreadableMedia, UnsupportedInput
from homereel.core.request import Request
from homereel.models.registry import model_facts
from homereel.workflows import (
    Made,
    PromptFields,
    Storyboard,
    drafts,
    expand_prompt,
    extend,
    film_cuts,
    job_of_place,
    job_place,
    read_storyboard,
    refine,
    storyboard,
    upscale,
    vary,
)

PROMPT = "a red ball bounces on a green floor"


def made(**fields: Any) -> Made:
    settled = {"model": "pocket", "width": 96, "height": 96, "num_frames": 33, "fps": 16, "steps": 9, "seed": 7}
    return Made("draft-1", Path("tries/draft-1.mp4"), Request.parse({"prompt": PROMPT, **settled, **fields}))


def test_nothing_here_imports_torch() -> None:
    code = "import sys, homereel.workflows as w; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_drafts_count_seeds_and_cross_them_with_words() -> None:
    steps = drafts(Request(prompt=PROMPT, seed=5), num=3, prompts=["a blue box spins", PROMPT])
    assert [(step.name, step.request.seed) for step in steps] == [
        ("draft-1", 5), ("draft-2", 6), ("draft-3", 7), ("draft-4", 5), ("draft-5", 6), ("draft-6", 7),
    ]  # fmt: skip
    assert [step.request.prompt for step in steps] == [PROMPT] * 3 + ["a blue box spins"] * 3


def test_variants_share_a_fresh_seed() -> None:
    steps = drafts(Request(prompt=PROMPT), num=2, prompts=["a blue box spins"])
    seeds = [step.request.seed for step in steps]
    assert seeds[:2] == seeds[2:]
    assert None not in seeds


def test_a_small_model_drafts_at_its_own_size_in_fewer_steps() -> None:
    (step,) = drafts(Request(prompt=PROMPT), num=1)
    assert (step.request.width, step.request.height, step.request.steps) == (96, 96, 9)


def test_a_large_clip_is_drafted_smaller_in_its_proportions() -> None:
    (step,) = drafts(Request(prompt=PROMPT, width=832, height=480), num=1)
    assert step.request.width is not None
    assert step.request.height is not None
    assert 256 * 256 <= step.request.width * step.request.height < 0.5 * 832 * 480
    assert step.request.width / step.request.height == pytest.approx(832 / 480, rel=0.05)


def test_a_drafts_sides_can_be_said_as_a_share() -> None:
    (half,) = drafts(Request(prompt=PROMPT, width=832, height=480), num=1, side_share=0.5, steps=5)
    assert (half.request.width, half.request.height, half.request.steps) == (416, 240, 5)
    (small,) = drafts(Request(prompt=PROMPT), num=1, side_share=0.5)
    assert (small.request.width, small.request.height) == (48, 48)
    (full,) = drafts(Request(prompt=PROMPT, width=832, height=480), num=1, side_share=1)
    assert (full.request.width, full.request.height) == (832, 480)
    with pytest.raises(InvalidRequest, match=r"0\.1 to 1"):
        drafts(Request(prompt=PROMPT), num=1, side_share=2)


def test_steps_that_are_few_already_stay() -> None:
    (step,) = drafts(Request(prompt=PROMPT, steps=4), num=1)
    assert step.request.steps == 4


@pytest.mark.parametrize(("num", "seed"), [(0, 1), (1001, 1), (2, 2**32 - 1)])
def test_drafts_that_cannot_be_counted_are_refused(num: int, seed: int) -> None:
    with pytest.raises(InvalidRequest):
        drafts(Request(prompt=PROMPT, seed=seed), num=num)


def test_refine_keeps_words_seed_and_length_and_takes_the_models_size_and_steps() -> None:
    step = refine(made(width=48, height=48))
    request = step.request
    assert (request.width, request.height, request.steps, request.num_frames) == (96, 96, 30, 33)
    assert (request.prompt, request.seed) == (PROMPT, 7)
    assert request.refine == Path("tries/draft-1.mp4")
    assert (step.parent, step.relation, step.takes) == ("draft-1", "refine", "refine")


def test_refine_never_makes_it_smaller() -> None:
    step = refine(made(width=192, height=192))
    assert (step.request.width, step.request.height) == (192, 192)


def test_a_model_that_cannot_start_from_latents_is_refused() -> None:
    """LTX packs picture and sound into one; no model of it is here, so the facts stand in."""
    with pytest.raises(InvalidRequest):
        refine(made(), model="no-such-model")


def test_upscale_asks_for_more_pixels_and_less_change() -> None:
    step = upscale(made(), scale=2)
    assert (step.request.width, step.request.height) == (192, 192)
    finished = refine(made()).request.strength
    assert step.request.strength is not None
    assert finished is not None
    assert step.request.strength < finished
    with pytest.raises(InvalidRequest, match="scale"):
        upscale(made(), scale=1)


def test_extend_holds_the_clip_and_names_how_much_of_it() -> None:
    step = extend(made(refine=Path("x.mp4"), strength=0.5), seconds=1, prompt="a red ball rolls left")
    request = step.request
    assert (request.extend, request.extend_from, request.num_frames) == (Path("tries/draft-1.mp4"), 33, 33 + 16)
    assert (request.refine, request.strength, request.seed) == (None, None, 8)
    assert request.prompt == "a red ball rolls left"
    assert step.holds_parent


def test_extend_from_an_earlier_moment_goes_to_the_grid() -> None:
    assert extend(made(), keep_frames=20, num_frames=8).request.extend_from == 17
    with pytest.raises(InvalidRequest, match="keep_frames"):
        extend(made(), keep_frames=34)


def test_extend_by_nothing_is_refused() -> None:
    with pytest.raises(InvalidRequest, match="more than 0"):
        extend(made(), seconds=-1)
    with pytest.raises(InvalidRequest, match="keep one"):
        extend(made(), seconds=1, num_frames=16)


def test_vary_follows_the_seed_near_or_far() -> None:
    near, far = vary(made(), num=2), vary(made(), num=2, strength=1)
    assert [step.request.seed for step in near] == [step.request.seed for step in far] == [8, 9]
    assert all(step.request.refine is not None and step.takes == "refine" for step in near)
    assert all(step.request.refine is None and step.takes is None for step in far)
    assert {step.request.steps for step in (*near, *far)} == {9}


def test_a_job_stands_for_its_clip() -> None:
    job_id = "video_" + "0" * 32
    job = Made.of_job(
        job_id, request={"prompt": PROMPT, "seconds": 2}, plan={**made().request.model_dump(), "guidance": 4}
    )
    fields = refine(job).fields()
    assert job_of_place(fields["refine"]) == job_id
    assert json.loads(json.dumps(fields)) == fields
    assert Request.parse(fields).refine == job_place(job_id)
    assert fields["num_frames"] == 33
    assert "seconds" not in fields


def test_what_follows_from_a_clip_keeps_what_the_plan_decided() -> None:
    resolved = {"model": "pocket", "width": 96, "height": 96, "num_frames": 33, "fps": 16, "steps": 9, "seed": 3}
    record = {"homereel": {"request": {"prompt": PROMPT, "seed": None}, "resolved": resolved}}
    assert Made.of_record(record, place=Path("a.mp4")).request.seed == 3
    with pytest.raises(InvalidRequest, match="prompt"):
        Made.of_record({"homereel": {"request": {}, "resolved": {}}}, place=Path("a.mp4"))


def film(*shots: dict[str, Any], **shared: Any) -> Storyboard:
    return Storyboard.parse({"model": "pocket", "shots": list(shots), **shared})


def test_a_storyboard_shares_style_and_counts_seeds() -> None:
    steps = storyboard(
        film({"prompt": "a red ball falls"}, {"prompt": "a blue box spins", "seed": 99}, style="cinematic", seed=7)
    )
    assert [step.request.prompt for step in steps] == ["a red ball falls, cinematic", "a blue box spins, cinematic"]
    assert [step.request.seed for step in steps] == [7, 99]
    same = storyboard(film({"prompt": "a"}, {"prompt": "b"}, seed=7, seed_policy="same"))
    assert [step.request.seed for step in same] == [7, 7]


def test_a_shot_that_continues_takes_the_place_of_the_one_before_in_the_film() -> None:
    steps = storyboard(film({"prompt": "a"}, {"prompt": "b", "continues": True, "seconds": 1}, {"prompt": "c"}, seed=7))
    second = steps[1]
    assert (second.parent, second.takes, second.request.prompt) == ("shot-1", "extend", "b")
    assert second.request.num_frames == 33 + 16
    assert [(cut.name, cut.skip_frames) for cut in film_cuts(steps)] == [("shot-2", 0), ("shot-3", 0)]
    assert second.request_from(Path("one.mp4")).extend == Path("one.mp4")
    with pytest.raises(InvalidRequest, match="was not made"):
        second.request_from(None)


def test_a_shot_that_goes_on_from_a_picture_loses_its_first_frame_in_the_film() -> None:
    from dataclasses import replace

    first, second = storyboard(film({"prompt": "a"}, {"prompt": "b", "continues": True}))
    cuts = film_cuts((first, replace(second, takes="image")))
    assert [(cut.name, cut.skip_frames) for cut in cuts] == [("shot-1", 0), ("shot-2", 1)]


@pytest.mark.parametrize(
    ("data", "complaint"),
    [
        ({"shots": []}, "shots"),
        ({"shots": [{"prompt": "a", "subject": "b"}]}, "shots.1"),
        ({"shots": [{"prompt": "a", "continues": True}]}, "first shot"),
        ({"shots": [{"prompt": "a"}], "sed": 1}, "sed"),
        ({"shots": [{"prompt": "a", "seconds": -1}]}, "seconds"),
        ([], "storyboard"),
    ],
)
def test_a_storyboard_that_makes_no_sense_is_told_where(data: object, complaint: str) -> None:
    with pytest.raises(InvalidRequest, match=complaint):
        Storyboard.parse(data)


def test_shots_of_two_sizes_are_refused_before_any_is_made() -> None:
    with pytest.raises(InvalidRequest, match=r"shot-2 would be 192x96 at 16 fps, and shot-1 96x96"):
        storyboard(film({"prompt": "a"}, {"prompt": "b", "settings": {"width": 192}}))


def test_settings_of_a_shot_are_those_of_a_request() -> None:
    with pytest.raises(InvalidRequest, match=r"shot 2.*stepps"):
        storyboard(film({"prompt": "a"}, {"prompt": "b", "settings": {"stepps": 3}}))


def test_the_three_ways_to_write_a_storyboard_say_the_same(tmp_path: Path) -> None:
    texts = {
        "film.toml": 'seed = 7\n[[shots]]\nprompt = "a"\nimage = "first.png"\n',
        "film.json": '{"seed": 7, "shots": [{"prompt": "a", "image": "first.png"}]}',
        "film.yaml": "seed: 7\nshots:\n- prompt: a\n  image: first.png\n",
    }
    boards = []
    for name, text in texts.items():
        (tmp_path / name).write_text(text)
        boards.append(read_storyboard(tmp_path / name))
    assert boards[0] == boards[1] == boards[2]
    assert boards[0].shots[0].image == tmp_path / "first.png"


@pytest.mark.parametrize("name", ["film.toml", "film.json", "film.yaml", "film.txt"])
def test_a_file_that_is_no_storyboard_is_refused_in_one_line(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("{[: no")
    with pytest.raises(UnreadableMedia) as told:
        read_storyboard(tmp_path / name)
    assert "\n" not in str(told.value)
    with pytest.raises(UnreadableMedia, match="cannot be read"):
        read_storyboard(tmp_path / f"none-{name}")


def test_pocket_gets_one_sentence_in_its_own_words() -> None:
    fields = PromptFields(
        subject="a red ball",
        action="bounces",
        scene="on a green floor",
        light="at night",
        camera="the camera pans left",
    )
    facts = model_facts("pocket")
    prompt = expand_prompt(fields, model=facts)
    assert prompt == "a red ball bounces on a green floor at night, the camera pans left"
    assert not facts.remarks(Request(prompt=prompt))


class Large:
    """Facts of a model that takes any words, as far as prompts go."""

    def __init__(self, *, makes_sound: bool) -> None:
        self.makes_sound = makes_sound

    def vocabulary(self) -> tuple[str, ...]:
        return ()


def test_large_models_get_sentences_and_sound_only_where_they_make_it() -> None:
    fields = PromptFields(
        subject="an old fisherman",
        action="mends a net",
        camera="slow dolly in",
        lens="an 85 mm lens",
        light="low sun",
        sound="gulls far away",
    )
    silent: Any = Large(makes_sound=False)
    told: Any = Large(makes_sound=True)
    prompt = expand_prompt(fields, model=silent)
    assert prompt == "An old fisherman mends a net. Slow dolly in. An 85 mm lens. Low sun."
    assert expand_prompt(fields, model=told) == f"{prompt} The sound is gulls far away."


def test_a_language_model_is_given_the_parts_and_its_answer_is_one_line() -> None:
    asked: list[str] = []

    def write(instruction: str) -> str:
        asked.append(instruction)
        return '"A red ball\nbounces."\n'

    fields = PromptFields(subject="a red ball", action="bounces")
    assert expand_prompt(fields, model=model_facts("pocket"), write=write) == "A red ball bounces."
    assert "subject: a red ball" in asked[0]
    with pytest.raises(InvalidRequest, match="wrote nothing"):
        expand_prompt(fields, model=model_facts("pocket"), write=lambda _: " \n")


def test_parts_that_are_too_long_are_refused() -> None:
    with pytest.raises(InvalidRequest, match="action"):
        PromptFields(subject="a ball", action="x" * 3000)


def test_parts_without_a_subject_say_nothing() -> None:
    with pytest.raises(InvalidRequest, match="subject"):
        expand_prompt(PromptFields(subject="", action="falls"), model=model_facts("pocket"))


def test_a_model_for_words_alone_cannot_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    from homereel.models.wan.facts import WanFacts

    monkeypatch.setattr(WanFacts, "inputs", frozenset({"text"}))
    with pytest.raises(UnsupportedInput, match="words alone"):
        extend(made())
    with pytest.raises(UnsupportedInput, match="latents"):
        refine(made())


def test_a_model_for_pictures_goes_on_from_the_last_frame(monkeypatch: pytest.MonkeyPatch) -> None:
    from homereel.models.wan.facts import WanFacts

    monkeypatch.setattr(WanFacts, "inputs", frozenset({"text", "image"}))
    step = extend(made(), num_frames=16)
    assert (step.takes, step.request.num_frames, step.request.extend_from) == ("image", 17, None)
    assert not step.holds_parent
    assert "not the motion" in step.notes[0]
