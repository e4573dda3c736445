"""Reads the two evidence files of a bundle, which may come from an untrusted source."""

from __future__ import annotations

import safetensors
import safetensors.numpy

from tscnc_deploy import strict_json
from tscnc_deploy.bundle.arrays import ADVERSARIAL, IMAGES, INDEX, LABELS, OUTCOME, read_flags, refuse
from tscnc_deploy.bundle.evidence import Evidence
from tscnc_deploy.bundle.manifest import ARRAYS, RECORD
from tscnc_deploy.bundle.withheld import WithheldEvidence, parse_withheld
from tscnc_deploy.errors import BundleError
from tscnc_deploy.record import BuildRecord, ModelFacts
from tscnc_deploy.record.limits import MAX_RECORD_ITEMS
from tscnc_deploy.text import quoted

# Enough for the names and shapes of a few arrays per engine and attack.
_MAX_HEADER = 1 << 20


def parse_record(data: bytes) -> BuildRecord:
    """Reads the record of a build; see `record.migrate` for what is guaranteed for records of other versions.

    Raises:
        BundleError: It is not an unambiguous JSON object, is too large, or does not match its schema; the message
            names the key.
    """
    try:
        document = strict_json.loads(data, max_items=MAX_RECORD_ITEMS)
    except ValueError as error:
        msg = f"{RECORD} {error}"
        raise BundleError(msg) from None
    if not isinstance(document, dict):
        msg = f"{RECORD} is not a JSON object"
        raise BundleError(msg)
    return BuildRecord.from_json(document)


def parse_evidence(arrays: bytes, record: BuildRecord, model: ModelFacts) -> Evidence | WithheldEvidence:
    """Reads evidence from an untrusted source.

    Args:
        arrays: The bytes of the safetensors file.
        record: Record of the build, see `parse_record`.
        model: The network that classifies the images.

    Raises:
        BundleError: The file is damaged, or an array is missing or has the wrong type, shape or values.
    """
    if (length := int.from_bytes(arrays[:8], "little")) > _MAX_HEADER:
        msg = f"{ARRAYS} has a header of {length} bytes; at most {_MAX_HEADER} are allowed"
        raise BundleError(msg)
    try:
        tensors = safetensors.numpy.load(arrays)
    except (safetensors.SafetensorError, ValueError, KeyError, TypeError) as error:
        msg = f"{ARRAYS} is not a safetensors file: {quoted(str(error))}"
        raise BundleError(msg) from None
    if INDEX in tensors:
        return parse_withheld(tensors, record)
    if missing := [name for name in (IMAGES, LABELS) if name not in tensors]:
        msg = f"{ARRAYS} has no array {missing[0]}"
        raise BundleError(msg)
    images, labels = tensors.pop(IMAGES), tensors.pop(LABELS)
    adversarial, outcomes = {}, {}
    for name, array in tensors.items():
        if name.startswith(ADVERSARIAL):
            adversarial[name.removeprefix(ADVERSARIAL)] = array
        elif name.startswith(OUTCOME):
            outcomes[name.removeprefix(OUTCOME)] = read_flags(name, array)
        else:
            refuse(name, "is not expected here")
    evidence = Evidence(images, labels, adversarial, outcomes, record=record)
    if images.shape[1:] != model.input_shape:
        refuse(IMAGES, f"holds images of {list(images.shape[1:])}, the model takes {list(model.input_shape)}")
    if ((labels < 0) | (labels >= len(model.classes))).any():
        refuse(LABELS, f"names a class outside 0 to {len(model.classes) - 1}")
    return evidence
