"""Two checkouts of the project side by side: `python -m benchmarks.before_after --other=CHECKOUT`; see README.md.

One process for each checkout runs the training steps of `benchmarks.train` and score maps of whole images. The
processes take turns, so that other work on the machine slows both alike. A ratio is this checkout's time divided by the
other's in the same turn. Writes before_after.json and before_after.md to --output.
"""

import os
import statistics
import subprocess
import sys
from typing import Any

from absl import app, flags, logging

from benchmarks import options

flags.adopt_module_key_flags(options)
OTHER = flags.DEFINE_string("other", None, "Folder of the other checkout, such as a clone at an earlier commit.")
CASES = {
    **{f"train {name}": f"train {name}" for name in ("full_cnn28", "full_cnn32", "qa_net", "lenet5", "vgg11")},
    "dense VGG-16 384x384": "dense vgg16 384 384 3 224 0 1",
    "dense VGG-16 384x384 half stride": "dense vgg16 384 384 3 224 16 1",
    "dense qa_net 512x512": "dense qa_net 512 512 3 32 0 1",
    "dense qa_net 512x512 stride 1": "dense qa_net 512 512 3 32 1 1",
    "dense full_cnn 4x256x256": "dense full_cnn 256 256 1 28 0 4",
    "dense giusti_n4 512x512 stride 1": "dense giusti_n4 512 512 1 95 1 1",
}
SMOKE = {"dense qa_net 40x36": "dense qa_net 40 36 3 32 1 1"}


class Contender:
    """A process that runs the code of one checkout and times cases on request."""

    def __init__(self, folder: str) -> None:
        """Starts the process.

        Args:
          folder: path of the checkout.
        """
        script = os.path.join(os.path.dirname(os.path.abspath(__file__)), "before_after_contender.py")
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        self._process: Any = subprocess.Popen([sys.executable, script, os.path.abspath(folder)], **pipes)

    def seconds(self, case: str) -> float:
        """Times a case; the first call of a case also compiles it.

        Args:
          case: a value of `CASES`.

        Returns:
          Time of one training step, or of one score map, seconds.

        Raises:
          ChildProcessError: if the process ended.
        """
        self._process.stdin.write(case + "\n")
        self._process.stdin.flush()
        for line in self._process.stdout:
            if line.startswith("seconds "):
                return float(line.split()[1])
        raise ChildProcessError(f"case {case!r} failed; what it said stands above")

    def stop(self) -> None:
        """Ends the process."""
        self._process.stdin.close()
        self._process.wait()


def main(argv: list[str]) -> None:
    """Runs the cases, writes the results and prints them."""
    if len(argv) > 1 or not OTHER.value:
        raise app.UsageError("--other=CHECKOUT is missing: a clone of the project at another commit")
    logging.set_verbosity(logging.WARNING)
    from benchmarks import machine
    from cnn.reports.markdown import markdown

    cases = SMOKE if options.SMOKE.value else CASES
    here = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    results: dict[str, Any] = {"cases": {}, "other": _commit(OTHER.value), **machine.first_facts()}
    contenders = {"other": Contender(OTHER.value), "this": Contender(here)}
    for name in options.names(cases):
        times: dict[str, list[float]] = {who: [] for who in contenders}
        for turn in range((2 if options.SMOKE.value else options.ROUNDS.value) + 1):
            for who in ("other", "this") if turn % 2 else ("this", "other"):
                times[who].append(contenders[who].seconds(cases[name]))
        other, this = times["other"][1:], times["this"][1:]  # without the first turn, which compiles
        ratios = sorted(b / a for a, b in zip(other, this, strict=True))
        results["cases"][name] = {
            "other_ms": 1e3 * statistics.median(other),
            "this_ms": 1e3 * statistics.median(this),
            "ratio": statistics.median(ratios),
            "lowest": ratios[0],
            "highest": ratios[-1],
        }
        print(f"{name}: {results['cases'][name]['ratio']:.3f}", flush=True)
    for contender in contenders.values():
        contender.stop()
    results |= machine.last_facts()
    rows = []
    for name, case in results["cases"].items():
        texts = (f"{case[who]:.2f} ms" for who in ("other_ms", "this_ms"))
        rows.append([name, *texts, f"{case['ratio']:.3f}", f"{case['lowest']:.3f} to {case['highest']:.3f}"])
    table = markdown(["case", "other", "this", "ratio", "lowest to highest turn"], rows)
    text = f"# This checkout against commit {results['other']}\n\n{table}\n{machine.lines(results)}"
    print(text)
    if not options.SMOKE.value:
        machine.write(options.OUTPUT.value, "before_after", results, text)


def _commit(folder: str) -> str:
    """The hash of the commit of a checkout."""
    command = ["git", "-C", folder, "rev-parse", "HEAD"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


if __name__ == "__main__":
    app.run(main)
