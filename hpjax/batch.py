"""The examples of a micro-batch: which they are, read from the data set, standardised, augmented and mixed."""

import dataclasses
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from hpjax.data.augment import augment
from hpjax.data.folds import Tables
from hpjax.data.mixup import mixup_lambda, partner_seed
from hpjax.data.order import GENERATOR, example_index, index_in

AUGMENT, MIXUP = 2, 3
"""What is folded into a trial's key for augmentation and for mixup; 0 is for initial parameters, 1 for the model."""


class Examples(NamedTuple):
    """What all trials of a program share on the device: a data set, all splits one after the other, training first.

    Attributes:
      x: [examples, ...], uint8 or float32; or the whole token stream [tokens] of a language data set.
      y: targets [examples, ...]; or int32 [examples], the first token of each example of a language data set.
      initial: variables to begin with where a run does not begin with random ones, nested dicts by collection; None or a
        part of them.
      folds: of a data set with folds of its own what they are; else None.
      tick: int32 scalar, of streamed examples the first tick that they are for. `x` and `y` are then laid out for the
        devices that share a batch, see `feed`; None where the whole data set is there.
    """

    x: jax.Array
    y: jax.Array
    initial: Mapping[str, object] | None = None
    folds: Tables | None = None
    tick: jax.Array | None = None


class Read(NamedTuple):
    """The examples of a micro-batch as they lie in the data set: no trial's randomness is in it but the order's.

    Attributes:
      x: inputs [batch, ...], standardised.
      y: targets [batch, ...].
      position: uint32 [batch], places in the stream.
      other_x: inputs that are mixed in; None without mixup.
      other_y: their targets; None without mixup.
    """

    x: jax.Array
    y: jax.Array
    position: jax.Array
    other_x: jax.Array | None = None
    other_y: jax.Array | None = None


class Batch(NamedTuple):
    """A micro-batch as a model sees it.

    Attributes:
      x: inputs [batch, ...].
      y: targets [batch, ...].
      position: uint32 [batch], places in the trial's stream.
      other: targets of the examples that were mixed in; None without mixup.
      share: float32 [batch], the share of the first example in the mix; None without mixup.
    """

    x: jax.Array
    y: jax.Array
    position: jax.Array
    other: jax.Array | None = None
    share: jax.Array | None = None


@dataclasses.dataclass(frozen=True)
class Reader:
    """How examples are read: what is static of a data set and of what is done to its examples.

    Attributes:
      task: the data set's.
      train_size: examples in the training split.
      window: tokens of an example of a language data set; None for the others.
      tokens: whether inputs are tokens, which are not standardised.
      scale: input scale; the model sees `scale * x + shift`.
      shift: input shift.
      augment: names in `AUGMENTATIONS`, in their order.
      augment_settings: their static settings.
      mixup: whether examples are mixed.
      fold_size: examples of a fold of cross-validation, which the training split leaves out; 0 without.
      own_folds: whether the data set has folds of its own, and examples are entries of them.
      streamed: whether examples come tick by tick: they lie in the order in which they are read.
    """

    task: str = "classification"
    train_size: int = 1
    window: int | None = None
    tokens: bool = False
    scale: float | tuple[float, ...] = 1.0
    shift: float | tuple[float, ...] = 0.0
    augment: tuple[str, ...] = ()
    augment_settings: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    mixup: bool = False
    fold_size: int = 0
    own_folds: bool = False
    streamed: bool = False

    def read(self, examples: Examples, index: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Returns the inputs and targets of examples, or of entries of one of the data's own folds: index int32 [batch]."""
        if self.own_folds:
            return self._entries(examples, index)
        if self.window is not None:
            places = examples.y[index][:, None] + jnp.arange(self.window + 1)[None, :]
            tokens = examples.x[places].astype(jnp.int32)
            return tokens[:, :-1], tokens[:, 1:]
        y = examples.y[index]
        if self.task in ("regression", "multilabel"):
            y = y.reshape(y.shape[0], -1).astype(jnp.float32)
        x = examples.x[index]
        return (x.astype(jnp.int32) if self.tokens else self.inputs(x)), y

    def _entries(self, examples: Examples, index: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Returns the inputs and targets of entries, standardised by the fold that each is of."""
        folds = examples.folds
        assert folds is not None
        # Entries that are read together are of one fold.
        row, fold = folds.rows[index], folds.fold[index[0]]
        x, y = examples.x[row], examples.y[row]
        if self.task == "regression":
            y = y.reshape(y.shape[0], -1) * folds.target_scale[fold][None] + folds.target_shift[fold][None]
        scale, shift = (table[fold].reshape((1,) * (x.ndim - 1) + (-1,)) for table in (folds.scale, folds.shift))
        return x * scale + shift, y

    def inputs(self, x: jax.Array) -> jax.Array:
        """Returns the model's inputs; a scale and shift for each channel go with the last axis."""
        scale, shift = (
            jnp.asarray(value, jnp.float32).reshape((1,) * (x.ndim - 1) + (-1,)) for value in (self.scale, self.shift)
        )
        return x.astype(jnp.float32) * scale + shift

    def order(
        self, position: jax.Array, values: Mapping[str, jax.Array], seed: jax.Array, folds: Tables | None = None
    ) -> jax.Array:
        """Returns which examples stand at places of a stream through the training split: int32 [batch].

        Args:
          position: uint32 [batch].
          values: the trial's traced scalars.
          seed: of the stream's order.
          folds: `Examples.folds`.
        """
        if self.own_folds:
            assert folds is not None
            fold = values["fold"]
            return folds.start[fold] + index_in(folds.epoch(fold), position, seed)
        index = example_index(position, self.train_size, seed)
        if self.fold_size == 0:
            return index
        # The fold that is held out lies between the examples before it and those after it.
        return index + jnp.where(index >= values["fold"] * self.fold_size, self.fold_size, 0)

    def training(self, values: Mapping[str, jax.Array], examples: Examples, position: jax.Array) -> Batch:
        """Returns the examples at places of the trial's stream, augmented and mixed.

        Args:
          values: the trial's traced scalars.
          examples: the data set.
          position: uint32 [batch], consecutive places.
        """
        return self.prepared(values, self.gathered(values, examples, position))

    def gathered(
        self, values: Mapping[str, jax.Array], examples: Examples, position: jax.Array, row: jax.Array | None = None
    ) -> Read:
        """Returns the examples at places of a stream, read: the same for all trials of one data seed and fold.

        Args:
          values: the trial's traced scalars.
          examples: the data set.
          position: uint32 [batch], consecutive places.
          row: int32 [batch], where streamed examples lie.
        """
        if row is not None:
            x, y = self.read(examples, row)
            # What is mixed in lies behind all the others.
            other = self.read(examples, row + len(examples.y) // 2) if self.mixup else ()
            return Read(x, y, position, *other)
        x, y = self.read(examples, self.order(position, values, values["data_seed"], examples.folds))
        if not self.mixup:
            return Read(x, y, position)
        # The partner is another example of the training split, not a neighbour in the batch: it depends on no device.
        partner = self.order(position, values, partner_seed(values["data_seed"]), examples.folds)
        return Read(x, y, position, *self.read(examples, partner))

    def prepared(self, values: Mapping[str, jax.Array], read: Read) -> Batch:
        """Returns what was read, augmented and mixed as the trial's own seed says."""
        position = read.position
        key = jax.random.key(values["seed"], impl=GENERATOR)
        x = self._augmented(read.x, jax.random.fold_in(key, AUGMENT), position, values)
        if read.other_x is None:
            return Batch(x, read.y, position)
        key = jax.random.fold_in(key, MIXUP)
        share = mixup_lambda(key, position, values["mixup_alpha"])
        wide = share.reshape(-1, *(1,) * (x.ndim - 1))
        other_x = self._augmented(read.other_x, key, position, values)
        return Batch(wide * x + (1.0 - wide) * other_x, read.y, position, read.other_y, share)

    def _augmented(self, x: jax.Array, key: jax.Array, position: jax.Array, values: Mapping[str, jax.Array]) -> jax.Array:
        return augment(self.augment, key, position, x, {**values, **self.augment_settings}) if self.augment else x
