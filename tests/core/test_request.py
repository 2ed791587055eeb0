"""A request is checked once: what is wrong is told in one line, with what is allowed."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

from homereel import RequestOptions
from homereel.core.errors import InvalidRequest
from homereel.core.request import MAX_PROMPT_CHARACTERS, Request


def refusal(**data: Any) -> InvalidRequest:
    with pytest.raises(InvalidRequest) as caught:
        Request.parse({"prompt": "a ball", **data})
    message = str(caught.value)
    assert "\n" not in message
    assert len(message) < 300
    return caught.value


def test_what_is_not_said_is_left_to_the_model() -> None:
    request = Request.parse({"prompt": "a red ball"})
    assert request.negative_prompt == ""
    assert {name: value for name, value in request if value not in (None, ())} == {
        "prompt": "a red ball",
        "negative_prompt": "",
        "sound": True,
    }


def test_the_prompt_is_cleaned() -> None:
    request = Request.parse({"prompt": "  a\x00 red\x1b[31m\n\tball\u0085 \ud800 👩‍🚀 "})
    assert request.prompt == "a red[31m ball 👩‍🚀"


@pytest.mark.parametrize("prompt", ["", "   ", "\n\t", "\x00\x01"])
def test_an_empty_prompt_is_refused(prompt: str) -> None:
    error = refusal(prompt=prompt)
    assert error.field == "prompt"
    assert "describe" in str(error)


def test_a_prompt_of_ten_megabytes_is_refused_and_not_repeated() -> None:
    error = refusal(prompt="x" * 10_000_000)
    assert error.field == "prompt"
    assert str(MAX_PROMPT_CHARACTERS) in str(error)
    assert refusal(negative_prompt="x" * (MAX_PROMPT_CHARACTERS + 1)).field == "negative_prompt"
    assert Request.parse({"prompt": "x" * MAX_PROMPT_CHARACTERS}).prompt


@pytest.mark.parametrize(
    ("field", "value", "allowed"),
    [
        ("steps", 0, "at least 1"),
        ("steps", -3, "1"),
        ("steps", 1001, "at most 1000"),
        ("steps", "many", "whole number"),
        ("seed", -1, "0"),
        ("seed", 2**32, "4294967295"),
        ("seed", 1.5, "whole number"),
        ("width", 0, "1"),
        ("height", 10**9, "16384"),
        ("num_frames", 0, "1"),
        ("seconds", 0, "more than 0"),
        ("seconds", math.nan, "finite"),
        ("guidance", 0.5, "1"),
        ("guidance", math.inf, "finite"),
        ("shift", 0, "0"),
        ("fps", 1e9, "240"),
        ("sampler", "ddim", "'unipc', 'euler', 'rcm' or 'rcm-ode'"),
        ("sigma_max", 3, "at least 15"),
        ("sigmas", "0.9,0.5", "fall from at most 1 to 0, as 0.99,"),
        ("sigmas", (0.5, 0.9, 0), "fall"),
        ("sigmas", (1.2, 0), "fall"),
        ("sigmas", (0,), "fall"),
        ("sigmas", (), "fall"),
        ("sigmas", "0.9,x,0", "a number"),
        ("sigmas", (0.9, math.nan, 0), "finite"),
        ("image", "", "path"),
        ("image", "a\0b.png", "path"),
        ("model", "", "a name"),
        ("model", 7, "text"),
        ("image", 7, "text"),
        ("fps", "fast", "a number"),
    ],
)
def test_a_value_out_of_bounds_is_told_with_the_bound(field: str, value: object, allowed: str) -> None:
    error = refusal(**{field: value})
    assert error.field == field
    assert str(error).startswith(f"{field}: ")
    assert allowed in str(error)
    assert error.exit_code == 2


def test_the_ends_of_the_bounds_are_allowed() -> None:
    request = Request.parse({"prompt": "x", "seed": 2**32 - 1, "steps": 1, "guidance": 1, "width": 16384})
    assert (request.seed, request.steps) == (2**32 - 1, 1)


def test_an_unknown_key_is_refused_with_its_nearest_name() -> None:
    error = refusal(num_frmes=9)
    assert error.field == "num_frmes"
    assert "'num_frames'" in str(error)
    assert "prompt, negative_prompt" in str(refusal(zzz=1))


def test_one_length_only() -> None:
    message = str(refusal(seconds=2.0, num_frames=33))
    assert "seconds" in message
    assert "num_frames" in message


def test_times_are_given_in_one_way_only() -> None:
    assert Request.parse({"prompt": "x", "sigmas": "0.9, 0.5, 0"}).sigmas == (0.9, 0.5, 0)
    assert Request(prompt="x", sigmas=(0.9, 0.5, 0), steps=2).steps == 2
    assert "times of 2 steps, and steps says 3" in str(refusal(sigmas=(0.9, 0.5, 0), steps=3))
    assert "sigmas and sigma_max" in str(refusal(sigmas=(0.9, 0), sigma_max=80))


def test_a_missing_prompt_is_named() -> None:
    with pytest.raises(InvalidRequest, match="prompt: it is missing"):
        Request.parse({"steps": 3})


def test_the_constructor_raises_our_error_too() -> None:
    with pytest.raises(InvalidRequest, match="steps"):
        Request(prompt="x", steps=0)


def test_replace_checks_again() -> None:
    request = Request(prompt="x", steps=3)
    assert request.replace(seed=4).seed == 4
    assert request.replace(seed=4).steps == 3
    with pytest.raises(InvalidRequest, match="seed"):
        request.replace(seed=-4)


def test_it_is_frozen_and_survives_json() -> None:
    request = Request(prompt="x", image=Path("a/b.png"), fps=16)
    assert Request.parse(json.loads(request.model_dump_json())) == request
    with pytest.raises(Exception, match="frozen"):
        request.prompt = "y"


def test_json_schema_names_every_field() -> None:
    schema = Request.json_schema()
    assert set(schema["properties"]) == set(Request.model_fields)
    assert schema["additionalProperties"] is False
    assert schema["required"] == ["prompt"]


def test_the_python_door_knows_every_field() -> None:
    assert set(RequestOptions.__annotations__) | {"prompt"} == set(Request.model_fields)
