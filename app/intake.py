"""Where a person's own pictures come in: a slot for one that is chosen, dropped, pasted or dragged from a film strip.

The file goes to Gradio's upload folder and from there through `uploads.take`, unopened by anything else: gr.Image would
open and encode it before our code sees it. The browser then says where it lies, which is believed only of that folder.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from html import escape
from pathlib import Path

from app import uploads
from app.easel import file_url
from app.words import Words
from glmimage.errors import PictureError
from glmimage.pictures import LARGEST_FILE

TOO_LARGE = "too large"
"""The place that a browser names of a file that it did not even send."""


def take(place: str, data_dir: Path) -> Path:
    """Keeps the uploaded picture that a browser says lies at `place`; the upload is deleted. Raises PictureError."""
    with arrived(place) as file:
        return uploads.take(file, data_dir)


@contextmanager
def arrived(place: str) -> Iterator[Path]:
    """The uploaded file that a browser says lies at `place`, as long as it is looked at. Raises PictureError."""
    from gradio.utils import get_upload_folder

    if place == TOO_LARGE:
        raise PictureError(f"The file has more than {LARGEST_FILE / 2**20:.0f} MB; choose a smaller one.")
    path = Path(place)
    folder = Path(get_upload_folder()).resolve()
    # Not the file's own resolve(): a link is no upload.
    if not place or "\0" in place or path.parent.resolve().parent != folder:
        raise PictureError("The file did not arrive; choose it again.")
    try:
        yield path
    finally:
        with suppress(OSError):
            path.unlink(missing_ok=True)
            path.parent.rmdir()


def slot(
    name: str, words: Words, *, said: str, picture: str | Path | None = None, alt: str = "", many: bool = False
) -> str:
    """The markup: a picture and a way to another, or the invitation `said`. What comes in is told as the act
    "file.<name>", with a place for `take`, or "drag.<name>", with a key of the history; "clear.<name>" empties it."""
    several = " multiple" if many else ""
    choose = escape(words("intake.other" if picture else "intake.choose"))
    chooser = (
        f'<label class="choose"><input type="file" accept="image/*" data-slot="{name}"{several}'
        f' aria-label="{escape(said)}"><span>{choose}</span></label>'
    )
    if picture is None:
        inside = f"<p>{escape(said)}</p>{chooser}<p class='how'>{escape(words('intake.how'))}</p>"
        return f'<div class="slot is-empty" data-take="{name}">{inside}</div>'
    clear = (
        f'<button type="button" data-act="clear.{name}" aria-label="{escape(words("intake.clear.label", name=said))}">'
        f"{escape(words('intake.clear'))}</button>"
    )
    shown = f'<img src="{file_url(Path(picture))}" alt="{escape(alt or said)}">'
    return (
        f'<div class="slot" data-take="{name}">{shown}'
        f'<div class="aside"><p>{escape(said)}</p><div class="acts">{chooser}{clear}</div></div></div>'
    )
