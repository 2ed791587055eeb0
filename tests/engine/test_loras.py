"""LoRAs in a clip: checked before anything is loaded, merged when it is, told in the record."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from homereel.core.errors import WeightsError
from homereel.core.request import Request
from homereel.engine.generate import generate, make_plan
from homereel.engine.session import Session
from tests.engine.conftest import MakeRequest
from tests.tiny_models import save_tiny_kind

WEIGHT = "blocks.1.attn1.to_q.weight"


def save_lora(path: Path, *, layer: str = "blocks.1.attn1.to_q", metadata: dict[str, str] | None = None) -> Path:
    """Rank 2 for a layer of 24 by 24, strong enough to be seen."""
    generator = torch.Generator().manual_seed(1)
    tensors = {
        f"transformer.{layer}.lora_A.weight": torch.randn(2, 24, generator=generator),
        f"transformer.{layer}.lora_B.weight": torch.randn(24, 2, generator=generator),
    }
    save_file(tensors, path, metadata)
    return path


def merged_by_hand(model: Path, lora: Path, target: Path, *, strength: float, expert: str = "transformer") -> Path:
    """A copy of the model whose weights hold the LoRA."""
    shutil.copytree(model, target)
    file = target / expert / "diffusion_pytorch_model.safetensors"
    state, parts = load_file(file), load_file(lora)
    down, up = (next(tensor for name, tensor in parts.items() if side in name) for side in ("lora_A", "lora_B"))
    state[WEIGHT] = state[WEIGHT] + strength * (up @ down)
    save_file(state, file)
    return target


def test_a_lora_is_the_same_as_weights_that_hold_it(
    tiny: MakeRequest, tiny_model_dir: Path, session: Session, tmp_path: Path
) -> None:
    lora = save_lora(tmp_path / "style.safetensors")
    merged = merged_by_hand(tiny_model_dir, lora, tmp_path / "merged", strength=0.5)
    plain = generate(tiny(), session=session)
    styled = generate(tiny(loras=[{"path": lora, "strength": 0.5}]), session=session)
    by_hand = generate(tiny(model=str(merged)), session=session)
    # A level of 256: the sum by hand is the same numbers in the same order, but the frames are rounded.
    assert int(np.abs(styled.frames.astype(int) - by_hand.frames).max()) <= 1
    assert styled.frames_sha256 != plain.frames_sha256
    assert generate(tiny(), session=session).frames_sha256 == plain.frames_sha256, "the next clip is without it"


def test_the_record_says_which_loras_acted(tiny: MakeRequest, session: Session, tmp_path: Path) -> None:
    lora = save_lora(tmp_path / "style.safetensors", metadata={"modelspec.trigger_phrase": "wdcut"})
    result = generate(tiny(loras=[{"path": lora, "strength": 0.5}]), session=session)
    (told,) = result.record["homereel"]["loras"]
    assert (told["name"], told["strength"], told["trigger_words"]) == ("style.safetensors", 0.5, ["wdcut"])
    assert told["sha256"] == result.record["homereel"]["inputs"]["loras.0"]
    assert result.plan.loras == ("style.safetensors:0.5",)
    assert any("the prompt has none: wdcut" in warning for warning in result.plan.warnings)
    plan = make_plan(tiny(prompt="a wdcut ball", loras=[{"path": lora}]), session=session)
    assert not any("trigger" in warning for warning in plan.warnings)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda folder: save_lora(folder / "x.safetensors", layer="blocks.9.attn1.to_q"), "nothing that applies"),
        (lambda folder: folder / "missing.safetensors", "cannot be read|no such file|missing"),
    ],
)
def test_a_lora_that_cannot_act_is_told_before_anything_is_loaded(
    tiny: MakeRequest, tmp_path: Path, make: Callable[[Path], Path], message: str
) -> None:
    with Session() as cold:
        with pytest.raises(WeightsError, match=message):
            generate(tiny(loras=[{"path": make(tmp_path)}]), session=cold)
        assert cold._loaded == {}


@pytest.mark.parametrize(("expert", "name"), [("high", "transformer"), ("low", "transformer_2")])
def test_a_lora_for_one_expert_leaves_the_other_alone(tmp_path: Path, session: Session, expert: str, name: str) -> None:
    model = save_tiny_kind(tmp_path / "model", "t2v-a14b")
    lora = save_lora(tmp_path / "style.safetensors")
    fields: dict[str, Any] = {"prompt": "a red ball", "seed": 7, "steps": 6}
    merged = merged_by_hand(model, lora, tmp_path / "merged", strength=1.0, expert=name)
    styled = generate(
        Request.parse({**fields, "model": str(model), "loras": [{"path": lora, "expert": expert}]}), session=session
    )
    by_hand = generate(Request.parse({**fields, "model": str(merged)}), session=session)
    assert int(np.abs(styled.frames.astype(int) - by_hand.frames).max()) <= 1


def test_a_lora_for_few_steps_brings_its_settings(tiny: MakeRequest, session: Session, tmp_path: Path) -> None:
    lora = save_lora(tmp_path / "Wan21_T2V_14B_lightx2v_cfg_step_distill_lora_rank32.safetensors")
    plan = make_plan(tiny(loras=[{"path": lora}]), session=session)
    assert (plan.steps, plan.guidance) == (4, 1.0)
    assert plan.sigmas is not None
    assert len(plan.sigmas) == 5
    seen: list[float] = []
    generate(tiny(loras=[{"path": lora}]), session=session, on_state=lambda state: seen.append(state.step))
    assert seen == [1, 2, 3, 4]
    own = make_plan(tiny(loras=[{"path": lora}], steps=6, guidance=2.0), session=session)
    assert (own.steps, own.guidance, own.sigmas) == (6, 2.0, None), "what the user says comes first"


def test_a_film_with_a_lora_can_be_made_again(tiny: MakeRequest, session: Session, tmp_path: Path) -> None:
    from homereel.engine.replay import replay

    lora = save_lora(tmp_path / "style.safetensors")
    generate(tiny(loras=[{"path": lora, "strength": 0.5}]), session=session).save(tmp_path / "a.mp4")
    assert replay(tmp_path / "a.mp4", session=session).verdict == "exact"
    save_lora(lora, layer="blocks.0.attn1.to_q")
    verdict = replay(tmp_path / "a.mp4", session=session)
    assert "a LoRA is another one" in verdict.reasons
    assert json.dumps(verdict.as_dict())
