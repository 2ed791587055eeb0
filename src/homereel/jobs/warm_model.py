"""The model that a worker keeps loaded between jobs, and frees when it is in the way."""

from __future__ import annotations

import gc
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from homereel.engine.session import Session


class WarmModel:
    """A session that is opened when it is first needed. `model` is the affinity key of what is loaded."""

    def __init__(self) -> None:
        self.model: str | None = None
        self._session: Session | None = None

    @property
    def is_loaded(self) -> bool:
        """Whether there is anything to free."""
        return self._session is not None

    def session(self) -> Session:
        """The warm session, or a new one."""
        if self._session is None:
            from homereel.engine.session import Session

            self._session = Session()
        return self._session

    def free(self) -> None:
        """Give all memory back, that of the GPU too."""
        session, self._session, self.model = self._session, None, None
        if session is not None:
            session.close()
        del session
        gc.collect()
        torch = sys.modules.get("torch")
        if torch is not None and torch.cuda.is_initialized():
            torch.cuda.empty_cache()
