"""What a process sets before it computes on a CPU: how many devices it counts as, and whether memory is kept."""

import ctypes
import os
import sys

import jax

LEAST_PER_CPU_DEVICE = 16  # examples; with fewer, waiting for each other costs more than a second core gives


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def use_cpu_devices(count: int, batch_size: int) -> None:
    """Sets how many devices a CPU counts as; before JAX is used, and without effect on other platforms.

    On two cores one device trains as fast as two or faster, as long as YNNPACK computes no convolutions on it
    (`Devices.compiler_options`): `full_cnn` 1.2 times, `qa_net` alike (benchmarks/results/seeds.md), `vgg11` and
    `lenet5` 1.1 times. Where XLA does not know that option, two are up to twice as fast.

    Args:
      count: of devices; 0: one for each core, as far as they divide the batch into parts that are worth it.
      batch_size: examples in a step of training.
    """
    if not count:
        fits = [n for n in range(1, cores() + 1) if batch_size % n == 0 and batch_size // n >= LEAST_PER_CPU_DEVICE]
        count = max(fits, default=1)
    jax.config.update("jax_num_cpu_devices", count)


# Parameters of the GNU C library's mallopt (malloc.h), and what they are set to.
_MALLOPT = {"M_MMAP_MAX": (-4, 0), "M_TRIM_THRESHOLD": (-1, -1), "M_ARENA_MAX": (-8, 1)}


def keep_memory() -> bool:
    """Keeps memory that was freed for the next step, instead of giving it back to the system; on Linux with glibc.

    XLA:CPU asks for the memory of its temporary arrays anew in each call, and glibc maps blocks above 32 MiB from the
    system each time, page by page as they are touched: a 3x3x3 -> 64 convolution over 128 images of 64x64 took 68 ms
    so, and takes 21 ms with its memory kept. The process holds what it once needed until it ends, and
    somewhat more, as pieces of different sizes do not fit into each other's gaps: not for a run under a memory limit.

    Returns:
      Whether the C library took the settings.

    Source: mallopt(3), Linux manual pages.
    """
    if not sys.platform.startswith("linux"):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # musl has none
    return mallopt is not None and all(mallopt(*setting) for setting in _MALLOPT.values())
