from __future__ import annotations

import gc
import weakref

from service.worker.garbage import keep_all


def test_what_a_worker_keeps_is_not_looked_at_again_and_garbage_is_not_kept() -> None:
    class Circle:
        def __init__(self) -> None:
            self.itself = self

    garbage, kept = Circle(), Circle()
    gone, held = weakref.ref(garbage), weakref.ref(kept)
    del garbage
    try:
        keep_all()
        assert gone() is None
        assert gc.get_freeze_count() > 1000
        del kept
        gc.collect()
        assert held() is not None
        keep_all()
        assert held() is None
    finally:
        gc.unfreeze()
