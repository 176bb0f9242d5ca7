import io
import struct
import warnings
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps

from resnets.base.errors import UsageError
from resnets.data.decode import FORMATS, DecodeError, decode, header, sniff, to_pixels

COLOUR = np.random.default_rng(0).integers(0, 256, (24, 40, 3), dtype=np.uint8)


def encoded(picture: Image.Image | np.ndarray, format: str = "PNG", **options: object) -> bytes:
    picture = Image.fromarray(picture) if isinstance(picture, np.ndarray) else picture
    target = io.BytesIO()
    picture.save(target, format, **options)
    return target.getvalue()


def chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png(width: int, height: int, depth: int, colour: int, rows: bytes, *before: bytes) -> bytes:
    start = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0))
    end = chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + start + b"".join(before) + end


def pixels(picture: Image.Image) -> np.ndarray:
    return np.asarray(picture)


# Formats


@pytest.mark.parametrize("format", sorted(set(FORMATS) - {"JPEG", "AVIF", "GIF"}))
def test_lossless_formats_give_their_pixels_back(format: str) -> None:
    content = encoded(COLOUR, format, **({"lossless": True} if format == "WEBP" else {}))
    assert sniff(content[:64]) == format
    assert header(content) == (format, 40, 24, "RGB", "rgb")
    assert np.array_equal(pixels(decode(content)), COLOUR)


@pytest.mark.parametrize("format", sorted({"JPEG", "AVIF"} & set(FORMATS)))
def test_lossy_formats_equal_pillows_own_reading(format: str) -> None:
    content = encoded(COLOUR, format)
    assert header(content) == (format, 40, 24, "RGB", "rgb")
    assert np.array_equal(pixels(decode(content)), pixels(Image.open(io.BytesIO(content)).convert("RGB")))


def test_a_palette_of_a_gif_becomes_colour() -> None:
    content = encoded(Image.fromarray(COLOUR).quantize(16), "GIF")
    assert header(content)[:4] == ("GIF", 40, 24, "P")
    assert np.array_equal(pixels(decode(content)), pixels(Image.open(io.BytesIO(content)).convert("RGB")))


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "an empty file"),
        (b"\0" * 300, "begins with zero bytes"),
        (b"label,name\n1,ant\n", "not a picture: text"),
        ("schön, aber Text\n".encode() * 40, "not a picture: text"),
        (b"<!DOCTYPE html><html>", "a web page"),
        (b'<?xml version="1.0"?>\n<svg xmlns="http://www.w3.org/2000/svg">', "an SVG drawing"),
        (b"%PDF-1.7", "a PDF document"),
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "a HEIC picture, which is not read: convert it"),
        (b"\0\0\0\x18ftypisom\0\0\0\0", "a video"),
        (b"8BPS\0\x01", "a Photoshop picture, which is not read"),
        (b"\x93NUMPY\x01\0", "a NumPy array"),
        (bytes(range(128, 256)), "not a picture of a known format (JPEG, PNG"),
        (b"\x89PNG\r\n\x1a\n", "a PNG file whose header is cut short or damaged"),
        (b"\xff\xd8\xff\xe0\0\x10JFIF", "a JPEG file whose header is cut short or damaged"),
        (b"BMW is a car", "a BMP file whose header is cut short or damaged"),
        (b"II*\0\xff\xff\xff\xff", "a TIFF file whose header is cut short or damaged"),
        (b"RIFF\0\0\0\0WEBPVP8 ", "a WEBP file whose header is cut short or damaged"),
    ],
)
def test_what_is_no_picture_is_named(content: bytes, reason: str) -> None:
    for look in (header, decode):
        with pytest.raises(DecodeError) as caught:
            look(content)
        assert reason in str(caught.value)


def test_formats_that_other_code_registers_are_not_opened() -> None:
    ppm = encoded(COLOUR, "PPM")
    assert Image.open(io.BytesIO(ppm)).format == "PPM"
    with pytest.raises(DecodeError, match="not a picture"):
        decode(ppm)


@pytest.mark.parametrize("format", sorted(FORMATS))
def test_a_truncated_file_is_an_error(format: str) -> None:
    picture = np.random.default_rng(1).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    content = encoded(Image.fromarray(picture).quantize(64) if format == "GIF" else picture, format)
    with pytest.raises(DecodeError, match=r"truncated|damaged|cut short"):
        decode(content[: len(content) // 2])


def test_a_truncated_photograph_is_called_truncated(shared_data: Path) -> None:
    content = next((shared_data / "hymenoptera/val/bees").iterdir()).read_bytes()
    assert header(content[: len(content) // 2]).format == "JPEG"
    with pytest.raises(DecodeError, match="a truncated JPEG file: it ends before the picture does"):
        decode(content[: len(content) // 2])


def test_cut_pictures_are_never_filled_up_unseen(monkeypatch: pytest.MonkeyPatch) -> None:
    content = encoded(COLOUR, "JPEG")
    monkeypatch.setattr("PIL.ImageFile.LOAD_TRUNCATED_IMAGES", True)
    assert Image.open(io.BytesIO(content[:-200])).convert("RGB").size == (40, 24)
    with pytest.raises(UsageError, match=r"LOAD_TRUNCATED_IMAGES is set, .*; set it to False"):
        decode(content[:-200])


# Bombs


def test_a_png_bomb_is_refused_from_its_header() -> None:
    with pytest.raises(DecodeError, match="a decompression bomb: 20000 x 20000 pixels, the limit is 100,000,000"):
        header(png(20000, 20000, 8, 2, b""))


def test_a_hundred_million_pixels_pass_the_header_without_a_warning() -> None:
    assert header(png(10000, 10000, 1, 0, b"")) == ("PNG", 10000, 10000, "1", "grey")
    with pytest.raises(DecodeError, match="bomb"):
        header(png(10000, 10001, 1, 0, b""))


def test_a_jpeg_bomb_is_refused() -> None:
    content = bytearray(encoded(COLOUR, "JPEG"))
    place = content.index(b"\xff\xc0") + 5
    content[place : place + 4] = struct.pack(">HH", 60000, 60000)
    with pytest.raises(DecodeError, match="a decompression bomb: 60000 x 60000"):
        decode(bytes(content))


def test_a_gif_bomb_is_refused() -> None:
    content = bytearray(encoded(COLOUR, "GIF"))
    content[6:10] = struct.pack("<HH", 60000, 60000)
    with pytest.raises(DecodeError, match="a decompression bomb"):
        decode(bytes(content))


# Frames


def test_the_first_frame_of_a_gif_a_png_a_webp_and_a_tiff_is_taken() -> None:
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "lime", "blue")]
    for format in ("GIF", "PNG", "WEBP", "TIFF"):
        lossless = {"lossless": True} if format == "WEBP" else {}
        content = encoded(frames[0], format, save_all=True, append_images=frames[1:], **lossless)
        assert Image.open(io.BytesIO(content)).n_frames == 3
        assert pixels(decode(content))[0, 0].tolist() == [255, 0, 0]


def test_a_phones_pair_in_one_jpeg_is_its_first_picture() -> None:
    content = encoded(
        Image.new("RGB", (16, 16), "red"), "MPO", save_all=True, append_images=[Image.new("RGB", (16, 16), "blue")]
    )
    assert header(content).format == "JPEG"
    assert pixels(decode(content))[0, 0, 0] > 250


def test_a_false_count_of_frames_does_not_warn() -> None:
    no_frames = chunk(b"acTL", struct.pack(">II", 0, 0))
    content = png(1, 1, 8, 0, b"\0\x07", no_frames)
    assert pixels(decode(content, "grey")).tolist() == [[7]]


# Depths


def test_sixteen_bit_grey_is_scaled_by_its_full_range() -> None:
    values = np.array([[0, 255, 256, 257, 32768, 65535]], dtype=np.uint16)
    for format in ("PNG", "TIFF"):
        content = encoded(values, format)
        assert header(content).channels == "grey"
        assert pixels(decode(content, "grey")).tolist() == [[0, 0, 1, 1, 128, 255]]


def test_a_dark_sixteen_bit_picture_stays_dark() -> None:
    assert pixels(decode(encoded(np.full((4, 4), 300, dtype=np.uint16)))).max() == 1


def test_sixteen_bit_colour_is_scaled_as_grey_is() -> None:
    row = b"\0" + struct.pack(">6H", 0, 257, 65535, 32768, 511, 512)
    assert pixels(decode(png(2, 1, 16, 2, row))).tolist() == [[[0, 1, 255], [128, 1, 2]]]


def test_a_transparent_value_of_sixteen_bit_grey_becomes_white() -> None:
    content = png(2, 1, 16, 0, b"\0" + struct.pack(">2H", 1000, 2000), chunk(b"tRNS", struct.pack(">H", 1000)))
    assert header(content).channels == "rgba"
    assert pixels(decode(content, "grey")).tolist() == [[255, 7]]


def tiff(bits: int, sample_format: int, content: bytes, width: int) -> bytes:
    """A little-endian TIFF of one row of grey."""
    entries = [(256, 4, width), (257, 4, 1), (258, 3, bits), (259, 3, 1), (262, 3, 1), (273, 4, 8)]
    entries += [(277, 3, 1), (278, 4, 1), (279, 4, len(content)), (339, 3, sample_format)]
    table = b"".join(struct.pack("<HHII", tag, kind, 1, value) for tag, kind, value in entries)
    return (
        b"II*\0"
        + struct.pack("<I", 8 + len(content))
        + content
        + struct.pack("<H", len(entries))
        + table
        + b"\0" * 4
    )


def test_twelve_bit_values_keep_their_upper_eight() -> None:
    content = tiff(12, 1, bytes([0xFF, 0xF0, 0x80]), 2)  # 0xFFF, 0x080
    assert pixels(decode(content, "grey")).tolist() == [[255, 8]]


def test_signed_sixteen_bit_values_are_raised() -> None:
    content = tiff(16, 2, struct.pack("<3h", -32768, 0, 32767), 3)
    assert pixels(decode(content, "grey")).tolist() == [[0, 128, 255]]


def test_thirty_two_bits_are_read_as_sixteen_or_refused() -> None:
    assert pixels(decode(tiff(32, 2, struct.pack("<2i", 0, 65535), 2), "grey")).tolist() == [[0, 255]]
    for content in (tiff(32, 2, struct.pack("<2i", 0, 65536), 2), tiff(32, 3, struct.pack("<2f", 0, 1), 2)):
        with pytest.raises(DecodeError, match="no stated range: save it with 8 or 16 bits"):
            decode(content)


# Colours


def test_cmyk_is_converted() -> None:
    content = encoded(Image.new("CMYK", (8, 8), (0, 255, 255, 0)), "JPEG")
    assert header(content)[3:] == ("CMYK", "rgb")
    red, green, blue = pixels(decode(content))[4, 4].tolist()
    assert red > 240
    assert max(green, blue) < 15


def test_bilevel_and_grey_become_what_is_asked_for() -> None:
    bilevel = encoded(Image.fromarray(np.array([[True, False]])))
    assert header(bilevel)[3:] == ("1", "grey")
    assert pixels(decode(bilevel, "grey")).tolist() == [[255, 0]]
    grey = encoded(np.array([[9, 200]], dtype=np.uint8))
    assert pixels(decode(grey)).tolist() == [[[9, 9, 9], [200, 200, 200]]]
    assert pixels(decode(grey, "rgba")).tolist() == [[[9, 9, 9, 255], [200, 200, 200, 255]]]


def test_colour_becomes_grey_by_luma() -> None:
    content = encoded(np.array([[[255, 0, 0], [0, 255, 0], [0, 0, 255]]], dtype=np.uint8))
    assert pixels(decode(content, "grey")).tolist() == [[76, 150, 29]]  # ITU-R 601: 0.299, 0.587, 0.114


def test_alpha_lies_over_white_unless_asked_for() -> None:
    colours = np.array([[[255, 0, 0, 0], [255, 0, 0, 255], [0, 0, 0, 51]]], dtype=np.uint8)
    content = encoded(colours)
    assert header(content).channels == "rgba"
    assert pixels(decode(content)).tolist() == [[[255, 255, 255], [255, 0, 0], [204, 204, 204]]]
    assert np.array_equal(pixels(decode(content, "rgba")), colours)
    grey = encoded(np.array([[[0, 0], [80, 255]]], dtype=np.uint8))
    assert pixels(decode(grey, "grey")).tolist() == [[255, 80]]


def test_a_transparent_palette_entry_becomes_white() -> None:
    picture = Image.new("P", (2, 1))
    picture.putpalette([10, 20, 30, 200, 100, 50])
    picture.putpixel((1, 0), 1)
    for transparency in (0, b"\0\xff"):
        content = encoded(picture, "PNG", transparency=transparency)
        assert header(content)[3:] == ("P", "rgba")
        assert pixels(decode(content)).tolist() == [[[255, 255, 255], [200, 100, 50]]]
    content = encoded(picture, "GIF", transparency=0)
    assert pixels(decode(content)).tolist() == [[[255, 255, 255], [200, 100, 50]]]


def test_a_transparent_colour_becomes_white() -> None:
    content = png(2, 1, 8, 2, b"\0\x01\x02\x03\x04\x05\x06", chunk(b"tRNS", struct.pack(">3H", 1, 2, 3)))
    assert pixels(decode(content)).tolist() == [[[255, 255, 255], [4, 5, 6]]]


# Orientation


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_every_exif_orientation_is_turned_as_pillow_turns_it(format: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    content = encoded(COLOUR, format, exif=exif)
    upright = ImageOps.exif_transpose(Image.open(io.BytesIO(content))).convert("RGB")
    assert np.array_equal(pixels(decode(content)), pixels(upright))
    assert header(content)[1:3] == upright.size


def test_damaged_exif_neither_warns_nor_stops() -> None:
    good = Image.Exif()
    good[0x0112] = 6
    good[0x010E] = "a description long enough to be stored outside the directory"
    block = good.tobytes()
    for cut in (7, 9, 15, 20, 30, len(block) - 20):
        content = encoded(COLOUR, "JPEG", exif=block[:cut])
        assert decode(content).size in ((40, 24), (24, 40))
    for junk in (b"Exif\0\0", b"Exif\0\0II*\0\xff\xff\xff\xff", b"junk"):
        assert decode(encoded(COLOUR, "JPEG", exif=junk)).size == (40, 24)


def test_an_orientation_that_does_not_exist_is_upright() -> None:
    exif = Image.Exif()
    exif[0x0112] = 9
    assert header(encoded(COLOUR, "JPEG", exif=exif))[1:3] == (40, 24)


# Reduced scale


def test_reduced_scale_is_never_below_the_asked_sides() -> None:
    content = encoded(np.zeros((480, 640, 3), dtype=np.uint8), "JPEG")
    assert decode(content).size == (640, 480)
    assert decode(content, at_least=(448, 448)).size == (640, 480)
    assert decode(content, at_least=(240, 240)).size == (320, 240)
    assert decode(content, at_least=(60, 80)).size == (80, 60)
    assert decode(content, at_least=(1000, 1000)).size == (640, 480)


def test_reduced_scale_knows_which_side_is_up() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    content = encoded(np.zeros((480, 640, 3), dtype=np.uint8), "JPEG", exif=exif)
    assert decode(content, at_least=(320, 100)).size == (240, 320)
    assert decode(content, at_least=(100, 320)).size == (480, 640)


def test_other_formats_are_not_reduced() -> None:
    assert decode(encoded(COLOUR), at_least=(2, 2)).size == (40, 24)


# Pixels


def test_pixel_arrays_are_pictures_too() -> None:
    assert np.array_equal(pixels(decode(COLOUR)), COLOUR)
    assert header(COLOUR) == ("pixels", 40, 24, "RGB", "rgb")
    grey = COLOUR[:, :, :1]
    assert np.array_equal(pixels(decode(grey, "grey")), grey[:, :, 0])
    assert decode(grey).mode == "RGB"
    with_alpha = np.dstack([COLOUR, np.zeros_like(grey)])
    assert header(with_alpha).channels == "rgba"
    assert pixels(decode(with_alpha)).min() == 255


@pytest.mark.parametrize(
    "wrong",
    [
        np.zeros((4, 4), dtype=np.float32),
        np.zeros((4, 4, 5), np.uint8),
        np.zeros(4, np.uint8),
        np.zeros((0, 4), np.uint8),
    ],
)
def test_other_arrays_are_refused(wrong: np.ndarray) -> None:
    with pytest.raises(DecodeError, match=r"pixels must be uint8 \(H, W\)"):
        decode(wrong)


def test_pillow_pictures_become_pixels_by_the_same_rules() -> None:
    assert to_pixels(Image.fromarray(COLOUR)).shape == (24, 40, 3)
    assert to_pixels(Image.new("1", (3, 2), 1)).tolist() == [[255] * 3] * 2
    assert to_pixels(Image.new("RGBA", (3, 2))).shape == (2, 3, 4)
    assert to_pixels(Image.new("P", (3, 2))).shape == (2, 3, 3)
    assert to_pixels(Image.fromarray(np.full((2, 3), 65535, dtype=np.uint16))).tolist() == [[255] * 3] * 2


# Robustness


def test_pillows_warnings_of_metadata_are_silenced_once_and_others_are_not() -> None:
    exif = Image.Exif()
    exif[0x010E] = "a description long enough to be stored outside the directory"
    cut = encoded(COLOUR, "JPEG", exif=exif.tobytes()[:-30])
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        Image.open(io.BytesIO(cut)).getexif()
        count = len(seen)
        for _ in range(3):
            header(cut)
            decode(cut)
        assert len(warnings.filters) == len(set(map(str, warnings.filters)))
        warnings.warn("from elsewhere", stacklevel=1)
    assert count > 0
    assert [str(warning.message) for warning in seen[count:]] == ["from elsewhere"]


def test_threads_decode_as_one_does(shared_data: Path) -> None:
    files = sorted((shared_data / "hymenoptera/val/ants").iterdir())[:16]
    contents = [path.read_bytes() for path in files]
    alone = [pixels(decode(content)) for content in contents]
    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(lambda content: pixels(decode(content)), contents * 4))
    assert all(np.array_equal(a, b) for a, b in zip(alone * 4, together, strict=True))


@pytest.mark.parametrize("format", sorted(FORMATS))
def test_damaged_bytes_raise_nothing_but_decode_errors(format: str) -> None:
    chance = np.random.default_rng(2)
    exif = Image.Exif()
    exif[0x0112] = 3
    good = encoded(
        Image.fromarray(COLOUR).quantize(8) if format == "GIF" else COLOUR,
        format,
        **({} if format in ("GIF", "BMP") else {"exif": exif}),
    )
    messages = []
    for _ in range(150):
        content = bytearray(good)
        for place in chance.integers(0, len(content), 6):
            content[place] = chance.integers(256)
        if chance.random() < 0.3:
            content = content[: chance.integers(1, len(content))]
        try:
            assert decode(bytes(content)).mode == "RGB"
        except DecodeError as error:
            messages.append(str(error))
    assert messages
    assert not any("\n" in message for message in messages)
