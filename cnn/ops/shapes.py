"""What is known of a convolution before its values are: its shapes, and the questions that algorithms ask of them."""

from collections.abc import Sequence
from typing import NamedTuple

from cnn.windows import Window

FEW_TERMS = 50  # that an output sums: kernel positions times channels


class Shapes(NamedTuple):
    """A convolution without its values.

    Attributes:
      images: (N, H, W, C).
      kernel: (kernel height, kernel width, C / groups, K).
      window: kernel, stride, padding and dilation.
      groups: how many groups of channels there are that do not see each other.
      position_invariant: whether a value must be rounded in the same way wherever it stands, in an image of any size
        and in any batch. Then, but for a kernel as large as its input or larger, the algorithm may depend on the kernel
        alone: a part of an image gives a part of its map, to the bit. Matrix products of small kernels do not keep to
        that, because XLA sums few rows in another order than many.
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
        """Whether channels are so few that adding up shifted images beats XLA; more terms take long to compile."""
        height, width, channels, features = self.kernel
        return self.slides and channels <= 8 and features <= 8 and height * width * channels <= 128

    @property
    def has_few_terms(self) -> bool:
        """Whether an output sums so few terms that one loop over many features at once beats XLA."""
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
        """Whether neighbouring outputs see neighbouring columns."""
        return self.window.stride[1] == self.window.dilation[1] == 1


def shapes_of(
    images_shape: Sequence[int],
    kernel_shape: Sequence[int],
    window: Window,
    groups: int = 1,
    position_invariant: bool = True,
) -> Shapes:
    """`Shapes` of shapes as arrays have them."""
    count, rows, columns, channels = images_shape
    height, width, depth, features = kernel_shape
    return Shapes(
        (count, rows, columns, channels), (height, width, depth, features), window, groups, position_invariant
    )
