"""DESIGN's order of imports, read from the sources: a file imports only from lines above it."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
ENGINE = (
    "errors",
    "geometry",
    "request",
    "events",
    "files",
    "heap",
    "pictures",
    "metadata",
    "prompting",
    "tasks",
    "hub",
    "download",
    "checkpoint",
    "quantize",
    "weights",
    "machines",
    "footprint",
    "memory",
    "fitting",
    "models",
    "adapters",
    "convert",
    "residency",
    "flow",
    "latents",
    "linears",
    "glyphs",
    "shelf",
    "references",
    "source",
    "prior",
    "regions",
    "decoder",
    "preview",
    "proofread",
    "workshop",
    "system",
    "stages",
    "engine",
    "arguments",
    "__main__",
)
"""Top to bottom. files (whole or not at all), heap, pictures (untrusted ones) and metadata (settings in them) know no
models; linears is a kernel that two stages share; weights (bytes), machines (speeds) and footprint (activations) are
what the planner adds up; fitting asks it for this machine, workshop loads and arranges as it says."""
PLANNER = ("weights", "machines", "footprint", "memory", "fitting")
LIGHT = (
    "glmimage",
    *(f"glmimage.{name}" for name in (*ENGINE[:10], "hub", "download", "checkpoint", "quantize", *PLANNER)),
)
HEAVY = ("torch", "transformers", "diffusers", "gradio", "PIL", "numpy", "huggingface_hub", "tokenizers")


def imports(path: Path) -> set[str]:
    """Absolute names of everything that the file imports, also inside functions; not for type checking alone."""
    names: set[str] = set()
    todo: list[ast.AST] = [ast.parse(path.read_text(encoding="utf-8"))]
    while todo:
        node = todo.pop()
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            todo += node.orelse
            continue
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute"
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
        todo += ast.iter_child_nodes(node)
    return names


def sources(folder: str) -> list[Path]:
    return sorted((ROOT / folder).rglob("*.py"))


def test_every_engine_file_has_a_place_in_the_order() -> None:
    files = {path.stem for path in (ROOT / "glmimage").glob("*.py")} - {"__init__"}
    assert files <= set(ENGINE), f"give {sorted(files - set(ENGINE))} a place in the order"


@pytest.mark.parametrize("path", sorted((ROOT / "glmimage").glob("*.py")), ids=lambda path: path.stem)
def test_engine_files_import_from_above(path: Path) -> None:
    place = ENGINE.index(path.stem) if path.stem in ENGINE else 0
    for name in imports(path):
        parts = name.split(".")
        if parts[0] != "glmimage" or len(parts) == 1:
            continue
        # `from glmimage import latents` names a module, `from glmimage.latents import encode` a thing in it.
        module = parts[1]
        assert module in ENGINE, f"{path.name} imports {name}"
        assert ENGINE.index(module) < place, f"{path.name} imports {module}, which stands below it"


@pytest.mark.parametrize("path", [*sources("glmimage"), *sources("app")], ids=lambda path: str(path.relative_to(ROOT)))
def test_borders(path: Path) -> None:
    inside = path.relative_to(ROOT).parts
    names = imports(path)
    if inside[0] == "glmimage":
        wrong = [name for name in names if name.split(".")[0] in ("gradio", "app", "tests", "launch")]
        assert not wrong, f"{path.name} imports {wrong}"
    if inside[:2] != ("glmimage", "train"):
        wrong = [name for name in names if name.startswith("glmimage.train")]
        assert not wrong, f"{path.name} imports {wrong}"


def test_train_imports_no_page() -> None:
    for path in sources("glmimage/train"):
        assert not [name for name in imports(path) if name.split(".")[0] in ("gradio", "app")]


def test_light_modules_import_nothing_heavy() -> None:
    code = (
        "import sys\n"
        f"for name in {LIGHT!r}: __import__(name)\n"
        f"print([name for name in {HEAVY!r} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
