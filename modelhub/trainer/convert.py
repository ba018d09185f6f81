"""A process of its own that writes the LiteRT files and ends: the converter leaks memory at every call.

    python -m modelhub.trainer.convert FOLDER

reads FOLDER/exported, a SavedModel, and writes FOLDER/model.fp32.tflite and FOLDER/model.int8.tflite.
"""

import sys
from pathlib import Path

from modelhub.trainer.process import die_with_parent

EXPORTED = "exported"
FP32 = "model.fp32.tflite"
INT8 = "model.int8.tflite"


def main(folder: Path) -> None:
    import tensorflow as tf

    for name, optimizations in ((FP32, []), (INT8, [tf.lite.Optimize.DEFAULT])):
        converter = tf.lite.TFLiteConverter.from_saved_model(str(folder / EXPORTED))
        converter.optimizations = optimizations
        (folder / name).write_bytes(converter.convert())


if __name__ == "__main__":
    die_with_parent()
    main(Path(sys.argv[1]))
