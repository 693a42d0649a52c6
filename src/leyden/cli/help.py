"""The text of `leyden --help` and `leyden COMMAND --help`. Imported before torch."""

from leyden import PROJECT

COMMANDS = {
    "fit": "Train, then test the best checkpoint.",
    "validate": "Score a checkpoint on the validation split.",
    "test": "Score a checkpoint on the test split.",
    "predict": "Write a checkpoint's prediction for each test sample, or for image files, to predictions.csv.",
    "export": "Write a checkpoint as ONNX, pt2 or safetensors, and run each file in its own runtime.",
    "show": "Show what is in the data, and draw the first training batch as the network gets it.",
    "demo": "Open a page on this machine to try a checkpoint: draw, drop an image, or see what it generates.",
}

HELP = """\
usage: leyden COMMAND [--config FILE]... [--ckpt_path CHECKPOINT] [--option value]...

{commands}
  compare   Show what differs between runs: leyden compare RUN RUN [--output PICTURE]
  repeat    Train several times: leyden repeat --config FILE [--seeds N] [--folds K] [--jobs J]
  report    Write a page about a run, or about several: leyden report RUN [RUN...] [--output FILE]

leyden COMMAND --help shows the options people use; leyden --version the version.

Experiments, each one complete --config:
{experiments}

Overlays, to add after an experiment with a second --config:
{overlays}

Try:
  leyden fit --config configs/convnet_digits.yaml
  leyden test --ckpt_path last
"""

COMMAND_HELP = """\
usage: leyden {command} [--config FILE]... [--ckpt_path CHECKPOINT] [--option value]...

{purpose}

  --config FILE                 an experiment, or an overlay after one; may be given several times
  --ckpt_path CHECKPOINT        a file, a run directory, or `best` or `last` of the newest run
{checkpoint}
  --model.NAME VALUE            an argument of the model, such as --model.dropout 0.2
  --model.optimizer.lr VALUE    the learning rate; --model.optimizer takes a class, such as torch.optim.Adam
  --model.loss CLASS            a loss that replaces the task's own, such as torch.nn.MultiMarginLoss
  --model.metrics+=CLASS        one more metric, such as torchmetrics.classification.MulticlassF1Score
  --model.init_from PATH        start from the weights of a checkpoint, a run directory or a state_dict
  --data.NAME VALUE             an argument of the data: batch_size, num_workers, val_size, ...
  --trainer.max_epochs N        how long to train
  --trainer.accelerator NAME    auto (the default), cpu, gpu
  --trainer.devices N           how many of them
  --trainer.precision NAME      32-true (the default), bf16-mixed, 16-mixed
  --trainer.NAME VALUE          any argument of lightning.pytorch.Trainer
  --trainer.callbacks+=NAME     one more callback
  --seed_everything N           seed of all that is random
  --name NAME                   the run goes to runs/NAME/<time>; default: the first --config's file name
  --monitor NAME                the score that selects best.ckpt, such as val/acc; --mode max where higher is better
  --test_after_fit false        do not test after fit
  --wandb.NAME VALUE            how the run shows in Weights & Biases: project, name, group, tags, notes, mode, ...

Defaults come first (configs/defaults.yaml), then the checkpoint's own configuration, then each --config, then the
options: the later wins.

  leyden {command} --model.help              the models; --data.help the datasets
  leyden {command} --model.help ConvNet      the arguments of a model; --data.help NAME those of a dataset
  leyden {command} --config FILE --print_config    the resolved configuration
  leyden {command} --help all                every option there is
"""

SHOW_HELP = """\
usage: leyden show [--config FILE]... [--ckpt_path CHECKPOINT] [--option value]...

{purpose}

It reads the images of a folder and writes their cache, as the first training would; it prints the number of samples of
each class in each split, and the copies among the images; it draws batch.png. Nothing is trained.

  --config FILE                 an experiment, or an overlay after one; may be given several times
  --ckpt_path CHECKPOINT        a file, a run directory, or `best` or `last` of the newest run, whose data to show
  --data NAME                   the data, without a --config
  --data.NAME VALUE             an argument of the data: batch_size, augment, ...
  --seed_everything N           seed of all that is random
  --output FILE                 the picture (default: batch.png)
  --count N                     at most so many images in it (default: 32)

The other options of `leyden fit` are accepted, so that its command line can be repeated, and change nothing.

  leyden show --data.help       the datasets; --data.help NAME their arguments
"""

PREDICT_HELP = """
For image files instead of the test samples:

  leyden predict --ckpt_path CHECKPOINT --images PATH... [--option value]...

  --images PATH...              files, folders with all below them, or - for a list on stdin, one name a line
  --invert                      swap dark and light, as for dark digits on paper and a model of light ones on black
  --top_k K                     how many of the most likely classes to write (3)
  --all                         the probability of each class as well (also without --images)
  --output FILE                 the table (predictions.csv in a new directory of runs/)
  --batch_size N                images to compute at once (as in the test)
  --skip_broken                 exit with code 0 although images are broken; they are named and left out in any case
  --accelerator NAME            auto (the default), cpu, gpu
  --name NAME                   take the newest run of runs/NAME/, and write there
"""

DEMO_HELP = """\
usage: leyden demo --ckpt_path CHECKPOINT [--option value]...

{purpose}

A classifier of images answers while one draws; ImageGPT generates images of a class. The page is served on this machine
only, and nothing is sent elsewhere.

  --ckpt_path CHECKPOINT        a file, a run directory, or `best` or `last` of the newest run; or what
                                `leyden export` wrote: an ONNX file, or a folder with safetensors
  --port N                      the port (default: the first free one from 7860 on)
  --host HOST                   the address to serve on (default: 127.0.0.1); any but a loopback address needs --auth
  --auth USER:PASSWORD          ask for these before the page is shown
"""

EXPORT_HELP = """\
usage: leyden export --ckpt_path CHECKPOINT [--option value]...

{purpose}

A file takes raw uint8 images (N, C, H, W), any number of them, or the numbers of a model without images. Scaling and
resizing are inside. Each file is run on the test split: the table shows the largest difference from the checkpoint, the
share of equal answers, the score, and CPU times on one thread, beside those of eager torch. A file that differs by more
than 1e-4, or in 8 bits scores more than 0.3 points lower, is not kept, and the exit code is 1.

  --ckpt_path CHECKPOINT        a file, a run directory, or `best` or `last` of the newest run
  --format FORMAT               onnx (the default), pt2, safetensors, or all
  --int8                        the ONNX file in 8 bits as well, calibrated on training samples
  --output DIR                  the folder (default: a new directory of runs/)
  --license TEXT                what the files' metadata say about their licence
  --samples N                   check on the first N test samples only
  --name NAME                   take the newest run of runs/NAME/, and write there

It needs the packages of `pip install "leyden[export]"`.
"""

OTHER_HELP = {"demo": DEMO_HELP, "export": EXPORT_HELP, "show": SHOW_HELP}  # of commands with options of their own

CHECKPOINT_HELP = {
    True: "                                to resume from; its configuration is used unless a --config says otherwise",
    False: "                                needed; its own configuration is used, so no --config is",
}


def _purposes(folder: str) -> str:
    """List the configurations in a folder with their purpose, which is the first line of each."""
    files = sorted(file for file in (PROJECT / folder).glob("*.yaml") if file.name != "defaults.yaml")
    lines = (
        f"  {f'{folder}/{file.name}':<42}{file.read_text(encoding='utf-8').partition(chr(10))[0].lstrip('# ')}"
        for file in files
    )
    return "\n".join(lines)


def overview() -> str:
    """Return the commands, experiments and overlays."""
    commands = "\n".join(f"  {name:<10}{purpose}" for name, purpose in COMMANDS.items())
    return HELP.format(commands=commands, experiments=_purposes("configs"), overlays=_purposes("configs/with"))


def command_help(command: str) -> str:
    """Return the options of a command that people use."""
    if command in OTHER_HELP:
        return OTHER_HELP[command].format(purpose=COMMANDS[command])
    checkpoint = CHECKPOINT_HELP[command == "fit"]
    text = COMMAND_HELP + (PREDICT_HELP if command == "predict" else "")
    return text.format(command=command, purpose=COMMANDS[command], checkpoint=checkpoint)
