"""Data sets: arrays with explicit splits, by name."""

from hpjax.data import digits as digits
from hpjax.data import mnist as mnist
from hpjax.data.dataset import Dataset as Dataset
from hpjax.data.registry import DATASETS as DATASETS
