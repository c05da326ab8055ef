"""Where to downsample, and by what."""

from experiments.ablation.study import Study


def _cell(*pools: str | None) -> dict[str, tuple[str | None, ...]]:
    return {"net.options.pool": pools}


STUDY = Study(
    question="Where should a net of three blocks downsample twice, and by pools or by strides?",
    cells={
        "pool 1, 2": _cell("max", "max", None),
        "pool 1, 3": _cell("max", None, "max"),
        "pool 2, 3": _cell(None, "max", "max"),
        "stride 1, 2": _cell("stride", "stride", None),
        "stride 1, 3": _cell("stride", None, "stride"),
        "stride 2, 3": _cell(None, "stride", "stride"),
        "stride 1, pool 2": _cell("stride", "max", None),
        "pool 1, stride 2": _cell("max", "stride", None),
    },
    baseline="pool 1, 2",
    shared={"net.options.blocks": 3, "net.options.features": (8, 16, 16)},
    notes="Numbers are blocks. Early downsampling is cheap: compare multiply-adds before accuracies. Every net ends in "
    "a map of 7x7x16.",
)
