"""How OpenVINO computes on a CPU here: in one thread, in bf16 where the processor gains by it."""

from __future__ import annotations

import platform
from pathlib import Path
from typing import Any


def settings(core: Any, *, exact: bool = False) -> dict[str, Any]:
    """Of Core.compile_model. core: openvino.Core. exact: f32 whatever the processor."""
    bf16 = not exact and "BF16" in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES") and _gains_by_bf16()
    return {
        "INFERENCE_PRECISION_HINT": "bf16" if bf16 else "f32",
        "INFERENCE_NUM_THREADS": 1,  # Spark runs one worker a core
        "NUM_STREAMS": 1,
        "ENABLE_CPU_PINNING": False,  # else the workers of a machine all compute on its first core
    }


def _gains_by_bf16() -> bool:
    """Whether bf16 is faster than f32: on x86 by matrix units (AMX), twice to three times; with AVX512_BF16 alone it
    takes up to 1.7 times as long."""
    if platform.machine().lower() not in ("x86_64", "amd64"):
        return True
    try:
        return "amx_bf16" in Path("/proc/cpuinfo").read_text()
    except OSError:
        return False
