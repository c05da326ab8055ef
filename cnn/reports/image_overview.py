"""The overview of one image that was run densely: its thumbnail, small maps, best windows and detections."""

from collections.abc import Sequence

from cnn.reports import figure, overview, thumbnails
from cnn.reports.overview import EVERY, Overview
from cnn.reports.streamed import Looked


def make_overview(looked: Looked, title: str) -> Overview:
    """The picture to look at.

    Args:
      looked: the map and what it says.
      title: what the image is.

    Returns:
      An `Overview`.
    """
    source, summary = looked.source, looked.summary
    shown = list(summary.layers)
    objects = sorted(k for k in shown if (summary.winner == k).any()) or shown[:1]
    palette = overview.colours(objects)
    picture, table = overview.class_picture(summary.winner, summary.certainty, palette)
    of_one = overview.probability_palette()
    layers = [(EVERY, thumbnails.data_uri(picture, table))]
    layers += [(looked.names[k], thumbnails.data_uri(summary.layers[k], of_one)) for k in shown]
    legend = [(looked.names[k], palette[k], float(summary.shares[k])) for k in objects]
    best = [(looked.names[one.class_index], one.probability, one.box, _cut(looked, one.box)) for one in summary.best]
    outlines = [(one.class_name, one.probability, (one.y0, one.x0, one.y1, one.x1)) for one in looked.outlines]
    remarks = [looked.shown.remark, figure.channels_remark(source.shape[2])]
    return Overview(
        title,
        list(source.shape[:2]),
        thumbnails.data_uri(source.thumbnail(looked.shown)),
        layers,
        legend,
        overview.scale_bar(source.shape[1], source.facts.spacing),
        best,
        outlines,
        sum(looked.counts.values()) if looked.counts is not None else None,
        "; ".join(remark for remark in remarks if remark).capitalize(),
    )


def _cut(looked: Looked, box: Sequence[int]) -> str:
    return thumbnails.data_uri(thumbnails.cut_out(looked.source, box, looked.shown))
