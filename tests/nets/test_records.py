"""Nets as records: round trips through JSON, and what is refused.

`HYPOTHESIS_PROFILE=thorough python -m pytest -n 0 tests/nets/test_records.py` draws thousands.
"""

import dataclasses
import json
import time

import flax.linen as nn
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cnn import convert, layers, nets
from cnn.layers import Activation, AvgPool, Branches, Conv, Dense, Dropout, Flatten, Layer, MaxPool, PReLU
from cnn.nets import records, textbook_kernels
from tests.made import shapes_of
from tests.random_nets import cases

MANY = 4 * settings.default.max_examples


def through_json(net):
    return nets.from_config(json.loads(json.dumps(nets.to_config(net))), net.output_activation)


def test_registered_nets_survive():
    for name in nets.names():
        net = nets.create(name, output_activation="sigmoid")
        assert through_json(net) == net, name
    for options in (dict(first="bank", kernel=5, features=(6, 8)), dict(norm="lrn", pool="n_max", padding_mode="edge")):
        net = nets.create("layer_pattern", **options)
        assert through_json(net) == net
    local = nets.create("sharing_net", sharing="local")
    assert through_json(local) == local
    converted = convert.convolutional(nets.create("qa_net"), (32, 32, 3))
    assert through_json(converted) == converted


SIZES = st.one_of(st.integers(1, 9), st.tuples(st.integers(1, 9), st.integers(1, 9)))
PADDINGS = st.one_of(
    st.sampled_from(["valid", "same", 0, 3, (1, 2), ((0, 1), (2, 3)), [1, np.int64(2)], ((1, 2), 3)]), st.integers(0, 5)
)
NUMBERS = st.one_of(
    st.integers(-3, 3), st.floats(-1e6, 1e6), st.floats(width=32, min_value=-9, max_value=9).map(np.float32)
)
WORDS = {"padding_mode": records.PADDING_MODES, "rounding": ("exact", "floor", "ceil"), "gate": layers.ACTIVATIONS}
WORDS |= dict.fromkeys(("function", "activation"), layers.ACTIVATIONS)
INITIALISERS = (nn.initializers.zeros, textbook_kernels.bank_init, Conv.kernel_init)
DRAWN = {
    **dict.fromkeys(("kernel", "stride", "dilation"), SIZES),
    **dict.fromkeys(("features", "groups", "inputs", "n", "size", "reduction", "hidden"), st.integers(1, 10**8)),
    **dict.fromkeys(("use_bias", "position_invariant", "shared", "count_padding", "zero_init"), st.booleans()),
    **{name: st.sampled_from(sorted(words)) for name, words in WORDS.items()},
    "padding": PADDINGS,
    "order": st.sampled_from(["hwc", "chw", "random"]),
    "kernel_init": st.sampled_from(INITIALISERS),
    "amount": st.integers(0, 9),
    "join": st.sampled_from(["sum", "concat", "mean", "max", "product"]),
    "paths": st.lists(
        st.lists(st.sampled_from([Conv(8, 3), Activation("tanh"), Branches(((Dropout(0.25),), ()))]), max_size=2),
        min_size=1,
        max_size=3,
    ),
}
ABSENT = ("slope", "offset", "scale", "low", "high", "inputs", "hidden")


@st.composite
def any_layers(draw):
    """Layers of all kinds with any of their fields; they need not fit each other."""
    made = []
    for _ in range(draw(st.integers(1, 6))):
        kind = draw(st.sampled_from(sorted(records.KINDS)))
        fields = {}
        for name in (field.name for field in dataclasses.fields(records.KINDS[kind])):
            if name in ("parent", "name") or (name != "paths" and draw(st.booleans())):
                continue
            value = draw(DRAWN.get(name, NUMBERS))
            pool = issubclass(records.KINDS[kind], layers.Pool) and name in ("kernel", "stride")
            fields[name] = None if (pool or name in ABSENT) and draw(st.integers(0, 4)) == 0 else value
        made.append(records.KINDS[kind](**fields))
    return nets.net(*made, output_activation=draw(st.sampled_from(["softmax", "sigmoid"])))


@pytest.mark.slow
@settings(max_examples=MANY)
@given(any_layers())
def test_any_layers_survive(net):
    assert through_json(net) == net
    assert nets.to_config(through_json(net)) == nets.to_config(net)


@pytest.mark.slow
@given(st.tuples(st.booleans(), st.booleans()).flatmap(lambda kind: cases(*kind)))
def test_random_nets_survive(case):
    net = case[0]
    assert through_json(net) == net


def test_only_what_differs_is_written():
    net = nets.net(Conv(4, (3, 5), padding=1), Activation(), Flatten(), Dense(2, name="scores"))
    assert nets.to_config(net) == [
        {"kind": "conv", "name": "conv1", "features": 4, "kernel": [3, 5], "padding": 1},
        {"kind": "activation", "name": "relu1"},
        {"kind": "flatten", "name": "flatten1"},
        {"kind": "dense", "name": "scores", "features": 2},
    ]
    # Layers that have no name yet have that of their variables, so that these fit the net that is read.
    bare = nets.Net((Conv(4, 3), Flatten(), Dense(2)))
    again = through_json(bare)
    assert shapes_of(again, (1, 5, 5, 1)) == shapes_of(bare, (1, 5, 5, 1))
    assert [layer.name for layer in again.layers] == ["layers_0", "layers_1", "layers_2"]
    # Records without names are named as layers are.
    assert nets.from_config([{"kind": "conv"}, {"kind": "prelu"}]) == nets.net(Conv(), PReLU())


class Own(Layer):
    """A layer from elsewhere."""

    mixes_pixels = False


def test_what_no_record_can_hold_is_said():
    for layer, message in (
        (Own(name="mine"), "mine .layer.: class Own is not from cnn.layers, and no record can name it; a run keeps"),
        (Dense(2, kernel_init=nn.initializers.normal()), "fc1 .dense.: kernel_init .* a name: he_normal, bank"),
        (Conv(2, 0), "conv1 .conv.: kernel .=0. cannot be written in a record; one whole number or two, from 1"),
        (Dropout("much"), "dropout1 .dropout.: rate .='much'. cannot be written in a record; a finite number"),
    ):
        with pytest.raises(ValueError, match=message):
            nets.to_config(nets.net(layer))
    for value in (Conv(3), [Conv(3)], None):
        with pytest.raises(TypeError, match="nets.to_config takes a net"):
            nets.to_config(value)
    # An array that is one number is one, as everywhere in a net.
    (one,) = nets.to_config(nets.net(Activation("elu", slope=np.array(0.5))))
    assert one == {"kind": "activation", "name": "elu1", "function": "elu", "slope": 0.5}


REFUSED = [
    ({"kind": "conv"}, "must be a list of records"),
    ("conv", "layers .='conv'. must be a list of records"),
    (None, "must be a list of records|needs layers"),
    ([], "hold 0 records; a net has 1 to 1,000 layers"),
    ([{"kind": "relu"}] * 1_001, "hold 1,001 records"),
    ([["conv"]], r"layers\[0\] .*must be a record such as"),
    ([{}], r"layers\[0\]: kind .=None. is none of a layer; there are activation, average_pool"),
    ([{"kind": "convolution"}], "kind .='convolution'. is none of a layer; did you mean activation or conv"),
    ([{"kind": "maxpool"}], "did you mean max_pool"),
    ([{"kind": ["conv"]}], "is none of a layer"),
    ([{"kind": "conv", "strides": 2}], r"layers\[0\] \(conv\): there is no field 'strides'; did you mean stride"),
    ([{"kind": "flatten", "name": "f", "size": 2}], r"layers\[0\] \(flatten 'f'\): there is no field 'size'"),
    ([{"kind": "conv", "parent": None}], "there is no field 'parent'"),
    ([{"kind": "conv", 3: 3}], "there is no field 3"),
    ([{"kind": "conv", "features": 10**12}], "features .=10{12}. must be a whole number from 1 to 100,000,000"),
    ([{"kind": "conv", "features": 10**5000}], "features .=a number of thousands of digits. must be"),
    ([{"kind": "conv", "features": 8.0}], "features .=8.0. must be a whole number"),
    ([{"kind": "conv", "features": True}], "features .=True. must be a whole number"),
    ([{"kind": "conv", "kernel": [3, 3, 3]}], "kernel .* must be one whole number or two"),
    ([{"kind": "conv", "kernel": [3, [3]]}], "kernel .* must be one whole number or two"),
    ([{"kind": "conv", "kernel": 10**12}], "kernel .* from 1 to 65,535"),
    ([{"kind": "conv", "padding": -1}], "padding .=-1. must be 'valid', 'same', one whole number from 0"),
    ([{"kind": "conv", "padding": [[1, 2], [3, [4]]]}], "padding .* must be"),
    ([{"kind": "conv", "stride": None}], "stride .=None. must be one whole number or two, from 1 to 65,535$"),
    ([{"kind": "max_pool", "kernel": 0}], "kernel .=0. must be .* or null"),
    ([{"kind": "conv", "kernel_init": "os.system"}], "kernel_init .='os.system'. must be one of he_normal, bank"),
    ([{"kind": "activation", "function": "softmax"}], "function .='softmax'. must be one of relu, leaky_relu"),
    ([{"kind": "activation", "function": {"a": 1}}], "must be one of relu"),
    ([{"kind": "activation", "function": "elu", "slope": float("inf")}], "slope .=inf. must be a finite number"),
    ([{"kind": "activation", "function": "elu", "slope": 10**400}], "slope .* must be a finite number"),
    ([{"kind": "conv", "name": ""}], "name .=''. must be a text of 1 to 200 characters"),
    ([{"kind": "conv", "name": "a\nb"}], "must be a text of 1 to 200"),
    ([{"kind": "conv", "name": "x" * 10**6}], "must be a text of 1 to 200"),
    ([{"kind": "conv", "name": 3}], "must be a text of 1 to 200"),
    ([{"kind": "conv", "name": "a"}, {"kind": "conv", "name": "a"}], "layers share a name: a"),
]


@pytest.mark.parametrize("made", [nets.from_config, lambda given: nets.create("layers", layers=given)])
def test_what_is_not_understood_is_refused_in_one_line(made):
    deep = []
    for _ in range(10_000):
        deep = [deep]
    for given_records, message in [
        *REFUSED,
        (deep, "must be a record"),
        ([{"kind": "conv", "kernel": deep}], "kernel"),
    ]:
        with pytest.raises(ValueError, match=message) as caught:
            made(given_records)
        text = str(caught.value)
        assert "\n" not in text and len(text) < 700, text


JUNK = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(-3, 5),
        st.integers(),
        st.floats(),
        st.text(max_size=5),
        st.sampled_from([*records.KINDS, "same", "floor", 10**12, -1, "x" * 10**5, 10**400]),
    ),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=4), inner, max_size=3)),
    max_leaves=6,
)
RECORDS = st.fixed_dictionaries(
    {"kind": st.one_of(st.sampled_from(sorted(records.KINDS)), JUNK)},
    optional={name: st.one_of(DRAWN.get(name, NUMBERS), JUNK) for name in [*records.RULES, "name", "nonsense"]},
)


@settings(max_examples=MANY)
@given(st.one_of(JUNK, st.lists(st.one_of(RECORDS, RECORDS, JUNK), max_size=4)))
def test_junk_is_a_net_or_one_line(junk):
    start = time.perf_counter()
    try:
        net = nets.from_config(junk)
    except ValueError as error:
        assert "\n" not in str(error) and len(str(error)) < 700
    else:
        assert through_json(net) == net
    assert time.perf_counter() - start < 1


def test_number_of_outputs_is_that_of_the_last_layer():
    made = nets.to_config(nets.net(Conv(4, 3), AvgPool(None), Flatten(), Dense(5), Activation("identity")))
    assert nets.create("layers", 5, layers=made) == nets.create("layers", layers=made)
    assert nets.create("layers", 5, layers=made, output_activation="sigmoid").output_activation == "sigmoid"
    with pytest.raises(ValueError, match=r"fc1 \(dense\) gives 5 scores, and num_classes \(=7\) .*net.num_classes.* 5"):
        nets.create("layers", 7, layers=made)
    with pytest.raises(ValueError, match=r"fc1 .*gives 5 scores"):
        nets.create("layers", 1, layers=made)
    # A map that is flattened has as many scores as the image says: what runs the net finds them.
    flat = nets.to_config(nets.net(Conv(4, 3), MaxPool(2), Flatten()))
    assert nets.create("layers", 16, layers=flat).layers[0].features == 4
    for options, message in (
        ({}, r"needs layers=\[...\], the records that nets.to_config"),
        ({"layers": made, "width": 3}, "has no option width"),
    ):
        with pytest.raises(ValueError, match=message):
            nets.create("layers", **options)
    with pytest.raises(ValueError, match="unknown net 'layer'; did you mean layers"):
        nets.create("layer")
