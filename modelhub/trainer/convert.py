"""The files for serving that a trained model is written as: LiteRT with weights as float32 or as int8, and ONNX.

    python -m modelhub.trainer.convert FOLDER FILE INPUT OUTPUT

reads FOLDER/model.keras and writes the LiteRT file FOLDER/FILE, whose one input and one output have these names; a
process of its own that ends, because LiteRT's converter leaks memory at every call.
"""

import sys
from pathlib import Path
from typing import Any

from modelhub.trainer.process import die_with_parent

KERAS = "model.keras"
FP32 = "model.fp32.tflite"
INT8 = "model.int8.tflite"
ONNX = "model.onnx"
# Which engine serves which file.
ENGINES = {FP32: "litert", INT8: "litert", ONNX: "onnx"}
OPSET = 17


def main(folder: Path, file: str, given: str, answered: str) -> None:
    import keras

    litert_file(
        keras.saving.load_model(folder / KERAS, compile=False), given, answered, folder / file, int8=file == INT8
    )


def litert_file(model: Any, given: str, answered: str, path: Path, *, int8: bool) -> None:
    """Writes a Keras model of one input and one output for LiteRT, its weights as int8 or float32."""
    import tensorflow as tf

    from modelhub.trainer import strips

    rows = tf.TensorSpec(model.input_shape, tf.float32, name=given)
    # The converter freezes the variables that it finds at the module; Keras's own wrapper of them it does not know.
    module = tf.Module()
    module.weights = [variable.value for variable in model.variables]
    forward = strips.forward(model)
    module.serve = tf.function(lambda **tensors: {answered: forward(tensors[given])}, autograph=False)
    function = module.serve.get_concrete_function(**{given: rows})
    converter = tf.lite.TFLiteConverter.from_concrete_functions([function], module)
    converter.optimizations = [tf.lite.Optimize.DEFAULT] if int8 else []
    path.write_bytes(converter.convert())


def onnx_file(model: Any, given: str, answered: str, path: Path) -> None:
    """Writes a Keras model of one input and one output as ONNX.

    The weights go through the converter as inputs and become the file's own after it. As constants they would be
    copied at every step: 22 s for the seed CNN's 90 MB, against 0.9 s in this way.
    """
    import onnx
    import tensorflow as tf
    import tf2onnx

    learned, kept = model.trainable_variables, model.non_trainable_variables
    weights = {f"weight_{number}": variable for number, variable in enumerate([*learned, *kept])}

    def forward(rows: Any, *values: Any) -> dict[str, Any]:
        found, _ = model.stateless_call(values[: len(learned)], values[len(learned) :], rows, training=False)
        return {answered: found}

    specs = [tf.TensorSpec(model.input_shape, tf.float32, name=given)]
    specs += [tf.TensorSpec(variable.shape, variable.dtype, name=name) for name, variable in weights.items()]
    function = tf.function(forward, autograph=False, input_signature=specs)
    made, _ = tf2onnx.convert.from_function(function, input_signature=specs, opset=OPSET)
    read = {name for node in made.graph.node for name in node.input}
    for name, variable in weights.items():
        if name in read:
            made.graph.initializer.append(onnx.numpy_helper.from_array(variable.numpy(), name))
    rows = [one for one in made.graph.input if one.name not in weights]
    del made.graph.input[:]
    made.graph.input.extend(rows)
    onnx.checker.check_model(made)
    onnx.save(made, path)


if __name__ == "__main__":
    die_with_parent()
    main(Path(sys.argv[1]), *sys.argv[2:])
