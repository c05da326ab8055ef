"""Takes all locks of a folder that it can get, says which, and holds them until it is told to end: FOLDER."""

import contextlib
import os
import sys

from cnn.runtime import locks

names = sorted(os.listdir(sys.argv[1]), key=lambda name: hash((name, os.getpid() % 3)))
print("ready", flush=True)
sys.stdin.readline()
with contextlib.ExitStack() as stack:
    won = []
    for name in names:
        with contextlib.suppress(locks.Taken):
            stack.enter_context(locks.alone(os.path.join(sys.argv[1], name), "x"))
            won.append(name)
    print(*won, flush=True)
    sys.stdin.readline()
