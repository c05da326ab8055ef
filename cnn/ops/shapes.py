"""The shapes of a convolution, and the properties of them by which algorithms are chosen."""

from collections.abc import Sequence
from typing import NamedTuple

from cnn.windows import Window

FEW_TERMS = 50  # most terms of an output's sum, kernel positions times channels, for `has_few_terms`


class Shapes(NamedTuple):
    """The shapes, window and groups of a convolution.

    Attributes:
      images: (N, H, W, C).
      kernel: (kernel height, kernel width, C / groups, K).
      window: kernel, stride, padding and dilation.
      groups: number of groups of channels that do not see each other.
      position_invariant: whether a value must be rounded in the same way at every position, in images of any size and
        in any batch, so that a part of an image gives, to the bit, a part of the image's map. The algorithm may then
        depend on the kernel only (except for a kernel that is at least as large as its input), and must not be a matrix
        product of a small kernel, because XLA sums few rows in another order than many.
    """

    images: tuple[int, int, int, int]
    kernel: tuple[int, int, int, int]
    window: Window
    groups: int = 1
    position_invariant: bool = True

    @property
    def unpadded(self) -> bool:
        """Whether there is no padding."""
        return self.window.padding == ((0, 0), (0, 0))

    @property
    def slides(self) -> bool:
        """Whether the kernel has more than one position."""
        return self.kernel[0] * self.kernel[1] > 1

    @property
    def is_thin(self) -> bool:
        """Whether channels are so few that a sum of shifted images is faster than XLA; more terms compile slowly."""
        height, width, channels, features = self.kernel
        return self.slides and channels <= 8 and features <= 8 and height * width * channels <= 128

    @property
    def has_few_terms(self) -> bool:
        """Whether each output sums few terms: one loop over all features is then faster than XLA's convolution."""
        height, width, channels, features = self.kernel
        return self.slides and height * width * channels <= FEW_TERMS and features > 8

    @property
    def is_first(self) -> bool:
        """Whether the kernel is like a first layer's: few channels to many, the patches no larger than the output."""
        height, width, channels, features = self.kernel
        return self.slides and channels <= 4 and height * width * channels <= features

    @property
    def is_narrow(self) -> bool:
        """Whether image rows are so short that a product with the kernel's banded matrix is cheap."""
        return self.kernel[2] <= 8 and self.images[2] * self.kernel[3] <= 384

    @property
    def is_uneven(self) -> bool:
        """Whether a few channels of zeros, up to a multiple of four, make XLA's convolution faster."""
        channels, features = self.kernel[2:]
        return self.slides and 3 <= channels < 16 and channels % 4 != 0 and features <= 32

    @property
    def covers_kernel(self) -> bool:
        """Whether the images are at least as large as the kernel."""
        return self.images[1] >= self.kernel[0] and self.images[2] >= self.kernel[1]

    @property
    def dense_columns(self) -> bool:
        """Whether horizontal stride and dilation are one, so that neighbouring outputs use neighbouring columns."""
        return self.window.stride[1] == self.window.dilation[1] == 1


def shapes_of(
    images_shape: Sequence[int],
    kernel_shape: Sequence[int],
    window: Window,
    groups: int = 1,
    position_invariant: bool = True,
) -> Shapes:
    """`Shapes` from the shapes of arrays: (N, H, W, C) and (kernel height, kernel width, C / groups, K)."""
    count, rows, columns, channels = images_shape
    height, width, depth, features = kernel_shape
    return Shapes(
        (count, rows, columns, channels), (height, width, depth, features), window, groups, position_invariant
    )
