"""Pictures: from hostile bytes to pixels, the same code for checking a data set, training on it and serving."""

import io
import warnings

import numpy as np
import simplejpeg
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from tenants.errors import FieldError, Invalid

FORMATS = ("JPEG", "PNG", "WEBP")
JPEG_START = b"\xff\xd8\xff"
# Formats other than JPEG are recognised by Pillow; what it warns of is refused by our own limit on pixels instead.
Image.MAX_IMAGE_PIXELS = None

Pixels = NDArray[np.uint8]


class NotAPicture(Invalid):
    """The bytes are no picture that can be read; the text says what they are and what is expected."""

    title, slug = "The picture cannot be read", "not-a-picture"


def decode(data: bytes, *, max_pixels: int) -> Pixels:
    """The picture's pixels, upright, as uint8 of shape (height, width, 3), RGB, 0 to 255.

    Raises NotAPicture for anything but a whole JPEG, PNG or WebP file of at most `max_pixels` pixels. The size is read
    from the header, before any memory for pixels is taken.
    """
    if data[:3] == JPEG_START and b"Exif" not in data[:4096]:
        pixels = _decode_plain_jpeg(data, max_pixels)
        if pixels is not None:
            return pixels
    return _decode_with_pillow(data, max_pixels)


def resize(pixels: Pixels, *, height: int, width: int) -> Pixels:
    """The picture stretched to (height, width, 3), uint8, by bilinear interpolation over the area of each pixel."""
    if pixels.shape[:2] == (height, width):
        return pixels
    resized = Image.fromarray(pixels).resize((width, height), Image.Resampling.BILINEAR)
    return np.asarray(resized)


def size_of(data: bytes, *, max_pixels: int) -> tuple[int, int]:
    """(height, width) from the header alone; raises NotAPicture as `decode` does."""
    with _opened(data) as picture:
        _check_size(picture.height, picture.width, max_pixels)
        return picture.height, picture.width


def _decode_plain_jpeg(data: bytes, max_pixels: int) -> Pixels | None:
    """libjpeg-turbo's way, twice as fast; none for what only Pillow reads (CMYK and the like)."""
    try:
        height, width, colorspace, _ = simplejpeg.decode_jpeg_header(data)
    except ValueError as error:
        raise NotAPicture(f"The JPEG file cannot be read: {error}.", errors=_expected()) from error
    _check_size(height, width, max_pixels)
    if colorspace not in ("YCbCr", "Gray", "RGB"):
        return None
    try:
        pixels: Pixels = simplejpeg.decode_jpeg(data, colorspace="RGB", strict=True)
    except ValueError as error:
        raise NotAPicture(f"The JPEG file is damaged or cut short: {error}.", errors=_expected()) from error
    return pixels


def _decode_with_pillow(data: bytes, max_pixels: int) -> Pixels:
    with _opened(data) as picture:
        _check_size(picture.height, picture.width, max_pixels)
        try:
            upright = ImageOps.exif_transpose(picture)
            return np.asarray(upright.convert("RGB"))
        except (OSError, SyntaxError, ValueError, EOFError) as error:
            raise NotAPicture(
                f"The {picture.format} file is damaged or cut short: {error}.", errors=_expected()
            ) from error


def _opened(data: bytes) -> Image.Image:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return Image.open(io.BytesIO(data), formats=FORMATS)
    except UnidentifiedImageError as error:
        start = data[:12]
        raise NotAPicture(
            f"{len(data)} bytes that begin with {start!r} are no JPEG, PNG or WebP file.", errors=_expected()
        ) from error
    except (OSError, SyntaxError, ValueError, EOFError) as error:
        raise NotAPicture(f"The picture's header cannot be read: {error}.", errors=_expected()) from error


def _check_size(height: int, width: int, max_pixels: int) -> None:
    if height * width > max_pixels:
        raise NotAPicture(
            f"The picture has {width} x {height} = {width * height:,} pixels; the limit is {max_pixels:,}.",
            errors=_expected(),
        )
    if height < 1 or width < 1:
        raise NotAPicture(f"The picture is {width} x {height} pixels.", errors=_expected())


def _expected() -> tuple[FieldError, ...]:
    return (FieldError("body", "Expected a whole JPEG, PNG or WebP file."),)
