"""From a draft to the finished clip, and from a clip to a larger one: its latents are made larger, noise is put over
them, and the model makes the fine parts anew. What noise of that strength does not reach, the composition, stays.
"""

from __future__ import annotations

from homereel.core.errors import InvalidRequest, UnsupportedInput
from homereel.core.protocols import ModelFacts
from homereel.planning.grid import nearest_size
from homereel.workflows.step import Made, Step

# Shares of the way that are gone anew. They were chosen and not measured: benchmarks/workflows.py would tell what of a
# draft they keep on pocket, and no figures of it are there yet.
REFINE_STRENGTH = 0.6
UPSCALE_STRENGTH = 0.4


def refine(
    draft: Made,
    *,
    width: int | None = None,
    height: int | None = None,
    steps: int | None = None,
    strength: float | None = None,
    prompt: str | None = None,
    seed: int | None = None,
    model: str | None = None,
) -> Step:
    """The draft at full size and steps, the same in what it shows.

    By default the size is the model's standard one in the draft's proportions, never smaller than the draft, and the
    steps are the model's; `strength` (0 to 1) is how much is made anew. Another `model` must read the same latents or
    take footage. Raises UnsupportedInput for a model that can do neither.
    """
    facts = _facts(draft, model)
    if width is None and height is None:
        width, height = _full_size(draft, facts)
    request = draft.request.replace(
        model=facts.model,
        width=width,
        height=height,
        steps=None if draft.request.sigmas is not None and steps is None else steps or facts.defaults.steps,
        prompt=prompt or draft.request.prompt,
        seed=draft.request.seed if seed is None else seed,
        strength=strength or REFINE_STRENGTH,
        **_from(draft, facts),
    )
    return Step(name=f"refined-{draft.name}", request=request, parent=draft.name, relation="refine", takes="refine")


def upscale(clip: Made, *, scale: float = 2.0, strength: float | None = None, steps: int | None = None) -> Step:
    """The clip with `scale` times as many pixels a side (as far as the model's grid has them), its content kept.

    Raises InvalidRequest for a scale that leaves it as large as it is, and as `refine` does.
    """
    if not 1 < scale <= 8:
        raise InvalidRequest(f"scale is {scale:g}; give more than 1 and at most 8, such as 2", field="scale")
    facts = _facts(clip, None)
    was_width, was_height = _size_of(clip, facts)
    width, height = nearest_size(was_width / was_height, area=was_width * was_height * scale**2, grid=facts.grid)
    if width * height <= was_width * was_height:
        raise InvalidRequest(
            f"{facts.model} makes nothing larger than {was_width}x{was_height} at {scale:g} times; give a larger scale",
            field="scale",
        )
    step = refine(clip, width=width, height=height, steps=steps, strength=strength or UPSCALE_STRENGTH)
    return Step(name=f"larger-{clip.name}", request=step.request, parent=clip.name, relation="refine", takes="refine")


def _facts(clip: Made, model: str | None) -> ModelFacts:
    from homereel.models.registry import model_facts

    facts = model_facts(model or clip.request.model)
    if "refine" not in facts.inputs:
        raise UnsupportedInput(
            f"{facts.model} cannot start from another clip's latents; a Wan model (but for VACE) can, also from those "
            "of another; or make the clip again with its seed at full size",
            field="refine",
        )
    return facts


def _from(clip: Made, facts: ModelFacts) -> dict[str, object]:
    """Where to start; what the clip itself was made from, and what this model does not take, is left out."""
    gone: dict[str, object] = dict.fromkeys(("extend", "extend_from", "video", "mask"))
    if clip.request.model not in (None, facts.model):
        gone |= dict.fromkeys(("guidance", "shift", "sampler", "sigmas", "sigma_max"))
        gone |= {"passes": (), "loras": ()}
    return {**gone, "refine": clip.place}


def _size_of(clip: Made, facts: ModelFacts) -> tuple[int, int]:
    return clip.request.width or facts.defaults.width, clip.request.height or facts.defaults.height


def _full_size(draft: Made, facts: ModelFacts) -> tuple[int, int]:
    """The standard area in the draft's proportions."""
    width, height = _size_of(draft, facts)
    area = max(width * height, facts.defaults.width * facts.defaults.height)
    return nearest_size(width / height, area=area, grid=facts.grid)
