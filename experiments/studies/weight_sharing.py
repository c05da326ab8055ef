"""Shared kernels, a kernel for each place, or no kernels at all."""

from experiments.ablation.measures import shifted
from experiments.ablation.study import TEST, Study

STUDY = Study(
    question="What do shared weights buy: convolution, locally connected and fully connected layers of equal width, on "
    "centred and on shifted pictures?",
    cells={
        "convolution": {"net.options.sharing": "shared"},
        "locally connected": {"net.options.sharing": "local"},
        "fully connected": {"net.options.sharing": "full"},
    },
    baseline="convolution",
    shared={"net.name": "sharing_net", "net.options": {}},
    tune={"train.learning_rate": (0.03, 0.1, 0.3, 0.6, 1.2)},
    measures=(shifted(1, 2, 4),),
    compared=(TEST, "shifted 2 px", "shifted 4 px"),
    notes="Layers of 1,352 and 576 values in each net. By geometry the first layer has 136 parameters as a convolution,"
    " 22,984 = 169 (4 * 4 + 1) 8 locally connected, and 1,061,320 = (784 + 1) 1,352 fully connected: 169 and "
    "7,804 times as many. The pictures are centred, and nothing is shifted in training; a shift of 4 pixels also "
    "cuts off 6 % of their intensity.",
)
