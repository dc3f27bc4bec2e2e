"""The bundled code of a model, loaded by transformers without hf_vits installed."""

import gc
import json
import os
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoImageProcessor, AutoModelForImageClassification
from transformers.dynamic_module_utils import get_imports, get_relative_import_files, get_relative_imports

from hf_vits.auto import ARCHITECTURES
from hf_vits.hub import bundle, push_to_hub, save_for_hub, write_bundle
from hf_vits.testing.hub import LoopbackHub

from ..support.hub import (
    TINY,
    image,
    model_class,
    run_without_hf_vits,
    tiny_model,
    tiny_processor,
)

LOAD_EVERYTHING = """
import torch
from PIL import Image
from safetensors.torch import save_file
from transformers import AutoBackbone, AutoConfig, AutoImageProcessor, AutoModel, AutoModelForImageClassification

try:
    AutoModel.from_pretrained("user/vit", trust_remote_code=False)
except ValueError as error:
    print(error)
assert not any(name.startswith("transformers_modules") for name in sys.modules)

results = {}
for name, model_type in TYPES.items():
    repo = f"user/{name}"
    processor = AutoImageProcessor.from_pretrained(repo, trust_remote_code=True)
    pixels = processor(Image.open("image.png"), return_tensors="pt").pixel_values
    model = AutoModelForImageClassification.from_pretrained(repo, trust_remote_code=True)
    with torch.no_grad():
        results[f"{name}.pixels"] = pixels
        results[f"{name}.logits"] = model(pixels).logits
        results[f"{name}.pooled"] = AutoModel.from_pretrained(repo, trust_remote_code=True)(pixels).pooler_output
        if name in BACKBONES:
            maps = AutoBackbone.from_pretrained(repo, trust_remote_code=True)(pixels).feature_maps
            results[f"{name}.map"] = maps[-1].contiguous()
        results |= {f"{name}:{key}": value for key, value in model.state_dict().items()}
    assert type(model.config).__module__.startswith("transformers_modules.")
    assert AutoConfig.from_pretrained(repo, trust_remote_code=True).model_type == model_type
assert "hf_vits" not in sys.modules
save_file(results, "results.safetensors")
"""

FINE_TUNE_AND_PUSH = """
import torch
from transformers import AutoImageProcessor, AutoModelForImageClassification

model = AutoModelForImageClassification.from_pretrained("user/deit", trust_remote_code=True)
processor = AutoImageProcessor.from_pretrained("user/deit", trust_remote_code=True)
model(torch.ones(2, 3, 32, 32), labels=torch.tensor([0, 1])).loss.backward()
torch.optim.SGD(model.parameters(), lr=0.1).step()
model.push_to_hub("user/tuned")
processor.push_to_hub("user/tuned")

sys.meta_path.pop(0)  # from here on hf_vits is installed, but the model is of the repository's classes
from hf_vits.hub import push_to_hub

assert type(model).__module__.startswith("transformers_modules.")
push_to_hub(model, "user/tuned-whole", processor)
push_to_hub(model, "user/tuned-bare", processor, bundle=False)
print(model.classifier.bias.tolist())
"""

LOAD_AGAIN = """
from transformers import AutoImageProcessor, AutoModelForImageClassification

AutoImageProcessor.from_pretrained("user/again", trust_remote_code=True)
model = AutoModelForImageClassification.from_pretrained("user/again", trust_remote_code=True)
print(model.classifier.bias.tolist())
"""


@pytest.fixture
def hub(tmp_path):
    with LoopbackHub() as hub, hub.in_process(tmp_path / "home"):
        yield hub


def code_of(hub: LoopbackHub, repo_id: str) -> dict[str, bytes]:
    stored = hub.repository(repo_id).head.files
    return {name: file.content for name, file in stored.items() if name.endswith(".py")}


def test_loads_where_hf_vits_cannot_be_imported(hub, tmp_path):
    models = {name: tiny_model(name) for name in TINY}
    processor = tiny_processor()
    for name, model in models.items():
        push_to_hub(model, f"user/{name}", processor, token=hub.token)
    image().save(tmp_path / "image.png")
    backbones = [
        name for name in models if any(r.folder == name and "AutoBackbone" in r.models for r in ARCHITECTURES)
    ]
    types = {name: model.config.model_type for name, model in models.items()}
    printed = run_without_hf_vits(f"TYPES, BACKBONES = {types}, {backbones}\n{LOAD_EVERYTHING}", hub, tmp_path)
    assert "pass the argument `trust_remote_code=True`" in printed
    results = load_file(tmp_path / "results.safetensors")
    pixels = processor(image(), return_tensors="pt").pixel_values
    for name, model in models.items():
        weights = {key.split(":")[1]: value for key, value in results.items() if key.startswith(f"{name}:")}
        assert weights.keys() == model.state_dict().keys()
        assert all(torch.equal(weights[key], value) for key, value in model.state_dict().items())
        assert torch.equal(results[f"{name}.pixels"], pixels), name
        with torch.no_grad():
            torch.testing.assert_close(results[f"{name}.logits"], model(pixels).logits)
            torch.testing.assert_close(results[f"{name}.pooled"], model.model(pixels).pooler_output)
            if name in backbones:
                backbone = model_class(name, "AutoBackbone")(model.config).eval()
                backbone.load_state_dict(model.state_dict(), strict=False)
                torch.testing.assert_close(results[f"{name}.map"], backbone(pixels).feature_maps[-1])


def test_fine_tuned_model_pushes_whole_again(hub, tmp_path):
    """A model is pulled, tuned and pushed without hf_vits, then with it: the code stays complete."""
    push_to_hub(tiny_model("deit"), "user/deit", tiny_processor(), token=hub.token)
    code = code_of(hub, "user/deit")
    bias = json.loads(run_without_hf_vits(FINE_TUNE_AND_PUSH, hub, tmp_path, hub.token).splitlines()[-1])
    tuned, whole, bare = (hub.repository(f"user/{name}").head.files for name in ("tuned", "tuned-whole", "tuned-bare"))
    assert code_of(hub, "user/tuned") == code
    assert code_of(hub, "user/tuned-whole") == code
    assert not code_of(hub, "user/tuned-bare")
    for name in ("config.json", "preprocessor_config.json"):
        original = json.loads(hub.repository("user/deit").head.files[name].content)
        assert json.loads(tuned[name].content)["auto_map"] == original["auto_map"]
        assert json.loads(whole[name].content)["auto_map"] == original["auto_map"]
        assert "auto_map" not in json.loads(bare[name].content)

    model = AutoModelForImageClassification.from_pretrained("user/tuned")
    processor = AutoImageProcessor.from_pretrained("user/tuned")
    assert type(model) is model_class("deit", "AutoModelForImageClassification")
    assert model.classifier.bias.tolist() == bias
    with torch.no_grad():
        model.classifier.bias += 1
    push_to_hub(model, "user/again", processor, token=hub.token)
    assert code_of(hub, "user/again") == code
    assert json.loads(run_without_hf_vits(LOAD_AGAIN, hub, tmp_path)) == model.classifier.bias.tolist()


def test_modules_named_by_an_auto_map_name_all_that_they_need(tmp_path):
    save_for_hub(tiny_model("levit"), tmp_path / "model", tiny_processor())
    for name in ("config.json", "preprocessor_config.json"):
        for reference in json.loads((tmp_path / "model" / name).read_text())["auto_map"].values():
            path = tmp_path / "model" / f"{reference.split('.')[0]}.py"
            needed = {os.path.basename(file) for file in get_relative_import_files(path)}
            assert {f"{named}.py" for named in get_relative_imports(path)} == needed


def test_bundle_can_be_left_out(tmp_path):
    save_for_hub(tiny_model("vit"), tmp_path / "bare", tiny_processor(), bundle=False)
    assert not list((tmp_path / "bare").glob("*.py"))
    for name in ("config.json", "preprocessor_config.json"):
        assert "auto_map" not in json.loads((tmp_path / "bare" / name).read_text())
    assert "trust_remote_code" not in (tmp_path / "bare" / "README.md").read_text()


@pytest.mark.parametrize("name", TINY)
def test_files_are_self_contained_and_anonymous(name, tmp_path):
    model = tiny_model(name)
    save_for_hub(model, tmp_path / "model", tiny_processor())
    modules = sorted((tmp_path / "model").glob("*.py"))
    assert f"{type(model).__module__.rpartition('.')[2]}.py" in {path.name for path in modules}
    for path in modules:
        text = path.read_text()
        assert text.startswith("# Part of hf_vits 0.")
        assert str(bundle.ROOT) not in text
        assert "hf_vits" not in get_imports(path)
        assert {f"{needed}.py" for needed in get_relative_imports(path)} <= {module.name for module in modules}


def test_threads_may_bundle_at_once(monkeypatch):
    """A collection of garbage that lets other threads run disturbs no parsing."""
    modules, threshold = ["hf_vits.layers.patch"], gc.get_threshold()
    expected = bundle.collect(modules)
    try:
        gc.callbacks.append(yield_to_other_threads)
        gc.set_threshold(50)
        with ThreadPoolExecutor(8) as pool:
            collected = list(pool.map(bundle.collect, [modules] * 16))
    finally:
        gc.set_threshold(*threshold)
        gc.callbacks.remove(yield_to_other_threads)
    assert collected == [expected] * 16


def yield_to_other_threads(*_: object) -> None:
    time.sleep(0)


def test_own_subclass_cannot_be_bundled(tmp_path):
    class Mine(model_class("vit", "AutoModel")):
        pass

    with pytest.raises(ValueError, match=r"Mine is defined in tests\.hub\.test_bundle.*bundle=False"):
        save_for_hub(Mine(tiny_model("vit").config), tmp_path / "mine")
    assert not list(tmp_path.iterdir())
    save_for_hub(Mine(tiny_model("vit").config), tmp_path / "mine", bundle=False)


def test_other_processor_cannot_be_bundled(tmp_path):
    class Mine(type(tiny_processor())):
        pass

    with pytest.raises(ValueError, match="Mine is defined in"):
        save_for_hub(tiny_model("vit"), tmp_path / "mine", Mine())


def package(tmp_path, monkeypatch, **modules: str) -> None:
    """Replace the source folder of the package; `layers__mlp="..."` is layers/mlp.py."""
    for name, text in modules.items():
        path = tmp_path.joinpath(*name.split("__")).with_suffix(".py")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    monkeypatch.setattr(bundle, "ROOT", tmp_path)


def body(text: str) -> str:
    return text.split("\n", 1)[1]


def test_all_ways_to_import(tmp_path, monkeypatch):
    source = '''"""Imports of every kind."""

import math
from hf_vits.layers.mlp import MLP as Perceptron
from ...layers.attention import (
    Attention,  # a comment
    attend,
)
from ...layers import Pooling as Pool, attend as att
from ..other.modeling_other import Other; from torch import nn
from .configuration_x import XConfig


def late():
    from ...layers import Pooling, attend

    return Pooling, attend
'''
    package(
        tmp_path,
        monkeypatch,
        models__x__modeling_x=source,
        models__x__configuration_x="",
        models__other__modeling_other="from ...base import Base\n",
        base="",
        layers__init="",
        layers__mlp="from .attention import attend\n",
        layers__attention="",
        layers__pooling="",
        unused="",
    )
    (tmp_path / "layers" / "init.py").unlink()
    (tmp_path / "layers" / "__init__.py").write_text(
        "from .attention import attend\nfrom .pooling import SequencePooling as Pooling\n"
    )
    files = bundle.collect(["hf_vits.models.x.modeling_x"])
    assert sorted(files) == [
        "base.py",
        "configuration_x.py",
        "layers_attention.py",
        "layers_mlp.py",
        "layers_pooling.py",
        "modeling_other.py",
        "modeling_x.py",
    ]
    assert (
        body(files["modeling_x.py"])
        == '''"""Imports of every kind."""

import math
from .layers_mlp import MLP as Perceptron
from .layers_attention import (
    Attention,  # a comment
    attend,
)
from .layers_pooling import SequencePooling as Pool
from .layers_attention import attend as att
from .modeling_other import Other; from torch import nn
from .configuration_x import XConfig


def late():
    from .layers_pooling import SequencePooling as Pooling
    from .layers_attention import attend

    return Pooling, attend
'''
    )
    assert body(files["layers_mlp.py"]) == "from .layers_attention import attend\n"


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("import hf_vits.layers.mlp\n", "line 1: write `from hf_vits"),
        ("from .layers import mlp\n", "hf_vits.layers defines no mlp"),
        ("from .layers import *\n", "hf_vits.layers defines no \\*"),
    ],
)
def test_imports_that_cannot_be_flattened(tmp_path, monkeypatch, source, message):
    package(tmp_path, monkeypatch, thing=source, layers__mlp="")
    (tmp_path / "layers" / "__init__.py").touch()
    with pytest.raises(ValueError, match=message):
        bundle.collect(["hf_vits.thing"])


def test_names_that_would_clash(tmp_path, monkeypatch):
    package(tmp_path, monkeypatch, models__x__layers_mlp="from ...layers.mlp import MLP\n", layers__mlp="")
    with pytest.raises(ValueError, match=r"would both become layers_mlp\.py"):
        bundle.collect(["hf_vits.models.x.layers_mlp"])


def test_text_that_reads_like_an_import(tmp_path, monkeypatch):
    """transformers searches imports line by line, also in strings, and would request a file of that name."""
    model = tiny_model("vit")
    model.save_pretrained(tmp_path / "model")
    text = '"""Example:\n\nfrom .nowhere import something\n"""\n'
    monkeypatch.setattr(bundle, "_sources", lambda owner, references: {"modeling_vit.py": text})
    with pytest.raises(ValueError, match="still names nowhere"):
        write_bundle(model, tmp_path / "model")


def test_a_pulled_model_saved_by_transformers_itself_leads_to_no_missing_code(tmp_path):
    model, processor = tiny_model("vit"), tiny_processor()
    save_for_hub(model, tmp_path / "bundled", processor)
    AutoModelForImageClassification.from_pretrained(tmp_path / "bundled").save_pretrained(tmp_path / "again")
    AutoImageProcessor.from_pretrained(tmp_path / "bundled").save_pretrained(tmp_path / "again")
    for name in ("config.json", "preprocessor_config.json"):
        assert "auto_map" in json.loads((tmp_path / "bundled" / name).read_text())
        assert "auto_map" not in json.loads((tmp_path / "again" / name).read_text())
