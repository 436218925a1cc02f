from edgepress.core.artifact import Program, Signature
from edgepress.core.config import dump, parse
from edgepress.core.inputs import InputSpec

SIGNATURE = Signature("classification", InputSpec(32, 24, crop=0.875, resize="crop"), ("cat", "dog"))


def test_signature_survives_json():
    assert parse(Signature, dump(SIGNATURE)) == SIGNATURE
    assert SIGNATURE.input.shape == (3, 32, 24)


def test_with_key_changes_the_key_only():
    program = Program(SIGNATURE, "onnxruntime", "fp32", {"model.onnx": b"x"})
    keyed = program.with_key("00ff")
    assert keyed.key == "00ff" and program.key == ""
    assert keyed.with_key("") == program
