"""The flags of nets from other frameworks, `--weights=FILE` and what goes with it, and their reading."""

import os
from collections.abc import Mapping
from typing import Any

from absl import app, flags

from cnn.commands import flags as shared

WEIGHTS = shared.define_weights()
STRUCTURE = shared.define_path(
    "structure", None, "With --weights: the file that describes the layers: a .prototxt of Caffe, a .json of Keras."
)
MEAN_FILE = shared.define_path("mean_file", None, "With --weights=NET.caffemodel: the mean image, a .binaryproto.")
PREPROCESS = flags.DEFINE_list(
    "preprocess",
    [],
    "With --weights: files that say how images are prepared: config.json, preprocessor_config.json; what the first one "
    "says counts.",
)
HEAD = flags.DEFINE_string("head", None, "With --weights=NET.onnx: the output that holds the scores, of several.")
IMAGE_SIZE = flags.DEFINE_list("image_size", None, "With --weights: height,width of the net's images, pixels.")
MEAN = flags.DEFINE_list("mean", None, "With --weights: mean of the images, 0 to 1, for each channel or one for all.")
STD = flags.DEFINE_list("std", None, "With --weights: standard deviation of the images, in the same units.")
CHANNELS = flags.DEFINE_list(
    "channels",
    None,
    "With --weights: the net's order of channels, rgb, bgr or grey. Dense evaluation of an image: the channels that "
    "the net sees, by number from 0 or by name, in its order: 2,1,0.",
)
LABELS = shared.define_path("labels", None, "With --weights: a text file with one class name in each line.")
ORDERS = ("rgb", "bgr", "grey")
COMPANIONS = (STRUCTURE, MEAN_FILE, PREPROCESS, HEAD, IMAGE_SIZE, MEAN, STD, CHANNELS, LABELS)


def given() -> list[str]:
    """The flags beside --weights that the command line sets, with dashes."""
    return [f"--{holder.name}" for holder in COMPANIONS if flags.FLAGS[holder.name].present]


def channel_order() -> str | None:
    """The order of channels that --channels says of the net of --weights; None: it says nothing of it.

    Raises:
      absl.app.UsageError: if there is no such order.
    """
    order = ",".join(CHANNELS.value or ())
    if order and order not in ORDERS:
        raise app.UsageError(f"--channels={order}: the order of the net's channels is one of {', '.join(ORDERS)}")
    return order or None


def read(overrides: Mapping[str, Any], image: bool = False) -> Any:
    """Reads the classifier of --weights.

    Args:
      overrides: fields of the config that the command line sets; `net` names the net of weights without a structure.
      image: whether --channels may be those of an image.

    Returns:
      A `cnn.exchange.reading.Found`.
    """
    from cnn import nets
    from cnn.exchange import preprocessing, reading

    net, options = overrides.get("net.name"), {}
    for field, value in overrides.items():
        if field.startswith("net.options."):
            options[field.removeprefix("net.options.")] = value
        elif field == "net.num_classes":
            options["num_classes"] = value
        elif field not in ("net.name", "net.output_activation"):
            raise app.UsageError(f"--config.{field}: an import takes --config.net.* alone")
    if options and not net:
        raise app.UsageError("--config.net.options and --config.net.num_classes go with --config.net.name")
    given = preprocessing.of(
        "the command line",
        image_size=_numbers(IMAGE_SIZE, int),
        mean=_numbers(MEAN, float),
        std=_numbers(STD, float),
        channels=channel_order() if not image else _order_alone(),
        class_names=_names(),
        output_activation=overrides.get("net.output_activation"),
    )
    return reading.read(
        WEIGHTS.value,
        net=nets.create(net, **options) if net and options else net,
        structure=STRUCTURE.value,
        output=HEAD.value,
        preprocess=[os.path.expanduser(path) for path in PREPROCESS.value],
        mean_file=MEAN_FILE.value,
        given=given,
    )


def _order_alone() -> str | None:
    """The order of channels, where --channels says that and not which channels an image has."""
    return channel_order() if image_channels() is None else None


def image_channels() -> tuple[int | str, ...] | None:
    """The channels of an image that --channels names, by number or name; None: it says nothing of these."""
    if not CHANNELS.value or WEIGHTS.value and ",".join(CHANNELS.value) in ORDERS:
        return None
    return tuple(int(name) if name.strip().isdecimal() else name.strip() for name in CHANNELS.value)


def _numbers(holder: flags.FlagHolder, kind: type) -> list[Any] | int | None:
    if holder.value is None:
        return None
    try:
        numbers = [kind(text) for text in holder.value]
    except ValueError:
        text = ",".join(holder.value)
        raise app.UsageError(f"--{holder.name}={text}: numbers with commas between them, such as 224,224") from None
    return numbers[0] if holder is IMAGE_SIZE and len(numbers) == 1 else numbers


def _names() -> list[str] | None:
    if LABELS.value is None:
        return None
    with open(LABELS.value, encoding="utf-8-sig") as file:
        try:
            lines = [line.strip() for line in file.read().splitlines()]
        except UnicodeDecodeError as error:
            raise ValueError(f"--labels={LABELS.value}: is no text in UTF-8: {error}") from None
    while lines and not lines[-1]:
        lines.pop()
    if not lines or not all(lines):
        what = "empty lines" if lines else "no lines"
        raise ValueError(f"--labels={LABELS.value}: has {what}; one name in each line")
    return lines


def describe(found: Any) -> str:
    """What was read, for the terminal.

    Args:
      found: a `cnn.exchange.reading.Found`.

    Returns:
      The net, its table, what was assumed, and how far it was checked; several lines.
    """
    from cnn import geometry

    classifier, check = found.classifier, found.origin["check"]
    lines = [f"{found.origin['file']}: {classifier.net}", str(geometry.table(classifier.net, classifier.image_shape))]
    shown = (", ".join(f"{value:.4g}" for value in values) for values in (classifier.mean, classifier.std))
    lines.append(
        "images are {}, mean {} and standard deviation {} of the full range".format(
            {"rgb": "red, green, blue", "grey": "grey"}.get(classifier.channel_order, "of other channels"), *shown
        )
    )
    lines += [f"- {note.rstrip('.')}" for note in classifier.notes]
    if check["by"]:
        compared = f"{check['difference']:.1e} of the largest score from {check['by']}"
        lines.append(f"checked on {check['images']} images: differs by at most {compared}")
    elif found.origin["kind"] == "onnx":
        lines.append("not checked against another program: install onnxruntime, and the import compares with it")
    else:
        lines.append("not checked against another program: onnxruntime, which is asked, runs ONNX files alone")
    return "\n".join(lines)
