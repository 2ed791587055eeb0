"""The models that homereel knows by name: data only, one file a family; what is installed is looked up.

A fact that is not known is None. `download_bytes` is what the repository held when it was looked up, or else the
sum of its weights in bfloat16; the hub tells the exact number before anything is fetched.
"""

from __future__ import annotations

from homereel.models.card import ModelCard
from homereel.models.catalogue.hunyuan import HUNYUAN
from homereel.models.catalogue.ltx import LTX
from homereel.models.catalogue.pocket import POCKET
from homereel.models.catalogue.skyreels import SKYREELS
from homereel.models.catalogue.turbowan import TURBOWAN
from homereel.models.catalogue.wan import WAN

CATALOGUE: tuple[ModelCard, ...] = (*POCKET, *WAN, *TURBOWAN, *HUNYUAN, *LTX, *SKYREELS)
