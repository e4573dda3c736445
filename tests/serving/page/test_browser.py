"""The page in a real Chromium."""

from __future__ import annotations

import base64
import io
import shutil
import signal

import numpy as np
import pytest
from PIL import Image

from tests.conftest import chromium
from tests.serving.bundles import attacked_evidence, expected, write_served
from tests.serving.servers import serving

pytest.importorskip("starlette", reason="needs the extra: pip install 'tscnc-deploy[serve]'")
pytestmark = pytest.mark.browser

PROOF = attacked_evidence()


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return write_served(tmp_path_factory.mktemp("shown") / "bundle", proof=PROOF)


@pytest.fixture(scope="module")
def shown(bundle):
    with serving(bundle) as server:
        yield server


@pytest.fixture(scope="module")
def browser():
    from playwright.sync_api import sync_playwright

    # Its sandbox needs rights that containers lack; it opens nothing here but our own page.
    with sync_playwright() as running:
        opened = running.chromium.launch(executable_path=chromium(), args=["--no-sandbox"])
        yield opened
        opened.close()


@pytest.fixture
def page(browser):
    context = browser.new_context()
    context.set_default_timeout(20_000)
    made = context.new_page()
    made.problems, made.asked = [], []
    made.on("console", lambda message: made.problems.append(message.text) if message.type == "error" else None)
    made.on("pageerror", lambda error: made.problems.append(str(error)))
    made.on("request", lambda request: made.asked.append(request.url))
    yield made
    context.close()


def png(pixels):
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def picture(row, times=20):
    """A PNG of an image whose row of this number is white and the others grey."""
    pixels = np.full((8, 8), 40, np.uint8)
    pixels[row] = 255
    return png(pixels.repeat(times, 0).repeat(times, 1)), pixels


def shares(logits):
    powers = np.exp(logits - logits.max())
    return powers / powers.sum()


def said(page, place):
    """(class, percent) of every bar in a place, best first."""
    rows = page.locator(f"{place} .classes li").all()
    return [(row.locator(".name").inner_text(), row.locator(".share").inner_text()) for row in rows]


def should_say(images):
    found = sorted(zip(("zero", "one", "two"), shares(expected(images)[0]), strict=True), key=lambda pair: -pair[1])
    return [(name, f"{100 * share:.1f}%") for name, share in found]


def test_the_attack_is_shown_with_what_the_live_model_says(page, shown):
    page.goto(f"http://{shown.http}/")
    status = page.locator("#pair-status")
    status.get_by_text("Fooled: the model predicts zero for the original and one for the attacked image.").wait_for()
    original, attacked = page.locator("#pair figure").all()
    assert "✓ correct" in original.inner_text()
    assert "✗ wrong" in attacked.inner_text()
    assert said(page, "#pair figure:nth-child(1)") == should_say(PROOF.images[:1])
    assert said(page, "#pair figure:nth-child(2)") == should_say(PROOF.adversarial["onnx-cpu"][:1])
    page.get_by_role("button", name="Next").press("Enter")
    status.get_by_text("predicts two for the original and one for the attacked").wait_for()
    page.get_by_label("Image", exact=True).select_option("test image 1, class one")
    status.get_by_text("Robust: the model predicts one for both.").wait_for()
    page.get_by_role("button", name="Next").click()  # and around
    status.get_by_text("predicts zero for the original").wait_for()
    page.get_by_role("button", name="Previous").click()
    status.get_by_text("Robust").wait_for()
    assert page.problems == []
    assert {url.split("/")[2] for url in page.asked} == {shown.http}


def test_pixels_on_the_screen_are_those_of_the_evidence(page, shown):
    page.goto(f"http://{shown.http}/")
    page.locator("#pair figure").first.wait_for()
    drawn = page.locator("#pair canvas").first.evaluate(
        "canvas => [...canvas.getContext('2d').getImageData(0, 0, 8, 8).data].filter((_, i) => i % 4 === 0)"
    )
    np.testing.assert_allclose(drawn, 255 * PROOF.images[0].reshape(-1), atol=1)


def test_a_chosen_image_is_classified(page, shown):
    page.goto(f"http://{shown.http}/")
    file, pixels = picture(row=2)
    page.get_by_label("Choose an image").set_input_files({"name": "two.png", "mimeType": "image/png", "buffer": file})
    page.locator("#try-status").get_by_text("two.png: round trip").wait_for()
    assert said(page, "#tried") == should_say(pixels[None, None].astype(np.float32) / 255)
    assert page.problems == []


def test_a_dropped_image_is_classified_and_no_image_is_rejected(page, shown):
    page.goto(f"http://{shown.http}/")
    page.locator("#pair figure").first.wait_for()
    script = """([text, name]) => {
        const transfer = new DataTransfer();
        transfer.items.add(new File([Uint8Array.from(atob(text), (c) => c.charCodeAt(0))], name));
        return transfer;
    }"""

    def drop(content, name):
        transfer = page.evaluate_handle(script, [base64.b64encode(content).decode(), name])
        page.dispatch_event("#drop", "drop", {"dataTransfer": transfer})

    drop(picture(row=1)[0], "one.png")
    page.locator("#try-status").get_by_text("one.png: round trip").wait_for()
    assert said(page, "#tried")[0][0] == "one"
    drop(b"no image", "text.txt")
    page.locator("#try-status").get_by_text("Error: the browser cannot read this file as an image.").wait_for()
    assert page.locator("#tried").is_hidden()


@pytest.mark.parametrize(
    ("pixels", "shape"),
    [
        (np.random.default_rng(0).integers(0, 256, (8, 8, 3), np.uint8), (3, 8, 8)),
        (np.random.default_rng(1).integers(0, 256, (4, 4, 3), np.uint8).repeat(40, 0).repeat(40, 1), (3, 4, 4)),
        (np.random.default_rng(2).integers(0, 256, (6, 10), np.uint8).repeat(8, 0).repeat(8, 1), (1, 6, 6)),
        (np.full((8, 8, 4), (255, 0, 0, 0), np.uint8), (3, 4, 4)),
    ],
)
def test_images_become_pixels_of_the_models_shape(page, shown, pixels, shape):
    page.goto(f"http://{shown.http}/")
    script = """async ([text, shape]) => {
        const { pixelsOf } = await import("./page/pictures.js");
        const bytes = Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
        return [...await pixelsOf(new Blob([bytes], { type: "image/png" }), shape)];
    }"""
    found = np.array(page.evaluate(script, [base64.b64encode(png(pixels)).decode(), list(shape)])).reshape(shape)
    if pixels.shape[-1] == 4:  # transparent: white shows through
        assert (found == 255).all()
        return
    times = min(pixels.shape[:2]) // shape[1]
    cut = (pixels.shape[1] - pixels.shape[0]) // 2
    whole = pixels[::times, cut : pixels.shape[1] - cut : times]
    right = whole.transpose(2, 0, 1) if shape[0] == 3 else whole[None]
    np.testing.assert_allclose(found, right, atol=2)


@pytest.mark.slow
def test_speed_is_that_of_the_metrics(page, bundle):
    with serving(bundle) as server:
        page.goto(f"http://{server.http}/")
        page.locator("#latency tr", has_text="Requests").get_by_text("2").first.wait_for()
        for title in ("Request, median", "Request, 95th percentile", "Engine call, median"):
            value = page.locator("#latency tr", has_text=title).locator("td").last.inner_text()
            amount, unit = value.split()
            assert float(amount) > 0
            assert unit == "ms"
        assert page.problems == []


def test_quantiles_lie_inside_their_bucket(page, shown):
    page.goto(f"http://{shown.http}/")
    script = """async () => {
        const { quantile } = await import("./page/latency.js");
        const seen = { count: 10, buckets: [[0.001, 0], [0.002, 6], [0.004, 9], [Infinity, 10]] };
        return [0.5, 0.9, 0.95].map((share) => String(quantile(seen, share)));
    }"""
    *inside, beyond = page.evaluate(script)
    assert [float(value) for value in inside] == pytest.approx([0.001 + 0.001 * 5 / 6, 0.004])
    assert beyond == "Infinity"


def test_times_have_two_digits(page, shown):
    page.goto(f"http://{shown.http}/")
    script = "async (all) => { const { time } = await import('./page/latency.js'); return all.map(time); }"
    found = page.evaluate(script, [None, 0.00025, 0.00123, 0.15, 0.999, 1.26, 10])
    assert found == ["–", "0.25 ms", "1.2 ms", "150 ms", "1 s", "1.3 s", "10 s"]


@pytest.mark.slow
def test_a_new_version_is_announced_and_so_is_the_servers_end(page, bundle, tmp_path):
    folder = shutil.copytree(bundle, tmp_path / "bundle")
    with serving(folder) as server:
        page.goto(f"http://{server.http}/")
        page.locator("#pair figure").first.wait_for()
        assert page.locator("#notice").is_hidden()
        server.process.send_signal(signal.SIGHUP)
        page.get_by_text("The server has loaded version 2;").wait_for()
        server.process.kill()
        page.get_by_text("The server does not respond.").wait_for()
        page.get_by_role("button", name="Next").click()
        page.locator("#pair-status").get_by_text("Error: ").wait_for()


@pytest.mark.slow
def test_the_token_opens_the_page_and_is_kept_nowhere(page, bundle):
    with serving(bundle, TSCNC_SERVE_TOKEN="s3cret") as server:
        page.goto(f"http://{server.http}/")
        page.get_by_label("Bearer token").fill("wrong")
        page.get_by_role("button", name="Show the model").click()
        page.get_by_text("Wrong token.").wait_for()
        page.get_by_label("Bearer token").fill("s3cret")
        page.keyboard.press("Enter")
        page.locator("#pair-status").get_by_text("Fooled").wait_for()
        file, _ = picture(row=0)
        page.get_by_label("Choose an image").set_input_files({"name": "a.png", "mimeType": "image/png", "buffer": file})
        page.locator("#try-status").get_by_text("a.png: round trip").wait_for()
        page.locator("#latency tr", has_text="Requests").get_by_text("3").first.wait_for()
        assert page.evaluate("[document.cookie, localStorage.length, sessionStorage.length]") == ["", 0, 0]
        assert page.locator("main a[href]").count() == 0
        assert not [url for url in page.asked if "s3cret" in url]
        page.reload()
        page.get_by_label("Bearer token").wait_for()


def test_it_fits_every_screen(browser, shown):
    for scheme, paper, ink in [
        ("light", "rgb(255, 255, 255)", "rgb(28, 35, 41)"),
        ("dark", "rgb(20, 24, 27)", "rgb(230, 234, 237)"),
    ]:
        context = browser.new_context(color_scheme=scheme)
        page = context.new_page()
        page.goto(f"http://{shown.http}/")
        page.locator("#pair figure").first.wait_for()
        colours = page.evaluate("(s => [s.backgroundColor, s.color])(getComputedStyle(document.body))")
        assert colours == [paper, ink]
        for width in (320, 390, 1200):
            page.set_viewport_size({"width": width, "height": 800})
            assert page.evaluate("document.documentElement.scrollWidth") == width
        context.close()


def test_without_scripts_the_figures_are_there(browser, shown):
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(f"http://{shown.http}/")
    assert page.get_by_role("rowheader", name="robust accuracy, lower end").is_visible()
    assert page.get_by_text("4 of 80 weights remain").is_visible()
    context.close()
