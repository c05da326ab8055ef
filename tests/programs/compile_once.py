"""Compiles one program and prints the cache's folder, the value, and whether the cache was hit: FOLDER."""

import sys

import jax
import jax.numpy as jnp
from jax import monitoring

from cnn.runtime import compiler

events = []
monitoring.register_event_listener(lambda event, **_: events.append(event))
folder = compiler.cache_compilations(sys.argv[1])
value = jax.jit(lambda x: jnp.sin(x).sum())(jnp.arange(7.0))
print(folder, float(value), events.count("/jax/compilation_cache/cache_hits") > 0)
