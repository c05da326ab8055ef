"""The report of programs that were compiled for chips which are not here."""

from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks import accelerators_chips as chips
from cnn.reports.markdown import markdown
from cnn.runtime.byte_sizes import bytes_text
from cnn.windows import shape_text

_HEADERS = (
    "used, GiB",
    "arguments",
    "temporaries",
    "left, GiB",
    "GFLOP",
    "GB of operations",
    "GB moved",
    "MB all-reduced",
    "gathered",
    "reduce-scattered",
    "other",
    "ms at least",
    "by",
    "utilisation at most",
)


def line(row: Mapping[str, Any]) -> str:
    """A row as one line of text.

    Args:
      row: what was compiled, and its figures or what it needs.

    Returns:
      The line.
    """
    where = f"{row['net']}, {_what(row)}, {row['dtype']}, on {row['topology']}"
    if "needs" in row:
        text = f"{where}: needs {bytes_text(row['needs'])} on each chip, which has {bytes_text(row['has'])}"
        if "fits" in row:
            return f"{text}; " + (f"a batch of {row['fits']:,} fits" if row["fits"] else "no batch fits")
        return f"{text}; a smaller batch, more chips or --sharding=fsdp take less" if "batch" in row else text
    return (
        f"{where}: {bytes_text(row['memory']['used'])} of {bytes_text(_chip(row).memory)} on each chip, at least "
        f"{1e3 * row['roofline_seconds']:.3g} ms by {row['bound_by']}, utilisation at most {row['utilisation']:.0%}"
    )


def _what(row: Mapping[str, Any]) -> str:
    if row["what"] == "training":
        return f"a step of {row['batch']:,}, {row['sharding']}"
    kind = f"{row['size']:,} pixels square" if row["what"] == "dense" else f"a tile of {row['size']} scores square"
    return f"{kind} at stride {row['stride']}, {row['backend']}"


def text(results: Mapping[str, Any]) -> str:
    """The report.

    Args:
      results: {"rows": all rows, ...}, with the facts of `cnn.runs.logs.environment`.

    Returns:
      Markdown.
    """
    rows = results["rows"]
    parts = ["# Programs compiled for TPUs that were not there\n"]
    for what, title, headers in (
        ("training", "Training steps", ("net", "topology", "chips", "sharding", "batch")),
        ("dense", "Dense passes, of one chip", ("net", "topology", "image", "stride", "backend")),
        ("tile", "Tiles of a stream, of one chip", ("net", "topology", "scores", "stride", "backend")),
    ):
        some = [row for row in rows if row["what"] == what]
        if some:
            more = ("images/s at most",) if what == "training" else ()
            table = markdown((*headers, *_HEADERS, *more), [(*_first(row), *_figures(row)) for row in some])
            parts.append(f"## {title}\n\n{_about(some)}\n\n{table}")
    return "\n".join([*parts, _facts(results)])


def _about(rows: Sequence[Mapping[str, Any]]) -> str:
    """What all rows of a table have in common, or how they differ."""
    images = dict.fromkeys(f"`{row['net']}` {shape_text(row['image'])}" for row in rows)
    dtypes = ", ".join(dict.fromkeys(row["dtype"] for row in rows))
    held = dict.fromkeys(row.get("examples", 0) for row in rows)
    given = {0: "each chip is given its share of the batch"}
    data = [given.get(count, f"batches are drawn from {count:,} examples on each chip") for count in held]
    return f"Images: {', '.join(images)}; {dtypes}" + (f"; {'; '.join(data)}." if "batch" in rows[0] else ".")


def _first(row: Mapping[str, Any]) -> tuple[Any, ...]:
    if row["what"] == "training":
        size = _chips(row)
        sharding = row["sharding"] if size > 1 else "any"
        return row["net"], row["topology"], f"{size:,}", sharding, f"{row['batch']:,}"
    return row["net"], row["topology"], f"{row['size']:,}", row["stride"], row["backend"]


def _figures(row: Mapping[str, Any]) -> list[str]:
    training = row["what"] == "training"
    if "needs" in row:
        over = f"needs {row['needs'] / chips.GIB:.2f} of {row['has'] / chips.GIB:.2f}"
        fits = f"{row['fits']:,} fit" if row.get("fits") else "does not fit"
        return [over, fits, *["-"] * (len(_HEADERS) - 2 + training)]
    memory, sums = row["memory"], row["collectives"]
    other = sum(one["bytes"] for kind, one in sums.items() if kind in ("all-to-all", "collective-permute"))
    bytes_of = {kind: one["bytes"] for kind, one in sums.items()}
    cells = [
        *(f"{memory[name] / chips.GIB:.2f}" for name in ("used", "arguments", "temporaries", "left")),
        f"{row['flops'] / 1e9:,.1f}",
        f"{row['bytes_accessed'] / 1e9:.3g}",
        f"{row['bytes_moved'] / 1e9:.3g}",
        *(f"{bytes_of.get(kind, 0) / 1e6:,.1f}" for kind in ("all-reduce", "all-gather", "reduce-scatter")),
        f"{other / 1e6:,.1f}",
        f"{1e3 * row['roofline_seconds']:.3g}",
        row["bound_by"],
        f"{row['utilisation']:.0%}",
    ]
    return [*cells, f"{row['batch'] / row['roofline_seconds']:,.0f}"] if training else cells


def _chips(row: Mapping[str, Any]) -> int:
    count = 1
    for size in chips.parse(row["topology"])[1]:
        count *= size
    return count


def _chip(row: Mapping[str, Any]) -> chips.Chip:
    return chips.parse(row["topology"])[0]


def _facts(results: Mapping[str, Any]) -> str:
    """How to read the tables, where the peaks are from, and what compiled them."""
    used = dict.fromkeys(row["topology"].partition(":")[0] for row in results["rows"])
    peaks = [
        f"{name}: {one.flops / 1e12:,.0f} TFLOP/s in bfloat16, {one.memory / chips.GIB:.2f} GiB for a program, "
        f"{one.bandwidth / 1e9:,.0f} GB/s, links of {one.link / 1e9:.0f} GB/s each way ({one.source})"
        for name in used
        for one in [chips.CHIPS[name]]
    ]
    packages = ", ".join(f"{name} {version}" for name, version in results["packages"].items())
    commits = ", ".join(dict.fromkeys(str(row["commit"]) for row in results["rows"] if row.get("commit")))
    facts = [
        "all figures are of one chip and of one run; memory is arguments + temporaries + results + code, without "
        "results that take an argument's place; GB of operations are operands and results of all operations as the "
        "compiler counts them, GB moved those that lie in the chip's main memory; MB are whole arrays",
        "ms at least: the largest of operations by peak, GB moved by the memory's bandwidth, and bytes sent around a "
        "ring by the bandwidth of the links of a chip at a corner; utilisation: operations of the net's convolutions "
        "and fully connected layers (of a step two for each multiply-add of the forward pass and of both gradients) "
        "by that time and the peak",
        *peaks,
        f"command `{results['command']}`, device {results['device']}, python {results['python']}, {packages}",
        f"commit {commits}",
    ]
    return "".join(f"- {fact}\n" for fact in facts)
