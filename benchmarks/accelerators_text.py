"""Reads the text of a compiled program (HLO): its instructions, what they call, and how often."""

import re
from collections.abc import Iterator
from typing import NamedTuple

BITS = {"pred": 8, "c64": 64, "c128": 128}
_COMPUTATION = re.compile(r"^(ENTRY )?%?([\w.-]+) \(.*\{\s*$")
_INSTRUCTION = re.compile(r"^\s+(ROOT )?%?([\w.-]+) = (.*)$")
_CALLED = re.compile(r"(?:calls|to_apply|body|condition|true_computation|false_computation)=%?([\w.-]+)")
_BRANCHES = re.compile(r"branch_computations=\{([^}]*)\}")
_ARRAY = re.compile(r"([a-z]+\d*(?:e\d+m\d+\w*)?)\[([\d,]*)\](\{[^}]*\})?")


class Instruction(NamedTuple):
    """One operation of a program.

    Attributes:
      name: its name, by which others take its result.
      type: type of its result: "bf16[64,3]{1,0}" or "(f32[], s32[8]{0})".
      operation: "fusion", "all-reduce", ...
      operands: names of the instructions whose results it takes.
      rest: operands and attributes as they are written.
      is_root: whether its result is that of its computation.
    """

    name: str
    type: str
    operation: str
    operands: tuple[str, ...]
    rest: str
    is_root: bool

    @property
    def called(self) -> list[str]:
        """Names of the computations that it calls."""
        names = _CALLED.findall(self.rest)
        for some in _BRANCHES.findall(self.rest):
            names += re.findall(r"[\w.-]+", some)
        return names


class Text(NamedTuple):
    """A compiled program.

    Attributes:
      entry: name of the computation that is run.
      computations: instructions of each computation by name.
    """

    entry: str
    computations: dict[str, list[Instruction]]

    def turns(self, loop: Instruction) -> int | None:
        """How often a loop runs: as the compiler notes, or where it counts from 0 to a constant; None: it is not said.

        Args:
          loop: a "while".

        Returns:
          The number.
        """
        if known := re.search(r'known_trip_count"?:\s*\{"?n"?:\s*"?(\d+)', loop.rest):
            return int(known[1])
        condition = re.search(r"condition=%?([\w.-]+)", loop.rest)
        instructions = self.computations.get(condition[1], []) if condition else []
        constants = {
            one.name: int(found[1])
            for one in instructions
            if one.operation == "constant" and (found := re.match(r"(\d+)\)", one.rest))
        }
        for one in instructions:
            if one.operation == "compare" and "direction=LT" in one.rest:
                return next((constants[name] for name in one.operands if name in constants), None)
        return None


def parse(text: str) -> Text:
    """Reads a compiled program.

    Args:
      text: what `jax.stages.Compiled.as_text` gives.

    Returns:
      The `Text`.
    """
    entry, name = "", ""
    computations: dict[str, list[Instruction]] = {}
    for line in text.splitlines():
        if head := _COMPUTATION.match(line):
            name = head[2]
            computations[name] = []
            entry = name if head[1] else entry
        elif name and (found := _INSTRUCTION.match(line)):
            computations[name].append(_instruction(found[2], re.sub(r"/\*.*?\*/", "", found[3]), bool(found[1])))
    return Text(entry, computations)


def _instruction(name: str, text: str, is_root: bool) -> Instruction:
    """Type, operation and the rest of what stands behind "name = "."""
    end = _end(text, " ")
    operation = re.match(r"\s*([\w-]+)\(", text[end:])
    if not operation:
        return Instruction(name, text[:end], "", (), text[end:], is_root)
    rest = text[end + operation.end() :]
    operands = tuple(re.findall(r"%([\w.-]+)", rest[: _end(rest, ")")]))
    return Instruction(name, text[:end], operation[1], operands, rest, is_root)


def _end(text: str, letter: str) -> int:
    """Where a letter is first outside of all brackets."""
    depth = 0
    for i, one in enumerate(text):
        if one == letter and not depth:
            return i
        depth += (one in "({[") - (one in ")}]")
    return len(text)


def arrays(text: str) -> Iterator[tuple[float, bool]]:
    """The arrays of a type.

    Args:
      text: "bf16[64,3]{1,0:T(8,128)S(1)}", or a tuple of such.

    Yields:
      (bytes without the padding of a layout in tiles, whether it lies in the device's main memory: spaces of their own,
      on the chip or the host, are marked S).
    """
    for name, sizes, layout in _ARRAY.findall(text):
        digits = re.match(r"[a-z]+(\d+)", name)
        bits = BITS.get(name) or (int(digits[1]) if digits else 0)  # tokens and opaque values have no size
        count = 1
        for size in filter(None, sizes.split(",")):
            count *= int(size)
        yield count * bits / 8, not re.search(r"S\([1-9]", layout)


def type_bytes(text: str) -> float:
    """Size of an array, or of all arrays of a tuple, bytes."""
    return sum(size for size, _ in arrays(text))


def main_memory_bytes(text: str) -> float:
    """Size of the arrays of a type that lie in main memory, bytes."""
    return sum(size for size, is_main in arrays(text) if is_main)
