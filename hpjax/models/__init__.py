"""Models: Linen modules on `hpjax.ops`, by name."""

from hpjax.models import cnn as cnn
from hpjax.models import mlp as mlp
from hpjax.models.dropout import Dropout as Dropout
from hpjax.models.dropout import Training as Training
from hpjax.models.registry import MODELS as MODELS
