"""The System tab's markup: the machine, how the model fits it, what was done lately, what lies on the disk.

Knows no widget.
"""

from __future__ import annotations

import platform
import time
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from importlib import metadata

from app.caches import CLEARED
from app.jobs import Job, Snapshot
from app.words import Words
from glmimage.errors import Stopped
from glmimage.hub import bytes_text
from glmimage.memory import STAGES, Need, Plan, duration, gib, where
from glmimage.system import System, Use

PACKAGES = ("torch", "transformers", "diffusers", "gradio", "bitsandbytes", "accelerate", "rapidocr")
_SHARES = ("context", "weights", "caches", "working")


def machine(system: System | None, words: Words) -> str:
    """What it computes on, and the memory as it is now."""
    if system is None:
        return _part(words("system.machine"), f'<p class="how">{escape(words("system.plan.none"))}</p>')
    machine, use = system.machine, system.use
    speeds = words("system.measured" if machine.measured else "system.tabulated")
    threads = [words("system.threads", count=machine.threads)] if machine.threads else []
    kind = " · ".join([machine.kind, machine.dtype, *threads, speeds])
    facts = [(words("system.kind"), f"{words.said(machine.name)} · {kind}"), *_memory(use, words)]
    return _part(words("system.machine"), _facts(facts))


def plan(system: System | None, words: Words) -> str:
    """What was picked and why, the peak of every stage, where the parts are, what was not taken."""
    title = words("system.plan")
    if system is None:
        return _part(title, f'<p class="how">{escape(words("system.plan.none"))}</p>')
    plan = system.plan
    said = "".join(f"<p>{escape(words.said(sentence))}</p>" for sentence in system.sentences)
    total = max(plan.machine.device_memory, max(need.peak for need in plan.stages))
    size = f"{plan.job.size.width} × {plan.job.size.height}"
    over = words("system.plan.for", count=plan.job.count, size=size, total=gib(plan.machine.device_memory))
    rows = "".join(_stage(need, total, words) for need in plan.stages)
    key = "".join(f'<span class="is-{name}"><i></i>{escape(words(f"system.{name}"))}</span>' for name in _SHARES)
    stages = f'<h3>{escape(over)}</h3><div class="key">{key}</div><ol class="peaks">{rows}</ol>'
    return _part(title, f'<div class="said">{said}</div>{stages}{_placements(plan, words)}{_rejected(plan, words)}')


def jobs(snapshot: Snapshot, words: Words) -> str:
    """Newest first, one line each; what went wrong beneath."""
    rows = "".join(_job(job, words) for job in snapshot.ended)
    if not rows:
        rows = f'<li class="how">{escape(words("system.jobs.none"))}</li>'
    return _part(words("system.jobs"), f'<ol class="jobs">{rows}</ol>')


def stored(sizes: Mapping[str, int], words: Words, *, clearing: bool) -> str:
    """`clearing`: whether who looks may clear anything."""
    rows = ""
    for name, size in sizes.items():
        what = words(f"system.stored.{name}")
        button = ""
        if clearing and name in CLEARED and size:
            said = escape(words("system.clear.label", what=what))
            button = (
                f'<button type="button" data-act="clear" data-key="{name}" aria-label="{said}">'
                f"{escape(words('system.clear'))}</button>"
            )
        rows += f"<li><span>{escape(what)}</span><b>{bytes_text(size)}</b>{button}</li>"
    how = f'<p class="how">{escape(words("system.clear.how"))}</p>' if clearing else ""
    return _part(words("system.stored"), f'<ol class="stored">{rows}</ol>{how}')


def versions(words: Words) -> str:
    found = [("Python", platform.python_version())]
    for name in PACKAGES:
        try:
            found.append((name, metadata.version(name)))
        except metadata.PackageNotFoundError:
            continue
    said = " · ".join(f"{name} {version}" for name, version in found)
    return _part(words("system.versions"), f'<p class="how">{escape(said)}</p>')


def how(words: Words) -> str:
    """What becomes of jobs where another model is loaded."""
    return f'<p class="how">{escape(words("system.load.how"))}</p>'


def refusal(snapshot: Snapshot, words: Words) -> str:
    """Why the last choice could not be had; "" where it could."""
    if snapshot.refusal == str(Stopped()):
        return words("system.halted", name=snapshot.defaults.name)
    if snapshot.readiness == "failed":
        return snapshot.message
    if not snapshot.refusal:
        return ""
    return words("system.refused", name=snapshot.defaults.name, reason=words.said(snapshot.refusal))


def _part(title: str, html: str) -> str:
    return f'<section class="system-part"><h2>{escape(title)}</h2>{html}</section>'


def _facts(facts: Iterable[tuple[str, str]]) -> str:
    return "<dl>" + "".join(f"<dt>{escape(name)}</dt><dd>{escape(text)}</dd>" for name, text in facts) + "</dl>"


def _memory(use: Use, words: Words) -> list[tuple[str, str]]:
    host = words("system.free", free=gib(use.host_free), total=gib(use.host_total))
    facts = [(words("system.host"), host), (words("system.held"), gib(use.process))]
    if use.device_free is not None and use.device_total is not None:
        device = words("system.free", free=gib(use.device_free), total=gib(use.device_total))
        facts.insert(0, (words("system.device"), device))
    if use.device_held is not None:
        facts[-1] = (facts[-1][0], f"{gib(use.process)} + {gib(use.device_held)}")
    return facts


def _stage(need: Need, total: int, words: Words) -> str:
    parts = (need.context, need.weights, need.cache, need.work)
    bars = "".join(
        f'<i class="is-{name}" style="width:{100 * part / total:.2f}%"></i>'
        for name, part in zip(_SHARES, parts, strict=True)
    )
    return (
        f'<li><span class="stage">{escape(words.said(STAGES[need.stage]))}</span>'
        f'<span class="bar" aria-hidden="true">{bars}</span>'
        f"<b>{gib(need.peak)}</b><small>{words.said(duration(need.seconds))}</small></li>"
    )


def _placements(plan: Plan, words: Words) -> str:
    head = [words(f"system.{name}") for name in ("part", "format", "size", "place")]
    rows = [(words.said(one.component), one.format, gib(one.bytes), words.said(where(one))) for one in plan.placements]
    return _folded(words("system.parts"), _table(head, rows))


def _rejected(plan: Plan, words: Words) -> str:
    if not plan.alternatives:
        return ""
    head = [words(f"system.{name}") for name in ("what", "peak", "time", "why")]
    rows = [
        (
            words.said(one.what),
            gib(one.peak),
            "–" if one.seconds is None else words.said(duration(one.seconds)),
            words.said(one.reason),
        )
        for one in plan.alternatives
    ]
    return _folded(words("system.rejected"), _table(head, rows))


def _folded(title: str, html: str) -> str:
    return f"<details><summary>{escape(title)}</summary>{html}</details>"


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    first = "".join(f'<th scope="col">{escape(name)}</th>' for name in head)
    rest = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    return f'<div class="table"><table><thead><tr>{first}</tr></thead><tbody>{rest}</tbody></table></div>'


def _job(job: Job, words: Words) -> str:
    made = "system.job.sketches" if job.sketching else "system.job.pictures"
    count = words(made, count=len(job.sketches) if job.sketching else len(job.pictures))
    when = time.strftime("%H:%M", time.localtime(job.ended))
    error = f'<p class="error">{escape(words.said(job.error))}</p>' if job.error else ""
    return (
        f'<li><span class="when">{when}</span><span class="state is-{job.state}">'
        f"{escape(words(f'system.job.{job.state}'))}</span>"
        f'<span class="what">{escape(words(f"tab.{job.tab}"))} · {escape(job.request.prompt)}</span>'
        f"<small>{escape(count)} · {words.said(duration(job.seconds))}</small>{error}</li>"
    )
