"""What a row holds: the fields asked for, as far as the role may read them, and what comes always."""

from __future__ import annotations

from primero_ona.primero.fields import CASE_FIELDS
from primero_ona.sandbox.columns import CANARY
from primero_ona.sandbox.primero import SandboxPrimero
from primero_ona_tests.sandbox.conftest import Client, client_of

ALWAYS = {"id", "enabled", "last_updated_at", "consent_signature"}


def test_only_the_fields_asked_for_come_beside_those_that_always_come(five: Client) -> None:
    """A signature field comes as null unasked, as on an instance that has one; a blank before a name is not trimmed."""
    row = five.rows("case_id_display=A&fields=sex,%20age,nonsense")[0]
    assert row.keys() == ALWAYS | {"sex"}
    assert five.rows("case_id_display=A&fields=nonsense")[0].keys() == ALWAYS


def test_without_fields_everything_that_the_role_may_read_comes_names_included() -> None:
    """Why the pipeline always sends `fields`; the canaries prove in other tests that it does."""
    with SandboxPrimero(30).serve() as server:
        client = client_of(server)
        assert {"name", "address_current", "services_section"} <= client.rows()[0].keys()
        assert any("date_of_birth" in row for row in client.rows())
        assert client.rows("order_by=unique_identifier&fields=") == client.rows("order_by=unique_identifier")
        assert client.rows()[0]["name"].startswith(CANARY)
        asked = client.get("fields=" + ",".join(CASE_FIELDS) + "&per=1000")
        assert f"{CANARY}-name" not in asked.text
        assert f"{CANARY}-service-notes" in asked.text, "nested notes come with their section, asked for or not"


def test_a_form_that_is_not_granted_takes_its_field_and_its_filter_away() -> None:
    """The silent failure that a start-up check must find: the field is missing and the filter selects everybody."""
    with SandboxPrimero(0).serve() as server:
        server.create(type_of_placement="kinship_care_99289")
        server.create(type_of_placement="foster_care_69914")
        client = client_of(server)
        assert len(client.rows("type_of_placement=foster_care_69914")) == 1
        server.role.forms.discard("care_arrangements")
        rows = client.rows("type_of_placement=foster_care_69914&fields=type_of_placement,sex")
        assert len(rows) == 2
        assert all("type_of_placement" not in row for row in rows)
        server.role.withheld.add("sex")
        assert len(client.rows("sex=male")) == 2


def test_the_date_of_birth_comes_only_where_it_is_asked_for_and_permitted() -> None:
    """It must be an answer to our own question, and a role may lack its form."""
    with SandboxPrimero(0).serve() as server:
        server.create(date_of_birth="2012-05-07", age=12)
        client = client_of(server)
        assert client.rows("fields=age")[0].keys() == ALWAYS | {"age"}
        assert client.rows("fields=age,date_of_birth")[0]["date_of_birth"] == "2012-05-07"
        server.role.withheld.add("date_of_birth")
        assert client.rows("fields=age,date_of_birth")[0].keys() == ALWAYS | {"age"}


def test_a_dropped_filter_can_be_switched_on(five: Client) -> None:
    """The field still comes, only its filter does nothing: what re-checking each row is for."""
    five.server.switches.dropped.add("sex")
    try:
        assert five.names("sex=male") == "ABCDE"
    finally:
        five.server.switches.dropped.clear()


def test_missing_null_and_cleared_keys_are_told_apart(five: Client) -> None:
    """A key never set is absent, one that was cleared is null: a client that takes one for the other breaks."""
    row = five.rows("case_id_display=D&fields=age,protection_concerns")[0]
    assert "age" not in row
    assert row["protection_concerns"] is None


def test_disabled_cases_come_by_default(five: Client) -> None:
    """No filter on record_state is implied anywhere."""
    assert [row["enabled"] for row in five.rows("case_id_display=D")] == [False]


def test_the_scope_of_the_role_restricts_silently(five: Client) -> None:
    """Nothing in a list says that the account sees a part; a single case out of scope is a 403."""
    other = five.rows("case_id_display=C")[0]["id"]
    five.server.role.owner = "worker_1"
    try:
        assert five.names("sex=male,female") == "AB"
        assert five.get(path=f"/api/v2/cases/{other}").status_code == 403
    finally:
        five.server.role.owner = None


def test_short_is_a_fixed_summary(five: Client) -> None:
    """A name of a set, not of a field."""
    assert {"short_id", "owned_by", "status"} <= five.rows("fields=short")[0].keys()


def test_one_case_is_fetched_by_its_id(five: Client) -> None:
    """How a missing case is told from one out of scope: 404 in Primero's shape."""
    own = five.rows("case_id_display=A")[0]["id"]
    assert five.get("fields=sex", path=f"/api/v2/cases/{own}").json()["data"]["sex"] == "male"
    for wrong in ("00000000-0000-4000-8000-000000000000", "x"):
        answer = five.get(path=f"/api/v2/cases/{wrong}")
        assert answer.status_code == 404
        assert answer.json()["errors"][0] == {
            "status": 404, "resource": f"/api/v2/cases/{wrong}", "message": "Not Found",
            "detail": f"Couldn't find Child with 'id'={wrong}",
        }  # fmt: skip
