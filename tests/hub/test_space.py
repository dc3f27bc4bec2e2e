"""The Space that shows a model: its files, its push with the real client over HTTP, and its app."""

import getpass
import os
import runpy
import socket

import gradio as gr
import pytest
from huggingface_hub import CommitOperationAdd, HfApi, SpaceCard

from hf_vits.app.explorer import Explorer
from hf_vits.cli import main
from hf_vits.hub import push_space, save_for_hub
from hf_vits.hub.space import SDK_VERSION, version_range
from hf_vits.testing.hub import LoopbackHub

from ..support.hub import image, tiny_model, tiny_processor
from .test_video_models import tiny_classifier as tiny_clip_classifier

FILES = {"README.md", "app.py", "requirements.txt"}


@pytest.fixture
def hub(tmp_path):
    with LoopbackHub() as hub, hub.in_process(tmp_path / "home"):
        yield hub


def files(hub: LoopbackHub, repo_id: str) -> dict[str, str]:
    stored = hub.repository(repo_id, "space").head.files
    return {name: file.content.decode() for name, file in stored.items() if name != ".gitattributes"}


def test_the_command_pushes_model_and_space(hub, tmp_path, capsys):
    save_for_hub(tiny_model("deit"), tmp_path / "model", tiny_processor())
    assert main(["push", str(tmp_path / "model"), "user/photos", "--space", "--token", hub.token]) == 0
    assert "/spaces/user/photos" in capsys.readouterr().out
    written = files(hub, "user/photos")
    assert written.keys() == FILES
    card = SpaceCard(written["README.md"])
    assert (card.data.sdk, card.data.sdk_version, card.data.app_file) == ("gradio", SDK_VERSION, "app.py")
    assert card.data.models == ["user/photos"]
    lines = written["requirements.txt"].splitlines()
    assert "user/photos" in lines[0]
    assert lines[1] == "hf_vits[demo]>=0.1,<0.2"
    assert all(">=" in line and ",<" in line for line in lines[1:])
    private = (hub.token, str(tmp_path), os.getcwd(), os.path.expanduser("~"), socket.gethostname(), getpass.getuser())
    for name, text in written.items():
        assert not [word for word in private if word in text and word != "user"], name

    # The Space runs: it pulls the model from the Hub and shows it.
    (tmp_path / "app.py").write_text(written["app.py"])
    page = runpy.run_path(str(tmp_path / "app.py"))["page"]
    assert isinstance(page, gr.Blocks)
    image().save(tmp_path / "photo.png")
    (classify,) = (function.fn for function in page.fns.values() if function.api_name == "classify")
    explorer = Explorer(tiny_model("deit"), tiny_processor())
    expected = explorer.best(explorer.probabilities(tmp_path / "photo.png"))
    assert classify(str(tmp_path / "photo.png"))[1] == pytest.approx(expected, abs=1e-6)


def test_a_second_push_commits_nothing_and_other_files_stay(hub):
    model = tiny_model("deit")
    first = push_space(model, "user/photos", token=hub.token)
    assert push_space(model, "user/photos", token=hub.token).oid == first.oid
    api = HfApi(token=hub.token)
    api.create_commit("user/photos", [CommitOperationAdd("notes.md", b"n")], commit_message="n", repo_type="space")
    push_space(model, "user/others", "user/photos", token=hub.token)
    written = files(hub, "user/photos")
    assert written.keys() == FILES | {"notes.md"}
    assert 'MODEL = "user/others"' in written["app.py"]


def test_spaces_of_others_are_left_alone(hub):
    api = HfApi(token=hub.token)
    api.create_repo("user/docker", repo_type="space", space_sdk="docker")
    with pytest.raises(ValueError, match="user/docker exists and is a Space of the kind 'docker', not 'gradio'"):
        push_space(tiny_model("deit"), "user/photos", "user/docker", token=hub.token)
    api.create_repo("user/own", repo_type="space", space_sdk="gradio")
    api.create_commit("user/own", [CommitOperationAdd("app.py", b"own")], commit_message="own", repo_type="space")
    with pytest.raises(ValueError, match=r"user/own exists and has an app.py that hf_vits did not write"):
        push_space(tiny_model("deit"), "user/photos", "user/own", token=hub.token)
    assert files(hub, "user/own") == {"app.py": "own"}
    push_space(tiny_model("deit"), "user/photos", token=hub.token)
    with pytest.raises(ValueError, match="public, so a push cannot make it private"):
        push_space(tiny_model("deit"), "user/photos", private=True, token=hub.token)


def test_private_and_refused_pushes(hub):
    push_space(tiny_model("deit"), "user/photos", private=True, token=hub.token)
    assert hub.repository("user/photos", "space").private
    with pytest.raises(PermissionError, match="Check the token"):
        push_space(tiny_model("deit"), "user/photos", token=hub.add_account("reader", "read"))


def test_what_a_space_cannot_show_is_refused_before_anything_is_pushed(hub, tmp_path, capsys):
    speech = tiny_model("branchformer", "AutoModelForCTC")
    save_for_hub(speech, tmp_path / "speech")
    assert main(["push", str(tmp_path / "speech"), "user/speech", "--space", "--token", hub.token]) == 2
    assert "push it without a Space" in capsys.readouterr().err
    assert main(["push", str(tmp_path / "speech"), "user/speech", "--space", "--revision", "other"]) == 2
    assert "--space shows the branch main" in capsys.readouterr().err
    assert not hub.repositories
    with pytest.raises(ValueError, match="a Space loads its model by the name of a repository"):
        push_space(tiny_model("deit"), "/home/me/model", token=hub.token)


def test_a_space_installs_what_its_inputs_need(hub):
    push_space(tiny_clip_classifier("vivit"), "user/clips", token=hub.token)
    assert "hf_vits[demo,video]>=" in files(hub, "user/clips")["requirements.txt"]
    assert version_range("2.14.0+cpu") == ">=2.14,<3"
    assert version_range("0.1.0") == ">=0.1,<0.2"


def test_the_hub_checks_metadata_of_spaces(hub):
    api = HfApi(token=hub.token)
    with pytest.raises(Exception, match="sdk"):
        api.create_repo("user/x", repo_type="space", space_sdk=None)
    api.create_repo("user/x", repo_type="space", space_sdk="gradio")
    card = b"---\ntitle: x\nsdk: gradio\ncolorFrom: mauve\n---\n"
    with pytest.raises(ValueError, match="colorFrom"):
        api.create_commit("user/x", [CommitOperationAdd("README.md", card)], commit_message="x", repo_type="space")
