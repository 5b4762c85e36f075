"""`python -m glmimage.train STAGE`: one stage of the recipe, resumable; `export`; or what looks at what it learned
(`glance`, `probe`, `evaluate`) and learns from (`world`), measures the recipe (`ablate`) or learns on (`lora`)."""

from __future__ import annotations

import argparse
import errno
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from glmimage.errors import GLMImageError, TrainingError, reason
from glmimage.quantize import hush

if TYPE_CHECKING:
    from glmimage.train.release import Parts

FULL = (errno.ENOSPC, errno.EDQUOT)
STAGES = ("vae", "vae_decoder", "tokenizer", "exercises", "prior", "decoder")


def levels(text: str) -> Mapping[int, float]:
    """ "1:0.35,2:0.65" -> level of the world -> share of training; a level alone counts 1."""
    from glmimage.train.world import WORLDS

    try:
        pairs = [part.partition(":") for part in text.split(",")]
        shares = {int(level): float(share or 1) for level, _, share in pairs}
    except ValueError:
        shares = {}
    if not shares or not shares.keys() <= WORLDS.keys() or not all(share > 0 for share in shares.values()):
        known = ", ".join(map(str, WORLDS))
        raise argparse.ArgumentTypeError(f"{text!r} names no levels of the world ({known}) and shares above 0")
    return shares


def numbers(text: str) -> tuple[int, int]:
    """ "3:8" -> 3, 8; "3" is that one alone."""
    first, colon, last = text.partition(":")
    try:
        start = int(first)
        stop = int(last) if colon else start + 1
    except ValueError:
        start = stop = 0
    if not 0 <= start < stop:
        raise argparse.ArgumentTypeError(f"{text!r} is no range of shards such as 0:8, which are the first eight")
    return start, stop


def above_0(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if not 0 < number < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is no number above 0")
    return number


def count(text: str) -> int:
    try:
        number = int(text)
    except ValueError:
        number = 0
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number above 0")
    return number


def parser() -> argparse.ArgumentParser:
    import platformdirs

    from glmimage.train.world import SHIPPED, WORLDS

    work = Path(platformdirs.user_cache_dir("glm-image-atelier")) / "train"
    root = argparse.ArgumentParser(prog="python -m glmimage.train", description=__doc__)
    root.add_argument("--work", type=Path, default=work, help=f"where runs are kept (default {work})")
    root.add_argument("--threads", type=count, default=0, help="threads of PyTorch (default: all cores)")
    root.add_argument("--start", type=Path, help="train on from this checkpoint where a stage has no run of its own")
    root.add_argument(
        "--levels",
        type=levels,
        metavar="LEVEL:SHARE,...",
        help="levels of the world that the stages learn, and how much of each (default: 1:0.2,2:0.4,3:0.4)",
    )
    commands = root.add_subparsers(dest="command", required=True)
    for stage in STAGES:
        command = commands.add_parser(stage, help=f"train the stage {stage} (goes on where it was)")
        if stage == "exercises":
            command.add_argument("--kind", default="both", choices=("latents", "codes", "both"))
            command.add_argument("--level", type=int, choices=tuple(WORLDS), help="of the world (default: --levels)")
            command.add_argument(
                "--shards", type=numbers, help="which shards of 1024 exercises, as first:end (default: all)"
            )
        else:
            command.add_argument("--steps", type=count, help="length of the run, in place of the recipe's")
            command.add_argument("--batch", type=count, help="pictures a step, in place of the recipe's")
            command.add_argument(
                "--rate", type=above_0, help="of learning; a finished checkpoint that learns on wants a third"
            )
        if stage in ("prior", "decoder"):
            command.add_argument("--eager", action="store_true", help="without torch.compile")
        if stage == "decoder":
            command.add_argument(
                "--glyphs-anew", action="store_true", help="begin the glyph encoder at random, whatever it knew"
            )
            command.add_argument(
                "--teacher",
                type=Path,
                metavar="CHECKPOINT",
                help="with --start: teaches all but letters, in place of the checkpoint that the run goes on from",
            )
    drafts = commands.add_parser("drafts", help="draw codes for a decoder that learns on, by the prior learned so far")
    drafts.add_argument("--prompts", type=count, default=400, help="four drafts of each (400)")
    drafts.add_argument("--level", type=int, default=SHIPPED.level, choices=tuple(WORLDS), help="of the world")
    export = commands.add_parser("export", help="write the trained checkpoint in the released layout")
    export.add_argument("--output", type=Path, default=Path("assets/miniature"))
    export.add_argument(
        "--share",
        type=float,
        default=1.0,
        help="how far to go from --start's weights to what was learned since (0 to 1)",
    )
    export.add_argument("--glyphs-anew", action="store_true", help="with --share: the glyph encoder began at random")
    world = commands.add_parser("world", help="paint a sheet of what is learned from, with prompts")
    world.add_argument("--show", type=Path, metavar="SHEET.png")
    world.add_argument("--folder", type=Path, help="write captioned pictures there instead, to learn from with `lora`")
    world.add_argument("--thing", help="with --folder: one that is in each of them, also one that the level lacks")
    world.add_argument("--style", help="with --thing: the thing alone, in this style")
    world.add_argument("--split", default="train", choices=("train", "evaluate"))
    world.add_argument(
        "--level",
        type=int,
        default=max(WORLDS),
        choices=tuple(WORLDS),
        help=f"{SHIPPED.level}: what the shipped weights learned from",
    )
    world.add_argument("--task", help="only this one: text, regions, replace, remove, ...")
    world.add_argument("--language", help="only this one: en or zh")
    world.add_argument("--count", type=count, default=24)
    lora = commands.add_parser("lora", help="teach a checkpoint a folder of captioned pictures (fox.png, fox.txt)")
    lora.add_argument("folder", type=Path)
    lora.add_argument(
        "--preserve", type=Path, metavar="FOLDER", help="captioned pictures of what it knows and is to keep"
    )
    lora.add_argument("--part", default="both", choices=("prior", "decoder", "both"))
    lora.add_argument("--checkpoint", default="miniature")
    lora.add_argument("--output", type=Path, required=True, help="folder for the adapter, in peft's format")
    lora.add_argument("--rank", type=count, default=16)
    lora.add_argument("--steps", type=count, help="of each part, in place of the recipe's")
    lora.add_argument("--rate", type=above_0, help="of learning, in place of the recipe's")
    lora.add_argument("--batch", type=count, help="pictures a step, in place of the recipe's")
    ablate = commands.add_parser("ablate", help="what single decisions of the recipe are worth, in small")
    ablate.add_argument("name", choices=("codes", "preview", "embeddings", "conditions"))
    ablate.add_argument(
        "--minutes", type=above_0, default=20.0, help="of processor time, for all the priors that it trains (20)"
    )
    ablate.add_argument("--checkpoint", default="miniature", help="whose codes, decoder and prompts it takes")
    ablate.add_argument("--output", type=Path, help="folder for NAME.json and NAME.md (ablations in the work folder)")
    probe = commands.add_parser("probe", help="what single codes tell by a linear probe, codes in use, perplexity")
    probe.add_argument("--checkpoint", type=Path, help="a folder (default: what the work folder has learned so far)")
    probe.add_argument("--level", type=int, default=SHIPPED.level, choices=tuple(WORLDS), help="of the world")
    glance = commands.add_parser("glance", help="what the prior's codes say, read without painting: a minute, no OCR")
    glance.add_argument("--checkpoint", type=Path, help="a folder (default: what the work folder has learned so far)")
    glance.add_argument("--cases", type=count, default=100)
    glance.add_argument("--task", help="only this one: text, regions, replace, ...")
    glance.add_argument("--level", type=int, default=SHIPPED.level, choices=tuple(WORLDS), help="of the world")
    glance.add_argument("--language", help="of the prompts: en or zh (default: all of the level's)")
    evaluate = commands.add_parser("evaluate", help="scores on prompts that training never saw")
    evaluate.add_argument("--checkpoint", default="miniature")
    evaluate.add_argument("--task", default="all", help="text, regions, edit, style, subjects, or all (the default)")
    evaluate.add_argument("--cases", type=count, default=100, help="of each task")
    evaluate.add_argument("--lora", action="append", default=[], metavar="FOLDER[:WEIGHT]")
    evaluate.add_argument("--thing", help="ask for this thing in every picture and mark it alone; may be a new one")
    evaluate.add_argument("--style", help="with --thing: for the thing alone, in this style")
    evaluate.add_argument("--steps", type=count, help="of the decoder, in place of the checkpoint's own")
    evaluate.add_argument(
        "--attempts", type=count, default=1, metavar="N", help="paint until the words read right, at most N times (1)"
    )
    evaluate.add_argument("--level", type=int, default=SHIPPED.level, choices=tuple(WORLDS), help="of the world")
    evaluate.add_argument("--language", help="of the prompts: en or zh (default: all of the level's)")
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
    except OSError as error:
        if error.errno not in FULL:
            raise
        where = error.filename or arguments.work
        print(f"error: The disk is full ({where}); make room, then start the same command again.", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        resumes = arguments.command in (*STAGES, "lora")
        how = "; the same command goes on from the last stored state" if resumes else ""
        print(f"Stopped{how}.", file=sys.stderr)
        return 130


def run(arguments: argparse.Namespace) -> int:
    import torch

    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    work: Path = arguments.work
    try:
        work.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise TrainingError(f"The folder {work} cannot be made ({reason(error)}); name another: --work.") from error
    COMMANDS.get(arguments.command, train)(arguments, work)
    return 0


def show_world(arguments: argparse.Namespace, work: Path) -> None:
    from glmimage.train.art import load_art
    from glmimage.train.sheet import captioned_pictures, sheet_file, world_sheet
    from glmimage.train.world import WORLDS

    world = WORLDS[arguments.level]
    if arguments.style and not arguments.thing:
        raise TrainingError("--style is that of a thing; say which: --thing cat.")
    if arguments.folder:
        if arguments.split != "train" or arguments.task or arguments.language:
            raise TrainingError(
                "Single pictures (--folder) are scenes of training, told in English; leave --split, --task and"
                " --language to sheets (--show)."
            )
        asked = arguments.count, arguments.thing, arguments.style
        captioned_pictures(arguments.folder, load_art(work), world, *asked)
        return
    if not arguments.show:
        raise TrainingError("Say where the sheet goes: --show SHEET.png, or --folder FOLDER for single pictures.")
    shown = sheet_file(arguments.show)
    what = arguments.split, world, arguments.task, arguments.language, arguments.count
    world_sheet(load_art(work), *what).save(shown)


def learned_parts(arguments: argparse.Namespace, work: Path) -> Parts:
    """Of the checkpoint that is named, else what the work folder has learned so far."""
    from glmimage.train import recipe

    folder: Path | None = arguments.checkpoint
    return recipe.parts_of(folder) if folder else recipe.trained_parts(work, arguments.start)


def run_glance(arguments: argparse.Namespace, work: Path) -> None:
    from glmimage.train import glance
    from glmimage.train.art import load_art
    from glmimage.train.world import WORLDS

    parts, world = learned_parts(arguments, work), WORLDS[arguments.level]
    samples = glance.glance_samples(world, arguments.cases, arguments.task, arguments.language)
    print(json.dumps(glance.report(parts.vision_language_encoder, parts.processor, samples, world, load_art(work))))


def draw_drafts(arguments: argparse.Namespace, work: Path) -> None:
    from glmimage.train import recipe
    from glmimage.train.art import load_art
    from glmimage.train.drafts import write_drafts
    from glmimage.train.world import WORLDS

    parts = recipe.trained_parts(work, arguments.start)
    asked = load_art(work), WORLDS[arguments.level], arguments.prompts, work
    write_drafts(parts.vision_language_encoder, parts.processor, *asked)


def run_probe(arguments: argparse.Namespace, work: Path) -> None:
    from glmimage.train.art import load_art
    from glmimage.train.probe import probe
    from glmimage.train.world import WORLDS

    prior = learned_parts(arguments, work).vision_language_encoder
    print(json.dumps(probe(prior, load_art(work), WORLDS[arguments.level])))


def run_evaluate(arguments: argparse.Namespace, work: Path) -> None:
    from glmimage.adapters import Adapter
    from glmimage.engine import Engine
    from glmimage.train.art import load_art
    from glmimage.train.evaluate import evaluate, table
    from glmimage.train.world import WORLDS

    report = evaluate(
        Engine.load(arguments.checkpoint, adapters=[Adapter.parse(text) for text in arguments.lora]),
        load_art(work),
        work,
        task=arguments.task,
        cases=arguments.cases,
        world=WORLDS[arguments.level],
        sheet=arguments.sheet,
        threads=arguments.threads,
        steps=arguments.steps,
        attempts=arguments.attempts,
        thing=arguments.thing,
        style=arguments.style,
        language=arguments.language,
    )
    print(json.dumps(report) if arguments.json else table(report))


def run_ablate(arguments: argparse.Namespace, work: Path) -> None:
    from glmimage import checkpoint
    from glmimage.models import Stack
    from glmimage.train.ablate import ablate
    from glmimage.train.art import load_art

    stack = Stack.load(checkpoint.find(arguments.checkpoint))
    ablation = ablate(arguments.name, stack, load_art(work), arguments.minutes)
    folder = arguments.output or work / "ablations"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{ablation.name}.json").write_text(json.dumps(ablation.to_json(), indent=1) + "\n", encoding="utf-8")
    (folder / f"{ablation.name}.md").write_text(ablation.to_markdown(), encoding="utf-8")
    print(ablation.to_markdown())


def run_export(arguments: argparse.Namespace, work: Path) -> None:
    from glmimage.train import recipe

    shares = arguments.levels or recipe.SHARES
    anew = arguments.glyphs_anew
    recipe.export(work, arguments.output, arguments.start, arguments.share, shares, glyphs_anew=anew)


def encode_exercises(arguments: argparse.Namespace, work: Path, parts: Parts) -> None:
    from glmimage.train import exercises, recipe
    from glmimage.train.art import load_art
    from glmimage.train.world import WORLDS

    art, model = load_art(work), parts.vision_language_encoder.model
    encoders: dict[str, tuple[exercises.Encode, str]] = {}
    if arguments.kind in ("latents", "both"):
        recipe.load_vae(work, parts, needed=arguments.start is None)
        # The half that encodes: the other may be trained on.
        encoders["latents"] = partial(exercises.latents_of, parts.vae), exercises.digest_of(parts.vae.encoder)
    if arguments.kind in ("codes", "both"):
        recipe.load_tokenizer(work, parts, needed=arguments.start is None)
        of_codes = partial(exercises.codes_of, model.visual, model.vqmodel)
        encoders["codes"] = of_codes, exercises.digest_of(model.visual, model.vqmodel)
    for kind, (encode, by) in encoders.items():
        for level in [arguments.level] if arguments.level else sorted(arguments.levels or recipe.SHARES):
            shards = arguments.shards or (0, recipe.SHARDS[kind][level])
            exercises.write_shards(kind, encode, work, art, WORLDS[level], range(*shards), by)


def run_lora(arguments: argparse.Namespace, work: Path) -> None:
    from glmimage import checkpoint
    from glmimage.models import Stack
    from glmimage.train import lora

    changes = {name: getattr(arguments, name) for name in ("steps", "rate", "batch") if getattr(arguments, name)}
    schedules = {
        part: replace(schedule, **changes)
        for part, schedule in lora.SCHEDULES.items()
        if arguments.part in (part, "both")
    }
    stack = Stack.load(checkpoint.find(arguments.checkpoint))
    asked = arguments.folder, schedules, arguments.output, work / "lora", arguments.rank, arguments.preserve
    for part, folder in lora.learn(stack, *asked):
        print(f"the {part}'s adapter is in {folder}", flush=True)


def train(arguments: argparse.Namespace, work: Path) -> None:
    from glmimage import files
    from glmimage.train import recipe
    from glmimage.train.art import load_art

    files.sweep((work,))
    start: Path | None = arguments.start
    shares = arguments.levels or recipe.SHARES
    parts = recipe.begun_parts(start)
    stage = arguments.command
    if stage == "exercises":
        encode_exercises(arguments, work, parts)
        return
    schedule = recipe.SCHEDULES[stage]
    if stage == "decoder" and start and not arguments.glyphs_anew:
        schedule = replace(schedule, **recipe.LEARNING_ON)
    changes = {name: getattr(arguments, name) for name in ("steps", "batch", "rate") if getattr(arguments, name)}
    schedule = replace(schedule, **changes)
    squares = recipe.squares(shares)
    if stage == "vae":
        from glmimage.train.vae import train_vae

        train_vae(parts.vae, work, load_art(work), schedule, squares, fresh=start is None)
    elif stage == "vae_decoder":
        from glmimage.train.vae import train_vae_decoder

        recipe.load_vae(work, parts, needed=start is None)
        train_vae_decoder(parts.vae, work, load_art(work), schedule, squares)
    elif stage == "tokenizer":
        from glmimage.train.probe import probe
        from glmimage.train.tokenizer import train_tokenizer

        model, art = parts.vision_language_encoder.model, load_art(work)
        train_tokenizer(model.visual, model.vqmodel, work, art, schedule, squares)
        print(json.dumps(probe(parts.vision_language_encoder, art, squares)))
    elif stage == "prior":
        from glmimage.train.prior import train_prior

        recipe.load_tokenizer(work, parts, needed=start is None)
        train_prior(
            parts.vision_language_encoder,
            parts.processor,
            work,
            schedule,
            shares,
            fresh=start is None,
            compiled=not arguments.eager,
        )
    else:
        from glmimage.train.decoder import Pair, train_decoder

        if arguments.teacher and not start:
            raise TrainingError("A new decoder learns all from pictures; leave --teacher out, or say --start.")
        recipe.load_vae(work, parts, needed=start is None)
        scheduler = dict(parts.scheduler.config)
        teacher = None
        if start:
            # Read anew: what trains must not teach itself.
            said = recipe.parts_of(arguments.teacher or start)
            teacher = Pair(said.transformer.eval(), said.text_encoder.eval())
        train_decoder(
            parts.transformer,
            parts.text_encoder,
            parts.vae,
            scheduler,
            work,
            schedule,
            shares,
            teacher=teacher,
            glyphs_anew=arguments.glyphs_anew,
            compiled=not arguments.eager,
        )


COMMANDS: Mapping[str, Callable[[argparse.Namespace, Path], None]] = {
    "world": show_world,
    "glance": run_glance,
    "probe": run_probe,
    "evaluate": run_evaluate,
    "ablate": run_ablate,
    "lora": run_lora,
    "drafts": draw_drafts,
    "export": run_export,
}
"""What is no stage."""


if __name__ == "__main__":
    sys.exit(main())
