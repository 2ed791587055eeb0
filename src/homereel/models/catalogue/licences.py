"""The licences that entries of the catalogue name."""

from __future__ import annotations

from homereel.models.card import Licence

APACHE = Licence(name="Apache-2.0", kind="open", url="https://www.apache.org/licenses/LICENSE-2.0")
HUNYUAN_LICENCE = Licence(
    name="Tencent Hunyuan Community",
    kind="regional",
    url="https://github.com/Tencent-Hunyuan/HunyuanVideo-1.5/blob/master/LICENSE",
    terms="not for use in the EU, the UK and South Korea; above 100 million monthly users only with permission; "
    "what it makes may not train other models",
)
LTX_LICENCE = Licence(
    name="LTX-2.x Community",
    kind="revenue",
    url="https://github.com/Lightricks/LTX-2/blob/main/LICENSE-2_x",
    terms="entities with a yearly revenue of 10 million dollars or more need a paid licence for commercial use",
)
SKYWORK_LICENCE = Licence(
    name="Skywork",
    kind="unknown",
    url="https://huggingface.co/Skywork/SkyReels-V2-T2V-14B-720P-Diffusers/blob/main/LICENSE",
    terms="not for unlawful use, nor for internet services without a security review; read the text itself",
)
