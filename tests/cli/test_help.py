"""Help is instant, light and complete."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from homereel.cli import commands
from tests.cli.conftest import Cli

HEAVY = {
    "torch",
    "numpy",
    "pydantic",
    "av",
    "PIL",
    "diffusers",
    "transformers",
    "tokenizers",
    "safetensors",
    "sqlalchemy",
}
COMMANDS = [
    ["generate"], ["drafts"], ["refine"], ["extend"], ["vary"], ["upscale"], ["storyboard"], ["join"], ["prompt"],
    ["info"], ["replay"], ["compare"], ["models"], ["models", "info"], ["models", "pull"],
    ["models", "rm"], ["models", "scan"], ["models", "import"], ["lora"], ["lora", "check"], ["exam"], ["fidelity"],
    ["serve"], ["mcp"], ["bench"], ["train"], ["train", "pocket"], ["jobs"], ["jobs", "list"], ["jobs", "show"],
    ["jobs", "cancel"], ["jobs", "pause"], ["jobs", "resume"], ["jobs", "move"], ["jobs", "retry"],
    ["jobs", "logs"], ["jobs", "rm"],
]  # fmt: skip

SHOW_MODULES = """
import json, sys
from homereel.cli import main
try:
    main()
except SystemExit as leave:
    print(json.dumps([leave.code, sorted(sys.modules)]), file=sys.stderr)
"""


@pytest.mark.parametrize(
    "words", [["--help"], ["--version"], ["info", "-h"], ["train", "-h"], ["jobs", "-h"]], ids=" ".join
)
def test_help_imports_nothing_heavy(words: list[str]) -> None:
    """typer itself takes pydantic, if it is installed, to read the options of a command."""
    done = subprocess.run([sys.executable, "-c", SHOW_MODULES, *words], capture_output=True, check=True)
    code, modules = json.loads(done.stderr)
    assert code == 0
    assert done.stdout
    allowed = set() if words == ["--help"] else {"pydantic"}
    assert not {name.partition(".")[0] for name in modules} & HEAVY - allowed


@pytest.mark.skipif(sys.platform == "win32", reason="times of children are not told there")
def test_help_costs_little_more_than_the_library_that_prints_it() -> None:
    """Time on the processor, the best of three, against the import of typer and rich in the same run: 0.2 s on a
    quiet machine, and help may take 0.4."""

    def one(*words: str) -> float:
        before = os.times()
        subprocess.run([sys.executable, *words], capture_output=True, check=True)
        after = os.times()
        return after.children_user + after.children_system - before.children_user - before.children_system

    pairs = [(one("-m", "homereel.cli", "--help"), one("-c", "import typer.rich_utils")) for _ in range(3)]
    assert min(ours for ours, _ in pairs) < 1.6 * min(theirs for _, theirs in pairs)


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_every_command_has_a_help_page(cli: Cli, words: list[str]) -> None:
    shown = cli(*words, "--help")
    assert shown.code == 0
    assert "Usage: homereel " + " ".join(words) in shown.out
    assert cli(*words, "-h").out == shown.out


def test_bare_program_shows_its_commands(cli: Cli) -> None:
    shown = cli()
    assert shown.code == 2
    assert all(word in shown.out + shown.err for word in ("generate", "replay", "exam"))


def test_version(cli: Cli) -> None:
    import homereel

    assert cli("--version").out == f"homereel {homereel.__version__}\n"


@pytest.mark.parametrize("name", commands.COMMANDS)
def test_the_list_says_of_a_command_what_its_own_page_says(name: str) -> None:
    entry = commands.COMMANDS[name]
    first = (entry.load(name).help or "").strip().splitlines()[0]
    assert entry.help == first
