"""`leyden` and `python -m leyden`: what needs no torch is answered here, the rest by `leyden.cli.main`."""

import gc
import io
import locale
import os
import re
import signal
import sys
from typing import NoReturn

from leyden import PROJECT, __version__
from leyden.cli.parent_watch import end_with_parent

COMMANDS = {
    "fit": "Train, then test the best checkpoint.",
    "validate": "Score a checkpoint on the validation split.",
    "test": "Score a checkpoint on the test split.",
    "predict": "Write a checkpoint's answer for each test sample to predictions.csv.",
}

HELP = """\
usage: leyden COMMAND [--config FILE]... [--ckpt_path CHECKPOINT] [--option value]...

{commands}
  compare   Show what differs between runs: leyden compare RUN RUN [--output PICTURE]

leyden COMMAND --help shows the options people use; leyden --version the version.

Experiments, each one complete --config:
{experiments}

Overlays, to stack behind an experiment with a second --config:
{overlays}

Try:
  leyden fit --config configs/convnet_digits.yaml
  leyden test --ckpt_path last
"""

COMMAND_HELP = """\
usage: leyden {command} [--config FILE]... [--ckpt_path CHECKPOINT] [--option value]...

{purpose}

  --config FILE                 an experiment, or an overlay behind one; may be given several times
  --ckpt_path CHECKPOINT        a file, a run directory, or `best` or `last` of the newest run
{checkpoint}
  --model.NAME VALUE            an argument of the model, such as --model.dropout 0.2
  --model.optimizer.lr VALUE    the learning rate; --model.optimizer takes a class, such as torch.optim.Adam
  --model.loss CLASS            a loss in the place of the task's own, such as torch.nn.MultiMarginLoss
  --model.metrics+=CLASS        one more metric, such as torchmetrics.classification.MulticlassF1Score
  --data.NAME VALUE             an argument of the data: batch_size, num_workers, val_size, ...
  --trainer.max_epochs N        how long to train
  --trainer.accelerator NAME    auto (the default), cpu, gpu
  --trainer.devices N           how many of them
  --trainer.precision NAME      32-true (the default), bf16-mixed, 16-mixed
  --trainer.NAME VALUE          any argument of lightning.pytorch.Trainer
  --trainer.callbacks+=NAME     one more callback
  --seed_everything N           seed of all that is random
  --name NAME                   the run goes to runs/NAME/<time>; default: the first --config's file name
  --monitor NAME                the score that best.ckpt goes by, such as val/acc; --mode max where more is better
  --test_after_fit false        do not test after fit
  --wandb.NAME VALUE            how the run shows in Weights & Biases: project, name, group, tags, notes, mode, ...

Defaults come first (configs/defaults.yaml), then the checkpoint's own configuration, then each --config, then the
options: the later wins.

  leyden {command} --model.help              the models; --data.help the datasets
  leyden {command} --model.help ConvNet      the arguments of a model; --data.help NAME those of a dataset
  leyden {command} --config FILE --print_config    the resolved configuration
  leyden {command} --help all                every option there is
"""

CHECKPOINT_HELP = {
    True: "                                to go on from; its configuration is used where no --config says otherwise",
    False: "                                needed; its own configuration is used, so no --config is",
}


def _purposes(folder: str) -> str:
    """List the configurations in a folder with the purpose that each one's first line gives."""
    files = sorted(file for file in (PROJECT / folder).glob("*.yaml") if file.name != "defaults.yaml")
    lines = (
        f"  {f'{folder}/{file.name}':<42}{file.read_text(encoding='utf-8').partition(chr(10))[0].lstrip('# ')}"
        for file in files
    )
    return "\n".join(lines)


def _refuse(reason: str) -> NoReturn:
    """Exit with code 2, and one line that lists the commands."""
    print(f"error: {reason}; there are {', '.join([*COMMANDS, 'compare'])} (see `leyden --help`)", file=sys.stderr)
    sys.exit(2)


def _only_prints(args: list[str]) -> bool:
    """Return whether a command prints something and ends."""
    return args[:1] == ["compare"] or any(re.match(r"-h$|--help$|--[\w.]+\.help(=|$)", word) for word in args)


def _use_utf8() -> None:
    """Read and write every file as UTF-8, and print `?` for what the terminal cannot show.

    In a locale of another encoding the interpreter starts again in its UTF-8 mode, the default from Python 3.15 on:
    jsonargparse and fsspec open files in the locale's encoding. Child processes inherit it.
    """
    if not isinstance(sys.stdout, io.TextIOWrapper):
        return
    sys.stdout.reconfigure(errors="replace")
    if not sys.flags.utf8_mode and locale.getencoding().lower() != "utf-8":
        os.environ |= {"PYTHONUTF8": "1", "PYTHONIOENCODING": f"{sys.stdout.encoding}:replace"}
        os.execv(sys.executable, [sys.executable, "-X", "utf8", *sys.orig_argv[1:]])


def _let_threads_sleep() -> None:
    """Limit how long idle OpenMP threads spin: on a busy machine they take a core from threads that have work.

    Torch's OpenMP library reads this when torch is imported. Results are the same to the bit. The limit is for GNU's
    library, which torch uses on Linux, a 30th of its default: without any spinning, training on an idle machine takes
    1.5 times as long.
    """
    if not os.environ.keys() & {"OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME"}:
        os.environ |= {"OMP_WAIT_POLICY": "PASSIVE", "GOMP_SPINCOUNT": "10000"}


def main() -> None:
    """Run the command line on the words that the shell gave."""
    _use_utf8()
    args = sys.argv[1:]
    if _only_prints(args) and hasattr(signal, "SIGPIPE"):
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # `| head` ends it, as it ends other commands that only print
    match args:
        case ["--version"]:
            print(f"leyden {__version__}")
        case ["-h" | "--help"]:
            commands = "\n".join(f"  {name:<10}{purpose}" for name, purpose in COMMANDS.items())
            print(HELP.format(commands=commands, experiments=_purposes("configs"), overlays=_purposes("configs/with")))
        case [command, "-h" | "--help"] if command in COMMANDS:
            checkpoint = CHECKPOINT_HELP[command == "fit"]
            print(COMMAND_HELP.format(command=command, purpose=COMMANDS[command], checkpoint=checkpoint))
        case ["compare", *runs]:
            from leyden.runs.compare import main as compare

            sys.exit(compare(runs))
        case []:
            _refuse("a command is missing")
        case [command, *_] if command not in COMMANDS:
            _refuse(f"no command `{command}`")
        case _:
            end_with_parent()
            _let_threads_sleep()
            gc.disable()  # nothing is garbage yet, and to look for it takes a sixth of the time of the imports
            from leyden.cli.main import main as run  # imports torch and lightning, some seconds

            gc.freeze()  # nor will it be
            gc.enable()
            if args[1:] == ["--help", "all"]:
                args.pop()
            sys.exit(run(args))


if __name__ == "__main__":
    main()
