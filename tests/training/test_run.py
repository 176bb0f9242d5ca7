import multiprocessing
from pathlib import Path

import pytest

from resnets.base.errors import RunError
from resnets.training.run import Events, locked, new_run_folder, read_events


def test_a_default_name_that_is_taken_gets_a_number(tmp_path: Path) -> None:
    names = [new_run_folder(tmp_path, name=None, default="digits-resnet20").name for _ in range(3)]
    assert names == ["digits-resnet20", "digits-resnet20-2", "digits-resnet20-3"]


def test_a_given_name_that_is_taken_is_refused_with_the_resume_command(tmp_path: Path) -> None:
    new_run_folder(tmp_path, name="first", default="x")
    with pytest.raises(RunError, match="already a run named 'first'.*--resume"):
        new_run_folder(tmp_path, name="first", default="x")


def test_a_folder_that_cannot_be_made_names_the_other_option(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match="choose another with --runs"):
        new_run_folder(tmp_path / "file" / "runs", name=None, default="x")


def hold(folder: Path, ready: object, done: object) -> None:
    with locked(folder):
        ready.set()  # type: ignore[attr-defined]
        done.wait(30)  # type: ignore[attr-defined]


def test_a_second_writer_is_refused_while_another_process_holds_the_lock(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    ready, done = context.Event(), context.Event()
    process = context.Process(target=hold, args=(tmp_path, ready, done))
    process.start()
    try:
        assert ready.wait(30)
        with pytest.raises(RunError, match="another process is writing"), locked(tmp_path):
            pass
    finally:
        done.set()
        process.join(30)
    with locked(tmp_path):
        pass


def test_events_behind_a_resume_are_superseded(tmp_path: Path) -> None:
    events = Events(tmp_path / "events.jsonl")
    events.append("plan")
    events.append("step", step=1)
    at_checkpoint = events.length()
    events.append("step", step=2)
    events.append("resume", events_length=at_checkpoint, step=1)
    events.append("step", step=2, again=True)
    kept = [(record["event"], record.get("again")) for record in read_events(events.path)]
    assert kept == [("plan", None), ("step", None), ("resume", None), ("step", True)]


def test_a_torn_last_line_is_cut_by_the_next_writer_and_not_read(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    Events(path).append("plan")
    with path.open("a") as handle:
        handle.write('{"event": "step", "st')
    assert [record["event"] for record in read_events(path)] == ["plan"]
    Events(path).append("step")
    assert [record["event"] for record in read_events(path)] == ["plan", "step"]
