"""Parses the names of attacks and of ensembles of attacks."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from tscnc_deploy.errors import InputError
from tscnc_deploy.names import ATTACKS, ENSEMBLES
from tscnc_deploy.robustness.attacks.apgd import APGDCE, APGDDLR, APGDT
from tscnc_deploy.robustness.attacks.base import Attack
from tscnc_deploy.robustness.attacks.bpda import BPDA
from tscnc_deploy.robustness.attacks.fab import FAB, FABT
from tscnc_deploy.robustness.attacks.fgsm import FGSM
from tscnc_deploy.robustness.attacks.gap import Gap
from tscnc_deploy.robustness.attacks.hop_skip_jump import HopSkipJump
from tscnc_deploy.robustness.attacks.pgd import CW, PGD
from tscnc_deploy.robustness.attacks.square import Square
from tscnc_deploy.robustness.attacks.twin_apgd import TwinAPGD


@dataclass(frozen=True)
class Form:
    """The names of the attacks of a family.

    Attributes:
        text: The form, such as "pgd-STEPS[xRESTARTS]"; each capitalised word is a number.
        usual: A typical name of that form, for messages.
        build: Creates the attack from the numbers.
    """

    text: str
    usual: str
    build: Callable[..., Attack]

    def takes(self, count: int) -> bool:
        """Whether a name of the form may have this many numbers."""
        return count <= len(re.findall(r"[A-Z]+", self.text)) and (count > 0 or "-" not in self.text)


_BUILDERS: Mapping[str, Callable[..., Attack]] = {
    "fgsm": FGSM,
    "pgd": PGD,
    "cw": CW,
    "apgd-ce": APGDCE,
    "apgd-dlr": APGDDLR,
    "apgd-t": APGDT,
    "bpda": BPDA,
    "fab": FAB,
    "fab-t": FABT,
    "square": Square,
    "hopskipjump": HopSkipJump,
    "twin-apgd": TwinAPGD,
    "gap": Gap,
}
FORMS = {family: Form(name.form, name.usual, _BUILDERS[family]) for family, name in ATTACKS.items()}


def parse_attacks(names: Iterable[str]) -> list[Attack]:
    """The attacks with these names, each once, in order; the name of an ensemble is replaced by its attacks.

    Args:
        names: Names that `parse_attack` accepts, and keys of `names.ENSEMBLES`.

    Raises:
        InputError: See `parse_attack`.
    """
    attacks: dict[str, Attack] = {}
    for name in names:
        for member in ENSEMBLES.get(name, (name,)):
            attack = parse_attack(member)
            attacks.setdefault(attack.name, attack)
    return list(attacks.values())


def parse_attack(name: str) -> Attack:
    """The attack with this name, such as "fgsm", "pgd-20", "pgd-20x5" or "square-1000"; see FORMS.

    Raises:
        InputError: Unknown or malformed name; the message suggests a similar name and lists the forms.
    """
    if name in ENSEMBLES:
        msg = f"{name!r} is an ensemble, but a single attack is expected; its attacks: {', '.join(ENSEMBLES[name])}"
        raise InputError(msg)
    match = re.fullmatch(r"(?P<family>[a-z]+(-[a-z]+)*)(-(?P<first>[0-9]+)(x(?P<second>[0-9]+))?)?", name)
    if match:
        form = FORMS.get(match["family"])
        numbers = [int(match[part]) for part in ("first", "second") if match[part] is not None]
        if form and form.takes(len(numbers)):
            return form.build(*numbers)
    guess = _guess(name)
    hint = f"did you mean {guess!r}? " if guess else ""
    forms = ", ".join(form.text for form in FORMS.values())
    msg = f"attack {name!r} is not known; {hint}The attacks are {forms}; the ensembles are {', '.join(ENSEMBLES)}"
    raise InputError(msg)


def _guess(name: str) -> str | None:
    """A valid name similar to a wrong one, keeping its numbers if they fit."""
    text = name.lower().replace("_", "-")
    stem = re.match(r"[a-z-]*", text)[0].rstrip("-")  # type: ignore[index]  # matches the empty string at least
    known = [*FORMS, *ENSEMBLES]
    extended = [family for family in known if stem and family.startswith(stem)]
    families = [stem] if stem in known else extended or difflib.get_close_matches(stem, known, n=1)
    if not families:
        return None
    if families[0] in ENSEMBLES:
        return families[0]
    form = FORMS[families[0]]
    numbers = re.findall(r"[0-9]+", text)
    if numbers and form.takes(len(numbers)):
        return f"{families[0]}-{'x'.join(numbers)}"
    return form.usual
