import subprocess
import sys


def test_options_are_read_as_ever_once_something_has_imported_pydantic() -> None:
    code = (
        "import sys, pydantic; from resnets.cli import app; "
        "sys.exit(app(['summary', 'resnet20', '--size', '32', '--json']) or app(['models', '--json']))"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (ended.returncode, ended.stderr) == (0, "")
