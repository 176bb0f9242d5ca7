"""One picture in many kinds of file: predict and evaluate give the answer of the plain, upright RGB picture."""

import io
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from resnets import ResNetSpec, build, save
from resnets.evaluation.predictions import load_predictions
from resnets.labels import Head
from resnets.preprocess import Preprocess
from resnets.weights.modelfile import Model
from tests.integration.shell import plain, resnets

ORIENTATION = 0x0112
STORED_AS = {  # EXIF orientation -> how an upright picture lies in the file
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}


def few_colours(seed: int) -> Image.Image:
    """An upright RGB picture, 20 wide and 28 high, of blocks in at most 35 colours, one of them white."""
    blocks = np.random.default_rng(seed).integers(0, 256, (7, 5, 3), dtype=np.uint8)
    blocks[3, 2] = 255
    return Image.fromarray(blocks.repeat(4, axis=0).repeat(4, axis=1))


def file(picture: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    content = io.BytesIO()
    picture.save(content, kind, **options)
    return content.getvalue()


def exif(orientation: int) -> Image.Exif:
    block = Image.Exif()
    block[ORIENTATION] = orientation
    return block


def colour_files(picture: Image.Image) -> Iterator[tuple[str, bytes]]:
    """The picture in colour, without loss."""
    other = few_colours(99)
    palette = picture.quantize(40)
    white = np.asarray(picture).min(axis=2) == 255
    hidden = np.where(white[:, :, None], 7, np.asarray(picture)).astype(np.uint8)  # what is under clear pixels
    clear = np.dstack([hidden, np.where(white, 0, 255).astype(np.uint8)])
    yield "palette.png", file(palette)
    yield "palette.gif", file(palette, "GIF")
    yield "animated.gif", file(palette, "GIF", save_all=True, append_images=[other.quantize(40)], duration=100)
    yield "animated.png", file(picture, save_all=True, append_images=[other])
    yield "animated.webp", file(picture, "WEBP", lossless=True, save_all=True, append_images=[other])
    yield "pages.tif", file(picture, "TIFF", save_all=True, append_images=[other])
    yield "cmyk.tif", file(picture.convert("CMYK"), "TIFF")
    yield "alpha.png", file(Image.fromarray(clear))
    yield "clear colour.png", clear_palette(picture)
    yield "sixteen bits.png", sixteen_bits(np.asarray(picture))
    yield "plain.bmp", file(picture, "BMP")
    yield "plain.webp", file(picture, "WEBP", lossless=True)
    yield "PNG NAMED.JPG", file(picture)
    yield "no ending", file(picture)
    for orientation, stored in STORED_AS.items():
        lying = picture.transpose(stored)
        yield f"turned {orientation}.png", file(lying, exif=exif(orientation))
        yield f"turned {orientation}.webp", file(lying, "WEBP", lossless=True, exif=exif(orientation).tobytes())
        yield f"turned {orientation}.tif", file(lying, "TIFF", tiffinfo={ORIENTATION: orientation})


def grey_files(picture: Image.Image) -> Iterator[tuple[str, bytes]]:
    """A picture of equal red, green and blue as grey."""
    grey = picture.convert("L")
    values = np.asarray(grey)
    yield "grey.png", file(grey)
    yield "grey.tif", file(grey, "TIFF")
    yield "grey and alpha.png", file(Image.merge("LA", (grey, Image.new("L", grey.size, 255))))
    yield "sixteen bits.png", file(Image.fromarray(values.astype(np.uint16) * 257))
    yield "sixteen bits.tif", file(Image.fromarray(values.astype(np.uint16) * 256), "TIFF")


def clear_palette(picture: Image.Image) -> bytes:
    """White as a palette's transparent entry, which holds another colour."""
    palette = picture.quantize(40)
    colours = palette.getpalette() or []
    white = next(entry for entry in range(40) if colours[3 * entry : 3 * entry + 3] == [255] * 3)
    colours[3 * white : 3 * white + 3] = [9, 9, 9]
    palette.putpalette(colours)
    return file(palette, transparency=white)


def sixteen_bits(pixels: np.ndarray) -> bytes:
    """An RGB PNG of 16 bits, which Pillow cannot write."""
    height, width, _ = pixels.shape
    rows = [b"\0" + (row.astype(np.uint16) * 257).astype(">u2").tobytes() for row in pixels]
    return png(struct.pack(">IIBBBBB", width, height, 16, 2, 0, 0, 0), zlib.compress(b"".join(rows)))


def bomb() -> bytes:
    """A PNG of a hundred bytes whose header states 900 million pixels."""
    return png(struct.pack(">IIBBBBB", 30_000, 30_000, 8, 2, 0, 0, 0), zlib.compress(b"\0" * 100))


def png(header: bytes, data: bytes) -> bytes:
    chunks = ((b"IHDR", header), (b"IDAT", data), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
        for kind, content in chunks
    )


@pytest.fixture(scope="module", params=["rgb", "grey"])
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network with random weights that looks at every pixel, for colour and for grey pictures."""
    torch.manual_seed(0)
    channels = {"rgb": 3, "grey": 1}[request.param]
    spec = ResNetSpec(
        block="basic",
        depths=(1, 1),
        width=8,
        stem="small",
        zero_last=False,
        in_channels=channels,
        heads=(("label", 3),),
    )
    preprocess = Preprocess(size=(28, 20), channels=request.param, mean=(0.5,) * channels, std=(0.25,) * channels)
    heads = {"label": Head(ids=("a", "b", "c"))}
    path = tmp_path_factory.mktemp("model") / "model.safetensors"
    save(path, Model(network=build(spec), heads=heads, preprocess=preprocess))
    return path


def probabilities(line: "dict[str, dict[str, dict[str, list[dict[str, float]]]]]") -> list[float]:
    return [one["probability"] for one in sorted(line["heads"]["label"], key=lambda one: one["id"])]


def test_predict_gives_the_same_answer_whatever_the_file_is(model: Path, tmp_path: Path) -> None:
    colour, grey = few_colours(0), few_colours(1).convert("L").convert("RGB")
    for name, picture, others in (("colour", colour, colour_files(colour)), ("grey", grey, grey_files(grey))):
        folder = tmp_path / name
        folder.mkdir()
        picture.save(folder / "0 plain.png")
        for other, content in others:
            (folder / other).write_bytes(content)
    few_colours(2).save(tmp_path / "another.png")
    said = resnets("predict", model, tmp_path / "colour", tmp_path / "grey", tmp_path / "another.png", "--json")
    assert (said.status, said.err) == (0, "")
    answers = {Path(line["path"]): probabilities(line) for line in said.json_lines}
    assert len(answers) == 1 + 35 + 1 + 5 + 1
    for path, answer in answers.items():
        if path.name != "another.png":
            assert answer == pytest.approx(answers[path.parent / "0 plain.png"], abs=1e-6), path.name
    distinct = {tuple(round(value, 4) for value in answer) for answer in answers.values()}
    assert len(distinct) == 3  # the network does tell pictures apart


def test_evaluate_measures_the_same_whatever_the_files_are(model: Path, tmp_path: Path) -> None:
    for label in "abc":
        for folder in ("plain", "others"):
            (tmp_path / folder / label).mkdir(parents=True)
    for place, (name, _) in enumerate(colour_files(few_colours(0))):
        picture = few_colours(place)
        label = "abc"[place % 3]
        picture.save(tmp_path / "plain" / label / f"{name}.png")
        (tmp_path / "others" / label / name).write_bytes(dict(colour_files(picture))[name])
    figures, logits = [], []
    for folder in ("plain", "others"):
        out = tmp_path / f"{folder}.parquet"
        said = resnets("evaluate", model, tmp_path / folder, "--split", "all", "--out", out, "--json")
        assert said.status == 0, said.err
        assert (said.json["n"], said.json["left_out"]) == (35, 0)
        figures.append(said.json["heads"]["label"])
        kept = load_predictions(out)
        rows = np.argsort([path.removesuffix(".png") if folder == "plain" else path for path in kept.paths])
        logits.append(kept.heads["label"].logits[rows])
    assert figures[0]["top1"] == figures[1]["top1"]
    assert figures[0]["loss"] == pytest.approx(figures[1]["loss"], abs=1e-6)
    assert logits[0] == pytest.approx(logits[1], abs=1e-3)  # stored as halves


def test_a_photograph_in_cmyk_is_close_to_itself_in_rgb(model: Path, tmp_path: Path) -> None:
    picture = few_colours(0).resize((80, 112))
    picture.save(tmp_path / "rgb.jpg", quality=95, subsampling=0)
    picture.convert("CMYK").save(tmp_path / "cmyk.jpg", quality=95, subsampling=0)
    said = resnets("predict", model, tmp_path / "rgb.jpg", tmp_path / "cmyk.jpg", "--json")
    first, second = map(probabilities, said.json_lines)
    assert first == pytest.approx(second, abs=0.01)


def test_a_decompression_bomb_is_refused_and_the_rest_is_done(model: Path, tmp_path: Path) -> None:
    for label in "abc":
        (tmp_path / "data" / label).mkdir(parents=True)
        few_colours(ord(label)).save(tmp_path / "data" / label / "picture.png")
    bad = tmp_path / "data" / "b" / "bomb.png"
    bad.write_bytes(bomb())
    said = resnets("predict", model, tmp_path / "data")
    assert said.status == 1
    lines = said.out.splitlines()
    assert len(lines) == 4
    (line,) = [line for line in lines if "error" in line]
    assert line == f"{bad}  error: a decompression bomb: 30000 x 30000 pixels, the limit is 100,000,000 pixels"
    assert said.err == "resnets: 1 of 4 files could not be read; each says why\n"

    said = resnets("evaluate", model, tmp_path / "data", "--split", "all", "--json")
    assert said.status == 0
    assert said.json["n"] == 3
    assert said.json["left_out_files"] == [
        {
            "path": "b/bomb.png",
            "reason": "a decompression bomb: 30000 x 30000 pixels, the limit is 100,000,000 pixels",
        }
    ]
    assert plain(said.err)
    assert resnets("evaluate", model, tmp_path / "data", "--split", "all", "--strict-data").status == 2
