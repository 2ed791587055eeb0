"""A small network that tells the student's clips from the teacher's, given the words: the adversarial part.

Its gradients cost a fifth of those of the student, and it sees at once what a mean of many clips lacks: sharp edges.
It looks at slightly noisy clips, so that it cannot learn the cached ones by heart.
Shape letters: B batch, C channels, T latent frames, H height, W width, L text tokens, D features.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from homereel.sampling import renoised

BLUR = 0.1
"""The share of noise in which both kinds of clips are shown."""
SMOOTHNESS = 10.0
NUDGE = 0.02


class Judge(nn.Module):
    """Higher is more like the teacher's: one number a clip and place, from the clip and its words."""

    def __init__(self, channels: int, text_dim: int, *, width: int = 48) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv3d(channels, width, (1, 3, 3), padding=(0, 1, 1)),
            nn.SiLU(),
            nn.Conv3d(width, 2 * width, (3, 3, 3), stride=(1, 2, 2), padding=1),
            nn.GroupNorm(8, 2 * width),
            nn.SiLU(),
            nn.Conv3d(2 * width, 2 * width, (3, 3, 3), stride=(2, 2, 2), padding=1),
            nn.GroupNorm(8, 2 * width),
            nn.SiLU(),
        )
        self.words = nn.Linear(text_dim, 2 * width)
        self.plain = nn.Conv3d(2 * width, 1, 1)

    def forward(self, clip_BCTHW: Tensor, text_BLD: Tensor) -> Tensor:
        """(B, places)."""
        features = self.layers(clip_BCTHW)
        words = self.words(_mean_of_words(text_BLD)).view(len(text_BLD), -1, 1, 1, 1)
        fit = (features * words).mean(1, keepdim=True)
        told: Tensor = self.plain(features) + fit
        return told.flatten(1)


def deceive_loss(judge: nn.Module, clip: Tensor, noise: Tensor, text_BLD: Tensor) -> Tensor:
    """For the student: be taken for the teacher."""
    loss: Tensor = F.softplus(-judge(renoised(clip, noise, sigma=BLUR), text_BLD)).mean()
    return loss


def judge_loss(judge: nn.Module, made: Tensor, real: Tensor, noise: Tensor, text: tuple[Tensor, Tensor]) -> Tensor:
    """For the judge: tell which is which, and change little where clips change little.

    The last is R1's aim without second derivatives (Lin et al. 2025, arXiv 2501.08316). `text` are the words of the
    made and of the real clips.
    """
    made, real = (renoised(clip, noise, sigma=BLUR) for clip in (made, real))
    of_made, of_real = judge(made, text[0]), judge(real, text[1])
    nudged = judge(real + NUDGE * torch.randn_like(real), text[1])
    smooth = (nudged - of_real).square().mean() / NUDGE**2
    loss: Tensor = F.softplus(of_made).mean() + F.softplus(-of_real).mean() + SMOOTHNESS * NUDGE * smooth
    return loss


def _mean_of_words(text_BLD: Tensor) -> Tensor:
    """Texts are filled up with zeros, which do not count."""
    count = (text_BLD != 0).any(-1).sum(1, keepdim=True).clamp(min=1)
    return text_BLD.sum(1) / count
