"""`recguru data prepare | simulate | describe | overlap`."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from model.console import make_app, print_json, progress, warn
from model.data.formats import CorePasses, Format

if TYPE_CHECKING:
    from model.data.prepare import DomainInput

data_app = make_app("Interaction logs to a dataset: prepare real ones, simulate some, describe.")

_DOMAINS = 2
_KIBI = 1 << 10

_Domains = Annotated[
    list[str],
    typer.Option("--domain", metavar="NAME=FILE", help="A domain and its log; give two."),
]
_Format = Annotated[Format, typer.Option("--format", help="What the logs are.")]
_Out = Annotated[Path, typer.Option(help="Folder of the dataset; must not exist yet.")]
_Titles = Annotated[
    list[str] | None,
    typer.Option(
        metavar="NAME=FILE",
        help="Titles of a domain's items: id <TAB> title, or Amazon metadata (JSON lines).",
    ),
]
_Columns = Annotated[
    list[str] | None,
    typer.Option(
        "--column",
        metavar="OURS=THEIRS",
        help="Your name of the column user, item, time or rating; places in amazon CSVs.",
    ),
]
_MinRating = Annotated[float | None, typer.Option(help="Keep ratings above this.  [amazon: 2]")]
_Since = Annotated[
    str | None,
    typer.Option(
        help="Keep what is at or after this ISO date or unix time, or `none`."
        "  [amazon: 2017-10-02 where the file reaches beyond it]"
    ),
]
_Until = Annotated[
    str | None, typer.Option(help="Keep what is before this ISO date or unix time, or `none`.")
]
_Verified = Annotated[
    bool | None, typer.Option("--verified-only", help="Keep verified purchases only (amazon).")
]
_Collapse = Annotated[
    bool | None, typer.Option(help="Keep one of equal items in a row.  [collected: yes]")
]
_Core = Annotated[
    int | None,
    typer.Option(help="Interactions each user and item must keep; 0: any.  [amazon: 5]"),
]
_Passes = Annotated[
    CorePasses | None,
    typer.Option(help="Until nothing changes, or items once, then users once.  [stable]"),
]
_MinLength = Annotated[
    int | None, typer.Option(help="Interactions a user must have.  [collected: 6, else 1]")
]
_SharedRate = Annotated[
    float | None,
    typer.Option(help="Shared users to keep, as a share of the first domain's users.  [all]"),
]
_Seed = Annotated[int | None, typer.Option(help="Decides ties in time and who stays shared.  [0]")]
_Config = Annotated[Path | None, typer.Option(help="TOML file; its table [data] is read.")]
_Json = Annotated[bool, typer.Option("--json", help="Print the report as JSON.")]


@data_app.command()
def prepare(  # noqa: PLR0913  # Typer reads one parameter a flag
    *,
    domains: _Domains,
    format_: _Format,
    out: _Out,
    titles: _Titles = None,
    columns: _Columns = None,
    min_rating: _MinRating = None,
    since: _Since = None,
    until: _Until = None,
    verified_only: _Verified = None,
    collapse_repeats: _Collapse = None,
    core: _Core = None,
    core_passes: _Passes = None,
    min_length: _MinLength = None,
    shared_rate: _SharedRate = None,
    seed: _Seed = None,
    config: _Config = None,
    json_: _Json = False,
) -> None:
    r"""Turn the interaction logs of two domains into a dataset folder and print its statistics.

    \b
    Example:
      recguru data prepare --domain beauty=beauty.sequences.tsv --domain toys=toys.sequences.tsv \
        --format sequences --out dataset
      recguru data prepare --domain sport=Sports.json.gz --domain cloth=Clothing.json.gz \
        --format amazon --titles sport=meta_Sports.json.gz --out dataset
      recguru data prepare --domain web=web.parquet --domain app=app.csv --format table \
        --column user=customer --column item=sku --column time=at --core 3 --out dataset
    """
    from model.data.prepare import prepare as run_preparation
    from model.data.prepare_settings import PrepareSettings
    from model.settings import load_settings

    inputs = _inputs(_pairs(domains, "--domain"), _pairs(titles or [], "--titles"), format_)
    flags = {
        "format": format_,
        "columns": _pairs(columns or [], "--column"),
        "min_rating": min_rating,
        "since": since,
        "until": until,
        "verified_only": verified_only,
        "collapse_repeats": collapse_repeats,
        "core": core,
        "core_passes": core_passes,
        "min_length": min_length,
        "shared_rate": shared_rate,
        "seed": seed,
    }
    settings = load_settings(PrepareSettings, table="data", config=config, flags=flags)
    with _reading([entry.log for entry in inputs]) as advance:
        report = run_preparation(inputs, settings, out, advance=advance)
    _show(report, as_json=json_)


@data_app.command()
def simulate(
    *,
    out: Annotated[Path, typer.Option(help="Folder of the logs; must not exist yet.")],
    users: Annotated[
        list[int] | None, typer.Option(help="Users of a domain; twice for two numbers.")
    ] = None,
    items: Annotated[
        list[int] | None, typer.Option(help="Items of a domain; twice for two numbers.")
    ] = None,
    shared_rate: Annotated[
        float | None, typer.Option(help="Share of the smaller domain's users known in both.")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Same seed, same logs.")] = None,
    config: Annotated[
        Path | None, typer.Option(help="TOML file; its table [simulate] is read.")
    ] = None,
) -> None:
    r"""Make the logs of two domains with a known truth: NAME.sequences.tsv and NAME.items.tsv.

    \b
    Example:
      recguru data simulate --users 3000 --items 800 --shared-rate 0.4 --seed 1 --out logs
      recguru data prepare --domain books=logs/books.sequences.tsv \
        --domain films=logs/films.sequences.tsv --format sequences --out dataset
    """
    from model.data.simulate import SimulationSettings
    from model.data.simulate import simulate as run_simulation
    from model.settings import load_settings

    flags = {
        "users": _both(users, "--users"),
        "items": _both(items, "--items"),
        "shared_rate": shared_rate,
        "seed": seed,
    }
    settings = load_settings(SimulationSettings, table="simulate", config=config, flags=flags)
    run_simulation(settings, out)
    typer.echo(f"logs of {' and '.join(settings.domains)} in {out}")


@data_app.command()
def describe(
    *,
    data: Annotated[Path, typer.Option(help="Dataset folder, from `recguru data prepare`.")],
    json_: _Json = False,
) -> None:
    r"""Print the statistics of a dataset, after checking its files.

    \b
    Example:
      recguru data describe --data dataset
      recguru data describe --data dataset --json
    """
    from model.data.report import read_report

    _show(read_report(data), as_json=json_)


@data_app.command()
def overlap(
    *,
    data: Annotated[Path, typer.Option(help="Dataset folder with many shared users.")],
    share: Annotated[
        float, typer.Option(min=0, max=1, help="How many of the shared users stay shared.")
    ],
    out: _Out,
    seed: Annotated[int, typer.Option(min=0, max=2**63 - 2, help="Decides who stays shared.")] = 0,
    json_: _Json = False,
) -> None:
    r"""Make a dataset with fewer shared users: the others keep one domain, chosen at random.

    \b
    Example:
      recguru data overlap --data dataset --share 0.3 --out dataset-30
    """
    from model.data.overlap import with_overlap
    from model.data.report import read_report

    with_overlap(data, out, share=share, seed=seed)
    _show(read_report(out), as_json=json_)


def _show(report: dict[str, Any], *, as_json: bool) -> None:
    for warning in report["warnings"]:
        warn(warning)
    if as_json:
        print_json(report)
    else:
        from model.data.report_tables import print_report

        print_report(report)


def _inputs(
    logs: dict[str, str], titles: dict[str, str], format_: str
) -> tuple["DomainInput", "DomainInput"]:
    """Put the files of the two domains together."""
    from model.data.prepare import DomainInput, titles_beside

    if len(logs) != _DOMAINS:
        raise typer.BadParameter(f"two domains are needed, not {len(logs)}", param_hint="--domain")
    for name in titles.keys() - logs.keys():
        raise typer.BadParameter(f"there is no domain {name!r}", param_hint="--titles")

    def one(name: str) -> DomainInput:
        log = Path(logs[name])
        beside = titles_beside(log) if format_ == "sequences" else None
        return DomainInput(name, log, Path(titles[name]) if name in titles else beside)

    first, second = logs
    return one(first), one(second)


def _pairs(texts: Sequence[str], flag: str) -> dict[str, str]:
    """Read NAME=VALUE arguments."""
    pairs: dict[str, str] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not (name and equals and value):
            raise typer.BadParameter(f"{text!r} is not NAME=VALUE", param_hint=flag)
        if name in pairs:
            raise typer.BadParameter(f"{name!r} is given twice", param_hint=flag)
        pairs[name] = value
    return pairs


def _both(numbers: Sequence[int] | None, flag: str) -> tuple[int, int] | None:
    """Read a number for each domain, or one for both."""
    if not numbers:
        return None
    if len(numbers) > _DOMAINS:
        raise typer.BadParameter(f"{len(numbers)} numbers for two domains", param_hint=flag)
    return numbers[0], numbers[-1]


@contextmanager
def _reading(files: Sequence[Path]) -> Iterator[Callable[[int], None]]:
    """Show how much of some files has been read, in KiB."""
    total = sum(file.stat().st_size for file in files if file.exists())
    read = 0
    with progress("reading (KiB)", max(1, total // _KIBI)) as advance:

        def count(size: int) -> None:
            nonlocal read
            advance((read + size) // _KIBI - read // _KIBI)
            read += size

        yield count
