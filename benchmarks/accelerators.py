"""What a program would need on TPUs that are not here: `python -m benchmarks.accelerators`; see README.md.

A training step, a dense pass (--dense) or a stream's tile (--tile) is compiled for real chips by their own compiler,
which needs no chip: memory, operations, messages between chips, and the least time that follows. All combinations of
--net, --topology and --sharding are compiled, but for those that accelerators.json in --output has already.
"""

import json
import os
import time
from collections.abc import Callable, Iterator
from importlib import metadata
from typing import Any

from absl import app, flags

from cnn.commands import program

NET = flags.DEFINE_list("net", ["vgg16"], "Names of registered nets.")
TOPOLOGY = flags.DEFINE_list("topology", ["v5e:2x4"], "Slices of TPUs: GENERATION:SIZE.")
SHARDING = flags.DEFINE_list("sharding", ["data"], "How the state of training is split: data, fsdp, model.")
BATCH = flags.DEFINE_integer("batch", None, "Examples of a step, over all chips.", lower_bound=1)
BATCH_PER_CHIP = flags.DEFINE_integer("batch_per_chip", None, "Examples of a step on each chip.", lower_bound=1)
EXAMPLES = flags.DEFINE_integer(
    "examples", 0, "Training examples on each chip, which batches are drawn from; 0: a batch is given.", lower_bound=0
)
IMAGE = flags.DEFINE_integer("image", None, "Height and width of a net's images, pixels; by default its paper's.")
DTYPE = flags.DEFINE_enum("dtype", "bfloat16", ["float32", "bfloat16"], "Dtype of activations and products.")
DENSE = flags.DEFINE_integer("dense", None, "Height and width of an image to run densely, instead of training.")
TILE = flags.DEFINE_integer("tile", None, "Scores along a side of a stream's tile, instead of training.")
STRIDE = flags.DEFINE_integer("stride", None, "With --dense and --tile: distance of scores; default: half the native.")
BACKEND = flags.DEFINE_list("backend", [], "With --dense and --tile: shift, atrous, mpf; default: all that differ.")
FIT = flags.DEFINE_bool("fit", False, "Where a batch does not fit, halve it until one does.")
TEXTS = flags.DEFINE_string("texts", None, "Folder that the compiled programs are written to, as text.")
OUTPUT = flags.DEFINE_string("output", os.path.join("benchmarks", "results"), "Directory of the results.")
SMOKE = flags.DEFINE_bool("smoke", False, "A small step, a small pass and a small tile; nothing is written.")


def main() -> None:
    """Compiles, writes the results and prints them."""
    os.environ.setdefault("JAX_PLATFORMS", "cpu")  # nothing runs; a TPU is not looked for
    from benchmarks import accelerators_table, machine
    from cnn.runs import logs

    path = os.path.join(OUTPUT.value, "accelerators.json")
    results: dict[str, Any] = {"rows": []}
    if not SMOKE.value and os.path.exists(path):
        with open(path) as file:
            results = json.load(file)
    jobs = list(_smoke() if SMOKE.value else _jobs())
    facts = logs.environment()
    facts["packages"]["libtpu"] = metadata.version("libtpu")
    versions = {"commit": facts["commit"], "packages": {name: facts["packages"][name] for name in ("jax", "libtpu")}}
    rows = []
    for key, make in jobs:
        row = next((row for row in results["rows"] if {name: row[name] for name in key if name in row} == key), None)
        if row is None:
            row = key | _compiled(key, make) | versions
            results["rows"].append(row)
            results |= facts | {"device": "none; programs were compiled and not run"}
            if not SMOKE.value:  # after each row, so that a stop loses none
                machine.write(OUTPUT.value, "accelerators", results, accelerators_table.text(results))
        rows.append(row)
        print(accelerators_table.line(row), flush=True)
    print(
        "\n" + accelerators_table.text({"rows": rows} | facts | {"device": "none; programs were compiled and not run"})
    )
    if len(rows) == 1 and "needs" in rows[0]:
        raise MemoryError(accelerators_table.line(rows[0]))


def _jobs() -> Iterator[tuple[dict[str, Any], Callable[..., Any]]]:
    """All that is asked for: what names a row, and a function that makes its program."""
    from benchmarks import accelerators_chips as chips
    from benchmarks import accelerators_programs as programs
    from cnn import nets
    from cnn.runtime.devices import SHARDINGS, Devices

    if BATCH.value and BATCH_PER_CHIP.value or DENSE.value and TILE.value:
        raise app.UsageError("give --batch or --batch_per_chip, and --dense or --tile: one of them, not both")
    for what, given, names in (("net", NET.value, nets.names()), ("sharding", SHARDING.value, SHARDINGS)):
        if unknown := [name for name in given if name not in names]:
            raise app.UsageError(f"--{what}: unknown {', '.join(unknown)}; known are {', '.join(names)}")
    for name in TOPOLOGY.value:
        chips.parse(name)  # all names before the first is compiled
    for net in NET.value:
        wish = programs.Wish(net, programs.image_of(net, IMAGE.value), DTYPE.value)
        for where in TOPOLOGY.value:
            topology = chips.topology(where)
            common = {"net": net, "image": list(wish.image), "dtype": wish.dtype, "topology": where}
            if DENSE.value or TILE.value:
                yield from _maps(wish, topology, common)
                continue
            batch = BATCH.value or (BATCH_PER_CHIP.value or programs.batch_per_chip(net)) * len(topology.devices)
            # One device has the whole, however it is split.
            for sharding in SHARDING.value if len(topology.devices) > 1 else ["data"]:
                devices = Devices(topology.devices, sharding)

                def make(count: int = batch, wish: Any = wish, devices: Any = devices) -> Any:
                    return programs.training_step(wish, count, devices, EXAMPLES.value)

                key = {"what": "training", **common, "sharding": sharding, "batch": batch, "examples": EXAMPLES.value}
                yield key, make


def _maps(wish: Any, topology: Any, common: dict[str, Any]) -> Iterator[tuple[dict[str, Any], Callable[..., Any]]]:
    """Dense passes or tiles, by backend."""
    from benchmarks import accelerators_programs as programs
    from cnn.runtime.devices import Devices

    native, devices = programs.native_stride(wish), Devices(topology.devices)
    stride = STRIDE.value or max(1, native // 2)
    # A tile is never run in shifted passes where one dilated pass gives the same; nor is a map at the native stride.
    usual = ["shift", "atrous", "mpf"] if DENSE.value and stride % native else ["atrous", "mpf"]
    for backend in BACKEND.value or (usual if stride % native else ["atrous"]):
        size, function = (DENSE.value, programs.dense_pass) if DENSE.value else (TILE.value, programs.stream_tile)
        key = {"what": "dense" if DENSE.value else "tile", **common, "size": size, "stride": stride, "backend": backend}
        yield key, lambda size=size, backend=backend, function=function: function(wish, size, stride, backend, devices)


def _smoke() -> Iterator[tuple[dict[str, Any], Callable[..., Any]]]:
    """A small program of each kind, on slices of one and of eight chips."""
    from benchmarks import accelerators_chips as chips
    from benchmarks import accelerators_programs as programs
    from cnn.runtime.devices import Devices

    wish = programs.Wish("qa_net", (32, 32, 3))
    common = {"net": wish.net, "image": list(wish.image), "dtype": wish.dtype}
    one, eight = chips.topology("v5e:1x1"), chips.topology("v5e:2x4")
    devices = Devices(one.devices)
    key = {"what": "training", **common, "topology": eight.name, "sharding": "data", "batch": 64, "examples": 0}
    yield key, lambda count=64: programs.training_step(wish, count, Devices(eight.devices))
    key = {**common, "topology": one.name, "size": 64, "stride": 2, "backend": "mpf"}
    yield key | {"what": "dense"}, lambda: programs.dense_pass(wish, 64, 2, "mpf", devices)
    yield key | {"what": "tile", "size": 16}, lambda: programs.stream_tile(wish, 16, 2, "mpf", devices)


def _compiled(key: dict[str, Any], make: Callable[..., Any]) -> dict[str, Any]:
    """The figures of a program; where it needs more memory than there is, both sizes, and with --fit those that fit."""
    from benchmarks import accelerators_chips as chips
    from benchmarks import accelerators_figures as figures

    topology = chips.topology(key["topology"])
    made, start = make(), time.monotonic()
    try:
        compiled, seconds = figures.compile_program(made, topology)
    except figures.TooLargeError as error:
        found: dict[str, Any] = {"needs": error.needs, "has": error.has}
        found["compile_seconds"] = round(time.monotonic() - start, 1)
        if FIT.value and key["what"] == "training":
            half = key["batch"] // 2 // len(topology.devices) * len(topology.devices)
            fits = figures.largest_batch(make, half, topology)
            found["fits"] = fits[0] if fits else 0
            if fits:
                found["of_that_batch"] = figures.row(fits[2], topology, *fits[1])
        return found
    if TEXTS.value:
        os.makedirs(TEXTS.value, exist_ok=True)
        name = "_".join(str(part) for part in key.values() if not isinstance(part, list)).replace(":", "-")
        with open(os.path.join(TEXTS.value, f"{name}.txt"), "w") as file:
            file.write(compiled.as_text())
    return figures.row(made, topology, compiled, seconds)


if __name__ == "__main__":
    program.start(main, "--net=vgg16 --batch=8192 --topology=v5e:16x16 --sharding=fsdp")
