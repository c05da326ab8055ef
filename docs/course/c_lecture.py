"""Course, page C: what convolution, padding, strides and pools do. Run: python -m docs.course.c_lecture"""

# %% [markdown]
# # C. The lecture: convolution, padding, strides, pools
#
# A lecture on convolutional nets works through small examples with numbers and shows what known kernels do to a
# picture. This page does the same with the layers that the library trains, on a 6x6 example that can be checked by
# hand and on a photograph that comes with scikit-learn.

# %%
import numpy as np
from sklearn.datasets import load_sample_image

from cnn import geometry, layers, nets, ops
from cnn.nets import textbook_kernels
from docs.course import tools


def respond(kernel, image, **fields):
    """The output of a convolution with one kernel [h, w] for one image [H, W]."""
    kernel = np.asarray(kernel, np.float32)
    layer = layers.Conv(1, kernel.shape, use_bias=False, **fields)
    variables = {"params": {"kernel": kernel[:, :, None, None]}}
    return np.asarray(
        layer.apply(
            variables, np.asarray(image, np.float32)[None, :, :, None], train=False
        )
    )[0, :, :, 0]


# %% [markdown]
# ## Cross-correlation by hand
#
# The kernel is laid over the picture, each of its weights is multiplied by the pixel under it, and the products are
# added: that is one output value. Then the kernel moves on by a pixel. A 3x3 kernel fits into a 6x6 picture at 4x4
# places.

# %%
kernel = np.array([[0, 0, 0.5], [0, 0.5, 0], [0, 0, 0.5]])
picture = np.zeros((6, 6))
picture[1, 1] = 1.0
for row, column in [(1, 4), (2, 3), (3, 4), (4, 3), (5, 4)]:
    picture[row, column] = 0.4

first = (picture[0:3, 0:3] * kernel).sum()
output = respond(kernel, picture)
print(f"upper left value by hand: {first:.1f}")
print(output)
tools.show_arrays(
    "cross_correlation",
    "The kernel, the 6x6 picture, and the 4x4 output.",
    {"kernel": kernel, "picture": picture, "output": output},
    numbers="{:.1f}",
    limits=(0, 1),
)

# %% [markdown]
# ## It is not a convolution
#
# In mathematics a convolution turns the kernel by 180 degrees first. Nets leave that out, since a learned kernel can
# come out turned as well; what is called a convolution in nets is a cross-correlation. With a kernel that is not
# symmetric the two differ.

# %%
turned = respond(np.flip(kernel), picture)
different = int((turned != output).sum())
print(turned)
print(f"{different} of 16 values differ")

# %% [markdown]
# ## Strides
#
# With a stride of 3 the kernel moves by three pixels, and 2x2 values are left, taken out of the 4x4 output at every
# third place. **Correction.** The slide gives this answer for a stride of 2. Stride 2 takes every second place, which
# gives another 2x2 answer, and it does not fit: (6 - 3) / 2 + 1 is 2.5. The library raises an error, unless the layer
# is asked to leave the last pixels unseen (`rounding="floor"`).

# %%
stride_3 = respond(kernel, picture, stride=3)
stride_2 = respond(kernel, picture, stride=2, rounding="floor")
print("stride 3:", stride_3[0], stride_3[1])
print("stride 2:", stride_2[0], stride_2[1])
try:
    respond(kernel, picture, stride=2)
except ValueError as error:
    stride_error = str(error)
print(stride_error)

# %% [markdown]
# ## Known kernels on a photograph
#
# Some kernels have been known for longer than nets. Sobel's two kernels respond where a picture gets brighter to the
# right, or downwards: edges. A Gaussian kernel averages a pixel with its neighbours, nearer ones weighing more: blur.
# The photograph is scikit-learn's; it was made grey and reduced to a quarter.

# %%
colours = load_sample_image("china.jpg").astype(np.float32) / 255
grey = colours.mean(axis=-1)[:424, :640]
photograph = grey.reshape(106, 4, 160, 4).mean(axis=(1, 3))
vertical, horizontal = textbook_kernels.sobel()
blur = textbook_kernels.gaussian()
right, down, blurred = (respond(k, photograph) for k in (vertical, horizontal, blur))
print("vertical edges:", vertical.tolist())
print(
    "blur: the outer product of [1, 4, 6, 4, 1] with itself, over",
    round(1 / blur[0, 0]),
)
tools.show_arrays(
    "known_kernels",
    "A photograph, its vertical and horizontal edges by Sobel's kernels (brighter to the right or downwards: light), "
    "and a Gaussian blur.",
    {
        "photograph": photograph,
        "vertical edges": right,
        "horizontal edges": down,
        "blur": blurred,
    },
    columns=2,
)

# %% [markdown]
# ## In a net the kernels are learned
#
# Nobody writes the kernels of a net down; gradient descent finds them. The picture shows the first layer of a net
# that was trained on handwritten digits for a few seconds, below the six textbook kernels: less tidy, and good
# enough. (In the study [first_layer](../../experiments/results/first_layer/report.md), nets with fixed textbook
# kernels show no significant difference from learned ones on Fashion-MNIST; fixed random ones are worse.)

# %%
dataset, train_images, test_images = tools.digits()
net = nets.layer_pattern(features=[6, 12], kernel=5, width=32)
variables = tools.fit(net, train_images, dataset.train.labels, steps=100)
learned = np.asarray(variables["params"]["conv1"]["kernel"])[:, :, 0]
print(
    f"{tools.accuracy(net, variables, test_images, dataset.test.labels):.1%} of the test digits right"
)
known = textbook_kernels.bank()
names = ["edge", "edge", "edge", "edge", "blur", "rest"]
panels = {f"{names[i]} {i + 1}": known[..., i] for i in range(6)}
panels |= {f"learned {i + 1}": learned[..., i] for i in range(6)}
tools.show_arrays(
    "learned_kernels",
    "Six textbook kernels, and six that a net has learned.",
    panels,
    columns=6,
)

# %% [markdown]
# ## Padding, and what it is made of
#
# Without padding a 5x5 kernel takes two pixels from every side. Padding puts them back, and something must be written
# into them: zeros, the border pixel repeated, the picture mirrored, or the mean of the row and column. Drawn here
# with 24 pixels, so that it can be seen.

# %%
around = ((24, 24), (24, 24))
modes = {
    mode: np.asarray(ops.pad(photograph[None, :, :, None], around, mode))[0, :, :, 0]
    for mode in ops.PADDING_MODES
}
tools.show_arrays(
    "padding",
    "The photograph with 24 pixels of padding of each mode.",
    modes,
    columns=2,
    limits=(0, 1),
)

# %% [markdown]
# ## Zeros leave a mark at the border
#
# Zeros are the usual choice, and they are not neutral: to the kernel they are a black frame. A blur with zero padding
# darkens the outermost pixels. A repeated or mirrored border leaves their brightness as it was; the mean mode mixes
# in what is farther away.

# %%
border = {}
for mode in ops.PADDING_MODES:
    same = respond(blur, photograph, padding="same", padding_mode=mode)
    border[mode] = float(same[0].mean() / photograph[0].mean())
    print(
        f"{mode:8} top row after the blur: {border[mode]:.2f} of its brightness before"
    )

# %% [markdown]
# ## Max, average and N-max pools
#
# A pool keeps one number of each window, map by map, and has no parameters. The maximum keeps the strongest response,
# the average all of them in part. N-max lies between: the mean of the n largest values. With n = 1 it is the maximum,
# and with n = 4, in a 2x2 window, the average.

# %%
patch = np.array([[1, 3, 2, 0], [5, 7, 0, 2], [0, 4, 8, 8], [4, 0, 6, 2]], np.float32)
pools = {
    "max": layers.MaxPool(2),
    "2-max": layers.NMaxPool(2, n=2),
    "3-max": layers.NMaxPool(2, n=3),
    "average": layers.AvgPool(2),
}
pooled = {
    name: np.asarray(pool.apply({}, patch[None, :, :, None], train=False))[0, :, :, 0]
    for name, pool in pools.items()
}
for name, values in pooled.items():
    print(f"{name:8}", np.array2string(values, precision=2).replace("\n", ","))
tools.show_arrays(
    "pools",
    "A 4x4 map and what four pools of 2x2 make of it.",
    {"map": patch, **pooled},
    columns=5,
    numbers="{:.3g}",
    limits=(0, 8),
)

# %% [markdown]
# ## Pools on the photograph's edges
#
# On a map of responses the difference is easy to see: after two rounds of 2x2 pooling the maximum has kept thin edges
# bright, and the average has thinned them out. N-max stands between the two.


# %%
def pool_twice(pool, image):
    """A map pooled by 2x2 twice."""
    stack = image[None, :, :, None]
    for _ in range(2):
        stack = pool.apply({}, stack, train=False)
    return np.asarray(stack)[0, :, :, 0]


edges = np.abs(right)[:104, :152]
reduced = {name: pool_twice(pool, edges) for name, pool in pools.items()}
tools.show_arrays(
    "pooled_edges",
    "Vertical edges, pooled twice by each pool.",
    reduced,
    columns=2,
    limits=(0, 2),
)
print(
    "mean response:",
    {name: round(float(values.mean()), 2) for name, values in reduced.items()},
)

# %% [markdown]
# ## What a deep value sees
#
# A value behind one 3x3 convolution sees 3x3 pixels, behind two 5x5. Strides and pools make the steps between
# neighbouring values larger, and with them everything that comes later: with a pool after each convolution the
# receptive field grows by a factor instead of by a constant.

# %%
fields = {}
for pool in ("max", None):
    pattern = nets.layer_pattern(blocks=4, fc=0, features=8, pool=pool, head="global")
    rows = [
        row
        for row in geometry.table(pattern, (64, 64, 1))
        if row.name.startswith("conv")
    ]
    fields[pool] = [row.receptive_field[0] for row in rows]
print("with pools:   ", fields["max"], "pixels")
print("without pools:", fields[None], "pixels")

figure = tools.new_figure(2.2)
axis = figure.subplots()
axis.plot(range(1, 5), fields["max"], "o-", label="a 2x2 pool after each")
axis.plot(range(1, 5), fields[None], "s--", label="no pools")
axis.set(xlabel="convolution", ylabel="pixels seen", xticks=range(1, 5))
axis.legend(fontsize=tools.FONT - 1)
axis.grid(alpha=0.3)
tools.save(
    figure,
    "receptive_field",
    "How many pixels in height a value sees behind one to four 3x3 convolutions.",
)

# %% [markdown]
# ## Flattening, drawn
#
# Before a fully connected layer the maps are written in one row. It is usually drawn map by map, each from left to
# right and top to bottom: two 3x3 maps give 18 values. Arrays that keep the channels last give another order, pixel
# by pixel. Either is fine (page A), but weights trained in one order are wrong in the other: the classic mistake when
# weights are carried from one library to another.

# %%
two_maps = np.stack(
    [np.arange(9).reshape(3, 3), np.arange(9, 18).reshape(3, 3)], axis=-1
)  # [3, 3, 2]
map_by_map, pixel_by_pixel = (
    np.asarray(
        layers.Flatten(order).apply({}, two_maps[None].astype(np.float32), train=False)
    )[0].astype(int)
    for order in ("chw", "hwc")
)
print("map by map:    ", map_by_map.tolist())
print("pixel by pixel:", pixel_by_pixel.tolist())

figure = tools.new_figure(2.6)
grid = figure.add_gridspec(3, 2, height_ratios=[3, 1, 1])
for index in range(2):
    axis = figure.add_subplot(grid[0, index])
    axis.imshow(two_maps[..., index], cmap="coolwarm", vmin=0, vmax=17)
    axis.set_title(f"map {index + 1}", fontsize=tools.FONT)
    tools.write_labels(axis, two_maps[..., index])
for place, (title, flat) in enumerate(
    {"map by map": map_by_map, "pixel by pixel": pixel_by_pixel}.items(), start=1
):
    axis = figure.add_subplot(grid[place, :])
    axis.imshow(flat[None], cmap="coolwarm", vmin=0, vmax=17)
    axis.set_title(title, fontsize=tools.FONT)
    tools.write_labels(axis, flat[None])
tools.save(
    figure,
    "flattening",
    "Two 3x3 maps and the two orders in which their 18 values are written in one row.",
)

# %% [markdown]
# ## A typical net, and one in two halves
#
# Convolution, non-linearity and sometimes a pool, again and again, then fully connected layers: a net's text is its
# pattern. AlexNet has this shape too. It was trained on two graphics cards, each with half of the maps, and the
# halves meet only at some layers. A grouped convolution says the same in one net: with two groups each filter sees
# half of the maps, and has half of the weights.

# %%
print(nets.layer_pattern(convs=2, blocks=3, fc=2))
alexnet = nets.create("alexnet")
whole = geometry.table(nets.create("alexnet", groups=1), (227, 227, 3))
halves = geometry.table(alexnet, (227, 227, 3))
for name in ("conv1", "conv2", "conv3", "conv4", "conv5", "fc1"):
    print(
        f"{name}: {halves[name].params:10,} parameters in two halves, {whole[name].params:10,} in one net"
    )
print(
    f"total: {halves.params:,} and {whole.params:,}; classes: {halves[-1].output_shape[0]:,}"
)
