"""Numbers of bytes as people write them."""

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
