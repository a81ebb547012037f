"""How the threads of CTranslate2 and torch wait for one another: asleep.

Both share their work between OpenMP threads, many times in every layer, and OpenMP lets a thread that has nothing to do
spin. That is quick where every thread has a core of its own. Beside other programs a thread that spins takes the core
from the very thread it waits for: live recognition fell behind without bound (`benchmarks/live_loaded.py`). Asleep, it
costs a third of the processor time, and on a quiet machine no final is later.
"""

import os
from typing import Final

# Any of these is somebody's own choice; each OpenMP knows some of them (GNU's, LLVM's and Intel's).
_CHOICES: Final = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")


def let_threads_sleep() -> None:
    """Call before CTranslate2 or torch is imported: their OpenMP reads the environment once, as it is loaded."""
    if not any(os.environ.get(choice) for choice in _CHOICES):
        os.environ["OMP_WAIT_POLICY"] = "PASSIVE"
