"""One job from claim to publish: taken up where it was left, watched over, and shown only when it is whole."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from homereel.core.errors import InvalidRequest, LeaseLost, Stopped, StoreUnavailable, UnknownJob, UnwritableTarget
from homereel.core.request import Request
from homereel.jobs.blobs import CLIP, LATENTS, JobFolder
from homereel.jobs.causes import Cause, cause_of
from homereel.jobs.heartbeat import BEAT_SECONDS, Heartbeat
from homereel.jobs.job_log import JobLog
from homereel.jobs.live_preview import LivePreview
from homereel.jobs.outputs import OUTPUTS, check_room, write_outputs
from homereel.jobs.parent_clip import with_parent_clips
from homereel.jobs.records import Job, Lease, Returned, Wanted
from homereel.jobs.saved_state import SavedState, remove_leftovers
from homereel.jobs.store import JobStore
from homereel.jobs.warm_model import WarmModel

if TYPE_CHECKING:
    from homereel.core.events import Progress
    from homereel.core.plan import Plan
    from homereel.core.result import FiledClip
    from homereel.engine.state import DenoiseState

_Told = TypeVar("_Told")
# How long a store that is locked or full is waited for when a job has ended.
_PATIENCE_SECONDS = 60.0
_RETURNED: dict[Wanted, Returned] = {"run": "queued", "pause": "paused", "cancel": "cancelled"}
_RESERVE_BYTES = 2**18


@dataclass(frozen=True)
class Workplace:
    """Where a worker does one job after the other. `make` is the engine's `generate_file`, or stands in for it."""

    store: JobStore
    data: Path
    warm: WarmModel = field(default_factory=WarmModel)
    make: Callable[..., FiledClip] | None = None
    beat_seconds: float = BEAT_SECONDS

    def work(self, lease: Lease, *, leaving: Callable[[], bool] = lambda: False) -> Job | None:
        """Do a claimed job to its end, or until it must stop; returns it as it is then.

        When `leaving` says so the job goes back into the queue, to be taken up at the same step. None if the lease was
        lost: then nothing of this worker's is shown. Raises StoreUnavailable if the store could not be told.
        """
        folder = JobFolder(self.data, lease.job.id)
        log = JobLog(folder.log, worker=lease.worker)
        with Heartbeat(self.store, lease, say=log.say, seconds=self.beat_seconds) as heart:
            attempt = _Attempt(self, lease, folder=folder, log=log, heart=heart, leaving=leaving)
            try:
                return attempt.run()
            except LeaseLost as lost:
                log.say(f"stopped, and nothing was published: {lost}")
                attempt.leave_nothing()
                return None
            finally:
                attempt.remove_part()


class _Attempt:
    """One worker's go at one job."""

    def __init__(
        self,
        place: Workplace,
        lease: Lease,
        *,
        folder: JobFolder,
        log: JobLog,
        heart: Heartbeat,
        leaving: Callable[[], bool],
    ) -> None:
        self.place, self.lease, self.folder, self.log, self.heart = place, lease, folder, log, heart
        self.leaving = leaving
        self.part = folder.path / f".part-{lease.token}"
        self.state = SavedState(folder.state, say=log.say)
        self.preview = LivePreview(folder.preview, say=log.say)
        self.plan: Plan | None = None

    def run(self) -> Job:
        """To the end, whichever it is. Raises LeaseLost."""
        cause: Cause | None = None
        try:
            self._prepare()
            return self._publish(self._make_and_write(self._request()))
        except (LeaseLost, StoreUnavailable):
            raise
        except Stopped:
            pass
        except Exception as error:  # noqa: BLE001  whatever a model raises ends its job, not the worker
            cause = cause_of(error)
            self.log.say(f"failed ({cause.error.code}): {cause.error.message}")
            if cause.retry:
                self.log.trace(error)
        # Outside the handlers, where the exception and the tensors that it holds are gone.
        return self._step_aside() if cause is None else self._fail(cause)

    def remove_part(self) -> None:
        """What was written and not shown."""
        shutil.rmtree(self.part, ignore_errors=True)

    def leave_nothing(self) -> None:
        """The lease is lost: if the job has come to its end meanwhile, nobody needs what was saved too late."""
        with suppress(UnknownJob, StoreUnavailable):
            if self.place.store.get(self.lease.job.id).status in ("completed", "cancelled"):
                self.state.remove()
                self.preview.remove()

    def _prepare(self) -> None:
        """Remove what killed workers left; one that still lives has lost its lease, and now its unfinished files."""
        try:
            self.folder.make()
            for left in self.folder.path.glob(".part-*"):
                shutil.rmtree(left, ignore_errors=True)
            remove_leftovers(self.folder.state)
            self.part.mkdir(mode=0o700)
            # It goes with the folder, so that a full disk has room to say how the job ended.
            (self.part / "reserve").write_bytes(bytes(_RESERVE_BYTES))
        except (StoreUnavailable, OSError) as error:
            raise UnwritableTarget(f"the job's folder cannot be used: {error}; free some room on its disk") from error

    def _request(self) -> Request:
        """With its seed, and the clips of other jobs that it names where they lie."""
        return with_parent_clips(
            _fixed_request(self.lease.job), store=self.place.store, data=self.place.data, folder=self.folder
        )

    def _make_and_write(self, request: Request) -> dict[str, Any]:
        """The finished files, in the hidden folder."""
        state = self.state.load()
        try:
            clip = self._make(request, resume=state)
        except InvalidRequest as error:
            if state is None or error.field != "resume":
                raise
            self.log.say(f"the saved state does not fit, so the clip is started anew: {error}")
            self.state.remove()
            clip = self._make(request, resume=None)
        return write_outputs(clip, self.part)

    def _make(self, request: Request, *, resume: DenoiseState | None) -> FiledClip:
        make = self.place.make or _engine()
        self.log.say("begins" if resume is None else f"goes on after step {resume.step} of stage {resume.stage + 1}")
        return make(
            request,
            self.part / CLIP,
            on_progress=lambda told: self._on_progress(told, resumed=resume is not None),
            should_stop=lambda: self.heart.lost or self.heart.wanted != "run" or self.leaving(),
            session=self.place.warm.session(),
            resume=resume,
            on_plan=self._on_plan,
            on_state=self._on_state,
            parents=self._parents(),
            keep_latents=True,
        )

    def _on_plan(self, plan: Plan) -> None:
        """Told once before the clip, and again whenever memory ran out and something was given up."""
        if self.plan is None:
            check_room(self.folder.path, plan)
        for warning in plan.warnings[len(self.plan.warnings) if self.plan else 0 :]:
            self.log.say(warning)
        self.plan = plan
        self._insist(lambda: self.heart.beat(plan=plan.as_dict()))

    def _on_state(self, state: DenoiseState) -> None:
        with suppress(StoreUnavailable):
            self.heart.make_sure()
        self.state.take(state)

    def _on_progress(self, told: Progress, *, resumed: bool) -> None:
        """Steps are those of denoising: all else is short, and comes before the first or after the last."""
        if self.preview.is_made_now:  # what a preview loads and decodes is no stage of the clip
            return
        self.heart.tell(stage=told.stage)
        if told.stage != "denoise":
            self.state.keep()  # what comes next may be long, or take more memory than there is
        if told.stage == "denoise" and (told.step or not resumed):
            self.heart.tell(steps_done=told.step, num_steps=told.num_steps, remaining_seconds=told.remaining_seconds)
        self.preview.offer(told.preview)

    def _parents(self) -> tuple[str, ...]:
        """The fingerprint of the clip that this one is made from."""
        if self.lease.job.parent is None:
            return ()
        try:
            result = self.place.store.get(self.lease.job.parent).result or {}
        except UnknownJob:
            return ()
        return (str(result["frames_sha256"]),) if "frames_sha256" in result else ()

    def _publish(self, told: dict[str, Any]) -> Job:
        """Show the files and say that the job is done, as one."""
        job = self._insist(lambda: self.place.store.complete(self.lease, told, publish=self._show))
        self.place.warm.model = str(job.model or told["model"])
        if job.status == "completed":
            self.log.say(f"completed: {told['num_frames']} frames, {told['bytes']:,} bytes")
        else:
            self.log.say(f"{job.status} in the last moment; nothing was published")
        self.state.remove()
        self.preview.remove()
        return job

    def _show(self) -> None:
        """Rename the files into place, the clip last."""
        if (self.part / LATENTS).exists():
            self.folder.publish(self.part / LATENTS, LATENTS)
        for name in OUTPUTS:
            self.folder.publish(self.part / name, name)

    def _step_aside(self) -> Job:
        """A stop was asked for: by the user, or because the worker leaves, or by whoever took the lease."""
        if self.heart.lost:
            self.heart.make_sure()
        status = _RETURNED[self.heart.wanted]
        if status != "cancelled":
            self.state.keep()
        if status != "queued":
            self.place.warm.free()
        self.remove_part()
        job = self._insist(lambda: self.place.store.give_back(self.lease, status))
        if job.status == "cancelled":
            self.state.remove()
            self.preview.remove()
        self.log.say(f"stopped as asked; the job is {job.status}")
        return job

    def _fail(self, cause: Cause) -> Job:
        if cause.keeps_state:
            self.state.keep()
        else:
            self.state.remove()
        if cause.frees_model:
            self.place.warm.free()
        self.remove_part()
        self.preview.remove()
        return self._insist(lambda: self.place.store.fail(self.lease, cause.error, retry=cause.retry))

    def _insist(self, tell: Callable[[], _Told]) -> _Told:
        """Tell the store, also if that is locked or its disk is full for a while; the heart goes on beating."""
        until = time.monotonic() + _PATIENCE_SECONDS
        pause = 0.1
        while True:
            try:
                return tell()
            except StoreUnavailable as error:
                if self.leaving() or time.monotonic() + pause > until:
                    raise
                self.log.say(f"the store could not be told how the job ended, it is tried again: {error}")
            time.sleep(pause)
            pause = min(2 * pause, 5.0)


def _engine() -> Callable[..., FiledClip]:
    from homereel.engine.generate import generate_file

    return generate_file


def _fixed_request(job: Job) -> Request:
    """The request with a seed: one that was not given follows from the job's id, so that every attempt has the same."""
    request = Request.parse(job.request)
    return request if request.seed is not None else request.replace(seed=int(job.id[-8:], 16))
