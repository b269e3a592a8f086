"""Augmentation on the device: training images changed at random, each by numbers that belong to the example.

The random numbers come from the trial's key, the augmentation's name and the example's place in the stream, so an example
is changed in the same way whatever the micro-batch, lane or device it is in.
"""

import zlib
from collections.abc import Callable, Mapping, Sequence

import jax
import jax.numpy as jnp

from hpjax.errors import ConfigError, DataError
from hpjax.registry import Registry, Scalar

AUGMENTATIONS: Registry[Callable[..., jax.Array]] = Registry("augmentation")
"""Functions `(key, image, *, settings) -> image` of one standardised image, float32 [height, width, channels]."""


@AUGMENTATIONS.register
def flip(key: jax.Array, image: jax.Array, *, flip_probability: Scalar = 0.5) -> jax.Array:
    """Mirrors left and right.

    Args:
      key: random key.
      image: float [height, width, channels].
      flip_probability: how often, in [0, 1].

    Returns:
      The image or its mirror image.
    """
    return jnp.where(jax.random.uniform(key, (), jnp.float32) < flip_probability, image[:, ::-1], image)


@AUGMENTATIONS.register
def crop(key: jax.Array, image: jax.Array, *, crop_padding: Scalar = 4) -> jax.Array:
    """Pads every side with zeros and cuts an image of the old size out at random.

    Args:
      key: random key.
      image: float [height, width, channels].
      crop_padding: pixels a side, a whole number; the image moves by at most as many in each direction.

    Returns:
      Float [height, width, channels]; all (2 * crop_padding + 1)^2 places are equally likely.

    Source: He et al., Deep Residual Learning for Image Recognition (2016), section 4.2.
    """
    height, width, _ = image.shape
    padding = jnp.asarray(crop_padding).astype(jnp.int32)
    down, right = jax.random.randint(key, (2,), -padding, padding + 1, jnp.int32)
    # A gather of rows and one of columns: the padding may be traced, where a slice of a padded image needs it static.
    for axis, size, move in ((0, height, down), (1, width, right)):
        source = jnp.arange(size, dtype=jnp.int32) + move
        inside = jnp.expand_dims((source >= 0) & (source < size), (1 - axis, 2))
        image = jnp.where(inside, jnp.take(image, jnp.clip(source, 0, size - 1), axis=axis), 0)
    return image


@AUGMENTATIONS.register
def cutout(key: jax.Array, image: jax.Array, *, cutout_size: Scalar = 8) -> jax.Array:
    """Sets a square to zero, the mean of the training images.

    Args:
      key: random key.
      image: float [height, width, channels].
      cutout_size: pixels a side of the square, a whole number. An even one has its centre's pixel below and right of
        the middle.

    Returns:
      Float [height, width, channels]. The centre is any pixel, equally likely; what lies outside the image is cut off.

    Source: DeVries and Taylor, Improved Regularization of Convolutional Neural Networks with Cutout (2017).
    """
    height, width, _ = image.shape
    size = jnp.asarray(cutout_size).astype(jnp.int32)
    centre = jax.random.randint(key, (2,), 0, jnp.array([height, width], jnp.int32), jnp.int32)
    top, left = centre - size // 2
    rows, columns = jnp.arange(height, dtype=jnp.int32) - top, jnp.arange(width, dtype=jnp.int32) - left
    hole = ((rows >= 0) & (rows < size))[:, None] & ((columns >= 0) & (columns < size))[None]
    return jnp.where(hole[..., None], 0, image)


def augment(
    names: Sequence[str], key: jax.Array, position: jax.Array, images: jax.Array, settings: Mapping[str, Scalar]
) -> jax.Array:
    """Returns a micro-batch augmented by several augmentations, one after the other.

    Args:
      names: entries of `AUGMENTATIONS`, in this order.
      key: the trial's key for augmentation.
      position: uint32 [batch], each example's place in the trial's stream.
      images: float [batch, height, width, channels], standardised: zero is the mean.
      settings: values by name; those that an augmentation has no parameter for are left alone, and one that is not
        there has the parameter's default.

    Returns:
      Float [batch, height, width, channels].
    """
    for name in names:
        own = {setting: settings[setting] for setting in AUGMENTATIONS.settings(name) if setting in settings}
        entry = AUGMENTATIONS.get(name)
        # By the name and not by its place in the list: to leave one augmentation out does not change the others.
        base = jax.random.fold_in(key, zlib.crc32(name.encode()))
        keys = jax.vmap(jax.random.fold_in, (None, 0))(base, position)
        images = jax.vmap(lambda k, image, entry=entry, own=own: entry(k, image, **own))(keys, images)
    return images


def check(names: Sequence[str], dataset: str, shape: Sequence[int]) -> None:
    """Refuses augmentations that cannot be done.

    Args:
      names: of augmentations.
      dataset: the data set's name.
      shape: of one of its inputs.

    Raises:
      ConfigError: an unknown name, or one that comes twice.
      DataError: the inputs are no images.
    """
    for name in names:
        AUGMENTATIONS.get(name)
    twice = [name for i, name in enumerate(names) if name in names[:i]]
    if twice:
        raise ConfigError(f"augment has '{twice[0]}' twice; expected each augmentation once")
    if names and len(shape) != 3:
        raise DataError(
            f"augment is {','.join(names)}, which changes images; dataset '{dataset}' has inputs of shape {list(shape)}, "
            "expected [height, width, channels]"
        )
