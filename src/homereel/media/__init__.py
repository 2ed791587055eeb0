"""Files in and out: clips, sound, pictures, masks, contact sheets and the records they carry. Hostile files end here.

PyAV and Pillow are imported when a file is first written or read, not before.
"""

from homereel.media.compare import psnr
from homereel.media.contact_sheet import contact_sheet
from homereel.media.decode_sound import SoundTrack
from homereel.media.frame_source import FrameStream
from homereel.media.limits import Limits
from homereel.media.private import strip_private
from homereel.media.probe import Probe, probe
from homereel.media.read import Clip, read_clip
from homereel.media.read_image import read_image
from homereel.media.read_mask import read_mask
from homereel.media.read_record import read_record
from homereel.media.read_sound import read_sound
from homereel.media.record_text import parameters_text
from homereel.media.retime import num_frames_at
from homereel.media.sound_source import SoundStream
from homereel.media.target import check_target, sidecar_path
from homereel.media.write import carries_sound, write_clip, write_sidecar

__all__ = [
    "Clip",
    "FrameStream",
    "Limits",
    "Probe",
    "SoundStream",
    "SoundTrack",
    "carries_sound",
    "check_target",
    "contact_sheet",
    "num_frames_at",
    "parameters_text",
    "probe",
    "psnr",
    "read_clip",
    "read_image",
    "read_mask",
    "read_record",
    "read_sound",
    "sidecar_path",
    "strip_private",
    "write_clip",
    "write_sidecar",
]
