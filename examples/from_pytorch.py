"""A patch classifier of PyTorch reads a page of digits in one dense pass. Run: python examples/from_pytorch.py"""

import numpy as np
import torch
from torch import nn

from cnn import data, dense, exchange

digits = data.load("digits", image_size=16)
images, labels = (torch.from_numpy(np.array(part)) for part in digits.train)
images, labels = images.permute(0, 3, 1, 2) / 255, labels.long()
net = nn.Sequential(nn.Conv2d(1, 16, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(784, 10))
optimizer = torch.optim.Adam(net.parameters(), 0.005)
for batch in torch.randint(len(labels), (300, 64), generator=torch.Generator().manual_seed(0)):
    loss = nn.functional.cross_entropy(net(images[batch]), labels[batch])
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
torch.onnx.export(net, (images[:1],), "digits.onnx", dynamo=False)

run = exchange.load("digits.onnx", class_names=digits.class_names)  # compared with onnxruntime, if that is installed
truth = np.random.default_rng(0).integers(len(digits.test.labels), size=(40, 100))
page = digits.test.images[truth].transpose(0, 2, 1, 3, 4).reshape(1, 640, 1600, 1)
pixels = data.normalise(page, run.mean, run.std)
found = dense.score_map(run.net, run.variables, pixels, run.image_shape[:2], stride=16)
right = np.asarray(found.scores)[0].argmax(-1) == digits.test.labels[truth]
print(f"{right.sum():,} of {right.size:,} digits on a page of {page.shape[1]}x{page.shape[2]} pixels are read right")
