"""What the compiler says of a program, and the least time that follows: the row of a table."""

import re
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax

from benchmarks.accelerators_chips import Topology
from benchmarks.accelerators_collectives import traffic
from benchmarks.accelerators_memory import moved_bytes
from benchmarks.accelerators_programs import Program
from benchmarks.accelerators_text import Text, parse
from cnn.runtime.byte_sizes import bytes_text


class TooLargeError(MemoryError):
    """A program that needs more memory than a chip has, as the compiler found; the message has both numbers.

    Attributes:
      needs, has: bytes.
    """

    def __init__(self, what: str, needs: float, has: float) -> None:
        self.needs, self.has = needs, has
        super().__init__(f"{what} needs {bytes_text(needs)} of memory on each chip, which has {bytes_text(has)}")


class Memory(NamedTuple):
    """Memory of one device, bytes.

    Attributes:
      arguments: what the program takes: parameters, the optimiser's state, images.
      temporaries: what it holds while it runs beside arguments and results: activations, gradients.
      outputs: what it returns.
      aliased: results that take the place of arguments, counted in both.
      code: the program itself.
    """

    arguments: int
    temporaries: int
    outputs: int
    aliased: int
    code: int

    @property
    def used(self) -> int:
        """All together."""
        return self.arguments + self.temporaries + self.outputs - self.aliased + self.code


class Limits(NamedTuple):
    """The least time of a program by each of the three things that it uses, seconds.

    Attributes:
      compute: all operations at the chip's peak.
      memory: all bytes that are read from the chip's main memory and written to it, at its bandwidth.
      links: all bytes that a chip sends, at the bandwidth of the links of the chip that has the fewest.
    """

    compute: float
    memory: float
    links: float

    @property
    def time(self) -> float:
        """The least time, if the three overlap wholly."""
        return max(self)

    @property
    def name(self) -> str:
        """Which of the three it is: "compute", "memory" or "links"."""
        return self._fields[self.index(self.time)]


def limits(topology: Topology, flops: float, moved: float, sent: float) -> Limits:
    """The roofline of a program (Williams, Waterman, Patterson, "Roofline", 2009), with links as a third roof.

    Args:
      topology: the chips.
      flops: operations of one device.
      moved: bytes that it reads from its main memory and writes to it.
      sent: bytes that it sends to other devices.

    Returns:
      The `Limits`.
    """
    chip, links = topology.chip, topology.links_bandwidth
    return Limits(flops / chip.flops, moved / chip.bandwidth, sent * chip_share(topology) / links if sent else 0.0)


def chip_share(topology: Topology) -> float:
    """How many devices share the links of a chip."""
    return 1 / topology.chip.part


def compile_program(program: Program, topology: Topology) -> tuple[Any, float]:
    """Compiles a program for chips that need not be here.

    Args:
      program: what to compile.
      topology: the chips.

    Returns:
      The compiled program and the seconds that it took.

    Raises:
      TooLargeError: if it needs more memory than a chip has.
    """
    lowered, start = program.lower(), time.monotonic()
    try:
        compiled = lowered.compile()
    except jax.errors.JaxRuntimeError as error:
        found = too_large(str(error))
        if not found:
            raise
        raise TooLargeError(f"{program.about} on {topology.name}", *found) from error
    return compiled, time.monotonic() - start


def too_large(message: str) -> tuple[float, float] | None:
    """Reads the compiler's message about memory.

    Args:
      message: of the error.

    Returns:
      (bytes that are needed, bytes that there are); None if the message is about something else.
    """
    if "RESOURCE_EXHAUSTED" not in message and "Ran out of memory" not in message:
        return None
    sizes = [
        float(number) * 1024 ** "BKMGT".index(unit)
        for number, unit in re.findall(r"\b(\d+(?:\.\d+)?)([BKMGT])\b", message.split("See https")[0])
    ]
    return (sizes[0], sizes[1]) if len(sizes) >= 2 else None


def row(program: Program, topology: Topology, compiled: Any, seconds: float) -> dict[str, Any]:
    """All figures of a compiled program.

    Args:
      program: what was compiled.
      topology: the chips that it was compiled for.
      compiled: the compiled program.
      seconds: time that compiling took.

    Returns:
      A dict for a file of results: numbers of one device, bytes and seconds.
    """
    analysis = compiled.memory_analysis()
    memory = Memory(
        analysis.argument_size_in_bytes,
        analysis.temp_size_in_bytes,
        analysis.output_size_in_bytes,
        analysis.alias_size_in_bytes,
        analysis.generated_code_size_in_bytes,
    )
    cost = compiled.cost_analysis()
    return {
        "memory": memory._asdict() | {"used": memory.used, "left": topology.chip.memory - memory.used},
        "flops": cost["flops"],
        "bytes_accessed": cost["bytes accessed"],
        "net_flops": program.flops / program.devices,
        "compile_seconds": round(seconds, 1),
        **roofline(parse(compiled.as_text()), topology, cost["flops"], program.flops / program.devices),
    }


def roofline(text: Text, topology: Topology, flops: float, net_flops: float) -> dict[str, Any]:
    """What the text of a program says of its traffic, and the least time.

    Args:
      text: the compiled program.
      topology: the chips.
      flops: operations of one device, as the compiler counts them.
      net_flops: operations of one device that the net itself needs.

    Returns:
      A part of a row.
    """
    sends, moved = traffic(text, len(topology.devices)), moved_bytes(text)
    # Of some gradients the compiler counts fewer operations than it has multiply-adds.
    bounds = limits(topology, max(flops, net_flops), moved, sends.sent)
    return {
        "bytes_moved": moved,
        "collectives": {kind: one._asdict() for kind, one in sends.kinds.items()},
        "bytes_sent": sends.sent,
        "loops_of_unknown_length": sends.unknown_loops,
        "limits": bounds._asdict(),
        "roofline_seconds": bounds.time,
        "bound_by": bounds.name,
        "utilisation": net_flops / (bounds.time * topology.chip.flops),
    }


def largest_batch(make: Callable[[int], Program], batch: int, topology: Topology) -> tuple[int, Any, Program] | None:
    """The first batch that fits, of one, a half, a quarter and so on.

    Args:
      make: number of examples -> the program.
      batch: the number to begin with, over all devices.
      topology: the chips.

    Returns:
      (number of examples, what `compile_program` gave, the program); None if even one example for each device does not.
    """
    while batch >= len(topology.devices):
        program = make(batch)
        try:
            return batch, compile_program(program, topology), program
        except TooLargeError:
            batch = batch // 2 // len(topology.devices) * len(topology.devices)
    return None
