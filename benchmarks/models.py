"""Models for benchmarks and tests, made by TensorFlow in a process that ends.

`tiny.tflite`: 4 numbers to 3. `identity.tflite`: a row of 4 numbers to itself. `cnn.int8.tflite` and `cnn.fp32.tflite`:
the seed CNN with random weights, which cost what trained ones cost.
"""

import os
import subprocess
import sys
from pathlib import Path


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
    import tensorflow as tf

    layers = keras.layers

    def tiny() -> "keras.Model":
        return keras.Sequential(
            [keras.Input((4,), name="x"), layers.Dense(8, activation="relu"), layers.Dense(3, name="y")]
        )

    def identity() -> "keras.Model":
        return keras.Sequential([keras.Input((4,), name="x"), layers.Rescaling(1.0, name="y")])

    def cnn() -> "keras.Model":
        return keras.Sequential(
            [
                keras.Input((150, 150, 3), name="image"),
                layers.Conv2D(32, (3, 3), activation="relu"),
                layers.MaxPooling2D((2, 2)),
                layers.Flatten(),
                layers.Dense(128, activation="relu"),
                layers.Dense(1, activation="sigmoid", name="score"),
            ]
        )

    makers = {"tiny": tiny, "identity": identity, "cnn": cnn}
    folder = Path(sys.argv[1])
    for name in sys.argv[2:]:
        keras.utils.set_random_seed(0)
        converter = tf.lite.TFLiteConverter.from_keras_model(makers[name.split(".")[0]]())
        if ".int8." in name:
            converter.optimizations = [tf.lite.Optimize.DEFAULT]
        draft = folder / f".{name}.{os.getpid()}"
        draft.write_bytes(converter.convert())
        draft.rename(folder / name)


if __name__ == "__main__":
    main()
