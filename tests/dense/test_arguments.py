"""Arguments of the wrong kind: every public function refuses them in one line that names function and argument."""

import inspect

import numpy as np
import pytest

from cnn import dense, nets
from cnn.layers import Conv, Dense, Flatten
from tests.made import random_variables

NET = nets.net([Conv(2, 3), Flatten(), Dense(3)])
WINDOW, IMAGE = (5, 6), np.zeros((9, 9, 2), np.float32)
VARIABLES = random_variables(NET, WINDOW, 2)
GRID = dense.plan_grid(NET, IMAGE.shape, WINDOW, 1)
MAP = dense.ScoreMap(np.zeros((1, *GRID.size, 3), np.float32), GRID.boxes(IMAGE.shape), "both", "crops", GRID)
RIGHT = {
    "net": NET,
    "variables": VARIABLES,
    "window": WINDOW,
    "image_shape": IMAGE.shape,
    "grid": GRID,
    "stride": 1,
    "channels": 2,
    "context": "image",
    "backend": "crops",
    "source": IMAGE,
    "score_map": MAP,
    "progress": False,
    "opened_map": MAP,
    "detections": [],
    "path": "found.csv",
}
# What each function takes under a name that stands for something else elsewhere.
OWN = {
    "score_map": {"images": IMAGE[None]},
    "score_maps": {"images": [IMAGE]},
    "stream": {"sink": np.zeros((*GRID.size, 3), np.float32)},
    "open_image": {"what": IMAGE},
    "average": {"scores": MAP},
    "heat_map": {"scores": MAP.scores[0]},
    "class_map": {"scores": MAP.scores[0]},
    "detect": {"threshold": 0.5},
}
# Anything without a dtype of its own, and texts that are no names.
WRONG = (None, 1.5, -3, "qa_net", ["shift"], object(), {"a": 1})
FREE = {
    # Names of arguments for which one of the wrong values is right, with these values.
    "net": (),
    "stride": (None,),
    "window": (),
    "memory_limit": (None,),
    "tile": (None,),
    "context": (None,),
    "output_activation": (None,),
    "mean": (None,),
    "std": (None,),
    "class_index": (None,),
    "devices": (None, ["shift"]),
    "class_names": (None,),
    "strides": (None,),
    "channels": (None,),
    "tolerance": (1.5,),
    "source": ("qa_net",),  # a file that is not there, which is named
    "path": ("qa_net",),
    "what": ("qa_net",),
    "value_range": (None,),
    "skip": (None,),
    "threshold": ({"a": 1},),  # the class is named
    "background": (None,),
    "classes": (None,),
    "scale": (1.5,),
}
NO_LINE = {"sink", "devices"}  # a sink may be any object that can be written to; devices are JAX's


def functions():
    found = [(name, getattr(dense, name)) for name in dense.__all__]
    return [(name, one) for name, one in found if inspect.isfunction(one)]


@pytest.mark.parametrize("name, function", functions(), ids=[name for name, _ in functions()])
def test_every_argument_is_refused_by_name(name, function):
    parameters = inspect.signature(function).parameters
    right = {**RIGHT, **OWN.get(name, {})}
    needed = {one: right[one] for one in parameters if one in right}
    if name == "check":  # a call that takes long if nothing is wrong
        needed["strides"] = [0]
    for argument in parameters:
        for value in WRONG:
            if (name, argument, value) == ("plan", "memory_limit", 1.5):  # it says what would fit
                continue
            if argument in NO_LINE or any(value is free or value == free for free in FREE.get(argument, ())):
                continue
            kinds = (ValueError, TypeError, *[MemoryError] * (argument == "memory_limit"))  # 1.5 bytes are too few
            with pytest.raises(kinds) as raised:
                function(**{**needed, argument: value})
            text = str(raised.value)
            assert "\n" not in text and len(text) < 400, (argument, value, text)
            named = argument.rstrip("s") in text or "limit" in text or "shape" in text or "channels" in text
            assert named, (argument, value, text)


def test_texts():
    with pytest.raises(TypeError, match=r"^score_map: backend \(=\['shift'\]\) must be a text, one name$"):
        dense.score_map(NET, VARIABLES, IMAGE[None], WINDOW, backend=["shift"])
    for wrong in ("qa_net", None):
        with pytest.raises(TypeError, match=r"^score_map: net \(=.*\) must be a net, such as .*, not its name$"):
            dense.score_map(wrong, VARIABLES, IMAGE[None], WINDOW)
    with pytest.raises(TypeError, match=r"^check: strides \(=2.5\) must be a list, or None$"):
        dense.check(NET, VARIABLES, WINDOW, strides=2.5)
    with pytest.raises(ValueError, match=r"^dense.check: strides \(=\(\)\) names none; give some, or None for three"):
        dense.check(NET, VARIABLES, WINDOW, strides=[])
    with pytest.raises(TypeError, match=r"^average: scores are a NoneType; give an array of numbers, such as the"):
        dense.average(None)
    with pytest.raises(ValueError, match=r"^nets.init: seed \(=1.5\) must be a whole number"):
        nets.init(NET, (5, 6, 2), seed=1.5)
    with pytest.raises(TypeError, match=r"^nets.init: net \(='qa_net'\) must be a net"):
        nets.init("qa_net", (5, 6, 2))
    with pytest.raises(TypeError, match=r"^nets.net: a layer \(='conv'\) must be one of cnn.layers"):
        nets.net("conv")


@pytest.mark.parametrize(
    "options",
    [{"dropout": 1.5}, {"dropout": "half"}, {"kernel": -3}, {"kernel": "3"}]
    + [{name: wrong} for name in ("convs", "blocks", "fc", "width", "features", "pool_n") for wrong in (-1, 1.5, None)]
    + [{"activation": 3}, {"num_classes": 0}, {"head": 1}, {"pool": 7}, {"norm": 3}],
    ids=str,
)
def test_layer_pattern_refuses_before_a_layer_is_made(options):
    with pytest.raises(ValueError, match=rf"{next(iter(options))}.*{next(iter(options.values()))!r}".replace("[", ".")):
        nets.layer_pattern(**options)
