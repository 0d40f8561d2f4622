import json
import os
import pickle
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import streamlit as st
import torch
from streamlit.testing.v1 import AppTest
from tests.web.app.conftest import save_checkpoint
from tests.web.app.pages import MAIN, give, open_app, open_page, said

from unmask.decision import Decision
from unmask.inference.predictor import Predictor
from unmask.models.bundle import write_bundle
from unmask.models.checkpoint import load_checkpoint
from unmask.web.app.models import read_settings
from unmask.web.app.views import NO_PROOF

MakePng = Callable[[int], bytes]


def test_without_a_model_the_page_explains_how_to_train_one(home: Path) -> None:
    page = open_app()
    assert "There is no model yet" in page.info[0].value
    commands = "\n".join(code.value for code in page.code)
    assert "make demo" in commands
    assert "python train.py dataset.root=" in commands
    assert "make app CHECKPOINT=" in commands
    assert str(home / "outputs") in said(page)
    assert not page.get("file_uploader")


def test_an_image_gets_verdict_probability_threshold_boxes_and_heat_map(bundle: Path, make_png: MakePng) -> None:
    page = give(open_app(), ("photo.png", make_png(1)))
    assert ":red[:material/warning: Fake\\: the face looks forged]" in said(page)
    assert "above the threshold 0.000" in said(page)
    assert page.metric[0].label == "Calibrated probability of a fake"
    assert page.metric[0].value.endswith("%")
    assert NO_PROOF in said(page)
    assert len(page.get("image")) == 3  # the image, its face, the heat map
    assert [slider.label for slider in page.slider] == ["Opacity of the heat map"]


def test_the_score_is_that_of_the_predictor(bundle: Path, make_png: MakePng, tmp_path: Path) -> None:
    path = tmp_path / "photo.png"
    path.write_bytes(make_png(2))
    score = Predictor.load(bundle).predict_file(path).score
    page = give(open_app(), ("photo.png", make_png(2)))
    (known,) = page.session_state["results-check"].values()
    assert known.prediction.score == score


def test_opacity_changes_only_the_heat_map(bundle: Path, make_png: MakePng) -> None:
    page = give(open_app(), ("photo.png", make_png(1)))
    before = [image.proto.imgs[0].url for image in page.get("image")]
    page.slider[0].set_value(0).run()
    after = [image.proto.imgs[0].url for image in page.get("image")]
    assert before[:2] == after[:2]
    assert before[2] != after[2]


def test_a_video_shows_its_timeline_and_the_frame_that_the_slider_chooses(bundle: Path, clip_bytes: bytes) -> None:
    page = give(open_app(), ("clip.mp4", clip_bytes))
    assert len(page.get("vega_lite_chart")) == 1
    assert "Suspicious stretches" in said(page)
    assert "Frames that weighed most" in said(page)
    assert "Examined 6 of 24 frames" in said(page)
    (looked,) = page.session_state["results-check"].values()
    assert page.select_slider[0].value == max(looked.prediction.frames, key=lambda frame: frame.faces[0].score).index
    assert len(page.select_slider[0].options) == 6
    first = page.get("image")[0].proto.imgs[0].url
    frames = [view.index for view in next(iter(page.session_state["results-check"].values())).views]
    chosen = next(frame for frame in frames if frame != page.select_slider[0].value)
    page.select_slider[0].set_value(chosen).run()
    assert not page.exception
    assert page.get("image")[0].proto.imgs[0].url != first


def test_bad_files_get_one_message_each_and_the_others_are_scored(
    bundle: Path, make_png: MakePng, tmp_path: Path
) -> None:
    page = give(
        open_app(),
        ("cut.png", make_png(1)[:60]),
        ("good.png", make_png(1)),
        ("empty.jpg", b""),
        ("notes.zip", b"PK\x03\x04" + bytes(60)),
    )
    assert len(page.error) == 3
    for name in ("cut", "empty", "notes"):
        assert sum(name in error.value for error in page.error) == 1
    assert not any("/tmp" in error.value for error in page.error)
    assert "#### 1 :red" in said(page)
    assert "#### 3 :gray" in said(page)


def test_no_file_is_left_on_disk(
    bundle: Path, make_png: MakePng, clip_bytes: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    give(open_app(), ("clip.mp4", clip_bytes), ("photo.png", make_png(1)), ("bad.png", b"\x89PNG"))
    assert list(folder.iterdir()) == []


def test_many_files_give_a_table_with_the_most_suspicious_first(bundle: Path, make_png: MakePng) -> None:
    page = give(open_app(), *((f"{seed}.png", make_png(seed)) for seed in range(4)))
    table = page.dataframe[0].value
    assert sorted(table["file"]) == ["0.png", "1.png", "2.png", "3.png"]
    assert list(table["score"]) == sorted(table["score"], reverse=True)
    assert set(table["verdict"]) == {"Fake: the face looks forged"}
    page.selectbox(key="chosen-file").set_value(3).run()
    assert table["file"].iloc[3] in [caption.value for caption in page.caption]


def test_results_outlive_a_visit_to_another_page(bundle: Path, make_png: MakePng) -> None:
    page = give(open_app(), ("photo.png", make_png(1)))
    kept = page.session_state["kept-files"]
    other = AppTest.from_file(MAIN, default_timeout=30)
    other.session_state["kept-files"] = kept  # as after a page of another kind, which empties the uploader
    other.run()
    assert "Still shown: photo.png" in said(other)
    assert "Fake" in said(other)
    other.button(key="forget-check").click().run()
    assert "Fake" not in said(other)
    assert other.session_state["results-check"] == {}


def test_files_beyond_the_limit_are_skipped_with_a_warning(
    bundle: Path, make_png: MakePng, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("unmask.web.app.session.MAX_FILES", 2)
    page = give(open_app(), *((f"{seed}.png", make_png(seed)) for seed in range(3)))
    assert "3 files at once are too many: only the first 2 are shown" in page.warning[0].value
    assert len(page.dataframe[0].value) == 2


def test_images_of_older_files_are_dropped_but_their_scores_stay(
    bundle: Path, make_png: MakePng, clip_bytes: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = [("clip.mp4", clip_bytes), *((f"{seed}.png", make_png(seed)) for seed in range(4))]
    whole = give(open_app(), *files)
    sizes = {looked.name: looked.num_image_bytes for looked in whole.session_state["results-check"].values()}
    st.cache_resource.clear()
    monkeypatch.setenv("UNMASK_IMAGES_MB", str((sizes["2.png"] + sizes["3.png"]) * 1.1 / 1e6))
    page = give(open_app(), *files)
    kept = {looked.name: looked for looked in page.session_state["results-check"].values()}
    assert [name for name, looked in kept.items() if looked.views] == ["2.png", "3.png"]
    assert list(page.dataframe[0].value["score"]) == list(whole.dataframe[0].value["score"])
    for place, name in enumerate(page.dataframe[0].value["file"]):
        page.selectbox(key="chosen-file").set_value(place).run()
        assert not page.exception
        assert ("drop the file again" in said(page)) == (name not in ("2.png", "3.png"))
        assert bool(page.get("image")) == (name in ("2.png", "3.png"))
        assert bool(page.get("vega_lite_chart")) == (name == "clip.mp4")
        assert "above the threshold" in said(page)


def test_images_of_another_page_are_dropped_first(
    bundle: Path, home: Path, make_png: MakePng, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(bundle, home / "outputs/train/second/bundle")
    other = give(open_app(), ("a.png", make_png(1)))
    (looked,) = other.session_state["results-check"].values()
    st.cache_resource.clear()
    monkeypatch.setenv("UNMASK_IMAGES_MB", str(looked.num_image_bytes * 2.5 / 1e6))
    code = "from unmask.web.app import main\nmain.run_page(main.compare_models)"
    page = AppTest.from_string(code, default_timeout=30)
    page.session_state["results-check"] = {"a": looked}
    give(page.run(), ("b.png", make_png(2)))
    assert len(page.get("image")) == 6
    assert "drop the file again" not in said(page)
    assert not page.session_state["results-check"]["a"].views
    assert page.session_state["results-check"]["a"].prediction == looked.prediction


def test_a_comparison_says_that_images_were_dropped(
    bundle: Path, home: Path, make_png: MakePng, clip_bytes: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(bundle, home / "outputs/train/second/bundle")
    monkeypatch.setenv("UNMASK_IMAGES_MB", "0.000001")
    for file in (("a.png", make_png(1)), ("clip.mp4", clip_bytes)):
        page = give(open_page("compare_models"), file)
        assert said(page).count("drop the file again") == 1  # what came last keeps its images, whatever their size


def test_file_names_are_never_read_as_markdown(bundle: Path, make_png: MakePng) -> None:
    evil = "![x](http://evil.example/x.png) <img src=x onerror=alert(1)> :red[a] www.evil.example.png"
    page = give(open_app(), (evil, make_png(1)))
    for part in [*page.markdown, *page.caption]:
        assert "![" not in part.value.replace("\\!\\[", "")
        assert "<img" not in part.value.replace("\\<img", "")
        assert "www.evil" not in part.value


def test_the_model_of_the_command_line_comes_first(
    bundle: Path, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = save_checkpoint(tmp_path / "mine.ckpt", decision=Decision(), provenance={})
    monkeypatch.setattr("sys.argv", ["main.py", "mine.ckpt"])
    page = open_app()
    model = page.selectbox(key="model")
    assert model.value == "mine.ckpt"
    assert len(model.options) == 2
    assert path.exists()


@pytest.mark.parametrize("folder", ["home/outputs/train/first", "elsewhere/first"])
def test_no_page_reveals_the_path_of_a_model(
    home: Path, app_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, folder: str
) -> None:
    bundle = Path(shutil.copytree(app_bundle, tmp_path / folder / "bundle"))
    (bundle.parent / "result.json").write_text(
        json.dumps({"best_checkpoint": f"{bundle.parent}/checkpoints/best.ckpt"})
    )
    monkeypatch.chdir(home)
    monkeypatch.setattr("sys.argv", ["main.py", str(bundle)])
    for page in (open_app(), open_page("describe_model"), open_page("compare_models")):
        texts = [said(page), *page.selectbox(key="model").options, *(code.value for code in page.code)]
        assert not [text for text in texts if str(tmp_path) in text.replace("\\", "")]
    shown = "outputs/train/first/bundle" if folder.startswith("home") else "first"
    assert page.sidebar.caption[0].value == shown


@pytest.fixture
def register(home: Path, app_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Register a bundle with such a threshold as the newest version of `faces`, the one that `best` stands for."""
    from unmask.tracking.store import make_client, store_uri

    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    client = make_client(store_uri(str(home / "mlflow.db")))
    experiment = client.create_experiment("faces", artifact_location=(tmp_path / "artifacts").as_uri())
    client.create_registered_model("faces")

    def register(threshold: float) -> None:
        folder = tmp_path / str(threshold)
        save_checkpoint(folder / "best.ckpt", decision=Decision(threshold=threshold), provenance={})
        write_bundle(load_checkpoint(folder / "best.ckpt"), folder / "bundle")
        run_id = client.create_run(experiment).info.run_id
        client.log_artifacts(run_id, str(folder / "bundle"), "bundle")
        version = client.create_model_version("faces", f"runs:/{run_id}/bundle", run_id)
        client.set_registered_model_alias("faces", "best", version.version)

    return register


def test_a_new_best_model_is_loaded_and_rescores_without_a_restart(
    register: Callable[[float], None], make_png: MakePng, monkeypatch: pytest.MonkeyPatch
) -> None:
    register(0.0)
    monkeypatch.setattr("sys.argv", ["main.py", "models:/faces@best"])
    page = give(open_app(), ("photo.png", make_png(1)))
    assert "above the threshold 0.000" in said(page)
    assert "date unknown" not in page.selectbox(key="model").options[0]
    register(1.0)
    assert "above the threshold 0.000" in said(page.run())  # MLflow is not asked at every click
    monkeypatch.setattr("unmask.web.app.models.ALIAS_SECONDS", 0)
    assert "below the threshold 1.000" in said(page.run())
    assert not page.exception
    assert len(page.session_state["results-check"]) == 1


def test_a_model_that_would_run_code_is_refused_as_text(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Payload:
        def __reduce__(self) -> tuple[object, ...]:
            return os.system, (f"touch {tmp_path / 'ran'}",)

    torch.save({"state_dict": Payload()}, tmp_path / "evil.ckpt")
    (tmp_path / "pickle.ckpt").write_bytes(pickle.dumps(Payload()))
    for name in ("evil.ckpt", "pickle.ckpt"):
        monkeypatch.setattr("sys.argv", ["main.py", name])
        page = open_app()
        assert "could run code" in page.error[0].value
        assert not page.get("file_uploader")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(("name", "message"), [("model.onnx", "SHA-256"), ("spec.json", "JSON")])
def test_a_damaged_bundle_is_an_error_on_the_page(home: Path, app_bundle: Path, name: str, message: str) -> None:
    folder = home / "outputs/train/broken/bundle"
    folder.mkdir(parents=True)
    for path in app_bundle.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    (folder / name).write_bytes((folder / name).read_bytes()[:100])
    assert message in open_app().error[0].value.replace("\\", "")


def test_two_models_are_compared_on_one_file(bundle: Path, home: Path, make_png: MakePng) -> None:
    other = home / "multirun/train/x/0"
    decision = Decision(threshold=1.0)
    save_checkpoint(other / "checkpoints/best.ckpt", seed=1, decision=decision, provenance={"dataset": "synthetic"})
    write_bundle(load_checkpoint(other / "checkpoints/best.ckpt"), other / "bundle")
    page = give(open_page("compare_models"), ("photo.png", make_png(1)))
    assert "The models contradict each other" in said(page)
    assert "faces that Unmask drew" in page.warning[0].value
    assert len(page.metric) == 2
    assert {metric.value for metric in page.metric} > {"unknown"}
    assert len(page.get("image")) == 6


def test_a_single_model_cannot_be_compared(bundle: Path) -> None:
    page = open_page("compare_models")
    assert "There is only one model here" in page.info[0].value
    assert not page.get("file_uploader")


def test_missing_facts_about_a_model_are_shown_as_unknown(bundle: Path) -> None:
    text = said(open_page("describe_model"))
    assert "| Dataset | celebs |" in text
    assert "| Commit | *unknown* |" in text
    assert "| Uncommitted changes | *unknown* |" in text
    assert "error rate is **unknown**" in text
    assert "The dataset itself is not on this machine" in text


def test_paths_of_the_training_machine_are_shown_only_there(home: Path, tmp_path: Path) -> None:
    folder = home / "outputs/train/first"
    provenance: dict[str, object] = {
        "dataset": "celebs", "dataset_root": str(tmp_path / "celebs"), "preprocessing_hash": "a",
        "command": f"python train.py dataset.root={tmp_path / 'celebs'}", "is_dirty": False, "run_name": "trial",
    }  # fmt: skip
    save_checkpoint(folder / "checkpoints/best.ckpt", decision=Decision(threshold=0.5), provenance=provenance)
    write_bundle(load_checkpoint(folder / "checkpoints/best.ckpt"), folder / "bundle")
    page = open_page("describe_model")
    assert "| Dataset | celebs |" in said(page)
    assert "| Uncommitted changes | no |" in said(page)
    assert "Model **trial \\(tiny\\), trained on celebs" in said(page)
    assert str(tmp_path / "celebs") not in said(page).replace("\\", "") + " ".join(code.value for code in page.code)
    (tmp_path / "celebs").mkdir()
    description = {"name": "celebs", "preprocessing_hash": "a", "counts": {}}
    (tmp_path / "celebs/dataset.json").write_text(json.dumps(description))
    page = open_page("describe_model")
    assert str(tmp_path / "celebs") in said(page).replace("\\", "")
    assert provenance["command"] in [code.value for code in page.code]


def test_metrics_per_method_are_shown_after_an_evaluation(bundle: Path, home: Path) -> None:
    figures = {
        "frame": {"auroc": 0.9},
        "video": {"auroc": 0.91, "balanced_accuracy": 0.8},
        "by_method": {name: {"video": {"auroc": value}} for name, value in (("FaceSwap", 0.7), ("Deepfakes", 0.98))},
        "coverage": {"num_videos": 12, "num_scored": 10, "outcomes": {"ok": 10, "no_face": 2}},
        "split": "test",
    }
    path = home / "outputs/evaluate/a/result.json"
    path.parent.mkdir(parents=True)
    content = {"datasets": {"celebdf": figures}, "provenance": {"training: run id": "run-1"}}
    path.write_text(json.dumps(content))
    page = open_page("describe_model")
    assert list(page.dataframe[0].value["fakes made by"]) == ["all", "FaceSwap", "Deepfakes"]
    assert "weakest on ` FaceSwap `: ROC-AUC 0.700" in said(page)
    assert "10 of 12 could be scored; no\\_face 2." in said(page)
    assert "error rate is **unknown**" not in said(page)


def test_settings_are_those_of_the_predict_command(home: Path) -> None:
    settings = read_settings()
    assert settings.folders == (home / "outputs", home / "multirun")
    assert settings.predictor.margin is None  # that of the checkpoint


def test_a_bundle_is_shown_without_torch(bundle: Path, make_png: MakePng, tmp_path: Path) -> None:
    (tmp_path / "photo.png").write_bytes(make_png(1))
    code = (
        "import sys; sys.argv = ['main.py']\n"
        "from streamlit.testing.v1 import AppTest\n"
        f"page = AppTest.from_file({MAIN!r}, default_timeout=30).run()\n"
        "page.file_uploader[0].set_value([('a.png', open('photo.png', 'rb').read(), 'image/png')]).run()\n"
        "assert not page.exception and page.metric[0].value.endswith('%')\n"
        "assert not {'torch', 'lightning', 'mlflow'} & sys.modules.keys()\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
