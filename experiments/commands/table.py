"""The commands: name, module, and what it does in a line. Imports none of them."""

from __future__ import annotations

COMMANDS = {
    "list": ("experiments.commands.list", "configs, models, data modules, encoders and refinements, with a line each"),
    "fit": (
        "experiments.commands.fit",
        "train a model, pick the best checkpoint on validation identities, test and refine it",
    ),
    "validate": ("experiments.commands.fit", "validate a checkpoint on the validation identities"),
    "test": ("experiments.commands.fit", "test a checkpoint on the heard and the unheard language, refine the scores"),
    "predict": ("experiments.commands.fit", "score trials without labels"),
    "embed": (
        "experiments.commands.data.embed",
        "turn the files of a manifest into feature files, by frozen encoders or a model",
    ),
    "score": ("experiments.commands.model.score", "distances between any voices and faces, by a run or an export"),
    "app": (
        "experiments.commands.model.app",
        "a page in the browser that ranks faces for a voice, on this machine alone",
    ),
    "export": (
        "experiments.commands.model.export",
        "safetensors, config and model card of a run; --onnx both branches",
    ),
    "submit": ("experiments.commands.submit", "make a challenge archive from tested runs; --check validates one"),
    "refine": ("experiments.commands.refine", "refine the saved scores of a run, without its model or data"),
    "prepare": (
        "experiments.commands.data.prepare",
        "scan a tree of voices and faces into a manifest, naming broken files",
    ),
    "split": (
        "experiments.commands.data.split",
        "test identities, folds, trial lists and configs for data of your own",
    ),
    "bench": (
        "experiments.commands.bench",
        "time and memory against plain implementations",
    ),
    "protocol": ("experiments.commands.protocol", "folds x train languages x seeds of several methods, in one table"),
    "sweep": (
        "experiments.commands.sweep",
        "many fits of one YAML file in W&B's sweep format, on a SLURM cluster or here",
    ),
    "report": (
        "experiments.commands.report",
        "runs as one self-contained page, beside the papers and controls; md, csv, latex",
    ),
    "dashboard": ("experiments.commands.dashboard", "a W&B workspace as code: heard against unheard, DET, elbow"),
    "completion": ("experiments.commands.completion", "what makes bash or zsh complete voiceface and its options"),
}
