"""What is wrong with the lines of a campaign, said together: what is wrong with many is said once."""

from collections.abc import Iterator, Sequence

from sync_mcp.campaigns.table import Line
from sync_mcp.errors import InvalidRequestError
from sync_mcp.texts import MESSAGE_LIMIT, safe

MOST_FAULTS = 20
_MOST_PLACES = 8


class Faults:
    """What is wrong with lines, as it is found; `told` begin with "line 7: ", as those of a table do."""

    def __init__(self, told: Sequence[str] = ()) -> None:
        self._told = list(told)
        self._of_lines: dict[int, list[str]] = {}

    def add(self, line: Line, fault: str) -> None:
        """Note what is wrong with a line."""
        shown = safe(fault, MESSAGE_LIMIT)
        self._told.append(f"{line.place}: {shown}")
        self._of_lines.setdefault(line.number, []).append(shown)

    def list_of(self, line: Line) -> Sequence[str]:
        """Return what was noted of a line."""
        return self._of_lines.get(line.number, ())

    def check(self) -> None:
        """Raise where there is any.

        Raises:
            InvalidRequestError: all of them, the first twenty in words, each with the numbers of its lines.
        """
        if not self._told:
            return
        numbers: dict[tuple[str, str], set[int]] = {}
        for told in self._told:
            place, _, fault = told.partition(": ")
            unit, _, number = place.partition(" ")
            numbers.setdefault((unit, fault), set()).add(int(number))
        found = sorted((sorted(at), unit, fault) for (unit, fault), at in numbers.items())
        shown = [f"{_name_places(unit, at)}: {fault}" for at, unit, fault in found[:MOST_FAULTS]]
        if len(found) > MOST_FAULTS:
            shown[MOST_FAULTS - 1 :] = [f"and {len(found) - MOST_FAULTS + 1} more."]
        raise InvalidRequestError(shown).advise(
            next_step=f"Correct these {found[0][1]}s and plan again: nothing was uploaded or paid."
        )


def _name_places(unit: str, numbers: Sequence[int]) -> str:
    """Return "line 2", or "lines 2-5, 7 and 9"."""
    if len(numbers) == 1:
        return f"{unit} {numbers[0]}"
    spans = list(_list_spans(numbers))
    shown = [str(first) if first == last else f"{first}-{last}" for first, last in spans[:_MOST_PLACES]]
    left = sum(last - first + 1 for first, last in spans[_MOST_PLACES:])
    *before, last = [*shown, f"{left} more"] if left else shown
    return f"{unit}s {', '.join(before)} and {last}" if before else f"{unit}s {last}"


def _list_spans(numbers: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Yield the first and the last of the numbers that follow one another."""
    first = last = numbers[0]
    for number in numbers[1:]:
        if number != last + 1:
            yield first, last
            first = number
        last = number
    yield first, last
