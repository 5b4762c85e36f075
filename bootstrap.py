"""Makes and repairs the environment that the studio runs in.

Standard library alone, and nothing of the studio: it has to run before anything is installed. It knows a requirements
file, a folder for the environment and the command to start again inside it. A stamp with the hash of the requirements
is written when an installation has finished, so a later start costs nothing and an interrupted one is taken up again.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import importlib.util
import os
import platform
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Callable, Dict, List, Optional, Sequence, Tuple

OLDEST, NEWEST = (3, 11), (3, 13)
STAMP = ".requirements"
INSTALL_PAGE = "https://pytorch.org/get-started/locally/"
_HAS_PIP = "import importlib.util, sys; sys.exit(importlib.util.find_spec('pip') is None)"
_LINE = re.compile(r"([A-Za-z0-9._-]+)\s*((?:[<>=!~]=?\s*[0-9][^,;\s]*\s*,?\s*)*)$")
_BOUND = re.compile(r"(==|>=|<=|<|>)\s*([0-9.]+)")


class BootstrapError(Exception):
    """The environment cannot be made; the message is one sentence with the remedy."""


def check_python(version: Tuple[int, ...], which: Callable[[str], Optional[str]] = shutil.which) -> None:
    """Raises BootstrapError for a Python that the packages do not support."""
    if OLDEST <= tuple(version[:2]) <= NEWEST:
        return
    names = ["python3.%d" % minor for minor in range(NEWEST[1], OLDEST[1] - 1, -1)]
    other = next((name for name in names if which(name)), None)
    remedy = "run it as '%s launch.py'" % other if other else "install one of them and run launch.py with it"
    raise BootstrapError(
        "This is Python %d.%d, and the studio needs Python 3.11, 3.12 or 3.13; %s." % (version[0], version[1], remedy)
    )


def requirement_lines(file: Path) -> List[str]:
    """The requirements of a file and of the files it includes with -r."""
    lines: List[str] = []
    for raw in file.read_text(encoding="utf-8").splitlines():
        line = raw.split("#")[0].strip()
        if line.startswith("-r "):
            lines += requirement_lines(file.parent / line[3:].strip())
        elif line:
            lines.append(line)
    return lines


def fingerprint(file: Path) -> str:
    pins = constraints(file)
    lines = requirement_lines(file) + (requirement_lines(pins) if pins else [])
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def constraints(file: Path) -> Optional[Path]:
    """The file beside the requirements that pins what they leave open, where there is one."""
    pins = file.parent / "constraints.txt"
    return pins if pins.is_file() else None


def _numbers(version: str) -> Tuple[int, ...]:
    found = re.match(r"\d+(\.\d+)*", version)
    numbers = [int(part) for part in found.group().split(".")] if found else [0]
    while len(numbers) > 1 and numbers[-1] == 0:
        numbers.pop()
    return tuple(numbers)


def missing(file: Path, installed: Callable[[str], str] = importlib.metadata.version) -> List[str]:
    """The requirements that this interpreter does not meet."""
    unmet = []
    for line in requirement_lines(file):
        match = _LINE.match(line)
        assert match, "requirements are plain 'name>=a,<b' lines, not %r" % line
        try:
            have = _numbers(installed(match.group(1)))
        except importlib.metadata.PackageNotFoundError:
            unmet.append(line)
            continue
        compare: Dict[str, Callable[[Tuple[int, ...]], bool]] = {
            "==": lambda wanted: have == wanted,  # noqa: B023 (called within this turn of the loop)
            ">=": lambda wanted: have >= wanted,  # noqa: B023
            "<=": lambda wanted: have <= wanted,  # noqa: B023
            "<": lambda wanted: have < wanted,  # noqa: B023
            ">": lambda wanted: have > wanted,  # noqa: B023
        }
        if not all(compare[sign](_numbers(number)) for sign, number in _BOUND.findall(match.group(2))):
            unmet.append(line)
    return unmet


def download_note(system: str, gpu: bool) -> str:
    """What the first installation will fetch, said before it starts."""
    if system == "Linux":
        size = "0.4 GB where pip offers PyTorch's CPU build, about 3.5 GB where it offers the CUDA build (PyPI does)"
    else:
        size = "about 0.5 GB"
    note = "The first start installs the packages of the studio into .venv: %s." % size
    if gpu and system == "Windows":
        note += " PyPI's PyTorch for Windows runs on the CPU alone; how to use the GPU is said afterwards."
    return note


def gpu_note(python: Path, which: Callable[[str], Optional[str]], cuda: Optional[bool]) -> str:
    """What to do about a GPU beside a PyTorch that cannot use it; empty where all is well or unknown."""
    if cuda is not False or which("nvidia-smi") is None:
        return ""
    return (
        "An NVIDIA GPU was found, but the installed PyTorch is a build for the CPU alone. To use the GPU, choose pip"
        " and your CUDA version on %s and run the line it gives with '%s -m pip' in place of 'pip' (torch==2.13.0, with"
        " --force-reinstall)." % (INSTALL_PAGE, python)
    )


def torch_has_gpu() -> Optional[bool]:
    """Whether the installed torch is a build for a GPU, read from its version file: importing it takes seconds."""
    spec = importlib.util.find_spec("torch")
    if spec is None or spec.origin is None:
        return None
    try:
        text = (Path(spec.origin).parent / "version.py").read_text(encoding="utf-8")
    except OSError:
        return None
    return re.search(r"^(cuda|hip|xpu)\b[^=\n]*=\s*['\"]", text, re.MULTILINE) is not None


class Environment:
    """The folder `.venv` beside the program and what is installed in it."""

    def __init__(self, folder: Path, *, run: Callable[[List[str]], int] = subprocess.call) -> None:
        self.folder = folder
        self.python = folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
        self._run = run

    @property
    def entered(self) -> bool:
        return Path(sys.prefix).resolve() == self.folder.resolve()

    def ready(self, file: Path) -> bool:
        """Whether an installation from this very file has finished here."""
        stamp = self._stamp(file)
        return self.python.exists() and stamp.is_file() and stamp.read_text(encoding="utf-8") == fingerprint(file)

    def install(self, file: Path, say: Callable[[str], None] = print) -> None:
        """Makes or repairs the folder and installs the file into it, with pip's own progress. Raises BootstrapError."""
        if not self._usable():
            say("Making %s ..." % self.folder)
            if self._run([sys.executable, "-m", "venv", "--clear", str(self.folder)]) != 0 or not self._usable():
                raise BootstrapError(
                    "The environment %s cannot be made; on Debian and Ubuntu install the package python3-venv first,"
                    " elsewhere see the lines above." % self.folder
                )
        say("Installing %s ..." % file.name)
        pip = [str(self.python), "-m", "pip", "install", "--disable-pip-version-check", "-r", str(file)]
        pins = constraints(file)
        pip += ["-c", str(pins)] if pins else []
        if self._run(pip) != 0:
            raise BootstrapError(
                "The installation did not finish (see pip's lines above); start again to go on where it stopped."
            )
        self._stamp(file).write_text(fingerprint(file), encoding="utf-8")

    def enter(self, command: Sequence[str]) -> int:
        """Starts again inside; on POSIX it does not come back."""
        words = [str(self.python), *command]
        if os.name != "nt":  # there execv returns the prompt at once, while the program still runs
            os.execv(words[0], words)
        return self._run(words)

    def _usable(self) -> bool:
        """An interrupted creation leaves a folder without pip, a removed Python leaves a dead link."""
        return self.python.exists() and self._run([str(self.python), "-c", _HAS_PIP]) == 0

    def _stamp(self, file: Path) -> Path:
        return self.folder / (STAMP + "-" + file.stem)


def ensure(
    root: Path, file: Path, command: Sequence[str], say: Callable[[str], None] = print, *, hosted: bool = False
) -> Optional[int]:
    """Sees to it that the requirements are met. None: go on in this interpreter. A number: exit with it.

    An environment that has the packages already (a container) is used as it is; so is that of a Space (`hosted`), which
    installs them itself and has some of its own, whatever is said to be missing.
    """
    check_python(sys.version_info[:3])
    if hosted:
        unmet = missing(file)
        if unmet:
            say("This Space lacks %s; it starts nevertheless." % ", ".join(unmet))
        return None
    environment = Environment(root / ".venv")
    if not environment.entered and not missing(file):
        return None
    if not environment.ready(file):
        if not environment.python.exists():
            say(download_note(platform.system(), shutil.which("nvidia-smi") is not None))
        environment.install(file, say)
    if not environment.entered:
        return environment.enter(command)
    importlib.invalidate_caches()
    return None
