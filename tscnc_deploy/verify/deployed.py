"""Checks that a live server matches the bundle that it should serve."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tscnc_deploy.errors import InputError

if TYPE_CHECKING:
    from tscnc_deploy.bundle import Bundle
    from tscnc_deploy.verify.artifact import Artifact
    from tscnc_deploy.verify.sources.remote import RemoteSource


def engine_of(source: RemoteSource, bundle: Bundle) -> str:
    """The bundle's engine that the server reports; "twin", whose evidence applies to all, if it reports none."""
    said = source.engine().said.get("engine")
    return said if isinstance(said, str) and said in bundle.engines else "twin"


def compare_with_bundle(source: RemoteSource, bundle: Bundle, artifact: Artifact) -> dict[str, Any]:
    """Compares the server's logits with those of its engine's twin, on an artifact's images and adversarial examples.

    Args:
        source: The server.
        bundle: The bundle it should serve.
        artifact: The server on the bundle's evidence images.

    Returns:
        "bundle_sha256", the digest that the server reports, or null; "same_bundle", whether it is this bundle's, or
        null; "parity", see `robustness.Parity`; "evidence", the accuracies in the bundle's record.

    Raises:
        InputError: The server has another input shape or number of classes than the bundle.
    """
    import numpy as np

    from tscnc_deploy.robustness import ModelVictim, batched_logits, compare_logits

    engine = source.engine()
    model = bundle.manifest.model
    if (engine.spec.input_shape, engine.spec.classes) != (model.input_shape, len(model.classes)):
        msg = (
            f"{source.url}: maps images {list(engine.spec.input_shape)} to {engine.spec.classes} logits, but "
            f"{bundle.path} maps {list(model.input_shape)} to {len(model.classes)}"
        )
        raise InputError(msg)
    examples = artifact.images if artifact.examples is None else artifact.examples
    live = [engine.logits(np.ascontiguousarray(images.numpy())) for images in (artifact.images, examples)]
    name = engine_of(source, bundle)
    twin = ModelVictim(bundle.twin if name == "twin" else bundle.twin_of(name))
    expected = [batched_logits(twin, images) for images in (artifact.images, examples)]
    parity = compare_logits(live[0], expected[0], live[1], expected[1], _tolerance(bundle, name))
    said = engine.said.get("bundle_sha256")
    evaluations = bundle.record.evaluations
    recorded = evaluations.twin if name == "twin" else evaluations.engines.get(name)
    return {
        "bundle_sha256": said if isinstance(said, str) else None,
        "same_bundle": said == bundle.digest if isinstance(said, str) else None,
        "parity": parity.to_json(),
        "evidence": recorded.model_dump(mode="json", include={"clean", "robust"}) if recorded else None,
    }


def _tolerance(bundle: Bundle, name: str) -> float:
    """The tolerance of the engine's target; the largest of all if the server does not report its engine."""
    names = bundle.engines if name == "twin" else (name,)
    return max(bundle.target(each).tolerance for each in names)
