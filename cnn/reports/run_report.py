"""The pages of runs: `report.html` of a training run, and of what a dense evaluation wrote.

All of it is read from the files that a run leaves, so that a page can be written again at any time.
"""

import math
import os
import pathlib
from collections.abc import Mapping
from typing import Any

from cnn import geometry
from cnn.reports import html, map_page, run_pictures, scenes_tables, vgg_tables
from cnn.reports.html import Facts, Listing, Numbers, Picture, Section, Text
from cnn.reports.html_cells import DASH, Cell
from cnn.reports.overview import Overview
from cnn.reports.tables import Column, Table
from cnn.runs import checkpoint, defaults, logs
from cnn.runs import config as config_lib
from cnn.training import views
from cnn.windows import shape_text

NAME = "report.html"
FIRST_CLASSES = 12  # a run of more has the table of its classes behind the confusion picture, not before
SKIPPED = 50  # files that were left out and are named on the page
AT_THE_CENTRE = "Each window's value is drawn around the window's centre."
MAP_PICTURES = {
    "map": f"The picture, and the probability of the best class, or of each large part its class. {AT_THE_CENTRE}",
    "classes": f"The probability of each of the best classes at every window. {AT_THE_CENTRE}",
    "best": "The best window.",
    "pixels": "The class of the window centred on each pixel.",
}


def write_run_page(workdir: str) -> str:
    """Writes `report.html` of a training run: scores, curves, classes, layers, the dense run, config and versions.

    Args:
      workdir: directory of a finished run: result.json, config.json, data.json, and what there is of metrics.jsonl,
        curves.png, confusion.png, mistakes.png, kernels.png, features.png and dense_eval/.

    Returns:
      Path of the page.

    Raises:
      FileNotFoundError: if the run is not finished, or there is none.
    """
    result, data = _read(workdir, "result.json"), _read(workdir, "data.json")
    config = config_lib.load(workdir)
    net = checkpoint.make_net(config, len(data["class_names"]))
    table = geometry.table(net, data["image_shape"])
    right = round(result["test_accuracy"] * result["examples"])
    subtitle = (
        f"{right:,} of {result['examples']:,} test images right. Trained on {result['train_examples']:,} images of "
        f"{shape_text(data['image_shape'])} for {result['steps']:,} steps, in {_duration(result['seconds'])}."
    )
    weighted = bool(config.train.get("class_weights"))
    remark = run_pictures.train_remark(config.train.get("background", 0.0), weighted=weighted)
    curves = f"Loss and accuracy by step; {remark}."
    sections = [
        Section("Result", _scores(result)),
        Section("Training", [*_pictures(workdir, {"curves": curves}), *_history(workdir)]),
        Section("Classes", _classes(workdir, result)),
        Section("Data", _data(data)),
        Section("Mistakes", _mistakes(workdir, result)),
        Section("Net", _net(workdir, str(net), table)),
    ]
    folder = os.path.join(workdir, "dense_eval")
    if os.path.exists(os.path.join(folder, "result.json")):
        sections.append(Section("Dense run", _protocol(folder)[1]))
    sections += [Section("Config", [_config(config_lib.fields(config))]), made(result)]
    path = os.path.join(workdir, NAME)
    shown = [section for section in sections if section.items]
    html.write(path, f"{result['net']} on {result['data']}", shown, subtitle)
    return path


def _data(facts: Mapping[str, Any]) -> list[html.Item]:
    """What is odd in the data, and which files were left out; nothing where nothing is."""
    skipped = facts.get("skipped", [])
    lines = [str(line) for line in facts.get("remarks", [])]
    files = [f"{file}: {reason}" for file, reason in skipped[:SKIPPED]]
    if skipped[SKIPPED:]:
        files.append(f"and {len(skipped) - SKIPPED:,} more, in data.json")
    items: list[html.Item] = [Text(line[:1].upper() + line[1:] + ".") for line in lines]
    if files:
        items += [Text(f"{len(skipped):,} files were left out (data.on_error=skip):"), Listing("\n".join(files))]
    return items


def write_dense_page(output_dir: str) -> str:
    """Writes `report.html` of all that dense evaluations left in a directory: scenes, a grid, single pictures.

    Where the directory is the dense_eval of a finished run, that run's page is written again too.

    Args:
      output_dir: holds result.json and table.md with their pictures, NAME_map.json with its pictures, or both.

    Returns:
      Path of the page.

    Raises:
      FileNotFoundError: if it holds neither.
    """
    title, sections, how = "", [], []
    if os.path.exists(os.path.join(output_dir, "result.json")):
        title, items = _protocol(output_dir)
        sections.append(Section("Scenes" if _is_scenes(output_dir) else "Pictures at several scales", items))
        how.append(made(_read(output_dir, "result.json")))
    maps = sorted(pathlib.Path(output_dir).glob("*_map.json"))
    for path in maps:
        found = _read(output_dir, path.name)
        stem = path.name.removesuffix("_map.json")
        sections.append(Section(stem, _map(output_dir, stem, found)))
        how.append(made(found, f"How {stem} was made" if len(maps) > 1 or title else "How it was made"))
    if not sections:
        raise FileNotFoundError(f"{output_dir!r} holds no result.json and no NAME_map.json: nothing to report")
    page_path = os.path.join(output_dir, NAME)
    html.write(page_path, title or "Pictures, run densely", [*sections, *how])
    folder, name = os.path.split(os.path.abspath(output_dir))
    files = ("result.json", "config.json", "data.json")
    if name == "dense_eval" and all(os.path.exists(os.path.join(folder, file)) for file in files):
        write_run_page(folder)
    return page_path


def _scores(result: Mapping[str, Any]) -> list[html.Item]:
    """The numbers of a run, the first ones large."""
    shown = {"test accuracy": f"{result['test_accuracy']:.2%}", "test loss (nats)": f"{result['test_loss']:.4f}"}
    if "test_balanced_accuracy" in result:
        shown["mean of the classes' accuracies"] = f"{result['test_balanced_accuracy']:.2%}"
    if "test_top5" in result:
        shown["test top-5 accuracy"] = f"{result['test_top5']:.2%}"
    if "validation_accuracy" in result:
        shown["validation accuracy"] = f"{result['validation_accuracy']:.2%}"
    if seen := views.said(result):
        shown["scores"] = f"the mean of {seen}"
    if "best" in result and result["best"]["step"] != result["steps"]:
        best = result["best"]
        since = f" (of those after step {best['since']:,}; the one before was lost)" if best.get("since") else ""
        at = f"of the best net by validation, step {best['step']:,}{since}"
        shown |= {f"validation accuracy {at}": f"{best['validation_accuracy']:.2%}"}
        shown |= {f"test accuracy {at}": f"{best['test_accuracy']:.2%}"}
    shown |= {"parameters": f"{result['parameters']:,}", "multiply-adds an image": f"{result['multiply_adds']:,}"}
    return [Numbers(shown)]


def _history(workdir: str) -> list[Table]:
    """What was measured on the held-out splits, in time."""
    lines = [line for line in logs.read_metrics(workdir) if line["split"] != "train"]
    rows = [
        (
            Cell(f"{line['step']:,}", line["step"]),
            line["split"],
            _number(line.get("accuracy"), ".2%"),
            _number(line.get("loss"), ".4f"),
            _number(line.get("seconds"), ",.1f"),
        )
        for line in lines
    ]
    headers = ("step", "split", "accuracy", "loss (nats)", "seconds of training")
    return [Table(headers, rows, "Scores on images that were not trained on.", lead=3)] if rows else []


def _classes(workdir: str, result: Mapping[str, Any]) -> list[html.Item]:
    """Accuracy by class, and which classes are taken for which."""
    rows = [(name, _number(value, ".2%")) for name, value in result["per_class_accuracy"].items()]
    table = Table(("class", "test accuracy"), rows, "Fraction of each class's test images that is right.", lead=2)
    caption = "Test images by label (row) and prediction (column)."
    pictures = _pictures(workdir, {"confusion": caption})
    return [table, *pictures] if len(rows) <= FIRST_CLASSES else [*pictures, table]


def _mistakes(workdir: str, result: Mapping[str, Any]) -> list[html.Item]:
    """The test images that the net is most confidently wrong about."""
    if result["test_accuracy"] == 1:
        return [Text(f"All {result['examples']:,} test images are classified correctly.")]
    caption = (
        "Test images that are classified wrongly, the most confident mistake first; above each the predicted class "
        "with its probability, and the true class."
    )
    return list(_pictures(workdir, {"mistakes": caption}))


def _net(workdir: str, notation: str, table: geometry.Table) -> list[html.Item]:
    """The net in one line, its layers, and what they learned."""
    rows = [
        (
            row.name,
            row.kind,
            Cell(shape_text(row.output_shape), math.prod(row.output_shape)),
            _count(row.params),
            _count(row.macs),
            Cell(f"{row.macs / table.macs:.1%}" if row.macs else "", row.macs or math.nan),
            Cell(shape_text(row.receptive_field), math.prod(row.receptive_field)),
            Cell(shape_text(row.stride), math.prod(row.stride)),
        )
        for row in geometry.flat(table)
    ]
    headers = ("layer", "kind", "output", "parameters", "multiply-adds", "share", "receptive field", "stride")
    caption = (
        f"The layers, for one image of {shape_text(table.input_shape)}: {table.params:,} parameters and "
        f"{table.macs:,} multiply-adds in all. Receptive fields and strides are in pixels of the image."
    )
    if any(row.inside for row in table):
        caption += " Layers within paths stand below the block that they are counted in, block1/conv1 below block1."
    pictures = {
        "kernels": "The kernels of the first convolution, each scaled by its own largest magnitude.",
        "features": (
            "What each layer makes of test images, and the probabilities of the classes; orange: the label. Beside "
            "each layer stand its size, how many of its channels are drawn, and the range of their common scale."
        ),
    }
    return [Listing(notation), Table(headers, rows, caption), *_pictures(workdir, pictures)]


def _config(fields: Mapping[str, Any]) -> Table:
    """The fields of a config; those that differ from their default come first and stand out."""
    usual = config_lib.fields(defaults.get_config())
    differ = [name for name, value in fields.items() if name not in usual or value != usual[name]]
    rows = [
        (
            name,
            _field(fields[name])._replace(strong=True),
            _field(usual[name]) if name in usual else Cell(DASH, math.nan),
        )
        for name in differ
    ]
    rows += [(name, _field(value), _field(usual[name])) for name, value in fields.items() if name not in differ]
    caption = (
        f"Every field of the config, the {len(differ)} that differ from their default first and in bold; each can be "
        f"set on the command line, as --config.FIELD=VALUE."
    )
    columns = ("field", "value", Column("default", f"value without a config; {DASH} for a field that is absent then."))
    return Table(columns, rows, caption, lead=2)


def _protocol(folder: str) -> tuple[str, list[html.Item]]:
    """Title and items of a dense evaluation on scenes, or on a grid."""
    result = _read(folder, "result.json")
    scenes = _is_scenes(folder)
    report = scenes_tables if scenes else vgg_tables
    try:
        document, headline = report.document(result), report.headline(result)
    except KeyError:  # a run of an older version that lacks what the report says: table.md as it was written
        text = pathlib.Path(folder, "table.md").read_text(encoding="utf-8")
        title, items = text.partition("\n")[0].removeprefix("# "), [Listing(text)]
    else:
        prose = [Text(item) if isinstance(item, str) else item for item in document.items]
        title, items = document.title, [Numbers(headline), *prose]
    pictures = {"scenes": "The first scenes, each with the class of its object."} if scenes else {}
    # No more than there are scenes: an earlier evaluation of more may have left its own.
    for i in range(min(result.get("scenes", 0), len(list(pathlib.Path(folder).glob("scene_*.png"))))):
        pictures[f"scene_{i}"] = f"Scene {i}, and the probability of its class at every window. {AT_THE_CENTRE}"
    return title, [*items, *_pictures(folder, pictures)]


def _map(folder: str, stem: str, found: Mapping[str, Any]) -> list[html.Item]:
    """One image, run densely: what it looks like, its best classes by each average, and its score maps."""
    path = os.path.join(folder, f"{stem}_overview.json")
    shown = Overview(**logs.read_json(path)) if os.path.exists(path) else None
    drawn = [name for name in MAP_PICTURES if name != "pixels" or found["stride"] == 1]
    return [*map_page.items(found, shown), *_pictures(folder, {f"{stem}_{name}": MAP_PICTURES[name] for name in drawn})]


def made(result: Mapping[str, Any], title: str = "How it was made") -> Section:
    """Command, device, versions and commit.

    Args:
      result: the results of a run or an evaluation.
      title: of the section.

    Returns:
      The section.
    """
    names = ("device", "commit", "seed", "seconds", "python")
    facts = {name: result[name] for name in names if name in result} | dict(result["packages"])
    if "initial_run" in result:
        start = result["initial_run"]
        facts |= {
            "started from": f"{start['run']} at step {start['step']:,}",
            "layers taken": ", ".join(start["taken"]),
        }
    return Section(title, [Listing(result["command"]), Facts(facts)])


def _is_scenes(folder: str) -> bool:
    return "scenes" in _read(folder, "result.json")


def _pictures(folder: str, captions: Mapping[str, str]) -> list[Picture]:
    """Those of some pictures that are there."""
    paths = {name: os.path.join(folder, f"{name}.png") for name in captions}
    return [Picture(path, captions[name]) for name, path in paths.items() if os.path.exists(path)]


def _number(value: float | None, form: str) -> Cell:
    """A number that sorts unrounded; a dash where there is none."""
    if value is None or math.isnan(value):
        return Cell(DASH, math.nan)
    return Cell(format(value, form), value)


def _count(value: int) -> Cell:
    """A count; layers that have none of it show nothing, and sort last."""
    return Cell(f"{value:,}", value) if value else Cell("", math.nan)


def _duration(seconds: float) -> str:
    """Seconds as people say them."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def _field(value: Any) -> Cell:
    """A field's value as it is written on the command line; a dash where it is absent."""
    if value is None:
        return Cell(DASH, math.nan)
    return Cell(", ".join(map(str, value)) if isinstance(value, list) else str(value))


def _read(folder: str, name: str) -> dict[str, Any]:
    path = os.path.join(folder, name)
    if not os.path.exists(path):
        raise FileNotFoundError(f"{path} is missing: a page is written of what a finished run or evaluation left")
    return logs.read_json(path)
