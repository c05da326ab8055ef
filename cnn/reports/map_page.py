"""What a page says of one image that was run densely."""

import math
from collections.abc import Mapping
from typing import Any

from cnn.reports import html, image_facts
from cnn.reports.html import Facts
from cnn.reports.html_cells import Cell
from cnn.reports.overview import Overview
from cnn.reports.tables import Table
from cnn.windows import shape_text


def items(found: Mapping[str, Any], shown: Overview | None) -> list[html.Item]:
    """What a page says of an image that was run densely.

    Args:
      found: its NAME_map.json.
      shown: the picture to look at; None: there is none.

    Returns:
      The picture, facts and the table of classes, and of detections where these were looked for.
    """
    rows = [
        (over, place, name, "NaN" if value is None else f"{value:.4f}" if over in ("logits", "max") else f"{value:.2%}")
        for over in ("probabilities", "logits", "max", "shares")
        for place, (name, value) in enumerate(found.get(over, ()), start=1)
    ]
    table = Table(("averaging", "place", "class", "score"), rows, "The best classes, averaged over all windows.")
    result: list[html.Item] = [shown] if shown else []
    result += [Facts(_facts(found)), table]
    counts = found.get("detections")
    if counts is not None:
        counted = [(name, Cell(f"{count:,}", count)) for name, count in counts.items()]
        result.append(Table(("class", "detections"), counted, f"Detections: {sum(counts.values()):,} in all."))
    return result


def _facts(found: Mapping[str, Any]) -> dict[str, Any]:
    """Facts of an image that was run densely, by the names that a reader knows."""
    facts = {"image": found["image"], "size": shape_text(found["size"]) + " pixels (height x width)"}
    facts |= {"read": found["chosen"]} if "chosen" in found else {}
    facts |= {"size of a pixel": found["pixel"]} if "pixel" in found else {}
    facts |= {"map": f"{found['map']}, {found['written']}"} if "map" in found else {}
    facts |= {"windows": shape_text(found["windows"]), "stride": found["stride"] or "the net's own"}
    if "tiles" in found:
        facts["window"] = shape_text(found["window"]) + " pixels"
        facts["computed"] = image_facts.tiles_text(found)
        windows = math.prod(found["windows"])
        absent = windows - found["known_windows"]
        facts["windows without a score"] = f"{absent:,} of {windows:,} ({absent / windows:.1%})"
        if found.get("skipped_tiles"):
            facts["tiles not computed"] = f"{found['skipped_tiles']:,} of {found['tiles']:,}"
        exact = "to the bit" if found["to_the_bit"] else "within 1e-5 of the largest score"
        facts["scores"] = f"equal to the map of one pass {exact}"
    return facts
