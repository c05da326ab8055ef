"""Eight devices against one over twenty steps, in float32 and float64: `python -m benchmarks.rounding [--seeds=24]`.

Sums over devices are taken in another order, so that their last bits differ. This shows what becomes of that, and that
it is rounding: in float64 the same comparison ends 1e-8 times as far apart, and on one device alone parameters that
begin one unit in the last place apart end as far from each other. Two nets in which a last bit decides: one of ReLU and
max pools with batch normalisation, trained by SGD, and one with a layer of the user's own, trained by AdamW. Writes
rounding.json and rounding.md.
"""

import os
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from absl import app, flags
from jax import lax

from cnn import layers, nets
from cnn.data.augment import augment
from cnn.nets import Net
from cnn.reports.markdown import markdown
from cnn.runs import defaults, logs
from cnn.runtime.devices import Devices
from cnn.training import dispatch, optimizer, sharded, steps

SEEDS = flags.DEFINE_integer("seeds", 24, "Number of first parameters, seeds 0, 1, 2, ...", lower_bound=1)
OUTPUT = flags.DEFINE_string("output", "benchmarks/results", "Folder of rounding.json and rounding.md.")
COUNT, BATCH, STEPS, CLASSES = 8, 16, 20, 4
FAR = 1e-5  # a difference that the tests of several devices do not allow


class OwnDense(layers.Layer):
    """A fully connected layer as a user would write it."""

    features: int = 128
    mixes_pixels = True

    @nn.nowrap
    def output_shape(self, input_shape: tuple[int, ...]) -> tuple[int, ...]:
        return (self.features,)

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        weights: Any = self.param("weights", nn.initializers.he_normal(), (x.shape[1], self.features), jnp.float32)
        return jnp.tanh(x @ weights.astype(x.dtype))


def _own() -> Net:
    first = [layers.Conv(16, 3, padding=1), layers.Activation("relu"), layers.MaxPool(2)]
    return nets.net(first, [layers.Flatten(), OwnDense(128), layers.Dense(CLASSES)])


def _pattern() -> Net:
    return nets.create("layer_pattern", CLASSES, features=8, width=64, norm=True, dropout=0.3)


# Net, fields of `train`, how the state is split.
CASES: dict[str, tuple[Callable[[], Net], dict[str, Any], str]] = {
    "ReLU, max pools, batch norm": (_pattern, {"learning_rate": 0.01}, "data"),
    "own layer, AdamW": (_own, {"learning_rate": 1e-3, "optimizer": "adamw", "weight_decay": 1e-2}, "model"),
}


class Training:
    """Twenty steps of a net on devices, from any first parameters; the program is compiled once."""

    def __init__(self, case: str, devices: Devices, dtype: str) -> None:
        """Makes the step."""
        make, fields, _ = CASES[case]
        train = defaults.get_config().train
        train.update(fields)
        self.net, self.devices, self.dtype = make(), devices, dtype
        self.rule = optimizer.make_optimizer(train, optax.constant_schedule(train.learning_rate), total_steps=STEPS)
        draws = np.random.default_rng(0)
        images = draws.integers(0, 256, (40, 16, 16, 1)).astype(dtype) / 128 - 1
        indices = draws.integers(0, len(images), (STEPS, BATCH))
        self.batches = [jax.device_put((images[i], i.astype(np.int32) % CLASSES), devices.split()) for i in indices]
        self.step: Any = None

    def first(self, seed: int) -> dict[str, Any]:
        """The first variables."""
        found = jax.device_get(nets.init(self.net, (16, 16, 1), seed))
        return jax.tree.map(lambda x: np.asarray(x, self.dtype), dict(found))

    def run(self, variables: dict[str, Any]) -> tuple[list[Any], Any]:
        """The variables after each step, and the gradients of the first one."""
        params = {"params": variables["params"]}
        state = self.devices.place((variables, self.rule.init(params["params"])))
        if self.step is None:
            places = self.devices.state_shardings(state)
            self.step = jax.jit(self._advance, out_shardings=(*places, places[0]["params"]))
        after, gradients = [], []
        for number, batch in enumerate(self.batches):
            *state, gradient = self.step(*state, *batch, number)
            after.append(jax.device_get(state[0]))
            gradients.append(gradient)
        return after, jax.device_get(gradients[0])

    def _advance(self, variables: Any, memory: Any, images: Any, labels: Any, number: Any) -> Any:
        others = {name: value for name, value in variables.items() if name != "params"}
        dropout = jax.random.fold_in(jax.random.key(1), number)

        def objective(params: Any) -> tuple[jax.Array, Any]:
            logits, changed = sharded.apply(
                self.net,
                self.devices,
                {"params": params, **others},
                images,
                train=True,
                rngs={"dropout": dropout},
                mutable=list(others),
            )
            return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean(), dict(changed)

        gradient, changed = jax.grad(objective, has_aux=True)(variables["params"])
        gradient = lax.with_sharding_constraint(gradient, self.devices.state_shardings(gradient))
        updates, memory = self.rule.update(gradient, memory, variables["params"])
        return {"params": optax.apply_updates(variables["params"], updates), **changed}, memory, gradient


def nudged(variables: dict[str, Any], seed: int) -> dict[str, Any]:
    """Variables of which each parameter is one unit in the last place higher or lower."""
    rng = np.random.default_rng(seed)

    def one(x: np.ndarray) -> np.ndarray:
        return np.nextafter(x, np.where(rng.random(x.shape) < 0.5, -np.inf, np.inf).astype(x.dtype))

    return {**variables, "params": jax.tree.map(one, variables["params"])}


def differences(one: Any, other: Any) -> np.ndarray:
    """Absolute differences of two trees of arrays, in one row."""
    pairs = zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True)
    return np.concatenate([np.abs(a - b).ravel() for a, b in pairs])


def compare(case: str, dtype: str, seeds: int) -> dict[str, Any]:
    """What several first parameters give on one and on eight devices, and on one from a start that is nudged."""
    alone, together = (Training(case, devices, dtype) for devices in (Devices(1), Devices(COUNT, CASES[case][2])))
    rows = []
    for seed in range(seeds):
        first = alone.first(seed)
        (after, gradient), (others, _) = alone.run(first), together.run(first)
        control, _ = alone.run(nudged(first, seed))
        steps = [float(differences(*pair).max()) for pair in zip(after, others, strict=True)]
        changed = differences(after[0]["params"], others[0]["params"]) > FAR
        small = differences(gradient, jax.tree.map(np.zeros_like, gradient))
        rows.append(
            {
                "seed": seed,
                "by_step": steps,
                "control": float(differences(after[-1], control[-1]).max()),
                "far_after_first": int(changed.sum()),
                "their_gradients": float(small[changed].max()) if changed.any() else None,
                "median_gradient": float(np.median(small)),
            }
        )
    return {"case": case, "dtype": dtype, "sharding": CASES[case][2], "rows": rows}


def near_tie(seed: int = 19) -> dict[str, Any]:
    """One run of the training step that a near tie sends apart: where, and how near.

    Args:
      seed: first parameters of the net of ReLU and max pools, augmented; of 0 to 23 the one that ends above 1e-5.

    Returns:
      by_step: largest difference of a variable of one and of eight devices after each step; step: the one in which they
      part; gap: the smallest difference of the two largest values of a window of the second pool in that step, among
      windows of which the largest is positive, and next_gap the one after it; windows: their number.
    """
    config = defaults.get_config()
    config.train.learning_rate = 0.01
    config.augment.update({"pad": 1, "contrast": 0.2})
    net = _pattern()
    rule = optimizer.make_optimizer(config.train, optax.constant_schedule(0.01), total_steps=STEPS)
    images = np.random.default_rng(0).integers(0, 256, (40, 16, 16, 1), np.uint8)
    labels = (np.arange(40) % CLASSES).astype(np.int32)
    indices = np.random.default_rng(2).integers(0, 40, (STEPS, BATCH)).astype(np.int32)
    runs = []
    for devices in (Devices(1), Devices(COUNT)):
        step = steps.make_step(net, rule, config, (0.5,), (0.25,), devices=devices)
        state = devices.place(steps.init_state(net, rule, (16, 16, 1), seed))
        arrays, one, runs = devices.replicate((images, labels)), dispatch.jit_steps(step, devices, state), [*runs, []]
        for row in indices:
            state, _ = one(state, *arrays, jax.device_put(row, devices.split()))
            runs[-1].append(jax.device_get(state.variables))
    by_step = [float(differences(*pair).max()) for pair in zip(*runs, strict=True)]
    first = next(i for i, x in enumerate(by_step) if x > FAR)
    augment_key, dropout_key, _ = jax.random.split(jax.random.fold_in(jax.random.key(seed), first), 3)
    x = augment(augment_key, jnp.asarray(images[indices[first]], jnp.float32) / 255, **config.augment.to_dict())
    seen = net.apply(
        runs[0][first - 1],
        (x - 0.5) / 0.25,
        train=True,
        rngs={"dropout": dropout_key},
        mutable=["batch_stats"],
        method="activations",
    )[0][1]
    pooled = np.asarray(seen["relu2"])
    n, height, width, channels = pooled.shape
    windows = pooled.reshape(n, height // 2, 2, width // 2, 2, channels).transpose(0, 1, 3, 5, 2, 4).reshape(-1, 4)
    windows = np.sort(windows[windows.max(1) > 0], axis=1)
    gaps = np.sort(windows[:, -1] - windows[:, -2])
    found: dict[str, Any] = {"seed": seed, "by_step": by_step, "step": first + 1, "windows": len(windows)}
    return {**found, "gap": float(gaps[0]), "next_gap": float(gaps[1])}


def tie_text(tie: dict[str, Any]) -> str:
    """What is known of the near tie, in sentences."""
    before, after = tie["by_step"][tie["step"] - 2], tie["by_step"][tie["step"] - 1]
    return (
        f"With augmentation, first parameters of seed {tie['seed']}, in float32: {before:.1e} apart before step "
        f"{tie['step']}, {after:.1e} after it, {tie['by_step'][-1]:.1e} at the end. In that step one window of the "
        f"second max pool, of {tie['windows']:,} with a positive value, has its two largest values {tie['gap']:.1e} "
        f"apart; the next smallest gap is {tie['next_gap']:.1e}."
    )


def table(results: list[dict[str, Any]]) -> str:
    """The comparisons as a Markdown table."""
    lines = [
        ("net", "split by", "type", "median", "largest", f"above {FAR:.0e}", "one device, nudged: largest", "above")
    ]
    for one in results:
        ends, control = ([row["by_step"][-1] for row in one["rows"]], [row["control"] for row in one["rows"]])
        count = len(ends)
        lines.append(
            (
                *(one["case"], f"`{one['sharding']}`", one["dtype"], f"{np.median(ends):.1e}", f"{max(ends):.1e}"),
                *(f"{sum(x > FAR for x in ends)} of {count}", f"{max(control):.1e}"),
                f"{sum(x > FAR for x in control)} of {count}",
            )
        )
    return markdown(lines[0], lines[1:])


def main(_: Any) -> None:
    """Compares and writes."""
    jax.config.update("jax_num_cpu_devices", COUNT)
    results = []
    for dtype in ("float32", "float64"):
        jax.config.update("jax_enable_x64", dtype == "float64")
        results += [compare(case, dtype, SEEDS.value) for case in CASES]
    jax.config.update("jax_enable_x64", False)
    write(results, near_tie())


def write(results: list[dict[str, Any]], tie: dict[str, Any]) -> None:
    """Writes rounding.json and rounding.md."""
    os.makedirs(OUTPUT.value, exist_ok=True)
    facts = {"results": results, "near_tie": tie, **logs.environment()}
    logs.write_json(os.path.join(OUTPUT.value, "rounding.json"), facts)
    title = f"# One and {COUNT} devices after {STEPS} steps: largest difference of a variable"
    text = f"{title}\n\n{table(results)}\n\n{tie_text(tie)}\n"
    with open(os.path.join(OUTPUT.value, "rounding.md"), "w") as file:
        file.write(text)
    print(text)


if __name__ == "__main__":
    app.run(main)
