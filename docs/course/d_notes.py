"""Course, page D: sizes, shared kernels, and classifiers slid over pictures. Run: python -m docs.course.d_notes"""

# %% [markdown]
# # D. The notes: sizes, sharing, and a classifier slid over a picture
#
# The notes of a university course give the arithmetic of convolutional layers and end with the idea that this library
# is built around: a fully connected layer *is* a convolution, so that a classifier can be run over a picture larger
# than the ones it was trained on. This page computes each of their numbers, and measures the claims on a small
# trained net.

# %%
import jax
import jax.numpy as jnp
import numpy as np

from cnn import convert, dense, geometry, layers, nets
from docs.course import tools

# %% [markdown]
# ## The size of a map
#
# A window of F pixels, moved by a stride of S over W pixels with P pixels of padding on both sides, fits at (W - F +
# 2P) / S + 1 places. AlexNet's first layer has F = 11, S = 4 and 96 filters: on 227 pixels that is 55 places, and a
# map of 55x55x96 = 290,400 values.

# %%
first = layers.Conv(96, 11, stride=4, name="conv1")
size = first.output_shape((227, 227, 3))
neurons = int(np.prod(size))
print(f"{size[0]}x{size[1]}x{size[2]} = {neurons:,} values")

# %% [markdown]
# **Correction.** The paper says 224 pixels, and (224 - 11) / 4 + 1 is 54.25, no whole number. A library that rounds
# in silence leaves pixels unseen; this one raises an error that names the layer and the numbers.

# %%
try:
    first.output_shape((224, 224, 3))
except ValueError as error:
    size_error = str(error)
print(size_error)

# %% [markdown]
# ## Shared kernels, and kernels of one's own
#
# A convolution uses the same 96 kernels at all 55x55 places: 11 * 11 * 3 * 96 weights and 96 biases. A *locally
# connected* layer has kernels of its own at each place, 3,025 times as many. It does not cost more multiply-adds, and
# it can only make sense where the same thing always stands at the same place, such as a face in a passport
# photograph. (Measured on small nets in the study
# [weight_sharing](../../experiments/results/weight_sharing/report.md).)

# %%
own = layers.LocallyConnected(96, 11, stride=4)
shared_count, own_count = (
    first.param_count((227, 227, 3)),
    own.param_count((227, 227, 3)),
)
print(
    f"shared: {shared_count:,} parameters, {first.macs((227, 227, 3)):,} multiply-adds"
)
print(f"own:    {own_count:,} parameters, {own.macs((227, 227, 3)):,} multiply-adds")

# %% [markdown]
# ## A convolution is a fully connected layer
#
# A convolution is linear, so it can be written as one matrix from all input values to all output values. Each output
# depends on a few inputs, so that nearly all of the matrix is zero; and each place has the same weights, so that the
# same block comes again and again, moved by one step. Here a 3x3 kernel on an 8x8 picture.

# %%
layer = layers.Conv(1, 3)
image = jax.random.normal(jax.random.key(0), (1, 8, 8, 1))
layer_variables = layer.init(jax.random.key(1), image, train=False)
matrix, bias = convert.conv_to_fc(layer, layer_variables, input_shape=(8, 8, 1))
zero = float((matrix == 0).mean())
as_convolution = layer.apply(layer_variables, image, train=False).reshape(1, -1)
as_matrix = image.reshape(1, -1) @ matrix + bias[None]
print(
    f"matrix {matrix.shape[0]}x{matrix.shape[1]}, {zero:.0%} zeros, {len(np.unique(matrix[matrix != 0]))} values"
)
print(
    f"largest difference of the outputs: {jnp.abs(as_convolution - as_matrix).max():.0e}"
)
tools.show_arrays(
    "matrix",
    "The convolution as a matrix: a row for each of 36 outputs, a column for each of 64 inputs; white is zero.",
    {"outputs x inputs": np.asarray(matrix).T},
    columns=1,
    colours="RdBu",
    limits=(-float(jnp.abs(matrix).max()), float(jnp.abs(matrix).max())),
)

# %% [markdown]
# ## A fully connected layer is a convolution
#
# The other way round: a fully connected layer that sees a 7x7x512 map and gives 4,096 values is a convolution with
# 4,096 kernels as large as the map: F = 7, P = 0, S = 1. It has the same weights, only arranged as kernels, and one
# place to stand. For VGG-16 this is arithmetic alone; no array is made.

# %%
vgg = nets.create("vgg16")
classifier = geometry.table(vgg, (224, 224, 3))
converted = geometry.table(convert.convolutional(vgg, (224, 224, 3)), (224, 224, 3))
for name in ("fc1", "fc2", "fc3"):
    shape = "x".join(map(str, converted[name].output_shape))
    print(
        f"{name}: {classifier[name].params:11,} parameters; converted {converted[name].params:11,}, gives {shape}"
    )
print(f"VGG-16: {classifier.params:,}")

# %% [markdown]
# ## 224 becomes 384
#
# On a 384x384 picture the convolutions of VGG-16 give 12x12x512 instead of 7x7x512. The fully connected layers, now
# convolutions, fit at (12 - 7) / 1 + 1 = 6 places in each direction: a 6x6 map of 1,000 scores, in one pass. The same
# 36 scores by cutting out 36 pictures of 224x224, 32 pixels apart, cost eleven times the work, since neighbouring
# pictures share most of their pixels.

# %%
larger = geometry.table(convert.convolutional(vgg, (224, 224, 3)), (384, 384, 3))
last_map, score_map_shape = larger["pool5"].output_shape, larger[-1].output_shape
crops = 36 * classifier.macs
print(
    "before the classifier:",
    "x".join(map(str, last_map)),
    " scores:",
    "x".join(map(str, score_map_shape)),
)
print(
    f"36 crops {crops / 1e9:.0f} G multiply-adds, one pass {larger.macs / 1e9:.1f} G: {crops / larger.macs:.1f} times"
)

# %% [markdown]
# ## The same, with values
#
# What arithmetic promises can be checked on a net that is small enough to train here. `qa_net` sees 32x32 pixels and
# has a native stride of 4: neighbouring scores of one pass are 4 pixels apart. On a 48x48 picture it fits at 5x5
# places. The scores of one pass over the picture are those of 25 cut-out windows, to rounding.

# %%
dataset, train_images, test_images = tools.digits()
net = nets.create("qa_net", num_classes=10)
variables = tools.fit(net, train_images, dataset.train.labels, steps=150)
scene = (
    jnp.full((1, 48, 48, 1), test_images.min()).at[:, 8:40, 12:44].set(test_images[0])
)

one_pass = dense.score_map(net, variables, scene, window=(32, 32), backend="mpf")
by_crops = dense.score_map(net, variables, scene, window=(32, 32), backend="crops")
difference = float(
    jnp.abs(one_pass.scores - by_crops.scores).max() / jnp.abs(by_crops.scores).max()
)
print(
    "map:",
    one_pass.scores.shape,
    " box of the first score:",
    one_pass.boxes[0, 0].tolist(),
)
print(f"largest difference: {difference:.0e} of the largest score")

# %% [markdown]
# ## A score map is a picture
#
# At a stride of 1 there is a window at each of 17x17 places, and the probability of the digit's class shows where the
# digit stands: the window that begins at row 8 and column 12 holds all of it.

# %%
label = int(dataset.test.labels[0])
fine = dense.score_map(net, variables, scene, window=(32, 32), stride=1)
probability = np.asarray(jax.nn.softmax(fine.scores)[0, :, :, label])
print(
    f"digit {label}: probability {probability[8, 12]:.2f} at its place, {probability.mean():.2f} on average"
)
tools.show_arrays(
    "score_map",
    "A digit on a 48x48 picture, and the probability of its class for each of 17x17 windows of 32x32 pixels.",
    {"picture": scene[0, :, :, 0], "probability of its class": probability},
    columns=2,
    colours="magma",
)

# %% [markdown]
# ## Averaging the scores
#
# The usual trick at test time: make the picture a little larger than the window, run once, and average the class
# scores over the map. The net has then looked at the picture from several places. Whether that helps is a question
# for each net and data set; on these well-centred digits, enlarged to 36x36, it is right on two more of 200.

# %%
count = 200
enlarged = jax.image.resize(test_images[:count], (count, 36, 36, 1), "bilinear")
maps = dense.score_map(net, variables, enlarged, window=(32, 32), stride=1)
labels = dataset.test.labels[:count]
centre = float((np.asarray(maps.scores[:, 2, 2]).argmax(-1) == labels).mean())
averaged = float((np.asarray(dense.average(maps.scores)).argmax(-1) == labels).mean())
print(
    f"the window in the middle: {centre:.1%}; average of {maps.scores[0, ..., 0].size} windows: {averaged:.1%}"
)

# %% [markdown]
# ## A finer stride, by shifts
#
# The converted net has a native stride of 4. For a stride of 2, run it again on the picture shifted by half a stride,
# and interleave the scores. **Correction.** The notes shift by (0, 0) and by half a stride in both directions at once.
# The two passes fill a chessboard: of the 9x9 places of a map at half the stride, 25 + 16 = 41. The other 40 need the
# two shifts in one direction alone: four passes in all.

# %%
two = np.zeros((9, 9), bool)
two[0::2, 0::2] = two[1::2, 1::2] = True
four = two.copy()
four[0::2, 1::2] = four[1::2, 0::2] = True
print(f"two shifts fill {two.sum()} of {two.size} places, four shifts {four.sum()}")
tools.show_arrays(
    "shifts",
    "Places of a 9x9 map that two shifted passes fill (white), and that four fill.",
    {"(0, 0) and (2, 2)": two, "and (0, 2), (2, 0)": four},
    columns=2,
    limits=(0, 1),
)

# %% [markdown]
# The same by hand, with values: four passes of the converted net over the 48x48 picture and its shifted parts, each
# written into every second row and column, are the map at stride 2.

# %%
conv_net, conv_variables = convert.fc_to_conv(net, variables, image_shape=(32, 32, 1))
one_pass_of = jax.jit(lambda part: conv_net.apply(conv_variables, part, train=False))
interleaved = np.zeros((9, 9, 10), np.float32)
for dy in (0, 2):
    for dx in (0, 2):
        height, width = 48 - (4 if dy else 0), 48 - (4 if dx else 0)
        part = scene[:, dy : dy + height, dx : dx + width]
        interleaved[dy // 2 :: 2, dx // 2 :: 2] = one_pass_of(part)[0]
half_stride = np.asarray(
    dense.score_map(
        net, variables, scene, window=(32, 32), stride=2, backend="crops"
    ).scores[0]
)
shift_difference = float(
    np.abs(interleaved - half_stride).max() / np.abs(half_stride).max()
)
print(
    f"four passes against {half_stride[..., 0].size} crops: largest difference {shift_difference:.0e}"
)

# %% [markdown]
# ## Where "identical" ends
#
# **Correction.** That one pass equals the crops holds for nets without padding. In a padded net a window that is cut
# out sees zeros beyond its border, where a pass over the picture sees the neighbouring pixels. These are two different
# measurements, and a report has to say which of them it holds. The example is an untrained padded net on noise, where
# the difference is largest.

# %%
padded = nets.create("full_cnn", num_classes=10)
noise = jax.random.normal(jax.random.key(2), (1, 48, 48, 1))
padded_variables = nets.init(padded, (32, 32, 1), seed=3)
in_image = dense.score_map(
    padded, padded_variables, noise, window=(32, 32), context="image"
)
as_crops = dense.score_map(
    padded, padded_variables, noise, window=(32, 32), context="crop"
)
padded_difference = float(
    jnp.abs(in_image.scores - as_crops.scores).max() / jnp.abs(as_crops.scores).max()
)
print(
    f"contexts: {one_pass.context!r} for qa_net, {in_image.context!r} and {as_crops.context!r} for full_cnn"
)
print(f"full_cnn: largest difference {padded_difference:.0%} of the largest score")

# %% [markdown]
# ## Patterns
#
# Most classifiers of their time follow one pattern: N convolutions and a pool, M times, then K hidden fully connected
# layers and the scores. A net of the library prints as its pattern, and can be made from one.

# %%
for convs, blocks, fc in [(0, 0, 0), (1, 2, 1), (2, 3, 2)]:
    pattern = nets.layer_pattern(convs=convs, blocks=blocks, fc=fc)
    print(f"N={convs}, M={blocks}, K={fc}: {pattern}")
print("VGG-16:", vgg)

# %% [markdown]
# ## A claim to test: normalisation
#
# The notes say of local response normalisation that its effect is minimal, if any. On six seeds of a small net and
# 10,000 pictures of CIFAR-10 it was not: 2.24 points of accuracy, with a 95 % interval from 1.47 to 3.02. One small
# net is no law, but a claim can be tested in a few minutes, and [the
# study](../../experiments/results/normalisation/report.md) shows how.
