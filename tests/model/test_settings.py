"""Settings come from four sources, the later winning; what is wrong is named."""

import re
from pathlib import Path
from typing import Annotated

import pytest
from pydantic import Field, SecretStr, ValidationError

from model.errors import BadSettingError
from model.settings import TABLES, Settings, load_settings


class Steps(Settings):
    """Settings of an inner table."""

    epochs: Annotated[int, Field(ge=1)] = 1
    """Passes over the data."""

    rate: float = 0.5
    """Size of a step."""


class Walk(Settings):
    """Settings of a table."""

    seed: Annotated[int, Field(ge=0)] = 0
    """Where draws come from."""

    name: str = "walk"
    """What it is called."""

    sizes: tuple[int, ...] = (1, 2)
    """Several numbers."""

    steps: Steps = Steps()
    """An inner table."""


class Scopes(Settings):
    """Settings of an inner table whose name alone says that secrets stand in it."""

    callers: tuple[str, ...] = ()
    """Digests."""


class Guarded(Settings):
    """Settings of a table in which secrets stand."""

    token: SecretStr | None = None
    """What lets a caller in."""

    pin_password: Annotated[int, Field(ge=0)] | None = None
    """What lets a caller in as well."""

    tokens: Scopes = Scopes()
    """Who is let in."""


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """Write a TOML file with the table [walk] and one of another command."""
    path = tmp_path / "recguru.toml"
    path.write_text(
        '[walk]\nseed = 1\nname = "from the file"\nsteps = {epochs = 2, rate = 0.2}\n'
        "[serve]\nport = 5\n"
    )
    return path


def test_without_any_source_the_defaults_hold() -> None:
    assert load_settings(Walk, table="walk") == Walk()


def test_each_source_wins_over_those_before_it(
    config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert load_settings(Walk, table="walk", config=config).seed == 1
    monkeypatch.setenv("RECGURU_WALK_SEED", "2")
    assert load_settings(Walk, table="walk", config=config).seed == 2
    assert load_settings(Walk, table="walk", config=config, flags={"seed": 3}).seed == 3


def test_sources_are_mixed_key_by_key_inside_a_nested_table(
    config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RECGURU_WALK_STEPS__EPOCHS", "7")
    found = load_settings(Walk, table="walk", config=config, flags={"seed": 4})
    assert found == Walk(seed=4, name="from the file", steps=Steps(epochs=7, rate=0.2))


def test_a_flag_that_was_not_given_overrides_nothing(config: Path) -> None:
    flags = {"seed": None, "steps": {"epochs": None, "rate": 0.75}}
    found = load_settings(Walk, table="walk", config=config, flags=flags)
    assert found == Walk(seed=1, name="from the file", steps=Steps(epochs=2, rate=0.75))


def test_a_flag_of_zero_counts_as_given(config: Path) -> None:
    assert load_settings(Walk, table="walk", config=config, flags={"seed": 0}).seed == 0


def test_the_environment_of_another_command_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RECGURU_SERVE_SEED", "9")
    monkeypatch.setenv("RECGURU_DATA", "somewhere")
    assert load_settings(Walk, table="walk") == Walk()


def test_several_values_are_json_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RECGURU_WALK_SIZES", "[3, 4]")
    assert load_settings(Walk, table="walk").sizes == (3, 4)


def test_what_kubernetes_says_of_a_service_with_the_name_of_a_table_is_no_setting(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("SERVICE_HOST", "SERVICE_PORT_GRPC", "PORT", "PORT_80_TCP", "PORT_80_TCP_ADDR"):
        monkeypatch.setenv(f"RECGURU_WALK_{name}", "10.0.0.1")
    load_settings(Walk, table="walk")

    monkeypatch.setenv("RECGURU_WALK_SEEED", "2")
    with pytest.raises(BadSettingError) as refused:
        load_settings(Walk, table="walk")
    assert str(refused.value) == "environment RECGURU_WALK_SEEED: there is no setting walk.seeed"


def test_what_was_given_is_said_though_the_bound_has_it_in_it() -> None:
    class Wide(Settings):
        size: Annotated[int, Field(ge=10)] = 10

    with pytest.raises(BadSettingError, match=r"greater than or equal to 10 \(got 1\)$"):
        load_settings(Wide, table="walk", flags={"size": 1})


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[walk]\nsede = 1", "setting walk.sede: there is no such setting"),
        ("[walk.steps]\nepoch = 1", "setting walk.steps.epoch: there is no such setting"),
        (
            "[walk]\nseed = -1",
            "setting walk.seed: Input should be greater than or equal to 0 (got -1)",
        ),
        (
            "[walk]\nsteps = 3",
            "setting walk.steps: Input should be a valid dictionary or instance of Steps (got 3)",
        ),
    ],
)
def test_a_key_or_value_that_is_refused_is_named(
    content: str, message: str, tmp_path: Path
) -> None:
    (tmp_path / "bad.toml").write_text(content)
    with pytest.raises(BadSettingError) as caught:
        load_settings(Walk, table="walk", config=tmp_path / "bad.toml")
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            '[gate.tokens]\ncallers = "4711"',
            "setting gate.tokens.callers: Input should be a valid tuple",
        ),
        (
            "[gate.tokens]\ncallers = [4711]",
            "setting gate.tokens.callers.0: Input should be a valid string",
        ),
        (
            '[gate]\ntokens = "4711"',
            "setting gate.tokens: Input should be a valid dictionary or instance of Scopes",
        ),
        ('[gate]\ntoken = ["4711"]', "setting gate.token: Input should be a valid string"),
        (
            "[gate]\npin_password = -4711",
            "setting gate.pin_password: Input should be greater than or equal to 0",
        ),
        ('[gate]\ntokne = "4711"', "setting gate.tokne: there is no such setting"),
        ('[gate.tokens]\ncaller = "4711"', "setting gate.tokens.caller: there is no such setting"),
    ],
)
def test_what_may_be_a_secret_is_refused_without_being_shown(
    content: str, message: str, tmp_path: Path
) -> None:
    (tmp_path / "bad.toml").write_text(content)
    with pytest.raises(BadSettingError) as caught:
        load_settings(Guarded, table="gate", config=tmp_path / "bad.toml")
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("variable", "value", "message"),
    [
        (
            "RECGURU_WALK_STEPS__EPOCHS",
            "0",
            "setting walk.steps.epochs: Input should be greater than or equal to 1 (got '0')",
        ),
        (
            "RECGURU_WALK_STEPS__EPOCS",
            "2",
            "setting walk.steps.epocs: there is no such setting",
        ),
        (
            "RECGURU_WALK_SIZES",
            "[3,",
            (
                'environment RECGURU_WALK_...: error parsing value for field "sizes" from source '
                '"EnvSettingsSource"; give JSON'
            ),
        ),
    ],
)
def test_a_variable_that_is_refused_is_named(
    variable: str, value: str, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(BadSettingError) as caught:
        load_settings(Walk, table="walk")
    assert str(caught.value) == message


def test_a_flag_that_is_refused_is_named() -> None:
    with pytest.raises(BadSettingError) as caught:
        load_settings(Walk, table="walk", flags={"steps": {"epochs": 0}})
    expected = "setting walk.steps.epochs: Input should be greater than or equal to 1 (got 0)"
    assert str(caught.value) == expected


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"[walk\nseed = 1", "config file {0} is not TOML: Expected ']' at the end of a table "),
        (b'[walk]\nname = "\xff"', "config file {0} is not TOML: 'utf-8' codec can't decode byte "),
        (b"walk = 3", "config file {0}: [walk] must be a table"),
    ],
)
def test_a_file_that_is_no_toml_is_refused(content: bytes, message: str, tmp_path: Path) -> None:
    path = tmp_path / "bad.toml"
    path.write_bytes(content)
    with pytest.raises(BadSettingError) as caught:
        load_settings(Walk, table="walk", config=path)
    assert str(caught.value).startswith(message.format(path))


@pytest.mark.parametrize("content", ["[serv]\nport = 1", "[server.tokens]\na = 'b'", "seed = 1"])
def test_what_no_command_reads_is_refused(content: str, config: Path) -> None:
    config.write_text(f"{content}\n[walk]\nseed = 1\n")
    found = content.strip("[").partition("]")[0].partition(".")[0].partition(" ")[0]

    with pytest.raises(
        BadSettingError, match=rf"no command reads \[{found}\]; tables are client, "
    ):
        load_settings(Walk, table="walk", config=config)


def test_every_table_that_a_command_reads_may_stand_in_the_file() -> None:
    sources = [
        path.read_text()
        for folder in ("model", "indexer", "server", "client")
        for path in (Path(__file__).parents[2] / folder).rglob("*.py")
    ]
    read = {name for text in sources for name in re.findall(r'table="(\w+)"', text)}
    assert read == TABLES


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadSettingError) as caught:
        load_settings(Walk, table="walk", config=tmp_path / "none.toml")
    assert str(caught.value) == f"config file {tmp_path / 'none.toml'}: No such file or directory"


def test_settings_cannot_be_changed_once_made() -> None:
    with pytest.raises(ValidationError, match="Instance is frozen"):
        Walk().seed = 3  # type: ignore[misc]  # what is tested


def test_the_line_under_a_field_is_its_description() -> None:
    assert Walk.model_fields["seed"].description == "Where draws come from."
