"""`python -m glmimage.train STAGE`: one stage of the recipe, resumable; or `export`, `evaluate`, `world`."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from glmimage.errors import GLMImageError
from glmimage.quantize import hush

if TYPE_CHECKING:
    from glmimage.train.release import Parts

STAGES = ("vae", "tokenizer", "scenes", "prior", "decoder")


def parser() -> argparse.ArgumentParser:
    import platformdirs

    work = Path(platformdirs.user_cache_dir("glm-image-atelier")) / "train"
    root = argparse.ArgumentParser(prog="python -m glmimage.train", description=__doc__)
    root.add_argument("--work", type=Path, default=work, help=f"where runs are kept (default {work})")
    root.add_argument("--threads", type=int, default=0, help="threads of PyTorch (default: all cores)")
    root.add_argument("--start", type=Path, help="train on from this checkpoint where a stage has no run of its own")
    commands = root.add_subparsers(dest="command", required=True)
    for stage in STAGES:
        command = commands.add_parser(stage, help=f"train the stage {stage} (goes on where it was)")
        if stage == "scenes":
            command.add_argument("--kind", default="both", choices=("latents", "codes", "both"))
            command.add_argument(
                "--shards", default="", help="which shards of 1024 scenes, as first:last (default: all)"
            )
        else:
            command.add_argument("--steps", type=int, help="length of the run, in place of the recipe's")
            command.add_argument("--batch", type=int, help="pictures a step, in place of the recipe's")
        if stage in ("prior", "decoder"):
            command.add_argument("--eager", action="store_true", help="without torch.compile")
    export = commands.add_parser("export", help="write the trained checkpoint in the released layout")
    export.add_argument("--output", type=Path, default=Path("assets/miniature"))
    world = commands.add_parser("world", help="paint a sheet of what is learned from, with prompts")
    world.add_argument("--show", type=Path, required=True, metavar="SHEET.png")
    world.add_argument("--split", default="train", choices=("train", "evaluate"))
    world.add_argument("--level", type=int, default=2, choices=(1, 2), help="1: what the shipped weights learned from")
    world.add_argument("--task", help="only this one: text, regions, replace, remove, ...")
    world.add_argument("--language", help="only this one: en or zh")
    world.add_argument("--count", type=int, default=24)
    evaluate = commands.add_parser("evaluate", help="scores on prompts that training never saw")
    evaluate.add_argument("--checkpoint", default="miniature")
    evaluate.add_argument("--cases", type=int, default=100)
    evaluate.add_argument("--json", action="store_true", help="print one JSON object and nothing else")
    evaluate.add_argument("--sheet", type=Path, help="also store a sheet of the pictures")
    return root


def main(argv: Sequence[str] | None = None) -> int:
    arguments = parser().parse_args(argv)
    hush()
    try:
        return run(arguments)
    except GLMImageError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("Stopped; the same command goes on from the last stored state.", file=sys.stderr)
        return 130


def run(arguments: argparse.Namespace) -> int:
    import torch

    from glmimage.train.art import load_art

    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    work: Path = arguments.work
    if arguments.command == "world":
        from glmimage.train.sheet import world_sheet
        from glmimage.train.world import WORLDS

        world_sheet(
            load_art(work),
            arguments.split,
            WORLDS[arguments.level],
            arguments.task,
            arguments.language,
            arguments.count,
        ).save(arguments.show)
        return 0
    if arguments.command == "evaluate":
        from glmimage.train.evaluate import evaluate, table

        report = evaluate(arguments.checkpoint, load_art(work), cases=arguments.cases, sheet=arguments.sheet)
        print(json.dumps(report) if arguments.json else table(report))
        return 0
    if arguments.command == "export":
        from glmimage.train.recipe import export

        export(work, arguments.output, arguments.start)
        return 0
    return train(arguments, work)


def encode_scenes(arguments: argparse.Namespace, work: Path, parts: Parts) -> int:
    from glmimage.train import recipe, scenes
    from glmimage.train.art import load_art

    first, _, last = arguments.shards.partition(":")
    shards, art = range(int(first or 0), int(last or recipe.SHARDS)), load_art(work)
    if arguments.kind in ("latents", "both"):
        recipe.load_vae(work, parts, needed=arguments.start is None)
        scenes.write_shards("latents", partial(scenes.latents_of, parts.vae), work, art, shards)
    if arguments.kind in ("codes", "both"):
        recipe.load_tokenizer(work, parts, needed=arguments.start is None)
        model = parts.vision_language_encoder.model
        scenes.write_shards("codes", partial(scenes.codes_of, model.visual, model.vqmodel), work, art, shards)
    return 0


def train(arguments: argparse.Namespace, work: Path) -> int:
    from glmimage.train import recipe
    from glmimage.train.art import load_art

    start: Path | None = arguments.start
    parts = recipe.parts_of(start) if start else recipe.new_parts()
    stage = arguments.command
    if stage == "scenes":
        return encode_scenes(arguments, work, parts)
    schedule = recipe.SCHEDULES[stage]
    schedule = replace(schedule, steps=arguments.steps or schedule.steps, batch=arguments.batch or schedule.batch)
    if stage == "vae":
        from glmimage.train.vae import train_vae

        train_vae(parts.vae, work, load_art(work), schedule, fresh=start is None)
    elif stage == "tokenizer":
        from glmimage.train.tokenizer import reading_report, train_tokenizer

        model, art = parts.vision_language_encoder.model, load_art(work)
        done = train_tokenizer(model.visual, model.vqmodel, work, art, schedule)
        print(json.dumps(reading_report(model.visual, model.vqmodel, done.modules["reader"], art)))
    elif stage == "prior":
        from glmimage.train.prior import train_prior

        recipe.load_tokenizer(work, parts, needed=start is None)
        train_prior(
            parts.vision_language_encoder,
            parts.processor,
            work,
            schedule,
            fresh=start is None,
            compiled=not arguments.eager,
        )
    else:
        from glmimage.train.decoder import train_decoder

        recipe.load_vae(work, parts, needed=start is None)
        scheduler = dict(parts.scheduler.config)
        train_decoder(
            parts.transformer,
            parts.text_encoder,
            parts.vae,
            scheduler,
            work,
            schedule,
            fresh=start is None,
            compiled=not arguments.eager,
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
