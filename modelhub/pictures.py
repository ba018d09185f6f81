"""Pictures: from hostile bytes to pixels, the same code for checking a data set, training on it and serving."""

import io
import re
import struct
import warnings
from collections.abc import Iterator
from itertools import islice

import numpy as np
import simplejpeg
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from tenants.errors import FieldError, Invalid

FORMATS = ("JPEG", "PNG", "WEBP")
JPEG_START = b"\xff\xd8\xff"
START_OF_SCAN = 0xDA
# In the coded pixels 0xFF is always followed by another byte, so that these two mark the start of a scan.
# (An expression finds two bytes in half the time that `bytes.count` takes.)
SCANS = re.compile(bytes((0xFF, START_OF_SCAN)))
# Segments that say how large the picture is, of the kinds that are decoded here: baseline, extended, progressive.
FRAMES = frozenset((0xC0, 0xC1, 0xC2))
# A progressive JPEG of thousands of scans costs a pass over all its pixels for each; real ones have about ten.
MAX_SCANS = 100
# No more are looked at: millions of empty ones would hold up everybody else. A large colour profile comes in 255.
MAX_SEGMENTS = 4096
APP1, EXIF, ORIENTATION = 0xE1, b"Exif\0\0", 0x0112
# Formats other than JPEG are recognised by Pillow; what it warns of is refused by our own limit on pixels instead.
Image.MAX_IMAGE_PIXELS = None
# Its warnings about what strangers wrote into their files tell an operator nothing. For the whole process, because
# catch_warnings is not safe where threads decode side by side.
warnings.filterwarnings("ignore", module=r"PIL\.")

# A JPEG of so many pixels in one scan is decoded in a fraction of a millisecond.
SMALL_PIXELS = 256 * 256

Pixels = NDArray[np.uint8]


class NotAPicture(Invalid):
    """The bytes are no picture that can be read; the text says what they are and what is expected."""

    title = "The picture cannot be read"
    slug = "not-a-picture"


def decode(data: bytes, *, max_pixels: int) -> Pixels:
    """The picture's pixels, upright, as uint8 of shape (height, width, 3), RGB, 0 to 255.

    What is transparent is seen on white; of an animation the first picture counts; 16 bits a channel become 8.
    Raises NotAPicture for anything but a whole JPEG, PNG or WebP file of at most `max_pixels` pixels. The size is read
    from the header, before any memory for pixels is taken.
    """
    if data[:3] == JPEG_START:
        pixels = _decode_usual_jpeg(data, max_pixels)
        if pixels is not None:
            return pixels
    return _decode_with_pillow(data, max_pixels)


def resize(pixels: Pixels, *, height: int, width: int) -> Pixels:
    """The picture stretched to (height, width, 3), uint8, by bilinear interpolation over the area of each pixel."""
    if pixels.shape[:2] == (height, width):
        return pixels
    resized = Image.fromarray(pixels).resize((width, height), Image.Resampling.BILINEAR)
    return np.asarray(resized)


def is_small(data: bytes) -> bool:
    """Whether these bytes say of themselves that they are a JPEG which is decoded in a fraction of a millisecond.

    Of its segments no more is read than their lengths and the size: nothing is made for it, as a decoder would.
    """
    if data[:3] != JPEG_START or _has_more_scans(data, 1):
        return False
    for at in _segments(data):
        if data[at + 1] in FRAMES:
            height, width = int.from_bytes(data[at + 5 : at + 7]), int.from_bytes(data[at + 7 : at + 9])
            return at + 9 <= len(data) and height * width <= SMALL_PIXELS
    return False


def _segments(data: bytes) -> Iterator[int]:
    """Where the segments of a JPEG file begin that come before its first scan, as far as they follow one another."""
    at = 2
    for _ in range(MAX_SEGMENTS):
        if at + 4 > len(data) or data[at] != 0xFF or data[at + 1] == START_OF_SCAN:
            return
        yield at
        at += 2 + int.from_bytes(data[at + 2 : at + 4])


def _decode_usual_jpeg(data: bytes, max_pixels: int) -> Pixels | None:
    """libjpeg-turbo's way, twice as fast; none for what only Pillow reads (CMYK and the like)."""
    try:
        height, width, colorspace, _ = simplejpeg.decode_jpeg_header(data)
    except ValueError as error:
        raise NotAPicture(f"The JPEG file cannot be read: {error}.", errors=_expected()) from error
    _check_size(height, width, max_pixels)
    _check_scans(data)
    if colorspace not in ("YCbCr", "Gray", "RGB"):
        return None
    try:
        pixels: Pixels = simplejpeg.decode_jpeg(data, colorspace="RGB", strict=True)
    except ValueError as error:
        # Stray bytes between the segments do no harm; many cameras write them, and Pillow reads over them.
        if "extraneous bytes" in str(error):
            return None
        raise NotAPicture(f"The JPEG file is damaged or cut short: {error}.", errors=_expected()) from error
    orientation = _orientation(data)
    return pixels if orientation == 1 else _upright(pixels, orientation)


def _orientation(data: bytes) -> int:
    """The Exif orientation of a JPEG file, 1 to 8; 1 where it names none that makes sense. CIPA DC-008, 4.6.4."""
    for at in _segments(data):
        if data[at + 1] == APP1 and data.startswith(EXIF, at + 4):
            length = int.from_bytes(data[at + 2 : at + 4])
            try:
                return _orientation_in(data[at + 4 + len(EXIF) : at + 2 + length])
            except struct.error:
                return 1
    return 1


def _orientation_in(tiff: bytes) -> int:
    """The orientation in a TIFF structure: the value of its tag in the first directory."""
    order = "<" if tiff[:2] == b"II" else ">"
    (directory,) = struct.unpack_from(f"{order}4xL", tiff)
    (entries,) = struct.unpack_from(f"{order}H", tiff, directory)
    for number in range(entries):
        tag, value = struct.unpack_from(f"{order}H6xH", tiff, directory + 2 + 12 * number)
        if tag == ORIENTATION:
            return value if 1 <= value <= 8 else 1
    return 1


def _upright(pixels: Pixels, orientation: int) -> Pixels:
    """The picture turned and mirrored as its Exif orientation asks for."""
    if orientation >= 5:
        pixels = pixels.transpose(1, 0, 2)
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    return np.ascontiguousarray(pixels)


def _decode_with_pillow(data: bytes, max_pixels: int) -> Pixels:
    with _opened(data) as picture:
        _check_size(picture.height, picture.width, max_pixels)
        try:
            return _rgb(ImageOps.exif_transpose(picture))
        # Pillow's decoders raise whatever their struct, zlib or index arithmetic does when bytes are wrong.
        except Exception as error:
            raise NotAPicture(
                f"The {picture.format} file is damaged or cut short: {error}.", errors=_expected()
            ) from error


def _opened(data: bytes) -> Image.Image:
    try:
        return Image.open(io.BytesIO(data), formats=FORMATS)
    except UnidentifiedImageError as error:
        raise NotAPicture(
            f"{len(data)} bytes that begin with {data[:12]!r} are no JPEG, PNG or WebP file.", errors=_expected()
        ) from error
    except Exception as error:
        raise NotAPicture(f"The picture's header cannot be read: {error}.", errors=_expected()) from error


def _rgb(picture: Image.Image) -> Pixels:
    if picture.mode.startswith("I"):
        # 16 bits of grey, which Pillow would clip at 255 instead of scaling.
        grey = (np.asarray(picture).astype(np.uint32) >> 8).astype(np.uint8)
        return np.repeat(grey[:, :, np.newaxis], 3, axis=2)
    if picture.has_transparency_data:
        seen = Image.new("RGBA", picture.size, "white")
        seen.alpha_composite(picture.convert("RGBA"))
        picture = seen
    return np.asarray(picture.convert("RGB"))


def _check_size(height: int, width: int, max_pixels: int) -> None:
    if height * width > max_pixels:
        raise NotAPicture(
            f"The picture has {width} x {height} = {width * height:,} pixels; the limit is {max_pixels:,}.",
            errors=_expected(),
        )
    if height < 1 or width < 1:
        raise NotAPicture(f"The picture is {width} x {height} pixels.", errors=_expected())


def _check_scans(data: bytes) -> None:
    if _has_more_scans(data, MAX_SCANS):
        raise NotAPicture(f"The JPEG file has more scans than the limit of {MAX_SCANS}.", errors=_expected())


def _has_more_scans(data: bytes, most: int) -> bool:
    """Whether there are more scans than so many; the search ends with the first of those."""
    return next(islice(SCANS.finditer(data), most, None), None) is not None


def _expected() -> tuple[FieldError, ...]:
    return (FieldError("body", "Expected a whole JPEG, PNG or WebP file."),)
