"""The pixel and the badge in real pages."""

import pytest


def test_a_pixel_counts_a_view_without_a_script(service, site, visitor):
    ann = visitor(java_script_enabled=False)
    pixel = f'<noscript><img src="{service.url}/pixel.gif?path=/noscript/" alt=""></noscript>'
    ann.page.goto(site({"/noscript/": pixel}).url + "/noscript/")
    ann.waits_for_counts(service, "/noscript/", {"/noscript/": 1})
    assert [request.method for request in ann.sent] == ["GET"]


def test_with_scripts_the_pixel_beside_the_script_counts_no_second_time(service, site, visitor):
    ann = visitor()
    pixel = f'<noscript><img src="{service.url}/pixel.gif?path=/both/" alt=""></noscript>'
    ann.page.goto(site({"/both/": f'<script src="{service.url}/count.js"></script>{pixel}'}).url + "/both/")
    ann.page.goto("about:blank")
    ann.waits_for_counts(service, "/both/", {"/both/": 1})
    assert len(ann.sent) == 1


def test_a_pixel_is_an_image_that_counts_each_time_and_whose_referrer_is_not_the_page(service, site, visitor):
    ann = visitor()
    url = site({"/image/": f'<img src="{service.url}/pixel.gif?path=/image/">'}).url
    for count in (1, 2):
        ann.page.goto(f"{url}/image/")
        assert ann.page.evaluate("[...document.images].map((image) => [image.naturalWidth, image.naturalHeight])") == [
            [1, 1]
        ]
        assert service.counts("/image/") == {"/image/": count}
    assert all(request.headers["referer"].startswith(url) for request in ann.sent)
    rows = service.get("/stats/by/referrer/", params={"path": "/image/"}).json()
    assert [(row["value"], row["hits"]) for row in rows] == [("", 2)]
    assert ann.complaints == []


def test_a_page_that_lets_nobody_in_may_embed_all_of_it(service, site, visitor):
    """Cross-Origin-Embedder-Policy asks for what Cross-Origin-Resource-Policy answers."""
    ann = visitor()
    embeds = f'<img src="{service.url}/pixel.gif?path=/alone/"><img src="{service.url}/badge/alone/.svg">'
    page = f'{embeds}<script src="{service.url}/count.js"></script>'
    ann.page.goto(site({"/alone/": page}, headers={"Cross-Origin-Embedder-Policy": "require-corp"}).url + "/alone/")
    ann.waits_for_counts(service, "/alone/", {"/alone/": 2})
    assert ann.page.evaluate("[...document.images].every((image) => image.naturalWidth > 0)")
    assert ann.complaints == []


@pytest.mark.parametrize("hits", [0, 1, 12])
def test_a_badge_is_drawn_as_wide_as_its_number(service, site, visitor, hits):
    path = f"/api/drawn/{hits}/"
    for _ in range(hits):
        service.get(path)
    ann = visitor()
    ann.page.goto(site({"/drawn/": f'<img src="{service.url}/badge{path}.svg" alt="hits">'}).url + "/drawn/")
    sizes = ann.page.evaluate("[...document.images].map((image) => [image.naturalWidth, image.naturalHeight])")
    assert sizes == [[60 + 8 * len(str(hits)), 22]]
    assert ann.complaints == []


def test_a_badge_by_itself_is_named_for_screen_readers_and_obeys_its_own_policy(service, visitor):
    ann = visitor()
    ann.page.goto(f"{service.url}/badge/api/named/%3Cscript%3E/.svg")
    assert ann.page.get_by_role("img", name="0 hits of /api/named/%3Cscript%3E/").count() == 1
    assert ann.complaints == []
