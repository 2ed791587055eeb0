"""What can be said of an LTX-2 from its files alone: what it takes, its grid, its standard clip, stages and bytes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from homereel.core.errors import InvalidRequest
from homereel.core.model import Blocks, Grid, Shapes, Stage
from homereel.core.plan import Plan
from homereel.core.request import Request
from homereel.models.ltx.config import UPSCALER, LtxConfig, text_name
from homereel.models.ltx.guidance import guidance_for
from homereel.models.ltx.layout import LtxLayout, layout_of, num_values
from homereel.models.ltx.schedule import DISTILLED, distilled_sigmas, full_sigmas, refining_sigmas
from homereel.models.ltx.tokens import GemmaTokenizer
from homereel.models.shared_facts import ITEM_BYTES, FolderFacts, texts_of
from homereel.weights.safetensors_file import TensorInfo

# A clip of at least so many times the standard clip's area is made at half its size first, where the model can.
TWO_STAGE_AREA = 2
# A clip whose widest decoded layer is larger is decoded in tiles of this many pixels and frames.
WHOLE_DECODE_BYTES = 1024**3
TILE_PIXELS, TILE_FRAMES = 512, 64
# The decoder's peak in multiples of its widest layer: 4.6 to 5.9, counted tensor by tensor at half the width.
LAYERS_AT_ONCE = 6


@dataclass(frozen=True)
class LtxFacts(FolderFacts):
    """An LTX-2 known by its files only; see `ModelFacts` for what each part means."""

    config: LtxConfig

    name = "ltx-2"
    makes_sound = True
    told_pace = True
    inputs = frozenset({"text", "image", "last", "keyframes"})
    required: frozenset[str] = frozenset()
    decoders = frozenset({"vae", "audio_vae", "vocoder"})
    readers = frozenset({"text_encoder", "connectors"})

    @property
    def components(self) -> tuple[str, ...]:
        upscaler = (UPSCALER,) if self.refines else ()
        return ("text_encoder", "connectors", "transformer", *upscaler, "vae", "audio_vae", "vocoder")

    @property
    def refines(self) -> bool:
        """Whether large clips take a second stage, which only distilled weights know how to do."""
        return self.config.upscaler and self.config.distilled

    @property
    def grid(self) -> Grid:
        config, longest = self.config, self.config.max_seconds * self.defaults.fps
        return Grid(
            width_multiple=config.scale,
            height_multiple=config.scale,
            frame_multiple=config.frame_scale,
            max_width=config.max_width,
            max_height=config.max_height,
            max_frames=int(longest) // config.frame_scale * config.frame_scale + 1,
        )

    @property
    def block_facts(self) -> Blocks:
        config = self.config
        return Blocks(
            layout="two streams",
            num_blocks=config.num_blocks,
            num_heads=config.num_heads,
            head_size=config.features // config.num_heads,
        )

    def shapes(self, *, width: int, height: int, num_frames: int, dtype: str) -> Shapes:
        config, item = self.config, ITEM_BYTES[dtype]
        layout = layout_of(config, width=width, height=height, num_frames=num_frames, fps=self.defaults.fps)
        # A token's own features a few times over, the feed-forward's eight-fold, nine modulations where pictures
        # are given, and its place as two float32 tables.
        video = layout.video_tokens * config.features * (25 * item + 4)
        audio = layout.audio_frames * config.audio_features * (25 * item + 4)
        text = 2 * self.max_tokens * config.text_features * item
        widest = self.widest_layer_bytes(layout, item_bytes=item)
        share = min(1, TILE_PIXELS / width) * min(1, TILE_PIXELS / height) * min(1, TILE_FRAMES / num_frames)
        tile = widest if widest <= WHOLE_DECODE_BYTES else widest * share
        return Shapes(
            latents=layout.video_shape,
            num_tokens=layout.video_tokens + layout.audio_frames,
            denoise_bytes=max(video + audio + 8 * num_values(layout) * 4, text),
            decode_bytes=round(LAYERS_AT_ONCE * tile) + num_frames * height * width * 3 * (2 * item + 6),
            text_tokens=self.max_tokens,
            decode_operations=config.decoder_operations * num_frames * height * width,
            sound_seconds=num_frames / self.defaults.fps,
        )

    def stages(self, plan: Plan) -> tuple[Stage, ...]:
        table = self.config.timetable
        whole = self.layout(plan, stage=self.num_stages(plan) - 1)
        if not self.config.distilled:
            own = full_sigmas(plan.steps, timetable=table, num_tokens=whole.sequence, shift=plan.shift)
            sigmas = plan.sigmas or own
            return (Stage(noise=whole.noise(refining=False), num_steps=plan.steps, sigmas=sigmas),)
        first = Stage(
            noise=self.layout(plan, stage=0).noise(refining=False),
            num_steps=plan.steps,
            sigmas=plan.sigmas or distilled_sigmas(plan.steps, timetable=table, shift=plan.shift),
        )
        if self.num_stages(plan) == 1:
            return (first,)
        sigmas = refining_sigmas(timetable=table, shift=plan.shift)
        return first, Stage(noise=whole.noise(refining=True), num_steps=len(sigmas) - 1, sigmas=sigmas)

    def num_stages(self, plan: Plan) -> int:
        """Two for a large clip whose half lies on the grid as well."""
        standard = self.defaults.width * self.defaults.height
        large = plan.width * plan.height >= TWO_STAGE_AREA * standard
        halves = plan.width % (2 * self.config.scale) == 0 == plan.height % (2 * self.config.scale)
        return 2 if self.refines and large and halves else 1

    def layout(self, plan: Plan, *, stage: int) -> LtxLayout:
        """How the latents of a stage lie; the first of two is half as wide and high."""
        part = 2 if stage < self.num_stages(plan) - 1 else 1
        return layout_of(
            self.config,
            width=plan.width // part,
            height=plan.height // part,
            num_frames=plan.num_frames,
            fps=plan.fps,
            num_later=sum(frame > 0 for frame in plan.keyframes),
        )

    def last_layout(self, plan: Plan) -> LtxLayout:
        """Of what is decoded: the last stage without what followed the clip."""
        return self.layout(plan, stage=self.num_stages(plan) - 1).without_later()

    def widest_layer_bytes(self, layout: LtxLayout, *, item_bytes: int) -> int:
        """Bytes of the video decoder's widest layer for a whole clip."""
        config = self.config
        frames = (layout.frames - 1) * config.frame_scale + 1
        side = config.scale // config.pixel_patch
        return frames * layout.frame_tokens * side**2 * config.decoder_features * item_bytes

    def tensors(self, component: str) -> Mapping[str, TensorInfo]:
        found = super().tensors(component)
        if component != "text_encoder":
            return found
        return {name: tensor for name, tensor in found.items() if text_name(name)}

    def compares_words(self, plan: Plan) -> bool:
        return guidance_for(self.config, plan.guidance).compares_words

    def files(self) -> Mapping[str, Path]:
        scheduler = "scheduler/scheduler_config.json"  # its times decide the clip, too
        return {**self.folder.files(self.components), scheduler: self.folder.path / scheduler}

    def remarks(self, request: Request) -> tuple[str, ...]:
        if request.sampler not in (None, "euler"):
            raise InvalidRequest(
                f"sampler: {self.model} has times made for euler; {request.sampler} would spoil them; leave it out",
                field="sampler",
            )
        remarks = []
        if self.config.distilled and request.steps not in (None, len(DISTILLED) - 1):
            remarks.append(
                f"{self.model} was distilled for {len(DISTILLED) - 1} steps; "
                f"{request.steps} are taken along the same path"
            )
        if self.config.distilled and (request.guidance or 1) > 1:
            remarks.append(f"{self.model} was distilled to do without guidance; with it a step takes twice as long")
        for field, text in texts_of(request):
            remarks += self.too_long(field, num_cut=self.tokenizer.num_cut(text))
        return tuple(remarks)

    @cached_property
    def tokenizer(self) -> GemmaTokenizer:
        return GemmaTokenizer(self.folder.path / "tokenizer" / "tokenizer.json", max_tokens=self.max_tokens)
