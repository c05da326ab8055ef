"""Trains nets on one and on eight devices, split in every way, and prints a line of JSON for each: CASE,CASE FOLDER.

A line has the case, the sharding, the largest differences of losses and variables from those of one device, the large
messages of the compiled step, and whether sums over devices are rounded before they are added. With the case "lenet5"
checkpoints are written and read in every way too, and nets are scored.
"""

import functools
import json
import re
import sys

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

from cnn import data, geometry, layers, nets
from cnn.runs.checkpoint import Checkpoints
from cnn.runtime.devices import SHARDINGS, Devices
from cnn.training import dispatch, one_seed, optimizer, sharded, steps
from cnn.training.evaluate import evaluate
from configs import default

COUNT, BATCH, STEPS = 8, 16, 20
IMAGES = np.random.default_rng(0).integers(0, 256, (40, 16, 16, 1), np.uint8)
LABELS = (np.arange(40) % 4).astype(np.int32)
INDICES = np.random.default_rng(2).integers(0, 40, (STEPS, BATCH)).astype(np.int32)
CONSTANTS = ((0.5,), (0.25,))


class OwnDense(layers.Layer):
    """A fully connected layer of a user's, without a word about devices."""

    features: int = 128
    mixes_pixels = True

    @nn.nowrap
    def output_shape(self, input_shape):
        return (self.features,)

    @nn.compact
    def __call__(self, x, *, train):
        weights = self.param("weights", nn.initializers.he_normal(), (x.shape[1], self.features), jnp.float32)
        return jnp.tanh(x @ weights.astype(x.dtype))


def own_net():
    return nets.net(
        [layers.Conv(16, 3, padding=1), layers.Activation("relu"), layers.MaxPool(2)],
        [layers.Flatten(), OwnDense(128), layers.Dense(4)],
    )


def connected_net():
    """Fully connected layers written as convolutions: over the whole of a map of 4 x 4, and over one position."""
    first = [layers.Conv(16, 3, padding=1), layers.Activation("tanh"), layers.AvgPool(4)]
    return nets.net(first, [layers.Conv(64, 4), layers.Activation("tanh"), layers.Conv(4, 1)], [layers.Flatten()])


def pattern(**options):
    return nets.create("layer_pattern", 4, features=8, width=64, **options)


# A net, fields of its config, and how it is split; batches and labels are the same for all. No array of qa_net is large
# enough to be split. The net with batch normalisation is smooth: where a maximum or a zero of its input decides, a
# difference in the last bit may send a gradient elsewhere, and twenty steps make it a difference in the fourth digit.
CASES = {
    "qa_net": (lambda: nets.create("qa_net", 4), {"weight_decay": 1e-3}, ["data"]),
    "full_cnn": (
        lambda: nets.create("full_cnn", 4, features=(8, 16), width=64),
        {"optimizer": "adam", "learning_rate": 1e-3, "augment": {"pad": 2, "flip": True, "brightness": 0.2}},
        ["model"],
    ),
    "lenet5": (
        lambda: nets.create("lenet5", 4),
        {"clip_norm": 0.5, "frozen": ("conv1",), "background": 0.2, "augment": {"mixup": 0.4}, "bias_rate": 2.0},
        SHARDINGS,
    ),
    "normalised": (
        lambda: pattern(norm=True, dropout=0.3, activation="tanh", pool="average"),
        {"augment": {"pad": 1, "contrast": 0.2}},
        ["data", "fsdp"],
    ),
    "own": (own_net, {"weight_decay": 1e-2}, ["model"]),
    "connected": (connected_net, {}, ["model"]),
    "bfloat16": (
        lambda: pattern(dropout=0.3, activation="tanh", pool="average"),
        {"dtype": "bfloat16"},
        SHARDINGS,
    ),
}
SIZES = {"lenet5": 32, "qa_net": 32}


def images_of(name):
    times = SIZES.get(name, 16) // 16
    return IMAGES.repeat(times, axis=1).repeat(times, axis=2)


@functools.cache
def pieces(name):
    """The net, its config, its optimiser, and its first state on one device."""
    net, fields = CASES[name][0](), dict(CASES[name][1])
    config = default.get_config()
    config.train.learning_rate = 0.01
    config.augment.update(fields.pop("augment", {}))
    config.train.update(fields)
    schedule = optax.constant_schedule(config.train.learning_rate)
    rule = optimizer.make_optimizer(config.train, schedule, total_steps=STEPS)
    return net, config, rule, steps.init_state(net, rule, images_of(name).shape[1:], 3)


def make(name, devices):
    """The net, its first state on devices, and a step."""
    net, config, rule, first = pieces(name)
    weights = np.array([1, 2, 1, 0.5], np.float32) if name == "full_cnn" else None
    step = steps.make_step(net, rule, config, *CONSTANTS, weights, devices)
    return net, devices.place(jax.tree.map(jnp.copy, first)), step  # a copy: training reuses the arrays


def train(name, devices):
    """The state after all steps, its losses, the text of the compiled step, and the first state."""
    net, state, step = make(name, devices)
    first = devices.state_text("parameters", state.params)
    arrays = devices.replicate((images_of(name), LABELS))
    row = jax.device_put(INDICES[0], devices.split())
    one = dispatch.jit_steps(step, devices, state).lower(state, *arrays, row).compile()
    losses = []
    for indices in INDICES:
        state, result = one(state, *arrays, jax.device_put(indices, devices.split()))
        losses.append(float(result.loss))
    return net, state, losses, one.as_text(), first


def difference(one, other):
    pairs = zip(jax.tree.leaves(jax.device_get(one)), jax.tree.leaves(jax.device_get(other)), strict=True)
    return max((float(np.abs(a - b).max()) for a, b in pairs), default=0.0)


def compare(name, folder):
    net, alone, losses, _, _ = train(name, Devices(1))
    states = {"alone": (Devices(1), alone)}
    for sharding in CASES[name][2]:
        devices = sharded.for_net(Devices(sharding=sharding), geometry.table(net, images_of(name).shape[1:]))
        assert devices.count == COUNT
        _, state, found, program, text = train(name, devices)
        assert state.params.keys() == alone.params.keys()
        states[sharding] = (devices, state)
        line = {
            "case": name,
            "sharding": sharding,
            "losses": max(abs(a - b) / abs(b) for a, b in zip(found, losses, strict=True)),
            "variables": difference(state.variables, alone.variables),
            "collectives": collectives(program),
            "rounded": "promoted" in program,  # how XLA:CPU calls the addition of a sum over devices in half precision
            "text": text,
        }
        print(json.dumps(line), flush=True)
    if name == "lenet5":
        resume(net, states, folder)


def collectives(program):
    """[name, shape] of every message of a compiled program that has at least 4,000 values."""
    found = []
    for line in program.splitlines():
        message = re.search(r" = (.*?) (all-reduce|all-gather|reduce-scatter|all-to-all)(?:-start)?\(", line)
        for shape in re.findall(r"\w+\[([\d,]+)\]", message[1]) if message else []:
            if np.prod([int(size) for size in shape.split(",")]) >= 4000:
                found.append([message[2], shape])
    return found


def resume(net, states, folder):
    """A checkpoint that any of the runs wrote is read into the places of any other; and nets are scored in all ways."""
    split = data.Split(images_of("lenet5"), LABELS)
    metrics = {}
    for written, (devices, state) in states.items():
        with Checkpoints(f"{folder}/{written}", 1) as checkpoints:
            checkpoints.save(STEPS, *devices.fetch((state.variables, state.optimizer)))
        metrics[written] = evaluate(net, state.variables, split, *CONSTANTS, batch_size=13, devices=devices)
    for written, read in (("fsdp", "model"), ("model", "alone"), ("alone", "fsdp"), ("data", "fsdp")):
        devices, (_, saved) = states[read][0], states[written]
        _, first, _ = make("lenet5", devices)
        found = one_seed.latest_state(first, devices, f"{folder}/{written}", 1)
        places = [leaf.sharding for leaf in jax.tree.leaves((found.params, found.optimizer))]
        expected = jax.tree.leaves(devices.state_shardings((found.params, found.optimizer)))
        equal = difference((found.variables, found.optimizer), (saved.variables, saved.optimizer)) == 0
        in_place = all(a.is_equivalent_to(b, 9) or a == b for a, b in zip(places, expected, strict=True))
        print(
            json.dumps({"case": "resumed", "from": written, "by": read, "equal": equal, "in place": in_place}),
            flush=True,
        )
    devices, (net, _, rule, first) = states["fsdp"][0], pieces("lenet5")
    made = devices.make(lambda: steps.init_state(net, rule, (32, 32, 1), 3))
    in_place = made.params["fc1"]["kernel"].sharding == devices.split(0)
    equal = difference((made.params, made.optimizer), (first.params, first.optimizer)) == 0
    print(json.dumps({"case": "made", "equal": equal, "in place": in_place}), flush=True)
    for sharding in SHARDINGS:
        apart = abs(metrics[sharding].loss - metrics["alone"].loss)
        same = bool((metrics[sharding].predictions == metrics["alone"].predictions).all())
        print(json.dumps({"case": "scored", "sharding": sharding, "loss": apart, "same": same}), flush=True)


for case in sys.argv[1].split(","):
    compare(case, sys.argv[2])
