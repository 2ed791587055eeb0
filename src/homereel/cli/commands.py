"""The commands by name. A command is imported, and its options read, only when it is asked for: the list of all is
instant, however many there are.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup
from typer.main import get_command_from_info, get_group
from typer.models import CommandInfo

_MAKE, _SERVE, _MODELS = "Films", "Servers", "Models"


@dataclass(frozen=True)
class Command:
    """`place` is "module:function" (or a Typer of further commands) in this room; `help` its first line."""

    place: str
    panel: str
    help: str

    def stub(self, name: str) -> TyperCommand:
        """What the list of all commands needs to know of it."""
        return TyperCommand(name, help=self.help, rich_help_panel=self.panel)

    def load(self, name: str) -> Any:
        """The command itself."""
        module, attribute = self.place.split(":")
        home = importlib.import_module(f"homereel.cli.{module}")
        found = getattr(home, attribute)
        if isinstance(found, typer.Typer):
            group = get_group(found)
            group.name = name
            return group
        info = CommandInfo(
            name=name,
            callback=found,
            epilog=getattr(home, "EXAMPLES", None),
            rich_help_panel=self.panel,
            cls=TyperCommand,
        )
        return get_command_from_info(info, pretty_exceptions_short=True, rich_markup_mode="rich")


COMMANDS: Mapping[str, Command] = {
    "generate": Command("generate:generate", _MAKE, "Make a film from words, pictures or footage."),
    "plan": Command("plan:plan", _MAKE, "Tell what a film will take here, before anything is loaded."),
    "drafts": Command(
        "drafts:drafts",
        _MAKE,
        "Make many cheap tries: other seeds and words, small and in few steps, and one picture of them all.",
    ),
    "refine": Command("follow:refine", _MAKE, "Finish a draft: the same picture and motion at full size and steps."),
    "extend": Command("follow:extend", _MAKE, "Let a clip go on: the new file holds it, and what happens next."),
    "vary": Command(
        "follow:vary",
        _MAKE,
        "Make more like this clip: other seeds, or the clip itself made anew in part.",
    ),
    "upscale": Command(
        "upscale:upscale",
        _MAKE,
        "Make a clip larger: its latents are enlarged, and the model makes the detail anew; or by plain filters.",
    ),
    "storyboard": Command(
        "storyboard:storyboard",
        _MAKE,
        "Make a film of several shots that share style, references and seeds.",
    ),
    "join": Command(
        "join:join",
        _MAKE,
        "Join clips to one film with cuts: of one size and pace, with the sound of those that have it.",
    ),
    "prompt": Command(
        "prompt_command:prompt",
        _MAKE,
        "Write the prompt of a shot from its parts, in the words and the order that a model wants.",
    ),
    "info": Command("info:info", _MAKE, "Tell what is in a file, and how it was made."),
    "replay": Command(
        "replay:replay", _MAKE, "Make a file again from its own recipe, and say exact, close or changed, and why."
    ),
    "compare": Command(
        "compare:compare",
        _MAKE,
        "Tell how far apart two clips are: PSNR and SSIM of their frames, size, length, pace and sound.",
    ),
    "serve": Command(
        "serve:serve",
        _SERVE,
        "Take requests over HTTP, and make films of them: /v1/videos as OpenAI's clients speak it, and more.",
    ),
    "mcp": Command(
        "mcp:mcp", _SERVE, "Let an agent plan and make films, and fetch them: a server for the Model Context Protocol."
    ),
    "jobs": Command("jobs:jobs", _SERVE, "Look at queued work, and steer it."),
    "models": Command("models:models", _MODELS, "Which models there are, and how to get them."),
    "lora": Command("lora:lora", _MODELS, "Small files that teach a model something: look at them."),
    "exam": Command(
        "exam:exam", _MODELS, "Measure a model: unseen prompts, and clips that are judged from their pixels alone."
    ),
    "fidelity": Command(
        "fidelity:fidelity",
        _MODELS,
        "Measure what passes change: every clip is made from the same seed with them and without.",
    ),
    "bench": Command(
        "bench:bench",
        _MODELS,
        "Measure a clip, prompt to file: diffusers' own pipeline against homereel, in one run on this machine.",
    ),
    "doctor": Command("doctor:doctor", _SERVE, "Tell what works on this machine, and how to mend what does not."),
    "train": Command("train:train", _MODELS, "Train models."),
}


class Commands(TyperGroup):
    """The group of all commands, each loaded when it is run."""

    def __init__(self, **others: Any) -> None:
        super().__init__(**others)
        self.commands = {name: command.stub(name) for name, command in COMMANDS.items()}

    def list_commands(self, ctx: Any) -> list[str]:  # noqa: ARG002
        return list(COMMANDS)

    def resolve_command(self, ctx: Any, args: list[str]) -> tuple[str | None, Any, list[str]]:
        name, command, rest = super().resolve_command(ctx, args)
        return name, COMMANDS[name].load(name) if name is not None else command, rest
