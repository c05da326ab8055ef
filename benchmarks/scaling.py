"""How time and memory grow: `python -m benchmarks.scaling`; see README.md.

Time and memory are measured for growing batches, images, numbers of classes and numbers of devices, and c * size **
exponent is fitted to each series. Writes scaling.json and scaling.md to --output.
"""

import gc
from typing import Any

import jax
from absl import flags

from benchmarks import growth, machine, options, training
from cnn.commands import program
from cnn.runtime.process import keep_memory, use_cpu_devices

flags.adopt_module_key_flags(options)


def main() -> None:
    """Runs the series, writes the results and prints them."""
    names = options.names(growth.SERIES)
    keep_memory()
    use_cpu_devices(0, training.BATCH)
    counts = tuple(2**i for i in range(jax.local_device_count().bit_length()))
    sizes = (growth.SMOKE_SIZES if options.SMOKE.value else growth.SIZES) | {"devices": counts}
    results: dict[str, Any] = {"cases": {}, **machine.first_facts()}
    for name in names:
        results["cases"][name] = growth.measure(name, sizes[name], 2 if options.SMOKE.value else options.ROUNDS.value)
        print(f"{name}: time grows with the power {results['cases'][name]['time_exponent']}", flush=True)
        gc.collect()
    results |= machine.last_facts()
    table = growth.text(results)
    print(table)
    if not options.SMOKE.value:
        machine.write(options.OUTPUT.value, "scaling", results, table)


if __name__ == "__main__":
    program.start(main, "--case=batch,pixels")
