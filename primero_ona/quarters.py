"""Quarters of the year in Cambodia: keys, labels, windows, and the one time zone of the project."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, date, datetime
from zoneinfo import ZoneInfo

from primero_ona.errors import UsageError

#: Every calendar date and every quarter of this project is one of Phnom Penh: UTC+7, no summer time.
TIME_ZONE = "Asia/Phnom_Penh"
PHNOM_PENH = ZoneInfo(TIME_ZONE)


def local_today() -> date:
    """The present day in Phnom Penh."""
    return datetime.now(PHNOM_PENH).date()


def local_time(moment: datetime | None) -> str:
    """Show a point in time, which is aware, to the minute in Phnom Penh: `2024-05-15 10:00`; `never` where there is none."""
    return f"{moment.astimezone(PHNOM_PENH):%Y-%m-%d %H:%M}" if moment else "never"


_MONTHS = ("Jan–Mar", "Apr–Jun", "Jul–Sep", "Oct–Dec")


@dataclass(frozen=True, order=True)
class Quarter:
    """One quarter of a year; `number` is 1 to 4. Dagster knows it by `key`, people by `name` and `label`."""

    year: int
    number: int

    @classmethod
    def parse(cls, text: str) -> Quarter:
        """Read `2024-Q1`, or a partition key such as `2024-01-01`.

        Raises UsageError where the text is neither.
        """
        if match := re.fullmatch(r"(\d{4})-?[Qq]([1-4])", text.strip()):
            return cls(int(match[1]), int(match[2]))
        if match := re.fullmatch(r"(\d{4})-(01|04|07|10)-01", text.strip()):
            return cls(int(match[1]), (int(match[2]) + 2) // 3)
        raise UsageError(f"{text!r} is not a quarter; write it like 2024-Q1")

    @classmethod
    def of(cls, moment: datetime) -> Quarter:
        """The quarter, in Phnom Penh, of an aware point in time."""
        local = moment.astimezone(PHNOM_PENH)
        return cls(local.year, (local.month + 2) // 3)

    @property
    def key(self) -> str:
        """The partition key: the quarter's first day, `2024-04-01`."""
        return f"{self.year:04d}-{self.number * 3 - 2:02d}-01"

    @property
    def name(self) -> str:
        """How people write it: `2024-Q2`."""
        return f"{self.year:04d}-Q{self.number}"

    @property
    def label(self) -> str:
        """How it is shown: `2024-Q2 (Apr–Jun)`."""
        return f"{self.name} ({_MONTHS[self.number - 1]})"

    @property
    def start(self) -> datetime:
        """The first instant of the quarter, in Phnom Penh time."""
        return datetime.combine(date.fromisoformat(self.key), datetime.min.time(), PHNOM_PENH)

    @property
    def end(self) -> datetime:
        """The first instant after the quarter, in Phnom Penh time."""
        return self.next().start

    def next(self) -> Quarter:
        """The quarter after this one."""
        return Quarter(self.year + self.number // 4, self.number % 4 + 1)

    def previous(self) -> Quarter:
        """The quarter before this one."""
        return Quarter(self.year - (self.number == 1), (self.number - 2) % 4 + 1)

    def is_open(self, now: datetime) -> bool:
        """Whether the quarter still runs at an aware `now`."""
        return now < self.end

    def window_text(self) -> str:
        """The window as people check it, in local time: start included, end excluded."""
        return f"{self.start:%Y-%m-%d %H:%M} to {self.end:%Y-%m-%d %H:%M}, Phnom Penh (end excluded)"

    def __str__(self) -> str:
        return self.name


def current_quarter() -> Quarter:
    """The quarter that is open now, in Phnom Penh."""
    return Quarter.of(datetime.now(UTC))


def last_quarters(number: int) -> list[Quarter]:
    """The last so many quarters, oldest first; the open one is the last."""
    quarters = [current_quarter()]
    while len(quarters) < number:
        quarters.insert(0, quarters[0].previous())
    return quarters


def quarters_between(first: Quarter, last: Quarter) -> list[Quarter]:
    """All quarters from the first to the last, both included, oldest first."""
    quarters = [first]
    while quarters[-1] < last:
        quarters.append(quarters[-1].next())
    return quarters
