"""What the devices of a compiled program send each other, read from the compiler's text."""

import re
from collections import defaultdict
from typing import NamedTuple

from benchmarks.accelerators_text import Instruction, Text, type_bytes

KINDS = ("all-reduce", "all-gather", "reduce-scatter", "all-to-all", "collective-permute")


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


def traffic(text: Text, devices: int) -> Traffic:
    """Reads the collective operations of a program, those in loops as often as the loops run.

    Args:
      text: the compiled program, the same for each device.
      devices: number of devices that it runs on.

    Returns:
      The `Traffic`.
    """
    found: dict[str, list[float]] = defaultdict(lambda: [0, 0.0, 0.0])
    unknown, channels = 0, set[str]()

    def walk(name: str, times: int, fused: bool, scattered: bool) -> bool:
        """Counts a computation and all that it calls; whether there was any collective operation in it."""
        nonlocal unknown
        any_here = False
        types = {one.name: one.type for one in text.computations.get(name, ())}
        for one in text.computations.get(name, ()):
            if counted := _collective(one, types, devices, scattered):
                any_here = True
                # One that runs beside others stands in each fused operation from its start to its end.
                channel = re.search(r"channel_id=(\d+)", one.rest)
                if fused and channel:
                    if channel[1] in channels:
                        continue
                    channels.add(channel[1])
                kind, size, sent = counted
                for i, value in enumerate((1, size, sent)):
                    found[kind][i] += times * value
                continue  # what it calls is a sum of two numbers
            turns = text.turns(one) if one.operation == "while" else 1
            # A sum of which each device keeps a part is a fused operation of this name on TPUs.
            is_fusion = one.operation == "fusion"
            flags = fused or is_fusion, scattered or (is_fusion and "all-reduce-scatter" in one.rest)
            below = [walk(called, times * (turns or 1), *flags) for called in one.called]
            unknown += turns is None and any(below)
            any_here |= any(below)
        return any_here

    walk(text.entry, 1, False, False)
    kinds = {kind: Collective(int(found[kind][0]), *found[kind][1:]) for kind in KINDS if kind in found}
    return Traffic(kinds, unknown)


def _collective(
    one: Instruction, types: dict[str, str], devices: int, scattered: bool
) -> tuple[str, float, float] | None:
    """Kind, bytes and bytes sent of a collective operation; None of any other."""
    kind = one.operation.removesuffix("-start")
    if kind not in KINDS:
        return None
    size = sum(type_bytes(types.get(name, "")) for name in one.operands)
    group = group_size(one.rest, devices)
    if kind == "all-gather":
        size *= group
    if kind == "all-reduce" and scattered:
        kind = "reduce-scatter"
    share = (group - 1) / group
    factor = {"all-reduce": 2 * share, "collective-permute": 1.0}.get(kind, share)
    return kind, size, factor * size
