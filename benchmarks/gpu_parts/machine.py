"""The machine: whether the device is there, and what must be known of it to read the other figures."""

from __future__ import annotations

import torch

from metasd.core.results import versions
from metasd.record.manifest import machine
from metasd.runtime.load import check_device

from .plan import Setting
from .worker import Report


def measure(setting: Setting, report: Report) -> None:
    """Name, versions and precision. Raises UsageError when the device is not there."""
    device = check_device(setting.device)
    report.found |= {"device": setting.device, "versions": versions(), **machine(device)}
    report.found["float32_matmul_precision"] = torch.get_float32_matmul_precision()  # highest: no TF32
    if device.type == "cuda":
        about = torch.cuda.get_device_properties(device)
        report.found |= {
            "capability": f"{about.major}.{about.minor}",
            "memory_bytes": about.total_memory,
            "multiprocessors": about.multi_processor_count,
            "tf32": torch.backends.cuda.matmul.allow_tf32,
        }
    torch.ones(2, 2, device=device).matmul(torch.ones(2, 2, device=device)).sum().item()  # it really computes
