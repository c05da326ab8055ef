"""The results of pages of digits in Markdown: a column for each net, with mean and spread."""

import statistics
from collections.abc import Sequence
from typing import Any

from cnn.reports.markdown import markdown


def text(nets: Sequence[dict[str, Any]]) -> str:
    """The tables of `experiments.pages`.

    Args:
      nets: the results of one net each.

    Returns:
      What was asked, precision, recall and counts of each net, and those of each class of the first.
    """
    first = nets[0]
    titles = ["", *(f"seed {net['seed']}" for net in nets), "mean", "standard deviation"]
    rows = [["threshold", *(f"{net['threshold']:.2f}" for net in nets), "", ""]]
    for name in ("precision", "recall"):
        values = [net[name]["value"] for net in nets]
        cells = [f"{net[name]['value']:.2%} ({net[name]['low']:.2%} to {net[name]['high']:.2%})" for net in nets]
        spread = f"{statistics.stdev(values):.2%}" if len(values) > 1 else ""
        rows.append([name, *cells, f"{statistics.mean(values):.2%}", spread])
    kinds = [("digits", lambda net: net["digits"]), ("detections", lambda net: net["detections"])]
    kinds += [(kind, lambda net, kind=kind: net["wrong"][kind]) for kind in first["wrong"]]
    kinds += [("digits missed", lambda net: net["digits"] - net["right"])]
    kinds += [("pages without a mistake", lambda net: net["pages_without_a_mistake"])]
    rows += [[name, *(f"{of(net):,}" for net in nets), "", ""] for name, of in kinds]
    for name in first["seconds"]:
        rows.append([f"seconds of a page, {name}", *(f"{net['seconds'][name]:.2f}" for net in nets), "", ""])
    for name in first["pages_with_the_same_detections"]:
        cells = ["{} of {}".format(*net["pages_with_the_same_detections"][name]) for net in nets]
        rows.append([f"pages with the same detections, {name}", *cells, "", ""])
    rows.append(["accuracy of crops", *(f"{net['accuracy_of_crops']:.2%}" for net in nets), "", ""])
    classes = [
        [each["name"], *(f"{each[name]:,}" for name in ("digits", "detections", "right")), *_fractions(each)]
        for each in first["classes"]
    ]
    distance = first["centre_distance"] or {"mean": float("nan"), "largest": float("nan")}
    packages = ", ".join(f"{name} {version}" for name, version in first["packages"].items())
    notes = [
        f"{first['pages']} pages of 2000 x 2000 pixels; stride {first['stride']}, windows of two detections overlap by "
        f"at most {first['overlap']:g}; intervals of 95 % by the bootstrap over pages",
        f"thresholds: best F1 on {first['chosen_on']['pages']} other pages, where precision is "
        f"{first['chosen_on']['precision']['value']:.2%} and recall {first['chosen_on']['recall']['value']:.2%} (seed "
        f"{first['seed']})",
        f"from a window's centre to its digit's: {distance['mean']:.1f} pixels in the mean, {distance['largest']:.1f} "
        f"at most (seed {first['seed']})",
        f"command of the first: `{first['command']}`",
        f"device {first['device']}, python {first['python']}, {packages}",
        f"commit {first['commit']}",
    ]
    head = ["class", "digits", "detections", "right", "precision (95 %, Wilson)", "recall (95 %, Wilson)"]
    listed = "".join(f"- {note}\n" for note in notes)
    return (
        f"# Digits found on pages, n = {len(nets)}\n\n{markdown(titles, rows)}\n"
        f"Each class, seed {first['seed']}:\n\n{markdown(head, classes)}\n{listed}"
    )


def _fractions(each: dict[str, Any]) -> list[str]:
    parts = [(each[name]["value"], *each[name]["interval"]) for name in ("precision", "recall")]
    return [f"{value:.2%} ({low:.2%} to {high:.2%})" for value, low, high in parts]
