"""A whole family in one file, as docs/families.md shows it: words to video, with Wan's networks, and nothing more.

Shape letters: B batch, C channels, T frames, H height, W width, L text tokens, D features.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from homereel.core.inputs import Inputs
from homereel.core.model import Blocks, Defaults, Grid, Shapes, Stage
from homereel.core.plan import Plan
from homereel.core.protocols import ModelFacts, StepTime, Use, Words
from homereel.core.request import Request
from homereel.core.sound import Sound
from homereel.models.card import ModelCard, read_folder_card
from homereel.models.network_pass import named_pass
from homereel.models.text import Tokenizer
from homereel.weights.model_folder import ModelFolder

STANDARD = Defaults(width=832, height=480, num_frames=81, fps=16, steps=50, guidance=5, shift=3, sampler="unipc")


def open_one_file(*, name: str, folder: ModelFolder, card: ModelCard | None, compute: bool) -> ModelFacts:
    """See `OpenFamily`. Torch is imported in methods only, so what computes may also say the facts."""
    standard = card.defaults.settled() if card else STANDARD
    return OneFileFamily(name, folder, read_folder_card(folder.path).defaults.over(standard))


@dataclass(frozen=True)
class OneFileFamily:
    """See `Family` for what each part means."""

    model: str
    folder: ModelFolder
    defaults: Defaults

    name = "one-file"
    inputs, required = frozenset({"text"}), frozenset[str]()
    makes_sound, told_pace = False, False
    components, decoders = ("text_encoder", "transformer", "vae"), frozenset({"vae"})
    readers = frozenset({"text_encoder"})
    grid = Grid(
        width_multiple=16, height_multiple=16, frame_multiple=4, max_width=1280, max_height=1280, max_frames=121
    )

    @property
    def block_facts(self) -> Blocks:
        config = self.folder.config("transformer")
        return Blocks("wan", config["num_layers"], config["num_attention_heads"], config["attention_head_dim"])

    def shapes(self, *, width: int, height: int, num_frames: int, dtype: str) -> Shapes:
        item, channels = (4 if dtype == "float32" else 2), self.folder.config("vae")["z_dim"]
        latents = (1, channels, (num_frames - 1) // 4 + 1, height // 8, width // 8)
        tokens = math.prod(latents[2:]) // 4
        return Shapes(
            latents, tokens, denoise_bytes=tokens * 50_000 * item, decode_bytes=width * height * 12_000 * item
        )

    def stages(self, plan: Plan) -> tuple[Stage, ...]:
        shapes = self.shapes(width=plan.width, height=plan.height, num_frames=plan.num_frames, dtype=plan.dtype)
        return (Stage(noise=(shapes.latents,), num_steps=plan.steps),)

    def compares_words(self, plan: Plan) -> bool:
        return plan.guidance > 1

    def weight_bytes(self, component: str, *, dtype: str) -> int:
        count = sum(math.prod(tensor.shape) for tensor in self.folder.tensors(component).values())
        return count * (4 if dtype == "float32" else 2)

    def files(self) -> Mapping[str, Path]:
        return self.folder.files(self.components)

    def remarks(self, request: Request) -> tuple[str, ...]:
        return ()

    def vocabulary(self) -> tuple[str, ...]:
        return ()

    def load(self, component: str, *, device: str, dtype: str) -> Any:
        import torch
        from diffusers import AutoencoderKLWan, WanTransformer3DModel
        from transformers import UMT5EncoderModel

        kinds = {"text_encoder": UMT5EncoderModel, "transformer": WanTransformer3DModel, "vae": AutoencoderKLWan}
        network: Any = kinds[component].from_pretrained(
            self.folder.path / component, dtype=getattr(torch, dtype), use_safetensors=True
        )
        return network.to(device).eval().requires_grad_(False)

    def read_words(self, texts: Sequence[str], *, use: Use) -> tuple[Words, ...]:
        import torch

        tokenizer = Tokenizer(self.folder.path / "tokenizer" / "tokenizer.json", max_tokens=self._max_tokens)
        with use("text_encoder") as encoder, torch.inference_mode():
            rows = [encoder(torch.tensor([tokenizer.ids(text)])).last_hidden_state for text in texts]
        return tuple(
            {"words": torch.nn.functional.pad(row, (0, 0, 0, self._max_tokens - row.shape[1]))} for row in rows
        )

    def encode(self, inputs: Inputs, *, plan: Plan, use: Use, words: Sequence[Words]) -> list[Any]:
        """The prompt's features, and with guidance those of what it is compared with."""
        return [each["words"] for each in words]

    def begin(self, stage: int, noise: Sequence[Any], **others: Any) -> Any:
        return noise[0]

    def denoiser(self, timestep: float) -> str:
        return "transformer"

    def velocity(
        self,
        denoiser: Any,
        latents: Any,
        *,
        time: StepTime,
        plan: Plan,
        conditions: list[Any],
        on_pass: Callable[[], None],
    ) -> Any:
        import torch

        flows = []
        for name, text in zip(("prompt", "negative"), conditions, strict=False):
            with named_pass(denoiser, name, time=time, stage=self.stages(plan)[0]), torch.inference_mode():
                flow = denoiser(latents.to(denoiser.dtype), time.timestep.expand(1), text, return_dict=False)[0]
            flows.append(flow.float())
            on_pass()
        return flows[0] if len(flows) == 1 else flows[1] + plan.guidance * (flows[0] - flows[1])

    def finish(self, stage: int, latents: Any, **others: Any) -> Any:
        return latents

    def decode_sound(self, latents: Any, *, plan: Plan, use: Use) -> Sound | None:
        return None

    def decode(self, latents: Any, *, plan: Plan, use: Use) -> Generator[NDArray[np.uint8]]:
        import torch

        from homereel.models.picture import to_frames
        from homereel.models.wan.vae import latent_statistics

        with use("vae") as vae, torch.inference_mode():
            mean, spread = latent_statistics(vae)
            yield to_frames(vae.decode(latents * spread + mean).sample[0])

    def preview(self, stage: int, latents: Any, *, plan: Plan, use: Use) -> NDArray[np.uint8]:
        return next(self.decode(latents[:, :, :1], plan=plan, use=use))

    def blocks(self, denoiser: Any) -> Sequence[Any]:
        return tuple(denoiser.blocks)

    def side_blocks(self, denoiser: Any) -> Sequence[Any]:
        return ()

    @property
    def _max_tokens(self) -> int:
        return read_folder_card(self.folder.path).max_sequence_length or 512
