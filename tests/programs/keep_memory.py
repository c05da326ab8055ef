"""Prints how many pages are touched anew when 128 MiB are allocated a second time: keep | leave."""

import ctypes
import resource
import sys

from cnn.runtime import process

if sys.argv[1] == "keep" and not process.keep_memory():
    sys.exit("skip")
library = ctypes.CDLL(None)
library.malloc.restype, library.free.argtypes, size = ctypes.c_void_p, [ctypes.c_void_p], 2**27
faults = []
for _ in range(2):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    block = library.malloc(ctypes.c_size_t(size))
    ctypes.memset(block, 1, size)
    library.free(block)
    faults.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
print(faults[1])
