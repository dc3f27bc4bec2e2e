"""The page of `hf-vits inspect`, clicked through."""

import pytest

from hf_vits.inspection.report import PAGE
from hf_vits.inspection.sections import SECTIONS
from tests.inspection.pages import save_models, save_photos, save_report

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def address(tmp_path_factory) -> str:
    folder = tmp_path_factory.mktemp("inspect")
    saved = save_models(folder / "models")
    photos = save_photos(folder / "photos")
    report = save_report([saved["cct"], saved["vit"]], photos, folder / "report", "--labels")
    return (report / PAGE).as_uri()


def test_every_link_leads_to_its_section_and_all_pictures_load(page, address):
    page.goto(address)
    links = page.locator("nav a")
    assert links.count() == len(SECTIONS)
    for index, section in enumerate(SECTIONS):
        links.nth(index).click()
        assert page.evaluate("location.hash") == f"#{section.name}"
        assert page.locator(f"section#{section.name} h2").is_visible()
        page.wait_for_function(
            "name => { const box = document.getElementById(name).getBoundingClientRect();"
            " return box.top < innerHeight && box.bottom > 0 }",
            arg=section.name,
        )
    widths = page.locator("figure img").evaluate_all("images => images.map(image => image.naturalWidth)")
    assert widths
    assert min(widths) > 50


@pytest.mark.parametrize("section", ["attention", "neurons"])
def test_buttons_choose_what_is_shown(page, address, section):
    page.goto(address)
    group = page.locator(f"section#{section} .group").last
    buttons = group.locator(".choices button")
    names = buttons.all_inner_texts()
    assert len(names) > 1
    for index, name in enumerate(names):
        buttons.nth(index).click()
        assert group.locator("button[aria-pressed=true]").all_inner_texts() == [name]
        shown = group.locator("figure:visible").evaluate_all("all => all.map(each => each.dataset.choice)")
        assert set(shown) == {name}


def test_a_click_enlarges_a_picture_and_escape_or_a_click_closes_it(page, address):
    page.goto(address)
    dialog = page.locator("dialog")
    picture = page.locator("section#similarity figure img").first
    picture.click()
    assert dialog.is_visible()
    assert dialog.locator("img").get_attribute("src") == picture.get_attribute("src")
    page.keyboard.press("Escape")
    assert not dialog.is_visible()
    picture.click()
    dialog.click()
    assert not dialog.is_visible()


def test_tables_open(page, address):
    page.goto(address)
    details = page.locator("section#similarity details")
    assert not details.locator("table").is_visible()
    details.locator("summary").click()
    assert details.locator("table").is_visible()
    assert details.locator("tbody tr").count() >= 8


@pytest.mark.parametrize(("width", "beside"), [(1300, True), (700, False)])
def test_models_are_side_by_side_where_there_is_room(page, address, width, beside):
    page.set_viewport_size({"width": width, "height": 900})
    page.goto(address)
    first, second = (page.locator("section#similarity .group").first.locator("figure").nth(n) for n in (0, 1))
    one, other = first.bounding_box(), second.bounding_box()
    assert (abs(one["y"] - other["y"]) < 2) == beside
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
