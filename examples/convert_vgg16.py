"""Sizes and costs of VGG-16 as a fully convolutional net, without arrays. Run: python examples/convert_vgg16.py"""

from cnn import convert, dense, geometry, nets

net = nets.create("vgg16")
window, image = (224, 224, 3), (384, 384, 3)
converted = convert.convolutional(net, window)
print(geometry.table(converted, image))

one_pass, crop = geometry.table(converted, image), geometry.table(net, window)
rows, columns, classes = one_pass[-1].output_shape
print(f"{rows}x{columns} scores of {classes} classes: {one_pass.macs / 1e9:.1f} G multiply-adds in one pass,")
print(f"{rows * columns * crop.macs / 1e9:.0f} G as {rows * columns} crops")
print(dense.plan(net, image, stride=16, window=window[:2]))
