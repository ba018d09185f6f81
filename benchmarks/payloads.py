"""What is sent for each kind of work, by ours and by every other server alike."""

import io
import math

import numpy as np
import orjson
from numpy.typing import NDArray
from PIL import Image

PICTURE = (150, 150, 3)
TINY_ROW = [1.0, 2.0, 3.0, 4.0]


def picture() -> bytes:
    """A JPEG of 150×150 that compresses like a photograph."""
    noise = np.random.default_rng(0).integers(0, 255, (20, 20, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(noise).resize(PICTURE[1::-1], Image.Resampling.BICUBIC).save(buffer, "JPEG", quality=90)
    return buffer.getvalue()


def pixels() -> NDArray[np.uint8]:
    """A picture as its raw pixels, (height, width, 3)."""
    return np.random.default_rng(0).integers(0, 255, PICTURE, dtype=np.uint8)


def binary_tensor(name: str, datatype: str, shape: list[int], data: bytes) -> tuple[bytes, dict[str, str]]:
    """Body and headers of one tensor by the Open Inference Protocol's binary extension, answered in the same way."""
    head = orjson.dumps(
        {
            "inputs": [
                {
                    "name": name,
                    "shape": shape,
                    "datatype": datatype,
                    "parameters": {"binary_data_size": len(data)},
                }
            ],
            "parameters": {"binary_data_output": True},
        }
    )
    return head + data, {"Inference-Header-Content-Length": str(len(head))}


def pixels_tensor() -> tuple[bytes, dict[str, str]]:
    """Body and headers of the raw pixels as a tensor of uint8."""
    data = pixels().tobytes()
    assert len(data) == math.prod(PICTURE)
    return binary_tensor("image", "UINT8", [1, *PICTURE], data)
