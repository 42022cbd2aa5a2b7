"""How well a station tells known good parts from known defective ones, shown again and again.

Source: AIAG, Measurement Systems Analysis, 4th edition, 2010, chapter III section C.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from edge.inspection.decision import Result
from edge.inspection.tolerance import needed_count, rate_interval

CONFIDENCE = 0.95
# From here on agreement is good, and below that poor: AIAG, as above.
GOOD_KAPPA = 0.75
POOR_KAPPA = 0.40


@dataclass(frozen=True, slots=True)
class PartResults:
    """What a station found of one part.

    Attributes:
        defective: what the part is known to be.
        results: one for each round.
    """

    defective: bool
    results: tuple[Result, ...]

    @property
    def expected(self) -> Result:
        """The only result that is right."""
        return Result.NOK if self.defective else Result.OK

    @property
    def right(self) -> bool:
        """Judged right in every round."""
        return set(self.results) == {self.expected}

    @property
    def alike(self) -> bool:
        """Judged the same in every round, right or wrong."""
        return len(set(self.results)) == 1


@dataclass(frozen=True, slots=True)
class ObservedRate:
    """A rate and what it rests on.

    Repeated showings of one part are not independent, parts are. So the interval counts parts: its
    upper end those with a hit in any round, its lower end those with a hit in every round. It holds
    whatever the rounds have in common.

    Attributes:
        hits, showings: that the value is the ratio of.
        parts: that were shown.
        interval: exact, at 95 %.
    """

    hits: int
    showings: int
    parts: int
    interval: tuple[float, float]

    @property
    def value(self) -> float:
        return self.hits / self.showings


@dataclass(frozen=True, slots=True, kw_only=True)
class AttributeAgreement:
    """The figures of a study.

    Attributes:
        effectiveness: parts judged right in all rounds.
        miss_rate: showings of defective parts judged OK.
        false_alarm_rate: showings of good parts judged NOK.
        alike: parts judged the same in all rounds.
        own_kappa: of Fleiss, of the rounds with each other; None where all showings had one result.
        reference_kappa: of Cohen, of the showings with what the parts are; None likewise.
        not_decidable, errors: showings with these results, which are right for no part.
    """

    effectiveness: ObservedRate
    miss_rate: ObservedRate
    false_alarm_rate: ObservedRate
    alike: ObservedRate
    own_kappa: float | None
    reference_kappa: float | None
    not_decidable: int
    errors: int


class Judgement(StrEnum):
    """What the usual criteria say, best first."""

    ACCEPTABLE = "acceptable"
    MARGINAL = "marginal"
    NOT_ACCEPTABLE = "not_acceptable"


@dataclass(frozen=True, slots=True, kw_only=True)
class Criterion:
    """One figure and how it is judged.

    Attributes:
        name: of the figure in ``AttributeAgreement``.
        rate: the figure.
        acceptable, marginal: its limits.
        judgement: of its value.
        supported: the interval as a whole would be judged no worse, of a value that is not
            acceptable no better.
        needed: so many parts, all judged right, would support ``acceptable``.
    """

    name: str
    rate: ObservedRate
    acceptable: float
    marginal: float
    judgement: Judgement
    supported: bool
    needed: int


# Figure, limit of what is acceptable, limit of what is marginal; the first must not be lower.
_LIMITS = (
    ("effectiveness", 0.90, 0.80),
    ("miss_rate", 0.02, 0.05),
    ("false_alarm_rate", 0.05, 0.10),
)
_ORDER = list(Judgement)


def attribute_agreement(parts: Sequence[PartResults]) -> AttributeAgreement:
    """Count the results of a study.

    Raises:
        ValueError: no good or no defective part, or not all were shown equally often.
    """
    good = [part for part in parts if not part.defective]
    defective = [part for part in parts if part.defective]
    if not good or not defective:
        raise ValueError("a study needs good and defective parts")
    if len({len(part.results) for part in parts}) != 1 or not parts[0].results:
        raise ValueError("every part is shown equally often, at least once")
    shown = Counter(result for part in parts for result in part.results)
    pairs = [(part.expected, result) for part in parts for result in part.results]
    return AttributeAgreement(
        effectiveness=_share_of_parts([part.right for part in parts]),
        miss_rate=_rate(defective, Result.OK),
        false_alarm_rate=_rate(good, Result.NOK),
        alike=_share_of_parts([part.alike for part in parts]),
        own_kappa=fleiss_kappa([part.results for part in parts]),
        reference_kappa=cohen_kappa(pairs),
        not_decidable=shown[Result.NOT_DECIDABLE],
        errors=shown[Result.ERROR],
    )


def criteria(found: AttributeAgreement) -> tuple[Criterion, ...]:
    """Judge each figure by the usual limits."""
    return tuple(_criterion(found, *limits) for limits in _LIMITS)


def worst(judged: Sequence[Criterion]) -> Judgement:
    """Return the judgement of a study: that of its worst figure."""
    return max((one.judgement for one in judged), key=_ORDER.index)


def fleiss_kappa(ratings: Sequence[Sequence[str]]) -> float | None:
    """Return the agreement of ratings of the same subjects beyond that of chance.

    Args:
        ratings: of each subject, equally many.

    Returns:
        At most 1; None for less than two ratings of a subject, or where all are the same.

    Source: Fleiss, Psychological Bulletin 76, 1971, equations 3, 5 and 7.
    """
    raters = len(ratings[0])
    if raters < 2:
        return None
    counts = [Counter(one) for one in ratings]
    agreeing = sum(n * (n - 1) for one in counts for n in one.values())
    observed = agreeing / (len(ratings) * raters * (raters - 1))
    totals = sum(counts, Counter[str]())
    chance = sum((n / totals.total()) ** 2 for n in totals.values())
    return None if len(totals) == 1 else (observed - chance) / (1.0 - chance)


def cohen_kappa(pairs: Sequence[tuple[str, str]]) -> float | None:
    """Return the agreement of two raters beyond that of chance.

    Args:
        pairs: what each of them said of a subject.

    Returns:
        At most 1; None where both gave one and the same rating to all.

    Source: Cohen, Educational and Psychological Measurement 20, 1960, equation 1.
    """
    count = len(pairs)
    first, second = Counter(a for a, _ in pairs), Counter(b for _, b in pairs)
    observed = sum(a == b for a, b in pairs) / count
    chance = sum(n * second[rating] for rating, n in first.items()) / count**2
    return None if chance == 1.0 else (observed - chance) / (1.0 - chance)


def _rate(parts: Sequence[PartResults], wrong: Result) -> ObservedRate:
    hits = [part.results.count(wrong) for part in parts]
    rounds = len(parts[0].results)
    low, _ = rate_interval(sum(one == rounds for one in hits), len(parts), CONFIDENCE)
    _, high = rate_interval(sum(one > 0 for one in hits), len(parts), CONFIDENCE)
    return ObservedRate(sum(hits), len(parts) * rounds, len(parts), (low, high))


def _share_of_parts(marks: Sequence[bool]) -> ObservedRate:
    count = len(marks)
    return ObservedRate(sum(marks), count, count, rate_interval(sum(marks), count, CONFIDENCE))


def _criterion(
    found: AttributeAgreement, name: str, acceptable: float, marginal: float
) -> Criterion:
    rate: ObservedRate = getattr(found, name)
    at_least = acceptable > marginal
    low, high = rate.interval
    worse_end, better_end = (low, high) if at_least else (high, low)

    def judged(value: float) -> Judgement:
        for limit, judgement in ((acceptable, _ORDER[0]), (marginal, _ORDER[1])):
            if value >= limit if at_least else value <= limit:
                return judgement
        return Judgement.NOT_ACCEPTABLE

    judgement = judged(rate.value)
    failed = judgement is Judgement.NOT_ACCEPTABLE
    return Criterion(
        name=name,
        rate=rate,
        acceptable=acceptable,
        marginal=marginal,
        judgement=judgement,
        # Of what is marginal the worse end is marginal at best.
        supported=judged(better_end if failed else worse_end) is judgement,
        needed=needed_count(1.0 - acceptable if at_least else acceptable, (1 + CONFIDENCE) / 2),
    )
