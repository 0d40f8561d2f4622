import pytest

from unmask.errors import find_meant, suggest


@pytest.mark.parametrize(
    ("name", "choices", "meant"),
    [
        ("avg", ("mean", "median", "max"), "mean"),
        ("bf16-mixed", ("fp32", "bf16", "fp16"), "bf16"),
        (16, ("fp32", "bf16", "fp16"), "fp16"),
        ("gpu", ("auto", "cpu", "cuda"), "cuda"),
        ("cuda", ("auto", "cpu", "gpu"), "gpu"),
        ("Adam-W", ("adam", "adamw", "sgd"), "adamw"),
        ("FF++", ("forge", "ffpp"), "ffpp"),
        ("FaceForensics++", ("forge", "ffpp"), "ffpp"),
        ("validation", ("train", "val", "test"), "val"),
        ("CosineAnnealingLR", ("cosine", "none"), "cosine"),
        ("retina_face", ("haar", "retinaface"), "retinaface"),
        ("sdg", ("adam", "sgd"), "sgd"),
        ("mtcnn", ("haar", "none"), None),
        ("xyz", ("cosine", "none"), None),
    ],
)
def test_names_known_from_elsewhere_lead_to_ours(name: object, choices: tuple[str, ...], meant: str | None) -> None:
    assert find_meant(name, choices) == meant


def test_a_suggestion_can_be_typed() -> None:
    assert suggest("avg", ("mean", "max"), key="aggregation") == " Did you mean 'aggregation=mean'?"
    assert suggest("xyz", ("mean", "max")) == ""
