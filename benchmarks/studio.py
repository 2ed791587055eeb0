"""How quick and how light the studio is: weight and first paint of its pages, and nine drafts of the built-in model.

    python benchmarks/studio.py [--steps N] [--json FILE]

Measured in a real browser on loopback, from the click on Draft 9 to the first and the last clip that can be played.
`cold` drafts come right after the server's start (the worker loads the model), `warm` ones after that.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from pathlib import Path
from typing import Any

from studio_tour import PROMPT, WAIT_MS, browser, served

PAGES = ("/", "/drafts", "/queue", "/library", "/storyboard", "/models", "/settings", "/machine")
LIMITS = {"page_bytes": 300_000, "first_paint_seconds": 1.0, "first_draft_seconds": 15.0, "nine_drafts_seconds": 60.0}
_PLAYABLE = "(n) => [...document.querySelectorAll('.card video')].filter((v) => v.readyState >= 2).length >= n"
_PAINT = "performance.getEntriesByName('first-contentful-paint')[0].startTime / 1000"
_BYTES = """() => {
  const all = [...performance.getEntriesByType('navigation'), ...performance.getEntriesByType('resource')];
  return all.filter((e) => !e.name.includes('/v1/videos/')).reduce((sum, e) => sum + e.decodedBodySize, 0);
}"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=None, help="steps of the full clip; the drafts take fewer")
    parser.add_argument("--json", type=Path, default=None)
    given = parser.parse_args()
    found: dict[str, Any] = {"load_average": os.getloadavg()}  # at the start; what else runs slows all of this
    with served(port=8430) as url, browser() as chromium:
        found["pages"] = {address: weigh(chromium, url, address) for address in PAGES}
        page = chromium.new_page(base_url=url, viewport={"width": 1280, "height": 860})
        page.set_default_timeout(WAIT_MS)
        for name in ("cold", "warm"):
            found[name] = draft_nine(page, steps=given.steps)
    for address, figures in found["pages"].items():
        print(f"{address:12} {figures['page_bytes']:>8,} bytes   first paint {figures['first_paint_seconds']:.2f} s")
    for name in ("cold", "warm"):
        figures = found[name]
        print(f"{name}: first {figures['first_draft_seconds']:.1f} s, nine {figures['nine_drafts_seconds']:.1f} s")
    print("limits:", ", ".join(f"{name} {value:,}" for name, value in LIMITS.items()))
    if given.json is not None:
        given.json.write_text(json.dumps({"limits": LIMITS, **found}, indent=2), encoding="utf-8")


def weigh(chromium: Any, url: str, address: str) -> dict[str, float]:
    """All that a page brings into an empty browser, but for clips, and when something of it is first seen."""
    context = chromium.new_context(base_url=url)
    page = context.new_page()
    page.goto(address)
    page.wait_for_load_state("load")
    page.wait_for_timeout(1_500)  # parts that come behind the page
    figures = {"page_bytes": page.evaluate(_BYTES), "first_paint_seconds": page.evaluate(_PAINT)}
    context.close()
    return figures


def draft_nine(page: Any, *, steps: int | None) -> dict[str, float]:
    """Seconds from the click to the first and to the ninth clip."""
    page.goto("/")
    page.get_by_label("What is to be seen?").fill(PROMPT)
    if steps is not None:
        page.get_by_text("More settings").click()
        page.get_by_label("Steps", exact=True).fill(str(steps))
    start = time.perf_counter()
    page.get_by_role("button", name="Draft 9").click()
    page.wait_for_url("**/drafts/board_*")
    page.wait_for_function(_PLAYABLE, arg=1)
    first = time.perf_counter() - start
    page.wait_for_function(_PLAYABLE, arg=9)
    return {"first_draft_seconds": first, "nine_drafts_seconds": time.perf_counter() - start}


if __name__ == "__main__":
    main()
