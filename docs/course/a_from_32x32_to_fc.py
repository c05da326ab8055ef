"""Course, page A: how the layers of a small convolutional net connect. Run: python -m docs.course.a_from_32x32_to_fc"""

# %% [markdown]
# # A. From 32x32 pixels to a fully connected layer
#
# A small net, asked about in a forum thread, raises most questions that beginners have: what a filter of a second
# layer sees, what happens between the last map and the first fully connected layer, and whether pooling makes a net
# blind to where an object stands. This page answers each by a number. Everything on it is computed when the page is
# built; corrections of the source are marked **Correction**.

# %%
import jax
import jax.numpy as jnp
import numpy as np

from cnn import geometry, layers, nets
from docs.course import tools

# %% [markdown]
# ## The net, layer by layer
#
# The net takes a 32x32 picture with three colours. Two convolutions with 5x5 filters make 3 and then 6 maps; each is
# followed by a pool that keeps one value of every 2x2 pixels; 150 values are left, and two fully connected layers
# turn them into 10 scores. All sizes follow from the layers alone, before any array exists.

# %%
net = nets.create("qa_net", num_classes=10)
table = geometry.table(net, (32, 32, 3))
for row in table:
    print(
        f"{row.name:9} {'x'.join(map(str, row.output_shape)):9} {row.params:7,} parameters"
    )
print(f"{'total':19} {table.params:7,} parameters")

# %% [markdown]
# ## The parameters by hand
#
# A filter has one weight for each pixel of its window and each map that comes in, and one bias. A fully connected
# layer has one weight for each pair of input and output, and one bias for each output. The sum is 16,794; with a grey
# picture the first layer sees one map instead of three and has 78 parameters instead of 228.

# %%
conv1 = (5 * 5 * 3 + 1) * 3
conv2 = (5 * 5 * 3 + 1) * 6
fc1 = 5 * 5 * 6 * 100 + 100
fc2 = 100 * 10 + 10
total = conv1 + conv2 + fc1 + fc2
grey = geometry.table(net, (32, 32, 1))["conv1"].params
print(f"{conv1} + {conv2} + {fc1:,} + {fc2:,} = {total:,}")
print(f"first layer on a grey picture: {grey}")

# %% [markdown]
# ## A stride is at least one
#
# **Correction.** The thread writes "stride length = 0" for a filter that visits every pixel. The stride is the
# distance between neighbouring positions, and a window that moves by 0 pixels never arrives anywhere; every pixel is
# stride 1. The library refuses a stride of 0 and says why.

# %%
try:
    layers.Conv(3, 5, stride=0, name="conv1").output_shape((32, 32, 3))
except ValueError as error:
    stride_error = str(error)
print(stride_error)

# %% [markdown]
# ## A filter is a volume
#
# The second convolution sees three maps. Each of its six filters is therefore 5x5x3: it has a 5x5 slice for each map,
# and its output is the *sum* of what the three slices give, plus one bias. The sum is one map. Here one filter is
# taken apart and put together again.

# %%
maps = jax.random.normal(jax.random.key(0), (1, 14, 14, 3))
kernel = jax.random.normal(jax.random.key(1), (5, 5, 3, 1)) / 9


def respond(kernel, maps):
    """The output map of one filter, without bias."""
    layer = layers.Conv(1, 5, use_bias=False)
    return layer.apply({"params": {"kernel": kernel}}, maps, train=False)[0, :, :, 0]


slices = [respond(kernel[:, :, [i]], maps[..., [i]]) for i in range(3)]
whole = respond(kernel, maps)
largest_difference = float(jnp.abs(sum(slices) - whole).max())
print(
    f"sum of the three slices against the filter: largest difference {largest_difference:.0e}"
)
tools.show_arrays(
    "filter_is_a_volume",
    "The responses of a filter's three slices, each to its own map, and their sum: the filter's one output map.",
    {
        "slice 1": slices[0],
        "slice 2": slices[1],
        "slice 3": slices[2],
        "their sum": whole,
    },
    columns=4,
    limits=(-2.5, 2.5),
)

# %% [markdown]
# ## The maps are not separate examples
#
# One may think that each filter runs over each map by itself, and that 3 maps and 6 filters give 18 maps. That would
# be another layer: a grouped convolution whose groups never see each other. It has 18 output maps and 468 parameters,
# where the net's layer has 6 maps and 456.

# %%
for name, layer in {
    "as in nets": layers.Conv(6, 5),
    "map by map": layers.Conv(18, 5, groups=3),
}.items():
    maps_out = layer.output_shape((14, 14, 3))[2]
    print(f"{name}: {maps_out:2} maps, {layer.param_count((14, 14, 3))} parameters")
separate = layers.Conv(18, 5, groups=3).param_count((14, 14, 3))

# %% [markdown]
# ## A trained net to measure with
#
# Questions about what a net has learned need a trained one. The digits that come with scikit-learn are 1,797 pictures
# of handwritten numbers, enlarged here to 32x32 grey pixels. A few hundred steps of gradient descent take seconds.

# %%
dataset, train_images, test_images = tools.digits()
variables = tools.fit(net, train_images, dataset.train.labels, steps=200)
at_rest = tools.accuracy(net, variables, test_images, dataset.test.labels)
print(f"{len(test_images)} test digits: {at_rest:.1%} right")

# %% [markdown]
# ## The order of flattening does not matter, as long as it is kept
#
# Before the first fully connected layer the 5x5x6 values are written in one row. Any order will do: if we shuffle the
# 150 values and shuffle the rows of the layer's weights in the same way, each value still meets its own weight. The
# function is the same to rounding, since the terms of a sum change places. If the order is *not* kept, most answers
# are wrong.

# %%
order = np.random.default_rng(0).permutation(150)
values = net.apply(variables, test_images, train=False, method="activations")[1][
    "flatten1"
]
fc1_kernel = variables["params"]["fc1"]["kernel"]
straight = values @ fc1_kernel
shuffled = values[:, order] @ fc1_kernel[order]
print(
    f"both shuffled: largest difference {jnp.abs(straight - shuffled).max() / jnp.abs(straight).max():.0e}"
)

broken = {
    "params": {
        **variables["params"],
        "fc1": {**variables["params"]["fc1"], "kernel": fc1_kernel[order]},
    }
}
guessing = tools.accuracy(net, broken, test_images, dataset.test.labels)
print(f"weights shuffled alone: {guessing:.1%} right instead of {at_rest:.1%}")

# %% [markdown]
# With whole numbers, whose sums are exact in any order, the two are equal to the last bit. So the difference above is
# rounding and nothing else. (The study [flatten_order](../../experiments/results/flatten_order/report.md) trains nets
# with different orders and finds no significant difference in accuracy.)

# %%
whole_values, whole_kernel = jnp.round(values * 8), jnp.round(fc1_kernel * 64)
exact_difference = float(
    jnp.abs(
        whole_values @ whole_kernel - whole_values[:, order] @ whole_kernel[order]
    ).max()
)
print(f"whole numbers: largest difference {exact_difference:.0f}")

# %% [markdown]
# ## How much translation does pooling forgive?
#
# The thread says that a dog on the left and the same dog on the right give similar values at the last pool. That is a
# claim to measure. We move each test digit to the right by 0 to 8 pixels and ask two things: how far the 150 values
# move (relative to the distance between two different digits), and how many digits are still recognised.


# %%
def moved(images, pixels):
    """Images shifted to the right; background comes in from the left."""
    background = images.min()
    return jnp.pad(
        images, ((0, 0), (0, 0), (pixels, 0), (0, 0)), constant_values=background
    )[:, :, :32]


@jax.jit
def last_pool(images):
    """The 150 values after the second pool, for each image."""
    stages = net.apply(variables, images, train=False, method="activations")[1]
    return stages["pool2"].reshape(len(images), -1)


def distance(a, b):
    """Mean Euclidean distance between rows."""
    return float(jnp.sqrt(((a - b) ** 2).sum(-1)).mean())


resting = last_pool(test_images)
between_digits = distance(resting, jnp.roll(resting, 1, axis=0))
shifts = list(range(9))
distances = [
    distance(resting, last_pool(moved(test_images, s))) / between_digits for s in shifts
]
accuracies = [
    tools.accuracy(net, variables, moved(test_images, s), dataset.test.labels)
    for s in shifts
]
for s in shifts[::2]:
    print(
        f"moved by {s} pixels: values moved by {distances[s]:.2f}, {accuracies[s]:.1%} right"
    )

figure = tools.new_figure(2.6)
axis = figure.subplots()
axis.plot(shifts, accuracies, "o-", color="tab:blue", label="accuracy")
axis.plot(shifts, distances, "s--", color="tab:red", label="distance at the last pool")
axis.set(xlabel="shift to the right, pixels", ylim=(0, 1.3))
axis.legend(fontsize=tools.FONT - 1)
axis.grid(alpha=0.3)
tools.save(
    figure,
    "translation",
    "Accuracy, and distance of the values at the last pool (1: as far as another digit's), against the shift.",
)

# %% [markdown]
# One or two pixels are forgiven; by eight the values are about as far away as those of another digit, and accuracy
# has collapsed. Pooling buys *some* invariance: of about its own step. A net that must recognise an object anywhere
# in a large picture is slid over it instead: that is page D, and [dense evaluation](../dense.md).
