"""Fuzzing of what users give, guided by coverage: `python -m benchmarks.fuzz --target=flags --seconds=600`.

A target of `benchmarks.fuzz_targets` is run on thousands of inputs by atheris (libFuzzer for Python), which keeps those
that reach new code and changes them further. A finding is whatever else than an error that a user can mend with a
message of one line; more than five seconds of the processor's time for one input; or more than 2 GiB of memory. Writes
fuzzing.json, with the first input of each finding, and fuzzing.md to --output; results of other targets are kept.

    python -m pip install atheris  # Linux; it is in no requirements file, as it has no wheels for other systems
"""

import base64
import contextlib
import importlib
import json
import logging
import os
import re
import resource
import subprocess
import sys
import tempfile
import time
import traceback
import warnings
from typing import Any

from absl import app, flags

TARGET = flags.DEFINE_string("target", None, "What is fuzzed: a name of benchmarks.fuzz_targets.TARGETS.")
SECONDS = flags.DEFINE_integer("seconds", 600, "How long, wall-clock seconds.", lower_bound=1)
OUTPUT = flags.DEFINE_string("output", "benchmarks/results", "Directory of the results.")
RUN = flags.DEFINE_string("run", None, "Used by the command itself: a folder to fuzz in, in a process of its own.")
SLOW, LARGE = 5.0, 2048  # seconds of the processor's time for one input, and MiB of memory, above which it is a finding
MOST_LENGTH = 4096  # bytes of an input


def main(argv: list[str]) -> None:
    """Fuzzes one target."""
    if len(argv) > 1:
        raise app.UsageError(f"unknown argument {argv[1]!r}; flags look like --target=flags")
    if RUN.value:
        _fuzz(str(TARGET.value), RUN.value)
        return
    from benchmarks import fuzz_targets

    if TARGET.value not in fuzz_targets.TARGETS:
        raise app.UsageError(f"--target={TARGET.value}: one of {', '.join(fuzz_targets.TARGETS)}")
    _watch(TARGET.value)


def _watch(target: str) -> None:
    """Starts processes that fuzz until the time is used up; one that is killed, for its memory or time, is followed."""
    start, found = time.monotonic(), {"executions": 0, "findings": {}, "rejected": 0, "covered": 0}
    with tempfile.TemporaryDirectory() as folder:
        while (left := SECONDS.value - (time.monotonic() - start)) > 1:
            os.environ["JAX_PLATFORMS"] = "cpu"
            command = [sys.executable, "-m", "benchmarks.fuzz", f"--target={target}", f"--seconds={int(left)}"]
            with open(os.path.join(folder, "log"), "wb") as log:
                status = subprocess.run([*command, f"--run={folder}"], stdout=log, stderr=log, check=False).returncode
            with open(os.path.join(folder, "log"), errors="replace") as log:
                text = log.read()
            if not os.path.exists(os.path.join(folder, "state.json")):
                raise RuntimeError(f"{target} did not start: {text[-2000:]}")
            with open(os.path.join(folder, "state.json")) as file:
                state = json.load(file)
            os.remove(os.path.join(folder, "state.json"))
            for name in ("executions", "rejected"):
                found[name] += state[name]
            counts = re.findall(r"cov: (\d+)", text)
            found["covered"] = max([found["covered"], *map(int, counts)])
            found["findings"] = state["findings"] | found["findings"]
            if status:  # a timeout, too much memory, or a crash of a library
                key = f"the process ended with status {status}"
                with open(os.path.join(folder, "last"), "rb") as file:
                    found["findings"].setdefault(
                        key, {"input": base64.b64encode(file.read()).decode(), "text": text[-2000:]}
                    )
    _write(target, found | {"seconds": round(time.monotonic() - start)})


def _fuzz(target: str, folder: str) -> None:
    """Fuzzes in this process, and writes what it finds into a folder every few seconds."""
    atheris: Any = importlib.import_module("atheris")  # of no requirements file
    with atheris.instrument_imports(include=["cnn", "benchmarks"]):
        from benchmarks import fuzz_targets
        from cnn.commands import program
        from cnn.runtime import process

        for seed in range(20):  # modules that a target imports when it is called are instrumented too
            with contextlib.suppress(Exception):
                fuzz_targets.TARGETS[target](fuzz_targets.random_input(seed))
    logging.disable()  # what libraries log of a damaged file, thousands of times
    warnings.simplefilter("ignore")
    process.keep_memory()
    call = fuzz_targets.TARGETS[target]
    state: dict[str, Any] = {"executions": 0, "rejected": 0, "findings": {}}
    written, before = time.monotonic(), [0]
    last = os.open(os.path.join(folder, "last"), os.O_RDWR | os.O_CREAT)

    def note(key: str, data: bytes, text: str) -> None:
        shown = text[-3000:].replace(os.getcwd() + os.sep, "")
        state["findings"].setdefault(key, {"input": base64.b64encode(data).decode(), "text": shown})

    def one(data: bytes) -> None:
        nonlocal written
        os.pwrite(last, data, 0)
        os.ftruncate(last, len(data))
        begun = time.process_time()
        try:
            call(data)
        except program.MENDABLE as error:
            state["rejected"] += 1
            text = str(error)
            if "\n" in text or not text.strip():
                note(f"no line: {_where(error)}", data, traceback.format_exc())
        except Exception as error:
            note(_where(error), data, traceback.format_exc())
        state["executions"] += 1
        now = time.monotonic()
        took = time.process_time() - begun
        if took > SLOW and state["executions"] > 1:  # the first one imports
            note(f"slow: {took:.0f} s", data, "")
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
        if memory > max(LARGE, before[0]) and state["executions"] > 1:
            note(f"memory: {memory} MiB", data, "")
        before[0] = max(before[0], memory)
        if now - written > 2 or state["executions"] == 1:
            written = now
            _save(folder, state)

    corpus = os.path.join(folder, "corpus")
    os.makedirs(corpus, exist_ok=True)
    if not os.listdir(corpus):
        for seed in range(50):
            with open(os.path.join(corpus, f"seed{seed}"), "wb") as file:
                file.write(fuzz_targets.random_input(seed))
    limits = [f"-max_total_time={SECONDS.value}", f"-max_len={MOST_LENGTH}", "-timeout=120", "-rss_limit_mb=6000"]
    atheris.Setup([sys.argv[0], corpus, *limits, f"-artifact_prefix={folder}/"], one)
    atheris.Fuzz()


def _save(folder: str, state: dict[str, Any]) -> None:
    path = os.path.join(folder, "state.json")
    with open(path + ".part", "w") as file:
        json.dump(state, file)
    os.replace(path + ".part", path)


def _where(error: BaseException) -> str:
    """What was raised, and the last place of this project that it came through."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if f"{os.sep}cnn{os.sep}" in frame.filename]
    place = frames[-1] if frames else traceback.extract_tb(error.__traceback__)[-1]
    file = place.filename[place.filename.rfind(f"{os.sep}cnn{os.sep}") + 1 :]
    return f"{type(error).__name__} in {file}:{place.name}"


def _write(target: str, found: dict[str, Any]) -> None:
    """Adds a target's results to those that are there, and the table of all."""
    from cnn.runs import logs

    path = os.path.join(OUTPUT.value, "fuzzing.json")
    there: dict[str, Any] = {}
    if os.path.exists(path):
        with open(path) as file:
            there = json.load(file)
    facts = {key: value for key, value in logs.environment().items() if key in ("python", "device", "commit")}
    there[target] = found | {
        "command": f"python -m benchmarks.fuzz --target={target} --seconds={SECONDS.value}",
        **facts,
    }
    os.makedirs(OUTPUT.value, exist_ok=True)
    logs.write_json(path, there)
    text = table(there)
    with open(os.path.join(OUTPUT.value, "fuzzing.md"), "w") as file:
        file.write(text)
    print(text)


def table(results: dict[str, Any]) -> str:
    """The results of all targets in Markdown.

    Args:
      results: the contents of fuzzing.json.

    Returns:
      A table, and the findings in words.
    """
    head = "| target | seconds | inputs | refused in a line | branches reached | findings |"
    lines = ["# Fuzzing", "", head, "| --- | ---: | ---: | ---: | ---: | ---: |"]
    for name, found in sorted(results.items()):
        cells = (found["seconds"], found["executions"], found["rejected"], found["covered"], len(found["findings"]))
        lines.append(f"| {name} | " + " | ".join(f"{cell:,}" for cell in cells) + " |")
    lines.append("")
    for name, found in sorted(results.items()):
        lines += [f"- {name}: {key}" for key in sorted(found["findings"])]
    facts = [
        f"- `{found['command']}`, python {found['python']}, {found['device']}, commit {found['commit']}"
        for found in results.values()
    ]
    return "\n".join([*lines, *facts]) + "\n"


if __name__ == "__main__":
    app.run(main)
