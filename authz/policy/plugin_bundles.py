"""`services`, `keys` and `bundles` of OPA's configuration, read as `policy.bundles` of ours (`--opa-config`).

Decides which of what they promise is kept here: one bundle, followed over HTTP or from an OCI registry, by a bearer
token, a client certificate or a signature of S3's, verified by keys on P-256. What cannot be kept refuses, since a
policy that is not the one that was meant would answer; only how often is looked may differ, and is said. Whether a
bundle may go without a signature is not decided here: `authz.config` refuses it unless the operator says otherwise.

Trusts the operator's file. Source: OPA "Configuration Reference", "Bundles".
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NoReturn
from urllib.parse import unquote, urlsplit

from authz.config import KIB
from authz.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

SECTIONS: Final = frozenset({"services", "keys", "persistence_directory"})
"""Read where a bundle is followed."""
POLL_S: Final = (60, 120)
"""OPA's least and longest pause between two looks."""
ALGORITHM: Final = "ES256"
_BYTES: Final = range(64 * KIB, 256 * KIB * KIB + 1)
_DELAYS: Final = ("min_delay_seconds", "max_delay_seconds")
_KNOWN: Final[dict[str, frozenset[str]]] = {
    "bundles": frozenset({"service", "resource", "persist", "polling", "signing", "size_limit_bytes", "trigger"}),
    "services": frozenset(
        {
            "name",
            "url",
            "type",
            "credentials",
            "tls",
            "headers",
            "allow_insecure_tls",
            "response_header_timeout_seconds",
        }
    ),
    "credentials": frozenset({"bearer", "client_tls", "s3_signing"}),
    "bearer": frozenset({"token", "token_path", "scheme"}),
    "client_tls": frozenset({"cert", "private_key"}),
    "s3_signing": frozenset({"environment_credentials", "service", "signature_version"}),
    "tls": frozenset({"ca_cert", "system_ca_required"}),
    "polling": frozenset({"min_delay_seconds", "max_delay_seconds", "long_polling_timeout_seconds"}),
    "signing": frozenset({"keyid", "scope"}),
    "keys": frozenset({"key", "algorithm", "scope"}),
}


def follows(document: Mapping[str, Any]) -> bool:
    """Whether some bundle is not a local file."""
    bundles = document.get("bundles")
    return isinstance(bundles, dict) and any(not _is_local(bundle) for bundle in bundles.values())


def read_bundles(
    document: Mapping[str, Any], environment: Mapping[str, str], overrides: dict[str, Any]
) -> Iterable[str]:
    """Lay settings of ours over `overrides`; gives what the operator should know.

    Raises:
        ConfigError: a part of it cannot be kept here.
    """
    bundles = _mapping(document.get("bundles"), "bundles")
    if not follows(document):
        paths = [Path(unquote(urlsplit(bundle["resource"]).path)) for _, bundle in sorted(bundles.items())]
        if paths:
            overrides["policy.paths"] = tuple(paths)
        return
    if len(bundles) > 1:
        _refuse("bundles", "has several, which OPA would merge", "build one of them, or give --policy PATH")
    ((name, told),) = bundles.items()
    where = f"bundles.{name}"
    bundle = _known(told, where, "bundles")
    if bundle.get("trigger", "periodic") != "periodic":
        _refuse(f"{where}.trigger", "is not periodic", "nothing here would trigger it")
    service = _service(document, _text(bundle, "service", where), where)
    polling = _known(bundle.get("polling"), f"{where}.polling", "polling")
    least, most = (_seconds(polling, key, default) for key, default in zip(_DELAYS, POLL_S, strict=True))
    published = _source(service, _text(bundle, "resource", where) or f"bundles/{name}") | _credentials(
        service, environment
    )
    # OPA draws each pause between the two; ours is drawn around their middle.
    published["poll_s"] = min(3600.0, max(1.0, (least + max(least, most)) / 2))
    published["wait_s"] = min(300.0, _seconds(polling, "long_polling_timeout_seconds", 0))
    overrides["policy.bundles"] = [published]
    if bundle.get("persist"):
        overrides["policy.state"] = Path(str(document.get("persistence_directory") or ".opa"))
    if signing := _known(bundle.get("signing"), f"{where}.signing", "signing"):
        overrides["policy.trust"] = _trust(document, signing, where)
    if (size := bundle.get("size_limit_bytes")) is not None:
        if type(size) is not int:
            _refuse(f"{where}.size_limit_bytes", "is not a number of bytes", "such as 33554432")
        overrides["policy.bundle_bytes"] = limit = min(max(size, _BYTES.start), _BYTES.stop - 1)
        if limit != size:
            yield f"{where}.size_limit_bytes: {limit} is used instead"


def _service(document: Mapping[str, Any], name: str, where: str) -> dict[str, Any]:
    told = document.get("services") or {}
    by_name = {} if isinstance(told, list) else _mapping(told, "services")
    listed = told if isinstance(told, list) else [{"name": key} | _mapping(by_name[key], key) for key in by_name]
    found = [each for each in listed if isinstance(each, dict) and (not name or each.get("name") == name)]
    if len(found) != 1 or not found[0].get("url"):
        _refuse(f"{where}.service", f"names no service: `{name}`", "give one of `services` with a url")
    service = _known(found[0], f"services.{found[0].get('name', name)}", "services")
    if service.get("allow_insecure_tls"):
        _refuse(f"services.{name}.allow_insecure_tls", "is not done here", "give tls.ca_cert")
    if service.get("headers"):
        _refuse(f"services.{name}.headers", "are not sent", "use credentials.bearer")
    return service


def _source(service: Mapping[str, Any], resource: str) -> dict[str, Any]:
    if service.get("type") == "oci":
        return {"source": f"oci://{resource}"}
    if service.get("type"):
        _refuse(f"services.{service.get('name', '')}.type", f"is not known: {service['type']}", "leave it out, or oci")
    return {"source": f"{str(service['url']).rstrip('/')}/{resource.lstrip('/')}"}


def _credentials(service: Mapping[str, Any], environment: Mapping[str, str]) -> dict[str, Any]:
    where = f"services.{service.get('name', '')}"
    credentials = _known(service.get("credentials"), f"{where}.credentials", "credentials")
    found: dict[str, Any] = {}
    if (bearer := _known(credentials.get("bearer"), f"{where}.credentials.bearer", "bearer")) != {}:
        if bearer.get("scheme", "Bearer") != "Bearer":
            _refuse(f"{where}.credentials.bearer.scheme", "is not Bearer", "leave it out")
        path, token = bearer.get("token_path"), bearer.get("token")
        if not path and not token:
            _refuse(f"{where}.credentials.bearer", "has no token", "give token_path")
        found |= {"token_file": Path(str(path))} if path else {"token": str(token)}
    if (pair := _known(credentials.get("client_tls"), f"{where}.credentials.client_tls", "client_tls")) != {}:
        found["client"] = {"certificate": pair.get("cert"), "key": pair.get("private_key")}
    if "s3_signing" in credentials:
        found["s3_region"] = _s3_region(credentials["s3_signing"], f"{where}.credentials.s3_signing", environment)
    tls = _known(service.get("tls"), f"{where}.tls", "tls")
    if tls.get("ca_cert"):
        if tls.get("system_ca_required"):
            _refuse(f"{where}.tls.system_ca_required", "takes the web's authorities beside ca_cert", "give one of both")
        found["roots"] = Path(str(tls["ca_cert"]))
    return found


def _s3_region(told: object, where: str, environment: Mapping[str, str]) -> str:
    """The region of `environment_credentials`; they are read again for each request."""
    signing = _known(told, where, "s3_signing")
    if signing.get("service", "s3") != "s3" or str(signing.get("signature_version", "4")) != "4":
        _refuse(where, "is not version 4 for s3", "leave service and signature_version out")
    if "environment_credentials" not in signing or not environment.get("AWS_REGION"):
        _refuse(where, "is not environment_credentials with AWS_REGION", "set it, AWS_ACCESS_KEY_ID and its like")
    return environment["AWS_REGION"]


def _trust(document: Mapping[str, Any], signing: Mapping[str, Any], where: str) -> dict[str, Any]:
    name = str(signing.get("keyid", ""))
    pinned = _mapping(document.get("keys"), "keys").get(name)
    if pinned is None:
        _refuse(f"{where}.signing.keyid", f"names no key: `{name}`", "give it under `keys`")
    key = _known(pinned, f"keys.{name}", "keys")
    if key.get("algorithm", "RS256") != ALGORITHM:
        _refuse(
            f"keys.{name}.algorithm", f"is not {ALGORITHM}", f"sign with {ALGORITHM}: opa build --signing-alg ES256"
        )
    scope = str(signing.get("scope") or key.get("scope") or "")
    return {"keys": {name: str(key.get("key", "")).strip() + "\n"}, "scope": scope}


def _seconds(told: Mapping[str, Any], key: str, default: float) -> float:
    value = told.get(key, default)
    if isinstance(value, bool) or not isinstance(value, int | float) or value < 0:
        _refuse(f"polling.{key}", "is not a number of seconds", "such as 60")
    return float(value)


def _text(told: Mapping[str, Any], key: str, where: str) -> str:
    value = told.get(key) or ""
    if not isinstance(value, str):
        _refuse(f"{where}.{key}", "is not a text", "write it as one")
    return value


def _is_local(bundle: object) -> bool:
    resource = bundle.get("resource") if isinstance(bundle, dict) else None
    return isinstance(resource, str) and urlsplit(resource).scheme == "file"


def _known(told: object, where: str, kind: str) -> dict[str, Any]:
    """A mapping whose every key is kept here: one that is not could be what protects it."""
    found = _mapping(told, where)
    if unknown := sorted(map(str, found.keys() - _KNOWN[kind])):
        _refuse(f"{where}.{unknown[0]}", "cannot be kept here", "see docs/migrating-from-opa-envoy-plugin.md")
    return found


def _mapping(told: object, where: str) -> dict[str, Any]:
    if told is None:
        return {}
    if not isinstance(told, dict):
        raise ConfigError(f"{where} is not a mapping")
    return told


def _refuse(where: str, why: str, remedy: str) -> NoReturn:
    raise ConfigError(f"{where} {why}", remedy=remedy)
