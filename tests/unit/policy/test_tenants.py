"""Tenants' own bundles: signed for that tenant, opened by themselves, and remembered by themselves."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import orjson
import pytest

from authz.bundles import TenantBundles, are_current
from authz.config import BundleSigners, BundleTrust, Config, Control, Policy, PublishedBundle
from authz.errors import BundleError, ConfigError, PolicyError
from authz.native import Library
from authz.policy.engine import PolicySource
from authz.policy.fetching import Fetching
from authz.policy.tenants import TenantPolicies, read
from authz.wiring import last_good, policy_activation
from tests.fakes import PRINCIPAL, FakeClock
from tests.publisher import RELEASE, Publisher, Signer, public_pem

if TYPE_CHECKING:
    from pathlib import Path

    from authz.policy.activation import Activation

ACME, GLOBEX = Signer("acme"), Signer("globex")
LIFE = {"created_at": "2026-01-01T00:00:00Z", "expires_at": "2126-01-01T00:00:00Z"}
SIGNERS = (
    BundleSigners(keys=("release",)),
    BundleSigners(keys=("acme",), tenants=("acme",)),
    BundleSigners(keys=("globex", "release"), tenants=("globex", "acme")),
)
BUNDLES = (
    PublishedBundle(name="base"),
    PublishedBundle(name="own", tenant="acme"),
    PublishedBundle(name="own", tenant="globex"),
)


def config(folder: Path, **changes: Any) -> Config:
    keys = {}
    for signer in (RELEASE, ACME, GLOBEX):
        keys[signer.name] = folder / f"{signer.name}.pem"
        keys[signer.name].write_bytes(public_pem(signer.private))
    trust = BundleTrust(keys={**keys}, signers=changes.pop("signers", SIGNERS))
    policy = Policy(**{"bundles": BUNDLES, "state": folder / "state", "trust": trust, **changes})
    return Config(policy=policy, control=Control(url="http://127.0.0.1:1", state=folder / "sidecar"))


def published(
    signer: Signer = ACME, bundle_id: str = "own", tenants: tuple[str, ...] = ("acme",), **more: Any
) -> Publisher:
    return Publisher(declared=LIFE | {"bundle_id": bundle_id, "tenants": list(tenants)}, signer=signer, **more)


def activation(made: Config, tenant: str = "acme") -> Activation:
    bundle = next((each for each in made.policy.tenant_bundles if each.tenant == tenant), None)
    return policy_activation(made, Library.load(), last_good(made, bundle), tenant=tenant)


def activate(activation: Activation, of: Publisher) -> None:
    candidate = of.candidate(path="own")
    activation.activate(PolicySource(archive=candidate.archive, candidate=candidate))


def refusal(activation: Activation, of: Publisher) -> str:
    with pytest.raises(BundleError) as caught:
        activate(activation, of)
    return caught.value.code


@pytest.mark.parametrize(
    ("of", "code"),
    [
        (published(RELEASE, bundle_id="base"), "BUNDLE_SIGNERS"),
        (published(GLOBEX), "BUNDLE_SIGNERS"),
        (published(tenants=()), "BUNDLE_TENANT"),
        (published(tenants=("globex",)), "BUNDLE_TENANT"),
        (published(tenants=("acme", "globex")), "BUNDLE_TENANT"),
    ],
)
def test_f8_a_tenants_bundle_is_signed_for_that_tenant_and_made_for_it(
    tmp_path: Path, of: Publisher, code: str
) -> None:
    assert refusal(activation(config(tmp_path)), of) == code


def test_f8_who_may_sign_for_two_tenants_gives_neither_the_others_bundle(tmp_path: Path) -> None:
    signers = (SIGNERS[0], BundleSigners(keys=("acme",), tenants=("acme", "globex")))
    acme = activation(config(tmp_path, signers=signers))
    assert refusal(acme, published(tenants=("globex",))) == "BUNDLE_TENANT"
    activate(acme, published(tenants=("acme", "globex")))


@pytest.mark.parametrize("signers", [SIGNERS, SIGNERS[::-1]], ids=["platform's first", "tenants' first"])
def test_f8_a_tenants_key_signs_no_bundle_of_the_platforms(tmp_path: Path, signers: tuple[BundleSigners, ...]) -> None:
    base = activation(config(tmp_path, signers=signers), tenant="")
    assert refusal(base, published(ACME, bundle_id="base", tenants=())) == "BUNDLE_SIGNERS"
    activate(base, published(RELEASE, bundle_id="base", tenants=()))


def test_a_platforms_bundle_is_for_every_tenant_or_for_all_that_have_their_own(tmp_path: Path) -> None:
    base = activation(config(tmp_path), tenant="")
    assert refusal(base, published(RELEASE, bundle_id="base", tenants=("acme",))) == "BUNDLE_TENANT"
    activate(base, published(RELEASE, bundle_id="base", tenants=("acme", "globex")))


def test_one_tenants_counter_and_quarantine_are_not_anothers(tmp_path: Path) -> None:
    made = config(tmp_path)
    acme, globex = activation(made), activation(made, "globex")
    activate(acme, published(sequence=7))
    assert refusal(acme, published(sequence=6)) == "BUNDLE_REGRESSION"
    activate(globex, published(GLOBEX, tenants=("globex",), sequence=3))
    broken = {"policy.rego": b"package authz\n\ndecision := {"}
    assert refusal(globex, published(GLOBEX, tenants=("globex",), sequence=4, files=broken)) == "BUNDLE_INVALID"
    assert (len(globex.quarantined), len(acme.quarantined)) == (1, 0)
    assert len({last_good(made, each).folder for each in (None, *made.policy.tenant_bundles)}) == 3  # type: ignore[union-attr]


def test_the_state_of_the_one_bundle_of_a_service_stays_where_it_is_when_tenants_get_their_own(tmp_path: Path) -> None:
    alone, several = config(tmp_path, bundles=BUNDLES[:1]), config(tmp_path)
    assert last_good(alone).folder == last_good(several).folder  # type: ignore[union-attr]


def test_a_tenants_rules_read_nothing_of_the_platforms_or_of_another_tenants(tmp_path: Path) -> None:
    """Both have the same packages and roots: engines are not shared, so nothing is merged."""
    made = config(tmp_path)
    base, acme, globex = activation(made, ""), activation(made), activation(made, "globex")
    roots: dict[str, Any] = {"roots": ("authz", "secret")}
    secret = {"data.json": b'{"secret": "theirs"}'}
    activate(base, published(RELEASE, bundle_id="base", tenants=(), files=secret, **roots))
    activate(globex, published(GLOBEX, tenants=("globex",), files=secret, **roots))
    spy = b'package authz\n\ndecision := {"effect": "allow", "tags": {"found": data.secret}}\n'
    activate(acme, published(files={"policy.rego": spy}))
    found = TenantPolicies({"acme": acme}).of(PRINCIPAL)
    assert found is not None
    with pytest.raises(PolicyError, match="POLICY_TENANT_FAILED"):
        read(found, found.decision.evaluate(b"{}", 1.0))
    alone = base.active().decision.evaluate(b"{}", 1.0)
    assert orjson.loads(alone or b"")["reason"] == "nobody"


@dataclass
class Followed:
    """A fetcher that has heard something, or has not."""

    state: Fetching


def test_a_policy_is_current_where_the_platforms_and_the_tenants_own_are(tmp_path: Path) -> None:
    made, clock = config(tmp_path), FakeClock()
    heard = Followed(Fetching(path="own", heard_ns=0))
    silent = Followed(Fetching(path="own"))
    bundles = TenantBundles(
        {"acme": (activation(made), heard), "globex": (activation(made, "globex"), silent)},  # type: ignore[dict-item]
        clock,
    )
    base: Any = (activation(made, ""), heard)
    old: Any = (activation(made, ""), silent)

    def current(platform: Any, tenants: TenantBundles | None = bundles) -> list[bool]:
        asks = are_current(platform, tenants, clock)
        return [asks(replace(PRINCIPAL, tenant=tenant)) for tenant in ("acme", "globex", "initech")]

    assert current(base) == [True, False, True]
    assert current(None) == [True, False, True]
    assert current(old) == [False, False, False]
    assert (current(base, None), current(None, None)) == ([True] * 3, [True] * 3)
    clock.advance(601)
    assert current(base) == [False] * 3


def test_a_tenant_whose_bundle_is_missing_is_told_of_before_anything_else(tmp_path: Path) -> None:
    own = activation(config(tmp_path))
    follows = Followed(Fetching(path="own", unreachable="nobody answers"))
    bundles = TenantBundles({"acme": (own, follows)}, FakeClock())  # type: ignore[dict-item]
    assert bundles.degraded() == {"policy of acme": "POLICY_TENANT_UNAVAILABLE"}
    activate(own, published())
    assert bundles.degraded() == {"policy of acme": "BUNDLE_FETCH"}
    follows.state = Fetching(path="own")
    assert bundles.degraded() == {}


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"bundles": BUNDLES[1:]}, "exactly one is the platform's"),
        ({"bundles": (*BUNDLES[:2], PublishedBundle(name="base2"))}, "exactly one is the platform's"),
        ({"bundles": (*BUNDLES, PublishedBundle(name="more", tenant="acme"))}, "two bundles"),
        ({"contract": "envoy"}, "contract `agent` only"),
        ({"signers": ()}, "nobody who may sign for tenant `acme`"),
        ({"signers": SIGNERS[:2]}, "nobody who may sign for tenant `globex`"),
        ({"signers": SIGNERS[1:]}, "nobody who may sign the platform's"),
    ],
)
def test_bundles_that_make_no_sense_together_are_refused_at_the_start(
    tmp_path: Path, changes: dict[str, Any], told: str
) -> None:
    with pytest.raises(ConfigError, match=told):
        config(tmp_path, **changes).verify()


def test_one_bundle_is_the_whole_policy_whoever_it_belongs_to(tmp_path: Path) -> None:
    for bundle in BUNDLES[:2]:
        policy = config(tmp_path, bundles=(bundle,)).policy
        assert (policy.platform_bundle, policy.tenant_bundles) == (bundle, ())
    config(tmp_path).verify()
