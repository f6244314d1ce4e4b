"""How many cores this process may use: the pool sizes of a host's cores are wrong inside a container."""

from __future__ import annotations

import contextlib
import math
import os
from pathlib import Path, PurePosixPath


def affinity() -> set[int]:
    """The numbers of the logical cores that this process may run on; all of them where the system has no affinity.

    Two threads of one physical core are two logical cores, and the CPU quota plays no part: `available_cores`
    takes both into account.
    """
    if hasattr(os, "sched_getaffinity"):
        return os.sched_getaffinity(0)
    return set(range(os.cpu_count() or 1))


def available_cores() -> int:
    """The physical cores that this process may run on, at least 1.

    The smaller of the cores in its CPU affinity, where two threads of a core count once if the system tells,
    and its CPU quota rounded up.
    """
    cores = _physical(affinity())
    quota = quota_cores()
    return max(1, cores if quota is None else min(cores, math.ceil(quota)))


def quota_cores(*, mount: Path = Path("/sys/fs/cgroup"), own: Path = Path("/proc/self/cgroup")) -> float | None:
    """The CPU quota of this process's control group in cores, such as 1.5; `None` where there is none.

    Reads both versions of Linux control groups; a group is bound by its parents too, so the smallest counts.
    """
    limits = []
    for folder in _groups(mount, own):
        quota = _quota(folder)
        if quota is not None:
            limits.append(quota)
    return min(limits, default=None)


def _physical(cpus: set[int], topology: Path = Path("/sys/devices/system/cpu")) -> int:
    cores = set()
    for cpu in cpus:
        try:
            core = (topology / f"cpu{cpu}" / "topology" / "thread_siblings_list").read_text(encoding="ascii")
        except OSError:
            core = str(cpu)
        cores.add(core.strip())
    return len(cores)


def _groups(mount: Path, own: Path) -> list[Path]:
    """The folders of this process's group and its parents, in version 2 and version 1's `cpu` controller."""
    try:
        lines = own.read_text(encoding="utf-8").splitlines()
    except OSError:
        return []
    folders = []
    for line in lines:
        _, controllers, group = line.split(":", 2)
        if controllers and "cpu" not in controllers.split(","):
            continue
        root = mount / controllers if controllers else mount
        below = PurePosixPath(group.lstrip("/"))
        folders += [root / below, *(root / parent for parent in below.parents)]
    return folders


def _quota(folder: Path) -> float | None:
    with contextlib.suppress(OSError, ValueError):  # no such file, or `max`
        quota, period = (folder / "cpu.max").read_text(encoding="ascii").split()
        return int(quota) / int(period)
    with contextlib.suppress(OSError, ValueError):
        quota = (folder / "cpu.cfs_quota_us").read_text(encoding="ascii")
        period = (folder / "cpu.cfs_period_us").read_text(encoding="ascii")
        return int(quota) / int(period) if int(quota) > 0 else None
    return None
