"""More of the same kind: other seeds, or the clip itself made anew in part, so that what was good about it stays."""

from __future__ import annotations

from homereel.workflows.drafts import seeds_from
from homereel.workflows.step import Made, Step

NEAR_STRENGTH = 0.8


def vary(clip: Made, *, num: int = 4, strength: float | None = None, prompt: str | None = None) -> tuple[Step, ...]:
    """`num` clips like this one, in its size and steps, with the seeds that follow its own.

    `strength` (0 to 1) is how far they may leave it: 1 is another seed and nothing else, less starts from the clip's
    own latents, so that its composition stays. By default 0.8, or 1 for a model that cannot start from latents.
    Another `prompt` changes what it shows. Raises UnsupportedInput if a strength is asked for that the model cannot.
    """
    from homereel.models.registry import model_facts
    from homereel.workflows.refine import refine

    facts = model_facts(clip.request.model)
    seeds = seeds_from(None if clip.request.seed is None else clip.request.seed + 1, count=num)
    if strength is None:
        strength = NEAR_STRENGTH if "refine" in facts.inputs else 1.0
    steps = []
    for index, seed in enumerate(seeds, start=1):
        name = f"variation-{index}-of-{clip.name}"
        if strength < 1:
            near = refine(
                clip,
                width=clip.request.width,
                height=clip.request.height,
                steps=clip.request.steps,
                strength=strength,
                prompt=prompt,
                seed=seed,
            )
            steps.append(Step(name=name, request=near.request, parent=clip.name, relation="remix", takes="refine"))
        else:
            request = clip.request.replace(seed=seed, prompt=prompt or clip.request.prompt)
            steps.append(Step(name=name, request=request, parent=clip.name, relation="remix"))
    return tuple(steps)
