"""The architecture `convnet`: what it gives, and what its augmentation makes of pictures."""

import numpy as np
import pytest
import tensorflow as tf
from numpy.typing import NDArray

from modelhub.recipes.image import convnet


def pictures(rows: int) -> NDArray[np.float32]:
    """The same picture so many times: dark on its left, bright on its right, and green at the bottom."""
    picture = np.zeros((convnet.HEIGHT, convnet.WIDTH, 3), np.float32)
    picture[:, convnet.WIDTH // 2 :] = 0.8
    picture[convnet.HEIGHT // 2 :, :, 1] = 0.6
    return np.repeat(picture[None], rows, axis=0)


def augmented(images: NDArray[np.float32], seed: int) -> NDArray[np.float32]:
    return np.asarray(convnet.augment(tf.constant(images), tf.constant([seed, 0], tf.int32)))


@pytest.mark.parametrize(("classes", "width"), [(2, 1), (5, 5)])
def test_it_gives_probabilities(classes: int, width: int) -> None:
    scores = np.asarray(convnet.build(classes=classes)(pictures(3), training=False))
    assert scores.shape == (3, width)
    assert ((scores > 0) & (scores < 1)).all()
    if classes > 2:
        np.testing.assert_allclose(scores.sum(axis=1), 1, atol=1e-5)


def test_the_seed_alone_decides_what_becomes_of_a_picture() -> None:
    images = pictures(4)
    first, again, other = augmented(images, 1), augmented(images, 1), augmented(images, 2)
    assert first.shape == images.shape
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)
    assert len({row.tobytes() for row in first}) == 4
    assert 0 <= first.min() < first.max() <= 1


def test_half_of_the_pictures_are_mirrored_and_none_is_upside_down() -> None:
    found = augmented(pictures(64), 3)
    middle = convnet.WIDTH // 2
    brighter = found[:, :, middle:].mean(axis=(1, 2, 3)) - found[:, :, :middle].mean(axis=(1, 2, 3))
    assert 16 < int((brighter < 0).sum()) < 48
    assert (abs(brighter) > 0.1).all()
    coloured = abs(found[..., 1] - found[..., 0])
    assert (coloured[:, middle:].mean(axis=(1, 2)) > coloured[:, :middle].mean(axis=(1, 2))).all()
