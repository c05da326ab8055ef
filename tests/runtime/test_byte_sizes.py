"""Numbers of bytes as people write them."""

import numpy as np
import pytest

from cnn.runtime import byte_sizes


@pytest.mark.parametrize(
    "text, expected",
    [("2GB", 2 * 10**9), ("1.5 GiB", 1.5 * 2**30), ("500m", 5 * 10**8), ("1000", 1000), ("64KiB", 2**16)],
)
def test_bytes_as_people_write_them(text, expected):
    assert byte_sizes.parse_bytes(text) == expected
    for wrong in ("", "GB", "2 gallons", "-1GB", "0"):
        with pytest.raises(ValueError, match="must be a number of bytes above 0, such as 2GB"):
            byte_sizes.parse_bytes(wrong)


def test_numbers_count_as_bytes_too():
    for value in (2 * 10**9, 2e9, np.int64(2 * 10**9), np.float64(2e9), "2GB"):
        assert byte_sizes.as_bytes(value, "memory_limit") == 2 * 10**9
    for wrong in (0, -1, 0.5, float("nan"), float("inf"), [1], "0", "much"):
        with pytest.raises(ValueError, match="^memory_limit=.*: must be a number of bytes above 0, such as 2GB"):
            byte_sizes.as_bytes(wrong, "memory_limit")


def test_bytes_in_a_unit_that_shows_them():
    written = {0: "0 bytes", 900: "900 bytes", 1000: "0.977 KiB", 1536: "1.5 KiB", 2**31: "2 GiB", 3 * 2**42: "12 TiB"}
    assert {count: byte_sizes.bytes_text(count) for count in written} == written
