"""Operators: the same function whichever implementation runs, and the Linen layers made of them."""

from hpjax.ops.activations import ACTIVATIONS as ACTIVATIONS
from hpjax.ops.attention import attention as attention
from hpjax.ops.attention import causal_attention as causal_attention
from hpjax.ops.attention import join_heads as join_heads
from hpjax.ops.attention import self_attention as self_attention
from hpjax.ops.attention import split_heads as split_heads
from hpjax.ops.batch_norm import batch_norm as batch_norm
from hpjax.ops.batch_norm import normalise as normalise
from hpjax.ops.conv import Conv as Conv
from hpjax.ops.conv import conv as conv
from hpjax.ops.conv1d import Conv1d as Conv1d
from hpjax.ops.conv1d import conv1d as conv1d
from hpjax.ops.dense import Dense as Dense
from hpjax.ops.dense import dense as dense
from hpjax.ops.embedding import Embedding as Embedding
from hpjax.ops.embedding import embedding as embedding
from hpjax.ops.layer_norm import LayerNorm as LayerNorm
from hpjax.ops.layer_norm import ResidualNorm as ResidualNorm
from hpjax.ops.layer_norm import layer_norm as layer_norm
from hpjax.ops.layer_norm import residual_norm as residual_norm
from hpjax.ops.perceptron import perceptron as perceptron
from hpjax.ops.pool import avg_pool as avg_pool
from hpjax.ops.pool import max_pool as max_pool
