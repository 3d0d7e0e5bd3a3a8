"""What preparation refuses, what it warns of, and that a failure leaves nothing behind."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from model.data.prepare import DomainInput, prepare
from model.data.prepare_settings import PrepareSettings, with_defaults
from model.data.report import read_report
from model.errors import BadArtifactError, BadDataError, BadSettingError, RecGuruError
from model.settings import load_settings

Prepare = Callable[..., Any]  # the fixture `prepare_two`

GOOD = "user,item,time\nann,x,1\nbob,y,2\n"
SEQUENCES = PrepareSettings(format="sequences")


def reviewed(user: int, item: int) -> str:
    return f"A{user:013d},B{item:09d}"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "log.txt is empty"),
        (
            b"\n\n",
            "log.txt has no column 'user' (it has ); say which one to use with --column user=NAME",
        ),
        (b"user,item,time\n", "log.txt holds no interactions"),
        (
            b"user,item\nann,x\n",
            (
                "log.txt has no column 'time' (it has user, item);"
                " say which one to use with --column time=NAME"
            ),
        ),
        (
            b"user,item,time\nann,x,noon\n",
            (
                "log.txt: 1 of 1 lines cannot be used, more than 1%:"
                " line 2: time 'noon' is not a number"
            ),
        ),
        (b"\x1f\x8bnonsense", "log.txt is damaged gzip: Unknown compression method"),
        (
            b"user,item,time\n,x,1\nann,,2\n",
            (
                "domain second: nothing is left of 2 interactions read:"
                " bad ids (neither empty, garbled nor longer than 512 bytes) removed 2"
            ),
        ),
    ],
)
def test_a_bad_second_log_is_named_and_nothing_is_left_of_the_first(
    prepare_two: Prepare, tmp_path: Path, content: bytes, message: str
) -> None:
    with pytest.raises(BadDataError) as caught:
        prepare_two(GOOD, content, format="table")

    assert str(caught.value).endswith(message)
    written = [path.name for path in tmp_path.rglob("*") if path.is_file()]
    assert written == ["log.txt", "log.txt"]
    assert not (tmp_path / "run0" / "dataset").exists()


def test_a_missing_log_is_named(tmp_path: Path) -> None:
    inputs = DomainInput("a", tmp_path / "gone.tsv"), DomainInput("b", tmp_path / "gone.tsv")

    with pytest.raises(BadDataError) as caught:
        prepare(inputs, SEQUENCES, tmp_path / "out")

    assert str(caught.value) == f"{tmp_path}/gone.tsv does not exist"


def test_missing_titles_are_found_before_anything_is_read(tmp_path: Path) -> None:
    log = tmp_path / "log.tsv"
    log.write_text("broken")
    inputs = DomainInput("a", log, tmp_path / "gone.tsv"), DomainInput("b", log)

    with pytest.raises(BadDataError) as caught:
        prepare(inputs, SEQUENCES, tmp_path / "out")

    assert str(caught.value) == f"{tmp_path}/gone.tsv does not exist"


def test_a_few_bad_lines_are_left_out_with_a_warning(prepare_two: Prepare) -> None:
    log = "user,item,time\n" + "".join(f"u{n},x,{n}\n" for n in range(200)) + "ann,x,noon\n"

    made = prepare_two(log, GOOD, format="table")

    assert made.report["warnings"][0] == (
        "log.txt: 1 of 201 lines cannot be used and are left out:"
        " line 202: time 'noon' is not a number"
    )
    domain = made.report["domains"]["first"]
    assert (domain["records"], domain["unusable_records"], domain["interactions"]) == (201, 1, 200)


def test_empty_ids_and_duplicates_are_dropped_and_counted(prepare_two: Prepare) -> None:
    log = "user,item,time\nann,x,1\nann,x,1\nann,x,1\n,x,2\nann, ,3\nann,x,4\n"

    made = prepare_two(log, GOOD, format="table")

    assert made.histories("first") == {"ann": ["x", "x"]}
    assert made.removed("first") == {"read": 0, "bad ids": 2, "duplicates": 2}


def test_one_domain_emptied_by_the_resampling_is_refused(prepare_two: Prepare) -> None:
    log = "ann\tx\n"

    with pytest.raises(BadDataError) as caught:
        prepare_two(log, log, format="sequences", shared_rate=0)

    assert str(caught.value).endswith(
        "nothing is left of 1 interactions read:"
        " bad ids (neither empty, garbled nor longer than 512 bytes) removed 0;"
        " shared rate (0) removed 1"
    )


def test_what_stands_at_the_place_of_the_dataset_is_left_alone(tmp_path: Path) -> None:
    out, log = tmp_path / "out", tmp_path / "log.tsv"
    out.mkdir()
    (out / "mine").write_text("precious")
    log.write_text("ann\tx\n")
    inputs = DomainInput("a", log), DomainInput("b", log)

    with pytest.raises(RecGuruError) as caught:
        prepare(inputs, SEQUENCES, out)

    assert str(caught.value) == f"{out} exists already; choose another place or remove it first"
    assert (out / "mine").read_text() == "precious"


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (("a", "a"), "both domains are called 'a'; they need two names"),
        (("a", "Big"), "domain name 'Big' may hold only a-z, 0-9, _ and -"),
        (("../a", "b"), "domain name '../a' may hold only a-z, 0-9, _ and -"),
    ],
)
def test_names_that_cannot_be_folders_are_refused(
    tmp_path: Path, names: tuple[str, str], message: str
) -> None:
    log = tmp_path / "log.tsv"
    log.write_text("ann\tx\n")

    with pytest.raises(BadSettingError) as caught:
        prepare((DomainInput(names[0], log), DomainInput(names[1], log)), SEQUENCES, tmp_path / "o")

    assert str(caught.value) == message


def test_domains_that_share_items_are_warned_of(prepare_two: Prepare) -> None:
    made = prepare_two("ann\tx,y,z\n", "ann\tz,v\n", format="sequences")

    assert made.report["warnings"] == [
        (
            "first and second share 1 item ids: one event may stand in both domains"
            " and a held-out item of one in the history of the other; remove them from the logs"
        )
    ]


SWAPPED = "; users and items may be swapped"


def test_users_and_items_swapped_in_both_domains_are_suspected(prepare_two: Prepare) -> None:
    first = "".join(f"item{n}\tann,bob\n" for n in range(5))
    second = "".join(f"thing{n}\tann,cy\n" for n in range(5))

    made = prepare_two(first, second, format="sequences")

    assert made.report["warnings"][1] == (
        "first and second have more of their item ids in common than of their user ids;"
        " users and items may be swapped in both"
    )


@pytest.mark.parametrize("swapped", [0, 1])
def test_users_and_items_swapped_in_one_domain_are_suspected(
    prepare_two: Prepare, swapped: int
) -> None:
    logs = ["".join(f"user{n}\tx{n},y{n}\n" for n in range(5)), "x\tuser1,user2\ny\tuser3\n"]

    made = prepare_two(*(logs if swapped else reversed(logs)), format="sequences")

    assert made.report["warnings"] == [
        (
            "user ids of one domain are item ids of the other;"
            " users and items may be swapped in first or in second"
        )
    ]


def test_amazon_ids_in_each_others_place_are_suspected(prepare_two: Prepare) -> None:
    table = "item,user,time\n" + "".join(f"{reviewed(n, n)},{n}\n" for n in range(5))

    made = prepare_two(table, GOOD, format="table")

    assert made.report["warnings"] == [
        "first: user ids look like Amazon items and item ids like Amazon users" + SWAPPED
    ]


def test_far_more_items_than_users_are_suspected(prepare_two: Prepare) -> None:
    log = "ann\t" + ",".join(f"x{n}" for n in range(21)) + "\n"

    made = prepare_two(log, "bob\ty\n", format="sequences")

    assert made.report["warnings"] == ["first: 21 items for 1 users" + SWAPPED]


@pytest.mark.parametrize(("again", "share"), [(1, None), (2, "10%"), (20, "100%")])
def test_users_whose_last_item_is_one_they_had_are_said(
    prepare_two: Prepare, again: int, share: str | None
) -> None:
    users = [f"u{n}\tx,y,{'x' if n < again else 'z'}\n" for n in range(20)]
    users += [f"v{n}\tx,y\n" for n in range(100)]  # too short to be asked about

    made = prepare_two("".join(users), "ann\tp,q\n", format="sequences")

    said = f"first: {share} of the users asked about had their last item before; what one has"
    warnings = made.report["warnings"]
    assert [warning[: len(said)] for warning in warnings] == ([said] if share else [])


def test_numbers_as_ids_of_everything_raise_no_suspicion_of_a_swap(prepare_two: Prepare) -> None:
    first = "".join(f"{n}\t{n},{n + 1}\n" for n in range(20))
    second = "".join(f"{n}\t{n},{n + 1},{n + 2}\n" for n in range(30))

    made = prepare_two(first, second, format="sequences")

    assert not [warning for warning in made.report["warnings"] if "swapped" in warning]


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (
            {"format": "csv"},
            (
                "setting data.format: Input should be 'sequences', 'amazon', 'table' or 'collected'"
                " (got 'csv')"
            ),
        ),
        (
            {"since": "soon"},
            "setting data.since: 'soon' is neither an ISO date nor unix seconds",
        ),
        (
            {"since": "2020-01-01", "until": "2019-01-01"},
            ("setting data.until: must be after since, which is 2020-01-01 (got '2019-01-01')"),
        ),
        (
            {"shared_rate": 1.5},
            "setting data.shared_rate: Input should be less than or equal to 1 (got 1.5)",
        ),
        (
            {"core": -1},
            "setting data.core: Input should be greater than or equal to 0 (got -1)",
        ),
        (
            {"columns": {"who": "x"}},
            (
                "setting data.columns.who: Input should be 'user', 'item', 'time' or 'rating'"
                " (got 'who')"
            ),
        ),
    ],
)
def test_options_out_of_range_are_named(flags: dict[str, object], message: str) -> None:
    with pytest.raises(BadSettingError) as caught:
        load_settings(PrepareSettings, table="data", flags={"format": "table", **flags})

    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"format": "sequences", "min_rating": 2},
            "setting data.min_rating: the format sequences has no ratings",
        ),
        (
            {"format": "table", "verified_only": True},
            "setting data.verified_only: the format table does not say it",
        ),
        (
            {"format": "collected", "columns": {"user": "x"}},
            "setting data.columns: the format collected has fixed columns",
        ),
    ],
)
def test_options_that_the_format_cannot_serve_are_refused(
    options: dict[str, object], message: str
) -> None:
    with pytest.raises(BadSettingError) as caught:
        with_defaults(PrepareSettings.model_validate(options))

    assert str(caught.value) == message


def test_a_window_on_sequences_without_times_is_refused(prepare_two: Prepare) -> None:
    with pytest.raises(BadSettingError) as caught:
        prepare_two("ann\tx\n", "ann\ty\n", format="sequences", until="2020-01-01")

    assert str(caught.value) == "setting data.since, data.until: the log of first states no times"


def test_a_damaged_dataset_is_not_described(prepare_two: Prepare) -> None:
    made = prepare_two("ann\tx\n", "ann\ty\n", format="sequences")
    rows = made.folder / "second" / "sequences.rows.npy"
    rows.write_bytes(rows.read_bytes()[:-1] + b"\x07")

    with pytest.raises(BadArtifactError, match=r"sequences\.rows\.npy is damaged"):
        read_report(made.folder)
