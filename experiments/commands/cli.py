"""Runs ``fit``, ``validate``, ``test`` and ``predict``: LightningCLI over our configs, run folder and callbacks."""

from __future__ import annotations

import os
import re
import signal
import sys
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch
from jsonargparse import ActionYesNo, Namespace
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI, SaveConfigCallback
from lightning.pytorch.loggers import Logger
from lightning.pytorch.utilities.exceptions import SIGTERMException
from lightning_utilities.core.rank_zero import rank_zero_only

from datamodules.base import VoiceFaceDataModule
from datamodules.io.writing import write_text
from datamodules.schema import DataError
from experiments.callbacks.checkpoint import RunCheckpoint
from experiments.callbacks.progress import LineProgress
from experiments.callbacks.record import RunRecord
from experiments.callbacks.results import ResultsWriter
from experiments.callbacks.resume import Resumable, nothing_left, trained
from experiments.callbacks.signals import StopOnSignal, Stopped, leave_on_warning, requeue
from experiments.callbacks.wandb import WandbRecord
from experiments.config.errors import check_initialised, dims_of, explained, num_identities_of
from experiments.config.files import changed_keys, is_saved, read_config
from experiments.config.leftovers import take_back
from experiments.config.overrides import expand_arguments
from experiments.config.variables import check_variables
from experiments.console.arguments import command_line, options_of_fit
from experiments.console.warnings import plain_warnings
from experiments.report.build import build_report
from experiments.report.tasks import print_tasks
from experiments.runs.checkpoints import AtomicCheckpointIO, newest_checkpoint, read_checkpoint, remove_unfinished
from experiments.runs.folder import (
    ENV_RUN_DIR,
    NO_CHECKPOINT,
    choose_run_dir,
    find_checkpoint,
    forget_failed_start,
    make_run_dir,
    missing_of,
    refuse_others,
    refuse_used,
)
from experiments.runs.lock import locked
from experiments.runs.results import print_results
from experiments.runs.trackers import check_installed, finish_wandb, forget_logged, has_room, prepare_wandb
from lightning_modules.base import AssociationModule
from lightning_modules.training.safety import shards_weights
from postproc.callback import ChainingClusterCallback

TYPES: dict[str, Any] = {
    "vars": dict[str, Any],
    "run_dir": str | None,
    "ckpt_path": str | None,
    "trust_weights": bool | list[str],
    "pictures": bool,
    "resume": Literal["auto"] | None,
}


OPTIMISATION = ("model.optimizer", "model.scheduler")
LENGTH = ("trainer.max_epochs", "trainer.max_steps")


class SaveRunConfig(SaveConfigCallback):
    """Writes config.yaml into the run folder and sends the whole config to the logger.

    Args:
        *args: of Lightning's callback.
        logger_options: options of the logger as the user gave them, without what this run chose for itself.
        **kwargs: of Lightning's callback.
    """

    def __init__(self, *args: Any, logger_options: dict[str, Any], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.logger_options = logger_options

    def save_config(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        config = self.config.clone()
        # what names this run and not the experiment; `fit --config config.yaml` makes another run like it
        config.run_dir = config.ckpt_path = None
        config.pop("test", None)
        config.pop("resume", None)
        if config.get("logger") is not None:
            for name, value in self.logger_options.items():
                config.logger.init_args[name] = value
        text = self.parser.dump(config, skip_none=False)
        write_text(Path(trainer.default_root_dir) / "config.yaml", text)
        for logger in trainer.loggers:
            logger.log_hyperparams(config.as_dict())


class ExperimentCLI(LightningCLI):
    """One command over one config.

    Args:
        command: fit, validate, test or predict.
        argv: its arguments.
        held: keeps the run folder's lock until the command has ended.
    """

    def __init__(self, command: str, argv: list[str], held: ExitStack) -> None:
        self.command, self.held = command, held
        self.logger_options: dict[str, Any] = {}
        self.arguments, self.config_paths = expand_arguments(argv)
        super().__init__(
            AssociationModule,
            VoiceFaceDataModule,
            subclass_mode_model=True,
            subclass_mode_data=True,
            run=False,  # a parser for this command alone: quick to start, and config keys are absolute
            save_config_callback=SaveRunConfig,
            save_config_kwargs={"save_to_log_dir": False, "logger_options": self.logger_options},
            seed_everything_default=0,
            auto_configure_optimizers=False,
            parser_kwargs={
                "parser_mode": "omegaconf+",
                "exit_on_error": False,
                "allow_abbrev": False,
                "prog": f"experiments.run {command}",
                "epilog": "Configs, models, data modules and refinements: python -m experiments.run list",
            },
            args=self.arguments,
        )

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        for name, (default, text) in options_of_fit(self.command).items():
            if name == "test":
                parser.add_argument("--test", action=ActionYesNo(no_prefix="no-"), default=default, help=text)
            else:
                parser.add_argument(f"--{name}", type=TYPES[name], default=default, help=text)
        parser.add_subclass_arguments(Logger, "logger", required=False, help="experiment tracker; null for none")
        parser.add_lightning_class_args(RunCheckpoint, "checkpoint")
        parser.add_lightning_class_args(ChainingClusterCallback, "postproc")
        for name, of in (("dims", dims_of), ("num_identities", num_identities_of)):
            parser.link_arguments("data", f"model.init_args.{name}", of, apply_on="instantiate")

    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:
        with explained(parser):
            super().parse_arguments(parser, args)
        if "model" in self.config:
            take_back(self.config.model, ("model",), self.arguments)
        check_variables(args, self.config_paths, self.config.vars, self._config_name())

    def before_instantiate_classes(self) -> None:
        config: Namespace = self.config
        name = self._config_name()
        if self.command != "fit" and config.ckpt_path is None and self._given_weights() is None:
            raise DataError(NO_CHECKPOINT)
        resume = config.get("resume") is not None
        if resume and config.ckpt_path:
            raise DataError("--resume auto finds the checkpoint itself; give either --resume or --ckpt_path")
        if resume and config.run_dir is None and "SLURM_JOB_ID" not in os.environ:
            raise DataError("--resume auto needs --run_dir, the folder of the run to continue")
        if config.get("logger") is not None:
            check_installed(config.logger.class_path)
        self.run_dir = choose_run_dir(config.run_dir, name)
        os.environ[ENV_RUN_DIR] = str(self.run_dir)
        if rank_zero_only.rank == 0:  # type: ignore[attr-defined]
            self.held.push(partial(forget_failed_start, missing_of(self.run_dir)))
            make_run_dir(self.run_dir)
            self.held.enter_context(locked(self.run_dir))
            if self.command == "fit" and not resume and not self._continues():
                refuse_used(self.run_dir)
            refuse_others(self.run_dir, self.command, config.ckpt_path, self._checkpoint_dir())
            remove_unfinished(self.run_dir)
        logger = config.get("logger")
        if logger is not None:
            forget_logged(logger.init_args, [c for path in self.config_paths if is_saved(c := read_config(path))])
            own = ("id", "name", "offline", "save_dir")
            self.logger_options.update({key: logger.init_args[key] for key in own if key in logger.init_args})
        if logger is not None and "save_dir" in logger.init_args:
            logger.init_args.save_dir = str(self.run_dir)
        if logger is not None and logger.class_path.endswith("WandbLogger"):
            prepare_wandb(logger.init_args, self.run_dir, name)
            if not has_room(self.run_dir):
                config.logger = None
        _say(f"run folder: {self.run_dir}")

    def instantiate_classes(self) -> None:
        with explained(self.parser):
            super().instantiate_classes()
            check_initialised(self.model, "dims")
        self.model.trust_weights = self.config.trust_weights
        self.model.test_follows_fit = bool(self.config.get("test"))

    def _given_weights(self) -> str | None:
        """``model.weights``, which a test or prediction takes without a fit.

        In the config.yaml of a run they are what its fit started from, and not what it came to: there they count only
        when the command line names them.
        """
        named = any(re.match(r"--model\.(init_args\.)?weights(=|$)", argument) for argument in self.arguments)
        in_run = any(path.name == "config.yaml" for path in self.config_paths)
        weights: str | None = self.config.get("model.init_args.weights")
        return weights if named or not in_run else None

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        config = self.config_init
        config["checkpoint"].dirpath = str(self.run_dir / "checkpoints")
        logger = config.get("logger")
        # the samplers of VoiceFaceDataModule shard themselves; Lightning's would pad the test set
        fixed = {"default_root_dir": str(self.run_dir), "use_distributed_sampler": False, "logger": logger or False}
        fixed["plugins"] = [*_as_list(config["trainer"].get("plugins")), AtomicCheckpointIO()]
        shows_lines = not sys.stdout.isatty() and config["trainer"].get("enable_progress_bar") is not False
        if shows_lines:
            fixed["enable_progress_bar"] = False
        trainer = super().instantiate_trainer(**fixed, **kwargs)
        self.writer = ResultsWriter(self.run_dir, config["postproc"])
        callbacks: list[Callback] = trainer.callbacks  # type: ignore[attr-defined]
        self.resumable, self.stop = Resumable(self.run_dir), StopOnSignal()
        # the record before what may write a checkpoint at the end of a batch: that batch counts in it
        callbacks += [self.writer, self.resumable, RunRecord(self.run_dir), self.stop]
        callbacks.append(WandbRecord(self.run_dir, config["postproc"], lambda: build_report([self.run_dir], "html")[0]))
        if shows_lines:
            callbacks.append(LineProgress())
        if self.config.pictures:
            from experiments.callbacks.pictures import Pictures  # matplotlib takes a second to import

            callbacks.append(Pictures(self.run_dir, config["postproc"]))
        return trainer

    def run_command(self) -> None:
        """Runs the command on the instantiated model, data and trainer, and says where its results are."""
        # weight decay leaves the weights of dead units denormal, and with them a product of FOP is 80 times slower on a
        # CPU: some fits of V1 took minutes instead of seconds
        torch.set_flush_denormal(True)
        try:
            self._run()
        finally:
            torch.set_flush_denormal(False)
            finish_wandb(failed=sys.exc_info()[0] is not None)
        if self.writer.results:
            print_results(self.writer.results, self.writer.notes)
        elif (self.run_dir / "scores.parquet").exists():
            why = "" if self.command == "predict" else "; the trial lists have no labels, so there is no EER to report"
            _say(f"scores: {self.run_dir / 'scores.parquet'}{why}")
        print_tasks(self.writer.results, self.writer.tasks)
        _say(f"run folder: {self.run_dir}")
        if self.writer.results:
            _say(f"next: {command_line('report', self.run_dir)}")

    def _run(self) -> None:
        ckpt_path = self.config.ckpt_path
        near = self._checkpoint_dir()
        loading = {"model": self.model, "datamodule": self.datamodule, "weights_only": True}
        if self.command == "fit":
            if self.config.resume and (steps := trained(self.run_dir)):
                if changed := self._changed(*OPTIMISATION, *LENGTH):
                    raise DataError(
                        f"--resume auto: training ended at step {steps}, with another value of {', '.join(changed)}; "
                        "give --ckpt_path last to train on"
                    )
                _say(f"training ended at step {steps}; to train on, give --ckpt_path last and more epochs")
            else:
                resume = self._resume_point() if self.config.resume else ckpt_path and find_checkpoint(ckpt_path, near)
                self._check_rest(resume)
                self.resumable.renew = bool(ckpt_path) or bool(self._changed(*OPTIMISATION))
                self.trainer.fit(**loading, ckpt_path=resume)
            self.stop.leave(self.trainer)
            if self.config.test and self.resumable.out_of_time:
                _say("not tested: trainer.max_time ended before training did; --resume auto continues it")
            elif self.config.test and shards_weights(self.trainer):
                config = self.run_dir / "config.yaml"
                more = ("--ckpt_path", "best", "--trainer.strategy", "ddp")
                _say(f"not tested: next: {command_line('test', '--config', config, *more)}")
            elif self.config.test:
                tried_out = self.config.trainer.fast_dev_run
                self.trainer.test(**loading, ckpt_path=None if tried_out else self._best(), verbose=False)
            return
        path = find_checkpoint(ckpt_path, near) if ckpt_path else None
        if path is None:
            _say(f"no --ckpt_path: takes model.weights, {self._given_weights()}")
        if self.command == "predict":
            self.trainer.predict(**loading, ckpt_path=path, return_predictions=False)
        else:
            run = self.trainer.validate if self.command == "validate" else self.trainer.test
            run(**loading, ckpt_path=path, verbose=self.command == "validate")

    def _check_rest(self, resume: str | None) -> None:
        """Says that a run which is resumed has nothing left to train; refuses a named checkpoint to train on from.

        Raises:
            DataError: as many epochs or steps are trained as the trainer is to make, or it is to make none.
        """
        if none := next((key for key in (*LENGTH, "trainer.limit_train_batches") if self.config.get(key) == 0), None):
            raise DataError(f"{none}: 0 trains nothing; give more, or use the command test")
        why = nothing_left(read_checkpoint(Path(resume)), self.trainer) if resume else ""
        if why and self.config.ckpt_path:
            raise DataError(f"ckpt_path {self.config.ckpt_path}: {why}; give more to train on, or use the command test")
        if why:
            _say(f"nothing is left to train: {why}")

    def _changed(self, *keys: str) -> list[str]:
        """Those of some keys whose values are other ones than in the config.yaml of the run folder."""
        saved = self.run_dir / "config.yaml"
        return changed_keys(saved, self.parser.dump(self.config, skip_none=False), keys) if saved.is_file() else []

    def _best(self) -> str:
        """The best checkpoint; the last one of a run that was never validated."""
        folder = self.run_dir / "checkpoints"
        if not (folder / "best.ckpt").is_file() and (folder / "last.ckpt").is_file():
            _say("no validation has been made, so there is no best checkpoint: testing the last one")
            return find_checkpoint("last", self.run_dir)
        return find_checkpoint("best", self.run_dir)

    def _resume_point(self) -> str | None:
        """The checkpoint that ``--resume auto`` continues from; None if there is none."""
        path, problems = newest_checkpoint(self.run_dir)
        for problem in problems:
            _say(f"warning: {problem}; skipped")
        _say(f"resuming from {path}" if path else "no checkpoint to resume from, starting from the beginning")
        return str(path) if path else None

    def _continues(self) -> bool:
        """Whether ``--ckpt_path`` names a checkpoint of the run folder itself, which is to be trained on."""
        ckpt_path = self.config.ckpt_path
        if not ckpt_path:
            return False
        return Path(find_checkpoint(ckpt_path, self._checkpoint_dir())).resolve().is_relative_to(self.run_dir)

    def _config_name(self) -> str:
        """Names the run: the config's name, or for the config.yaml of a run the name of that run's config."""
        if not self.config_paths:
            return "run"
        path = self.config_paths[0].resolve()
        if path.name != "config.yaml":
            return path.stem
        in_default_place = len(path.parents) > 2 and path.parents[2].name == "runs"  # runs/NAME/<time>/config.yaml
        return path.parents[1].name if in_default_place else path.parent.name

    def _checkpoint_dir(self) -> Path:
        """Where ``best`` and ``last`` are: beside the config of a finished run, else in the run folder."""
        folder = self.config_paths[0].parent if self.config_paths else self.run_dir
        return folder if (folder / "checkpoints").is_dir() else self.run_dir


class CheckedCLI(ExperimentCLI):
    """Reads the arguments of one command and goes no further."""

    def _set_seed(self) -> None:
        pass

    def before_instantiate_classes(self) -> None:
        pass

    def instantiate_classes(self) -> None:
        pass


@plain_warnings()
def check_arguments(command: str, argv: list[str]) -> Namespace:
    """What a command would run with; nothing is made or written.

    Raises:
        DataError: a wrong file, key, class or value.
    """
    with ExitStack() as held:
        config: Namespace = CheckedCLI(command, argv, held).config
    return config


def _as_list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [] if value is None else [value]


@rank_zero_only
def _say(text: str) -> None:
    print(text, flush=True)


@plain_warnings()
def main(command: str, argv: list[str]) -> int:
    """Runs ``fit``, ``validate``, ``test`` or ``predict``; a signal that stops it in good order is its status."""
    try:
        leave_on_warning()
        with ExitStack() as held:
            cli = ExperimentCLI(command, argv, held)
            cli.run_command()
    except Stopped as stop:
        _say(stop.reason)
        if stop.number == signal.SIGUSR1:
            requeue()
        # rank 0's status is the job's: Lightning kills a run one of whose other processes ends with another one than 0
        return int(stop.code) if rank_zero_only.rank == 0 else 0  # type: ignore[attr-defined, arg-type]
    except SIGTERMException:  # before training had begun, when signals were Lightning's
        return 128 + signal.SIGTERM
    finally:
        os.environ.pop(ENV_RUN_DIR, None)
    return 0
