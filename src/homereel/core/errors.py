"""Every error that homereel raises on purpose, in one tree; each carries the exit code of the command line.

    HomereelError                 1
    ├── InvalidRequest            2   the wish itself is wrong; .field names the field
    │   ├── UnknownModel          2   no such model; the message names the nearest
    │   ├── UnsupportedInput      2   the model does not take this input
    │   ├── TooLarge              2   more bytes than are taken
    │   └── DoesNotFit            2   the clip needs more memory than there is, whatever is given up for it
    │       └── RanOutOfMemory    2   it seemed to fit, and memory ran out midway
    ├── MediaError                2   a picture, a clip or a target file
    │   ├── UnreadableMedia       2   not media, the wrong format, or over a limit
    │   └── UnwritableTarget      2   no such folder, no permission, disk full
    ├── WeightsError              1   missing, damaged or foreign model files
    ├── UnsupportedPass           2   a speed technique that this model or machine cannot take
    ├── GenerationFailed          1   numbers that are not finite, or an empty picture
    ├── JobsError                 1   something about queued work
    │   ├── UnknownJob            2   no such job
    │   ├── WrongState            2   what was asked does not go with the job's present state
    │   ├── KeyReused             2   an idempotency key came again with another request
    │   ├── LeaseLost             1   the job is another worker's by now; what was made of it is dropped
    │   ├── StoreUnavailable      1   the database is locked, full or out of reach: trying later may help
    │   └── StoreDamaged          1   the database cannot be read; the message names its backup
    └── Stopped                 130   a stop was asked for; nothing is left behind

A message is one line and says what was wrong, what is allowed, and what to try.
"""

from __future__ import annotations

from typing import ClassVar


class HomereelError(Exception):
    """The root: catch this to catch everything that homereel raises on purpose."""

    exit_code: ClassVar[int] = 1


class InvalidRequest(HomereelError):
    """The request cannot be carried out as written. `field` names the field at fault, or is empty."""

    exit_code: ClassVar[int] = 2

    def __init__(self, message: str, *, field: str = "") -> None:
        super().__init__(message)
        self.field = field


class UnknownModel(InvalidRequest):
    """No model has this name."""


class UnsupportedInput(InvalidRequest):
    """The model exists, but does not take an input of this kind."""


class TooLarge(InvalidRequest):
    """What was handed over has more bytes than are taken."""


class DoesNotFit(InvalidRequest):
    """No way of making this clip fits into the memory there is. The message names the smallest change that would."""


class RanOutOfMemory(DoesNotFit):
    """Memory ran out midway, and nothing was left to give up."""


class MediaError(HomereelError):
    """Something is wrong with a picture, a clip or the file to be written."""

    exit_code: ClassVar[int] = 2


class UnreadableMedia(MediaError):
    """The file is no media, has another format than allowed, or is over a limit."""


class UnwritableTarget(MediaError):
    """The target cannot be written: no such folder, no permission, disk full."""


class WeightsError(HomereelError):
    """Model files are missing, damaged or not what they claim to be."""


class UnsupportedPass(HomereelError):
    """A technique cannot be applied to this model on this machine."""

    exit_code: ClassVar[int] = 2


class GenerationFailed(HomereelError):
    """The model gave numbers or pictures that are worth nothing; no file is written."""


class JobsError(HomereelError):
    """Something is wrong with queued work or with the place where it is kept."""


class UnknownJob(JobsError):
    """No job has this id, or it was deleted."""

    exit_code: ClassVar[int] = 2


class WrongState(JobsError):
    """The job is in a state in which this cannot be done, such as pausing one that is completed."""

    exit_code: ClassVar[int] = 2


class KeyReused(JobsError):
    """The idempotency key stands for another request already."""

    exit_code: ClassVar[int] = 2


class LeaseLost(JobsError):
    """The worker no longer holds the job: it was given to another, ended or deleted. Its result is not taken."""


class StoreUnavailable(JobsError):
    """The database cannot serve now: locked by another program, disk full, no permission, no connection."""


class StoreDamaged(JobsError):
    """The database is damaged, foreign, or of a newer version. Nothing of it was changed."""


class Stopped(HomereelError):
    """The work ended because a stop was asked for."""

    exit_code: ClassVar[int] = 130
