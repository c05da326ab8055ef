"""Damages files at random and reads them: each is read or refused in one line. python -m tests.exchange.mutations"""

import pathlib
import random
import resource
import sys
import traceback
from collections.abc import Callable, Iterator

from cnn.exchange.classifier import ExchangeError


def mutated(original: bytes, count: int, seed: int) -> Iterator[bytes]:
    """Copies of a file, each damaged in one of five ways."""
    rng = random.Random(seed)
    for _ in range(count):
        copy = bytearray(original)
        way = rng.randrange(5)
        if way == 0:  # bits
            for _ in range(rng.choice((1, 1, 3, 30))):
                copy[rng.randrange(len(copy))] ^= 1 << rng.randrange(8)
        elif way == 1:  # bytes near the beginning, where descriptions are
            for _ in range(rng.choice((1, 4, 16))):
                copy[rng.randrange(min(len(copy), 4096))] = rng.randrange(256)
        elif way == 2:  # cut short
            del copy[rng.randrange(len(copy)) :]
        elif way == 3:  # a piece taken out or doubled
            start = rng.randrange(len(copy))
            piece = copy[start : start + rng.randrange(1, 200)]
            copy[start : start + rng.choice((0, len(piece)))] = piece * rng.randrange(3)
        else:  # a number in the text, or the bytes of one, made huge
            start = rng.randrange(max(len(copy) - 8, 1))
            copy[start : start + 8] = rng.choice((b"\xff" * 8, b"99999999", b"\x00" * 8, b"\x7f" * 8, b"-1111111"))
        yield bytes(copy)


def read_all(
    path: pathlib.Path, original: bytes, count: int, seed: int, read: Callable[[], object]
) -> tuple[int, int, list[str]]:
    """Reads damaged copies of a file.

    Args:
      path: where each copy is written.
      original: the whole file.
      count: number of copies.
      seed: of the damage.
      read: reads `path`.

    Returns:
      How many were read, how many refused, and a text for each that did neither.
    """
    taken, refused, wrong = 0, 0, []
    for number, copy in enumerate(mutated(original, count, seed)):
        path.write_bytes(copy)
        try:
            read()
            taken += 1
        except ExchangeError as error:
            refused += 1
            if "\n" in str(error) or len(str(error)) > 8000:
                wrong.append(f"copy {number}: not one short line: {str(error)[:300]!r}")
        except Exception as error:
            place = traceback.extract_tb(error.__traceback__)[-1]
            wrong.append(
                f"copy {number}: {type(error).__name__}: {str(error)[:200]} at {place.filename}:{place.lineno}"
            )
    return taken, refused, wrong


def main() -> None:
    """Reads N damaged copies of each file that is named: mutations.py N FOLDER FILE [STRUCTURE]."""
    from cnn.exchange.caffe import model as caffe_model
    from cnn.exchange.keras import model as keras_model
    from cnn.exchange.torch_weights import state_dict

    count, folder, source = int(sys.argv[1]), pathlib.Path(sys.argv[2]), pathlib.Path(sys.argv[3])
    structure = sys.argv[4] if len(sys.argv) > 4 else None
    path = folder / source.name
    readers: dict[str, Callable[[], object]] = {
        ".safetensors": lambda: state_dict.read(path, "full_cnn"),
        ".caffemodel": lambda: caffe_model.read(path, structure),
        ".prototxt": lambda: caffe_model.read(str(structure), path),
    }
    read = readers.get(source.suffix, lambda: keras_model.read(path, structure))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    taken, refused, wrong = read_all(path, source.read_bytes(), count, 1, read)
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(
        f"{source.name}: {taken} read, {refused} refused, {len(wrong)} wrong; memory {before >> 10} to {after >> 10} MB"
    )
    for line in wrong[:20]:
        print(" ", line)


if __name__ == "__main__":
    main()
