"""Models: Linen modules on `hpjax.ops`, by name."""

from hpjax.models import cnn as cnn
from hpjax.models import logistic as logistic
from hpjax.models import lstm as lstm
from hpjax.models import mlp as mlp
from hpjax.models import resnet as resnet
from hpjax.models import transformer as transformer
from hpjax.models import vit as vit
from hpjax.models.dropout import Dropout as Dropout
from hpjax.models.dropout import StochasticDepth as StochasticDepth
from hpjax.models.initializers import INITIALIZERS as INITIALIZERS
from hpjax.models.norm import Norm as Norm
from hpjax.models.norm import NormSettings as NormSettings
from hpjax.models.registry import MODELS as MODELS
from hpjax.models.training import NEVER as NEVER
from hpjax.models.training import Training as Training
