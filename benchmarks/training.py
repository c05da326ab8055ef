"""Contenders for training: our loop and PyTorch's, from the same weights over the same batches."""

import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from cnn import data, geometry, nets
from cnn.nets import Net
from cnn.runtime.devices import Devices
from cnn.training import dispatch, steps
from cnn.training.optimizer import make_optimizer, make_schedule
from configs import default

BATCH = 128
EXAMPLES = 2048  # images that batches are drawn from
MEAN, STD = 0.5, 0.25  # with which images are normalised, fractions of the full range


class Case(NamedTuple):
    """A net to train.

    Attributes:
      net: name of a registered net (`cnn.nets.create`).
      image: (height, width, channels) of the images, pixels.
      options: further arguments of the net.
      batch: number of examples in a step.
      learning_rate: constant learning rate, small enough for a smooth loss, so that contenders can be compared.
    """

    net: str
    image: tuple[int, int, int]
    options: dict[str, Any] = {}
    batch: int = BATCH
    learning_rate: float = 0.001


Run = Callable[[int], np.ndarray]  # takes a number of further training steps; returns the mean loss of each


class Problem(NamedTuple):
    """What all contenders of a case start from.

    Attributes:
      net: the classifier.
      config: config of the run.
      params: the initial weights.
      images: uint8 [EXAMPLES, H, W, C].
      labels: class of each image, int32 [EXAMPLES].
      order: indices of the examples of each step, int32 [steps, batch]; used again from the start when it ends.
    """

    net: Net
    config: Any
    params: Any
    images: np.ndarray
    labels: np.ndarray
    order: np.ndarray

    def batches(self, done: int, count: int) -> np.ndarray:
        """Indices of the next steps' examples.

        Args:
          done: number of steps that were taken.
          count: number of steps to come.

        Returns:
          int32 [count, batch].
        """
        return self.order[np.arange(done, done + count) % len(self.order)]


CASES = {
    "full_cnn28": Case("full_cnn", (28, 28, 1)),
    "full_cnn32": Case("full_cnn", (32, 32, 3)),
    "qa_net": Case("qa_net", (32, 32, 3)),
    "lenet5": Case("lenet5", (32, 32, 1)),
    # Without dropout, so that all contenders have the same losses.
    "vgg11": Case("vgg11", (64, 64, 3), {"dropout": 0.0}, learning_rate=1e-4),
}
SMOKE_CASES = {"qa_net": Case("qa_net", (32, 32, 3), batch=32)}


def problem_of(case: Case, dtype: str = "float32") -> Problem:
    """Draws weights, images and their order.

    Args:
      case: the net and batch to train.
      dtype: dtype of our net's activations and products.

    Returns:
      A `Problem`, with the same numbers in every call.
    """
    config: Any = default.get_config()
    config.train.batch_size, config.train.steps, config.train.dtype = case.batch, 10**6, dtype
    config.train.learning_rate, config.train.schedule = case.learning_rate, "constant"
    net = nets.create(case.net, num_classes=10, **case.options)
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (EXAMPLES, *case.image), np.uint8)
    labels = rng.integers(0, 10, EXAMPLES).astype(np.int32)
    order = np.stack([rng.permutation(EXAMPLES)[: case.batch] for _ in range(64)]).astype(np.int32)
    state = steps.init_state(net, optimizer_of(config), case.image, seed=0)
    return Problem(net, config, jax.tree.map(np.asarray, state.params), images, labels, order)


def optimizer_of(config: Any) -> Any:
    """The optimizer of a run.

    Args:
      config: config of the run.

    Returns:
      An `optax.GradientTransformation`.
    """
    return make_optimizer(config.train, make_schedule(config.train, config.train.steps))


def ours(problem: Problem, most_steps: int, devices: Devices | None = None) -> Run:
    """`cnn.training.steps`, as `main.py` trains.

    Args:
      problem: the net, weights and examples.
      most_steps: largest number of steps in one call.
      devices: the devices that batches are split over; None: all local devices.

    Returns:
      A `Run`.
    """
    devices, optimizer = devices or Devices(), optimizer_of(problem.config)
    channels = problem.images.shape[3]
    step = steps.make_step(problem.net, optimizer, problem.config, [MEAN] * channels, [STD] * channels)
    options = devices.compiler_options(geometry.table(problem.net, problem.images.shape[1:]).macs)
    run_steps = dispatch.make_run_steps(step, devices, most_steps, options=options)
    images, labels = devices.replicate((problem.images, problem.labels))
    state = steps.init_state(problem.net, optimizer, problem.images.shape[1:], problem.config.seed)
    params = jax.tree.map(jnp.asarray, problem.params)
    state = devices.replicate(state._replace(params=params, optimizer=optimizer.init(params)))

    def run(count: int) -> np.ndarray:
        nonlocal state
        state, result = run_steps(state, images, labels, problem.batches(int(state.step), count))
        return result.loss

    return run


def input_seconds(problem: Problem, steps_at_once: int = 50) -> float:
    """The time of a step's input alone: drawing its examples, gathering and normalising them.

    Args:
      problem: the net, weights and examples.
      steps_at_once: number of steps whose examples are drawn together.

    Returns:
      Time for one step, median of nine measurements, seconds.
    """
    devices = Devices()
    images, labels = devices.replicate((problem.images, problem.labels))
    mean, std = ([value] * problem.images.shape[3] for value in (MEAN, STD))

    def gather(images: jax.Array, labels: jax.Array, row: jax.Array) -> Any:
        picked = jax.lax.with_sharding_constraint((images[row], labels[row]), devices.split())
        return data.normalise(picked[0].astype(jnp.float32) / 255, mean, std), picked[1]

    gathered = jax.jit(gather, out_shardings=devices.split())
    batch, taken = problem.config.train.batch_size, []
    for turn in range(10):
        start = time.perf_counter()
        rows = data.batch_indices(0, turn, batch_size=batch, num_examples=len(problem.labels), steps=steps_at_once)
        for row in rows:
            jax.block_until_ready(gathered(images, labels, row))
        taken.append((time.perf_counter() - start) / steps_at_once)
    return statistics.median(taken[1:])


def pytorch(problem: Problem, compiled: bool = False, device: str = "cpu") -> Run:
    """PyTorch's own loop: channels_last, SGD with momentum, fused; eager or with forward and backward compiled.

    Args:
      problem: the net, weights and examples; with config.train.dtype "bfloat16" the forward pass runs under autocast.
      compiled: whether to use `torch.compile`.
      device: "cpu" or "cuda".

    Returns:
      A `Run`. With `compiled`, its first call may fail on machines without a C++ compiler.
    """
    import torch

    from benchmarks.torch_nets import to_torch

    train = problem.config.train
    module: Any = to_torch(problem.net, {"params": problem.params}, problem.images.shape[1:], training=True).to(device)
    optimizer = torch.optim.SGD(module.parameters(), lr=train.learning_rate, momentum=train.momentum, fused=True)
    all_images = torch.tensor(problem.images).permute(0, 3, 1, 2).contiguous(memory_format=torch.channels_last)
    all_images, all_labels = all_images.to(device), torch.tensor(problem.labels, dtype=torch.int64).to(device)

    def objective(images: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        x = ((images.float() / 255 - MEAN) / STD).contiguous(memory_format=torch.channels_last)
        with torch.autocast(device, torch.bfloat16, enabled=train.dtype == "bfloat16"):
            logits = module(x)
        return torch.nn.functional.cross_entropy(logits.float(), labels)

    loss_of: Any = torch.compile(objective) if compiled else objective
    done = 0

    def run(count: int) -> np.ndarray:
        nonlocal done
        losses = []
        for row in torch.tensor(problem.batches(done, count), dtype=torch.int64).to(device):
            loss = loss_of(all_images[row], all_labels[row])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.detach())
        done += count
        return torch.stack(losses).cpu().numpy()

    return run


def flops_per_example(net: Net, image_shape: Sequence[int]) -> int:
    """Number of operations of a training step for one example in convolutions and fully connected layers.

    Args:
      net: the classifier.
      image_shape: (height, width, channels), pixels.

    Returns:
      Two operations for each multiply-add of the forward pass, of the gradient of the weights, and of the gradient of
      the inputs, which the first layer does not need.
    """
    macs = [row.macs for row in geometry.table(net, image_shape)]
    first = next(count for count in macs if count)
    return 2 * (3 * sum(macs) - first)
