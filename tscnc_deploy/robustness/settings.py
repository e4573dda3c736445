"""The settings of an attack for the record."""

from __future__ import annotations

from pydantic import TypeAdapter, ValidationError

from tscnc_deploy.errors import InputError
from tscnc_deploy.record.parts import Settings
from tscnc_deploy.record.problems import first_problem
from tscnc_deploy.robustness.attacks.base import Attack

_SETTINGS: TypeAdapter[Settings] = TypeAdapter(Settings)


def recorded_settings(attack: Attack, **more: object) -> Settings:
    """The settings of an attack, with `more`, such as the seed.

    Raises:
        InputError: The attack has settings that a record cannot hold, which would otherwise fail a build after
            training.
    """
    try:
        return _SETTINGS.validate_python({**attack.settings(), **more})
    except ValidationError as error:
        msg = (
            f"attack {attack.name}: its settings cannot be recorded: {first_problem(error)}; "
            "settings are numbers, booleans, short texts, or lists of them"
        )
        raise InputError(msg) from None
