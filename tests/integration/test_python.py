"""The package as a Python user meets it, in a script and in a notebook."""

import os
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import resnets
from resnets.training.run import read_events
from tests.integration.pictures import class_folders


@pytest.fixture(autouse=True)
def inside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def digits() -> tuple[np.ndarray, np.ndarray]:
    """The test part of `digits`: (360, 8, 8) and (360,)."""
    data = resnets.open_data("digits")
    rows = data.rows("test")
    return np.stack([np.asarray(data.read(row)) for row in rows]), data.labels("label")[rows]


def test_digits_are_trained_evaluated_loaded_and_predicted(tmp_path: Path) -> None:
    seen = []
    run = resnets.train(
        "digits",
        config=resnets.TrainConfig(epochs=6, batch=64, lr=0.1, warmup=1, threads=1, augment="none", ema=0.0),
        on_event=seen.append,
    )
    assert (run.path, run.split, run.n, run.left_out) == (Path("runs/digits-resnet20"), "test", 360, 0)
    assert run.heads["label"]["top1"] > 0.8
    assert [event["epoch"] for event in seen if event["event"] == "epoch"] == [1, 2, 3, 4, 5, 6]

    measured = resnets.evaluate(run.model, "digits", threads=1)
    assert (measured.split, measured.n) == ("test", 360)
    assert measured.heads["label"].top1 == run.heads["label"]["top1"]
    low, high = measured.heads["label"].top1_interval
    assert low < measured.heads["label"].top1 < high

    model = resnets.load(run.path)
    assert model.heads["label"].ids == tuple("0123456789")
    pixels, labels = digits()
    images = torch.from_numpy(pixels).reshape(-1, 1, 8, 8) / 255
    mean, std = (
        torch.tensor(values).reshape(1, -1, 1, 1) for values in (model.preprocess.mean, model.preprocess.std)
    )
    with torch.no_grad():
        answers = model.network.eval()((images - mean) / std).argmax(1).numpy()
    assert (answers == labels).mean() == pytest.approx(run.heads["label"]["top1"], abs=1 / 360)

    for number in range(20):
        Image.fromarray(pixels[number].reshape(8, 8)).save(tmp_path / f"{number:02d}.png")
    found = list(resnets.predict(run.model, tmp_path.glob("*.png"), top=1, threads=1))
    assert len(found) == 20
    by_name = {int(Path(one.path).stem): one.heads["label"][0].id for one in found}
    assert [by_name[number] for number in range(20)] == [str(answers[number]) for number in range(20)]


def test_data_in_memory_is_trained_on_and_the_run_gone_on_with() -> None:
    pixels, labels = digits()
    config = resnets.TrainConfig(epochs=1, threads=1, batch=32, name="memory")
    run = resnets.train((pixels, labels), config=config)
    assert [event["event"] for event in read_events(run.path / "events.jsonl")][-1] == "end"
    with pytest.raises(resnets.RunError, match=r"was in memory: resume from Python"):
        resnets.train(resume=run.path, config=resnets.TrainConfig(epochs=2))
    more = resnets.train((pixels, labels), resume=run.path, config=resnets.TrainConfig(epochs=2))
    assert more.path == run.path
    with pytest.raises(resnets.RunError, match="the data has changed"):
        resnets.train((pixels[1:], labels[1:]), resume=run.path, config=resnets.TrainConfig(epochs=3))


def test_a_network_is_built_shown_saved_and_loaded() -> None:
    network = resnets.build("resnet20", num_classes=10)
    assert isinstance(network, resnets.ResNet)
    assert network(torch.zeros(2, 3, 32, 32)).shape == (2, 10)
    assert resnets.summary("resnet20").parameters == 269_722  # He et al. 2015, table 6: 0.27 M
    assert "resnet20" in resnets.models()
    features = resnets.build("resnet18", heads=None)
    assert features(torch.zeros(1, 3, 64, 64)).shape == (1, 512)
    with pytest.raises(resnets.UsageError, match="did you mean resnet18"):
        resnets.build("resnet81", num_classes=2)


def test_every_expected_error_is_one_family_and_a_standard_one_too() -> None:
    for error, standard in (
        (resnets.UsageError, ValueError),
        (resnets.DataError, ValueError),
        (resnets.ModelFileError, ValueError),
        (resnets.DownloadError, OSError),
        (resnets.MissingExtra, ImportError),
    ):
        assert issubclass(error, (resnets.ResnetsError, standard))
    with pytest.raises(resnets.ResnetsError, match="there is no folder or file nowhere"):
        resnets.open_data("nowhere")


CELLS = (
    "import resnets",
    "run = resnets.train('digits', config=resnets.TrainConfig(epochs=1, threads=1))",
    "run.heads['label']['top1'], run.n",
    "pictures = resnets.train('pictures', config=resnets.TrainConfig(epochs=2, threads=2, size='24'))",
    "measured = resnets.evaluate(pictures.model, 'pictures', threads=2)\nprint(measured.table())",
    "[one.heads['label'][0].name for one in resnets.predict(pictures.model, 'pictures', top=1, threads=2)]",
    "resnets.train('nowhere')",
)


@pytest.mark.filterwarnings("default")  # of Jupyter's own packages
def test_a_notebook_trains_with_threads_and_shows_how_far_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    nbformat, nbclient = pytest.importorskip("nbformat"), pytest.importorskip("nbclient")
    pytest.importorskip("ipykernel")
    class_folders(tmp_path / "pictures", {"dark": 30, "light": 30})
    for name in ("IPYTHONDIR", "JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR"):
        monkeypatch.setenv(name, str(tmp_path / "jupyter"))
    monkeypatch.setenv("RESNETS_KERNELS", "off")  # a compiler's time, which this is no test of
    *cells, last = [nbformat.v4.new_code_cell(cell) for cell in CELLS]
    last.metadata["tags"] = ["raises-exception"]
    notebook = nbformat.v4.new_notebook(cells=[*cells, last])
    with warnings.catch_warnings(action="ignore"):
        nbclient.NotebookClient(
            notebook, timeout=300, kernel_name="python3", resources={"metadata": {"path": str(tmp_path)}}
        ).execute()
    shown = [text_of(cell) for cell in notebook.cells]
    assert not [out for cell in cells for out in cell.outputs if out.output_type == "error"]
    assert "digits: 1,797 pictures" in shown[1]
    assert "resnet20 (small stem), 8x8 px grey, 1 epoch of 9 steps" in shown[1]
    assert "epoch 1: loss " in shown[1]
    assert shown[2].endswith(", 360)")
    assert "epoch 2: loss " in shown[3]
    assert "95% intervals" in shown[4]
    assert shown[5].count("dark") + shown[5].count("light") == 60
    assert "UsageError: there is no folder or file nowhere" in shown[6]
    assert sorted(os.listdir(tmp_path / "runs")) == ["digits-resnet20", "pictures-resnet20"]
    assert not [text for text in shown if "Warning:" in text]


def text_of(cell: "dict[str, list[dict[str, object]]]") -> str:
    """All that a cell shows."""
    texts = []
    for out in cell["outputs"]:
        data = out.get("data")
        texts.append(str(out.get("text") or (data["text/plain"] if isinstance(data, dict) else out.get("evalue"))))
        if out["output_type"] == "error":
            texts[-1] = f"{out['ename']}: {out['evalue']}"
    return "\n".join(texts)
