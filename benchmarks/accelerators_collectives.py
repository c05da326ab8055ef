"""What the devices of a compiled program send each other, read from the text that the compiler gives of it (HLO)."""

import re
from collections import defaultdict
from collections.abc import Iterator
from typing import NamedTuple

BITS = {"pred": 8, "bf16": 16, "c64": 64, "c128": 128}
KINDS = ("all-reduce", "all-gather", "reduce-scatter", "all-to-all", "collective-permute")
_COMPUTATION = re.compile(r"^(ENTRY )?%?([\w.-]+) \(.*\{\s*$")
_INSTRUCTION = re.compile(r"^\s+(?:ROOT )?%?([\w.-]+) = (.*)$")
_OPERATION = re.compile(r"(?:^|[\s)}\]])([a-z][a-z-]*)\(")
_CALLED = re.compile(r"(?:calls|to_apply|body|condition|true_computation|false_computation)=%?([\w.-]+)")
_BRANCHES = re.compile(r"branch_computations=\{([^}]*)\}")
_TYPE = re.compile(r"([a-z]+\d*(?:e\d+m\d+\w*)?)\[([\d,]*)\]")


class Collective(NamedTuple):
    """What one kind of collective operation does in a run of a program.

    Attributes:
      operations: how often it runs.
      bytes: size of the arrays that are summed, gathered or exchanged, each counted whole: of a sum the array that each
        device holds, of a gathering what it gives, of a scattering what it takes.
      sent: bytes that each device sends at least, by a ring: 2 (n - 1) / n of an array that is summed over n devices,
        (n - 1) / n of one that is gathered, scattered or transposed, all of one that is passed on.
    """

    operations: int = 0
    bytes: float = 0.0
    sent: float = 0.0


class Traffic(NamedTuple):
    """All that is sent in a run of a program.

    Attributes:
      kinds: by kind of collective operation.
      unknown_loops: loops with such operations of which the text does not say how often they run; counted once.
    """

    kinds: dict[str, Collective]
    unknown_loops: int

    @property
    def sent(self) -> float:
        """Bytes that each device sends at least."""
        return sum(one.sent for one in self.kinds.values())


class _Instruction(NamedTuple):
    name: str
    type: str
    operation: str
    rest: str  # operands and attributes


def type_bytes(text: str) -> float:
    """Size of an array, or of all arrays of a tuple.

    Args:
      text: its type in HLO: "bf16[64,3]{1,0}" or "(f32[], s32[8]{0})".

    Returns:
      Bytes, without the padding of a layout in tiles.
    """
    total = 0.0
    for name, sizes in _TYPE.findall(text):
        digits = re.match(r"[a-z]+(\d+)", name)
        bits = BITS.get(name) or (int(digits[1]) if digits else 0)  # tokens and opaque values have no size
        count = 1
        for size in filter(None, sizes.split(",")):
            count *= int(size)
        total += count * bits / 8
    return total


def group_size(rest: str, devices: int) -> int:
    """Number of devices that one collective operation joins.

    Args:
      rest: the operation's attributes; groups are written {{0,1},{2,3}}, [2,2]<=[4] or mesh['a'=2,'b'=2] {'b'}.
      devices: number of devices of the program, all of which are joined where no groups are named.

    Returns:
      The number.
    """
    if found := re.search(r"replica_groups=\{\{([\d,]*)\}", rest):
        return len(found[1].split(","))
    if found := re.search(r"replica_groups=\[\d+,(\d+)\]", rest):
        return int(found[1])
    if found := re.search(r"replica_groups=@?mesh\w*\[([^\]]*)\]\s*\{([^}]*)\}", rest):
        sizes = dict(re.findall(r"'?([\w.-]+)'?\s*=\s*(\d+)", found[1]))
        joined = 1
        for axis in re.findall(r"[\w.-]+", found[2]):
            joined *= int(sizes[axis])
        return joined
    return devices


def traffic(text: str, devices: int) -> Traffic:
    """Reads the collective operations of a program, those in loops as often as the loops run.

    Args:
      text: the compiled program (`jax.stages.Compiled.as_text`), the same for each device.
      devices: number of devices that it runs on.

    Returns:
      The `Traffic`.
    """
    entry, computations = _computations(text)
    found: dict[str, list[float]] = defaultdict(lambda: [0, 0.0, 0.0])
    unknown = 0

    def walk(name: str, times: int, scattered: bool) -> bool:
        """Counts a computation and all that it calls; whether there was any collective operation in it."""
        nonlocal unknown
        any_here = False
        types = {one.name: one.type for one in computations.get(name, ())}
        for one in computations.get(name, ()):
            if counted := _collective(one, types, devices, scattered):
                kind, size, sent = counted
                for i, value in enumerate((1, size, sent)):
                    found[kind][i] += times * value
                any_here = True
            if one.operation.removesuffix("-start") in KINDS:
                continue  # what it calls is a sum of two numbers
            turns = _turns(one, computations) if one.operation == "while" else 1
            # A sum of which each device keeps a part is a fused operation of this name on TPUs.
            inner = scattered or (one.operation == "fusion" and "all-reduce-scatter" in one.rest)
            below = [walk(called, times * (turns or 1), inner) for called in _called(one)]
            unknown += turns is None and any(below)
            any_here |= any(below)
        return any_here

    walk(entry, 1, False)
    kinds = {kind: Collective(int(found[kind][0]), *found[kind][1:]) for kind in KINDS if kind in found}
    return Traffic(kinds, unknown)


def _computations(text: str) -> tuple[str, dict[str, list[_Instruction]]]:
    """The name of the first computation to run, and the instructions of all by name."""
    entry, name = "", ""
    computations: dict[str, list[_Instruction]] = {}
    for line in text.splitlines():
        if head := _COMPUTATION.match(line):
            name = head[2]
            computations[name] = []
            entry = name if head[1] else entry
        elif name and (found := _INSTRUCTION.match(line)):
            computations[name].append(_instruction(found[1], re.sub(r"/\*.*?\*/", "", found[2])))
    return entry, computations


def _instruction(name: str, text: str) -> _Instruction:
    """Type, operation and the rest of what stands behind "name = "."""
    end = _type_end(text)
    operation = re.match(r"\s*([\w-]+)\(", text[end:])
    if not operation:
        return _Instruction(name, text[:end], "", text[end:])
    return _Instruction(name, text[:end], operation[1], text[end + operation.end() :])


def _type_end(text: str) -> int:
    """Where the type ends: behind its closing parenthesis, or at the first space outside of its layout."""
    depth = 0
    for i, letter in enumerate(text):
        if letter in "({[":
            depth += 1
        elif letter in ")}]":
            depth -= 1
        elif letter == " " and not depth:
            return i
    return len(text)


def _operands(rest: str) -> list[str]:
    """Names of the operands, which stand up to the closing parenthesis, with or without their types."""
    depth = 1
    for i, letter in enumerate(rest):
        depth += (letter in "({[") - (letter in ")}]")
        if not depth:
            return re.findall(r"%([\w.-]+)", rest[:i])
    return []


def _called(one: _Instruction) -> Iterator[str]:
    yield from _CALLED.findall(one.rest)
    for names in _BRANCHES.findall(one.rest):
        yield from re.findall(r"[\w.-]+", names)


def _collective(
    one: _Instruction, types: dict[str, str], devices: int, scattered: bool
) -> tuple[str, float, float] | None:
    """Kind, bytes and bytes sent of a collective operation; None of any other."""
    kind = one.operation.removesuffix("-start")
    if kind not in KINDS:
        return None
    size = sum(type_bytes(types.get(name, "")) for name in _operands(one.rest))
    group = group_size(one.rest, devices)
    if kind == "all-gather":
        size *= group
    if kind == "all-reduce" and scattered:
        kind = "reduce-scatter"
    share = (group - 1) / group
    factor = {"all-reduce": 2 * share, "collective-permute": 1.0}.get(kind, share)
    return kind, size, factor * size


def _turns(loop: _Instruction, computations: dict[str, list[_Instruction]]) -> int | None:
    """How often a loop runs: as the compiler notes it, or where it counts up to a constant; None: it is not said."""
    if known := re.search(r'known_trip_count"?:\s*\{"?n"?:\s*"?(\d+)', loop.rest):
        return int(known[1])
    condition = re.search(r"condition=%?([\w.-]+)", loop.rest)
    instructions = computations.get(condition[1], []) if condition else []
    constants = {
        one.name: int(found[1])
        for one in instructions
        if one.operation == "constant" and (found := re.match(r"(\d+)\)", one.rest))
    }
    for one in instructions:
        if one.operation == "compare" and "direction=LT" in one.rest:
            bounds = [constants[name] for name in _operands(one.rest) if name in constants]
            return bounds[0] if bounds else None
    return None
