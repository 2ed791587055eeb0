"""`homereel plan`: what a film will take, before anything is loaded; it takes the same options as `generate`."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Annotated, Any, get_type_hints

import typer

from homereel.cli.generate import generate, read_wish
from homereel.cli.output import show_json
from homereel.cli.plan_told import plan_dict, show_plan
from homereel.cli.planned import plan_wish

EXAMPLES = """[bold]Examples[/bold]

homereel plan "a red ball bounces on a green floor" --seconds 4

homereel plan "a harbour at dawn" --model hunyuanvideo-1.5 --size 480p --max-vram 8GB --max-ram 32GB

homereel plan "a blue box spins" --model wan2.1-t2v-14b --quality approximate --prefer speed --json"""

# Of generate's options those on where the film goes mean nothing to a plan.
_LEFT_OUT = ("output", "sidecar", "private", "quiet", "num", "as_json")
_USUAL_PRICE = 0.30

Price = Annotated[
    float,
    typer.Option("--price", metavar="P", min=0, help="Of a kilowatt-hour, in your money. By default 0.30."),
]
AsJson = Annotated[
    bool, typer.Option("--json", metavar="", rich_help_panel="What to show", help="One JSON object with all of it.")
]


def plan(*, price: float = _USUAL_PRICE, as_json: bool = False, **typed: Any) -> None:
    """Tell what a film will take here, before anything is loaded."""
    found = plan_wish(read_wish(typed), alternatives=True)
    if as_json:
        show_json(plan_dict(found, price=price))
    else:
        show_plan(found, price=price)


def _takes_options_of(function: Callable[..., Any], *, left_out: tuple[str, ...], also: dict[str, Any]) -> None:
    """Give `plan` the options of another command, so that both stay alike."""
    hints = get_type_hints(function, include_extras=True)
    taken = inspect.signature(function).parameters
    options = [each.replace(annotation=hints[name]) for name, each in taken.items() if name not in left_out]
    own = inspect.signature(plan).parameters
    options += [own[name].replace(annotation=hint) for name, hint in also.items()]
    prompt = options[0].replace(default="a film")  # what is seen changes no cost
    plan.__signature__ = inspect.Signature([prompt, *options[1:]])  # type: ignore[attr-defined]
    plan.__annotations__ = {each.name: each.annotation for each in options} | {"return": None}


_takes_options_of(generate, left_out=_LEFT_OUT, also={"price": Price, "as_json": AsJson})
