"""What the policy lets come: exactness of locations, and the text that versions partitions."""

from __future__ import annotations

import pytest

from primero_ona.primero.fields import PullPolicy, cut_location


@pytest.mark.parametrize(
    ("value", "village", "commune", "district"),
    [
        ("10060802", "10060802", "100608", "1006"),
        (10060802, 10060802, "100608", "1006"),
        ("1060802", "1060802", "10608", "106"),
        ("01060802", "01060802", "10608", "106"),
        ("100608", "100608", "100608", "1006"),
        ("1006", "1006", "1006", "1006"),
        ("10", "10", "10", "10"),
        ("1", "1", "1", "1"),
        (["10060802", "10060803"], ["10060802", "10060803"], ["100608"], ["1006"]),
        ('["10060802", "10060803"]', '["10060802", "10060803"]', ["100608"], ["1006"]),
        ("[]", "[]", [], []),
        ([["10060802"]], [["10060802"]], [None], [None]),
        (['["10060802"]', "1006"], ['["10060802"]', "1006"], [None, "1006"], [None, "1006"]),
        ("[house 7", "[house 7", None, None),
        ("100608021", "100608021", None, None),
        ("house 7, village road", "house 7, village road", None, None),
        ({"code": "10060802"}, {"code": "10060802"}, None, None),
        (True, True, None, None),
        (10060802.5, 10060802.5, None, None),
        (None, None, None, None),
        ("", "", None, None),
    ],
)
@pytest.mark.proves("location")
def test_a_location_is_cut_to_its_precision_or_dropped(value, village, commune, district):
    """Age, sex and village point at one child; what cannot be cut for certain might be a whole address."""
    assert cut_location(value, "village") == village
    assert cut_location(value, "commune") == commune
    assert cut_location(value, "district") == district


def test_each_policy_has_a_version_of_its_own_and_the_default_has_none():
    """Partitions stored so far were made under the default; any other policy must not be taken for it."""
    policies = [
        PullPolicy(),
        PullPolicy("commune"),
        PullPolicy("district"),
        PullPolicy(consent="exclude_refused"),
        PullPolicy(consent="given_only"),
        PullPolicy(modules=("primeromodule-cp",)),
        PullPolicy("commune", "given_only", ("a", "b")),
    ]
    assert policies[0].suffix == ""
    assert len({policy.suffix for policy in policies}) == len(policies)
