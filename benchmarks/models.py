"""Models for benchmarks and tests, made by TensorFlow in a process that ends.

`tiny.tflite`: 4 numbers to 3. `identity.tflite`: a row of 4 numbers to itself. `cnn.int8.tflite` and `cnn.fp32.tflite`:
the seed CNN with random weights, written as training writes it; `cnn.onnx` and `cnn.savedmodel.zip` are the same.
`words.savedmodel.zip`: texts and numbers to upper-case texts, their lengths, and the numbers doubled.
`mixed.tflite`: rows of numbers and a number to add for each row, to the sums of the rows as float32, whether they are
positive, and those that are, as many as they happen to be.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from modelhub.trainer import convert


def made(folder: Path, *names: str) -> dict[str, Path]:
    """The named files, made if they are not there yet."""
    if not all((folder / name).exists() for name in names):
        folder.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "-m", "benchmarks.models", str(folder), *names]
        subprocess.run(command, check=True, capture_output=True)
    return {name: folder / name for name in names}


def main() -> None:
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    import keras

    folder = Path(sys.argv[1])
    for name in sys.argv[2:]:
        keras.utils.set_random_seed(0)
        model = MAKERS[name.split(".")[0]]()
        draft = folder / f".{os.getpid()}.{name}"
        if name.endswith(".savedmodel.zip"):
            _saved_model(model, draft)
        elif name.endswith(".onnx"):
            convert.onnx_file(model, "image", "score", draft)
        elif name.startswith("cnn."):
            convert.litert_file(model, "image", "score", draft, int8=".int8." in name)
        else:
            draft.write_bytes(_converted(model))
        draft.rename(folder / name)


def _tiny() -> Any:
    import keras

    return keras.Sequential(
        [keras.Input((4,), name="x"), keras.layers.Dense(8, activation="relu"), keras.layers.Dense(3, name="y")]
    )


def _identity() -> Any:
    import keras

    return keras.Sequential([keras.Input((4,), name="x"), keras.layers.Rescaling(1.0, name="y")])


def _cnn() -> Any:
    import keras

    return keras.Sequential(
        [
            keras.Input((150, 150, 3), name="image"),
            keras.layers.Conv2D(32, (3, 3), activation="relu"),
            keras.layers.MaxPooling2D((2, 2)),
            keras.layers.Flatten(),
            keras.layers.Dense(128, activation="relu"),
            keras.layers.Dense(1, activation="sigmoid", name="score"),
        ]
    )


def _words() -> Any:
    import tensorflow as tf

    module = tf.Module()
    module.serve = tf.function(
        lambda text, number: {
            "upper": tf.strings.upper(text),
            "length": tf.strings.length(text),
            "doubled": 2 * tf.strings.to_number(tf.strings.as_string(number)),
        },
        input_signature=[
            tf.TensorSpec([None, None], tf.string, name="text"),
            tf.TensorSpec([None], tf.float32, name="number"),
        ],
    )
    return module


def _mixed() -> Any:
    import tensorflow as tf

    module = tf.Module()

    def serve(number: Any, more: Any) -> Any:
        total = tf.reduce_sum(number, axis=1) + tf.cast(more, tf.float32)
        return {"total": total, "positive": total > 0, "found": tf.boolean_mask(total, total > 0)}

    module.serve = tf.function(
        serve,
        input_signature=[
            tf.TensorSpec([None, None], tf.float32, name="number"),
            tf.TensorSpec([None], tf.int32, name="more"),
        ],
    )
    return module


MAKERS: dict[str, Callable[[], Any]] = {
    "tiny": _tiny,
    "identity": _identity,
    "cnn": _cnn,
    "words": _words,
    "mixed": _mixed,
}


def _converted(model: Any) -> bytes:
    """The LiteRT file of a Keras model, or of the function that a module serves."""
    import keras
    import tensorflow as tf

    with tempfile.TemporaryDirectory() as scratch:
        if isinstance(model, keras.Model):
            converter = tf.lite.TFLiteConverter.from_keras_model(model)
        else:
            tf.saved_model.save(model, scratch, signatures={"serving_default": model.serve})
            converter = tf.lite.TFLiteConverter.from_saved_model(scratch)
        written = converter.convert()
    assert isinstance(written, bytes)
    return written


def _saved_model(model: Any, path: Path) -> None:
    """A SavedModel in a zip; of a Keras model the function that gives its one output."""
    import keras
    import tensorflow as tf

    module = model
    if isinstance(model, keras.Model):
        module = tf.Module()
        module.weights = [variable.value for variable in model.variables]
        spec = tf.TensorSpec(model.input_shape, tf.float32)
        module.serve = tf.function(
            lambda rows: {"found": model(rows, training=False)}, autograph=False, input_signature=[spec]
        )
    with tempfile.TemporaryDirectory() as scratch:
        saved = Path(scratch) / "saved"
        tf.saved_model.save(module, str(saved), signatures={"serving_default": module.serve})
        shutil.make_archive(str(Path(scratch) / "made"), "zip", saved)
        shutil.copyfile(Path(scratch) / "made.zip", path)


if __name__ == "__main__":
    main()
