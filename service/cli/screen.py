"""The live screen: keys, a view that is loaded in the background, and what is done in the terminal."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from service.cli.keyboard import DOWN, ENDED, ENTER, UP, Keyboard
from service.cli.screen_views import LogView, SearchView, Shared, UsageView, View, sentence_of
from service.monitoring.tables import moment

Task = Callable[[], None]
"""Something that needs the terminal for itself."""

_LOOK_S = 0.2
_REDRAW_S = 1.0
_CHROME_LINES = 4
_NEXT_DAYS = {1: 7, 7: 30, 30: 1}


@dataclass
class _Loading:
    """One load of a view: its result or its sentence, once it is there."""

    view: View
    begun: float = field(default_factory=time.monotonic)
    done: bool = False
    result: Any = None
    sentence: str | None = None

    def run(self) -> None:
        try:
            self.result = self.view.load()
        except Exception as error:
            self.sentence = sentence_of(error)
        self.done = True


class Screen:
    """`views` by their keys; `tasks` by keys too, each with the view that it belongs to."""

    def __init__(
        self,
        console: Console,
        shared: Shared,
        views: Mapping[str, View],
        tasks: Mapping[str, tuple[str, Task]],
    ) -> None:
        self._console = console
        self._shared = shared
        self._views = views
        self._tasks = tasks
        self._view = next(iter(views.values()))
        self._loading: _Loading | None = None
        self._shown: _Loading | None = None
        self._stale = True

    def run(self) -> None:
        """Until q or Ctrl-C."""
        with suppress(KeyboardInterrupt):
            while (task := self._until_a_task()) is not None:
                with suppress(EOFError):
                    task()
                self._stale = True

    def _until_a_task(self) -> Task | None:
        with (
            Keyboard() as keyboard,
            Live(console=self._console, screen=True, auto_refresh=False) as live,
        ):
            drawn = 0.0
            key: str | None = None
            while True:
                if self._load() or key is not None or time.monotonic() - drawn >= _REDRAW_S:
                    drawn = time.monotonic()
                    live.update(self._frame(), refresh=True)
                key = keyboard.read(_LOOK_S)
                if key in ("q", ENDED):
                    return None
                if key is not None and key in self._tasks:
                    view, task = self._tasks[key]
                    self._go(view)
                    return task
                if key is not None:
                    self._press(key)

    def _press(self, key: str) -> None:
        view = self._view
        if key in self._views:
            self._go(key)
        elif key in (UP, DOWN):
            self._shared.move(1 if key == DOWN else -1)
            self._stale = view.title == "client"
        elif key == ENTER and view.title == "clients":
            self._go("2")
        elif key == "c" and isinstance(view, LogView):
            view.only_selected = not view.only_selected
            self._stale = True
        elif key == "d" and isinstance(view, UsageView):
            view.days = _NEXT_DAYS[view.days]
            self._stale = True

    def _go(self, key: str) -> None:
        self._view = self._views[key]
        self._shown = None
        self._stale = True

    def _load(self) -> bool:
        """Begin the next load when it is time; whether one has brought something to show."""
        arrived = False
        loading = self._loading
        if loading is not None:
            if not loading.done:
                return False
            self._loading = None
            arrived = loading.view is self._view
            if arrived:
                self._shown = loading
        every_s, shown = self._view.every_s, self._shown
        is_old = (
            shown is not None and every_s is not None and time.monotonic() - shown.begun >= every_s
        )
        if self._stale or is_old:
            self._stale = False
            self._loading = _Loading(self._view)
            # A store that hangs must hold up neither the keys nor the end.
            threading.Thread(target=self._loading.run, daemon=True).start()
        return arrived

    def _frame(self) -> Group:
        height = self._console.size.height - _CHROME_LINES
        shown = self._shown
        if shown is None:
            body: Any = Text("…")
        elif shown.sentence is not None:
            body = Text(shown.sentence, style="bold red")
        else:
            body = self._view.show(shown.result, height)
        zone = self._shared.container.report.zone
        from service.conversation.clock import utc_now

        head = Text(f"{moment(utc_now(), zone)} {zone.key}   ", style="dim")
        for key, view in self._views.items():
            style = "reverse bold" if view is self._view else ""
            head.append(f" {key} {view.title} ", style=style)
        foot = Text(f"{self._view.keys}   q ends".strip(), style="dim")
        return Group(head, foot, Text(), body)


def ask_for_words(view: SearchView) -> Task:
    """Ask at the terminal what to look for."""

    def ask() -> None:
        view.words = input("Look for: ").strip()

    return ask
