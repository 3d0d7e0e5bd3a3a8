"""`recguru data ...`, `recguru train` and `recguru compare`."""

from pathlib import Path
from typing import Annotated

import typer

from model.allocator import keep_freed_memory
from model.comparison.cli import comparison_app
from model.console import FAILURE, limit_threads, make_app, print_json
from model.data.cli import data_app
from model.settings import DeviceChoice

app = make_app("Prepare data, train and compare.")
app.add_typer(data_app, name="data")
app.add_typer(comparison_app)


@app.command()
def train(  # noqa: PLR0913  # every flag is a parameter
    *,
    data: Annotated[Path, typer.Option(help="Dataset folder, from `recguru data prepare`.")],
    out: Annotated[Path, typer.Option(help="Folder of the run; the bundle appears in OUT/bundle.")],
    config: Annotated[
        Path | None, typer.Option(help="TOML file; its table [train] is read.")
    ] = None,
    preset: Annotated[
        str, typer.Option(help="What the settings start from: recguru or paper.")
    ] = "recguru",
    seed: Annotated[int | None, typer.Option(min=0, help="Same seed, same weights (CPU).")] = None,
    resume: Annotated[bool, typer.Option(help="Go on from the newest checkpoint in OUT.")] = False,
    device: Annotated[DeviceChoice, typer.Option(help="Where the networks train.")] = "auto",
    as_json: Annotated[bool, typer.Option("--json", help="Print the figures as JSON.")] = False,
) -> None:
    """Train the phases: pre-training, adversarial, fine-tuning, bridging.

    Writes checkpoints, metrics.jsonl, TensorBoard events, training.png, alignment.png, summary.txt
    and the bundle.

    \b
    Example:
      recguru train --data dataset --out run --seed 1
      recguru train --data dataset --out run --resume
      torchrun --nproc-per-node 2 -m recguru_cli train --data dataset --out run
      recguru train --data dataset --out run --preset paper --config recguru.toml
    """  # noqa: D301  # the backspace keeps the lines of the example apart
    limit_threads()
    keep_freed_memory()
    from model.errors import LostProcessError
    from model.settings import load_settings
    from model.training.loop import train as run_training
    from model.training.parallel import leads
    from model.training.plots import plot_alignment, plot_training
    from model.training.presets import PRESETS
    from model.training.settings import TrainSettings
    from model.training.summary import summary_text

    if preset not in PRESETS:
        raise typer.BadParameter(f"there are {', '.join(PRESETS)}", param_hint="--preset")
    settings = load_settings(
        TrainSettings, table="train", config=config, flags={"seed": seed}, preset=PRESETS[preset]
    )
    try:
        trained = run_training(data, out, settings, resume=resume, device=device)
    except LostProcessError:
        if leads():
            raise
        raise typer.Exit(FAILURE) from None  # whoever failed has said why, or the first one does
    if not leads():
        return
    plots = [path for path in (plot_training(out), plot_alignment(out)) if path]
    if as_json:
        print_json({"bundle": str(trained.bundle), "digest": trained.digest, **trained.summary})
        return
    typer.echo(summary_text(trained), nl=False)
    places = ", ".join(str(path) for path in plots)
    typer.echo(f"pictures in {places}" if places else "no pictures: install the extra `plots`")
