"""Bytes that a compiled program moves between a chip and its main memory, read from the compiler's text.

The compiler's own count of bytes is of all operands and results, also of arrays that never leave the memory on the chip
(tens to a hundred MiB on a TPU). In the text such arrays are marked, so that the others can be counted.
"""

import re

from benchmarks.accelerators_text import Instruction, Text, arrays, main_memory_bytes, type_bytes

# What moves nothing: names, and the ends of what was counted where it began.
_FREE = frozenset(
    {
        "parameter",
        "constant",
        "tuple",
        "get-tuple-element",
        "bitcast",
        "after-all",
        "partition-id",
        "replica-id",
        "opt-barrier",
        "iota",
    }
)
_SLICES = ("dynamic-slice", "slice", "gather")
# Copies from one memory to another, or within one: their type names what they make before or behind what they copy.
_COPIES = {"copy-start": 0, "slice-start": 1, "dynamic-slice-start": 1}
_INSIDE = ("while", "call", "conditional")


def moved_bytes(text: Text) -> float:
    """Bytes that are read from main memory and written to it in a run.

    Args:
      text: the program.

    Returns:
      Bytes: for each operation what it reads of its operands and writes of its results, where they lie in main memory;
      of an operand that is only sliced, the slices; of one that is updated in place, the update. Loops whose length is
      not said count once.
    """
    return _of_computation(text, text.entry)


def _of_computation(text: Text, name: str) -> float:
    instructions = {one.name: one for one in text.computations.get(name, ())}
    total = 0.0
    for one in instructions.values():
        if one.operation in _INSIDE:
            turns = (text.turns(one) or 1) if one.operation == "while" else 1
            total += turns * sum(_of_computation(text, called) for called in one.called)
        elif one.operation not in _FREE and not one.operation.endswith(("-done", "-update")):
            total += _of_instruction(text, one, instructions)
    return total


def _of_instruction(text: Text, one: Instruction, others: dict[str, Instruction]) -> float:
    types = [others[name].type if name in others else "" for name in one.operands]
    if one.operation in _COPIES and types:
        made = list(arrays(one.type))[_COPIES[one.operation] * sum(1 for name in types for _ in arrays(name))]
        return made[0] * (made[1] + bool(main_memory_bytes(types[0])))
    if one.operation.endswith("-start") and types:
        return main_memory_bytes(one.type)  # of a collective operation: its operands and results
    if one.operation in _SLICES:
        return (type_bytes(one.type) if main_memory_bytes(types[0]) else 0.0) + main_memory_bytes(one.type)
    if one.operation == "dynamic-update-slice":
        return main_memory_bytes(types[1]) + (type_bytes(types[1]) if main_memory_bytes(one.type) else 0.0)
    if one.operation == "fusion" and one.called:
        return _of_fusion(text, one, types)
    return sum(map(main_memory_bytes, types)) + main_memory_bytes(one.type)


def _of_fusion(text: Text, one: Instruction, types: list[str]) -> float:
    """Reads of a fused operation, by what it does with each operand, and its writes."""
    body = text.computations.get(one.called[0], [])
    if any("AsyncCollective" in x.rest for x in body):
        return _of_part(one, types)
    total = 0.0
    for i, type_text in enumerate(types):
        if full := main_memory_bytes(type_text):
            total += min(full, _read(text, one.called[0], i, full))
    root = next((x for x in body if x.is_root), None)
    inside = {x.name: x for x in body}
    while root is not None and root.operation == "bitcast" and root.operands:
        root = inside.get(root.operands[0])
    if root is not None and root.operation == "dynamic-update-slice" and main_memory_bytes(one.type):
        return total + type_bytes(inside[root.operands[1]].type)
    return total + main_memory_bytes(one.type)


def _of_part(one: Instruction, types: list[str]) -> float:
    """Reads and writes of one of the fused operations that a collective operation runs beside, from start to end.

    Arrays that it only hands on, which are the same in its operands and results, count where they were made.
    """
    handed = re.findall(r"\{(\d*)\}: \((\d+), \{\}\)", one.rest)
    results, operands = {index for index, _ in handed}, {int(operand) for _, operand in handed}
    made = [0.0 if str(i) in results else size * is_main for i, (size, is_main) in enumerate(arrays(one.type))]
    total = sum(main_memory_bytes(x) for i, x in enumerate(types) if i not in operands)
    return total + (0.0 if "" in results else sum(made))


def _read(text: Text, computation: str, position: int, full: float) -> float:
    """Bytes that a fused operation reads of its operand at a position."""
    body = text.computations.get(computation, [])
    start = next((x for x in body if x.operation == "parameter" and x.rest.startswith(f"{position})")), None)
    return full if start is None else _read_of(text, body, start.name, full)


def _read_of(text: Text, body: list[Instruction], name: str, full: float) -> float:
    total = 0.0
    for user in body:
        if name not in user.operands:
            continue
        place = user.operands.index(name)
        if user.operation in _SLICES and place == 0:
            total += type_bytes(user.type)
        elif user.operation == "dynamic-update-slice" and place == 0:
            continue  # updated in place
        elif user.operation in ("bitcast", "reshape"):
            total += _read_of(text, body, user.name, full)
        elif user.operation == "fusion" and user.called:
            total += _read(text, user.called[0], place, full)
        else:
            return full
    return total
