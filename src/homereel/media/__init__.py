"""Files in and out: clips, pictures, contact sheets and the records they carry. Hostile files end here.

PyAV and Pillow are imported when a file is first written or read, not before.
"""

from homereel.media.compare import psnr
from homereel.media.contact_sheet import contact_sheet
from homereel.media.limits import Limits
from homereel.media.private import strip_private
from homereel.media.probe import Probe, probe
from homereel.media.read import Clip, read_clip, read_image
from homereel.media.read_record import read_record
from homereel.media.record_text import parameters_text
from homereel.media.target import check_target, sidecar_path
from homereel.media.write import write_clip, write_sidecar

__all__ = [
    "Clip",
    "Limits",
    "Probe",
    "check_target",
    "contact_sheet",
    "parameters_text",
    "probe",
    "psnr",
    "read_clip",
    "read_image",
    "read_record",
    "sidecar_path",
    "strip_private",
    "write_clip",
    "write_sidecar",
]
