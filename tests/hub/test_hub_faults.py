"""Pushes to and pulls from a failing Hub: retries or clear errors, and no partial commits or files."""

import re
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi, constants, get_session, hf_hub_download
from huggingface_hub.utils import httpx
from transformers import AutoModelForImageClassification

from hf_vits.hub import client, push, push_to_hub, save_for_hub
from hf_vits.testing.hub import LoopbackHub

from ..support.hub import check_cache, tiny_model, tiny_processor

# Every request of a push, in order: (method, path).
STAGES = {
    "create": ("POST", "/api/repos/create"),
    "info": ("GET", "/api/models/user/vit/?"),
    "card": ("POST", "/api/validate-yaml"),
    "preupload": ("POST", "/preupload/"),
    "batch": ("POST", "/objects/batch"),
    "upload": ("PUT", "/models/user/vit/"),
    "verify": ("POST", "/objects/verify"),
    "commit": ("POST", "/commit/main"),
}
SENDS_BODY = [stage for stage in STAGES if stage != "info"]


@pytest.fixture
def hub(tmp_path):
    with LoopbackHub() as hub, hub.in_process(tmp_path / "home"):
        yield hub


@pytest.fixture(autouse=True)
def waits(monkeypatch) -> list[float]:
    """Replace waiting between attempts; the seconds are recorded."""
    waits = []
    sleep = time.sleep

    def note(seconds: float) -> None:
        if seconds >= 1:
            waits.append(seconds)
        sleep(min(seconds, 0.05))

    monkeypatch.setattr(time, "sleep", note)
    return waits


@pytest.fixture
def model():
    return tiny_model("vit")


def send(hub: LoopbackHub, model) -> None:
    push_to_hub(model, "user/vit", tiny_processor(), token=hub.token, bundle=False)


def check_pushed(hub: LoopbackHub, model, folder) -> None:
    """Check that there is one commit, equal to that of a push without faults."""
    save_for_hub(model, folder, tiny_processor(), bundle=False)
    expected = {path.name: path.read_bytes() for path in folder.iterdir()}
    expected["README.md"] = expected["README.md"].replace(b"USER/MODEL", b"user/vit")
    history = hub.repository("user/vit").history()
    assert len(history) == 2
    stored = {name: file.content for name, file in history[0].files.items()}
    assert stored.pop(".gitattributes")
    assert stored == expected


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("status", [429, 500])
def test_failing_once(hub, model, tmp_path, stage, status, waits):
    method, path = STAGES[stage]
    fault = hub.fault(method=method, path=path, status=status, headers={"Retry-After": "3"})
    send(hub, model)
    assert fault.hits == 1
    # huggingface_hub adds a second to what the Hub asks for, and cannot read a gateway's answer about a card.
    assert waits == [1] if stage == "card" and status >= 500 else waits in ([3], [4])
    check_pushed(hub, model, tmp_path / "expected")


@pytest.mark.parametrize("stage", SENDS_BODY)
@pytest.mark.parametrize("reset", [False, True], ids=["closed", "reset"])
def test_cut_in_the_middle_of_an_upload(hub, model, tmp_path, stage, reset):
    method, path = STAGES[stage]
    fault = hub.fault(method=method, path=path, cut_after=20, reset=reset)
    send(hub, model)
    assert fault.hits == 1
    check_pushed(hub, model, tmp_path / "expected")


@pytest.mark.parametrize("stage", STAGES)
def test_answer_lost(hub, model, tmp_path, stage):
    """If only the answer was lost, the action is not repeated."""
    method, path = STAGES[stage]
    fault = hub.fault(method=method, path=path, lose_answer=True)
    send(hub, model)
    assert fault.hits == 1
    check_pushed(hub, model, tmp_path / "expected")


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("kind", ["status", "cut"])
def test_failing_for_good(hub, model, tmp_path, stage, kind):
    """The error is clear and nothing is committed; the next push, to a working Hub, succeeds."""
    method, path = STAGES[stage]
    how = {"status": 500} if kind == "status" or stage == "info" else {"cut_after": 20}
    fault = hub.fault(method=method, path=path, times=1000, **how)
    with pytest.raises(OSError, match=r"pushing to user/vit at http.*failed: .*push again later"):
        send(hub, model)
    assert push.ATTEMPTS <= fault.hits < 50
    if hub.repositories:
        assert len(hub.repository("user/vit").history()) == 1
    uploaded = list(hub.lfs_uploads)
    fault.times = 0
    send(hub, model)
    assert len(hub.lfs_uploads) == 1
    assert hub.lfs_uploads[: len(uploaded)] == uploaded
    check_pushed(hub, model, tmp_path / "expected")


def test_failed_second_push_leaves_the_first(hub, model):
    send(hub, model)
    first = hub.repository("user/vit").head
    hub.fault(method="POST", path="/commit/main", times=1000, cut_after=100)
    with torch.no_grad():
        model.classifier.bias += 1
    with pytest.raises(OSError, match="last complete commit"):
        send(hub, model)
    assert hub.repository("user/vit").head is first
    pulled = AutoModelForImageClassification.from_pretrained("user/vit")
    assert torch.equal(pulled.classifier.bias + 1, model.classifier.bias)


def test_waits_as_the_hub_asks(hub, model, waits):
    hub.fault(path="/api/repos/create", status=429, headers={"RateLimit": '"api";r=0;t=7'})
    hub.fault(path="/commit/main", status=503, times=2)
    push_to_hub(model, "user/vit", token=hub.token)
    assert waits == [7, 1, 2]


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize(
    "headers", [{"Retry-After": "3600"}, {"RateLimit": '"api";r=0;t=3600'}], ids=["after", "limit"]
)
def test_does_not_wait_for_an_hour(hub, model, waits, stage, headers):
    method, path = STAGES[stage]
    fault = hub.fault(method=method, path=path, status=429, times=1000, headers=headers)
    with pytest.raises(OSError, match=r"429 Too Many Requests, with 3600 seconds to wait.*push again"):
        send(hub, model)
    assert waits == []
    fault.times = 0
    send(hub, model)


@pytest.mark.parametrize("stage", STAGES)
def test_waits_five_minutes_in_all(hub, model, waits, stage):
    method, path = STAGES[stage]
    hub.fault(method=method, path=path, status=503, times=1000, headers={"Retry-After": "140"})
    with pytest.raises(OSError, match=r"503 Service Unavailable, with 140 seconds.*no longer than 300 seconds in all"):
        send(hub, model)
    assert len(waits) == 2


@pytest.mark.parametrize("stage", STAGES)
def test_a_hub_that_never_answers(hub, model, tmp_path, monkeypatch, stage):
    """The error comes after one silence, whichever request it is; the client itself would wait without limit."""
    monkeypatch.setattr(client, "LONGEST_SILENCE", 1)
    method, path = STAGES[stage]
    fault = hub.fault(method=method, path=path, times=1000, hang=True)
    start = time.monotonic()
    with pytest.raises(
        OSError, match=r"pushing to user/vit at http.*: 127.0.0.1 did not answer within 1 seconds.*again"
    ):
        send(hub, model)
    assert time.monotonic() - start < 10
    assert fault.hits == 1
    fault.times = 0
    send(hub, model)
    check_pushed(hub, model, tmp_path / "expected")


def test_other_requests_of_the_client_are_as_before(hub, model, monkeypatch):
    """Neither after a push nor, with a limit of their own, during one do requests fail in another way."""
    send(hub, model)
    monkeypatch.setattr(client, "LONGEST_SILENCE", 0.2)
    hub.fault(path="/api/whoami", times=2, hang=True)
    url = f"{hub.endpoint}/api/whoami-v2"
    with pytest.raises(httpx.ReadTimeout):
        get_session().get(url, timeout=1)
    with client.bounded_requests(), pytest.raises(httpx.ReadTimeout):
        get_session().get(url, timeout=1)


# Several pushes at once.


def push_meanwhile(hub: LoopbackHub, monkeypatch, pushes: list) -> None:
    """Call one of the functions while the hub handles each commit, before it is made."""
    commit = hub._commit

    def overtaken(request, **options):
        if pushes:
            pushes.pop(0)()
        return commit(request, **options)

    monkeypatch.setattr(hub, "_commit", overtaken)


def check_whole(hub: LoopbackHub, model, home) -> None:
    """Check that the repository holds one push of `model` and no weights or configuration of another."""
    stored = hub.repository("user/vit").head.files
    assert [name for name in stored if push.WEIGHTS.fullmatch(name)] == ["model.safetensors"]
    check_pull(model, home)


def test_two_pushes_at_once(hub, model, tmp_path, monkeypatch):
    """The configuration, which the first push found unchanged and left out, is another's when it commits."""
    send(hub, model)
    with torch.no_grad():
        model.classifier.bias += 1
    push_meanwhile(hub, monkeypatch, [lambda: push_to_hub(tiny_model("levit"), "user/vit", token=hub.token)])
    send(hub, model)
    titles = [commit.title for commit in hub.repository("user/vit").history()]
    assert titles[:2] == [
        "Upload ViTForImageClassification with hf_vits",
        "Upload LevitForImageClassification with hf_vits",
    ]
    check_whole(hub, model, tmp_path / "home")


def test_weights_in_shards_pushed_at_the_same_time(hub, model, tmp_path, monkeypatch):
    def commit_shards() -> None:
        names = (
            "model-00001-of-00002.safetensors",
            "model-00002-of-00002.safetensors",
            "model.safetensors.index.json",
        )
        operations = [CommitOperationAdd(name, b"{}") for name in names]
        operations.append(CommitOperationDelete("model.safetensors"))
        HfApi(token=hub.token).create_commit("user/vit", operations, commit_message="shards")

    send(hub, model)
    with torch.no_grad():
        model.classifier.bias += 1
    push_meanwhile(hub, monkeypatch, [commit_shards])
    send(hub, model)
    check_whole(hub, model, tmp_path / "home")


def test_pushes_from_threads(hub, tmp_path):
    models = [tiny_model("vit") for _ in range(4)]
    for number, pushed in enumerate(models):
        with torch.no_grad():
            pushed.classifier.bias += number
    with ThreadPoolExecutor(len(models)) as pool:
        commits = list(pool.map(lambda pushed: push_to_hub(pushed, "user/vit", token=hub.token), models))
    repository = hub.repository("user/vit")
    assert len({commit.oid for commit in commits}) == len(models)
    assert len(repository.history()) == 1 + len(models)
    last = [commit.oid for commit in commits].index(repository.head.id)
    check_whole(hub, models[last], tmp_path / "home")


def test_a_commit_always_overtaken(hub, model, monkeypatch):
    """The attempts are bounded; the last of the other commits is what the repository holds."""
    numbers = iter(range(1000))

    def commit() -> None:
        operation = CommitOperationAdd("other.txt", str(next(numbers)).encode())
        hub_commit("user/vit", [operation], commit_message="other")

    hub_commit = HfApi(token=hub.token).create_commit
    send(hub, model)
    history = len(hub.repository("user/vit").history())
    with torch.no_grad():
        model.classifier.bias += 1
    others = [step for _ in range(1000) for step in (commit, lambda: None)]
    push_meanwhile(hub, monkeypatch, others)
    with pytest.raises(OSError, match=r"pushing to user/vit at .*: others committed .* each of 10 attempts.*again"):
        send(hub, model)
    assert len(hub.repository("user/vit").history()) == history + push.COMMITS


def test_conflicts_of_another_kind_of_status(hub, model, tmp_path):
    fault = hub.fault(method="POST", path="/commit/main", status=409, times=2)
    send(hub, model)
    assert fault.hits == 2
    check_pushed(hub, model, tmp_path / "expected")


@pytest.mark.parametrize("exists", [False, True])
def test_no_token(hub, model, exists):
    if exists:
        push_to_hub(model, "user/vit", token=hub.token)
    with pytest.raises(PermissionError, match=r"401.*There is no token: pass `token`.*HF_TOKEN.*hf auth login"):
        push_to_hub(tiny_model("deit"), "user/vit")
    assert not exists or len(hub.repository("user/vit").history()) == 2


def test_wrong_token(hub, model, monkeypatch):
    with pytest.raises(PermissionError, match=r"401.*Invalid credentials.*Check the token given as `token`") as caught:
        push_to_hub(model, "user/vit", token="hf_wrong")
    assert "hf_wrong" not in str(caught.value)
    monkeypatch.setenv("HF_TOKEN", "hf_wrong")
    with pytest.raises(PermissionError, match="Check the token of HF_TOKEN"):
        push_to_hub(model, "user/vit")
    assert not hub.repositories


def test_token_that_may_not_write(hub, model):
    push_to_hub(model, "user/vit", token=hub.token)
    for token in (hub.add_account("user", role="read"), hub.add_account("eve")):
        for repo_id in ("user/vit", "user/new"):
            with pytest.raises(PermissionError, match=r"403.*Check the token given as `token`.*settings/tokens"):
                push_to_hub(tiny_model("deit"), repo_id, token=token)
    assert list(hub.repositories) == [("model", "user/vit")]
    assert len(hub.repository("user/vit").history()) == 2


def test_public_repository_of_someone_else_under_another_endpoint(hub, model, monkeypatch):
    """Where the host is not that of the default endpoint, the client fails to read an address that it writes."""
    monkeypatch.setattr(constants, "ENDPOINT", "https://default.example")
    monkeypatch.setattr(constants, "HF_URL_HOSTS", frozenset({"default.example"}))
    with LoopbackHub() as other:
        push_to_hub(model, "user/vit", token=other.token, endpoint=other.endpoint)
        token = other.add_account("eve")
        with pytest.raises(
            PermissionError, match=r"http.* refuses to write to user/vit \(403\).*Check the token"
        ) as caught:
            push_to_hub(tiny_model("deit"), "user/vit", token=token, endpoint=other.endpoint)
        assert other.endpoint in str(caught.value)
        assert len(other.repository("user/vit").history()) == 2
    assert not hub.repositories


@pytest.mark.parametrize("how", [{"status": 403}, {"status": 400}, {"status": 500}, {"cut_after": 20}], ids=str)
def test_no_signed_address_and_no_token_in_any_message(hub, model, caplog, how):
    """Neither in the error and its causes nor in what is logged on the way."""
    hub.fault(method="PUT", path="/models/user/vit/", times=1000, headers={"X-Error-Message": hub.token}, **how)
    with pytest.raises((OSError, ValueError)) as caught:
        send(hub, model)
    assert caplog.records or how["status"] < 500
    for text in (causes(caught.value), caplog.text):
        assert "signature=" not in text
        assert hub.token not in text


def test_repository_of_someone_else(hub, model):
    push_to_hub(model, "user/vit", token=hub.token, private=True)
    with pytest.raises(PermissionError, match="Check the token"):
        push_to_hub(model, "user/vit", token=hub.add_account("eve"))


def test_no_such_revision(hub, model):
    with pytest.raises(ValueError, match=r"user/vit has no branch 'dev'.*create_branch"):
        push_to_hub(model, "user/vit", token=hub.token, revision="dev")
    push_to_hub(model, "user/vit", token=hub.token)
    with pytest.raises(OSError, match="dev is not a valid git identifier"):
        AutoModelForImageClassification.from_pretrained("user/vit", revision="dev")


def test_no_such_repository(hub, tmp_path):
    with pytest.raises(OSError, match="user/none is not a local folder and is not a valid model identifier"):
        AutoModelForImageClassification.from_pretrained("user/none")
    assert check_cache(tmp_path / "home") == 0


def test_upload_through_xet(hub, model, monkeypatch):
    """The loopback Hub has no Xet storage, which the client uses by default."""
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", False)
    with pytest.raises(OSError, match=r"pushing to user/vit at http.*failed: .*xet-write-token"):
        push_to_hub(model, "user/vit", token=hub.token)
    assert len(hub.repository("user/vit").history()) == 1


def test_no_hub(model):
    with pytest.raises(OSError, match=r"pushing to user/vit at http://127\.0\.0\.1:9 failed"):
        push_to_hub(model, "user/vit", token="hf_any", endpoint="http://127.0.0.1:9")


# Pulls. The client keeps a download apart until its size is right, then renames it.

DOWNLOADS = {"weights": "/models/user/vit/", "config": "/resolve/[0-9a-f]+/config.json"}


@pytest.fixture
def pushed(hub, model):
    send(hub, model)
    return model


def check_pull(model, home) -> None:
    pulled = AutoModelForImageClassification.from_pretrained("user/vit")
    assert all(torch.equal(value, pulled.state_dict()[key]) for key, value in model.state_dict().items())
    assert check_cache(home) >= 2


def causes(error: BaseException | None) -> str:
    return f"{error}\n{causes(error.__cause__ or error.__context__)}" if error else ""


@pytest.mark.parametrize("path", DOWNLOADS.values(), ids=DOWNLOADS)
def test_download_cut_once(hub, pushed, tmp_path, path):
    fault = hub.fault(method="GET", path=path, cut_after=100)
    check_pull(pushed, tmp_path / "home")
    assert fault.hits == 1


def test_download_is_resumed(hub, tmp_path):
    """The client writes 10 MiB at a time, and does not request again what it has written."""
    data = torch.arange(3 * 2**20, dtype=torch.int32).numpy().tobytes()
    api = HfApi(token=hub.token)
    api.create_repo("user/big")
    api.create_commit("user/big", [CommitOperationAdd("big.bin", data)], commit_message="12 MiB")
    fault = hub.fault(method="GET", path="/models/user/big/", cut_after=11 * 2**20)
    assert Path(hf_hub_download("user/big", "big.bin")).read_bytes() == data
    answers = [exchange.status for exchange in hub.exchanges if fault.path.search(exchange.path)]
    assert answers[-2:] == [200, 206]
    assert check_cache(tmp_path / "home") == 1


@pytest.mark.parametrize("path", DOWNLOADS.values(), ids=DOWNLOADS)
@pytest.mark.parametrize("reset", [False, True], ids=["closed", "reset"])
def test_download_cut_for_good(hub, pushed, tmp_path, path, reset):
    """There is an error and no partial file; the next pull succeeds."""
    fault = hub.fault(method="GET", path=path, times=1000, cut_after=100, reset=reset)
    with pytest.raises(Exception) as caught:  # noqa: PT011 (a reset leaves the client as its own kind of error)
        AutoModelForImageClassification.from_pretrained("user/vit")
    assert re.search("Connection reset by peer|peer closed connection", causes(caught.value))
    check_cache(tmp_path / "home")
    assert not list((tmp_path / "home").rglob("*.incomplete"))
    fault.times = 0
    check_pull(pushed, tmp_path / "home")


@pytest.mark.parametrize("status", [429, 500])
@pytest.mark.parametrize("path", [r"/resolve/[0-9a-f]+/", "/api/models/user/vit"], ids=["resolve", "info"])
def test_pull_through_a_busy_hub(hub, pushed, tmp_path, status, path):
    fault = hub.fault(path=path, status=status, headers={"Retry-After": "0"})
    check_pull(pushed, tmp_path / "home")
    assert fault.hits == 1


def test_pull_from_a_broken_hub(hub, pushed, tmp_path):
    fault = hub.fault(status=500, times=1000)
    with pytest.raises(OSError, match="couldn't connect"):
        AutoModelForImageClassification.from_pretrained("user/vit")
    assert check_cache(tmp_path / "home") == 0
    fault.times = 0
    check_pull(pushed, tmp_path / "home")
    fault.times = 10_000
    AutoModelForImageClassification.from_pretrained("user/vit")  # from the cache


def test_corrupt_upload_is_refused(hub):
    """The loopback Hub checks the sha256 of large files, as the real storage does."""
    api = HfApi(token=hub.token)
    api.create_repo("user/vit")
    with pytest.raises(Exception, match="BadDigest"):
        hub.repository("user/vit").put_object("0" * 64, b"other")
    assert not hub.repository("user/vit").objects


def test_fault_needs_one_way_to_fail(hub):
    for wrong in ({}, {"status": 500, "cut_after": 3}, {"status": 500, "lose_answer": True}, {"hang": 1, "status": 1}):
        with pytest.raises(ValueError, match="exactly one"):
            hub.fault(**wrong)
