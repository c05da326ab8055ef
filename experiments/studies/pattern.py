"""The layer pattern's N, M and K."""

from experiments.ablation.study import Study


def _cell(convs: int, blocks: int, fc: int) -> dict[str, object]:
    features = tuple(8 * 2**block for block in range(blocks))
    return {
        "net.options.convs": convs,
        "net.options.blocks": blocks,
        "net.options.fc": fc,
        "net.options.features": features,
    }


STUDY = Study(
    question="What do N, M and K do in INPUT -> [[CONV -> RELU]*N -> POOL]*M -> [FC -> RELU]*K -> FC?",
    cells={
        "N1 M2 K1": _cell(1, 2, 1),
        "N2 M2 K1": _cell(2, 2, 1),
        "N3 M2 K1": _cell(3, 2, 1),
        "N1 M0 K1": _cell(1, 0, 1),
        "N1 M1 K1": _cell(1, 1, 1),
        "N1 M3 K1": _cell(1, 3, 1),
        "N1 M2 K0": _cell(1, 2, 0),
        "N1 M2 K2": _cell(1, 2, 2),
    },
    baseline="N1 M2 K1",
    notes="8, 16 and 32 maps in the blocks; 64 values in hidden fully connected layers.",
)
