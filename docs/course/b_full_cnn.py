"""Course, page B: FullCNN, its parameters, an exercise and softmax. Run: python -m docs.course.b_full_cnn"""

# %% [markdown]
# # B. FullCNN: from maps to classes
#
# A course note builds a whole classifier out of two padded convolutions and two fully connected layers, counts its
# parameters, and sets an exercise: the same net for CIFAR-10. This page counts both nets layer by layer, shows where
# the parameters are, and takes softmax apart.

# %%
import jax
import jax.numpy as jnp
import numpy as np

from cnn import geometry, nets
from docs.course import tools

# %% [markdown]
# ## The net on 28x28 grey pictures
#
# Each convolution has 3x3 filters and one pixel of padding, so the map keeps its size; each pool halves it. 28
# becomes 14 and then 7, with 64 maps: 7 * 7 * 64 = 3,136 values are flattened.

# %%
net = nets.create("full_cnn", num_classes=10)
mnist = geometry.table(net, (28, 28, 1))
for row in mnist:
    print(
        f"{row.name:9} {'x'.join(map(str, row.output_shape)):9} {row.params:7,} parameters"
    )
print(f"{'total':19} {mnist.params:7,} parameters")

# %% [markdown]
# ## The same count by hand
#
# Filters times (window times incoming maps, plus one bias); outputs times (inputs plus one bias).

# %%
by_hand = [
    32 * (3 * 3 * 1 + 1),
    64 * (3 * 3 * 32 + 1),
    128 * (7 * 7 * 64 + 1),
    10 * (128 + 1),
]
print(" + ".join(f"{count:,}" for count in by_hand), "=", f"{sum(by_hand):,}")

# %% [markdown]
# ## Where the parameters are, and where the work is
#
# Nineteen parameters of twenty belong to the first fully connected layer. The multiply-adds do not: a convolution's
# few weights are used again at every pixel. Large models are made small in their fully connected layers, and fast in
# their convolutions.

# %%
weighted = [row for row in mnist if row.params]
shares = {
    row.name: (row.params / mnist.params, row.macs / mnist.macs) for row in weighted
}
for name, (parameters, work) in shares.items():
    print(
        f"{name}: {parameters:5.1%} of the parameters, {work:5.1%} of the multiply-adds"
    )

figure = tools.new_figure(2.2)
axis = figure.subplots()
places = np.arange(len(shares))
axis.barh(
    places - 0.2,
    [share[0] for share in shares.values()],
    0.4,
    label="parameters",
    color="tab:blue",
)
axis.barh(
    places + 0.2,
    [share[1] for share in shares.values()],
    0.4,
    label="multiply-adds",
    color="tab:orange",
)
axis.set(
    yticks=places,
    yticklabels=list(shares),
    xlim=(0, 1),
    xlabel="share of the whole net",
)
axis.invert_yaxis()
axis.legend(fontsize=tools.FONT - 1)
tools.save(
    figure,
    "shares",
    "Each layer's share of the net's parameters and of its multiply-adds.",
)

# %% [markdown]
# ## The exercise: CIFAR-10
#
# CIFAR-10 has 32x32 pictures with three colours. Two layers change. The first sees three maps: 32 * (27 + 1) = 896.
# The pools now leave 8x8, so the first fully connected layer sees 8 * 8 * 64 = 4,096 values: 524,416. The second
# convolution and the last layer never notice.

# %%
cifar = geometry.table(net, (32, 32, 3))
for row in weighted:
    change = "" if cifar[row.name].params == row.params else f"  (was {row.params:,})"
    print(f"{row.name}: {cifar[row.name].params:7,}{change}")
print(f"total: {cifar.params:,}")

# %% [markdown]
# ## Only the flattening knows the picture's size
#
# The parameters of the convolutions depend on the number of maps and on nothing else. This is why a trained
# classifier can be run over a larger picture once its fully connected layers are written as convolutions (page D).

# %%
sizes = [28, 32, 48, 64]
conv_counts = [
    sum(
        geometry.table(net, (size, size, 1))[name].params for name in ("conv1", "conv2")
    )
    for size in sizes
]
first_fc = [geometry.table(net, (size, size, 1))["fc1"].params for size in sizes]
for size, convolutions, connected in zip(sizes, conv_counts, first_fc, strict=True):
    print(
        f"{size}x{size}: convolutions {convolutions:,}, first fully connected layer {connected:,}"
    )

# %% [markdown]
# ## Softmax: from scores to probabilities
#
# The last layer gives one score (logit) for each class, any real number. Softmax takes e to the power of each and
# divides by the sum, so that the results are positive and add up to 1. The order of the classes does not change, and
# a *difference* of scores becomes a *ratio* of probabilities: one score higher by 1 is 2.72 times as probable.


# %%
def rounded(values):
    """Values as a list with three decimals."""
    return [round(float(value), 3) for value in values]


scores = jnp.array([2.0, 1.0, 0.1, -1.0])
probabilities = jnp.exp(scores) / jnp.exp(scores).sum()
print(
    "probabilities:",
    rounded(probabilities),
    "sum:",
    round(float(probabilities.sum()), 6),
)
ratio = float(probabilities[0] / probabilities[1])
print(f"first by second: {ratio:.3f}")

# %% [markdown]
# ## Softmax on a computer
#
# Adding one number to all scores changes nothing, as it cancels. That matters: e to the power of 1,000 is too large
# for a float32, and the plain formula gives infinity by infinity, "not a number". Subtracting the largest score first
# gives the same probabilities and never overflows; this is what `jax.nn.softmax` does.

# %%
large = scores + 1000
plain = jnp.exp(large) / jnp.exp(large).sum()
print("plain formula:   ", plain)
print("largest first off:", rounded(jax.nn.softmax(large)))

# %% [markdown]
# ## Sharper and softer
#
# Scores multiplied by a number above 1 give surer probabilities, below 1 more even ones; the best class stays the
# best. A net that has trained for long has large scores, and its probabilities then say more than it knows.

# %%
factors = [0.5, 1.0, 3.0]
figure = tools.new_figure(1.9)
axes = figure.subplots(1, 3, sharey=True)
for axis, factor in zip(axes, factors, strict=True):
    axis.bar(range(4), jax.nn.softmax(scores * factor), color="tab:blue")
    axis.set_title(f"scores times {factor:g}", fontsize=tools.FONT)
    axis.set(ylim=(0, 1), xlabel="class")
axes[0].set_ylabel("probability")
tools.save(
    figure,
    "softmax",
    "Probabilities of four classes for the same scores times 0.5, 1 and 3.",
)
best = [float(jax.nn.softmax(scores * factor).max()) for factor in factors]
print("largest probability:", ", ".join(f"{p:.2f}" for p in best))

# %% [markdown]
# ## The loss, and a gradient worth knowing
#
# Training makes the probability p of the right class large by making -log p small. The gradient of that loss by the
# scores is the probabilities, less 1 at the right class: every wrong class is pushed down by the probability that it
# was given. Automatic differentiation agrees.

# %%
right = 1


def loss(z):
    """Minus the logarithm of the right class's probability."""
    return -jax.nn.log_softmax(z)[right]


gradient = jax.grad(loss)(scores)
print(f"loss {loss(scores):.3f}")
print("by differentiation:", rounded(gradient))
print("p less 1 at right: ", rounded(probabilities - jax.nn.one_hot(right, 4)))

# %% [markdown]
# ## The net at work
#
# Trained for a short while on the handwritten digits of scikit-learn at 28x28 pixels, the net says for each picture
# how probable it finds each class. The pictures below are the test digits that it is least sure about.

# %%
dataset, train_images, test_images = tools.digits(28)
variables = tools.fit(net, train_images, dataset.train.labels, steps=100)
accuracy = tools.accuracy(net, variables, test_images, dataset.test.labels)
print(f"{len(test_images)} test digits: {accuracy:.1%} right")
sure = np.asarray(jax.nn.softmax(tools.scores(net, variables, test_images)))
doubtful = np.argsort(sure.max(axis=1))[:6]
titles = [
    f"{i + 1}: a {sure[k].argmax()}? {sure[k].max():.0%}"
    for i, k in enumerate(doubtful)
]
pictures = {
    title: dataset.test.images[k, :, :, 0]
    for title, k in zip(titles, doubtful, strict=True)
}
tools.show_arrays(
    "least_sure",
    "The six test digits whose best class is the least probable, with that class.",
    pictures,
)
