"""Makes the README's picture: a contact sheet of clips from the built-in model, one seed each, nothing picked.

Usage: python docs/picture.py [TARGET.png]
"""

from __future__ import annotations

import sys
from pathlib import Path

import homereel
from homereel.media import contact_sheet

PROMPTS = (
    "a red ball bounces on a green floor",
    "a blue box slides left on a white floor",
    "a yellow star spins on a purple floor at night",
    "a green triangle falls on a gray floor",
    "an orange ring rolls right on a blue floor",
    "a purple ball grows on a yellow floor at sunset",
    "a white star rises over a red floor",
    "a pink box stands still on a green floor, the camera zooms in",
    "a black triangle shrinks on a pink floor",
    "a red ring bounces on a white floor while the camera pans right",
)


def main(target: Path) -> None:
    clips = []
    for seed, prompt in enumerate(PROMPTS):
        clips.append(homereel.generate(prompt, seed=seed).frames)
        print(prompt)
    sheet = contact_sheet(clips, captions=PROMPTS, columns=2, frames_per_clip=6)
    from PIL import Image

    Image.fromarray(sheet).save(target, optimize=True)


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "docs/picture.png"))
