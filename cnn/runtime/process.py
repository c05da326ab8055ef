"""Settings of a process that computes on a CPU: how many devices the CPU counts as, and whether memory is kept."""

import ctypes
import os
import sys

import jax

LEAST_PER_CPU_DEVICE = 16  # examples; with fewer, waiting for one another costs devices more than a second core gives


def cores() -> int:
    """Number of CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def use_cpu_devices(count: int, batch_size: int) -> None:
    """Sets how many JAX devices a CPU counts as; call it before JAX is used. Other platforms are not affected.

    One device can use all cores. On two cores it trains as fast as two devices or faster (the rows "one after another"
    of benchmarks/results/seeds.md), as long as YNNPACK computes no convolutions on it (`Devices.compiler_options`).
    Where XLA does not know the option that prevents this, two devices are faster.

    Args:
      count: number of devices; 0: the largest number that divides the batch, is at most the number of cores, and leaves
        at least `LEAST_PER_CPU_DEVICE` examples on each device.
      batch_size: number of examples in a training step.
    """
    if not count:
        fits = [n for n in range(1, cores() + 1) if batch_size % n == 0 and batch_size // n >= LEAST_PER_CPU_DEVICE]
        count = max(fits, default=1)
    jax.config.update("jax_num_cpu_devices", count)


# Parameters of the GNU C library's mallopt (malloc.h), and what they are set to.
_MALLOPT = {"M_MMAP_MAX": (-4, 0), "M_TRIM_THRESHOLD": (-1, -1), "M_ARENA_MAX": (-8, 1)}


def keep_memory() -> bool:
    """Keeps freed memory for the next step instead of returning it to the system; works on Linux with glibc.

    XLA:CPU allocates the memory of its temporary arrays anew in each call. By default glibc takes blocks above 32 MiB
    from the system and returns them each time, and the system then maps every page again when it is first touched,
    which can take longer than the computation itself. With the memory kept, the process holds until its end as much as
    it ever needed, and somewhat more, because freed blocks of one size leave gaps that those of another do not fill:
    do not use it for a run under a memory limit.

    Returns:
      Whether the C library accepted the settings.

    Source: mallopt(3), Linux manual pages.
    """
    if not sys.platform.startswith("linux"):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # musl has none
    return mallopt is not None and all(mallopt(*setting) for setting in _MALLOPT.values())
