"""counters/dimensions.py: the key of a combination, by which rows that have been written are found again."""

import pytest

from counters.dimensions import Dimensions

ALL_BUT_THE_ROUTE = Dimensions(
    "GET", 404, "acme", "DE", "example.org", "https://example.org/", "Firefox", "Linux", "desktop", True
)


@pytest.mark.parametrize(
    ("dimensions", "id"),
    [(Dimensions("GET"), -4221626656389858263), (ALL_BUT_THE_ROUTE, -7537519924782355124)],
)
def test_a_combination_without_a_route_keeps_the_key_from_before_there_were_routes(dimensions, id):
    assert dimensions.id == id


def test_the_key_tells_routes_apart():
    routes = ["", "/", "/product/<int:id>/", "/product/<slug:name>/"]
    assert len({ALL_BUT_THE_ROUTE._replace(route=route).id for route in routes}) == len(routes)
