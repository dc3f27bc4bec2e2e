"""Streams: the same samples on any number of processes and workers and after a resume, and faults of shards."""

import io
import itertools
import tarfile
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace

import datasets
import numpy as np
import pytest
from PIL import Image
from torch.utils.data import DataLoader, Dataset

from hf_vits.data import audio, tars, videos
from hf_vits.data.images import SOURCES
from hf_vits.data.splits import load_classes
from hf_vits.data.streams import Stream
from hf_vits.data.tars import RemoteFile, expanded, tar_samples
from hf_vits.recipe import DataRecipe
from hf_vits.training.examples.batches import StreamBatches
from hf_vits.training.examples.images import TrainingImages
from hf_vits.training.examples.readable import ReadableSamples


class Numbers:
    """Shards of different sizes whose samples are numbers; it records which shards were opened."""

    def __init__(self, sizes):
        self.firsts = np.cumsum([0, *sizes])
        self.opened = set()

    def __len__(self):
        return len(self.firsts) - 1

    def samples(self, number):
        self.opened.add(number)
        return iter(range(self.firsts[number], self.firsts[number + 1]))


class Places(Dataset):
    """The sample at each place of a stream."""

    def __init__(self, stream):
        self.stream = stream

    def __getitem__(self, key):
        return self.stream[key.index], key.seed


def batches_of(shards, steps, workers=0, first=0, seed=3, buffer=6, batch=12, **division):
    """The batches of a run, part by part, from the step `first` on."""
    stream = Stream(shards, buffer)
    batches = StreamBatches(stream, steps, batch, seed, **division)
    batches.skip(first)
    return list(DataLoader(Places(stream), batch_sampler=batches, num_workers=workers, collate_fn=list))[first:]


@pytest.mark.parametrize("sizes", [(9, 9, 9, 9, 9), (4, 17, 1, 8, 30, 5), (40,)])
def test_samples_depend_on_seed_and_place_alone(sizes):
    whole = batches_of(Numbers(sizes), 8)
    assert batches_of(Numbers(sizes), 8, first=5) == whole[5:]
    assert batches_of(Numbers(sizes), 8, seed=4) != whole
    for processes in (2, 3):
        parts = [batches_of(Numbers(sizes), 8, processes=processes, process=rank) for rank in range(processes)]
        assert [list(itertools.chain(*step)) for step in zip(*parts, strict=True)] == whole
    halves = batches_of(Numbers(sizes), 8, accumulation=2)
    assert [first + second for first, second in zip(halves[::2], halves[1::2], strict=True)] == whole


def test_a_lane_without_samples_is_an_error():
    with pytest.raises(ValueError, match="no samples in 1 of 2 shards"):
        batches_of(Numbers((4, 0)), 1)


def test_any_number_of_workers_gives_the_same_samples():
    shards = Numbers((5, 6, 7, 8, 9))
    whole = batches_of(shards, 6)
    assert batches_of(shards, 6, workers=2) == whole
    assert batches_of(shards, 6, workers=3, first=2) == whole[2:]


@pytest.mark.parametrize("buffer", [1, 10, 1000])
@pytest.mark.parametrize("shards", [1, 4, 7])
def test_every_sample_comes_once_before_a_lane_begins_anew(shards, buffer):
    numbers = Numbers([13] * shards)
    stream = Stream(numbers, buffer)
    stream.plan(8, 0)
    found = []
    for lane in range(stream.lanes):
        passed = [len(stream.shards_of(lane, number)) * 13 for number in range(2)]
        once, again = (list(part) for part in split(stream.samples(lane), passed))
        assert len(set(once)) == len(once)
        assert buffer == 1 or (once != sorted(once) and once != again)
        found.append((once, again))
    for number in range(2):
        assert sorted(itertools.chain(*(passes[number] for passes in found))) == list(range(13 * shards))


def split(samples, sizes):
    return [list(itertools.islice(samples, size)) for size in sizes]


@pytest.mark.parametrize(("shards", "batch"), [(3, 8), (5, 6), (7, 7), (40, 12)])
def test_all_samples_of_equal_shards_are_used_equally_often(shards, batch):
    stream, passes = Stream(Numbers([6] * shards), 4), 24
    stream.plan(batch, 1)
    used = np.bincount([stream[index] for index in range(passes * 6 * shards)], minlength=6 * shards)
    assert used.min() >= passes - 3
    assert used.max() <= passes + 3


def test_an_odd_number_of_shards_is_divided_among_processes():
    opened = []
    for rank in range(2):
        shards = Numbers([30] * 5)
        batches_of(shards, 30, processes=2, process=rank)
        opened.append(shards.opened)
    assert opened[0] | opened[1] == set(range(5))
    assert len(opened[0] & opened[1]) == 1  # the one left over, which goes to another lane in each pass


def test_workers_divide_many_shards():
    opened = []
    for worker in range(2):
        shards = Numbers([10] * 64)
        stream = Stream(shards, 1)
        stream.plan(16, 0)
        for step in range(worker, 40, 2):
            [stream[step * 16 + slot] for slot in range(16)]
        opened.append(shards.opened)
    assert not opened[0] & opened[1]
    assert len(opened[0] | opened[1]) == 64


# tar archives


def picture(level):
    file = io.BytesIO()
    Image.fromarray(np.full((8, 8), level, np.uint8)).save(file, "PNG")
    return file.getvalue()


def write_tar(path, levels, label=lambda level: str(level % 3)):
    """An archive with an image of each level and its class."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as archive:
        for level in levels:
            for ending, content in (("png", picture(level)), ("cls", label(level).encode())):
                member = tarfile.TarInfo(f"{level:05}.{ending}")
                member.size = len(content)
                archive.addfile(member, io.BytesIO(content))
    return path


@pytest.fixture
def archives(tmp_path):
    for number in range(3):
        write_tar(tmp_path / f"train-{number:03}.tar", range(10 * number, 10 * number + 10))
    write_tar(tmp_path / "val-000.tar", range(60, 66))
    (tmp_path / "classes.txt").write_text("cat\ndog\neel\n")
    return tmp_path


def load(path, **settings):
    return load_classes(DataRecipe(source="webdataset", path=str(path), shuffle_buffer=4, **settings), SOURCES)


def levels_of(split, count):
    return [split.inputs[index].getpixel((0, 0)) for index in range(count)]


def test_archives_are_a_stream_to_train_on_and_a_list_to_test_on(archives):
    splits = load(archives)
    assert splits.class_names == ["cat", "dog", "eel"]
    assert levels_of(splits.validation, 6) == list(range(60, 66))
    assert splits.validation.labels.tolist() == [0, 1, 2, 0, 1, 2]
    found = levels_of(splits.train, 30)
    assert sorted(found[::2]) != found[::2]
    labels = [int(splits.train.labels[index]) for index in range(30)]
    assert labels == [level % 3 for level in found]
    assert splits.has_one_class
    with pytest.raises(TypeError, match=r"data\.epoch_inputs"):
        len(splits.train)
    assert len(load(archives, epoch_inputs=30).train) == 30
    named = load(archives, splits={"train": "train-{000..002}.tar", "test": "val-*.tar"})
    assert levels_of(named.train, 30) == found


def test_wrong_archives_are_named(archives):
    with pytest.raises(FileNotFoundError, match=r"data\.splits\.train: no archive matches no-\*\.tar"):
        load(archives, splits={"train": "no-*.tar"})
    with pytest.raises(ValueError, match="no validation or test split"):
        load(archives, splits={"train": "train-*.tar"})
    with pytest.raises(ValueError, match=r"val-000\.tar: 00060 has no label: neither .*\.name nor .*only png, cls"):
        load(archives, columns={"label": "name"})
    write_tar(archives / "val-000.tar", [1], lambda level: "bird")
    with pytest.raises(ValueError, match=r"val-000\.tar: 00001 has the class 'bird'.* 3: cat, dog, eel"):
        load(archives)
    (archives / "classes.txt").unlink()
    with pytest.raises(ValueError, match=r"no .*classes\.txt .*data\.num_classes"):
        load(archives)


@pytest.mark.parametrize("cut", [600, 3000, 1024 * 9, 1024 * 9 + 100])
def test_a_damaged_archive_is_named(archives, cut, caplog):
    path = archives / "train-001.tar"
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(OSError, match=r"the shard .*train-001\.tar is damaged") as error:
        levels_of(load(archives).train, 60)
    assert "data.skip_unreadable" in error.value.__notes__[0]
    found = levels_of(load(archives, skip_unreadable=True).train, 60)
    assert {level for level in found if not 10 <= level < 20} == {*range(10), *range(20, 30)}
    assert "train-001.tar is damaged" in caplog.text


def test_bytes_in_the_middle_that_are_no_header(archives):
    path = archives / "train-001.tar"
    content = bytearray(path.read_bytes())
    content[2048:2560] = b"x" * 512
    path.write_bytes(content)
    with pytest.raises(OSError, match=r"train-001\.tar is damaged"):
        list(tar_samples(str(path)))


def test_a_damaged_image_is_replaced_by_its_neighbour_in_the_batch(archives, tmp_path):
    splits = load(archives)
    batches = StreamBatches(splits.train.labels.stream, 10, 6, 0)
    expected = np.reshape(levels_of(splits.train, 60), (10, 6))
    assert 14 in expected
    expected = np.where(expected == 14, np.roll(expected, -1, axis=1), expected)
    path = archives / "train-001.tar"
    path.write_bytes(path.read_bytes().replace(picture(14), b"x" * len(picture(14))))
    recipe = SimpleNamespace(
        data=SimpleNamespace(skip_unreadable=True), output=SimpleNamespace(directory=tmp_path / "none")
    )
    dataset = ReadableSamples(TrainingImages(splits.train, np.asarray, "L"), recipe)
    found = [[int(sample["pixel_values"][0, 0]) for sample in dataset.__getitems__(keys)] for keys in batches]
    assert found == expected.tolist()
    recipe.data.skip_unreadable = False
    with pytest.raises(OSError, match=r"train-001\.tar: 00014 cannot be read"):
        [ReadableSamples(dataset.dataset, recipe).__getitems__(keys) for keys in batches]


# archives over HTTP


class Files(BaseHTTPRequestHandler):
    """Serves a folder, with ranges or without, and cuts some connections in the middle of a file."""

    def do_HEAD(self):
        self.do_GET(body=False)

    def do_GET(self, body=True):
        path = self.server.folder / self.path.strip("/")
        if not path.is_file():
            self.send_error(404)
            return
        content, span = path.read_bytes(), self.headers.get("Range")
        start, end = 0, len(content)
        if span and self.server.ranges:
            first, _, last = span.removeprefix("bytes=").partition("-")
            start, end = int(first), min(int(last) + 1 if last else len(content), len(content))
        self.send_response(206 if (start, end) != (0, len(content)) else 200)
        if self.server.ranges:
            self.send_header("Accept-Ranges", "bytes")
            self.send_header("Content-Range", f"bytes {start}-{end - 1}/{len(content)}")
        self.send_header("Content-Length", str(end - start))
        self.end_headers()
        if not body:
            return
        is_cut = self.server.cuts > 0 and path.suffix == ".tar" and end - start > 512
        self.server.cuts -= is_cut
        self.wfile.write(content[start : start + (end - start) // 2] if is_cut else content[start:end])

    def log_message(self, *args):
        pass


@pytest.fixture
def server(archives):
    with ThreadingHTTPServer(("127.0.0.1", 0), Files) as server:
        server.folder, server.ranges, server.cuts = archives, True, 0
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


PATTERNS = {"train": "train-{000..002}.tar", "validation": "val-000.tar"}


@pytest.mark.parametrize("ranges", [True, False])
def test_archives_over_http_with_cut_connections_give_the_same_samples(archives, server, ranges, monkeypatch):
    monkeypatch.setattr(tars.time, "sleep", lambda seconds: None)
    server.ranges = ranges
    address = f"http://127.0.0.1:{server.server_port}"
    expected = load(archives, splits=PATTERNS)
    server.cuts = 2
    splits = load(address, splits=PATTERNS)
    assert levels_of(splits.validation, 6) == list(range(60, 66))
    assert server.cuts == 0
    server.cuts = 3
    assert levels_of(splits.train, 60) == levels_of(expected.train, 60)
    assert server.cuts == 0
    server.cuts = 1000
    with pytest.raises(OSError, match=r"http://.*train-000\.tar cannot be read from byte [\d,]+ on"):
        list(tar_samples(f"{address}/train-000.tar"))
    with pytest.raises(FileNotFoundError):
        list(tar_samples(f"{address}/train-009.tar"))


def test_a_remote_file_is_read_forward_and_back_by_little(archives, server):
    content = (archives / "train-000.tar").read_bytes()
    with RemoteFile(f"http://127.0.0.1:{server.server_port}/train-000.tar") as file:
        assert file.read(1000) == content[:1000]
        file.seek(700)
        assert file.read(600) == content[700:1300]
        file.seek(5000)
        assert file.read(10) == content[5000:5010]
        assert file.tell() == 5010
        with pytest.raises(OSError, match="read forward"):
            file.seek(0)


def test_ranges_in_names():
    assert expanded("a-{08..11}.tar") == ["a-08.tar", "a-09.tar", "a-10.tar", "a-11.tar"]
    assert expanded("s3://b/{0..1}/{0..1}.tar") == [f"s3://b/{x}/{y}.tar" for x in "01" for y in "01"]


# datasets


@pytest.fixture
def parquet(tmp_path):
    features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=["a", "b", "c"])})
    for name, firsts in (("train", (0, 10, 20)), ("validation", (60,))):
        for first in firsts:
            rows = {
                "image": [{"bytes": picture(level), "path": None} for level in range(first, first + 10)],
                "label": [level % 3 for level in range(first, first + 10)],
            }
            dataset = datasets.Dataset.from_dict(rows, features=features)
            dataset.to_parquet(tmp_path / "data" / f"{name}-{first:02}.parquet")
    return tmp_path / "data"


def test_datasets_stream_every_row_once_and_resume_exactly(parquet):
    recipe = DataRecipe(source="datasets", path=str(parquet), streaming=True, shuffle_buffer=8)
    splits = load_classes(recipe, SOURCES)
    assert splits.class_names == ["a", "b", "c"]
    assert len(splits.validation) == 10
    assert splits.validation.inputs[3].getpixel((0, 0)) == 63
    stream = splits.train.labels.stream
    found = levels_of(splits.train, 20)
    again = load_classes(recipe, SOURCES).train
    assert [again.inputs[index].getpixel((0, 0)) for index in range(13, 20)] == found[13:]
    passed = [split(stream.samples(lane), [10 * len(stream.shards_of(lane, 0))])[0] for lane in range(stream.lanes)]
    assert sorted((shard, row) for samples in passed for shard, row, _ in samples) == [
        (shard, row) for shard in range(3) for row in range(10)
    ]
    assert [int(again.labels[index]) for index in range(13, 20)] == [level % 3 for level in found[13:]]


@pytest.mark.parametrize(("sources", "kind"), [(videos.SOURCES, "video"), (audio.CLASS_SOURCES, "audio")])
def test_videos_and_recordings_of_datasets_stream_undecoded(tmp_path, sources, kind):
    media = datasets.Video(decode=False) if kind == "video" else datasets.Audio(decode=False)
    for name in ("train", "test"):
        rows = {kind: [{"bytes": bytes([row]), "path": None} for row in range(6)], "label": ["up", "down"] * 3}
        dataset = datasets.Dataset.from_dict(rows).cast_column(kind, media)
        dataset.to_parquet(tmp_path / "d" / f"{name}.parquet")
    splits = load_classes(DataRecipe(source="datasets", path=str(tmp_path / "d"), streaming=True), sources)
    assert splits.class_names == ["down", "up"]
    assert splits.test.labels.tolist() == [1, 0] * 3
    found = [splits.train.inputs[index] for index in range(6)]
    contents = [one if kind == "video" else one["bytes"] for one in found]
    assert sorted(contents) == [bytes([row]) for row in range(6)]
    assert [int(splits.train.labels[index]) for index in range(6)] == [1 - one[0] % 2 for one in contents]
    held_out = splits.test.inputs[3]
    assert (held_out if kind == "video" else held_out["bytes"]) == bytes([3])


def test_a_damaged_shard_of_a_dataset_is_an_error(parquet):
    splits = load_classes(DataRecipe(source="datasets", path=str(parquet), streaming=True), SOURCES)
    (parquet / "train-10.parquet").write_bytes(b"PAR1 no more")
    with pytest.raises(OSError, match=r"shard 1 of 3.* cannot be read"):
        levels_of(splits.train, 30)


def test_settings_of_streams_are_for_streams(parquet):
    with pytest.raises(ValueError, match=r"data\.shuffle_buffer is for streams"):
        load_classes(DataRecipe(source="datasets", path=str(parquet), shuffle_buffer=9), SOURCES)
