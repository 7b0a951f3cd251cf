"""The cache: fast, shared by processes, and whole after anything that kills them."""

from __future__ import annotations

import os
import pickle
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from core.data.cache import decoder_pool, disk_space, image_cache, shards
from core.data.cache.image_cache import ImageCache, cache_side
from core.data.datasets.registry import open_dataset
from core.errors import ConfigurationError, DataError
from tests.support.paths import ROOT
from tests.support.programs import output_of, run_python

BUILD = """
import pickle, sys, time
from pathlib import Path
from core.data.cache import image_cache
from core.data.cache.image_cache import ImageCache
dataset = pickle.loads(Path(sys.argv[1]).read_bytes())
image_cache.ALONE_SECONDS = image_cache.WORTH_SECONDS = float(sys.argv[3])
ids = list(dataset.table.index)
cache = ImageCache(Path(sys.argv[2]), dataset, 32)
print(len(cache.missing(ids)), flush=True)
cache.ensure(ids, lambda done, total: print(done, flush=True))
"""


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Some hundred PNG files that take a while to decode."""
    from tests.support.layouts import body_image, save

    root = tmp_path_factory.mktemp("many")
    for number in range(240):
        kind = "Mass" if number % 2 else "normal"
        save(root / kind / f"{number:04d}.png", body_image(number, 300, 360))
    return open_dataset("folder", root)


@pytest.fixture
def ids(dataset: Any) -> list[str]:
    return list(dataset.table.index)


@pytest.fixture
def task(dataset: Any, tmp_path: Path) -> Path:
    """The data set in a file, for another process."""
    file = tmp_path / "task"
    file.write_bytes(pickle.dumps(dataset))
    return file


@pytest.fixture
def alone(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> float:
    """Seconds of decoding after which other processes help; by default they help at once."""
    seconds: float = getattr(request, "param", 0.0)
    monkeypatch.setattr(image_cache, "ALONE_SECONDS", seconds)
    monkeypatch.setattr(image_cache, "WORTH_SECONDS", seconds)
    return seconds


def check_copies(cache: ImageCache, dataset: Any, ids: Iterable[str], side: int = 32) -> None:
    for one in ids:
        assert np.array_equal(cache.get(one), dataset.read(one, side))


def test_cache_sides() -> None:
    assert [cache_side(one) for one in (128, 224, 320, 512)] == [144, 256, 368, 592]


def test_progress_counts_up_and_copies_are_right(
    dataset: Any, ids: list[str], tmp_path: Path
) -> None:
    calls: list[tuple[int, int]] = []
    cache = ImageCache(tmp_path, dataset, 32)
    assert cache.ensure(ids[:60], lambda done, total: calls.append((done, total)))
    assert calls[0] == (0, 60)
    assert calls[-1] == (60, 60)
    assert calls == sorted(calls)
    check_copies(cache, dataset, ids[:60:7])
    assert not any(cache.get(one).flags.writeable for one in ids[:60:7])


@pytest.mark.parametrize(("count", "workers"), [(1, 1), (33, 1), (700, 2), (700, 16), (2_000, 3)])
def test_shares_hold_all_in_order_and_shrink(count: int, workers: int) -> None:
    ids = [str(number) for number in range(count)]
    parts = decoder_pool.batches(ids, workers)
    assert [one for part in parts for one in part] == ids
    sizes = [len(part) for part in parts]
    assert sizes == sorted(sizes, reverse=True)
    assert max(sizes) <= decoder_pool.LARGEST_BATCH
    assert sizes[-1] <= decoder_pool.SMALLEST_BATCH
    assert len(parts) <= count / decoder_pool.LARGEST_BATCH + 8 * workers


def test_only_what_is_missing_is_made(dataset: Any, ids: list[str], tmp_path: Path) -> None:
    ImageCache(tmp_path, dataset, 32).ensure(ids[:50])
    calls: list[tuple[int, int]] = []
    again = ImageCache(tmp_path, dataset, 32)
    assert again.missing(ids[:80]) == ids[50:80]
    again.ensure(ids[:80], lambda done, total: calls.append((done, total)))
    assert calls[0] == (50, 80)
    assert again.missing(ids[:80]) == []


def test_get_makes_a_single_copy(dataset: Any, ids: list[str], tmp_path: Path) -> None:
    cache = ImageCache(tmp_path, dataset, 32)
    assert np.array_equal(cache.get(ids[5]), dataset.read(ids[5], 32))
    assert cache.missing(ids[:6]) == ids[:5]


def test_a_cached_image_is_not_read_again(
    dataset: Any, ids: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = ImageCache(tmp_path, dataset, 32)
    cache.ensure(ids)
    monkeypatch.setattr(type(dataset), "read", None)
    assert all(min(cache.get(study).shape) == 32 for study in ids)


def test_sizes_do_not_mix(dataset: Any, ids: list[str], tmp_path: Path) -> None:
    small, large = ImageCache(tmp_path, dataset, 32), ImageCache(tmp_path, dataset, 48)
    assert min(small.get(ids[0]).shape) == 32
    assert min(large.get(ids[0]).shape) == 48


def test_a_changed_source_and_a_new_reader_are_read_again(
    fresh: Callable[[str], Any], tmp_path: Path
) -> None:
    from tests.support.layouts import body_image, save

    layout = fresh("folder-table")
    dataset = open_dataset(layout.name, layout.root)
    ids = list(dataset.table.index)
    ImageCache(tmp_path, dataset, 20).ensure(ids)
    save(layout.files[ids[3]], 255 - body_image(3))
    changed = ImageCache(tmp_path, dataset, 20)
    assert changed.missing(ids) == [ids[3]]
    changed.ensure(ids)
    assert np.array_equal(changed.get(ids[3]), dataset.read(ids[3], 20))
    dataset.reader_version += 1
    assert ImageCache(tmp_path, dataset, 20).missing(ids) == ids


@pytest.mark.usefixtures("alone")
def test_processes_help_and_give_the_same(dataset: Any, ids: list[str], tmp_path: Path) -> None:
    cache = ImageCache(tmp_path, dataset, 32)
    assert cache.ensure(ids)
    writers = {place.shard.split("-")[0] for place in cache._locations.values()}
    assert len(writers) > 1
    assert str(os.getpid()) in writers
    check_copies(cache, dataset, ids[::17])
    assert ImageCache(tmp_path, dataset, 32).missing(ids) == []


@pytest.mark.usefixtures("alone")
def test_a_set_that_cannot_be_sent_is_decoded_here(
    dataset: Any, ids: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dataset, "unsendable", lambda: None, raising=False)
    cache = ImageCache(tmp_path, dataset, 32)
    assert cache.ensure(ids[:40])
    assert cache.missing(ids[:40]) == []


@pytest.mark.slow
@pytest.mark.parametrize("alone", [60.0, 0.0], indirect=True)
@pytest.mark.usefixtures("alone")
def test_stopping_keeps_what_is_made(dataset: Any, ids: list[str], tmp_path: Path) -> None:
    cache = ImageCache(tmp_path, dataset, 32)
    done: list[int] = []
    finished = cache.ensure(ids, lambda n, total: done.append(n), lambda: done[-1] > 0)
    assert not finished
    assert len(cache.missing(ids)) == len(ids) - done[-1]
    assert cache.ensure(ids)


def _build(task: Path, folder: Path, alone: float) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", BUILD, str(task), str(folder), str(alone)],
        cwd=ROOT, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("alone", [60.0, 0.0], indirect=True)
def test_a_killed_builder_loses_nothing_it_named(
    alone: float, task: Path, dataset: Any, ids: list[str], tmp_path: Path
) -> None:
    builder = _build(task, tmp_path / "cache", alone)
    assert builder.stdout is not None
    for line in builder.stdout:
        if 40 < int(line) < len(ids):
            break
    builder.send_signal(signal.SIGKILL)
    builder.communicate()
    cache = ImageCache(tmp_path / "cache", dataset, 32)
    left = cache.missing(ids)
    assert len(left) < len(ids) - 40 + 1
    check_copies(cache, dataset, set(ids) - set(left))
    assert cache.ensure(ids)


@pytest.mark.slow
def test_two_builders_share_one_cache(
    task: Path, dataset: Any, ids: list[str], tmp_path: Path
) -> None:
    builders = [_build(task, tmp_path / "cache", alone) for alone in (0.0, 60.0)]
    outputs = [one.communicate(timeout=60)[0] for one in builders]
    assert [one.returncode for one in builders] == [0, 0]
    assert all(output.split()[-1] == str(len(ids)) for output in outputs)
    cache = ImageCache(tmp_path / "cache", dataset, 32)
    assert cache.missing(ids) == []
    check_copies(cache, dataset, ids[::11])


def test_threads_may_get_at_once(dataset: Any, ids: list[str], tmp_path: Path) -> None:
    cache = ImageCache(tmp_path, dataset, 32)
    with ThreadPoolExecutor(3) as pool:
        assert all(min(copy.shape) == 32 for copy in pool.map(cache.get, ids[:30]))


@pytest.mark.slow
@pytest.mark.usefixtures("alone")
def test_an_image_that_kills_the_decoder_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a fault in a C library would: the others are decoded, the culprit is named."""
    deadly = tmp_path / "deadly.py"
    deadly.write_text(
        "import os\nimport numpy as np\nimport pandas as pd\n"
        "from core.data.base import ChestDataset\n"
        "class Deadly(ChestDataset):\n"
        "    name, title, findings, split_name = 'deadly', 'Deadly', ('A',), ''\n"
        "    home = os.getpid()\n"
        "    table = pd.DataFrame(index=[f's{i}' for i in range(70)])\n"
        "    def source_key(self, study_id): return ''\n"
        "    def read(self, study_id, short_side=None):\n"
        "        if study_id == 's50': os._exit(139)\n"
        "        return np.full((short_side, short_side), 7, np.uint8)\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    from deadly import Deadly  # type: ignore[import-not-found]

    dataset = Deadly()
    ids = list(dataset.table.index)
    cache = ImageCache(tmp_path / "cache", dataset, 8)
    with pytest.raises(DataError, match=r"1 of 70 images cannot be read \(s50: .*code 139"):
        cache.ensure(ids)
    assert cache.missing(ids) == ["s50"]


# --- the disk ------------------------------------------------------------------------------------

FULL = """
import pickle, resource, sys
from pathlib import Path
from core.data.cache import image_cache
from core.data.cache.image_cache import ImageCache
from core.errors import DataError
dataset = pickle.loads(Path(sys.argv[1]).read_bytes())
image_cache.ALONE_SECONDS = image_cache.WORTH_SECONDS = float(sys.argv[3])
resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, 60_000))
cache = ImageCache(Path(sys.argv[2]), dataset, 64)
try:
    cache.ensure(list(dataset.table.index))
except DataError as error:
    print(error.cause, "|", error.remedy)
"""


@pytest.mark.slow
@pytest.mark.parametrize("alone", [60.0, 0.0], indirect=True)
def test_a_disk_that_fills_up_is_explained(
    alone: float, task: Path, dataset: Any, ids: list[str], tmp_path: Path
) -> None:
    code, out, err = run_python("-c", FULL, task, tmp_path / "cache", alone)
    assert (code, err) == (0, "")
    assert "is full" in out
    assert "--workspace" in out
    cache = ImageCache(tmp_path / "cache", dataset, 64)
    check_copies(cache, dataset, set(ids) - set(cache.missing(ids)), 64)


@pytest.mark.usefixtures("alone")
def test_a_disk_that_is_too_small_is_said_before_it_is_filled(
    dataset: Any, ids: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=1000))
    with pytest.raises(DataError, match=r"GB are needed") as caught:
        ImageCache(tmp_path, dataset, 64).ensure(ids)
    assert "Free some space" in caught.value.remedy


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of half a megabyte."""
    if os.geteuid() != 0:
        pytest.skip("only root can mount a small disk")
    place = tmp_path / "disk"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=512k", "none", str(place)]
    if subprocess.run(mount, capture_output=True, check=False).returncode != 0:
        pytest.skip("this machine does not let its root mount a small disk")
    try:
        yield place
    finally:
        subprocess.run(["umount", "--lazy", str(place)], check=True)


@pytest.mark.parametrize(
    ("alone", "words"), [(60.0, "is full"), (0.0, "GB are needed")], indirect=["alone"]
)
def test_a_real_disk_fills_up_and_once_it_is_larger_the_work_goes_on(
    alone: float, words: str, dataset: Any, ids: list[str], small_disk: Path
) -> None:
    cache = ImageCache(small_disk, dataset, 64)
    with pytest.raises(DataError, match=words) as caught:
        cache.ensure(ids)
    assert "already cached are kept" in caught.value.remedy
    there = set(ids) - set(ImageCache(small_disk, dataset, 64).missing(ids))
    assert there
    check_copies(cache, dataset, there, 64)
    subprocess.run(["mount", "-o", "remount,size=16m", str(small_disk)], check=True)
    again = ImageCache(small_disk, dataset, 64)
    assert len(again.missing(ids)) == len(ids) - len(there)
    assert again.ensure(ids)


@pytest.mark.slow
@pytest.mark.usefixtures("alone")
def test_the_cache_stays_within_its_limit(
    dataset: Any, ids: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ImageCache(tmp_path, dataset, 32).ensure(ids[:100])
    monkeypatch.setenv(disk_space.LIMIT, "0.001")
    cache = ImageCache(tmp_path, dataset, 64)
    with pytest.raises(
        DataError, match=r"would take .*; its limit is 0.001 GB \(CXR_CACHE_GB\)"
    ) as caught:
        cache.ensure(ids)
    assert "folder-32 (0.000 GB)" in caught.value.remedy
    assert disk_space.size_of(tmp_path) < 1e6
    monkeypatch.setenv(disk_space.LIMIT, "0.0001")
    with pytest.raises(DataError, match="its limit"):
        cache.ensure(ids[-1:])
    monkeypatch.setenv(disk_space.LIMIT, "much")
    with pytest.raises(ConfigurationError, match="“much”, which is not a number"):
        ImageCache(tmp_path, dataset, 48).ensure(ids[:1])
    monkeypatch.setenv(disk_space.LIMIT, "1")
    assert ImageCache(tmp_path, dataset, 64).ensure(ids)


def test_what_a_killed_writer_left_is_swept_away_once_it_is_old(
    dataset: Any, ids: list[str], tmp_path: Path
) -> None:
    cache = ImageCache(tmp_path, dataset, 32)
    cache.ensure(ids[:10])
    named = set(cache.folder.glob("*.u8"))
    for name, age in (("1-old.u8", 2 * shards.ABANDONED), ("2-new.u8", 10.0)):
        (cache.folder / name).write_bytes(b"0" * 1000)
        os.utime(cache.folder / name, (time.time() - age,) * 2)
    for one in named:
        os.utime(one, (0, 0))
    cache.ensure(ids[:20])
    left = set(cache.folder.glob("*.u8"))
    assert named < left
    assert cache.folder / "2-new.u8" in left
    assert cache.folder / "1-old.u8" not in left
    assert ImageCache(tmp_path, dataset, 32).missing(ids[:20]) == []


def test_two_folders_with_files_of_equal_names_sizes_and_times_do_not_mix(tmp_path: Path) -> None:
    from tests.support.layouts import save

    opened = []
    for level, name in ((40, "dark"), (200, "light")):
        for number in range(30):
            file = tmp_path / name / ("Mass" if number % 2 else "normal") / f"{number}.bmp"
            save(file, np.full((32, 32), level + number % 3, np.uint8))
            os.utime(file, (10, 10))
        opened.append(open_dataset("folder", tmp_path / name))
    for dataset, least, most in ((opened[0], 40, 42), (opened[1], 200, 202)):
        cache = ImageCache(tmp_path / "cache", dataset, 32)
        cache.ensure(list(dataset.table.index))
        seen = [int(cache.get(one).max()) for one in dataset.table.index]
        assert least <= min(seen) <= max(seen) <= most


def test_faults_can_be_collected_instead(fresh: Callable[[str], Any], tmp_path: Path) -> None:
    layout = fresh("folder-table")
    dataset = open_dataset(layout.name, layout.root)
    ids = list(dataset.table.index)
    layout.files[ids[3]].write_text("no image")
    layout.files[ids[5]].unlink()
    cache, found = ImageCache(tmp_path / "cache", dataset, 20), {}
    assert cache.ensure(ids, faults=found)
    assert set(found) == {ids[3], ids[5]}
    assert "is not an image" in found[ids[3]]
    assert "missing" in found[ids[5]]
    with pytest.raises(DataError, match="1 of"):
        cache.ensure(ids)


WITHOUT_RIGHTS = """
import os, pickle, sys
from pathlib import Path
from core.data.cache.image_cache import ImageCache
from core.errors import DataError
dataset = pickle.loads(Path(sys.argv[1]).read_bytes())
if os.geteuid() == 0:
    os.setuid(65534)
try:
    ImageCache(Path(sys.argv[2]), dataset, 32)
except DataError as error:
    print(error)
"""


def test_a_folder_without_permission_is_explained(task: Path, tmp_path: Path) -> None:
    locked = tmp_path / "cache"
    locked.mkdir(mode=0o500)
    printed = output_of(WITHOUT_RIGHTS, task, locked)
    assert "cannot be written (Permission denied)" in printed
    assert "--workspace" in printed


def test_a_file_in_the_way_is_explained(dataset: Any, tmp_path: Path) -> None:
    (tmp_path / "images").write_text("")
    with pytest.raises(DataError, match="cannot be written"):
        ImageCache(tmp_path, dataset, 32)


def test_a_damaged_index_is_made_again(dataset: Any, ids: list[str], tmp_path: Path) -> None:
    cache = ImageCache(tmp_path, dataset, 32)
    cache.ensure(ids[:20])
    index = cache._shards.folder / shards.INDEX
    index.write_bytes(b"no database at all, but long enough to look at" * 100)
    again = ImageCache(tmp_path, dataset, 32)
    assert again.missing(ids[:20]) == ids[:20]
    assert again.ensure(ids[:20])


def test_lost_or_shortened_pixels_are_decoded_again(
    dataset: Any, ids: list[str], tmp_path: Path
) -> None:
    cache = ImageCache(tmp_path, dataset, 32)
    cache.ensure(ids[:20])
    (shard,) = cache._shards.folder.glob("*.u8")
    os.truncate(shard, shard.stat().st_size // 2)
    again = ImageCache(tmp_path, dataset, 32)
    assert 0 < len(again.missing(ids[:20])) < 20
    shard.unlink()
    last = ImageCache(tmp_path, dataset, 32)
    assert last.missing(ids[:20]) == ids[:20]
    assert last.ensure(ids[:20])
    assert np.array_equal(last.get(ids[0]), dataset.read(ids[0], 32))


def test_a_locked_index_is_waited_for(dataset: Any, ids: list[str], tmp_path: Path) -> None:
    cache = ImageCache(tmp_path, dataset, 32)
    other = sqlite3.connect(cache._shards.folder / shards.INDEX, check_same_thread=False)
    other.execute("BEGIN EXCLUSIVE")
    timer = threading.Timer(0.5, other.commit)
    timer.start()
    assert cache.ensure(ids[:10])
    timer.join()
    other.close()


def test_decoding_processes_load_no_torch() -> None:
    output_of(
        "import sys; from core.data.cache.decoder_pool import work;"
        "import core.data.datasets.custom_folder; assert 'torch' not in sys.modules"
    )
