"""Creative operations made of several clips. Each turns requests and clips that were made into further requests; who
runs these (`run_steps` in process, the job queue, a cloud) is not its business.

    steps = drafts(Request.parse({"prompt": "a red ball bounces"}), num=9)       # nine small clips of few steps
    step = refine(picked)                                                        # one of them, full size, same picture
    step = extend(picked, seconds=2)                                             # ... and what happens next
    steps = vary(picked, num=4)                                                  # ... or something like it
    step = upscale(picked, scale=2)                                              # ... or the same with more pixels
    steps = storyboard(read_storyboard("film.toml"))                             # the shots of a film

`picked` is a `Made`: `Made.of_record(media.read_record(path), place=path)` for a file, and for a job
`Made.of_job(job.id, request=job.request, plan=job.plan)`. A `Step` has the request, the name of the clip that it comes
from, how the two hang together, and (`takes`) the field of the request in which that clip's place is to stand;
`step.fields(made.place)` is what a job store takes. Nothing here imports torch.
"""

from homereel.workflows.drafts import drafts
from homereel.workflows.extend import extend
from homereel.workflows.prompts import PromptFields, expand_prompt
from homereel.workflows.refine import refine, upscale
from homereel.workflows.step import Made, Relation, Step, Takes, job_of_place, job_place
from homereel.workflows.storyboard import Cut, Shot, Storyboard, film_cuts, read_storyboard, storyboard
from homereel.workflows.vary import vary

__all__ = [
    "Cut",
    "Made",
    "PromptFields",
    "Relation",
    "Shot",
    "Step",
    "Storyboard",
    "Takes",
    "drafts",
    "expand_prompt",
    "extend",
    "film_cuts",
    "job_of_place",
    "job_place",
    "read_storyboard",
    "refine",
    "storyboard",
    "upscale",
    "vary",
]
