"""Push to and pull from a Hub, with the real clients over HTTP."""

import getpass
import json
import os
import socket
from pathlib import Path

import pytest
import torch
from huggingface_hub import CommitOperationAdd, HfApi, ModelCard, constants, hf_hub_download, hf_hub_url
from transformers import AutoBackbone, AutoImageProcessor, AutoModel, AutoModelForImageClassification

from hf_vits.hub import model_card, push_to_hub, save_for_hub
from hf_vits.testing.hub import LoopbackHub

from ..support.hub import TINY, image, tiny_model, tiny_processor


@pytest.fixture
def hub(tmp_path):
    with LoopbackHub() as hub, hub.in_process(tmp_path / "home"):
        yield hub


def files(hub: LoopbackHub, repo_id: str, revision: str = "main") -> dict[str, bytes]:
    return {name: file.content for name, file in hub.repository(repo_id).at(revision).files.items()}


@pytest.mark.parametrize("name", TINY)
def test_pull_is_identical(hub, name):
    model, processor = tiny_model(name), tiny_processor()
    commit = push_to_hub(model, f"user/{name}", processor, token=hub.token)
    assert commit.oid == hub.repository(f"user/{name}").head.id
    pulled = AutoModelForImageClassification.from_pretrained(f"user/{name}")
    assert type(pulled) is type(model)
    expected, found = model.state_dict(), pulled.state_dict()
    assert expected.keys() == found.keys()
    assert all(torch.equal(expected[key], found[key]) and expected[key].dtype == found[key].dtype for key in expected)
    pulled_processor = AutoImageProcessor.from_pretrained(f"user/{name}")
    assert type(pulled_processor) is type(processor)
    pixels = processor(image(), return_tensors="pt").pixel_values
    assert torch.equal(pixels, pulled_processor(image(), return_tensors="pt").pixel_values)
    # Not to the last bit: how tensors lie in memory decides which kernels multiply them.
    torch.testing.assert_close(model(pixels).logits, pulled(pixels).logits)


def test_other_heads_load_the_same_weights(hub):
    model = tiny_model("vit")
    push_to_hub(model, "user/vit", tiny_processor(), token=hub.token)
    pixels = torch.randn(2, 3, 32, 32)
    base = AutoModel.from_pretrained("user/vit")
    torch.testing.assert_close(base(pixels).pooler_output, model.model(pixels).pooler_output)
    assert AutoBackbone.from_pretrained("user/vit")(pixels).feature_maps[0].shape == (2, 16, 4, 4)


def test_second_push_uploads_only_what_changed(hub):
    model, processor = tiny_model("vit"), tiny_processor()
    push_to_hub(model, "user/vit", processor, token=hub.token)
    repository = hub.repository("user/vit")
    first, uploads = repository.head, list(hub.lfs_uploads)
    assert len(uploads) == 1

    assert push_to_hub(model, "user/vit", processor, token=hub.token).oid == first.id
    assert repository.head is first
    assert hub.lfs_uploads == uploads

    push_to_hub(model, "user/vit", processor, token=hub.token, card=model_card(model, variant="ViT-Ti_16"))
    assert repository.head.changed == ("README.md",)
    assert hub.lfs_uploads == uploads

    with torch.no_grad():
        model.classifier.bias += 1
    push_to_hub(model, "user/vit", processor, token=hub.token)
    assert repository.head.changed == ("model.safetensors",)
    assert hub.lfs_uploads == [*uploads, repository.head.files["model.safetensors"].sha256]

    model.config.id2label = {0: "ant", 1: "bee", 2: "fly"}
    push_to_hub(model, "user/vit", processor, token=hub.token)
    assert repository.head.changed == ("config.json",)
    assert len(hub.lfs_uploads) == 2


def test_one_commit(hub):
    push_to_hub(tiny_model("vit"), "user/vit", tiny_processor(), token=hub.token, commit_message="All at once")
    titles = [commit.title for commit in hub.repository("user/vit").history()]
    assert titles == ["All at once", "initial commit"]


def test_weights_of_an_earlier_push_do_not_stay(hub):
    """An earlier model.safetensors would be loaded in place of the new shards."""
    api = HfApi(token=hub.token)
    api.create_repo("user/vit")
    names = ("model.safetensors", "model-00001-of-00002.safetensors", "model.safetensors.index.json", "other.bin")
    additions = [CommitOperationAdd(name, b"old " + name.encode()) for name in names]
    api.create_commit("user/vit", additions, commit_message="old")
    push_to_hub(tiny_model("vit"), "user/vit", token=hub.token)
    left = files(hub, "user/vit")
    assert {"model.safetensors", "other.bin"} == {name for name in left if name in names}
    assert left["other.bin"] == b"old other.bin"
    assert not left["model.safetensors"].startswith(b"old")


def test_nothing_unnamed_goes_up(hub, tmp_path, monkeypatch):
    """The pushed files do not contain the folder, user, host or token of this machine."""
    monkeypatch.setenv("HF_TOKEN", hub.token)
    folder = tmp_path / "secret-run"
    save_for_hub(tiny_model("vit"), folder, tiny_processor())
    for name in ("optimizer.pt", "scheduler.pt", "rng_state.pth", "trainer_state.json", "training_args.bin"):
        (folder / name).write_bytes(b"state")
    model = AutoModelForImageClassification.from_pretrained(folder)
    processor = AutoImageProcessor.from_pretrained(folder)
    assert model.name_or_path == str(folder)
    push_to_hub(model, "user/clean", processor)
    stored = files(hub, "user/clean")
    assert {name for name in stored if not name.endswith(".py")} == {
        ".gitattributes",
        "README.md",
        "config.json",
        "model.safetensors",
        "preprocessor_config.json",
    }
    secrets = ["secret-run", str(tmp_path), str(Path.home()) + "/", os.getcwd(), hub.token, socket.gethostname()]
    for name, content in stored.items():
        for secret in secrets:
            assert secret.encode() not in content, f"{name} tells {secret}"
    assert "_name_or_path" not in json.loads(stored["config.json"])
    if getpass.getuser() not in ("root", "user"):
        assert not any(getpass.getuser().encode() in content for content in stored.values())


def test_name_alone_means_own_namespace(hub):
    commit = push_to_hub(tiny_model("vit"), "mine", token=hub.token)
    assert commit.commit_url.startswith(f"{hub.endpoint}/user/mine/commit/")
    assert 'from_pretrained("user/mine")' in files(hub, "user/mine")["README.md"].decode()


def test_push_to_a_branch(hub):
    push_to_hub(tiny_model("vit"), "user/vit", token=hub.token)
    api = HfApi(token=hub.token)
    api.create_branch("user/vit", branch="half")
    main = hub.repository("user/vit").head
    push_to_hub(tiny_model("vit").half(), "user/vit", token=hub.token, revision="half")
    assert hub.repository("user/vit").head is main
    assert AutoModel.from_pretrained("user/vit", revision="half", dtype="auto").dtype == torch.float16
    assert AutoModel.from_pretrained("user/vit", revision=main.id).dtype == torch.float32


def test_existing_card_is_left_alone(hub):
    model = tiny_model("vit")
    push_to_hub(model, "user/vit", token=hub.token, card="---\nlicense: mit\n---\n\n# Mine\n")
    push_to_hub(model, "user/vit", token=hub.token)
    assert ModelCard.load("user/vit").text.strip() == "# Mine"


def test_private_repository_needs_a_token(hub, tmp_path, monkeypatch):
    model = tiny_model("vit")
    push_to_hub(model, "user/secret", tiny_processor(), token=hub.token, private=True)
    assert hub.repository("user/secret").private
    for token in (None, hub.add_account("eve")):
        with pytest.raises(OSError, match="user/secret is not a local folder"):
            AutoModel.from_pretrained("user/secret", token=token)
    with pytest.raises(OSError, match="Invalid credentials"):
        AutoModel.from_pretrained("user/secret", token="hf_wrong")
    assert not list((tmp_path / "home").rglob("blobs/*"))
    pulled = AutoModelForImageClassification.from_pretrained("user/secret", token=hub.token)
    assert torch.equal(pulled.classifier.weight, model.classifier.weight)
    AutoImageProcessor.from_pretrained("user/secret", token=hub.add_account("user", role="read"))
    # AutoBackbone asks whether the repository exists without the token it is given.
    monkeypatch.setenv("HF_TOKEN", hub.token)
    AutoBackbone.from_pretrained("user/secret")


def test_public_repository_is_not_taken_for_private(hub):
    push_to_hub(tiny_model("vit"), "user/open", token=hub.token)
    before = hub.repository("user/open").head
    with pytest.raises(ValueError, match="exists and is public"):
        push_to_hub(tiny_model("deit"), "user/open", token=hub.token, private=True)
    assert hub.repository("user/open").head is before


def test_gated_repository(hub):
    push_to_hub(tiny_model("vit"), "user/gated", token=hub.token)
    hub.repository("user/gated").gated = True
    with pytest.raises(OSError, match="gated repo"):
        AutoModel.from_pretrained("user/gated", token=hub.add_account("eve"))
    AutoModel.from_pretrained("user/gated", token=hub.token)


def test_transformers_own_model(hub):
    """transformers' own models can be pushed too, without code or mention of hf_vits."""
    from transformers import ViTConfig, ViTForImageClassification

    model = ViTForImageClassification(
        ViTConfig(image_size=32, patch_size=16, hidden_size=16, num_hidden_layers=1, num_attention_heads=2)
    )
    push_to_hub(model, "user/theirs", token=hub.token)
    stored = files(hub, "user/theirs")
    assert not [name for name in stored if name.endswith(".py")]
    assert "auto_map" not in json.loads(stored["config.json"])
    assert b"import hf_vits" not in stored["README.md"]
    assert torch.equal(AutoModel.from_pretrained("user/theirs").layernorm.weight, model.vit.layernorm.weight)


def test_wrong_arguments(hub):
    with pytest.raises(TypeError, match="PreTrainedModel, got Linear"):
        push_to_hub(torch.nn.Linear(2, 2), "user/vit", token=hub.token)
    with pytest.raises(TypeError, match="save_pretrained"):
        push_to_hub(tiny_model("vit"), "user/vit", object(), token=hub.token)
    with pytest.raises(TypeError, match="card must be"):
        push_to_hub(tiny_model("vit"), "user/vit", card=3, token=hub.token)
    with pytest.raises(ValueError, match="user/x/y"):
        push_to_hub(tiny_model("vit"), "user/x/y", token=hub.token)
    with pytest.raises(ValueError, match="license"):
        push_to_hub(tiny_model("vit"), "user/vit", card="---\nlicense: free beer\n---\n", token=hub.token)
    assert not hub.repositories or len(hub.repository("user/vit").history()) == 1


def test_save_for_hub_writes_what_a_push_would(hub, tmp_path):
    model, processor = tiny_model("cct"), tiny_processor()
    folder = save_for_hub(model, tmp_path / "new" / "folder", processor)
    push_to_hub(model, "user/cct", processor, token=hub.token)
    pushed = {name: content for name, content in files(hub, "user/cct").items() if name != ".gitattributes"}
    pushed["README.md"] = pushed["README.md"].replace(b"user/cct", b"USER/MODEL")
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == pushed
    assert [path.name for path in folder.parent.iterdir()] == ["folder"]


def test_save_for_hub_leaves_no_half(tmp_path):
    used = tmp_path / "used"
    used.mkdir()
    (used / "file").touch()
    with pytest.raises(FileExistsError, match="not an empty folder"):
        save_for_hub(tiny_model("vit"), used)
    with pytest.raises(TypeError, match="card must be"):
        save_for_hub(tiny_model("vit"), tmp_path / "failed", card=3)
    assert [path.name for path in tmp_path.iterdir()] == ["used"]
    (used / "file").unlink()
    assert (save_for_hub(tiny_model("vit"), used) / "model.safetensors").exists()


def test_parts(tmp_path):
    """Large files are uploaded in several parts, as on the Hub above 5 GB."""
    with LoopbackHub(multipart_above=20_000) as hub, hub.in_process(tmp_path / "home"):
        model = tiny_model("vit")
        push_to_hub(model, "user/vit", token=hub.token)
        parts = [exchange for exchange in hub.exchanges if exchange.method == "PUT"]
        assert len(parts) > 1
        assert max(part.received for part in parts) == 20_000
        assert torch.equal(AutoModel.from_pretrained("user/vit").norm.weight, model.model.norm.weight)


def test_loopback_listings(hub):
    """Other requests of the client: revisions, history, trees, accounts."""
    api = HfApi(token=hub.token)
    assert api.whoami()["name"] == "user"
    api.create_repo("user/a", private=True)
    api.create_commit("user/a", [CommitOperationAdd("x/w.safetensors", b"1" * 1000)], commit_message="first")
    api.create_tag("user/a", tag="v1")
    api.create_commit("user/a", [CommitOperationAdd("x/note.txt", b"hi")], commit_message="second")
    assert [commit.title for commit in api.list_repo_commits("user/a")] == ["second", "first", "initial commit"]
    assert [tag.name for tag in api.list_repo_refs("user/a").tags] == ["v1"]
    assert api.list_repo_files("user/a", revision="v1") == [".gitattributes", "x/w.safetensors"]
    tree = {entry.path: entry for entry in api.list_repo_tree("user/a", recursive=True, expand=True)}
    assert list(tree) == [".gitattributes", "x", "x/note.txt", "x/w.safetensors"]
    assert tree["x/w.safetensors"].lfs.size == 1000
    assert tree["x/w.safetensors"].last_commit.title == "first"
    assert [entry.path for entry in api.list_repo_tree("user/a", "x")] == ["x/note.txt", "x/w.safetensors"]
    assert [entry.path for entry in api.get_paths_info("user/a", ["x/note.txt", "none"])] == ["x/note.txt"]
    assert api.model_info("user/a").private
    assert Path(hf_hub_download("user/a", "x/note.txt", token=hub.token)).read_text() == "hi"
    api.delete_repo("user/a")
    assert not api.repo_exists("user/a")
    assert not api.repo_exists("name-without-namespace")


def test_loopback_is_left_behind(tmp_path):
    """After the context the clients are as before."""
    before = constants.ENDPOINT, constants.HF_HUB_CACHE, hf_hub_url("a/b", "c"), dict(os.environ)
    with LoopbackHub() as hub, hub.in_process(tmp_path):
        assert hf_hub_url("a/b", "c").startswith(hub.endpoint)
        assert HfApi().endpoint == hub.endpoint
    assert (constants.ENDPOINT, constants.HF_HUB_CACHE, hf_hub_url("a/b", "c"), dict(os.environ)) == before
    with pytest.raises(RuntimeError, match="not running"):
        _ = hub.endpoint
