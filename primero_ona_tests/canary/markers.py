"""The markers: what may be nowhere, and what may be stored but not said; and cases that carry them in every field.

The sandbox itself marks all that nobody asks for: names, addresses, telephone numbers, notes. Here every field of the
allow-list gets a marker too, as far as a field can carry one; that of the date of birth, which is asked for, may be nowhere.
"""

from __future__ import annotations

import re
from datetime import datetime
from typing import Any

from primero_ona.mapping.membership import REINTEGRATION
from primero_ona.sandbox.columns import CANARY, CANARY_BIRTH
from primero_ona.sandbox.primero import SandboxPrimero

#: Part of every text in a field that is asked for. It may stand in ONA's tables and in encrypted partitions.
WHISPER = "WHISPER"
#: The day of everything that happens to a child, and the village of all children: so is a date, and so is a place.
DAY, VILLAGE = "1911-11-11", "06011101"

#: As people write into a field for codes: with blanks, without them in Khmer, and longer than any code. A single word of a
#: code's shape is shown as an unmapped code on purpose (see docs/threat-model.md), so none of these is one.
TEXT = f"{WHISPER} she lives behind the market"
KHMER = f"{WHISPER}ភូមិ"
LONG = f"{WHISPER}{'x' * 120}"

_FORBIDDEN = f"{CANARY}|{CANARY_BIRTH}"

NOWHERE = re.compile(_FORBIDDEN.encode())
#: Digits of a village are looked for as a number of their own: as a part of longer ones they occur by chance.
UNSAID = re.compile(f"{_FORBIDDEN}|{WHISPER}|{DAY}|(?<![0-9a-f]){VILLAGE}(?![0-9a-f])".encode())

#: What the sandbox holds and nobody asks for; a server that sends it all the same is what these tests have.
PERSONAL = ("name", "address_current", "telephone_current", "name_caregiver", "telephone_caregiver")


def mark(primero: SandboxPrimero) -> None:
    """Put markers into all cases; one has no display id and two share one, so that there is a quarantine."""
    # By this date of birth all are children of four years: it does its work, and must not stay anywhere all the same.
    for number, case in enumerate(list(primero.cases.records())):
        display_id = None if number == 0 else f"{WHISPER}-{max(number, 2)}"
        # Its last change stays: each case belongs to the quarter that it belonged to.
        stamp = datetime.fromisoformat(case["last_updated_at"])
        primero.update(case["id"], last_updated_at=stamp, case_id_display=display_id, **_marked(number))


def _marked(number: int) -> dict[str, Any]:
    visit = {
        "unique_id": f"{WHISPER}-service-{number}",
        "service_type": TEXT,
        "service_subtype": [TEXT, KHMER],
        "service_implemented_day_time": f"{DAY}T05:00:00Z",
        "service_referral_notes": f"{CANARY} a note",
    }
    return {
        "oscar_number": f"{WHISPER} {number}",
        "type_of_case": [REINTEGRATION, TEXT] if number % 3 == 0 else TEXT,
        # The same text in every case: what occurs often is not what may be told.
        "sex": TEXT,
        "disability_type": [TEXT, LONG],
        "protection_concerns": [f"{TEXT} {number}", "refugee", LONG],
        "type_of_placement": LONG,
        "consent_reporting": KHMER,
        "location_current": VILLAGE,
        "location_caregiver": TEXT,
        "date_of_birth": CANARY_BIRTH,
        "registration_date": DAY,
        "care_date": DAY,
        "date_of_reintegration": TEXT,
        "date_closure": DAY,
        "module_id": TEXT,
        "status": TEXT,
        "services_section": [visit, TEXT],
    }
