"""Shows the result of an exam: a table of traits, what was mistaken for what, and the score."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_MOST_SHOWN = 5


def show_result(result: Mapping[str, Any]) -> None:
    """Print what `homereel exam --json` would tell, for a person."""
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    table.add_column("trait")
    for name in ("asked", "right", "ceiling"):
        table.add_column(name, justify="right")
    for trait, share in result["traits"].items():
        ceiling = result["ceiling_traits"].get(trait)
        table.add_row(trait, str(result["asked"][trait]), _percent(share), _percent(ceiling))
    table.add_row("all asked", str(result["clips"]), _percent(result["score"]), _percent(result["ceiling"]))
    Console(markup=False, highlight=False).print(table)
    if result["confusions"]:
        print("\nMost often wrong:")
        for wrong in result["confusions"][:_MOST_SHOWN]:
            print(f"  {wrong['trait']} {wrong['asked']} seen as {wrong['read'] or 'nothing clear'}: {wrong['count']}")
    print()
    if result.get("through") == "vae":
        print(f"autoencoder: {result['psnr']:.1f} dB, near the object {result['object_psnr']:.1f} dB")
    print(f"{result['model']}: score {result['score']:.3f} of {result['ceiling']:.3f} that can be read")


def _percent(share: float | None) -> str:
    return "" if share is None else f"{100 * share:.1f} %"
