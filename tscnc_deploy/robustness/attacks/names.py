"""From the name of an attack to the attack."""

from __future__ import annotations

import difflib
import re

from tscnc_deploy.errors import InputError
from tscnc_deploy.robustness.attacks.apgd import APGDCE
from tscnc_deploy.robustness.attacks.base import Attack
from tscnc_deploy.robustness.attacks.fgsm import FGSM
from tscnc_deploy.robustness.attacks.pgd import PGD
from tscnc_deploy.robustness.attacks.square import Square

# Family: its form, and a usual name of it for messages.
FORMS = {
    "fgsm": ("fgsm", "fgsm"),
    "pgd": ("pgd-STEPS[xRESTARTS]", "pgd-20"),
    "apgd-ce": ("apgd-ce-STEPS[xRESTARTS]", "apgd-ce-50"),
    "square": ("square-QUERIES", "square-1000"),
}


def parse_attack(name: str) -> Attack:
    """The attack of that name: "fgsm", "pgd-STEPS[xRESTARTS]", "apgd-ce-STEPS[xRESTARTS]" or "square-QUERIES".

    Raises:
        InputError: Unknown or malformed name; says what it may have meant, and lists the forms.
    """
    match = re.fullmatch(r"(?P<family>fgsm|pgd|apgd-ce|square)(-(?P<count>[0-9]+)(x(?P<restarts>[0-9]+))?)?", name)
    parts = match.groupdict() if match else {}
    family, count, restarts = parts.get("family"), parts.get("count"), parts.get("restarts")
    if family == "fgsm" and count is None:
        return FGSM()
    if family == "pgd" and count is not None:
        return PGD(int(count), int(restarts or 1))
    if family == "apgd-ce" and count is not None:
        return APGDCE(int(count), int(restarts or 1))
    if family == "square" and count is not None and restarts is None:
        return Square(int(count))
    guess = _guess(name)
    hint = f"did you mean {guess!r}? " if guess else ""
    msg = f"attack {name!r} is not known; {hint}The attacks are {', '.join(form for form, _ in FORMS.values())}"
    raise InputError(msg)


def _guess(name: str) -> str | None:
    """A well-formed name near a wrong one, keeping its numbers where they fit."""
    text = name.lower().replace("_", "-")
    stem = re.match(r"[a-z-]*", text)[0].rstrip("-")  # type: ignore[index]  # matches the empty string at least
    extended = [family for family in FORMS if stem and family.startswith(stem)]
    families = [stem] if stem in FORMS else extended or difflib.get_close_matches(stem, FORMS, n=1)
    if not families:
        return None
    numbers = re.findall(r"[0-9]+", text)
    form, usual = FORMS[families[0]]
    if "RESTARTS" in form and len(numbers) == 2:
        return f"{families[0]}-{numbers[0]}x{numbers[1]}"
    return f"{families[0]}-{numbers[0]}" if len(numbers) == 1 and "-" in form else usual
