"""Chips of TPUs that may be nowhere near: what each can do at most, and descriptions of slices of them to compile for.

The compiler for TPUs, libtpu, needs no TPU. Peaks are those of the vendor's documentation; the memory that a program
may take is what libtpu's own message names where one takes more, a little less than is built in.
"""

import importlib.util
import os
import re
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax

GIB = 2**30
DOCS = "https://docs.cloud.google.com/tpu/docs"


class Chip(NamedTuple):
    """One generation of TPU, by chip, or by what JAX counts as a device where that is half a chip.

    Attributes:
      flops: most operations a second in matrix products of bfloat16, two for each multiply-add. Products of float32
        are computed in one pass of bfloat16 too, at JAX's default precision.
      memory: memory that a program may take, bytes (libtpu 0.0.52).
      bandwidth: most bytes a second between chip and memory.
      link: most bytes a second that one link to a neighbour carries, in each direction.
      sizes: slices that can be had, as text.
      source: page with the numbers.
      ring: along an axis of so many chips, links go round; None: along all axes, if each is a multiple of four.
      options: further arguments for the description of a slice.
      part: fraction of a chip that JAX counts as one device.
    """

    flops: float
    memory: float
    bandwidth: float
    link: float
    sizes: str
    source: str
    ring: int | None = None
    options: tuple[tuple[str, str], ...] = ()
    part: float = 1.0


_FLAT = "1x1 2x2 2x4 4x4 4x8 8x8 8x16 16x16"
_SOLID = "2x2x1 2x2x2 2x2x4 2x4x4 4x4x4 4x4x8 4x8x8 8x8x8 8x8x16 8x16x16 16x16x16"
# Links: the bandwidth of a chip, "bidirectional" on the pages, divided by two directions and by its ports, 4 or 6.
CHIPS = {
    "v4": Chip(275e12, 30.75 * GIB, 1.2e12, 50e9, _SOLID, f"{DOCS}/v4", options=(("chip_config_name", "megacore"),)),
    "v5e": Chip(197e12, 15.75 * GIB, 819e9, 50e9, _FLAT, f"{DOCS}/v5e", ring=16),
    "v5p": Chip(459e12, 95.73 * GIB, 2.765e12, 100e9, _SOLID, f"{DOCS}/v5p"),
    "v6e": Chip(918e12, 31.24 * GIB, 1.638e12, 100e9, _FLAT, f"{DOCS}/v6e", ring=16),
    "tpu7x": Chip(2307e12 / 2, 94.74 * GIB, 7.38e12 / 2, 100e9, _SOLID, f"{DOCS}/tpu7x", part=0.5),
}


class Topology(NamedTuple):
    """A slice of a TPU.

    Attributes:
      name: "v5e:2x4".
      chip: what each device can do.
      size: number of chips along each axis.
      devices: descriptions of its devices, to compile for.
    """

    name: str
    chip: Chip
    size: tuple[int, ...]
    devices: Sequence[Any]

    @property
    def links_bandwidth(self) -> float:
        """Most bytes a second that the chip with the fewest links sends, which is at a corner; 0 of a chip alone."""
        closed = self.chip.ring is None and not any(n % 4 for n in self.size)
        links = [0 if n == 1 else 2 if closed or n == self.chip.ring else 1 for n in self.size]
        return sum(links) * self.chip.link


def known() -> str:
    """The slices that can be asked for, as text for a message."""
    return "; ".join(f"{name}: {chip.sizes.replace(' ', ', ')}" for name, chip in CHIPS.items())


def parse(name: str) -> tuple[Chip, tuple[int, ...]]:
    """Reads the name of a slice.

    Args:
      name: generation and number of chips along each axis, "v5e:2x4".

    Returns:
      The chip and the numbers.

    Raises:
      ValueError: if the generation is unknown or the numbers are none; lists the names that are known.
    """
    generation, _, size = name.partition(":")
    if generation not in CHIPS or not re.fullmatch(r"[1-9]\d*(x[1-9]\d*){1,2}", size):
        raise ValueError(f"unknown topology {name!r}; known are GENERATION:SIZE, such as v5e:2x4, of {known()}")
    return CHIPS[generation], tuple(int(n) for n in size.split("x"))


def topology(name: str) -> Topology:
    """The description of a slice.

    Args:
      name: generation and number of chips along each axis, "v5e:2x4".

    Returns:
      The `Topology`.

    Raises:
      ValueError: if the name is unknown, or the compiler knows no such slice; lists the names that are known.
      ModuleNotFoundError: if the compiler is not installed.
    """
    chip, size = parse(name)
    if not has_compiler():
        raise ModuleNotFoundError(
            "the compiler for TPUs is not installed: python -m pip install --no-deps -r requirements-tpu-compiler.txt"
        )
    # Without these the library asks the network which TPU this machine is and complains that it is none, and several
    # processes could not compile at the same time, as if there were a chip to share.
    for variable, value in (
        ("ALLOW_MULTIPLE_LIBTPU_LOAD", "1"),
        ("TPU_SKIP_MDS_QUERY", "1"),
        ("TPU_ACCELERATOR_TYPE", "v5litepod-1"),
        ("TPU_WORKER_HOSTNAMES", "localhost"),
    ):
        os.environ.setdefault(variable, value)
    from jax.experimental import topologies

    try:
        devices = topologies.get_topology_desc(name, "tpu", **dict(chip.options)).devices
    except jax.errors.JaxRuntimeError as error:
        reason = str(error).splitlines()[0].removeprefix("INVALID_ARGUMENT: ")
        raise ValueError(f"topology {name!r}: {reason}; known are {known()}") from error
    return Topology(name, chip, size, devices)


def has_compiler() -> bool:
    """Whether libtpu is installed."""
    return importlib.util.find_spec("libtpu") is not None
