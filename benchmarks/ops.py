"""Every threshold of `cnn.ops`, measured on the machine at hand: `python -m benchmarks.ops`; see README.md.

Each CPU algorithm and XLA's own are timed in turn, at shapes on both sides of the rule that chooses between them.
Writes ops.json and ops.md to --output, in which rules that are wrong on this machine are marked.
"""

from typing import Any

from absl import app, flags, logging

from benchmarks import options

flags.adopt_module_key_flags(options)


def main(argv: list[str]) -> None:
    """Runs the cases, writes the results and prints them."""
    if len(argv) > 1:
        raise app.UsageError(f"unknown argument {argv[1]!r}; flags look like --case='extra row'")
    logging.set_verbosity(logging.WARNING)
    from benchmarks import machine, ops_comparison
    from cnn.runtime.process import keep_memory

    keep_memory()
    cases = ops_comparison.SMOKE if options.SMOKE.value else ops_comparison.CASES
    results: dict[str, Any] = {"cases": {}, **machine.first_facts()}
    for name in options.names(cases):
        row = ops_comparison.measure(cases[name], 2 if options.SMOKE.value else options.ROUNDS.value)
        results["cases"][name] = row
        print(f"{name}: {row['ratio']:.2f} of XLA's time, {'used' if row['used'] else 'not used'}", flush=True)
    results |= machine.last_facts()
    table = "\n".join(["# CPU algorithms against XLA's own\n", ops_comparison.text(results), machine.lines(results)])
    print(table)
    if not options.SMOKE.value:
        machine.write(options.OUTPUT.value, "ops", results, table)


if __name__ == "__main__":
    app.run(main)
