"""Divides a data set into training, validation and test identities, draws trial lists, and writes configs for ``fit``.

DATA is a folder of feature files that ``embed`` made, or a manifest that ``prepare`` made.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from datamodules.schema import DataError, Items
from experiments.console.arguments import CommandParser, command_line

KINDS = ("scrambled", "balanced", "natural")


def main(command: str, argv: list[str]) -> int:
    """``split DATA [--test N|FILE] [--folds K] [--val N] [--train LANGUAGE ...] [--trials N] ...``."""
    parser = CommandParser(command, __doc__)
    parser.add_argument("data", type=Path, metavar="DATA", help="folder of feature files, or a manifest")
    text = "number of test identities of a fold, or a file that names them; default: a tenth, at least 6"
    parser.add_argument("--test", metavar="N|FILE", help=text)
    parser.add_argument("--folds", type=int, default=1, metavar="K", help="groups of test identities; default 1")
    text = "training identities that choose the checkpoint; default 6"
    parser.add_argument("--val", type=int, default=6, metavar="N", help=text)
    text = "languages to train on, one config for each time it is given; default: a config for each language"
    parser.add_argument("--train", action="append", nargs="+", metavar="LANGUAGE", help=text)
    text = f"kinds of trial lists, the main one first; default: {' '.join(KINDS)}"
    parser.add_argument("--lists", nargs="+", default=list(KINDS), choices=KINDS, metavar="KIND", help=text)
    parser.add_argument("--trials", type=int, default=1000, metavar="N", help="trials of each list; default 1000")
    text = "CSV identity,gender; or 'estimate', from the voices of --media"
    parser.add_argument("--genders", metavar="FILE", help=text)
    text = "folder that the names in voices.csv start from, for --genders estimate"
    parser.add_argument("--media", type=Path, metavar="DIR", help=text)
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of all draws; default 0")
    text = "folder of what is written; default: that of DATA"
    parser.add_argument("--out", type=Path, metavar="DIR", help=text)
    return _split(parser.parse_args(argv))


def _split(options: argparse.Namespace) -> int:
    if not options.data.exists():
        raise DataError(f"{options.data}: no such folder or file; give a folder that embed made, or a manifest")
    # these import pandas, pyarrow and torch, which --help and a wrong option need not wait for
    import pandas as pd

    from datamodules.io.identities import read_identities
    from datamodules.io.text import shown
    from datamodules.io.writing import make_folder, together, write_csv, write_json
    from datamodules.prepare.hold_out import (
        check_named,
        draw_folds,
        file_word,
        identity_lines,
        languages_of,
        list_lines,
        testable,
        write_lists,
    )
    from datamodules.prepare.own_data import OwnData
    from experiments.config.own import write_configs, write_protocol
    from experiments.runs.lock import exclusive

    if options.trials < 2 or options.val < 0 or options.val == 1:
        raise DataError(f"--trials {options.trials} --val {options.val}: give 2 trials or more; --val 0, or 2 or more")
    data = OwnData.open(options.data)
    out: Path = options.out or (options.data if data.features else options.data.parent)
    if (out / "folds.json").exists():
        raise DataError(f"{out}: holds a split; name another folder with --out, or remove {out / 'folds.json'}")
    voices, faces = data.items()
    languages = languages_of(voices, faces)
    trained = options.train or [[language] for language in languages]
    if unknown := sorted({name for names in trained for name in names} - set(languages)):
        there = ", ".join(filter(None, languages)) or "no known language; leave out --train"
        raise DataError(f"--train {', '.join(unknown)}: the voices are in {there}")
    counts = testable(voices, faces, languages)
    genders = _genders(options, data, voices)
    if options.test is None or options.test.isdecimal():
        size = int(options.test) if options.test else max(6, round(len(counts) / 10))
        folds = draw_folds(counts, genders, options.folds, size, options.val, options.seed)
    else:
        folds = [read_identities(options.test, "--test")]
        check_named(folds[0], counts, options.val, f"--test {options.test}")
    left = len(counts) - max(map(len, folds))
    names = ["-".join(map(file_word, languages_)) or "own" for languages_ in trained]
    drawn = folds, (voices, faces), languages, options.lists, options.trials, options.seed
    with exclusive(out):  # two at once must not mix their lists
        made = [*(out / "trials").glob("fold*.csv"), out / "protocol.yaml", *(out / f"{name}.yaml" for name in names)]
        if older := [str(path.relative_to(out)) for path in made if path.exists()]:
            raise DataError(f"{out}: holds {shown(older)}, which a split would replace; name another folder with --out")
        with together(out):
            make_folder(out / "trials")
            lists = write_lists(out / "trials", *drawn)
            if genders:
                write_csv(out / "genders.csv", pd.DataFrame(genders.items(), columns=["identity", "gender"]))
            groups = {
                name: data.data_config(out, part, languages, options.lists, left, options.val, bool(genders))
                for name, part in zip(names, trained, strict=True)
            }
            configs = write_configs(out, "own_data.yaml" if data.features else "own_media.yaml", groups)
            commands = [("protocol", write_protocol(out, configs, len(folds)))] if data.features else []
            write_json(out / "folds.json", {str(fold): identities for fold, identities in enumerate(folds)})
    print("\n".join([*identity_lines(folds, genders, len(counts), options.val), *list_lines(lists)]))
    commands += [("fit", config) for config in configs]
    print("next:", "\n or: ".join(command_line(command, "--config", config) for command, config in commands))
    return 0


def _genders(options: argparse.Namespace, data: Any, voices: Items) -> dict[str, str]:
    """The gender of each identity, where known, sorted by identity."""
    from datamodules.io.identities import read_genders  # imports pandas

    genders = dict(zip(voices.identity.tolist(), voices.gender.tolist(), strict=True))
    if options.genders == "estimate":
        genders = data.estimated_genders(options.media)
    elif options.genders:
        genders |= read_genders(options.genders)
    return {name: genders[name] for name in sorted(genders) if name and genders[name]}
