"""Prepares a TFDS set for `cnn.data`: python -m cnn.prepare NAME [--data_dir=DIR] [--manual_dir=DIR].

The only module that needs TensorFlow (python -m pip install -r requirements-tfds.txt, or the extra "prepare" of the
package). It runs as a process of its own: training never imports TensorFlow.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import sys


def prepare(name: str, data_dir: str, manual_dir: str = "") -> str:
    """Downloads a set and writes it as array_record, which is read without TensorFlow.

    Args:
      name: name of the set in TFDS, such as "mnist" or "imagenette/160px-v2".
      data_dir: directory of prepared sets.
      manual_dir: directory of files that were downloaded by hand, under the names that TFDS gives them; "": none.

    Returns:
      The directory of the prepared set; a set that was prepared before is not changed.

    Raises:
      Exception: whatever TFDS raises, for example for an unknown name, without a network, or on a full disk.
    """
    import tensorflow_datasets as tfds
    from tensorflow_datasets.core.download import downloader

    # The 10 tries of TFDS take minutes until the error without a network.
    downloader.MAX_RETRIES = 3
    builder = tfds.builder(name, data_dir=data_dir, file_format="array_record")
    # Each set has a directory of its own: TFDS looks up extracted files by name only, so that in a shared directory
    # fashion_mnist would get the files of mnist, which have the same names.
    extracted = os.path.join(data_dir, "downloads", "extracted", builder.info.full_name.replace("/", "-"))
    config = tfds.download.DownloadConfig(extract_dir=extracted, manual_dir=manual_dir or None, try_download_gcs=False)
    builder.download_and_prepare(
        download_dir=os.path.join(data_dir, "downloads"), download_config=config, file_format="array_record"
    )
    return str(builder.data_dir)


def main(argv: list[str] | None = None) -> int:
    """The command line.

    Args:
      argv: arguments without the program's name; None: those of the process.

    Returns:
      0, or 1 after one line on standard error that says what failed.
    """
    parser = argparse.ArgumentParser(
        prog="python -m cnn.prepare", description="Downloads a TFDS set and writes it as array_record."
    )
    parser.add_argument("name", help="a TFDS set: mnist, cifar10, imagenette/160px-v2, ...")
    parser.add_argument("--data_dir", default="", help="default: $TFDS_DATA_DIR, else ~/tensorflow_datasets")
    parser.add_argument("--manual_dir", default="", help="files that were downloaded by hand")
    args = parser.parse_args(argv)
    missing = [m for m in ("tensorflow", "importlib_resources") if importlib.util.find_spec(m) is None]
    if missing:
        print(
            f"cnn.prepare: preparing {args.name} needs {' and '.join(missing)}: "
            'python -m pip install -r requirements-tfds.txt (or the package\'s extra "prepare")',
            file=sys.stderr,
        )
        return 1
    data_dir = args.data_dir or os.environ.get("TFDS_DATA_DIR") or os.path.join("~", "tensorflow_datasets")
    try:
        where = prepare(args.name, os.path.abspath(os.path.expanduser(data_dir)), args.manual_dir)
    except Exception as error:  # TFDS raises many kinds; the message is enough, without the traceback
        print(f"cnn.prepare: {args.name} was not prepared: {type(error).__name__}: {error}", file=sys.stderr)
        return 1
    print(f"{args.name} is prepared in {where}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
