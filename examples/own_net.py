"""A net of your own: its table of sizes, and its scores on larger images. Run: python examples/own_net.py"""

import jax

from cnn import dense, geometry, nets
from cnn.layers import Activation, Conv, Dense, Flatten, MaxPool

net = nets.net(
    [Conv(8, 5), Activation("relu"), MaxPool(2)],
    [Conv(16, 3), Activation("relu"), MaxPool(2)],
    [Flatten(), Dense(32), Activation("relu"), Dense(4)],
)
print(net)
print(geometry.table(net, (32, 32, 3)))

images = jax.random.normal(jax.random.key(0), (2, 100, 120, 3))
variables = nets.init(net, (32, 32, 3))
fast = dense.score_map(net, variables, images, window=(32, 32), stride=2)
slow = dense.score_map(net, variables, images, window=(32, 32), stride=2, backend="crops")
difference = abs(fast.scores - slow.scores).max()
print(f"map {fast.scores.shape} by {fast.backend}; largest difference from crops {difference:.1e}")
