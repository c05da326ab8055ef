"""Ways to train several seeds of one net: `python -m benchmarks.seeds`; see README.md.

The seeds are trained one after another, one on each device, or side by side in each kernel. Writes seeds.json and
seeds.md to --output.
"""

from typing import Any

import jax
from absl import flags

from benchmarks import machine, options, seeds_comparison
from cnn.commands import program
from cnn.runtime.process import keep_memory, use_cpu_devices

flags.adopt_module_key_flags(options)


def main() -> None:
    """Runs the cases, writes the results and prints them."""
    cases = seeds_comparison.SMOKE if options.SMOKE.value else seeds_comparison.CASES
    keep_memory()
    use_cpu_devices(0, max(case.batch for case in cases.values()))
    results: dict[str, Any] = {"cases": {}, **machine.first_facts()}
    for name in options.names(cases):
        results["cases"][name] = seeds_comparison.measure(
            cases[name], 2 if options.SMOKE.value else options.ROUNDS.value
        )
        print(f"{name}: done, {jax.local_device_count()} devices", flush=True)
    results |= machine.last_facts()
    table = seeds_comparison.text(results)
    print(table)
    if not options.SMOKE.value:
        machine.write(options.OUTPUT.value, "seeds", results, table)


if __name__ == "__main__":
    program.start(main, "--case=full_cnn28")
