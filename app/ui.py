"""The page: its head, the watch on the worker, and the tabs."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Sequence
from typing import cast

import gradio as gr

from app import easel
from app.presets import Example, Sizes
from app.run import Worker
from app.tabs.text_to_image import TextToImage

TITLE = "GLM-Image Atelier"
LONGEST_WAIT = 20.0
"""Seconds after which a quiet watch is renewed; proxies cut longer ones."""

WATCH = """
let seen = '';
const rest = (ms) => new Promise((done) => setTimeout(done, ms));
(async () => {
  for (;;) {
    try {
      const now = await server.changed(seen);
      if (typeof now !== 'string') throw new Error('no answer');
      document.body.classList.remove('is-offline');
      if (seen && now.split('.')[0] !== seen.split('.')[0]) { location.reload(); return; }
      if (now !== seen) { seen = now; trigger('news'); }
      await rest(180);
    } catch (error) {
      document.body.classList.add('is-offline');
      await rest(2000);
    }
  }
})();
"""
"""Waits for the worker's next change and says 'news'. A studio that was started anew has another first half: reload."""


def build(worker: Worker, sizes: Sizes, examples: Sequence[Example]) -> gr.Blocks:
    """The whole page for one worker."""
    start = secrets.token_hex(4)

    async def changed(seen: str) -> str:
        """Answers when the worker is no longer at `seen`, at the latest after LONGEST_WAIT; holds no thread."""
        patience = time.monotonic() + LONGEST_WAIT
        while seen == f"{start}.{worker.version}" and time.monotonic() < patience:
            await asyncio.sleep(0.05)
        return f"{start}.{worker.version}"

    with gr.Blocks(title=TITLE, analytics_enabled=False, fill_width=True) as page:
        with gr.Row(elem_id="top"):
            gr.HTML('<h1 class="name">Atelier<span>GLM-Image</span></h1>', apply_default_css=False, elem_id="name")
            news = gr.HTML(
                easel.status(worker.snapshot()),
                js_on_load=WATCH,
                server_functions=[changed],
                apply_default_css=False,
                elem_id="status",
            )
        TextToImage(worker, sizes, examples, news).load(cast(gr.Blocks, page))
    return cast(gr.Blocks, page)
