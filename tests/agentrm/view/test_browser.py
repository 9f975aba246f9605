"""The page in a real headless browser, served by the real command."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from urllib.parse import urlencode

import pytest

from tests.agentrm.view.conftest import LARGE, NODES, SMALL
from tests.browser import CHROMIUM, Page, chromium

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no chromium, chromium-browser or google-chrome is installed")

AGENTRM = Path(sys.executable).with_name("agentrm")
ROW = 28


@pytest.fixture(scope="module")
def address(untouched: Path, recordings: Path) -> Iterator[str]:
    with viewed(untouched, "--recorded", recordings) as address:
        yield address


@pytest.fixture(scope="module")
def of_others(imported: Path) -> Iterator[str]:
    with viewed(imported / "run", "--values", imported / "values.parquet") as address:
        yield address


@contextmanager
def viewed(run: Path, *options: str | Path) -> Iterator[str]:
    """The address of the real command, which is interrupted in the end."""
    command = [AGENTRM, "view", run, "--port", "0", "--no-open", *options]
    # A shell's background jobs ignore the interrupt, and their children with them.
    heeds = partial(signal.signal, signal.SIGINT, signal.default_int_handler)
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, preexec_fn=heeds) as process:
        assert process.stdout is not None
        told = process.stdout.readline()
        assert told.startswith(f"{run} at http://127.0.0.1:") and told.endswith(" until Ctrl-C\n")
        yield told.rpartition(" at ")[2].split()[0]
        process.send_signal(signal.SIGINT)
        assert process.stdout.read() == "stopping\n"
        assert process.wait(30) == 0


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    with chromium(tmp_path_factory.mktemp("profile")) as page:
        yield page


def show(page: Page, address: str, **trees: str) -> None:
    page.open(f"{address}/?{urlencode(trees)}")
    page.wait_for(f"document.querySelectorAll('.steps section').length >= {len(trees)}")


def press_button(page: Page, name: str) -> None:
    page.run(f"[...document.querySelectorAll('button')].find((each) => each.textContent === '{name}').click()")


def test_the_run_says_what_is_there_and_what_is_not(page: Page, address: str) -> None:
    page.open(f"{address}/")
    page.wait_for("document.querySelectorAll('.trees tbody tr').length === 4")
    states = page.run("[...document.querySelectorAll('.stages .state')].map((each) => each.textContent)")
    assert states == ["not there yet", "not there yet", "begun", "not there yet", "not there yet"]
    text = page.run("document.body.innerText")
    assert "run agentrm clone" in text and "Nothing is evaluated yet" in text and "No fit has taken a step yet" in text
    page.run("document.querySelector('.trees input').click()")
    assert page.run("[...document.querySelectorAll('button')].at(-2).disabled")
    page.run("[...document.querySelectorAll('.trees input')][1].click()")
    press_button(page, "Side by side")
    page.wait_for("document.querySelectorAll('.pane .canvas .row').length > 2")


def test_a_tree_of_5000_nodes(page: Page, address: str) -> None:
    show(page, address, left=LARGE.id)
    assert f"{NODES:,} nodes" in page.run("document.querySelector('.head').innerText")
    press_button(page, "Expand all")
    assert page.run("document.querySelector('.canvas').style.height") == f"{NODES * ROW}px"
    assert page.run("document.querySelectorAll('.canvas .row').length") < 200, "only the rows in sight exist"
    page.press("End")
    page.wait_for(f"document.querySelector('.row.selected .action').textContent.endsWith('move {NODES - 1}')")
    page.wait_for(f"document.querySelector('.steps').innerText.includes('Room {NODES - 1}.')")
    assert page.run("document.querySelectorAll('.steps section').length") == 50, "the root and 49 steps"


def test_nodes_open_and_close_by_mouse_and_keyboard(page: Page, address: str) -> None:
    show(page, address, left=SMALL.id)
    shown = "[...document.querySelectorAll('.canvas .row')].map((each) => each.dataset.node).join(' ')"
    assert page.run(shown) == "0 1 3 4 2", "both marked paths are open"
    page.run("document.querySelector('[data-node=\"1\"] .caret').click()")
    assert page.run(shown) == "0 1 2"
    for key in ("ArrowDown", "ArrowRight", "ArrowRight"):
        page.press(key)
    assert page.run(shown) == "0 1 3 4 2"
    assert page.run("document.querySelector('.row.selected').dataset.node") == "3"
    for key in ("ArrowLeft", "ArrowLeft"):
        page.press(key)
    assert page.run(shown) == "0 1 2"
    page.run("document.querySelector('[data-node=\"1\"] .caret').click()")
    page.run("document.querySelector('[data-node=\"4\"]').click()")
    page.run("document.querySelector('[data-node=\"0\"] .caret').click()")
    assert page.run(shown) == "0"
    assert page.run("document.querySelector('.row.selected').dataset.node") == "0", "never one that is out of sight"
    page.run("document.querySelector('[data-node=\"0\"] .caret').click()")
    marked = "[...document.querySelectorAll('.canvas b.{}')].map((each) => each.closest('.row').dataset.node).join(' ')"
    assert page.run(marked.format("visited")) == "0 1 3"
    assert page.run(marked.format("highest")) == "0 2"


def test_the_text_of_a_step_is_text_and_never_html(page: Page, address: str) -> None:
    show(page, address, left=SMALL.id)
    page.run("document.querySelector('[data-node=\"2\"]').click()")
    page.wait_for("document.querySelectorAll('.steps section').length === 2")
    text = page.run("document.querySelector('.steps').innerText")
    assert "<script>document.title = 'taken'</script>" in text
    for part in ("Doors lead on.", "go right", "A door.", "outcome 1.000"):
        assert part in text
    assert page.run("document.title") != "taken"
    assert page.run("document.querySelectorAll('.steps b, .steps script').length") == 0


def test_search_goes_from_hit_to_hit(page: Page, address: str) -> None:
    show(page, address, left=LARGE.id)
    page.press("/")
    page.type("room 49")
    page.wait_for("document.querySelector('.tools .told').textContent === '1 of 111'")
    assert page.run("document.querySelector('.row.selected').dataset.node") == "49"
    page.press("Enter")
    assert page.run("document.querySelector('.row.selected').dataset.node") == "490"


def test_two_trees_side_by_side(page: Page, address: str) -> None:
    show(page, address, left=SMALL.id, right=LARGE.id)
    assert page.run("[...document.querySelectorAll('.pane h2')].map((each) => each.textContent)") == [
        SMALL.id,
        LARGE.id,
    ]
    boxes = "[...document.querySelectorAll('.pane')].map((each) => each.getBoundingClientRect())"
    assert page.run(f"(([left, right]) => left.right <= right.left && left.top === right.top)({boxes})")
    page.run("document.querySelectorAll('.pane')[1].querySelectorAll('.row')[2].click()")
    page.wait_for("document.querySelectorAll('.pane')[1].querySelectorAll('.steps section').length === 2")
    assert page.run("document.querySelectorAll('.pane')[0].querySelectorAll('.steps section').length") == 1


def test_a_tree_that_is_not_there_is_said(page: Page, address: str) -> None:
    page.open(f"{address}/?left=absent")
    page.wait_for("document.body.innerText.includes('there is no tree absent in this run')")


def test_two_episodes_of_a_task_side_by_side(page: Page, of_others: str) -> None:
    page.open(f"{of_others}/")
    page.wait_for("document.querySelectorAll('.trees tbody tr').length === 2")
    page.run("[...document.querySelectorAll('.trees a')].find((each) => each.textContent === '2').click()")
    page.wait_for("document.querySelectorAll('.conversation section').length === 3")
    page.run(
        "(() => { const beside = document.querySelector('[name=beside]');"
        "beside.value = [...beside.options].find((each) => each.text.startsWith('lost')).value;"
        "beside.dispatchEvent(new Event('change')); })()"
    )
    page.wait_for("document.querySelectorAll('.conversation').length === 2")
    page.wait_for("document.querySelectorAll('.conversation section').length === 6")
    left, right = (page.run(f"document.querySelectorAll('.conversation')[{place}].innerText") for place in range(2))
    assert "Add <b>2</b> and 2." in left and "It is 4." in left and "It is 5." in right
    assert page.run("document.querySelectorAll('.steps b').length") == 0
    strips = "[...document.querySelectorAll('.strip')].map((each) => each.innerText.split(/\\s+/).join(' ').trim())"
    assert page.run(strips) == ["0.25 0.50 2.00", "0.25 0.50 -1.00"]
    assert page.run("document.querySelectorAll('.conversation section.shared').length") == 4
    assert "values of values.parquet" in left and "mean outcome 0.500 of 2" in left
    boxes = "[...document.querySelectorAll('.conversation')].map((each) => each.getBoundingClientRect())"
    assert page.run(f"(([left, right]) => left.right <= right.left && left.top === right.top)({boxes})")


def test_a_tree_leads_to_its_episodes(page: Page, of_others: str, address: str) -> None:
    show(page, address, left=SMALL.id)
    page.run("document.querySelector('[data-node=\"2\"]').click()")
    page.wait_for("document.querySelector('.steps a')?.textContent === 'Read the episode that ended here'")
    page.run("document.querySelector('.steps a').click()")
    page.wait_for("document.querySelectorAll('.conversation section').length === 2")
    text = page.run("document.querySelector('.conversation').innerText")
    assert "A door." in text and "no reward model yet" in text
    page.open(f"{of_others}/?episode=absent")
    page.wait_for("document.body.innerText.includes('there is no tree absent in this run')")


def test_what_was_not_taken_in_a_recorded_conversation_is_told(page: Page, address: str) -> None:
    show(page, address, left="gateway.first.recorded.0.0")
    rows = page.run(
        "[...document.querySelectorAll('.canvas .row')].map((each) => each.innerText.replace(/\\s+/g, ' '))"
    )
    (untaken,) = [row for row in rows if "not taken" in row]
    assert "To the wall." in untaken and "≈ 0.25" in untaken
    assert any('move({"to": "door"})' in row and "≈ 0.75" in row for row in rows)
