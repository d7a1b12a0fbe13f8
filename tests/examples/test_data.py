import threading

import numpy as np
import pytest
import tensorflow as tf

from examples import data
from tests.patience import PATIENCE

pytest.importorskip("sklearn")
tfds = pytest.importorskip("tensorflow_datasets")
requests = pytest.importorskip("requests")


@pytest.fixture
def empty_folder(tmp_path, monkeypatch):
    """TensorFlow Datasets' folder, with nothing in it, on a machine without network."""
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    monkeypatch.setattr(data, "answers", lambda url: False)
    return tmp_path


def write_prepared(folder, name, version="3.0.1"):
    """Prepares a tiny data set of two training images and one test image as TFDS does."""
    pytest.importorskip("importlib_resources", reason="TFDS needs it to write a data set")
    images = np.array([0, 51, 255], "uint8")[:, None, None, None] * np.ones((28, 28, 1), "uint8")
    features = tfds.features.FeaturesDict(
        {
            "image": tfds.features.Image(shape=(28, 28, 1)),
            "label": tfds.features.ClassLabel(num_classes=10),
        }
    )
    tfds.dataset_builders.store_as_tfds_dataset(
        name=name,
        version=version,
        data_dir=folder,
        features=features,
        split_datasets={
            "train": tf.data.Dataset.from_tensor_slices({"image": images[1:], "label": [7, 7]}),
            "test": tf.data.Dataset.from_tensor_slices({"image": images[:1], "label": [3]}),
        },
    )


def test_digits_are_scaled_and_split_the_same_every_time():
    digits = data.load("digits")
    (train_x, train_y), (test_x, test_y) = digits.train, digits.test
    assert train_x.shape == (1437, 8, 8, 1) and test_x.shape == (360, 8, 8, 1)
    assert train_x.dtype == np.float32
    assert train_x.min() == 0 and train_x.max() == 1
    assert sorted(set(train_y)) == sorted(set(test_y)) == list(range(10))
    np.testing.assert_array_equal(data.load("digits").test[0], test_x)


def test_no_digit_is_both_in_training_and_in_test():
    digits = data.load("digits").flattened()
    train, test = ({row.tobytes() for row in x} for x, _ in (digits.train, digits.test))
    assert not train & test


def test_flattened_keeps_the_order_of_the_pixels():
    images = np.arange(12, dtype="float32").reshape(2, 2, 3, 1)
    labels = np.array([4, 5])
    flat = data.Dataset("name", "Title", (images, labels), (images[:1], labels[:1])).flattened()
    np.testing.assert_array_equal(flat.train[0], [range(6), range(6, 12)])
    np.testing.assert_array_equal(flat.train[1], labels)
    assert flat.test[0].shape == (1, 6)


def test_prepared_data_is_read_without_asking_the_network(tmp_path, monkeypatch):
    def ask(url):
        raise AssertionError("asked the network")

    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    monkeypatch.setattr(data, "answers", ask)
    write_prepared(tmp_path, "fashion_mnist")
    dataset = data.load("fashion_mnist")
    assert dataset.title == "Fashion-MNIST"
    assert dataset.train[0].shape == (2, 28, 28, 1) and dataset.train[0].dtype == np.float32
    assert sorted(np.unique(dataset.train[0])) == [np.float32(51 / 255), 1.0]
    np.testing.assert_array_equal(dataset.train[1], [7, 7])
    np.testing.assert_array_equal(dataset.test[0], np.zeros((1, 28, 28, 1)))
    np.testing.assert_array_equal(dataset.test[1], [3])


def test_an_unfinished_download_is_not_taken_for_prepared(tmp_path, monkeypatch):
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    unfinished = tmp_path / "mnist" / "incomplete.X1_3.0.1"
    unfinished.mkdir(parents=True)
    (unfinished / "dataset_info.json").write_text("{}")
    assert data.prepared_folder("mnist") is None


@pytest.mark.parametrize("name", ["mnist", "fashion_mnist"])
def test_unavailable_says_where_it_looked(name, empty_folder):
    with pytest.raises(data.UnavailableError, match="TFDS_DATA_DIR") as caught:
        data.load(name)
    assert str(empty_folder) in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


def test_damaged_data_is_unavailable_and_says_why(tmp_path, monkeypatch):
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    write_prepared(tmp_path, "mnist")
    for records in tmp_path.rglob("*.tfrecord*"):
        records.write_bytes(b"damaged")
    with pytest.raises(data.UnavailableError, match="cannot be read from") as caught:
        data.load("mnist")
    assert len(str(caught.value).splitlines()) == 1


def test_failed_download_is_unavailable_and_says_why(empty_folder, monkeypatch):
    def fail(name):
        raise OSError("disk full\nsecond line")

    monkeypatch.setattr(data, "answers", lambda url: True)
    monkeypatch.setattr(tfds, "builder", fail)
    with pytest.raises(data.UnavailableError, match=r"downloaded \(OSError: disk full\)"):
        data.load("mnist")


def test_default_is_mnist_where_it_is_prepared(empty_folder, capsys):
    write_prepared(empty_folder, "mnist")
    capsys.readouterr()
    assert data.load_default().name == "mnist"
    assert capsys.readouterr().out == ""


def test_default_falls_back_to_digits_with_one_line(empty_folder, capsys):
    assert data.load_default().name == "digits"
    out = capsys.readouterr().out
    assert len(out.splitlines()) == 1
    assert "MNIST" in out and "digits" in out


def test_probe_gives_up_on_a_silent_host(monkeypatch):
    silence, ended = threading.Event(), threading.Event()

    def head(*args, **kwargs):
        silence.wait(PATIENCE)
        ended.set()
        raise requests.ConnectionError

    monkeypatch.setattr(requests, "head", head)
    assert not data.answers("https://example.invalid", seconds=0.05)
    # The host is silent still.
    assert not ended.is_set()
    silence.set()


@pytest.mark.parametrize("status, expected", [(200, True), (403, False), (503, False)])
def test_probe_reads_the_status(status, expected, monkeypatch):
    def head(url, timeout, allow_redirects):
        assert timeout and allow_redirects
        response = requests.Response()
        response.status_code = status
        return response

    monkeypatch.setattr(requests, "head", head)
    assert data.answers("https://example.invalid") is expected


def test_probe_takes_a_refused_connection_for_no():
    # Port 9 of this machine: nothing leaves it.
    assert not data.answers("http://127.0.0.1:9/file", seconds=5)
