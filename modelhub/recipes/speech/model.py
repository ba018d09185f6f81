"""The speech recognizer's layers: two convolutions over time, bidirectional GRUs, and the labels of each step.

`build` makes them of Keras's own layers. `forward` is the same function of the same weights for training, where both
directions of a layer are run in one loop with a gradient of its own.
"""

from typing import Any

import keras
import tensorflow as tf

from modelhub.recipes.speech.features import MELS
from modelhub.recipes.speech.settings import STRIDE

KERNEL = 5  # frames that a convolution sees


def build(*, labels: int, filters: int, units: int, layers: int) -> Any:
    """The untrained model.

    It takes `features`, float32 (rows, frames, 64), normalised and zero behind a row's end, and `mask`, float32
    (rows, ceil(frames / 2)), 1 for the steps of a row and 0 behind its end; it gives logits, float32 (rows, ceil(frames
    / 2), labels + 1), the blank last. What is behind a row's end does not change what is before it.
    """
    features = keras.layers.Input((None, MELS), name="features")
    mask = keras.layers.Input((None,), name="mask")
    column = keras.layers.Reshape((-1, 1), name="column")(mask)
    found = keras.layers.ZeroPadding1D(KERNEL // 2, name="pad_1")(features)
    found = keras.layers.Conv1D(filters, KERNEL, strides=STRIDE, activation="relu", name="conv_1")(found)
    found = keras.layers.Multiply(name="kept_1")([found, column])
    found = keras.layers.ZeroPadding1D(KERNEL // 2, name="pad_2")(found)
    found = keras.layers.Conv1D(filters, KERNEL, activation="relu", name="conv_2")(found)
    for number in range(1, layers + 1):
        found = keras.layers.LayerNormalization(epsilon=1e-5, name=f"norm_{number}")(found)
        gru = keras.layers.GRU(units, return_sequences=True, zero_output_for_mask=True)
        found = keras.layers.Bidirectional(gru, name=f"gru_{number}")(found, mask=mask)
    logits = keras.layers.Dense(labels + 1, name="labels")(found)
    return keras.Model([features, mask], logits, name="speech_recognizer")


def gru_layers(model: Any) -> list[Any]:
    """The bidirectional layers, from the sound up."""
    return [layer for layer in model.layers if layer.name.startswith("gru_")]


def forward(model: Any, features: Any, steps: Any, *, dropout: float = 0.0, seed: Any = None) -> Any:
    """As `model([features, mask])`, `steps` being int32 (rows,), the steps of each row; time-major: (steps, rows, …).

    With a `dropout` that share of what goes into each recurrent layer and into the last is left out at random, drawn
    from `seed`, int32 (2,).
    """
    layer = {one.name: one for one in model.layers}
    # Time-major where the loops are; the convolutions are not.
    found = _convolved(layer["conv_1"], features)
    mask = tf.sequence_mask(steps, tf.shape(found)[1], tf.float32)
    found = _convolved(layer["conv_2"], found * mask[:, :, None])
    found = tf.transpose(found, (1, 0, 2))
    mask = tf.transpose(mask)[:, :, None]
    for number, gru in enumerate(gru_layers(model), start=1):
        found = layer[f"norm_{number}"](found)
        found = _bidirectional(gru, _dropped(found, dropout, seed, number), steps) * mask
    return layer["labels"](_dropped(found, dropout, seed, 0))


def _convolved(layer: Any, values: Any) -> Any:
    padded = tf.pad(values, ((0, 0), (KERNEL // 2, KERNEL // 2), (0, 0)))
    return tf.nn.relu(tf.nn.conv1d(padded, layer.kernel.value, layer.strides[0], "VALID") + layer.bias.value)


def _dropped(values: Any, share: float, seed: Any, number: int) -> Any:
    """The same channels of a row are left out at all its steps: Gal and Ghahramani, NeurIPS 2016."""
    if not share:
        return values
    shape = (1, tf.shape(values)[1], values.shape[2])
    kept = tf.random.stateless_uniform(shape, seed + tf.constant((0, number))) >= share
    return values * tf.cast(kept, tf.float32) / (1 - share)


def _bidirectional(layer: Any, values: Any, steps: Any) -> Any:
    """float32 (steps, rows, channels) to (steps, rows, 2 × units)."""
    cells = [layer.forward_layer.cell, layer.backward_layer.cell]
    backwards = tf.reverse_sequence(values, steps, seq_axis=0, batch_axis=1)
    given = [
        tf.tensordot(one, cell.kernel.value, 1) + cell.bias.value[0]
        for one, cell in zip((values, backwards), cells, strict=True)
    ]
    recurrent = tf.stack([cell.recurrent_kernel.value for cell in cells])
    bias = tf.stack([cell.bias.value[1] for cell in cells])[:, None, :]
    found = _run(tf.stack(given, axis=1), recurrent, bias)
    return tf.concat([found[:, 0], tf.reverse_sequence(found[:, 1], steps, seq_axis=0, batch_axis=1)], axis=2)


@tf.custom_gradient  # type: ignore[untyped-decorator]
def _run(given: Any, recurrent: Any, bias: Any) -> Any:
    """Gated recurrent units (Cho et al., 2014, with the reset after the product) over time, two stacks at once.

    `given` is float32 (steps, 2, rows, 3 × units), what comes from the input with its bias; `recurrent` (2, units,
    3 × units), `bias` (2, 1, 3 × units), the gates in the order update, reset, candidate. The states: (steps, 2, rows,
    units).
    """
    states, gates = _states(given, recurrent, bias)
    return states, lambda gradient: _gradients(gradient, states, gates, recurrent)


def _states(given: Any, recurrent: Any, bias: Any) -> tuple[Any, Any]:
    """The states, and of each step update, reset, candidate and what is reset: (steps, 2, rows, 4 × units)."""
    steps, rows, units = tf.shape(given)[0], tf.shape(given)[2], recurrent.shape[1]
    inputs = tf.TensorArray(tf.float32, steps).unstack(given)
    states = tf.TensorArray(tf.float32, steps, element_shape=(2, None, units))
    gates = tf.TensorArray(tf.float32, steps, element_shape=(2, None, 4 * units))

    def step(time: Any, state: Any, states: Any, gates: Any) -> tuple[Any, Any, Any, Any]:
        new = inputs.read(time)
        product = tf.matmul(state, recurrent) + bias
        both = tf.sigmoid(new[:, :, : 2 * units] + product[:, :, : 2 * units])
        update, reset = both[:, :, :units], both[:, :, units:]
        held = product[:, :, 2 * units :]
        candidate = tf.tanh(new[:, :, 2 * units :] + reset * held)
        state = candidate + update * (state - candidate)
        return (
            time + 1,
            state,
            states.write(time, state),
            gates.write(time, tf.concat([both, candidate, held], axis=2)),
        )

    first = (0, tf.zeros((2, rows, units)), states, gates)
    _, _, states, gates = tf.while_loop(lambda time, *_: time < steps, step, first, parallel_iterations=1)
    return states.stack(), gates.stack()


def _gradients(gradient: Any, states: Any, gates: Any, recurrent: Any) -> tuple[Any, Any, Any]:
    """Of the input's part, the recurrent weights and their bias; all that does not wait for time is done at once."""
    steps, rows, units = tf.shape(states)[0], tf.shape(states)[2], recurrent.shape[1]
    before = tf.concat([tf.zeros((1, 2, rows, units)), states[:-1]], axis=0)
    update, reset, candidate, held = tf.split(gates, 4, axis=3)
    to_candidate = (1 - update) * (1 - candidate * candidate)
    to_update = (before - candidate) * update * (1 - update)
    to_reset = to_candidate * held * reset * (1 - reset)
    shares = tf.stack([to_update, to_reset, to_candidate * reset], axis=3)
    reached = _reached(gradient, update, shares, tf.transpose(recurrent, (0, 2, 1)))
    to_product = tf.reshape(reached[:, :, :, None, :] * shares, (steps, 2, rows, 3 * units))
    to_given = tf.concat([to_product[..., : 2 * units], reached * to_candidate], axis=3)
    flat = tf.reshape(tf.transpose(to_product, (1, 0, 2, 3)), (2, -1, 3 * units))
    of_recurrent = tf.matmul(tf.reshape(tf.transpose(before, (1, 0, 2, 3)), (2, -1, units)), flat, transpose_a=True)
    return to_given, of_recurrent, tf.reduce_sum(flat, axis=1, keepdims=True)


def _reached(gradient: Any, update: Any, shares: Any, transposed: Any) -> Any:
    """The whole gradient of each state, from the last step to the first: (steps, 2, rows, units)."""
    steps, rows, units = tf.shape(update)[0], tf.shape(update)[2], update.shape[3]
    given = tf.TensorArray(tf.float32, steps).unstack(gradient)
    kept = tf.TensorArray(tf.float32, steps).unstack(update)
    parts = tf.TensorArray(tf.float32, steps).unstack(shares)
    found = tf.TensorArray(tf.float32, steps, element_shape=(2, None, units))

    def step(time: Any, later: Any, found: Any) -> tuple[Any, Any, Any]:
        whole = given.read(time) + later
        product = tf.reshape(whole[:, :, None, :] * parts.read(time), (2, rows, 3 * units))
        return time - 1, whole * kept.read(time) + tf.matmul(product, transposed), found.write(time, whole)

    first = (steps - 1, tf.zeros((2, rows, units)), found)
    _, _, found = tf.while_loop(lambda time, *_: time >= 0, step, first, parallel_iterations=1)
    return found.stack()
