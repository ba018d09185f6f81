"""Whatever bytes come, `pictures.decode` gives pixels or NotAPicture."""

import contextlib
import io
import struct
import threading
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import simplejpeg
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps

from modelhub import pictures
from modelhub.pictures import NotAPicture, Pixels

MAX_PIXELS = 1_000_000
# Pillow warns of what it finds in broken files; outside of tests nobody hears it.
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")


def decode(data: bytes) -> Pixels:
    return pictures.decode(data, max_pixels=MAX_PIXELS)


def scene(height: int = 40, width: int = 56) -> Pixels:
    """Smooth, so that JPEG keeps it, and without symmetry, so that a turn shows."""
    y, x = np.mgrid[0:height, 0:width]
    return np.stack([x * 255 / width, y * 255 / height, (x * y) * 255 / (height * width)], axis=2).astype(np.uint8)


def saved(picture: Image.Image, kind: str, **options: object) -> bytes:
    out = io.BytesIO()
    picture.save(out, kind, **options)
    return out.getvalue()


def image() -> Image.Image:
    return Image.fromarray(scene())


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">L", len(body)) + kind + body + struct.pack(">L", zlib.crc32(kind + body))


def png_that_claims(width: int, height: int) -> bytes:
    header = struct.pack(">LLBBBBB", width, height, 8, 2, 0, 0, 0)
    body = zlib.compress(b"\0" * 1000)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", body) + chunk(b"IEND", b"")


FILES = {
    "jpeg": saved(image(), "JPEG", quality=90),
    "progressive": saved(image(), "JPEG", progressive=True),
    "grey jpeg": saved(image().convert("L"), "JPEG"),
    "cmyk jpeg": saved(image().convert("CMYK"), "JPEG", quality=95),
    "png": saved(image(), "PNG"),
    "webp": saved(image(), "WEBP", quality=90),
    "animated webp": saved(image(), "WEBP", save_all=True, append_images=[Image.new("RGB", (56, 40))], lossless=True),
    "animated png": saved(image(), "PNG", save_all=True, append_images=[Image.new("RGB", (56, 40))]),
    "palette png": saved(image().quantize(64), "PNG", transparency=bytes(range(64))),
    "16-bit png": saved(Image.fromarray(np.linspace(0, 65535, 40 * 56).reshape(40, 56).astype(np.uint16)), "PNG"),
}


@pytest.mark.parametrize("kind", [k for k in FILES if k not in ("palette png", "16-bit png", "grey jpeg")])
def test_a_picture_gives_its_pixels(kind: str) -> None:
    pixels = decode(FILES[kind])
    assert pixels.dtype == np.uint8
    assert pixels.shape == (40, 56, 3)
    assert pixels.flags.c_contiguous
    assert np.abs(pixels.astype(int) - scene()).mean() < 8


def test_grey_gives_three_equal_channels() -> None:
    pixels = decode(FILES["grey jpeg"])
    assert pixels.shape == (40, 56, 3)
    assert (pixels[:, :, 0] == pixels[:, :, 2]).all()


def test_sixteen_bits_are_scaled_to_eight_and_not_clipped() -> None:
    pixels = decode(FILES["16-bit png"])
    assert pixels[:, :, 0].ravel().tolist() == (np.linspace(0, 65535, 40 * 56).astype(np.uint16) >> 8).tolist()


def test_sixteen_bits_of_colour_are_scaled_to_eight() -> None:
    body = b"".join(b"\0" + struct.pack(">6H", 65535, 0x8000, 0, 0, 256, 65535) for _ in range(2))
    header = struct.pack(">LLBBBBB", 2, 2, 16, 2, 0, 0, 0)
    data = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(body)) + chunk(b"IEND", b"")
    assert decode(data).tolist() == [[[255, 128, 0], [0, 1, 255]]] * 2


def test_what_is_transparent_is_seen_on_white() -> None:
    clear = Image.new("RGBA", (2, 1), (0, 0, 0, 0))
    clear.putpixel((1, 0), (10, 20, 30, 255))
    for data in (saved(clear, "PNG"), saved(clear, "WEBP", lossless=True), saved(clear.quantize(4), "PNG")):
        assert decode(data).tolist() == [[[255, 255, 255], [10, 20, 30]]]


def test_a_palette_with_transparency_is_read_without_a_warning(recwarn: pytest.WarningsRecorder) -> None:
    assert decode(FILES["palette png"]).shape == (40, 56, 3)
    assert not recwarn.list


def with_orientation(orientation: int, order: str, kind: str = "JPEG", before: bytes = b"") -> bytes:
    mark = b"II*\0" if order == "<" else b"MM\0*"
    tiff = mark + struct.pack(f"{order}LH", 8, 2) + struct.pack(f"{order}HHLL", 0x010F, 4, 1, 7)
    tiff += struct.pack(f"{order}HHLHH", 0x0112, 3, 1, orientation, 0) + struct.pack(f"{order}L", 0)
    if kind != "JPEG":
        return saved(image(), kind, exif=b"Exif\0\0" + tiff, **({"lossless": True} if kind == "WEBP" else {}))
    plain = FILES["jpeg"]
    segment = b"\xff\xe1" + struct.pack(">H", len(tiff) + 8) + b"Exif\0\0" + tiff
    return plain[:2] + before + segment + plain[2:]


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_picture_comes_upright(orientation: int, order: str) -> None:
    data = with_orientation(orientation, order)
    with Image.open(io.BytesIO(data)) as opened:
        as_pillow_turns_it = ImageOps.exif_transpose(opened).convert("RGB")
    assert decode(data).shape == ((56, 40, 3) if orientation >= 5 else (40, 56, 3))
    assert np.abs(decode(data).astype(int) - np.asarray(as_pillow_turns_it)).max() <= 2


@pytest.mark.parametrize("kind", ["PNG", "WEBP"])
def test_a_picture_of_another_format_comes_upright(kind: str) -> None:
    assert (decode(with_orientation(6, "<", kind)) == np.rot90(scene(), -1)).all()


def test_the_orientation_counts_behind_a_long_profile() -> None:
    profile = b"\xff\xe2" + struct.pack(">H", 60_002) + bytes(60_000)
    assert decode(with_orientation(6, ">", before=profile)).shape == (56, 40, 3)


@pytest.mark.parametrize("orientation", [0, 9, 65535])
def test_an_orientation_that_does_not_exist_is_ignored(orientation: int) -> None:
    assert decode(with_orientation(orientation, "<")).shape == (40, 56, 3)


@given(exif=st.binary(max_size=60))
def test_an_orientation_that_cannot_be_read_is_ignored(exif: bytes) -> None:
    segment = b"\xff\xe1" + struct.pack(">H", len(exif) + 8) + b"Exif\0\0" + exif
    assert decode(FILES["jpeg"][:2] + segment + FILES["jpeg"][2:]).size == 40 * 56 * 3


def test_stray_bytes_between_segments_do_no_harm() -> None:
    data = FILES["jpeg"]
    assert np.abs(decode(data[:-2] + b"\0\1\2" + data[-2:]).astype(int) - decode(data)).max() <= 2


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\0",
        b"\xff\xd8\xff",
        b"This is text and no picture.",
        b"<svg xmlns='http://www.w3.org/2000/svg'/>",
        saved(image(), "GIF"),
        saved(image(), "BMP"),
        saved(image(), "TIFF"),
        saved(image(), "ICO"),
        b"RIFF\xff\xff\xff\xffWEBPVP8 ",
        b"\x89PNG\r\n\x1a\n",
        FILES["jpeg"][:2] * 5000,
    ],
)
def test_what_is_no_picture_is_refused(data: bytes) -> None:
    with pytest.raises(NotAPicture):
        decode(data)


@pytest.mark.parametrize(("width", "height"), [(40_000, 40_000), (2**31 - 1, 2**31 - 1), (1_000_001, 1)])
def test_a_picture_that_claims_too_many_pixels_is_refused_from_its_header(width: int, height: int) -> None:
    with pytest.raises(NotAPicture, match=r"pixels; the limit is 1,000,000"):
        decode(png_that_claims(width, height))


def test_a_jpeg_that_claims_too_many_pixels_is_refused_from_its_header() -> None:
    data = FILES["jpeg"]
    at = data.index(b"\xff\xc0")
    claimed = data[: at + 5] + struct.pack(">HH", 65500, 65500) + data[at + 9 :]
    with pytest.raises(NotAPicture, match=r"65500 x 65500 = 4,290,250,000 pixels; the limit is 1,000,000"):
        decode(claimed)


@pytest.mark.parametrize(("width", "height"), [(0, 5), (5, 0)])
def test_a_picture_without_pixels_is_refused(width: int, height: int) -> None:
    with pytest.raises(NotAPicture):
        decode(png_that_claims(width, height))


def test_the_limit_is_the_last_size_that_is_taken() -> None:
    data = saved(image(), "PNG")
    assert pictures.decode(data, max_pixels=40 * 56).shape == (40, 56, 3)
    with pytest.raises(NotAPicture):
        pictures.decode(data, max_pixels=40 * 56 - 1)


def test_a_jpeg_of_thousands_of_scans_is_refused() -> None:
    data = FILES["progressive"]
    at = data.rindex(b"\xff\xda")
    scan = data[at:-2]
    with pytest.raises(NotAPicture, match="more scans than the limit of 100"):
        decode(data[:-2] + scan * 2000 + data[-2:])


def test_a_png_with_a_bomb_in_its_text_is_refused_or_read() -> None:
    data = FILES["png"]
    bomb = chunk(b"zTXt", b"k\0\0" + zlib.compress(bytes(50_000_000), 9))
    with pytest.raises(NotAPicture):
        decode(data[:33] + bomb + data[33:])


def cuts() -> Iterator[tuple[str, int]]:
    for kind, data in FILES.items():
        for cut in sorted({*range(min(64, len(data))), *range(64, len(data), 37), len(data) - 1}):
            yield kind, cut


@pytest.mark.parametrize("kind", FILES)
def test_a_file_cut_anywhere_is_pixels_or_refused(kind: str) -> None:
    data = FILES[kind]
    for cut in (cut for which, cut in cuts() if which == kind):
        is_pixels_or_refused(data[:cut])


@pytest.mark.parametrize("kind", ["jpeg", "progressive", "grey jpeg", "cmyk jpeg"])
def test_a_jpeg_cut_short_is_refused(kind: str) -> None:
    data = FILES[kind]
    for cut in range(0, len(data) - 2, 23):
        with pytest.raises(NotAPicture):
            decode(data[:cut])


@settings(max_examples=300, deadline=None)
@given(
    kind=st.sampled_from(sorted(FILES)),
    changes=st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), min_size=1, max_size=8),
)
def test_a_damaged_file_is_pixels_or_refused(kind: str, changes: list[tuple[float, int]]) -> None:
    data = bytearray(FILES[kind])
    for place, byte in changes:
        # Half of them near the start, where the headers are.
        data[int(place**2 * len(data))] = byte
    is_pixels_or_refused(bytes(data))


@settings(max_examples=200, deadline=None)
@given(start=st.sampled_from([data[:n] for data in FILES.values() for n in (3, 8, 16)]), rest=st.binary(max_size=200))
def test_any_bytes_are_pixels_or_refused(start: bytes, rest: bytes) -> None:
    is_pixels_or_refused(start + rest)


def is_pixels_or_refused(data: bytes) -> None:
    with contextlib.suppress(NotAPicture):
        pixels = decode(data)
        assert pixels.dtype == np.uint8
        assert pixels.ndim == 3
        assert pixels.shape[2] == 3
        assert 0 < pixels.size <= MAX_PIXELS * 3


def test_many_threads_decode_side_by_side() -> None:
    expected = {kind: decode(data) for kind, data in FILES.items()}
    started = threading.Barrier(4)

    def work(number: int) -> bool:
        started.wait()
        return all((decode(data) == expected[kind]).all() for _ in range(20) for kind, data in FILES.items())

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(work, range(4)))


def test_resizing_keeps_what_is_there() -> None:
    pixels = scene(100, 200)
    small = pictures.resize(pixels, height=50, width=100)
    assert small.shape == (50, 100, 3)
    assert np.abs(small.astype(int) - scene(50, 100)).mean() < 3
    assert pictures.resize(pixels, height=100, width=200) is pixels


def test_resizing_averages_over_the_area_of_each_pixel() -> None:
    stripes = np.zeros((64, 64, 3), np.uint8)
    stripes[:, ::2] = 255
    assert np.abs(pictures.resize(stripes, height=8, width=8).astype(int) - 128).max() < 24


def test_a_jpeg_is_decoded_as_libjpeg_decodes_it() -> None:
    assert (decode(FILES["jpeg"]) == simplejpeg.decode_jpeg(FILES["jpeg"])).all()


@pytest.mark.parametrize(
    ("data", "small"),
    [
        (saved(Image.fromarray(scene(256, 256)), "JPEG"), True),
        (saved(Image.fromarray(scene(256, 257)), "JPEG"), False),
        (FILES["progressive"], False),  # a pass over its pixels for each scan
        (saved(image(), "PNG"), False),
        (saved(image(), "JPEG")[:20], False),
        (FILES["jpeg"][: FILES["jpeg"].index(b"\xff\xc0") + 8], False),  # cut within its size
        (FILES["jpeg"][:-2] + FILES["jpeg"][FILES["jpeg"].index(b"\xff\xda") :], False),  # two scans
        (b"", False),
    ],
)
def test_only_a_file_that_says_of_itself_that_it_is_cheap_is_small(data: bytes, small: bool) -> None:
    assert pictures.is_small(data) is small


@pytest.mark.parametrize(("segments", "small"), [(100, True), (pictures.MAX_SEGMENTS, False)])
def test_no_more_segments_of_a_jpeg_are_looked_at_than_a_few_thousand(segments: int, small: bool) -> None:
    empty, frame = b"\xff\xfe\x00\x02", b"\xff\xc0\x00\x11\x08" + (150).to_bytes(2) * 2 + bytes(10)
    assert pictures.is_small(b"\xff\xd8" + empty * segments + frame) is small
