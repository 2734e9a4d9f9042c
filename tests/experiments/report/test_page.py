"""The report page in a real browser: Debian's chromium, driven by playwright."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from experiments.run import main
from tests.experiments.saved import save_tested

CHROMIUM = Path("/usr/bin/chromium")
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
# relative luminance of the text and of what lies behind it, as WCAG defines contrast
CONTRAST = """
() => {
  const channel = v => (v /= 255) <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4;
  const luminance = c => { const [r, g, b] = c.match(/[\\d.]+/g).map(Number);
    return 0.2126 * channel(r) + 0.7152 * channel(g) + 0.0722 * channel(b); };
  const behind = e => { for (; e; e = e.parentElement) { const c = getComputedStyle(e).backgroundColor;
    if (!/rgba\\(.*, 0\\)/.test(c)) return luminance(c); } return 1; };
  const found = [];
  for (const e of document.querySelectorAll("h1, h2, p, td, th, a, b, small, span, svg text")) {
    if (!e.textContent.trim() || !e.getClientRects().length) continue;
    const style = getComputedStyle(e);
    const text = luminance(e instanceof SVGElement ? style.fill : style.color), back = behind(e);
    found.push([(Math.max(text, back) + 0.05) / (Math.min(text, back) + 0.05), e.textContent.trim().slice(0, 40)]);
  }
  return found.sort((a, b) => a[0] - b[0])[0];
}"""


# elements that stick out to the right, and do not lie in something that scrolls
BEYOND = """
() => [...document.querySelectorAll("body *")]
  .filter(e => !e.closest(".scroll, svg, pre, nav"))
  .filter(e => e.getBoundingClientRect().right > document.documentElement.clientWidth + 1 || (
    e.scrollWidth > e.clientWidth + 1 && e.children.length === 0 && e.clientWidth > 0))
  .map(e => e.tagName + " " + e.textContent.slice(0, 60))"""


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report of two methods, both train languages, three folds."""
    root = tmp_path_factory.mktemp("page")
    for network in ("HeadPair", "LinearPair"):
        for train in ("English", "Urdu"):
            for fold in range(3):
                save_tested(root / network / train / f"fold{fold}", train, network, fold)
    out = root / "report.html"
    assert main(["report", str(root), "--out", str(out)]) == 0
    return out


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Headless Chromium."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    if not CHROMIUM.exists():
        pytest.skip(f"no browser at {CHROMIUM}")
    with playwright.sync_playwright() as started:
        running = started.chromium.launch(executable_path=str(CHROMIUM), args=FLAGS, timeout=120_000)
        yield running
        running.close()


def open_page(browser: Any, report: Path, width: int, scheme: str = "light") -> tuple[Any, list[str]]:
    """The page at a width, and what went wrong or left the file."""
    page = browser.new_context(viewport={"width": width, "height": 844}, color_scheme=scheme).new_page()
    page.set_default_timeout(120_000)
    said: list[str] = []
    page.on("console", lambda message: said.append(f"console: {message.text}"))
    page.on("pageerror", lambda error: said.append(f"error: {error}"))
    page.on("request", lambda request: said.append(request.url) if request.url != report.as_uri() else None)
    page.goto(report.as_uri())
    return page, said


@pytest.mark.parametrize(("width", "scheme"), [(390, "light"), (390, "dark"), (1280, "light"), (1280, "dark")])
def test_the_page_is_quiet_fits_and_is_legible(
    browser: Any, report: Path, width: int, scheme: str, tmp_path: Path
) -> None:
    page, said = open_page(browser, report, width, scheme)
    assert page.evaluate("document.documentElement.scrollWidth") == width
    contrast, text = page.evaluate(CONTRAST)
    assert contrast >= 4.5, text
    picture = page.screenshot(path=str(tmp_path / "page.png"), full_page=True)
    assert picture.startswith(b"\x89PNG")
    assert said == []
    page.close()


@pytest.mark.parametrize("width", [390, 1280])
def test_the_first_screen_answers(browser: Any, report: Path, width: int) -> None:
    page, _ = open_page(browser, report, width)
    shown = page.locator("#answer .answer-text").inner_text()
    assert re.search(r"of 2 methods are better than gender only.*2 of 2 methods are better than chance", shown)
    assert "20.5" not in shown  # the papers tested other identities of MAV-Celeb
    first = page.locator(".answer:not(.head)").first
    assert "SCC HeadPair" in first.inner_text() or "SCC LinearPair" in first.inner_text()
    for condition in ("heard", "unheard"):
        box = first.locator(f".rate.{condition}").bounding_box()
        assert box["y"] + box["height"] < 844
        assert re.search(r"\d+\.\d.*raw \d+\.\d", first.locator(f".rate.{condition}").inner_text(), re.DOTALL)
    page.close()


def test_tables_sort_both_ways_and_nothing_is_last(browser: Any, tmp_path: Path) -> None:
    for train in ("English", "Urdu"):  # on the official test, beside published figures
        save_tested(tmp_path / train, train, "HeadPair", 0, root="MAV-Celeb/v1", lists="{language}_test.txt")
    report = tmp_path / "report.html"
    assert main(["report", str(tmp_path), "--out", str(report)]) == 0
    page, said = open_page(browser, report, 1280)

    def column(number: int) -> list[str]:
        found: list[str] = page.eval_on_selector_all(
            "#table2-table tbody tr", f"rows => rows.map(row => row.cells[{number}].dataset.v)"
        )
        return found

    head = page.locator("#table2-table th").nth(3)
    head.locator("button").click()
    up = column(3)
    numbers = [float(value) for value in up if value]
    assert numbers == sorted(numbers)
    assert up[-1] == ""  # a published record without cells
    assert head.get_attribute("aria-sort") == "ascending"
    head.locator("button").press("Enter")
    down = [float(value) for value in column(3) if value]
    assert down == sorted(numbers, reverse=True)
    page.locator("#table2-table th button").first.click()
    names = column(0)
    assert names == sorted(names, key=str.lower)
    assert said == []
    page.close()


@pytest.mark.parametrize("width", [390, 1440])
def test_test_sets_of_any_names_fit_a_phone(browser: Any, tmp_path: Path, width: int) -> None:
    odd = {"in-the-wild <&>": "English", "野外 " + "a name that somebody wrote out in full, " * 3 + "$x_$": "Urdu"}
    for fold in range(2):
        save_tested(tmp_path / "v1" / str(fold), "English", "HeadPair", fold)
    for i in range(40):
        name = f"{i}-" + "a-long-name-without-a-break" * 3
        save_tested(tmp_path / "many" / name, "English", "HeadPair", 0, tau=i / 40, root="many", lists="{language}.csv")
    save_tested(tmp_path / "odd", "English", "LinearPair", 0, root="odd" * 30, lists="{language}.csv", cells=odd)
    save_tested(tmp_path / "one", "English", "HeadPair", 0, root="one", lists="a.csv", cells={"studio": "English"})
    assert main(["report", str(tmp_path), "--out", str(tmp_path / "r.html")]) == 0
    page, said = open_page(browser, tmp_path / "r.html", width)
    assert page.evaluate("document.documentElement.scrollWidth") == width
    assert page.evaluate(BEYOND) == []
    assert len(page.query_selector_all("h1")) == 5
    links = page.eval_on_selector_all("a", "all => all.map(e => e.getAttribute('href').slice(1))")
    ids = page.eval_on_selector_all("[id]", "all => all.map(e => e.id)")
    assert len(ids) == len(set(ids))
    assert set(links) <= set(ids)
    assert said == []
    page.close()


def test_links_lead_somewhere_and_ids_are_single(browser: Any, report: Path) -> None:
    page, _ = open_page(browser, report, 1280)
    ids = page.eval_on_selector_all("[id]", "all => all.map(e => e.id)")
    assert len(ids) == len(set(ids))
    links = page.eval_on_selector_all("a", "all => all.map(e => e.getAttribute('href'))")
    assert links
    assert {link.removeprefix("#") for link in links} <= set(ids)
    page.close()


def test_the_file_holds_all_it_needs(report: Path) -> None:
    text = report.read_text(encoding="utf-8")
    assert not re.search(r"""(src|href)\s*=\s*["'](?!#|data:)""", text)
    assert not re.search(r"url\((?!#)|@import", text)
    for section in ("table2", "bars", "det", "clusters", "people", "curves", "configs", "runs"):
        assert f'<section id="{section}">' in text
    assert text.count("<svg") > 10
    assert "12 of 12 runs have curves" in text
    assert "0123456" in text  # the commit of the runs
