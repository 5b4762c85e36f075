"""Untrusted picture files: what one is, how large it unfolds and which way it lies, before anything computes with it.

Nothing is unfolded before its size is known: the sides are read from the head of the file, and Pillow refuses text and
colour profiles that unfold beyond its own limits. Knows no models; imports Pillow only where a file is at hand.
"""

from __future__ import annotations

import io
import os
import stat
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

from glmimage.errors import PictureError
from glmimage.geometry import LARGEST_ASPECT

if TYPE_CHECKING:
    from PIL.Image import Image

FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF", "AVIF")
LARGEST_FILE = 200 * 2**20
LARGEST_PICTURE = 100_000_000
"""Pixels; an RGB picture of that size takes 300 MB."""
SMALLEST_SIDE = 16
LONGEST_NAME = 80


def read_file(path: Path, *, follow: bool = True) -> bytes:
    """The bytes of a regular file; `follow=False` refuses a symbolic link at its end. Raises PictureError."""
    name = printable(path.name)
    try:
        # A pipe would wait for a writer; without O_NONBLOCK that is already so on opening it.
        flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
        file = os.open(path, flags if follow else flags | getattr(os, "O_NOFOLLOW", 0))
        with os.fdopen(file, "rb") as opened:
            # A device would never end.
            if not stat.S_ISREG(os.fstat(file).st_mode):
                raise PictureError(f"The picture {name} is not a file; choose a picture.")
            data = opened.read(LARGEST_FILE + 1)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise PictureError(f"The picture {name} cannot be opened ({reason}); choose another file.") from None
    if len(data) > LARGEST_FILE:
        raise PictureError(f"The picture {name} has more than {LARGEST_FILE / 2**20:.0f} MB; save it smaller.")
    return data


def printable(path: Path | str) -> str:
    """A file's name as it may stand in a sentence: one line, no control characters, not endless."""
    name = "".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in str(path))
    return name if len(name) <= LONGEST_NAME else f"…{name[-LONGEST_NAME:]}"


def read_picture(data: bytes, name: str = "picture", ground: str = "white") -> Image:
    """An upright sRGB picture from an untrusted file's bytes; transparency on `ground`; an animation's first frame.

    It carries nothing but its pixels: a colour profile is followed where it holds, and gone.
    Raises PictureError for what is no picture, is damaged, has too few or too many pixels or is longer than 4:1.
    """
    from PIL import Image, ImageOps, UnidentifiedImageError

    name = printable(name)
    if not data:
        raise PictureError(f"The file {name} is empty and no picture; choose another.")
    try:
        with warnings.catch_warnings():
            # Pillow warns from half of its own limit on; ours is checked below.
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            picture = Image.open(io.BytesIO(data), formats=FORMATS)
        _check_sides(*picture.size, name)
        picture.load()
        return _flatten(ImageOps.exif_transpose(picture), ground)
    except PictureError:
        raise
    except Image.DecompressionBombError:
        raise PictureError(
            f"The picture {name} has more than {LARGEST_PICTURE // 10**6} million pixels; save it smaller."
        ) from None
    except UnidentifiedImageError:
        kinds = ", ".join(FORMATS)
        raise PictureError(f"The file {name} is no picture that can be read; use one of {kinds}.") from None
    # Pillow's decoders raise what they like on damaged data: OSError, SyntaxError, ValueError, struct.error ...
    except Exception as error:
        reason = printable(str(error))
        raise PictureError(f"The picture {name} is damaged ({reason}); save it again or choose another.") from None


def _check_sides(width: int, height: int, name: str) -> None:
    if width * height > LARGEST_PICTURE:
        raise PictureError(
            f"The picture {name} has {width}x{height} pixels, more than {LARGEST_PICTURE // 10**6} million;"
            " save it smaller."
        )
    if min(width, height) < SMALLEST_SIDE:
        raise PictureError(
            f"The picture {name} has {width}x{height} pixels; choose one of at least {SMALLEST_SIDE} a side."
        )
    if max(width, height) > LARGEST_ASPECT * min(width, height):
        raise PictureError(
            f"The picture {name} has {width}x{height} pixels, longer than {LARGEST_ASPECT}:1; crop it first."
        )


def _flatten(picture: Image, ground: str) -> Image:
    """RGB, with transparency on `ground` and 16-bit grey scaled to 8 bits instead of clipped."""
    from PIL import Image

    profile = picture.info.get("icc_profile")
    if picture.mode.startswith("I") or picture.mode == "F":
        low, high = (0, 65535) if picture.mode.startswith("I") else (0, 1)
        picture = picture.convert("F").point(lambda value: (value - low) * (255 / (high - low))).convert("L")
    if picture.has_transparency_data:
        picture = picture.convert("RGBA")
        picture = Image.alpha_composite(Image.new("RGBA", picture.size, ground), picture)
    if picture.mode not in ("RGB", "L", "CMYK"):
        picture = picture.convert("RGB")
    if profile:
        picture = _in_srgb(picture, profile)
    picture = picture.convert("RGB")
    # Pillow writes into a file what it finds here.
    picture.info.clear()
    return picture


def _in_srgb(picture: Image, profile: bytes) -> Image:
    """The same colours without their profile; unchanged where that is damaged or of another kind of picture."""
    from PIL import ImageCms

    try:
        own = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        seen = ImageCms.profileToProfile(picture, own, ImageCms.createProfile("sRGB"), outputMode="RGB")
    except (ImageCms.PyCMSError, OSError):
        return picture
    # None is for changes in place.
    return seen or picture
