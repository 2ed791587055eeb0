"""SkyReels-V2 with diffusion forcing over diffusers' networks: long films, window after window.

A window begins with the last latents of what is done, which count as known: they have a time of their own and are
not changed. Latents are kept from window to window, so no picture goes through the VAE twice. Words, first picture
and VAE are Wan's. The makers' asynchronous order, where later frames lag behind, is not here: it gives each frame
its own noise level in one step, and a step of ours has one.

Shape letters: B batch, C channels, T latent frames, H height, W width, L text tokens, D features.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from homereel.core.plan import Plan
from homereel.core.protocols import StepTime, Use
from homereel.models.network_pass import input_dtype, named_pass
from homereel.models.skyreels.facts import SkyreelsFacts
from homereel.models.wan.family import WanConditions, WanFamily
from homereel.sampling import classifier_free_guidance, noise_alone
from homereel.sampling.schedules import NUM_TRAIN_TIMESTEPS
from homereel.weights.load import load_network

# In a clip of several windows, known frames are shown with this much noise (of 1000), which hides the seams.
KNOWN_NOISE = 20
# The paces that the transformer can be told, by their number in its table.
PACES = (16, 24)


@dataclass(frozen=True)
class SkyreelsFamily(SkyreelsFacts, WanFamily):
    """A SkyReels-V2 that can compute; see `Family` for what each part means, and `WanFamily` for what is shared."""

    def load(self, component: str, *, device: str, dtype: str) -> nn.Module:
        if component != "transformer":
            return super().load(component, device=device, dtype=dtype)
        import diffusers

        kind: Any = diffusers.SkyReelsV2Transformer3DModel
        network: Any = load_network(
            lambda: kind.from_config(self.folder.config(component)),
            folder=self.folder,
            component=component,
            device=device,
            dtype=dtype,
            keep_float32=tuple(kind._keep_in_fp32_modules),
        )
        config = network.config  # the table of positions is not stored in files
        table = type(network.rope)(config.attention_head_dim, config.patch_size, config.rope_max_seq_len)
        network.rope = table.to(device)
        loaded: nn.Module = network
        return loaded

    def begin(
        self,
        stage: int,
        noise: Sequence[Tensor],
        *,
        plan: Plan,
        conditions: WanConditions,
        done: Tensor | None,
        sigma: float,
        use: Use,  # noqa: ARG002
    ) -> Tensor:
        """Noise behind a given first frame, or behind the end of what is done."""
        unknown = noise_alone(noise[0], sigma=sigma)
        if done is None:
            return self._settle(unknown, conditions=conditions)
        carried = self.windows(plan.num_frames)[stage].num_carried
        return torch.cat([done[:, :, -carried:].to(unknown), unknown[:, :, carried:]], dim=2)

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
        """Two passes, or one without guidance; known frames do not move."""
        windows = self.windows(plan.num_frames)
        known = windows[time.stage].num_carried or int(conditions.first_frame is not None)
        noise_time = KNOWN_NOISE if len(windows) > 1 else 0
        times = time.timestep.to(latents.device).repeat(1, latents.shape[2])
        times[:, :known] = noise_time
        seen = latents
        if known and noise_time:
            share = noise_time / NUM_TRAIN_TIMESTEPS
            fresh = known_noise(latents[:, :, :known].shape, seed=plan.seed, stage=time.stage, step=time.step)
            noisy = latents[:, :, :known] * (1 - share) + fresh.to(latents) * share
            seen = torch.cat([noisy, latents[:, :, known:]], dim=2)

        stage, dtype = self.stages(plan)[time.stage], input_dtype(denoiser)

        def flow(text: Tensor, name: str) -> Tensor:
            with named_pass(denoiser, name, time=time, stage=stage):
                velocity: Tensor = denoiser(
                    hidden_states=seen.to(dtype),
                    timestep=times,
                    encoder_hidden_states=text.to(seen.device, dtype),
                    enable_diffusion_forcing=True,
                    fps=[nearest_pace(plan.fps)],
                    return_dict=False,
                )[0]
            on_pass()
            return velocity.float()

        moving = flow(conditions.prompt, "prompt")
        if conditions.negative is not None and plan.guidance != 1:
            moving = classifier_free_guidance(moving, flow(conditions.negative, "negative"), scale=plan.guidance)
        return torch.cat([torch.zeros_like(moving[:, :, :known]), moving[:, :, known:]], dim=2)

    def finish(
        self, stage: int, latents: Tensor, *, plan: Plan, conditions: WanConditions, done: Tensor | None
    ) -> Tensor:
        """What is done with the window's new frames behind it; what was done stays as it is, bit for bit."""
        if done is None:
            return self._settle(latents, conditions=conditions)
        carried = self.windows(plan.num_frames)[stage].num_carried
        return torch.cat([done.to(latents), latents[:, :, carried:]], dim=2)


def known_noise(shape: Sequence[int], *, seed: int, stage: int, step: int) -> Tensor:
    """The noise that known frames are shown with at this step.

    It depends on nothing but these numbers, so that a clip taken up in the middle gets the same.
    """
    mixed = np.random.SeedSequence([seed, stage, step]).generate_state(1)
    generator = torch.Generator("cpu").manual_seed(int(mixed[0]))
    return torch.randn(tuple(shape), generator=generator, dtype=torch.float32)


def nearest_pace(fps: float) -> int:
    """The number in the transformer's table of the pace nearest to this one."""
    return min(range(len(PACES)), key=lambda index: abs(PACES[index] - fps))
