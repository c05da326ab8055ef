"""What a trained run leaves to look at: tables, pictures and its page."""

import os
from typing import Any

import numpy as np

from cnn.reports import figure, mistakes, net_pictures, run_pictures, run_report, scenes_report
from cnn.runs import checkpoint, logs
from cnn.runtime import locks, own_code
from cnn.training import loop, predict
from cnn.training.evaluate import Metrics

PICTURED = 2  # number of test images whose feature maps are drawn, each of another class


def write(task: loop.Task, workdir: str, variables: Any, test: Metrics) -> None:
    """Writes the tables and pictures of a run, its dense run over scenes if the config asks for one, and its page.

    Args:
      task: what was trained.
      workdir: directory of the run, which holds its config, metrics, checkpoints and result.
      variables: variables of the trained net, NumPy arrays.
      test: its metrics on the test split.
    """
    config = task.config
    names = checkpoint.all_names(task.dataset.class_names, len(test.confusion))
    counts = [[name, *row] for name, row in zip(names, test.confusion.tolist(), strict=True)]
    logs.write_csv(os.path.join(workdir, "confusion.csv"), ["label / prediction", *names], counts)
    predict.write_test_predictions(os.path.join(workdir, "predictions.csv"), task.dataset.test.labels, test, names)
    _draw(task, workdir, variables, test)
    if config.eval.scenes:
        folder = os.path.join(workdir, "dense_eval")
        options = {"scenes": config.eval.scenes, "size": config.eval.scene_size, "seed": config.seed}
        with locks.alone(os.path.join(folder, locks.NAME), folder):
            scenes_report.run_scenes(checkpoint.load_run(workdir), task.dataset.test, folder, **options)
    run_report.write_run_page(workdir)


def _draw(task: loop.Task, workdir: str, variables: Any, test: Metrics) -> None:
    """The pictures of a run: how well it does, and what its net has learned."""
    config, dataset, split = task.config, task.dataset, task.dataset.test
    title = figure.run_title(own_code.short(config.net.name), dataset.name)

    def path(name: str) -> str:
        return os.path.join(workdir, f"{name}.png")

    run_pictures.confusion_picture(path("confusion"), test.confusion, dataset.class_names, title)
    remark = run_pictures.train_remark(config.train.background, weighted=bool(config.train.get("class_weights")))
    run_pictures.curves_picture(path("curves"), logs.read_metrics(workdir), title, remark)
    kernel = net_pictures.first_kernel(task.net, variables)
    if kernel is not None:
        net_pictures.kernels_picture(path("kernels"), kernel, title=title)
    few = np.unique(split.labels, return_index=True)[1][:PICTURED]
    net_pictures.feature_maps_picture(
        path("features"),
        task.net,
        variables,
        split.images[few],
        dataset.mean,
        dataset.std,
        dataset.class_names,
        split.labels[few],
        title=title,
    )
    mistakes.mistakes_picture(path("mistakes"), mistakes.find(test, split.labels), split, dataset.class_names, title)
