"""What every peer runs: the same LiteRT file as ours on one engine thread, its pictures decoded by the same library."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import simplejpeg
from ai_edge_litert.interpreter import Interpreter
from numpy.typing import NDArray

PICTURE = (150, 150, 3)
JPEG_START = b"\xff\xd8\xff"
Rows = NDArray[np.float32]


class Engine:
    """One interpreter, shaped for its last batch."""

    def __init__(self, path: Path) -> None:
        self._interpreter: Any = Interpreter(model_path=str(path), num_threads=1)
        self._into = self._interpreter.get_input_details()[0]["index"]
        self._out = self._interpreter.get_output_details()[0]["index"]
        self._shape: tuple[int, ...] = ()

    def run(self, rows: Rows) -> Rows:
        """The scores of (rows, …) of float32."""
        if rows.shape != self._shape:
            self._interpreter.resize_tensor_input(self._into, rows.shape)
            self._interpreter.allocate_tensors()
            self._shape = rows.shape
        self._interpreter.set_tensor(self._into, rows)
        self._interpreter.invoke()
        scores: Rows = self._interpreter.get_tensor(self._out)
        return scores

    def run_pictures(self, bodies: Sequence[bytes]) -> Rows:
        """The scores of pictures, each the bytes of a JPEG or of (height, width, 3) of uint8."""
        return self.run(scaled([pixels(body) for body in bodies]))


def pixels(body: bytes) -> NDArray[np.uint8]:
    """A picture's pixels; one of another size than the model's is refused, for none is sent."""
    if body[:3] == JPEG_START:
        decoded: NDArray[np.uint8] = simplejpeg.decode_jpeg(body, colorspace="RGB")
        if decoded.shape != PICTURE:
            raise ValueError(f"got a picture of {decoded.shape}; expected {PICTURE}")
        return decoded
    return np.frombuffer(body, np.uint8).reshape(PICTURE)


def scaled(pictures: Sequence[NDArray[np.uint8]]) -> Rows:
    """Pictures as the model wants them: (rows, height, width, 3), float32, 0 to 1."""
    batch = np.empty((len(pictures), *PICTURE), np.float32)
    for row, picture in zip(batch, pictures, strict=True):
        np.multiply(picture, np.float32(1 / 255), out=row)
    return batch
