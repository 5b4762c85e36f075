"""Whose pictures are whose: one history for a studio at home, one for each visitor where strangers meet.

A visitor is told by an id that the browser made and keeps; its folder has a name that only that id leads to. Rooms of
visitors lie in a temporary folder and are cleared when many newer ones have come. Knows no page.
"""

from __future__ import annotations

import hashlib
import shutil
import threading
from collections import OrderedDict
from pathlib import Path

from app.history import History

MOST_ROOMS = 50
"""Visitors whose pictures are kept."""


class Visitors:
    """`rooms` None: everybody sees `history`. `shown` has the folders whose files the page may send to a browser."""

    def __init__(self, history: History, rooms: Path | None = None, *, hosted: bool = False) -> None:
        self.shared = history
        self.rooms = rooms
        self.hosted = hosted or rooms is not None
        """Whether those who look are guests, who may not change the studio itself."""
        self.shown: list[str] = [] if self.private else history.storage.shown
        self._lock = threading.Lock()
        self._open: OrderedDict[str, History] = OrderedDict()

    @property
    def private(self) -> bool:
        return self.rooms is not None

    def name(self, owner: str) -> str:
        """What a job carries of the visitor: nothing where it makes no difference."""
        return hashlib.sha256(owner.encode()).hexdigest()[:32] if self.private else ""

    def history(self, name: str) -> History:
        """The pictures under a `name`; the visitor that was not seen for longest leaves."""
        if self.rooms is None:
            return self.shared
        with self._lock:
            if name not in self._open:
                self._open[name] = History(self.rooms / name)
                self.shown += self._open[name].storage.shown
            self._open.move_to_end(name)
            while len(self._open) > MOST_ROOMS:
                gone, history = self._open.popitem(last=False)
                for folder in history.storage.shown:
                    self.shown.remove(folder)
                history.close()
                shutil.rmtree(self.rooms / gone, ignore_errors=True)
            return self._open[name]

    def close(self) -> None:
        """Ends all histories; what lies in rooms is deleted."""
        self.shared.close()
        with self._lock:
            for history in self._open.values():
                history.close()
            self._open.clear()
        if self.rooms is not None:
            shutil.rmtree(self.rooms, ignore_errors=True)
