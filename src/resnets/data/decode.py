"""The one decode: from a stored picture to pixels of a known kind, the same in every verb.

- The content decides the format, never the file's ending. `FORMATS` is the only list of formats; Pillow's
  other readers are never called.
- The size is checked in the header, before a pixel is unpacked: above `PIXEL_LIMIT` it is a decompression bomb.
- Of an animation or a file of several pages the first frame is taken (of a phone's pair in one JPEG: the first).
- 16-bit values are scaled by their full range, never by the picture's own: the high byte is kept, as Pillow
  does for 16-bit colour, so that x * 256 and x * 257 both give x. 12-bit values keep their upper 8 bits, signed
  16-bit ones are raised by 32,768 first. 32-bit integers count as 16-bit values where all lie in 0..65,535;
  other 32-bit pictures and floating-point ones have no stated range and are refused.
- CMYK, palette, bilevel and YCbCr pictures are converted by Pillow; colour profiles are not applied.
- Transparent pixels are laid over white, unless alpha is asked for.
- The EXIF orientation is applied.
"""

import io
import re
import struct
import warnings
from typing import Final, NamedTuple

import numpy as np
from PIL import Image, features
from PIL import ImageFile as PillowFile
from PIL.AvifImagePlugin import AvifImageFile
from PIL.BmpImagePlugin import BmpImageFile
from PIL.GifImagePlugin import GifImageFile
from PIL.ImageFile import ImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.TiffImagePlugin import TiffImageFile
from PIL.WebPImagePlugin import WebPImageFile

from resnets.base.errors import DataError, UsageError
from resnets.base.text import printable
from resnets.data.source import Picture
from resnets.preprocess import PILLOW_MODES, Channels, Pixels

PIXEL_LIMIT: Final = 100_000_000  # width x height
PREFIX_BYTES: Final = 256  # enough of a file to tell what it is
PIXELS: Final = "pixels"  # the format of a picture that came as an array

# Called directly: Image.open would add whatever formats other code has registered, and a limit of its own.
FORMATS: Final[dict[str, tuple[re.Pattern[bytes], type[ImageFile]]]] = {
    "JPEG": (re.compile(rb"\xff\xd8\xff"), JpegImageFile),
    "PNG": (re.compile(rb"\x89PNG\r\n\x1a\n"), PngImageFile),
    "WEBP": (re.compile(rb"RIFF....WEBPVP8", re.DOTALL), WebPImageFile),
    "GIF": (re.compile(rb"GIF8[79]a"), GifImageFile),
    "BMP": (re.compile(rb"BM"), BmpImageFile),
    "TIFF": (re.compile(rb"II[*+]\0|MM\0[*+]"), TiffImageFile),
    "AVIF": (re.compile(rb"....ftyp(avi[fs]|(mif1|msf1).*avif)", re.DOTALL), AvifImageFile),
}
for _name, _feature in (("WEBP", "webp"), ("AVIF", "avif")):
    if not features.check(_feature):
        del FORMATS[_name]

# What is often met among pictures and is not opened.
OTHERS: Final[tuple[tuple[str, re.Pattern[bytes]], ...]] = (
    ("a HEIC picture", re.compile(rb"....ftyp(hei[cfmsx]|hev[cmsx]|mif1|msf1)", re.DOTALL)),
    ("an AVIF picture, which this Pillow cannot read", re.compile(rb"....ftypavi[fs]", re.DOTALL)),
    ("a WebP picture, which this Pillow cannot read", re.compile(rb"RIFF....WEBP", re.DOTALL)),
    ("a video", re.compile(rb"....ftyp|\x1aE\xdf\xa3|RIFF....AVI ", re.DOTALL)),
    ("a JPEG 2000 picture", re.compile(rb"\0\0\0\x0cjP  |\xffO\xffQ")),
    ("a JPEG XL picture", re.compile(rb"\0\0\0\x0cJXL |\xff\x0a")),
    ("a Photoshop picture", re.compile(rb"8BPS")),
    ("an icon", re.compile(rb"\0\0[\x01\x02]\0")),
    ("a PDF document", re.compile(rb"%PDF")),
    ("a ZIP archive", re.compile(rb"PK\x03\x04")),
    ("a gzip file", re.compile(rb"\x1f\x8b")),
    ("a NumPy array", re.compile(rb"\x93NUMPY")),
    ("a Parquet file", re.compile(rb"PAR1")),
    ("an SVG drawing", re.compile(rb"(\xef\xbb\xbf)?\s*(<\?xml[^>]*>\s*)?<svg", re.IGNORECASE)),
    ("a web page", re.compile(rb"(\xef\xbb\xbf)?\s*<(!doctype html|html)", re.IGNORECASE)),
)

# EXIF orientation -> what turns the picture upright (EXIF 2.32, tag 0x0112).
_UPRIGHT: Final = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_ORIENTATION, _BITS_PER_SAMPLE = 0x0112, 258
_PNG_BITS = 24  # where a PNG file has its bits a channel: signature, length, IHDR, width, height

# What Pillow says of a cut EXIF block or a wrong count of frames; the first frame's pixels are not touched by it.
# Prefetching threads decode while other code uses warnings.catch_warnings, which is not safe between threads: so
# the filter is put in front and left there.
_SILENT: Final = ("ignore", None, UserWarning, re.compile(r"PIL\.(Tiff|Png)ImagePlugin"), 0)


class DecodeError(DataError):
    """A picture that cannot be decoded; the message is a short reason without the file's name."""


class Header(NamedTuple):
    """What a picture's header says. Width and height are those of the upright picture, in pixels."""

    format: str
    width: int
    height: int
    mode: str  # Pillow's
    channels: Channels  # what the picture has: rgba where any kind of transparency is stated


class Particulars(NamedTuple):
    """What else a file says of itself, of which a decoded picture has no trace."""

    orientation: int  # EXIF's, 1 to 8; 1 is upright
    animated: bool  # of several frames or pages
    bits: int  # a channel


def sniff(prefix: bytes) -> str | None:
    """The format in FORMATS that the first bytes (PREFIX_BYTES are enough) state, or None."""
    return next((name for name, (signature, _) in FORMATS.items() if signature.match(prefix)), None)


def header(picture: Picture) -> Header:
    """Format, upright size and mode, without unpacking pixels. Raises DecodeError with a short reason."""
    if isinstance(picture, np.ndarray):
        pixels = _from_pixels(picture)
        return Header(PIXELS, pixels.width, pixels.height, pixels.mode, _channels(pixels))
    opened = _open(picture)
    width, height = opened.size
    if not isinstance(opened, TiffImageFile) and _orientation(opened) >= 5:
        width, height = height, width
    return Header(str(opened.format), width, height, opened.mode, _channels(opened))


def particulars(picture: Picture) -> Particulars:
    """What decoding undoes or leaves out, without unpacking pixels. Raises DecodeError with a short reason."""
    if isinstance(picture, np.ndarray):
        return Particulars(1, False, 8)
    opened = _open(picture)
    orientation, bits = _orientation(opened), 16 if opened.mode.startswith("I") else 8
    if isinstance(opened, TiffImageFile):
        orientation = int(opened.tag_v2.get(_ORIENTATION, 1))
        bits = int(opened.tag_v2.get(_BITS_PER_SAMPLE, (8,))[0])
    elif isinstance(opened, PngImageFile):
        bits = picture[_PNG_BITS]
    try:
        animated = bool(getattr(opened, "is_animated", False))
    except Exception:  # a later frame is damaged, which the first one is none the worse for
        animated = True
    return Particulars(orientation, animated, bits)


def decode(
    picture: Picture, channels: Channels = "rgb", *, at_least: tuple[int, int] | None = None
) -> Image.Image:
    """Decode a whole picture upright, in Pillow's mode L (grey), RGB or RGBA.

    at_least: (height, width) in pixels; JPEG files may then be unpacked at 1/2, 1/4 or 1/8 of their size, never
    below these sides. This is a shortcut for training: the pixels differ from those of a full decode.
    Raises DecodeError with a short reason; UsageError where Pillow was told to fill cut pictures up. Safe in
    threads.
    """
    if PillowFile.LOAD_TRUNCATED_IMAGES:
        raise UsageError(
            "PIL.ImageFile.LOAD_TRUNCATED_IMAGES is set, by which cut pictures are filled with grey unseen; "
            "set it to False: they are left out and named"
        )
    if isinstance(picture, np.ndarray):
        return _convert(_from_pixels(picture), channels)
    opened = _open(picture)
    try:
        if at_least is not None and isinstance(opened, JpegImageFile):
            height, width = at_least
            opened.draft(None, (height, width) if _orientation(opened) >= 5 else (width, height))
        opened.load()
        upright = None if isinstance(opened, TiffImageFile) else _UPRIGHT.get(_orientation(opened))
        plain = _convert(opened, channels)  # Pillow itself turns TIFF files as it loads them
        return plain if upright is None else plain.transpose(upright)
    except DecodeError:
        raise
    except MemoryError as error:
        raise DecodeError(f"not enough memory for {opened.width} x {opened.height} pixels") from error
    except Exception as error:  # a stranger's bytes: Pillow's decoders fail with whatever they meet
        raise DecodeError(_damage(str(opened.format), error)) from error


def to_pixels(picture: Image.Image) -> Pixels:
    """A Pillow picture of any mode as an array (H, W), (H, W, 3) or (H, W, 4), by the same rules as a file."""
    channels = _channels(picture)
    try:
        return np.asarray(_convert(picture, channels))
    except (ValueError, OSError) as error:
        raise DecodeError(_damage(f"Pillow {picture.mode}", error)) from error


def _open(content: bytes) -> ImageFile:
    name = sniff(content[:PREFIX_BYTES])
    if name is None:
        raise DecodeError(_no_picture(content))
    if warnings.filters[:1] != [_SILENT]:
        warnings.filterwarnings("ignore", category=UserWarning, module=_SILENT[3].pattern)
    try:
        opened = FORMATS[name][1](io.BytesIO(content))
    except Exception as error:  # as above
        raise DecodeError(f"a {name} file whose header is cut short or damaged") from error
    if opened.width * opened.height > PIXEL_LIMIT:
        raise DecodeError(
            f"a decompression bomb: {opened.width} x {opened.height} pixels, the limit is {PIXEL_LIMIT:,} pixels"
        )
    return opened


def _no_picture(content: bytes) -> str:
    """Why bytes of no known format are not a picture, in words."""
    if not content:
        return "an empty file"
    prefix = content[:PREFIX_BYTES]
    for words, signature in OTHERS:
        if signature.match(prefix):
            return f"{words}, which is not read: convert it to JPEG or PNG" if "picture" in words else words
    if not prefix.strip(b"\0"):
        return "not a picture: it begins with zero bytes"
    text = prefix.decode("utf-8", errors="ignore")
    if len(text) > 0.9 * len(prefix) and all(letter.isprintable() or letter.isspace() for letter in text):
        return "not a picture: text"
    return f"not a picture of a known format ({', '.join(FORMATS)})"


def _damage(name: str, error: Exception) -> str:
    said = printable(" ".join(str(error).split())[:120]) or type(error).__name__
    if "truncated" in said.lower() or isinstance(error, EOFError):
        return f"a truncated {name} file: it ends before the picture does"
    return f"a damaged {name} file ({said})"


def _from_pixels(pixels: Pixels) -> Image.Image:
    """(H, W), (H, W, 1), (H, W, 2: grey and alpha), (H, W, 3) or (H, W, 4), uint8."""
    flat = pixels[:, :, 0] if pixels.ndim == 3 and pixels.shape[2] == 1 else pixels
    fits = flat.ndim == 2 or (flat.ndim == 3 and flat.shape[2] in (2, 3, 4))
    if flat.dtype != np.uint8 or not fits or flat.size == 0:
        raise DecodeError(f"pixels must be uint8 (H, W) or (H, W, 1 to 4), got {pixels.dtype} {pixels.shape}")
    if flat.shape[0] * flat.shape[1] > PIXEL_LIMIT:
        raise DecodeError(f"{flat.shape[1]} x {flat.shape[0]} pixels, the limit is {PIXEL_LIMIT:,} pixels")
    return Image.fromarray(np.ascontiguousarray(flat))


def _channels(picture: Image.Image) -> Channels:
    if picture.mode in ("LA", "La", "PA", "RGBA", "RGBa") or "transparency" in picture.info:
        return "rgba"
    return "grey" if picture.mode in ("1", "L", "F") or picture.mode.startswith("I") else "rgb"


def _convert(picture: Image.Image, channels: Channels) -> Image.Image:
    if picture.mode.startswith("I") or picture.mode == "F":
        picture = _eight_bits(picture)
    if _channels(picture) == "rgba":
        picture = picture if picture.mode == "RGBA" else picture.convert("RGBA")
        if channels != "rgba":
            picture = _over_white(picture)
    elif picture.mode not in ("1", "L", "RGB"):
        picture = picture.convert("RGB")  # palette, CMYK, YCbCr
    mode = PILLOW_MODES[channels]
    return picture if picture.mode == mode else picture.convert(mode)


def _over_white(picture: Image.Image) -> Image.Image:
    white = Image.new("RGB", picture.size, (255, 255, 255))
    white.paste(picture, mask=picture)
    return white


def _eight_bits(picture: Image.Image) -> Image.Image:
    """Deeper grey as L by its full range, or as LA where one value is stated to be transparent."""
    bits = 16 if picture.mode.startswith("I;16") else 32
    if isinstance(picture, TiffImageFile):
        bits = int(picture.tag_v2.get(_BITS_PER_SAMPLE, (bits,))[0])
    values = np.asarray(picture)
    if picture.mode == "F" or (bits == 32 and (values.min() < 0 or values.max() > 0xFFFF)):
        raise DecodeError("32-bit pixels have no stated range: save it with 8 or 16 bits")
    if picture.mode == "I" and bits == 16:
        values = values + 0x8000  # signed
    grey = (values >> (4 if bits == 12 else 8)).astype(np.uint8)
    clear = picture.info.get("transparency")
    if isinstance(clear, int):
        grey = np.stack([grey, np.where(values == clear, 0, 255).astype(np.uint8)], axis=2)
    return Image.fromarray(grey)


def _orientation(picture: Image.Image) -> int:
    """The EXIF orientation, 1 to 8; 1 where none is stated or the block is damaged."""
    exif = picture.info.get("exif")
    if not isinstance(exif, bytes):
        return 1
    tiff = exif.removeprefix(b"Exif\0\0")
    order = {b"II": "<", b"MM": ">"}.get(tiff[:2])
    if order is None:
        return 1
    try:
        (start,) = struct.unpack_from(order + "I", tiff, 4)
        (entries,) = struct.unpack_from(order + "H", tiff, start)
        for position in range(start + 2, start + 2 + 12 * entries, 12):
            tag, kind = struct.unpack_from(order + "HH", tiff, position)
            if tag == _ORIENTATION:
                (value,) = struct.unpack_from(order + ("H" if kind == 3 else "I"), tiff, position + 8)
                return int(value) if value in _UPRIGHT else 1
    except struct.error:
        pass  # the block ends early: what it would have said is not known
    return 1
