"""Odd names, labels and numbers, checked against the rules of Kubernetes."""

import re
from collections.abc import Iterator
from typing import Any

import kubernetes_validate
from hypothesis import given, settings
from hypothesis import strategies as st

from .chart import (
    DEMO,
    EVERYTHING,
    Manifest,
    container,
    pod_template,
    render,
    render_kind,
    rendered,
)

KUBERNETES = kubernetes_validate.latest_version()

DNS_LABEL = re.compile(r"[a-z]([-a-z0-9]{0,61}[a-z0-9])?")
LABEL_VALUE = re.compile(r"([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?")
# As Helm itself accepts them: up to 53 characters.
release_names = st.from_regex(
    r"[a-z0-9]([-a-z0-9]{0,20}[a-z0-9])?(\.[a-z0-9]{1,9}){0,2}", fullmatch=True
)
texts = st.from_regex(r"[A-Za-z0-9]([-A-Za-z0-9_.]{0,80}[A-Za-z0-9])?", fullmatch=True)
scalars = st.one_of(
    st.from_regex(r"([A-Za-z0-9]([-A-Za-z0-9_.]{0,40}[A-Za-z0-9])?)?", fullmatch=True),
    st.booleans(),
    st.integers(-(10**6), 10**12),
    st.none(),
)
STANDARD_LABELS = [
    "app.kubernetes.io/name",
    "app.kubernetes.io/instance",
    "app.kubernetes.io/version",
    "helm.sh/chart",
    "team",
    "release",
]
label_maps = st.dictionaries(st.sampled_from(STANDARD_LABELS), scalars, max_size=4)


@settings(max_examples=25, deadline=None)
@given(release=release_names, name=texts | st.just(""), full=texts | st.just(""))
def test_every_name_and_label_is_one_that_kubernetes_accepts(
    release: str, name: str, full: str
) -> None:
    values = {**EVERYTHING, "nameOverride": name, "fullnameOverride": full, "releaseLabel": True}
    manifests = render(values, release=release, namespace="123")
    for manifest in manifests:
        metadata = manifest["metadata"]
        assert DNS_LABEL.fullmatch(metadata["name"]), metadata["name"]
        assert metadata["namespace"] == "123"
        for labels in label_maps_of(manifest):
            for value in labels.values():
                assert isinstance(value, str)
                assert LABEL_VALUE.fullmatch(value), value
    assert_selected(manifests)


@settings(max_examples=25, deadline=None)
@given(common=label_maps, pod=label_maps, service=label_maps, monitor=label_maps)
def test_labels_of_users_are_merged_and_leave_the_selectors_alone(
    common: dict[str, Any], pod: dict[str, Any], service: dict[str, Any], monitor: dict[str, Any]
) -> None:
    values = {
        **EVERYTHING,
        "commonLabels": common,
        "podLabels": pod,
        "service": {"labels": service},
        "serviceMonitor": {"enabled": True, "labels": monitor},
    }
    manifests = render(values)
    assert_selected(manifests)
    for manifest in manifests:
        if manifest["kind"] in {"Deployment", "Service", "Pod"}:
            kubernetes_validate.validate(manifest, KUBERNETES, strict=True)
    deployment = one(manifests, "Deployment")
    assert deployment["spec"]["selector"]["matchLabels"] == {
        "app.kubernetes.io/name": "nextmv-exporter",
        "app.kubernetes.io/instance": "queue",
    }
    assert_labels(deployment["spec"]["template"]["metadata"]["labels"], common, pod)
    assert_labels(one(manifests, "Service")["metadata"]["labels"], common, service)
    assert_labels(one(manifests, "ServiceMonitor")["metadata"]["labels"], common, monitor)


def test_labels_and_annotations_given_twice_are_rendered_once() -> None:
    # Rendering is strict about duplicate keys.
    twice = {"team": "b", "app.kubernetes.io/part-of": "own", "app.kubernetes.io/name": "other"}
    values = {
        **EVERYTHING,
        "commonLabels": {"team": "a", "app.kubernetes.io/version": "7"},
        "podLabels": twice,
        "commonAnnotations": {"checksum/secret": "0", "helm.sh/hook": "pre-install"},
        "podAnnotations": {"kubectl.kubernetes.io/default-container": "own"},
        "test": {"annotations": {"helm.sh/hook": "pre-install"}},
    }
    template = pod_template(values)["metadata"]
    assert template["labels"]["team"] == "b"
    assert template["labels"]["app.kubernetes.io/version"] == "7"
    assert template["labels"]["app.kubernetes.io/part-of"] == "own"
    assert template["labels"]["app.kubernetes.io/name"] == "nextmv-exporter"
    assert template["annotations"]["kubectl.kubernetes.io/default-container"] == "own"
    assert len(template["annotations"]["checksum/secret"]) == 64
    assert render_kind("Pod", values)["metadata"]["annotations"]["helm.sh/hook"] == "test"


def test_label_templates_are_expanded_in_keys_and_values() -> None:
    values = DEMO | {"commonLabels": {"{{ .Release.Name }}-team": "{{ .Release.Namespace }}-1"}}
    for manifest in render(values):
        assert manifest["metadata"]["labels"]["queue-team"] == "metrics-1"


def test_two_releases_in_one_namespace_share_no_name_and_select_only_their_own_pods() -> None:
    first, second = render(EVERYTHING, release="a"), render(EVERYTHING, release="b")
    assert not identities(first) & identities(second)
    selector = one(first, "Service")["spec"]["selector"].items()
    assert selector <= labels_of_pod(first).items()
    assert not selector <= labels_of_pod(second).items()


def test_releases_with_long_names_of_one_beginning_share_no_name() -> None:
    long = "a" * 52
    first, second = (render(EVERYTHING, release=long + end) for end in "bc")
    assert not identities(first) & identities(second)


def test_large_numbers_are_written_in_full() -> None:
    values = {
        **EVERYTHING,
        "revisionHistoryLimit": 1000000,
        "terminationGracePeriodSeconds": 10000000,
        "queue": {"maxGroups": 100000000},
        "serviceMonitor": {"enabled": True, "sampleLimit": 100000000, "targetLimit": 1000000},
        "podDisruptionBudget": {"enabled": True, "maxUnavailable": 1000000},
    }
    assert "--queue.max-groups=100000000" in container(values)["args"]
    assert not re.search(r"\de\+\d", "".join(rendered(values).values()))
    assert render_kind("ServiceMonitor", values)["spec"]["sampleLimit"] == 100000000


def test_values_of_variables_become_text() -> None:
    variables = [
        {"name": "A", "value": 1},
        {"name": "B", "value": True},
        {"name": "C", "value": "{{ .Release.Name }}"},
        {"name": "D", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}},
    ]
    env = container(DEMO | {"extraEnv": variables})["env"]
    assert [each.get("value") for each in env] == ["1", "true", "queue", None]


def test_numbers_in_node_selectors_become_text() -> None:
    pod = pod_template(DEMO | {"nodeSelector": {"disk": 1, "ssd": True}})["spec"]
    assert pod["nodeSelector"] == {"disk": "1", "ssd": "true"}


def test_names_that_look_like_other_types_stay_text() -> None:
    values = {
        **EVERYTHING,
        "nextmv": {"existingSecret": "123", "existingSecretKey": "1e3"},
        "priorityClassName": "null",
        "runtimeClassName": "123",
        "imagePullSecrets": ["123"],
        "serviceAccount": {"name": "123"},
    }
    pod = pod_template(values)["spec"]
    assert pod["volumes"][0]["secret"]["secretName"] == "123"
    assert pod["volumes"][0]["secret"]["items"][0]["key"] == "1e3"
    assert (pod["priorityClassName"], pod["runtimeClassName"]) == ("null", "123")
    assert (pod["serviceAccountName"], pod["imagePullSecrets"]) == ("123", [{"name": "123"}])


def one(manifests: list[Manifest], kind: str) -> Manifest:
    """The one manifest of a kind."""
    [manifest] = [each for each in manifests if each["kind"] == kind]
    return manifest


def identities(manifests: list[Manifest]) -> set[tuple[str, str]]:
    """Kind and name of each manifest."""
    return {(each["kind"], each["metadata"]["name"]) for each in manifests}


def labels_of_pod(manifests: list[Manifest]) -> dict[str, str]:
    """The labels of the exporter's pod."""
    labels: dict[str, str] = one(manifests, "Deployment")["spec"]["template"]["metadata"]["labels"]
    return labels


def label_maps_of(node: Any) -> Iterator[dict[str, str]]:
    """Every mapping of labels in a manifest."""
    if isinstance(node, dict):
        for key, value in node.items():
            if key in {"labels", "matchLabels"} and isinstance(value, dict):
                yield value
            else:
                yield from label_maps_of(value)
    elif isinstance(node, list):
        for each in node:
            yield from label_maps_of(each)


def assert_selected(manifests: list[Manifest]) -> None:
    """Assert that the Deployment and the Service select the exporter's pod and not the test's."""
    pod, test = labels_of_pod(manifests), one(manifests, "Pod")["metadata"]["labels"]
    for selector in (
        one(manifests, "Deployment")["spec"]["selector"]["matchLabels"],
        one(manifests, "Service")["spec"]["selector"],
        one(manifests, "PodMonitor")["spec"]["selector"]["matchLabels"],
        one(manifests, "NetworkPolicy")["spec"]["podSelector"]["matchLabels"],
    ):
        assert selector
        assert selector.items() <= pod.items()
        assert not selector.items() <= test.items()
    monitor = one(manifests, "ServiceMonitor")["spec"]["selector"]["matchLabels"]
    assert monitor.items() <= one(manifests, "Service")["metadata"]["labels"].items()


def assert_labels(actual: dict[str, str], *given: dict[str, Any]) -> None:
    """Assert that later maps win over earlier ones, except for what selectors need."""
    merged = {key: value for each in given for key, value in each.items()}
    for key, value in merged.items():
        if key in {"app.kubernetes.io/name", "app.kubernetes.io/instance"}:
            continue
        text = str(value).lower() if isinstance(value, bool) else str(value)
        assert actual.get(key) == (None if value is None else text)
