"""What is wrong with a query's parameters is told of each by its name."""

from counters.parameters import faults

KNOWN = ("path", "limit")


def test_known_parameters_may_be_left_out_or_given_once():
    assert faults({}, KNOWN) == {}
    assert faults({"path": ["/a"], "limit": []}, KNOWN) == {}


def test_all_that_is_wrong_is_told_at_once():
    given = {"path": ["/a", "/a"], "limit": ["1"], "page": ["2"], "": ["3", "4"]}
    assert faults(given, KNOWN) == {
        "path": ["Must be given once."],
        "page": ["There is no such parameter."],
        "": ["There is no such parameter."],
    }
