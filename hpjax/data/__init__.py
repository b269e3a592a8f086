"""Data sets: arrays with explicit splits, by name."""

from hpjax.data import cifar as cifar
from hpjax.data import digits as digits
from hpjax.data import fashion_mnist as fashion_mnist
from hpjax.data import files as files
from hpjax.data import image_folder as image_folder
from hpjax.data import mnist as mnist
from hpjax.data import synthetic as synthetic
from hpjax.data import tables as tables
from hpjax.data import text as text
from hpjax.data.augment import AUGMENTATIONS as AUGMENTATIONS
from hpjax.data.dataset import Dataset as Dataset
from hpjax.data.dataset import create as create
from hpjax.data.dataset import create_language as create_language
from hpjax.data.registry import DATASETS as DATASETS
from hpjax.data.registry import task as task
