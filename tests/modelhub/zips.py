"""Small zip files of drawn pictures, as a customer might upload them."""

import io
import struct
import zipfile
from collections.abc import Iterable, Mapping

import numpy as np
import simplejpeg


def picture(seed: int, *, height: int = 12, width: int = 16) -> bytes:
    """A JPEG of noise; another seed gives another picture."""
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return bytes(simplejpeg.encode_jpeg(pixels, quality=90))


def heavy_picture(seed: int, *, size: int) -> bytes:
    """A JPEG of about so many bytes: noise in comments before a small picture."""
    jpeg, noise = picture(seed), np.random.default_rng(seed).bytes(size)
    comments = (noise[at : at + 65_533] for at in range(0, size, 65_533))
    return b"".join([jpeg[:2], *(b"\xff\xfe" + struct.pack(">H", len(c) + 2) + c for c in comments), jpeg[2:]])


def good(
    *, classes: Iterable[str] = ("cat", "dog"), train: int = 3, validation: int = 2, first: int = 0
) -> dict[str, bytes]:
    """The files of a usable data set, each picture another."""
    files: dict[str, bytes] = {}
    for split, count in (("train", train), ("validation", validation)):
        for name in classes:
            for number in range(count):
                files[f"{split}/{name}/{number}.jpg"] = picture(first + len(files))
    return files


def packed(files: Mapping[str, bytes], *, folders: Iterable[str] = (), method: int = zipfile.ZIP_STORED) -> bytes:
    """The files as one zip file: the same bytes at any hour, for tests are named after their checksums."""
    body = io.BytesIO()
    with zipfile.ZipFile(body, "w") as archive:
        for folder in folders:
            archive.writestr(zipfile.ZipInfo(folder), b"")
        for name, data in files.items():
            archive.writestr(zipfile.ZipInfo(name), data, method)
    return body.getvalue()


def opened(body: bytes) -> zipfile.ZipFile:
    """The zip file, open for reading."""
    return zipfile.ZipFile(io.BytesIO(body))
