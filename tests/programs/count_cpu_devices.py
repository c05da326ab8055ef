"""Prints how many devices a CPU counts as: COUNT BATCH_SIZE."""

import sys

from cnn.runtime import devices, process

process.use_cpu_devices(int(sys.argv[1]), int(sys.argv[2]))
print(devices.Devices().count)
