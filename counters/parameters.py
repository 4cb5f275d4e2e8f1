"""What may be wrong with any query, whoever reads it. Pure."""

from collections.abc import Collection, Mapping, Sized


def faults(given: Mapping[str, Sized], known: Collection[str]) -> dict[str, list[str]]:
    """What is wrong with the parameters of a query, by name; `given` has all values of each."""
    wrong = {name: _fault(name, values, known) for name, values in given.items()}
    return {name: [fault] for name, fault in wrong.items() if fault}


def _fault(name: str, values: Sized, known: Collection[str]) -> str:
    if name not in known:
        return "There is no such parameter."
    return "Must be given once." if len(values) > 1 else ""
