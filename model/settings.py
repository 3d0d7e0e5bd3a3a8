"""The one way configuration is declared and read: defaults, a TOML file, the environment, flags.

Later sources win, in that order. One TOML file serves every command; each command reads its own
table (`[train]`, `[index]`, `[serve]`, ...) and refuses keys it does not know, and tables that no
command reads: a server whose tokens stand in `[server]` would ask for none. The environment
spells a key `RECGURU_<TABLE>_<KEY>`, nested keys joined by two underscores
(`RECGURU_TRAIN_FINE_TUNING__EPOCHS=8`); a key that is unknown is refused there too.
"""

import os
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal, TypeVar

from pydantic import ValidationError
from pydantic_core import PydanticCustomError
from pydantic_settings import BaseSettings, EnvSettingsSource, SettingsConfigDict, SettingsError

from model.errors import BadSettingError
from model.records import Record


class Settings(Record):
    """Base of every settings model."""

    more_variables: ClassVar[frozenset[str]] = frozenset()
    """What the environment may say under the table's name beside the fields, in small letters."""


DeviceChoice = Literal["auto", "cpu", "cuda"]
"""Where something runs; `auto` takes a GPU where there is one."""

S = TypeVar("S", bound=Settings)

_OF_LEARNING = ("data", "simulate", "train", "compare")
_OF_SERVING = ("index", "measure", "diff", "milvus", "serve", "client")
TABLES = frozenset((*_OF_LEARNING, *_OF_SERVING))
"""Those of all commands."""

_OF_KUBERNETES = re.compile(r"SERVICE_HOST|SERVICE_PORT\w*|PORT_\d+_\w+|PORT")
"""What it tells every container of a service with the name of a table, like `recguru-milvus`."""
_SECRET = "secret"  # noqa: S105  # the type of an error
_OF_A_SECRET = re.compile("token|secret|password", re.IGNORECASE)  # in the names of settings
_UNKNOWN = "extra_forbidden"  # pydantic's type of an error
_OF_A_KEY = "[key]"  # where pydantic says that a mapping's key is refused
_OF_A_VALIDATOR = "Value error, "  # what it puts before the words of a validator


def load_settings(
    kind: type[S],
    *,
    table: str,
    config: Path | None = None,
    flags: Mapping[str, Any] | None = None,
    preset: Mapping[str, Any] | None = None,
) -> S:
    """Read settings of one kind from the four sources.

    Args:
        kind: The settings model to fill.
        table: Its table in the TOML file and, in capitals, its part of the environment prefix.
        config: The TOML file; none means defaults, environment and flags alone.
        flags: Values given on the command line; nested keys as nested mappings, None if not given.
        preset: Values, nested likewise, in place of the defaults of the kind.

    Returns:
        The checked settings.

    Raises:
        BadSettingError: If the file is missing or not TOML, or a value, key or table is refused;
            the message names the source's key and what it must be.
    """
    values = _merged(preset or {}, _toml_table(config, table))
    values = _merged(values, _environment(kind, table))
    values = _merged(values, _given(flags or {}))
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        raise refused(error, table) from None


def refused(error: ValidationError, table: str) -> BadSettingError:
    """Say in one line which setting below a table is refused first, why, and what was given.

    What may be a secret is not said: the value of a setting that is named after one, and that of a
    setting there is none of, for its name may be a misspelt one.
    """
    first = error.errors()[0]
    key = ".".join([table, *(str(part) for part in first["loc"] if part != _OF_A_KEY)])
    if first["type"] == _UNKNOWN:
        return BadSettingError(f"setting {key}: there is no such setting")
    why = first["msg"].removeprefix(_OF_A_VALIDATOR)
    secret = first["type"] == _SECRET or _OF_A_SECRET.search(key)
    whole = isinstance(first["input"], Mapping | Settings)
    quoted = why != first["msg"] and repr(first["input"]) in why  # in a validator's own words
    if secret or whole or quoted:
        return BadSettingError(f"setting {key}: {why}")
    return BadSettingError(f"setting {key}: {why} (got {first['input']!r})")


def secret_error(problem: str) -> PydanticCustomError:
    """Make what a validator raises of a value that must not be shown."""
    return PydanticCustomError(_SECRET, "{problem}", {"problem": problem})


def _toml_table(config: Path | None, table: str) -> dict[str, Any]:
    if config is None:
        return {}
    try:
        content = tomllib.loads(config.read_text(encoding="utf-8"))
    except OSError as error:
        raise BadSettingError(f"config file {config}: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise BadSettingError(f"config file {config} is not TOML: {error}") from None
    if strange := content.keys() - TABLES - {table}:
        raise BadSettingError(
            f"config file {config}: no command reads [{min(strange)}]; "
            f"tables are {', '.join(sorted(TABLES))}"
        )
    values = content.get(table, {})
    if not isinstance(values, dict):
        raise BadSettingError(f"config file {config}: [{table}] must be a table")
    return values


def _environment(kind: type[Settings], table: str) -> dict[str, Any]:
    class Reader(kind, BaseSettings):  # type: ignore[valid-type,misc]  # a model read from the environment
        model_config = SettingsConfigDict(extra="ignore")

    prefix = f"RECGURU_{table.upper()}_"
    for name in os.environ:
        key = name.removeprefix(prefix).lower().partition("__")[0]
        if not name.startswith(prefix) or _OF_KUBERNETES.fullmatch(name.removeprefix(prefix)):
            continue
        if key not in {*kind.model_fields, *kind.more_variables}:
            raise BadSettingError(f"environment {name}: there is no setting {table}.{key}")
    source = EnvSettingsSource(Reader, env_prefix=prefix, env_nested_delimiter="__")
    try:
        return source()
    except SettingsError as error:  # only a field that holds several values is JSON
        raise BadSettingError(f"environment {prefix}...: {error}; give JSON") from None


def _given(flags: Mapping[str, Any]) -> dict[str, Any]:
    given: dict[str, Any] = {}
    for key, value in flags.items():
        if isinstance(value, Mapping):
            if nested := _given(value):
                given[key] = nested
        elif value is not None:
            given[key] = value
    return given


def _merged(under: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(under)
    for key, value in over.items():
        below = merged.get(key)
        both_tables = isinstance(value, Mapping) and isinstance(below, Mapping)
        merged[key] = _merged(below, value) if both_tables else value  # type: ignore[arg-type]  # checked above
    return merged
