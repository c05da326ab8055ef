"""Loads MNIST, which is kept decoded: CACHE DATA_DIR; prints its CPU seconds, statistics and sum of pixels as JSON."""

import json
import sys
import time

import numpy as np

from cnn import data
from cnn.data import decoded

decoded.use(sys.argv[1])
start = time.process_time()
mnist = data.load("mnist", dir=sys.argv[2])
seconds = time.process_time() - start
assert "tensorflow_datasets" not in sys.modules
print(json.dumps([seconds, mnist.mean, mnist.std, int(mnist.train.images.sum(dtype=np.int64))]))
