"""A process of its own that writes one LiteRT file and ends: the converter leaks memory at every call.

    python -m modelhub.trainer.convert FOLDER FILE INPUT OUTPUT

reads FOLDER/model.keras and writes FOLDER/FILE, whose one input and one output have these names; FILE says whether
weights are kept as float32 or as int8.
"""

import sys
from pathlib import Path

from modelhub.trainer.process import die_with_parent

KERAS = "model.keras"
FP32 = "model.fp32.tflite"
INT8 = "model.int8.tflite"


def main(folder: Path, file: str, given: str, answered: str) -> None:
    import keras
    import tensorflow as tf

    model = keras.saving.load_model(folder / KERAS, compile=False)
    rows = tf.TensorSpec(model.input_shape, tf.float32, name=given)
    # The converter freezes the variables that it finds at the module; Keras's own wrapper of them it does not know.
    module = tf.Module()
    module.weights = [variable.value for variable in model.variables]
    module.serve = tf.function(lambda **tensors: {answered: model(tensors[given], training=False)}, autograph=False)
    function = module.serve.get_concrete_function(**{given: rows})
    converter = tf.lite.TFLiteConverter.from_concrete_functions([function], module)
    converter.optimizations = [tf.lite.Optimize.DEFAULT] if file == INT8 else []
    (folder / file).write_bytes(converter.convert())


if __name__ == "__main__":
    die_with_parent()
    main(Path(sys.argv[1]), *sys.argv[2:])
