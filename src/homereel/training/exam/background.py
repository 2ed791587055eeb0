"""Reads light, floor colour and camera from what lies behind the object, by matching the world's own background.

Wall and floor have known colours, so the light is what must be divided out to find them; the wall's panels and the
known parallax then give pan and zoom in every frame. Colours "at day" are colours after that division.

Shape letters: T frames, C channels, H height, W width, K camera poses tried.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from homereel.training.exam.clip import Clip
from homereel.training.world.draw import EYE, FAR, HORIZON, WALL_TINT
from homereel.training.world.scene import FLOOR_COLORS, LIGHTS

WALL_ABOVE = 0.22
"""Rows above this height are wall at every zoom; rows below FLOOR_BELOW are floor, mostly bare."""
FLOOR_BELOW = 0.6
PANEL = 0.05
MIN_LIGHT_SHARE, MIN_FLOOR_SHARE = 0.5, 0.45
"""A light must explain at least so much of the wall, a floor colour so much of the lowest rows."""
PANS = torch.linspace(-0.5, 0.5, 51)
LOG_ZOOMS = torch.linspace(-0.45, 0.54, 34)


@dataclass(frozen=True)
class Background:
    """What lies behind the object."""

    light: str | None
    light_share: float
    """How much of the wall the light explains."""
    floor: str | None
    floor_share: float
    pan_T: Tensor
    zoom_T: Tensor
    fit_T: Tensor
    """Correlation of the wall's panels with their model in every frame."""
    day_TCHW: Tensor
    """The frames with the light divided out."""
    wall_TCHW: Tensor
    ground_TCHW: Tensor
    """Wall and floor as they would look by day without object and shadow (the floor's last axis has length 1)."""
    floor_TH: Tensor
    """1 in rows of floor, 0 in rows of wall."""


def fit_background(clip: Clip) -> Background:
    """Find light, floor and camera of a clip."""
    wall = clip.frames_TCHW[:, :, clip.v_H < WALL_ABOVE]
    wall_v_H = clip.v_H[clip.v_H < WALL_ABOVE]
    light, light_share, gain_TC = _fit_light(wall, wall_v_H)
    day = clip.frames_TCHW / gain_TC[:, :, None, None]
    pan_T, zoom_T, fit_T = _fit_camera(day[:, :, clip.v_H < WALL_ABOVE], wall_v_H, clip.u_W)
    floor, floor_share, floor_color_TC = _fit_floor(day[:, :, clip.v_H > FLOOR_BELOW], clip.v_H[clip.v_H > FLOOR_BELOW])
    tint_C11 = torch.tensor(WALL_TINT).view(3, 1, 1)
    far_T11 = zoom_T.view(-1, 1, 1) ** FAR
    v_H1, u_1W = clip.v_H.view(-1, 1), clip.u_W.view(1, -1)
    plain_TH1 = _wall_shade(v_H1, far_T11)
    wall_THW = plain_TH1 + panels(u_1W, far_T11, pan_T.view(-1, 1, 1))
    ground_TH1 = _ground_shade(v_H1, far_T11)
    horizon_T1 = EYE + (HORIZON - EYE) * far_T11.view(-1, 1)
    return Background(
        light=light,
        light_share=light_share,
        floor=floor,
        floor_share=floor_share,
        pan_T=pan_T,
        zoom_T=zoom_T,
        fit_T=fit_T,
        day_TCHW=day,
        wall_TCHW=wall_THW[:, None] * tint_C11,
        ground_TCHW=ground_TH1[:, None] * floor_color_TC[:, :, None, None],
        floor_TH=((clip.v_H - horizon_T1) / clip.pixel + 0.5).clamp(0, 1),
    )


def panels(u: Tensor, far: Tensor, pan: Tensor) -> Tensor:
    """The wall's pattern of soft panels, around 0."""
    return PANEL * torch.tanh(3 * torch.sin(4.5 * (u / far + FAR * pan)))


def _wall_shade(v: Tensor, far: Tensor | float) -> Tensor:
    return 0.60 - 0.10 * ((v - EYE) / far + EYE)


def _ground_shade(v: Tensor, far: Tensor | float) -> Tensor:
    return 0.88 + 0.30 * ((v - EYE) / far + EYE - HORIZON).clamp(min=0)


def _fit_light(wall_TCHW: Tensor, v_H: Tensor) -> tuple[str | None, float, Tensor]:
    """The light that explains the most wall pixels, their share, and its gain in every frame and channel."""
    model_CH1 = _wall_shade(v_H, 1.0).view(1, -1, 1) * torch.tensor(WALL_TINT).view(3, 1, 1)
    ratio = wall_TCHW / model_CH1
    best_name, best_share, best_inlier = None, 0.0, torch.zeros_like(ratio[:, 0])
    for name, light in LIGHTS.items():
        relative = ratio / torch.tensor(light).view(3, 1, 1)
        level = relative.mean(1, keepdim=True)
        even = ((relative / level.clamp(min=0.05) - 1).abs().amax(1) < 0.09).float()
        inlier = even * ((level[:, 0] - 1).abs() < 0.26).float()
        share = float(inlier.mean())
        if share > best_share:
            best_name, best_share, best_inlier = name, share, inlier
    if best_name is None or best_share < MIN_LIGHT_SHARE:
        return None, best_share, torch.ones(ratio.shape[0], 3)
    base_C = (ratio * best_inlier[:, None]).sum((0, 2, 3)) / best_inlier.sum()
    count_T = best_inlier.sum((1, 2))
    frame_TC = (ratio * best_inlier[:, None]).sum((2, 3)) / count_T.clamp(min=1)[:, None]
    drift_T1 = (frame_TC / base_C).mean(1, keepdim=True)
    trust_T1 = (count_T / best_inlier[0].numel() / 0.1).clamp(0, 1)[:, None]
    return best_name, best_share, base_C * torch.lerp(torch.ones_like(drift_T1), drift_T1, trust_T1)


def _fit_floor(day_TCHW: Tensor, v_H: Tensor) -> tuple[str | None, float, Tensor]:
    """The floor colour that explains the most of the lowest rows, its share, and the colour as it really is: one for
    all frames, or where none explains enough, one for each."""
    ratio = day_TCHW / _ground_shade(v_H, 1.0).view(-1, 1)
    best_name, best_share, best_inlier = None, 0.0, torch.zeros_like(ratio[:, 0])
    for name, color in FLOOR_COLORS.items():
        inlier = ((ratio - torch.tensor(color).view(3, 1, 1)).abs().amax(1) < 0.09).float()
        share = float(inlier.mean())
        if share > best_share:
            best_name, best_share, best_inlier = name, share, inlier
    if best_name is None or best_share < MIN_FLOOR_SHARE:
        return None, best_share, ratio.flatten(2).median(2).values
    color_C = (ratio * best_inlier[:, None]).sum((0, 2, 3)) / best_inlier.sum()
    return best_name, best_share, color_C.expand(len(ratio), 3)


def _fit_camera(day_TCHW: Tensor, v_H: Tensor, u_W: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Pan, zoom and the correlation of the wall's panels with their model, in every frame."""
    level_CTHW = day_TCHW.transpose(0, 1) / torch.tensor(WALL_TINT).view(3, 1, 1, 1)
    level = level_CTHW.mean(0)
    even = (level_CTHW - level).abs().amax(0) < 0.06
    relief = level - _wall_shade(v_H, 1.0).view(-1, 1)
    weight = (even & (relief.abs() < 0.11)).float()
    weight_TW = weight.sum(1)
    profile_TW = (relief * weight).sum(1) / weight_TW.clamp(min=1e-3)
    model_KW, pan_K, log_zoom_K = _poses(tuple(u_W.tolist()))
    score_TK = _correlation(profile_TW, weight_TW, model_KW)
    pan, log_zoom = _peak(score_TK, pan_K, log_zoom_K)
    return pan, log_zoom.exp(), score_TK.amax(1)


@lru_cache(maxsize=8)
def _poses(u: tuple[float, ...]) -> tuple[Tensor, Tensor, Tensor]:
    pan, log_zoom = (grid.reshape(-1) for grid in torch.meshgrid(PANS, LOG_ZOOMS, indexing="ij"))
    far = torch.exp(FAR * log_zoom)
    return panels(torch.tensor(u), far.view(-1, 1), pan.view(-1, 1)), pan, log_zoom


def _correlation(profile_TW: Tensor, weight_TW: Tensor, model_KW: Tensor) -> Tensor:
    """Weighted correlation of every profile with every model."""
    total_T1 = weight_TW.sum(1, keepdim=True).clamp(min=1e-3)
    share_TW = weight_TW / total_T1
    mean_T1 = (share_TW * profile_TW).sum(1, keepdim=True)
    centred_TW = (profile_TW - mean_T1) * share_TW
    power_T1 = (centred_TW * (profile_TW - mean_T1)).sum(1, keepdim=True)
    cross_TK = centred_TW @ model_KW.T
    model_power_TK = share_TW @ (model_KW**2).T - (share_TW @ model_KW.T) ** 2
    return cross_TK / (power_T1 * model_power_TK).clamp(min=1e-10).sqrt()


def _peak(score_TK: Tensor, pan_K: Tensor, log_zoom_K: Tensor) -> tuple[Tensor, Tensor]:
    """The best pose of every frame, between the grid's points: a mean weighted by nearness to the top."""
    top_T1 = score_TK.amax(1, keepdim=True)
    near_TK = torch.softmax((score_TK - top_T1) * 400, dim=1)
    return near_TK @ pan_K, near_TK @ log_zoom_K
