"""Wan 2.1 and 2.2 over diffusers' networks: words, pictures or footage to video, with one expert or two.

Shape letters: B batch, C channels, T frames, H height, W width, L text tokens, D features.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from homereel.core.inputs import Inputs
from homereel.core.plan import Plan
from homereel.core.protocols import StepTime, Use, Words
from homereel.core.sound import Sound
from homereel.models.eight_bit import SCALE, int8_layers, stays_int8, unpack_int8_layers, with_int8_layers
from homereel.models.network_pass import input_dtype, named_pass
from homereel.models.picture import checked_frames, fit_picture, fit_video, to_frames
from homereel.models.tiled_decode import Tile, decode_in_tiles
from homereel.models.tuned_attention import put_projections
from homereel.models.wan.facts import WHOLE_ENCODE_BYTES, WanFacts
from homereel.models.wan.pictures import (
    control_latents,
    encode_clip,
    known_frames,
    look_at,
    picture_channels,
    resize_latents,
)
from homereel.models.wan.stream import decode_pieces
from homereel.models.wan.vae import restore_latents
from homereel.sampling import classifier_free_guidance, noise_alone
from homereel.weights.load import load_network

# A preview shows this many frames, from latents at this scale and at most this long on a side.
PREVIEW_FRAMES = 8
PREVIEW_SCALE = 0.5
PREVIEW_CELLS = 24
PREVIEW_AT_ONCE = 8  # latent frames


@dataclass(frozen=True)
class WanConditions:
    """What steers a clip; None is what was not given.

    Texts are (1, L, D); the rest are latents (1, C, T, H, W): of the first frame (T is 1; more where a clip goes on
    from another), of known frames and the channels that name them, of footage or a clip to be refined, of VACE's
    control, of the clip that is gone on from. `seen` is CLIP's look at the pictures.
    """

    prompt: Tensor
    negative: Tensor | None
    first_frame: Tensor | None = None
    channels: Tensor | None = None
    seen: Tensor | None = None
    control: Tensor | None = None
    footage: Tensor | None = None
    before: Tensor | None = None


@dataclass(frozen=True)
class WanFamily(WanFacts):
    """A Wan model that can compute; see `Family` for what each part means."""

    def load(self, component: str, *, device: str, dtype: str) -> nn.Module:
        build, keep, tied = _builders(self.folder.config(component))[component]
        layers = int8_layers(self.folder, component) if component.startswith("transformer") else ()
        network = load_network(
            with_int8_layers(build, layers) if layers else build,
            folder=self.folder,
            component=component,
            device=device,
            dtype=dtype,
            keep_float32=(*keep, SCALE) if layers else keep,
            tied=tied,
            names=_name_in_network,
        )
        _restore_buffers(network, component=component, device=device)
        if layers and not stays_int8(device):
            unpack_int8_layers(network, layers, dtype=getattr(torch, dtype))
        tuned = self.folder.tuned_attention(component)
        if tuned is not None:
            put_projections(self.blocks(network), tuned, head_size=self.block_facts.head_size, device=device)
        return network

    @torch.inference_mode()
    def read_words(self, texts: Sequence[str], *, use: Use) -> tuple[Words, ...]:
        with use("text_encoder") as text_encoder:
            return tuple({"words": self.encode_text(text_encoder, text)} for text in texts)

    @torch.inference_mode()
    def encode(self, inputs: Inputs, *, plan: Plan, use: Use, words: Sequence[Words]) -> WanConditions:
        prompt, *compared = (each["words"] for each in words)
        pictures = self._encode_pictures(inputs, plan=plan, use=use)
        return WanConditions(prompt, compared[0] if compared else None, **pictures)

    def encode_text(self, text_encoder: Any, text: str) -> Tensor:
        """(1, L, D), padded with zeros as the model was trained."""
        ids = torch.tensor([self.tokenizer.ids(text)], device=text_encoder.device)
        features: Tensor = text_encoder(ids).last_hidden_state
        return nn.functional.pad(features, (0, 0, 0, self.max_tokens - ids.shape[1]))

    def _encode_pictures(self, inputs: Inputs, *, plan: Plan, use: Use) -> dict[str, Tensor]:
        """The parts of the conditions that come from pictures and footage."""
        config, found = self.config, {}
        whole = self._fits_whole(plan, item_bytes=4)
        size = {"width": plan.width, "height": plan.height}
        if config.control:
            with use("vae") as vae:
                return {"control": control_latents(vae, inputs, plan=plan, whole=whole)}
        if config.sees_pictures:
            with use("image_encoder") as eye:
                pictures = [picture.pixels for picture in inputs.pictures]
                found["seen"] = look_at(eye, pictures, processor=self._image_processor())
        if config.picture_channels:
            with use("vae") as vae:
                latents = encode_clip(vae, known_frames(inputs, plan=plan), whole=whole)
            known = [picture.frame for picture in inputs.pictures]
            found["channels"] = picture_channels(latents, known=known, num_frames=plan.num_frames)
        elif inputs.first is not None:
            with use("vae") as vae:
                found["first_frame"] = encode_clip(vae, fit_picture(inputs.first, **size)[None, :, None], whole=True)
        if plan.extend_from is not None:
            with use("vae") as vae:
                return found | self._go_on_from(vae, inputs, plan=plan, whole=whole)
        if inputs.kept is not None:
            shapes = self.shapes(width=plan.width, height=plan.height, num_frames=plan.num_frames, dtype=plan.dtype)
            found["footage"] = resize_latents(inputs.kept, size=shapes.latents[-2:])
        if inputs.video is not None:
            with use("vae") as vae:
                found["footage"] = encode_clip(vae, fit_video(inputs.video, **size)[None], whole=whole)
        return found

    def _go_on_from(self, vae: Any, inputs: Inputs, *, plan: Plan, whole: bool) -> dict[str, Tensor]:
        """The clip that is gone on from, and what the network sees of it: its last latents as they are, and before
        them one of a single frame, as every clip begins with."""
        kept = (plan.extend_from or 1) - 1
        before = inputs.kept
        if before is None:
            assert inputs.video is not None, "a clip that is gone on from is there as latents or as frames"
            video = fit_video(inputs.video, width=plan.width, height=plan.height)
            before = encode_clip(vae, video[None, :, : kept + 1], whole=whole)
        before = before[:, :, : kept // self.config.frame_scale + 1].to(vae.device)
        behind = self.frames_behind(plan)
        if behind == 0:
            return {"before": before, "first_frame": before}
        last = before[:, :, :0]
        for last in decode_pieces(vae, restore_latents(vae, before[:, :, : behind + 1]), at_once=1):  # noqa: B007
            pass  # a film may be long: no more than a piece of it is held
        first = encode_clip(vae, last[:, :, -1:].clamp(-1, 1), whole=True)
        return {"before": before, "first_frame": torch.cat([first, before[:, :, behind + 1 :]], dim=2)}

    def begin(
        self,
        stage: int,  # noqa: ARG002  # a Wan has one
        noise: Sequence[Tensor],
        *,
        plan: Plan,
        conditions: WanConditions,
        done: Tensor | None,  # noqa: ARG002
        sigma: float,
        use: Use,  # noqa: ARG002
    ) -> Tensor:
        if conditions.footage is None or plan.strength is None:
            return noise_alone(noise[0], sigma=sigma)
        return (1 - sigma) * conditions.footage.cpu() + sigma * noise[0]

    def denoiser(self, timestep: float) -> str:
        boundary = self.config.boundary
        return "transformer" if boundary is None or timestep >= boundary * 1000 else "transformer_2"

    @torch.inference_mode()
    def velocity(
        self,
        denoiser: Any,
        latents: Tensor,
        *,
        time: StepTime,
        plan: Plan,
        conditions: WanConditions,
        on_pass: Callable[[], None],
    ) -> Tensor:
        """Two passes, or one without guidance.

        One batch of both is no faster (116 ms against 2 x 63 on one CPU thread), needs twice the memory, and a
        stop would have to wait for it.
        """
        known = self._settle(latents, conditions=conditions)
        if conditions.channels is not None:
            known = torch.cat([known, conditions.channels.to(known)], dim=1)
        dtype, extra = input_dtype(denoiser), dict[str, Tensor]()
        if conditions.seen is not None:
            extra["encoder_hidden_states_image"] = conditions.seen.to(known.device, dtype)
        if conditions.control is not None:
            extra["control_hidden_states"] = conditions.control.to(known.device, dtype)
        timestep = self._times(latents, timestep=time.timestep, conditions=conditions)
        stage = self.stages(plan)[time.stage]

        def flow(text: Tensor, name: str) -> Tensor:
            with named_pass(denoiser, name, time=time, stage=stage):
                velocity: Tensor = denoiser(
                    hidden_states=known.to(dtype),
                    timestep=timestep,
                    encoder_hidden_states=text.to(known.device, dtype),
                    return_dict=False,
                    **extra,
                )[0]
            on_pass()
            return velocity.float()

        second = self.denoiser(float(time.timestep)) == "transformer_2"
        scale = (plan.guidance_2 or plan.guidance) if second else plan.guidance
        wanted = flow(conditions.prompt, "prompt")
        if conditions.negative is None or scale == 1:
            return wanted
        return classifier_free_guidance(wanted, flow(conditions.negative, "negative"), scale=scale)

    def finish(
        self,
        stage: int,  # noqa: ARG002  # a Wan has one
        latents: Tensor,
        *,
        plan: Plan,
        conditions: WanConditions,
        done: Tensor | None,  # noqa: ARG002
    ) -> Tensor:
        references = plan.num_references if self.config.control else 0
        settled = self._settle(latents, conditions=conditions)[:, :, references:]
        if conditions.before is None or conditions.first_frame is None:
            return settled
        return torch.cat([conditions.before.to(settled), settled[:, :, conditions.first_frame.shape[2] :]], dim=2)

    def decode_sound(self, latents: Tensor, *, plan: Plan, use: Use) -> Sound | None:  # noqa: ARG002
        return None

    @torch.inference_mode()
    def decode(self, latents: Tensor, *, plan: Plan, use: Use) -> Generator[NDArray[np.uint8]]:
        with use("vae") as vae:
            yield from checked_frames(self._decoded(vae, restore_latents(vae, latents), plan=plan))

    def _decoded(self, vae: Any, latents: Tensor, *, plan: Plan) -> Iterator[Tensor]:
        """Piece by piece without a seam; in tiles only where a single frame is too large."""

        def pieces(part: Tensor, *, width: int, height: int) -> Iterator[Tensor]:
            at_once = self.latents_at_once(width=width, height=height, item_bytes=vae.dtype.itemsize)
            return decode_pieces(vae, part, at_once=at_once)

        tiles = None if plan.residency is None else plan.residency.vae_tiles
        if tiles is None or (tiles[1] >= plan.height and tiles[2] >= plan.width):
            return pieces(latents, width=plan.width, height=plan.height)
        tile = Tile.of(tiles, frame_scale=self.config.frame_scale, scale=self.config.scale)
        return decode_in_tiles(
            lambda part: torch.cat(list(pieces(part, width=tiles[2], height=tiles[1])), dim=2), latents, tile=tile
        )

    @torch.inference_mode()
    def preview(self, stage: int, latents: Tensor, *, plan: Plan, use: Use) -> NDArray[np.uint8]:  # noqa: ARG002
        """The whole clip is decoded from latents made smaller: soft, but true in colour and motion."""
        latents = latents[:, :, plan.num_references if self.config.control else 0 :]
        scale = min(PREVIEW_SCALE, PREVIEW_CELLS / max(latents.shape[-2:]))
        small = nn.functional.interpolate(latents, scale_factor=(1, scale, scale), mode="area")
        with use("vae") as vae:
            pieces = list(decode_pieces(vae, restore_latents(vae, small), at_once=PREVIEW_AT_ONCE))
        video = torch.cat(pieces, dim=2)
        chosen = torch.linspace(0, video.shape[2] - 1, min(PREVIEW_FRAMES, video.shape[2])).round().long()
        return to_frames(video[0, :, chosen.to(video.device)].nan_to_num())

    def blocks(self, denoiser: Any) -> Sequence[nn.Module]:
        return tuple(denoiser.blocks)

    def side_blocks(self, denoiser: Any) -> Sequence[nn.Module]:
        return tuple(denoiser.vace_blocks) if self.config.control else ()

    def _settle(self, latents: Tensor, *, conditions: WanConditions) -> Tensor:
        """Put what is known at the start in the place of what was computed there."""
        if conditions.first_frame is None:
            return latents
        return torch.cat([conditions.first_frame.to(latents), latents[:, :, conditions.first_frame.shape[2] :]], dim=2)

    def _times(self, latents: Tensor, *, timestep: Tensor, conditions: WanConditions) -> Tensor:
        """One time for the clip (1,); with a known start one a token (1, tokens), 0 where it is known."""
        timestep = timestep.to(latents.device)
        if conditions.first_frame is None:
            return timestep.expand(1)
        frames, rows, columns = (
            side // patch for side, patch in zip(latents.shape[2:], self.config.patch, strict=True)
        )
        times = timestep.float().repeat(frames, rows * columns)
        times[: conditions.first_frame.shape[2]] = 0
        return times.reshape(1, -1)

    def _fits_whole(self, plan: Plan, *, item_bytes: int) -> bool:
        """Whether the VAE may take the clip in one go."""
        shapes = self.shapes(width=plan.width, height=plan.height, num_frames=plan.num_frames, dtype=plan.dtype)
        return self.widest_layer_bytes(shapes.latents, item_bytes=item_bytes) <= WHOLE_ENCODE_BYTES

    def _image_processor(self) -> Any:
        from transformers import CLIPImageProcessor

        return CLIPImageProcessor.from_pretrained(self.folder.path / "image_processor")


_Builder = tuple[Callable[[], nn.Module], tuple[str, ...], dict[str, str]]


def _builders(config: dict[str, Any]) -> dict[str, _Builder]:
    """How each component is made: its class, what stays in float32, which tensors are one and the same."""
    import diffusers
    from transformers import CLIPVisionConfig, CLIPVisionModel, UMT5Config, UMT5EncoderModel

    autoencoder: Any = diffusers.AutoencoderKLWan
    control = config.get("vace_layers") is not None
    transformer: Any = diffusers.WanVACETransformer3DModel if control else diffusers.WanTransformer3DModel
    denoiser: _Builder = (lambda: transformer.from_config(config), tuple(transformer._keep_in_fp32_modules), {})
    shared, embedding = "shared.weight", "encoder.embed_tokens.weight"
    return {
        "text_encoder": (
            lambda: UMT5EncoderModel(UMT5Config.from_dict(config)),
            (),
            {embedding: shared, shared: embedding},
        ),
        "image_encoder": (lambda: CLIPVisionModel(CLIPVisionConfig.from_dict(config)), (), {}),
        "transformer": denoiser,
        "transformer_2": denoiser,
        "vae": (lambda: autoencoder.from_config(config), (), {}),
    }


def _restore_buffers(network: Any, *, component: str, device: str) -> None:
    """Tables of positions are not stored in files: make them anew."""
    if component.startswith("transformer"):
        config = network.config
        table = type(network.rope)(config.attention_head_dim, config.patch_size, config.rope_max_seq_len)
        network.rope = table.to(device)
    elif component == "image_encoder":
        embeddings = network.embeddings
        embeddings.position_ids = torch.arange(embeddings.num_positions, device=device)[None]


def _name_in_network(name: str) -> str | None:
    """Files of CLIP name their tensors as older releases of transformers did, and may hold a table of positions."""
    return None if name.endswith("embeddings.position_ids") else name.removeprefix("vision_model.")
