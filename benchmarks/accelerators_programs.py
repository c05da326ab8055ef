"""The programs that are compiled for accelerators which are not here: a training step, a dense pass, a stream's tile.

They are the project's own, made from shapes: no weight and no image is made.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from benchmarks.training import flops_per_example
from cnn import dense, geometry, nets
from cnn.dense import tile_runs, tiles
from cnn.nets import Net
from cnn.runtime.devices import Devices
from cnn.training import dispatch, steps
from cnn.training.optimizer import make_optimizer
from cnn.windows import shape_text
from configs import default

LEARNING_RATE = 0.01
# Of the papers' nets; others are asked for by --image. The batch is one that fills a chip without filling its memory.
IMAGES = {
    "alexnet": (227, 227, 3),
    "caffenet": (227, 227, 3),
    "alexnet_owt": (224, 224, 3),
    "zfnet512": (224, 224, 3),
    "giusti_n4": (95, 95, 3),
    "lenet5": (32, 32, 1),
    "lenet_caffe": (28, 28, 1),
    "sharing_net": (28, 28, 1),
} | dict.fromkeys(
    (
        *("vgg11", "vgg13", "vgg16", "vgg19", "resnet18", "resnet34", "resnet50", "mobilenet_v2", "googlenet"),
        *("squeezenet", "densenet121", "se_resnet18"),
    ),
    (224, 224, 3),
)
SMALL = (32, 32, 3)
BATCH_PER_CHIP = {"vgg11": 32, "vgg13": 32, "vgg16": 32, "vgg19": 32}
OTHER_BATCH = 128


class Program(NamedTuple):
    """Something to compile.

    Attributes:
      about: what it is, in a line.
      lower: lowers it for the devices, without compiling.
      flops: operations of one run in convolutions and fully connected layers, two for each multiply-add, over all
        devices; of a training step those of the forward pass and of both gradients, as `benchmarks.training` counts.
      devices: number of devices that it runs on.
    """

    about: str
    lower: Callable[[], Any]
    flops: float
    devices: int


class Wish(NamedTuple):
    """A net and how it is used.

    Attributes:
      net: name of a registered net.
      image: (height, width, channels) of its images, pixels.
      dtype: dtype of activations and products.
    """

    net: str
    image: tuple[int, int, int]
    dtype: str = "bfloat16"

    def make(self) -> Net:
        """The net, with a thousand classes for images of more than 64 pixels, ten otherwise."""
        return nets.create(self.net, num_classes=1000 if min(self.image[:2]) > 64 else 10)


def image_of(net: str, size: int | None) -> tuple[int, int, int]:
    """The size of a net's images.

    Args:
      net: name of a registered net.
      size: height and width, pixels; None: those of its paper.

    Returns:
      (height, width, channels).
    """
    known = IMAGES.get(net, SMALL)
    return known if size is None else (size, size, known[2])


def batch_per_chip(net: str) -> int:
    """Number of examples for each chip, where none is asked for."""
    return BATCH_PER_CHIP.get(net, OTHER_BATCH)


def training_step(wish: Wish, batch: int, devices: Devices, examples: int = 0) -> Program:
    """A step of SGD with momentum and weight decay, on images that are padded, cropped and mirrored at random.

    Args:
      wish: the net.
      batch: number of examples, over all devices.
      devices: what to compile for, and how the state of training is split over it.
      examples: training examples that each device holds and the step draws its batch from, as `main.py` trains; 0: a
        batch is given, of which each device has its share.

    Returns:
      The `Program`.

    Raises:
      ValueError: if the batch does not divide, or the net does not take such images.
    """
    devices.per_device(batch, "--batch")
    config: Any = default.get_config()
    config.train.batch_size, config.train.dtype, config.train.weight_decay = batch, wish.dtype, 5e-4
    config.train.sharding = devices.sharding
    config.augment.flip, config.augment.pad = True, 4
    net, middle = wish.make(), (0.5,) * wish.image[2]
    geometry.table(net, wish.image)  # an image that does not fit is said by layers
    optimizer = make_optimizer(config.train, optax.constant_schedule(LEARNING_RATE))
    state = jax.eval_shape(lambda: steps.init_state(net, optimizer, wish.image, 0))
    step = steps.make_step(net, optimizer, config, middle, middle, devices=devices)

    def lower() -> Any:
        held = examples or batch
        images = jax.ShapeDtypeStruct((held, *wish.image), jnp.uint8)
        labels = jax.ShapeDtypeStruct((held,), jnp.int32)
        if examples:
            indices = jax.ShapeDtypeStruct((batch,), jnp.int32)
            return _lower(dispatch.jit_steps(step, devices, state), devices, state, images, labels, indices)
        return _lower(dispatch.jit_fed_step(step, devices, state), devices, state, images, labels)

    where = f"drawn from {examples:,} on each chip" if examples else "given, each chip its share"
    about = f"training step of {batch:,} images of {shape_text(wish.image)}, {where}"
    return Program(about, lower, float(batch * flops_per_example(net, wish.image)), devices.count)


def dense_pass(wish: Wish, side: int, stride: int, backend: str, devices: Devices) -> Program:
    """A score map of one square image, on one device (`cnn.dense.score_map`).

    Args:
      wish: the net; its image is the window.
      side: height and width of the image, pixels.
      stride: distance between scores, pixels.
      backend: "shift", "atrous" or "mpf".
      devices: what to compile for, of which the first is used.

    Returns:
      The `Program`.

    Raises:
      GeometryError: if window, stride and image do not fit each other.
    """
    net, window = wish.make(), wish.image[:2]
    image = (side, side, wish.image[2])
    grid = dense.plan_grid(net, image, window, (stride, stride))
    flops = 2.0 * dense.multiply_adds(net, image, grid, backend)
    variables = _variables(net, wish)

    def scores(variables: Any, images: jax.Array) -> jax.Array:
        return dense.score_map(net, variables, images, window, stride, backend=backend).scores

    def lower() -> Any:
        one = _alone(devices)
        images = jax.ShapeDtypeStruct((1, *image), wish.dtype)
        return _lower(jax.jit(scores, in_shardings=one.everywhere), one, variables, images)

    about = f"dense pass over {side:,}x{side:,} pixels at stride {stride}, {backend}"
    return Program(about, lower, flops, 1)


def stream_tile(wish: Wish, outputs: int, stride: int, backend: str, devices: Devices, side: int = 2**20) -> Program:
    """A tile of a stream of uint8 pixels, on one device (`cnn.dense.tiles`).

    Args:
      wish: the net; its image is the window.
      outputs: scores of a tile along each axis.
      stride: distance between scores, pixels.
      backend: "atrous" or "mpf".
      devices: what to compile for, of which the first is used.
      side: height and width of the image that is streamed, pixels; the program is the same for all.

    Returns:
      The `Program`.

    Raises:
      GeometryError: if window, stride and image do not fit each other.
    """
    net, channels = wish.make(), wish.image[2]
    prepared = dense.prepare(net, wish.image[:2], channels)
    tiling = tiles.plan_tiles(prepared, (side, side, channels), stride, backend=backend, outputs=outputs)
    extent = (*tiling.extent, channels)
    # Of one tile alone; `multiply_adds` of an image that large counts what is shared at its borders.
    flops = 2.0 * dense.multiply_adds(net, extent, tiling.alone, tiling.backend)
    variables, middle = _variables(net, wish), (0.5,) * channels

    def scores(variables: Any, pixels: jax.Array) -> jax.Array:
        return tile_runs.run_tile(tiling, variables, pixels, (0, 0), middle, middle)

    def lower() -> Any:
        one = _alone(devices)
        pixels = jax.ShapeDtypeStruct(extent, jnp.uint8)
        return _lower(jax.jit(scores, in_shardings=one.everywhere), one, variables, pixels)

    about = (
        f"tile of {shape_text(tiling.outputs)} scores at stride {stride}, {tiling.backend}, {shape_text(extent)} pixels"
    )
    return Program(about, lower, flops, 1)


def native_stride(wish: Wish) -> int:
    """Distance between the scores of one pass of the net, pixels."""
    return geometry.table(wish.make(), wish.image)[-1].stride[0]


def _variables(net: Net, wish: Wish) -> Any:
    """Shapes of the net's variables, float32."""
    return jax.eval_shape(functools.partial(nets.init, net, wish.image))


def _alone(devices: Devices) -> Devices:
    """The first device."""
    return Devices(list(devices.mesh.devices.flat[:1]))


def _lower(program: Any, devices: Devices, *arguments: Any) -> Any:
    """Lowers a jitted function for the devices' platform, not for that of this process."""
    return program.trace(*arguments).lower(lowering_platforms=(devices.platform,))
