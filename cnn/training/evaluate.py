"""Exact evaluation: every example counts once, sums are divided once at the end."""

import functools
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding

from cnn import data, geometry
from cnn.nets import Net, outputs
from cnn.runs import facts as facts_lib
from cnn.runs.checkpoint import Run
from cnn.runs.config import Config
from cnn.runtime import arrays_of_all, processes
from cnn.runtime.compiler import jit_net
from cnn.runtime.devices import Devices
from cnn.runtime.shares import WHOLE, Share
from cnn.training import sharded
from cnn.training.views import check_shift, mean_of_views, of_config


class Metrics(NamedTuple):
    """Metrics of a net on the examples of a split.

    Attributes:
      examples: number of examples.
      accuracy: fraction whose largest score is the label's; an example with a NaN among its scores is never right.
      top5: fraction whose label is among the five largest scores; None with fewer than ten classes, where it says
        little.
      loss: mean cross-entropy, nats; NaN if a score is.
      confusion: int64 [K, K]; row: label, column: prediction. An example with a NaN score has none and is not in it.
      class_examples: number of examples of each class, int64 [K].
      predictions: the class that each example is taken for, int32 [N], in the order of the split; -1 for one without.
      probabilities: probability of that class by the net's output activation, float32 [N]; NaN where there is none.
    """

    examples: int
    accuracy: float
    top5: float | None
    loss: float
    confusion: np.ndarray
    class_examples: np.ndarray
    predictions: np.ndarray
    probabilities: np.ndarray

    @property
    def per_class_accuracy(self) -> np.ndarray:
        """Fraction right among each class's examples, float64 [K]; NaN for a class without any."""
        right, totals = np.diag(self.confusion), self.class_examples
        return np.where(totals > 0, right / np.maximum(totals, 1), np.nan)

    @property
    def balanced_accuracy(self) -> float:
        """Mean of the classes' accuracies, each class counting alike; of those that have examples."""
        return float(np.nanmean(self.per_class_accuracy))

    def as_dict(self) -> dict[str, Any]:
        """Plain numbers for a log line: accuracy, loss, examples, and top5 where it is given."""
        numbers = {"accuracy": self.accuracy, "loss": self.loss, "examples": self.examples}
        return numbers if self.top5 is None else {**numbers, "top5": self.top5}


def rank(scores: Any, labels: Any) -> Any:
    """Number of classes ranked above the label: 0 is right, below 5 is right among the top five.

    Args:
      scores: [N, K], floating; an array of NumPy or of JAX.
      labels: integer [N], of the same.

    Returns:
      Integer [N]. Of equal scores the first class stands first, as argmax has it: constant scores are not 100 % right.
      Infinite scores compare as numbers do. A NaN compares with nothing: all K classes stand before the label then, so
      that a net that has diverged is right nowhere.
    """
    own = scores[np.arange(len(labels)), labels][:, None]
    first = np.arange(scores.shape[1])[None, :] < labels[:, None]
    undefined = (scores != scores).any(axis=1, keepdims=True)  # NaN, in either library
    return ((scores > own) | ((scores == own) & first) | undefined).sum(axis=1)


@jit_net
def logits(net: Net, variables: Mapping[str, Any], images: jax.Array, mean: Any, std: Any) -> jax.Array:
    """Class scores of images as large as the net's window, compiled once for each net and batch.

    Args:
      net: the classifier.
      variables: its variables.
      images: uint8 [N, H, W, C].
      mean, std: per channel, in units of the full range (`cnn.data.normalise`).

    Returns:
      [N, K].
    """
    scores: Any = net.apply(variables, data.normalise(images, mean, std), train=False)
    return scores.reshape(images.shape[0], scores.shape[-1])


def _score(
    net: Net,
    dtype: str,
    views: tuple[bool, int],
    devices: Devices | None,
    variables: Mapping[str, Any],
    images: jax.Array,
    labels: jax.Array,
    mean: Any,
    std: Any,
) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array]:
    """For each example: prediction, `rank` of the label, loss, probability of the prediction.

    Devices are given where the variables are split over them; views are mirror and shift, as `evaluate` has them.
    """

    def logits_of(images: jax.Array) -> jax.Array:
        x = data.normalise(images, mean, std).astype(dtype)
        scores: Any = sharded.apply(net, devices, variables, x, train=False)
        return scores.astype(jnp.float32)

    logits = mean_of_views(logits_of, images, *views)
    classes = outputs.class_scores(logits)
    loss = outputs.negative_log_likelihood(logits, labels, net.output_activation)
    predicted = classes.argmax(axis=1)
    probabilities = outputs.probabilities(logits, net.output_activation)
    probability = jnp.take_along_axis(probabilities, predicted[:, None], axis=1)[:, 0]
    return predicted, rank(classes, labels), loss, probability


@functools.cache
def _compiled_score(options: tuple[tuple[str, str | int], ...], shared: NamedSharding | None) -> Any:
    """`_score` as `jax.jit` makes it; the same one for the same options, or every split would be compiled anew."""
    return jax.jit(_score, static_argnums=(0, 1, 2, 3), out_shardings=shared, compiler_options=dict(options))


def evaluate(
    net: Net,
    variables: Mapping[str, Any],
    split: data.Split,
    mean: Sequence[float],
    std: Sequence[float],
    *,
    batch_size: int,
    dtype: str = "float32",
    mirror: bool = False,
    shift: int = 0,
    devices: Devices | None = None,
    share: Share = WHOLE,
) -> Metrics:
    """Scores a split; the last batch is padded, and the padding not counted.

    Args:
      net: the classifier.
      variables: its variables.
      split: images and labels.
      mean, std: mean and standard deviation of each channel, in units of the full range (see `cnn.data.Dataset`).
      batch_size: examples in one call to the devices; changes speed and memory; in nets with wide convolutions also how
        results are rounded (see `cnn.ops.winograd`).
      dtype: data type of the net's activations; scores and sums are float32 and wider.
      mirror, shift: the views of an image that its class scores are the mean of (`cnn.training.views`).
      devices: the devices to run on, over which variables may be split; None: all, of all processes.
      share: whose images the split holds, where devices are those of several processes, which all call this.

    Returns:
      The split's `Metrics`.

    Raises:
      ValueError: if the split is empty, the batch size below 1, or the shift as large as the images.
    """
    devices = devices or Devices()
    check_shift(shift, (split.images.shape[1], split.images.shape[2]))
    if batch_size < 1:
        raise ValueError(f"eval.batch_size (={batch_size}) must be at least 1")
    batch_size = -(-batch_size // devices.count) * devices.count  # a few more padded examples, the same sums
    count = len(split.labels)
    if not count:
        raise ValueError("the split has no examples; hold some out with data.validation_fraction")
    variables = devices.place(variables)
    table = geometry.table(net, split.images.shape[1:])
    shared = devices.split() if devices.are_shared else None
    score = _compiled_score(tuple(devices.compiler_options(table.macs).items()), shared)
    split_over = devices if sharded.is_split(devices) else None
    parts = []
    for batch, real in _batches(split, share, batch_size, devices):
        scored = score(
            net,
            dtype,
            (mirror, shift),
            split_over,
            variables,
            *batch,
            *(np.asarray(one, np.float32) for one in (mean, std)),
        )
        parts.append([np.asarray(arrays_of_all.own_rows(values) if shared else values)[:real] for values in scored])
    predicted, ranks, loss, probabilities = (
        arrays_of_all.rows_of_all(np.concatenate(values)) if shared else np.concatenate(values)
        for values in zip(*parts, strict=True)
    )
    classes = outputs.class_count(table[-1].output_shape[-1])
    confusion = np.zeros((classes, classes), np.int64)
    ordered = ranks < classes  # the others have a NaN score, and no prediction
    np.add.at(confusion, (split.labels[ordered], predicted[ordered]), 1)
    return Metrics(
        examples=count,
        accuracy=int((ranks == 0).sum()) / count,
        top5=int((ranks < 5).sum()) / count if classes >= 10 else None,
        loss=float(loss.astype(np.float64).sum() / count),
        confusion=confusion,
        class_examples=np.bincount(split.labels, minlength=classes),
        predictions=np.where(ordered, predicted, -1).astype(np.int32),
        probabilities=np.where(ordered, probabilities, np.nan).astype(np.float32),
    )


def _batches(
    split: data.Split, share: Share, batch_size: int, devices: Devices
) -> Iterator[tuple[tuple[jax.Array, jax.Array], int]]:
    """Images and labels of a split in batches on the devices, and how many of this process's are no padding."""
    if not devices.are_shared:
        for indices, real in data.batches(len(split.labels), batch_size):
            yield jax.device_put((split.images[indices], split.labels[indices]), devices.split()), real
        return
    labels = split.labels[share.rows(len(split.labels))]
    here = processes.share()
    own = batch_size // devices.count * (here.stop - here.first)
    # As many batches as the process with the most examples has; one with none takes part with zeros.
    for start in range(0, own * max(processes.gather(-(-len(labels) // own))), own):
        real = min(max(len(labels) - start, 0), own)
        rows = (np.zeros((own, *split.images.shape[1:]), np.uint8), np.zeros(own, np.int32))
        rows[0][:real], rows[1][:real] = split.images[start : start + real], labels[start : start + real]
        images, targets = (jax.make_array_from_process_local_data(devices.split(), one) for one in rows)
        yield (images, targets), real


def score_split(
    net: Net, variables: Any, config: Config, dataset: data.Dataset, split: str, devices: Devices | None = None
) -> Metrics:
    """Metrics of a trained net on a split of the data it was trained on.

    Args:
      net: the classifier.
      variables: its variables.
      config: config of the run; eval.batch_size, eval.mirror, eval.shift and train.dtype are read.
      dataset: the data set, which also holds the constants that images are normalised by.
      split: "train", "validation" or "test".
      devices: the devices to run on; None: all, of all processes, each of which has its share of the data set.

    Returns:
      The split's `Metrics`.

    Raises:
      ValueError: if the split is empty.
    """
    where = {"devices": devices, "share": dataset.share}
    return evaluate(net, variables, getattr(dataset, split), dataset.mean, dataset.std, **options(config), **where)


def options(config: Config) -> dict[str, Any]:
    """How a config says that splits are scored.

    Args:
      config: config of a run; eval.batch_size, train.dtype and the views of an image are read.

    Returns:
      Keyword arguments of `evaluate`.
    """
    return {"batch_size": config.eval.batch_size, "dtype": config.train.dtype, **of_config(config)}


def evaluate_run(run: Run) -> dict[str, dict[str, Any]]:
    """Scores a trained run's validation and test split.

    Args:
      run: a trained net, as `cnn.runs.checkpoint.load_run` gives it.

    Returns:
      {"validation": {...}, "test": {...}}: accuracy, loss, examples, top5, and mirror and shift if they are set;
      without an empty split.

    Raises:
      DataError: if the run's data cannot be read, or have other classes or images of another shape.
    """
    if processes.count() > 1:  # each of which has read it by itself
        processes.agree("runs", facts_lib.of_run(run))
    dataset = load_data(run)
    processes.agree("data", facts_lib.at_a_glance(dataset))
    splits = {"validation": dataset.validation, "test": dataset.test}
    how = {**options(run.config), "share": dataset.share}
    return {
        name: evaluate(run.net, run.variables, split, run.mean, run.std, **how).as_dict() | of_config(run.config)
        for name, split in splits.items()
        if len(split.labels)
    }


def load_data(run: Run) -> data.Dataset:
    """The data of a trained run as they are now, to be scored by its net.

    Args:
      run: a trained net; its config says where the data are.

    Returns:
      The data set, its labels in the order of the run's classes, after a line on standard error for each thing that is
      not as it was in training.

    Raises:
      DataError: if the data cannot be read, or have other classes (lists both) or images of another shape.
    """
    facts = facts_lib.read(run.workdir)
    dataset = facts_lib.in_order_of(data.load(**run.config.data, share=processes.share()), run.workdir, facts)
    differ = facts_lib.differences(dataset, facts)
    if differ:
        print(f"note: not as when {run.workdir} was trained: {'; '.join(differ)}", file=sys.stderr, flush=True)
    return dataset
