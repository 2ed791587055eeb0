"""Students of rCM in a plan: their steps and times, and what is told of wishes that go against them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from homereel.core.errors import InvalidRequest
from homereel.core.machine import Machine
from homereel.core.plan import Plan
from homereel.core.request import Request
from homereel.planning.plan import plan_clip
from homereel.sampling import rcm_times
from homereel.weights.lora.settings import LoraSettings
from tests.planning.test_planning import LAPTOP, STANDARD, Facts

STUDENT = replace(STANDARD, steps=4, guidance=1.0, shift=5.0, sampler="rcm")
OWN = (0.98, 0.9, 0.5, 0.0)


def plan_of(facts: Facts, *, lora: LoraSettings | None = None, machine: Machine = LAPTOP, **wishes: Any) -> Plan:
    request = Request.parse({"prompt": "a ball", **wishes})
    return plan_clip(request, model=facts, machine=machine, fresh_seed=99, lora_settings=lora)


def test_a_student_brings_its_steps_and_times() -> None:
    plan = plan_of(Facts(defaults=STUDENT))
    assert (plan.steps, plan.guidance, plan.sampler) == (4, 1.0, "rcm")
    assert (plan.sigmas, plan.warnings) == (rcm_times(4, sigma_max=80), ())
    assert plan_of(Facts(defaults=STUDENT), steps=2).sigmas == rcm_times(2)
    assert plan_of(Facts()).sigmas is None, "a teacher's times are the sampler's"


def test_a_student_that_starts_from_a_picture_starts_from_more_noise() -> None:
    pictures: dict[str, Any] = {"inputs": frozenset({"text", "image"}), "required": frozenset({"image"})}
    model = Facts(defaults=STUDENT, **pictures)
    assert plan_of(model, image="x.png").sigmas == rcm_times(4, sigma_max=200)
    assert plan_of(model, image="x.png", sigma_max=1600).sigmas == rcm_times(4, sigma_max=1600)
    carded = Facts(defaults=replace(STUDENT, sigma_max=120), **pictures)
    assert plan_of(carded, image="x.png").sigmas == rcm_times(4, sigma_max=120)


def test_a_model_may_be_taken_for_a_student() -> None:
    plan = plan_of(Facts(defaults=replace(STANDARD, guidance_2=3.0)), sampler="rcm-ode")
    assert (plan.steps, plan.guidance, plan.guidance_2, plan.sigmas) == (4, 1.0, 1.0, rcm_times(4))
    (told,) = plan.warnings
    assert "not known to be a student of rCM" in told


@pytest.mark.parametrize("steps", [5, 30])
def test_steps_without_times_are_refused(steps: int) -> None:
    with pytest.raises(InvalidRequest, match=rf"^steps: rCM has times for 1 to 4 steps, not {steps}; .*--sigmas") as no:
        plan_of(Facts(defaults=STUDENT), steps=steps)
    assert no.value.field == "steps"
    own = (0.99, 0.95, 0.9, 0.8, 0.5, 0)
    plan = plan_of(Facts(defaults=STUDENT), sigmas=own)
    assert (plan.steps, plan.sigmas) == (5, own)


def test_a_student_may_have_times_of_its_own() -> None:
    model = Facts(defaults=replace(STUDENT, steps=3, sigmas=OWN))
    assert plan_of(model).sigmas == OWN
    assert plan_of(model, sampler="rcm-ode").sigmas == OWN
    assert plan_of(model, steps=2).sigmas == rcm_times(2)
    assert plan_of(model, sigma_max=80).sigmas == rcm_times(3)
    assert plan_of(model, sampler="euler").sigmas is None
    few = Facts(defaults=replace(STANDARD, steps=3, sampler="euler", sigmas=OWN))
    assert plan_of(few).sigmas == OWN
    assert plan_of(few, shift=3.0).sigmas is None
    lora = LoraSettings("a lora", 3, 1.0, 5.0, "euler", None, "")
    assert plan_of(few, lora=lora).sigmas is None, "a LoRA changes what the model was made for"


def test_the_request_comes_before_a_lora() -> None:
    lora = LoraSettings("a lora", 4, 1.0, 5.0, "euler", (1, 0.9, 0.8, 0.6, 0), "")
    assert plan_of(Facts(), lora=lora).sigmas == lora.sigmas
    plan = plan_of(Facts(), lora=lora, sigmas=OWN)
    assert (plan.steps, plan.sigmas) == (3, OWN)
    student = LoraSettings("a student", 4, 1.0, None, "rcm", None, "")
    plan = plan_of(Facts(), lora=student)
    assert (plan.sampler, plan.sigmas, plan.warnings) == ("rcm", rcm_times(4), ())


@pytest.mark.parametrize(
    ("wishes", "warning"),
    [
        ({"guidance": 5}, "need no guidance; 5 doubles the time"),
        ({"negative_prompt": "blur"}, "negative prompt is not heeded"),
        ({"sampler": "unipc"}, "was distilled for rcm; unipc may look worse"),
        ({"shift": 3}, "shift is not heeded"),
    ],
)
def test_wishes_against_a_student_are_told(wishes: dict[str, Any], warning: str) -> None:
    (told,) = plan_of(Facts(defaults=STUDENT), **wishes).warnings
    assert warning in told


def test_a_teacher_has_no_use_for_sigma_max() -> None:
    (told,) = plan_of(Facts(), sigma_max=80).warnings
    assert "sigma_max is not heeded; it is for rcm and rcm-ode, not for unipc" in told
