"""The start: arguments in one line, the environment made, repaired and entered; all of it on fakes."""

from __future__ import annotations

import importlib.metadata
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

import gradio as gr
import pytest

import bootstrap
import launch
from app import serve
from app.choice import Choice
from bootstrap import BootstrapError, Environment

ROOT = Path(__file__).resolve().parent.parent


def start(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(ROOT / "launch.py"), *arguments], capture_output=True, text=True, check=False
    )


def test_help_names_every_option() -> None:
    done = start("--help")
    assert done.returncode == 0
    for option in ("--host", "--port", "--checkpoint", "--data-dir", "--share", "--auth", "--no-browser", "test"):
        assert option in done.stdout


@pytest.mark.parametrize(
    "arguments",
    [
        ["--port", "x"],
        ["--port", "70000"],
        ["--auth", "nobody"],
        ["--auth", ":"],
        ["--colour", "red"],
        ["paint"],
        ["--host"],
    ],
)
def test_a_wrong_argument_is_one_line(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        launch.main(arguments)
    assert ended.value.code == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "--help" in said


def test_listening_everywhere_without_a_password_warns(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(bootstrap, "ensure", lambda *_, **__: 0)
    assert launch.main(["--host", "0.0.0.0"]) == 0
    assert "--auth USER:PASSWORD" in capsys.readouterr().out
    assert launch.main(["--host", "0.0.0.0", "--auth", "me:secret"]) == 0
    assert capsys.readouterr().out == ""


def test_a_space_says_where_it_expects_the_page(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GRADIO_SERVER_NAME", "0.0.0.0")
    monkeypatch.setenv("GRADIO_SERVER_PORT", "7777")
    options = launch.parser().parse_args([])
    assert (options.host, options.port) == ("0.0.0.0", 7777)
    assert launch.parser().parse_args(["--port", "80"]).port == 80


def test_a_bootstrap_error_is_one_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def fail(*_: object, **__: object) -> None:
        raise BootstrapError("The disk is full; make room and start again.")

    monkeypatch.setattr(bootstrap, "ensure", fail)
    assert launch.main([]) == 1
    assert capsys.readouterr().err == "The disk is full; make room and start again.\n"


@pytest.mark.parametrize("version", [(3, 11, 0), (3, 12, 4), (3, 13, 1)])
def test_supported_pythons_pass(version: tuple[int, ...]) -> None:
    bootstrap.check_python(version)


@pytest.mark.parametrize("version", [(3, 8, 1), (3, 10, 9), (3, 14, 0)])
def test_another_python_is_one_sentence_that_names_a_better_one(version: tuple[int, ...]) -> None:
    with pytest.raises(BootstrapError, match=rf"Python 3\.{version[1]}, .*install one of them"):
        bootstrap.check_python(version, which=lambda name: None)
    with pytest.raises(BootstrapError, match=r"'python3\.12 launch\.py'"):
        bootstrap.check_python(version, which=lambda name: name if name == "python3.12" else None)


def test_the_starter_is_readable_for_older_pythons() -> None:
    import ast

    for name in ("launch.py", "bootstrap.py"):
        ast.parse((ROOT / name).read_text(encoding="utf-8"), feature_version=(3, 7))


def test_requirements_are_read_through_their_includes() -> None:
    lines = bootstrap.requirement_lines(ROOT / "requirements-dev.txt")
    assert "torch>=2.8,<3" in lines
    assert any(line.startswith("pytest==") for line in lines)
    assert not any("torchvision" in line for line in lines)


def test_what_was_tried_is_pinned_where_the_requirements_are_wider(tmp_path: Path) -> None:
    shell = Shell(tmp_path / ".venv")
    file = tmp_path / "requirements.txt"
    file.write_text("a>=1\n")
    before = bootstrap.fingerprint(file)
    (tmp_path / "constraints.txt").write_text("a==1.5\n")
    assert bootstrap.fingerprint(file) != before
    Environment(tmp_path / ".venv", run=shell).install(file, lambda text: None)
    assert f"-c {tmp_path / 'constraints.txt'}" in shell.commands[-1]
    assert bootstrap.constraints(ROOT / "requirements-dev.txt") == ROOT / "constraints.txt"


@pytest.mark.parametrize(
    ("line", "version", "met"),
    [
        ("torch==2.13.0", "2.13.0+cpu", True),
        ("torch==2.13.0", "2.13", True),
        ("torch==2.13.0", "2.13.1", False),
        ("gradio>=6.31,<7", "6.31.0", True),
        ("gradio>=6.31,<7", "6.4", False),
        ("gradio>=6.31,<7", "7.0.0", False),
        ("gradio", "1", True),
    ],
)
def test_versions_are_compared_as_numbers(tmp_path: Path, line: str, version: str, met: bool) -> None:
    file = tmp_path / "requirements.txt"
    file.write_text(f"# a comment\n{line}  # another\n")
    assert bootstrap.missing(file, installed=lambda name: version) == ([] if met else [line])


def test_what_is_not_installed_is_missing(tmp_path: Path) -> None:
    def nothing(name: str) -> str:
        raise importlib.metadata.PackageNotFoundError(name)

    file = tmp_path / "requirements.txt"
    file.write_text("a>=1\nb\n")
    assert bootstrap.missing(file, installed=nothing) == ["a>=1", "b"]


class Shell:
    """Runs nothing: notes the commands, makes a python where a venv is asked for, fails where it is told to."""

    def __init__(self, folder: Path, failing: str = "") -> None:
        self.folder = folder
        self.failing = failing
        self.commands: list[str] = []

    def __call__(self, words: list[str]) -> int:
        command = " ".join(words[1:])
        self.commands.append(command)
        if "-m venv" in command and self.failing != "venv":
            python = Environment(self.folder).python
            python.parent.mkdir(parents=True, exist_ok=True)
            python.touch()
        return int(bool(self.failing) and self.failing in command)


@pytest.fixture
def requirements(tmp_path: Path) -> Path:
    file = tmp_path / "requirements.txt"
    file.write_text("gradio>=6.31,<7\n")
    return file


def test_the_first_run_makes_the_environment_and_installs(tmp_path: Path, requirements: Path) -> None:
    folder = tmp_path / ".venv"
    shell = Shell(folder)
    environment = Environment(folder, run=shell)
    said: list[str] = []
    environment.install(requirements, said.append)
    assert [" ".join(command.split()[:3]) for command in shell.commands] == [
        "-m venv --clear",
        "-c import importlib.util,",
        "-m pip install",
    ]
    assert "--quiet" not in shell.commands[-1], "pip's own progress is visible"
    assert said == [f"Making {folder} ...", "Installing requirements.txt ..."]
    assert environment.ready(requirements)


def test_a_changed_file_is_installed_again_without_a_new_environment(tmp_path: Path, requirements: Path) -> None:
    shell = Shell(tmp_path / ".venv")
    environment = Environment(tmp_path / ".venv", run=shell)
    environment.install(requirements, lambda text: None)
    requirements.write_text("gradio>=6.32,<7\n")
    assert not environment.ready(requirements)
    shell.commands.clear()
    environment.install(requirements, lambda text: None)
    assert not any("venv" in command.split()[1] for command in shell.commands)
    assert environment.ready(requirements)


def test_an_interrupted_installation_is_taken_up_again(tmp_path: Path, requirements: Path) -> None:
    shell = Shell(tmp_path / ".venv", failing="pip install")
    environment = Environment(tmp_path / ".venv", run=shell)
    with pytest.raises(BootstrapError, match="start again"):
        environment.install(requirements, lambda text: None)
    assert not environment.ready(requirements)
    shell.failing = ""
    environment.install(requirements, lambda text: None)
    assert environment.ready(requirements)


def test_a_half_made_environment_is_made_anew(tmp_path: Path, requirements: Path) -> None:
    shell = Shell(tmp_path / ".venv", failing="import importlib")
    environment = Environment(tmp_path / ".venv", run=shell)
    environment.python.parent.mkdir(parents=True)
    environment.python.touch()
    with pytest.raises(BootstrapError, match="python3-venv"):
        environment.install(requirements, lambda text: None)
    assert any("venv --clear" in command for command in shell.commands)


def test_the_two_requirement_files_have_stamps_of_their_own(tmp_path: Path, requirements: Path) -> None:
    shell = Shell(tmp_path / ".venv")
    environment = Environment(tmp_path / ".venv", run=shell)
    environment.install(requirements, lambda text: None)
    dev = tmp_path / "requirements-dev.txt"
    dev.write_text("-r requirements.txt\npytest==9.2.0\n")
    assert not environment.ready(dev)


def test_an_environment_that_has_the_packages_is_used_as_it_is(
    tmp_path: Path, requirements: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bootstrap, "missing", lambda file: [])
    assert bootstrap.ensure(tmp_path, requirements, ["launch.py"]) is None
    assert not (tmp_path / ".venv").exists()


def test_a_space_is_never_given_an_environment_of_ours(
    tmp_path: Path, requirements: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bootstrap, "missing", lambda file: ["gradio>=6.31,<7"])
    said: list[str] = []
    assert bootstrap.ensure(tmp_path, requirements, ["launch.py"], said.append, hosted=True) is None
    assert said == ["This Space lacks gradio>=6.31,<7; it starts nevertheless."]
    assert not (tmp_path / ".venv").exists()


@pytest.mark.parametrize(
    ("arguments", "space", "opened"),
    [((), False, True), (("--no-browser",), False, False), ((), True, False)],
    ids=["by default", "unless it is told not to", "not on a Space"],
)
def test_the_browser_is_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], space: bool, opened: bool
) -> None:
    asked: list[object] = []

    def launched(page: gr.Blocks, **options: object) -> None:
        asked.append(options["inbrowser"])
        raise OSError("It is not really opened.")

    monkeypatch.setattr(bootstrap, "ensure", lambda *_, **__: None)
    monkeypatch.setattr(gr.Blocks, "launch", launched)
    for name in serve.OFFLINE:
        monkeypatch.setenv(name, "")
    monkeypatch.setenv("GRADIO_TEMP_DIR", "")
    if space:
        monkeypatch.setenv("SPACE_ID", "someone/atelier")
        monkeypatch.setattr(tempfile, "mkdtemp", lambda prefix: str(tmp_path))
    assert launch.main(["--data-dir", str(tmp_path / "data"), *arguments]) == 1
    assert asked == [opened]


def test_the_size_of_the_download_is_said_beforehand() -> None:
    assert "3.5 GB" in bootstrap.download_note("Linux", gpu=True)
    assert "0.5 GB" in bootstrap.download_note("Darwin", gpu=False)
    assert "CPU alone" in bootstrap.download_note("Windows", gpu=True)


def test_a_gpu_beside_a_cpu_build_is_told_of() -> None:
    note = bootstrap.gpu_note(Path("/x/python"), which=lambda name: "/usr/bin/nvidia-smi", cuda=False)
    assert bootstrap.INSTALL_PAGE in note
    assert "/x/python -m pip" in note
    assert bootstrap.gpu_note(Path("/x/python"), which=lambda name: None, cuda=False) == ""
    assert bootstrap.gpu_note(Path("/x/python"), which=lambda name: "/usr/bin/nvidia-smi", cuda=True) == ""


@pytest.mark.parametrize(
    ("line", "gpu"),
    [
        ("cuda: Optional[str] = None", False),
        ("cuda: Optional[str] = '13.0'", True),
        ("hip: Optional[str] = '7.0'", True),
    ],
)
def test_the_build_of_torch_is_read_without_importing_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, line: str, gpu: bool
) -> None:
    package = tmp_path / "torch"
    package.mkdir()
    (package / "__init__.py").write_text("raise ImportError('not imported')")
    (package / "version.py").write_text(f"__version__ = '2.13.0'\n{line}\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "torch", raising=False)
    assert bootstrap.torch_has_gpu() is gpu


def test_a_busy_port_gives_way_to_the_next() -> None:
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        busy = holder.getsockname()[1]
        assert busy < serve.free_port("127.0.0.1", busy) <= busy + serve.PORTS_TRIED


def test_a_foreign_address_is_one_sentence(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert serve.serve(serve.Options(host="203.0.113.7", data_dir=tmp_path, open_browser=False)) == 1
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "203.0.113.7" in said


def test_an_unusable_data_folder_is_one_sentence(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    assert serve.serve(serve.Options(data_dir=file, open_browser=False)) == 1
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "--data-dir" in said


def test_a_hub_id_is_not_downloaded_before_the_page_is_up() -> None:
    assert Choice(checkpoint="zai-org/GLM-Image").expected().name == "zai-org/GLM-Image"
    assert Choice(checkpoint="zai-org/GLM-Image").expected().width == 1024


def test_a_folder_says_itself_what_it_is(tmp_path: Path) -> None:
    (tmp_path / "atelier.json").write_text('{"width": 256, "height": 256, "name": "tiny"}')
    assert Choice(checkpoint=str(tmp_path)).expected().name == "tiny"
    # What is wrong with it is said by the page that is up.
    (tmp_path / "atelier.json").write_text("{")
    assert Choice(checkpoint=str(tmp_path)).expected().name == str(tmp_path)
