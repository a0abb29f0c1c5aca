"""What this machine lets the process use."""

from __future__ import annotations

import os

# Cores. Where there are some to spare, a body is written and digested in two threads at once.
CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
