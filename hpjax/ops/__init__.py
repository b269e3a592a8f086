"""Operators: the same function whichever implementation runs, and the Linen layers made of them."""

from hpjax.ops.activations import ACTIVATIONS as ACTIVATIONS
from hpjax.ops.conv import Conv as Conv
from hpjax.ops.conv import conv as conv
from hpjax.ops.dense import Dense as Dense
from hpjax.ops.dense import dense as dense
from hpjax.ops.pool import max_pool as max_pool
