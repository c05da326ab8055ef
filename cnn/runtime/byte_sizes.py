"""Numbers of bytes as people write them: "2GB", "500 MB", "1.5GiB"."""

import re


def parse_bytes(text: str) -> int:
    """Reads a number of bytes as people write it.

    Args:
      text: "2GB", "500 MB", "1.5GiB" or "1000000"; KB, MB, GB, TB are powers of 1000, KiB, MiB, ... of 1024.

    Returns:
      Bytes.

    Raises:
      ValueError: if it is not such a number.
    """
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(?:([KMGT])(i?))?B?", text.strip(), re.IGNORECASE)
    if not found or not float(found[1]):
        raise ValueError(f"--memory={text}: must be a number of bytes above 0, such as 2GB, 500MB or 1.5GiB")
    power = "KMGT".index(found[2].upper()) + 1 if found[2] else 0
    return int(float(found[1]) * (1024 if found[3] else 1000) ** power)
