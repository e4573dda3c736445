from __future__ import annotations

import json
from dataclasses import replace

import pytest

from tests.serving.bundles import attacked_evidence, write_served
from tscnc_deploy.bundle import Contents, open_bundle, seal

pytest.importorskip("starlette", reason="needs the extra: pip install 'tscnc-deploy[serve]'")

from tscnc_deploy.serving.loading import open_model

PROOF = attacked_evidence()


def open_manifest(folder):
    """What a build said of a bundle, from its manifest."""
    manifest = json.loads((folder / "manifest.json").read_text())
    return {key: manifest[key] for key in Contents.model_fields}


def test_doubts_are_said(tmp_path):
    bundle = open_bundle(write_served(tmp_path / "failed", passed=False))
    text = open_model(bundle, allow_failed=True, threads=1).page.html
    assert "✗ Not passed" in text
    assert "did not pass its gates" in text
    assert "required signature" not in text


def test_names_from_the_bundle_are_text(tmp_path):
    from tests.bundle.folders import edit_manifest

    def rename(manifest):
        manifest["model"]["classes"] = ["<script>alert(1)</script>", '"><img src=x onerror=alert(1)>', "&amp;"]

    folder = write_served(tmp_path / "hostile", proof=PROOF)
    edit_manifest(folder, rename)
    text = open_model(open_bundle(folder), threads=1).page.html
    assert "<script>alert" not in text and "<img" not in text
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in text
    assert "&amp;amp;" in text


@pytest.mark.parametrize("missing", ["adversarial", "outcomes"])
def test_a_bundle_without_attacked_images_shows_the_rest(tmp_path, missing):
    folder = write_served(tmp_path / "none", proof=replace(PROOF, **{missing: {}}))
    page = open_model(open_bundle(folder), threads=1).page
    assert page.examples == ()
    assert "contains no attacked test images" in page.html
    assert "robust accuracy, lower end" in page.html


def test_evidence_that_cannot_be_read_keeps_nothing_from_being_served(tmp_path):
    folder = write_served(tmp_path / "other")
    (folder / "evidence" / "evidence.safetensors").write_bytes(b"of another form")
    seal(folder, Contents.model_validate(open_manifest(folder)))
    page = open_model(open_bundle(folder), threads=1).page
    assert page.examples == ()
    assert "contains no attacked test images" in page.html
