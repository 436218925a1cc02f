import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgepress.core.artifact import Program, Signature
from edgepress.core.errors import BundleError
from edgepress.core.inputs import InputSpec
from edgepress.runtime.manifest import FORMAT, MAX_MANIFEST_BYTES, Manifest, decode, encode, manifest_of

GOOD = json.loads(
    encode(
        manifest_of(
            Program(
                Signature("classification", InputSpec(8, 8), ("a", "b")), "onnxruntime", "fp32", {"model.onnx": b"x"}
            ),
            "good",
        )
    )
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


def refused(data: bytes) -> str:
    with pytest.raises(BundleError) as caught:
        decode(data, "m.json")
    return str(caught.value)


def spoiled(**fields) -> str:
    return refused(json.dumps(GOOD | fields).encode())


def one_file(**fields):
    return [GOOD["files"][0] | fields]


@given(st.binary(max_size=400))
def test_garbage_bytes(data):
    refused(data)


@given(JSON)
def test_any_json(value):
    refused(json.dumps(value).encode("utf-8", "surrogatepass"))


@given(st.sampled_from(sorted(GOOD)), JSON)
def test_any_value_in_any_field_is_a_manifest_or_refused(name, value):
    data = json.dumps(GOOD | {name: value}).encode()
    try:
        manifest = decode(data)
    except BundleError:
        return
    assert decode(encode(manifest)) == manifest


@given(st.integers(0, 2000), st.binary(max_size=3))
def test_any_cut_or_patch_of_a_good_one(position, patch):
    data = json.dumps(GOOD).encode()
    patched = data[:position] + patch + data[position + len(patch) :]
    for text in (data[:position], patched):
        try:
            assert isinstance(decode(text), Manifest)
        except BundleError as error:
            assert str(error)


def test_good_one_survives():
    manifest = decode(json.dumps(GOOD).encode())
    assert manifest.name == "good" and manifest.format == 1 and manifest.post == "softmax"
    assert json.loads(encode(manifest)) == GOOD


def test_versions_say_the_way_out():
    assert "newer than" in (text := spoiled(format=FORMAT + 1, other=1)) and "pip install --upgrade" in text
    assert "older than" in (text := spoiled(format=0)) and "export the bundle again" in text
    for wrong in ("1", 1.0, None, True, [1]):
        assert "whole number" in spoiled(format=wrong)


def test_unknown_field_names_the_nearest():
    assert "unknown field 'lables'; did you mean 'labels'?" in spoiled(lables=["a"])


def test_a_million_problems_are_cut_short():
    text = refused(json.dumps(GOOD | {f"k{k}": "x" * 500 for k in range(5000)}).encode())
    assert len(text) < 10_000


@pytest.mark.parametrize(
    "name",
    ["../x", "/etc/passwd", "a/b", "a\\b", "..", ".", "", ".hidden", "C:x", "a\0", "a\n", "manifest.json",
     "MANIFEST.JSON", "é", "x" * 121, "-rf"],
)  # fmt: skip
def test_file_names_are_plain(name):
    assert "plain file name" in spoiled(files=one_file(name=name))


@pytest.mark.parametrize(
    ("fields", "part"),
    [
        ({"files": []}, "at least one"),
        ({"files": GOOD["files"] * 2}, "no name may occur twice"),
        ({"files": one_file(bytes=-1)}, "bytes"),
        ({"files": one_file(bytes=3 << 30)}, "bytes"),
        ({"files": one_file(sha256="00")}, "SHA-256"),
        ({"labels": []}, "labels"),
        ({"labels": ["a\x1b[2J"]}, "control characters"),
        ({"name": "a\nb"}, "control characters"),
        ({"provenance": {"model": {"name": ["\x1b]0;x\x07"]}}}, "control characters"),
        ({"parity": {"\x1b[2J": 1.0}}, "control characters"),
        ({"key": "../../x"}, "words of letters"),
        ({"key": ".."}, "words of letters"),
        ({"post": "argmax"}, "goes with"),
        ({"task": "detection"}, "'task'"),
        ({"layout": "NHWC"}, "'layout'"),
        ({"input": GOOD["input"] | {"height": 10**9}}, "pixels a side"),
        ({"input": GOOD["input"] | {"std": [0, 1, 1]}}, "above 0"),
    ],
)
def test_refuses(fields, part):
    assert part in spoiled(**fields)


def test_json_tricks():
    assert "nested" in refused(b"[" * 100_000) or "JSON" in refused(b"[" * 100_000)
    assert "occurs twice" in refused(b'{"format": 1, "format": 1}')
    assert "not a JSON number" in refused(b'{"parity": {"max_abs": NaN}}')
    assert "at most" in refused(b" " * (MAX_MANIFEST_BYTES + 1))
    assert "expected a JSON object" in refused(b"[]")
    assert "JSON" in refused(b'{"format": ' + b"1" * 5000 + b"}")


def test_deep_provenance_is_refused_not_a_crash():
    deep = b'{"a":' * 500 + b"1" + b"}" * 500
    data = json.dumps(GOOD).encode().replace(b'"provenance": {}', b'"provenance": ' + deep)
    try:
        assert decode(data).provenance
    except BundleError as error:
        assert "nested" in str(error)


@pytest.mark.parametrize("value", [object(), float("nan"), {1, 2}, b"x"])
def test_what_is_not_json_is_not_written(value):
    program = Program(
        Signature("classification", InputSpec(8, 8), ("a",)), "onnxruntime", "fp32", {"m": b""}, {"v": value}
    )
    with pytest.raises(BundleError, match="plain JSON values"):
        encode(manifest_of(program, "x"))
