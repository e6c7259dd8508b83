"""Every setting, once. Environment variables `NILOMETER_*`, or the file that
`NILOMETER_CONFIG_FILE` names (TOML, same names in lower case without the prefix).
The environment wins over the file."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import quote

from pydantic import AliasChoices, ValidationError
from pydantic_settings import (
    BaseSettings,
    EnvSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from nilometer.errors import ConfigurationError
from nilometer.settings.capture_settings import CaptureSettings
from nilometer.settings.operation_settings import OperationSettings
from nilometer.settings.process_settings import ProcessSettings, Profile, Role
from nilometer.settings.server_settings import ServerSettings
from nilometer.settings.storage_settings import StorageSettings


# The last of the bases comes first where settings are listed.
class Settings(
    OperationSettings, ServerSettings, StorageSettings, CaptureSettings, ProcessSettings
):
    """The settings in effect. Sizes are bytes, durations are seconds unless the name says else."""

    model_config = SettingsConfigDict(
        env_prefix="NILOMETER_", extra="forbid", frozen=True, populate_by_name=True
    )

    @property
    def effective_blobs_url(self) -> str:
        """Where blobs are kept, the default filled in."""
        return self.blobs_url or (self.data_dir.resolve() / "blobs").as_uri()

    @property
    def effective_database_url(self) -> str:
        """Where organizations, projects, keys and dead letters are kept."""
        if self.distributed and self.database_url is not None:
            return self.database_url.get_secret_value()
        return "sqlite:///" + quote(str(self.data_dir.resolve() / "nilometer.db"))

    @property
    def effective_exceptions_topic(self) -> str:
        """The topic of what happens to exceptions."""
        return self.kafka_exceptions_topic or f"{self.kafka_topic}-exceptions"

    @property
    def distributed(self) -> bool:
        """Whether this is the distributed profile."""
        return self.profile is Profile.DISTRIBUTED

    def check_profile(self) -> None:
        """Raises ConfigurationError for a configuration that is neither profile."""
        servers = {
            "NILOMETER_KAFKA_BOOTSTRAP_SERVERS": self.kafka_bootstrap_servers,
            "NILOMETER_DATABASE_URL": self.database_url,
            "NILOMETER_CLICKHOUSE_URL": self.clickhouse_url,
        }
        if self.distributed:
            if self.role is Role.CAPTURE:  # it has no connection to the store
                servers.pop("NILOMETER_CLICKHOUSE_URL")
            missing = [name for name, value in servers.items() if value is None]
            if self.blobs_url is None:
                missing.append("NILOMETER_BLOBS_URL")
            if missing:
                raise ConfigurationError(
                    f"The distributed profile also needs {', '.join(missing)}: nothing of it is "
                    "kept in a data directory."
                )
            return
        # Without the prefix the names are other programs' too, and say nothing about this one.
        prefixed = [name for name, value in servers.items() if value and name in os.environ]
        if prefixed or self.clickhouse_url is not None:
            named = ", ".join(prefixed) or "NILOMETER_CLICKHOUSE_URL"
            raise ConfigurationError(
                f"{named} is of the distributed profile: set NILOMETER_PROFILE=distributed, or "
                "leave it out."
            )
        if self.role is not Role.ALL:
            raise ConfigurationError(
                "The embedded profile has one process with every role; "
                "set NILOMETER_PROFILE=distributed to split them."
            )

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Arguments, then the environment, then the file."""
        file = os.environ.get("NILOMETER_CONFIG_FILE")
        sources = (init_settings, env_settings)
        return (*sources, TomlConfigSettingsSource(settings_cls, Path(file))) if file else sources


def origins() -> dict[str, str]:
    """Where each setting in effect comes from: `environment`, `file` or `default`."""
    file = os.environ.get("NILOMETER_CONFIG_FILE")
    in_file = TomlConfigSettingsSource(Settings, Path(file))() if file else {}
    in_environment = EnvSettingsSource(Settings)()

    def origin(name: str) -> str:
        if not in_environment.keys().isdisjoint(_names(name)):
            return "environment"
        return "file" if name in in_file else "default"

    return {name: origin(name) for name in Settings.model_fields}


def _names(setting: str) -> set[str]:
    """What a setting is called in the environment's source: its own name, or an alias."""
    alias = Settings.model_fields[setting].validation_alias
    others = alias.choices if isinstance(alias, AliasChoices) else []
    return {setting, *(name for name in others if isinstance(name, str))}


def load(**overrides: Annotated[Any, "settings given on the command line"]) -> Settings:
    """The settings in effect; None among the overrides means "not given".

    Raises ConfigurationError with one line per wrong setting, which never repeats its value.
    """
    file = os.environ.get("NILOMETER_CONFIG_FILE")
    if file and not Path(file).is_file():
        raise ConfigurationError(f"NILOMETER_CONFIG_FILE names {file}, which is not a file")
    try:
        return Settings(**{name: value for name, value in overrides.items() if value is not None})
    except ValidationError as error:
        lines = [
            f"NILOMETER_{'.'.join(str(part) for part in issue['loc']).upper()}: "
            + issue["msg"].removeprefix("Value error, ")  # pydantic's, before our own sentences
            for issue in error.errors(include_input=False, include_url=False)
        ]
        raise ConfigurationError("\n".join(lines)) from None
