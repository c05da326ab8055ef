"""Whether a net can be trained on its data as a config says, found out without computing: before anything is written.

What can be said before there are data is checked by `cnn.training.early`; here is what depends on them.
"""

import functools
import os
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from cnn import geometry
from cnn.data import Dataset, augment, rand_augment, random_cuts
from cnn.data.streamed import Streamed
from cnn.images.pictures import MAX_BYTES
from cnn.nets import Net, own_layers
from cnn.nets.outputs import class_count
from cnn.runs.config import Config
from cnn.runtime import own_code
from cnn.training import steps, views
from cnn.windows import shape_text


def all_of(*checks: Callable[[], Any]) -> None:
    """Makes several checks, and says all that is wrong at once.

    Args:
      *checks: functions without arguments, each of which raises a ValueError for what is wrong.

    Raises:
      ValueError: if some raise one; the very error where it is one, else a line of all.
    """
    errors: list[ValueError] = []
    for check in checks:
        try:
            check()
        except ValueError as error:
            errors.append(error)
    texts = list(dict.fromkeys(str(error) for error in errors))
    if len(texts) == 1:
        raise errors[0]
    if texts:
        raise ValueError("; ".join(texts))


def check_net(config: Config, net: Net, image_shape: tuple[int, int, int], num_classes: int) -> geometry.Table:
    """Checks that a net takes the images and gives a score for each class.

    Args:
      config: config of the run; names the net and the data in messages.
      net: the classifier.
      image_shape: (H, W, C) of one image.
      num_classes: number of classes in the data.

    Returns:
      The net's layers.

    Raises:
      GeometryError: if the net cannot take images of that size.
      ValueError: if a layer of the user's own does not do what it says, or the scores do not fit; names net and layer;
        or if there are not two classes.
    """
    name = own_code.short(config.net.name)
    if num_classes < 2:
        raise ValueError(
            f"data {own_code.short(config.data.name)!r} has {num_classes} class: there is nothing to tell apart; where "
            "classes are folders, do they lie one level deeper?"
        )
    try:
        own_layers.check(net, image_shape)
        table = geometry.table(net, image_shape)
    except ValueError as error:
        if not own_code.is_reference(config.net.name):
            raise
        raise type(error)(f"net {name!r}: {error}") from error
    last = table[-1]
    if len(last.output_shape) != 1:
        raise ValueError(
            f"net {name!r} ends in {last.name} ({last.kind}), which gives {shape_text(last.output_shape)} for an image "
            f"of {shape_text(image_shape)}; training needs one score for each class: end it in Flatten(), "
            "Dense(num_classes)"
        )
    if class_count(last.output_shape[0]) < num_classes:
        raise ValueError(
            f"net {name!r} ends in {last.name} ({last.kind}) with {last.output_shape[0]} outputs, fewer than the "
            f"{num_classes} classes of data {own_code.short(config.data.name)!r}; end it in Dense(num_classes)"
        )
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if 2 * 4 * table.params > memory:
        raise ValueError(
            f"net {name!r} has {table.params:,} parameters; these and their gradients take "
            f"{8 * table.params / 2**30:,.0f} GiB as float32, and the machine has {memory / 2**30:,.0f} GiB: take a "
            "smaller net, or smaller images before fully connected layers"
        )
    return table


def check_step(
    config: Config,
    net: Net,
    optimizer: optax.GradientTransformation,
    image_shape: tuple[int, int, int],
    num_examples: int,
) -> None:
    """Checks that batches fit in memory, that images can be augmented and, for a net of the user's own, a whole step.

    Args:
      config: config of the run.
      net: the classifier.
      optimizer: the optimiser, as `cnn.training.optimizer.make_optimizer` makes it.
      image_shape: (H, W, C) of one image.
      num_examples: size of the training split.

    Raises:
      ValueError: if one does not; names the field or the net.
    """
    all_of(
        lambda: _check_batches(config, image_shape),
        lambda: _check_indices(config),
        lambda: _check_pad(config, image_shape),
        lambda: views.check_shift(config.eval.shift, image_shape[:2]),
        lambda: _check_turns(config, num_examples),
    )
    if own_code.is_reference(config.net.name):
        _check_own(config, net, optimizer, image_shape)


def _check_turns(config: Config, num_examples: int) -> None:
    if config.augment.get("flip_in_turn", False):
        steps.check_turns(config.train.batch_size, num_examples)


def _check_batches(config: Config, image_shape: tuple[int, int, int]) -> None:
    one = 4 * image_shape[0] * image_shape[1] * image_shape[2]
    too_large = [
        f"{field} (={count}): so many images of {shape_text(image_shape)} take {count * one / 2**30:,.1f} GiB as "
        f"float32, above the limit of {MAX_BYTES / 2**30:g} GiB; {max(1, MAX_BYTES // one):,} fit"
        for field, count in (("train.batch_size", config.train.batch_size), ("eval.batch_size", config.eval.batch_size))
        if count * one > MAX_BYTES
    ]
    if too_large:
        raise ValueError("; ".join(too_large))


def _check_indices(config: Config) -> None:
    indices = config.train.steps_per_dispatch * config.train.batch_size * 4
    if indices > MAX_BYTES:
        raise ValueError(
            f"train.steps_per_dispatch (={config.train.steps_per_dispatch}): the int32 indices of so many steps' "
            f"examples take {indices / 2**30:,.1f} GiB, above the limit of {MAX_BYTES / 2**30:g} GiB; take fewer"
        )


def _check_pad(config: Config, image_shape: tuple[int, int, int]) -> None:
    if config.augment.pad > min(image_shape[:2]):
        raise ValueError(
            f"augment.pad (={config.augment.pad}) must be at most {min(image_shape[:2])} pixels, the smaller side of "
            f"the images of {shape_text(image_shape)}: nothing would be left of many of them"
        )
    key = jax.eval_shape(lambda: jax.random.key(0))
    images = jax.ShapeDtypeStruct((2, *image_shape), jnp.float32)
    try:
        jax.eval_shape(functools.partial(augment.augment, **augment.options(config.augment)), key, images)
    except ValueError as error:
        raise ValueError(f"augment: {error}") from error


def check_cuts(config: Config, dataset: Dataset) -> None:
    """Checks that training images can be cut out of whole pictures and changed on the host as the config asks.

    Args:
      config: config of the run.
      dataset: all of `config.data`, loaded.

    Raises:
      ValueError: if they are in memory, cut already, or of channels that are not changed; names the fields.
    """
    if rand_augment.of_config(config.augment).operations:
        _check_randaugment(dataset)
    cuts, smallest = random_cuts.of_config(config.augment), min(dataset.image_shape[:2])
    said = " and ".join(f"augment.{name}" for name in ("area", "shortest_side") if len(getattr(cuts, name)))
    if not said:
        return
    if len(cuts.area) and len(cuts.shortest_side):
        raise ValueError(f"{said}: two ways to cut images out of pictures; leave one of them at ()")
    if not isinstance(dataset.train.images, Streamed):
        raise ValueError(
            f"{said}: images are cut out of whole pictures, and those in memory are cut already; pictures of a folder, "
            "of shards or a TFDS set stay whole with data.in_memory=no"
        )
    if len(cuts.shortest_side) and cuts.shortest_side[0] < smallest:
        raise ValueError(
            f"augment.shortest_side (={tuple(cuts.shortest_side)}) must be at least {smallest} pixels, the size of the "
            "images that are cut out"
        )


def _check_randaugment(dataset: Dataset) -> None:
    if not isinstance(dataset.train.images, Streamed):
        raise ValueError(
            "augment.randaugment: images are changed as they are decoded, and those in memory are decoded already; "
            "pictures of a folder, of shards or a TFDS set stay in their files with data.in_memory=no"
        )
    if dataset.image_shape[2] not in (1, 3):
        raise ValueError(
            "augment.randaugment: its operations are for grey and for RGB images, and these have "
            f"{dataset.image_shape[2]} channels (data.channels chooses some of them)"
        )


def _check_own(
    config: Config, net: Net, optimizer: optax.GradientTransformation, image_shape: tuple[int, int, int]
) -> None:
    """Traces a step of training with a net of the user's own: whatever fails in it is said in a line."""
    middle = (0.5,) * image_shape[2]
    step = steps.make_step(net, optimizer, config, middle, middle, num_examples=1)
    images = jax.ShapeDtypeStruct((2, *image_shape), jnp.uint8)
    labels = jax.ShapeDtypeStruct((2,), jnp.int32)
    try:
        state = jax.eval_shape(lambda: steps.init_state(net, optimizer, image_shape, 0))
        jax.eval_shape(step, state, images, labels)
    except ValueError:
        raise
    except Exception as error:
        text = own_code.describe(error, own_code.source_file(config.net.name))
        raise ValueError(f"net {own_code.short(config.net.name)!r} cannot be trained: {text}") from error
