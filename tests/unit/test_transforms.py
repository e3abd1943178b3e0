"""Catches a preprocessing for training or serving that is not, bit for bit, what the lake's pass gives a network."""

import base64
import json
import multiprocessing
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from imagesieve import transforms
from numpy.typing import NDArray

from jobs.errors import ConfigError, LakeError
from tests.bench.live_transforms import seen_by_the_pass
from tests.e2e import images
from tests.s3_server import S3Server
from udfs.errors import ImageError
from udfs.networks import models
from udfs.networks.models import Model
from udfs.transforms import fingerprint, square

LITE0 = models.find(models.DEFAULT)
MODELS = {
    "built in": LITE0,
    "smaller": models.find("efficientnet-lite0-160@imagenet-3"),
    "crop": replace(LITE0, name="crop", fit="crop", mean=(123.675, 116.28, 103.53), std=(58.395, 57.12, 57.375)),
    "finer": replace(LITE0, name="finer", input_side=299, fit="crop", mean=(127.5,) * 3, std=(127.5,) * 3),
}
FILES = {
    **{name: data for name, (data, *_) in images.odd_files().items()},
    "large.jpg": images.jpeg(images.picture(1, 1600, 1100)),
    "wide.jpg": images.jpeg(images.picture(2, 900, 240)),
    "input-side.png": images.png(images.picture(3, 224, 224)),
    "as-small.png": images.png(images.picture(4, 160, 160)),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return images.write(tmp_path_factory.mktemp("transforms"), FILES)


@pytest.mark.parametrize("model", MODELS.values(), ids=MODELS)
def test_all_entries_give_what_the_pass_gives(model: Model, folder: Path) -> None:
    """An entry that decodes at another scale, turns otherwise, or normalises in another order or precision."""
    pixels = seen_by_the_pass(model, [folder / name for name in FILES])
    transform = transforms.Transform(model)
    manifest = folder / f"{model.name}.csv"
    manifest.write_text("uri,label\n" + "".join(f'"{folder / name}","a"\n' for name in FILES), encoding="utf-8")
    dataset = transforms.Images(transform, manifest)
    handler = transforms.lambda_handler(transform)
    for number, (name, data) in enumerate(FILES.items()):
        expected = square.normalised(pixels[name], model)
        assert pixels[name].shape == (model.input_side, model.input_side, 3)
        assert np.array_equal(transform.pixels(folder / name), pixels[name]), name
        for array in (
            transform(data),
            transform(folder / name),
            dataset[number][0],
            transforms.of_event(transform, {"image": base64.b64encode(data).decode()}),
            array_of(
                handler({"requestContext": {}, "isBase64Encoded": True, "body": base64.b64encode(data).decode()}, None)
            ),
        ):
            assert array.dtype == np.float32
            assert np.array_equal(array, expected), name
        reference = (pixels[name].astype(np.float64) - model.mean) / model.std
        assert np.allclose(expected, reference.transpose(2, 0, 1), atol=1e-6)


def array_of(answer: dict[str, Any]) -> NDArray[np.float32]:
    told = json.loads(answer["body"])
    assert answer["statusCode"] == 200, told
    return np.frombuffer(base64.b64decode(told["array"]), told["dtype"]).reshape(told["shape"])


def test_torch_normalises_alike(folder: Path) -> None:
    """Arrays whose last bit differs from that of the torch runtime, and a DataLoader that does not take the dataset."""
    torch = pytest.importorskip("torch")
    model = MODELS["crop"]
    (folder / "few.csv").write_text("uri\n" + "".join(f'"{folder / name}"\n' for name in FILES), encoding="utf-8")
    dataset = transforms.Images(transforms.Transform(model), folder / "few.csv")
    pixels = seen_by_the_pass(model, [folder / name for name in FILES])
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (model.mean, model.std))
    for context in ("fork", "spawn"):
        loader = torch.utils.data.DataLoader(dataset, batch_size=3, num_workers=2, multiprocessing_context=context)
        arrays = torch.cat([batch for batch, _ in loader])
        given = torch.from_numpy(np.stack([pixels[name] for name in FILES]))
        assert torch.equal(arrays, (given.permute(0, 3, 1, 2).float() - mean) / std)


def test_forked_workers_read_from_s3(s3: S3Server, tmp_path: Path) -> None:
    """A client of S3 that a worker has from its parent: it waits for threads that are not there."""
    data = images.jpeg(images.picture(5))
    keys = [f"transforms/{number}.jpg" for number in range(6)]
    for key in keys:
        s3.client().put_object(Bucket=s3.bucket, Key=key, Body=data)
    rows = "".join(f'{{"uri": "s3://{s3.bucket}/{key}", "label": "{at % 2}"}}\n' for at, key in enumerate(keys))
    (tmp_path / "set.jsonl").write_text(rows, encoding="utf-8")
    transform = transforms.Transform(LITE0)
    dataset = transforms.Images(transform, tmp_path / "set.jsonl")
    assert np.array_equal(dataset[0][0], transform(data))  # the parent's client is there now
    with multiprocessing.get_context("fork").Pool(2) as workers:
        found = workers.map_async(dataset.__getitems__, [[0, 1, 2], [3, 4, 5]]).get(60)
    for part in found:
        assert [label for _, label in part] in ([0, 1, 0], [1, 0, 1])
        assert all(np.array_equal(array, transform(data)) for array, _ in part)


@pytest.mark.parametrize(
    "change",
    [
        lambda model: replace(model, input_side=225),
        lambda model: replace(model, fit="crop"),
        lambda model: replace(model, mean=(127.0, 127.0, 127.0000001)),
        lambda model: replace(model, std=(128.0, 128.0, 129.0)),
    ],
)
def test_the_fingerprint_knows_all_that_decides(change: Callable[[Model], Model]) -> None:
    """A number of the card that changes arrays and not the fingerprint; one that changes no pixel is not in it."""
    assert fingerprint.fingerprint(change(LITE0)) != fingerprint.fingerprint(LITE0)
    assert fingerprint.fingerprint(replace(LITE0, licence="another", dimension=2)) == fingerprint.fingerprint(LITE0)


def test_the_fingerprint_knows_library_and_code(monkeypatch: pytest.MonkeyPatch) -> None:
    before = fingerprint.fingerprint(LITE0)
    monkeypatch.setattr(square, "CODE", 77)
    with_code = fingerprint.fingerprint(LITE0)
    assert fingerprint.differences(before, with_code).endswith("there and 77 here")
    monkeypatch.setattr(cv2, "__version__", "0.1")
    monkeypatch.setattr(fingerprint, "libraries", fingerprint.libraries.__wrapped__)
    assert "opencv" in fingerprint.differences(with_code, fingerprint.fingerprint(LITE0))
    monkeypatch.setattr(fingerprint, "resized", lambda pixels, *_: pixels // 2)
    assert "probe" in fingerprint.differences(before, fingerprint.fingerprint(LITE0))
    assert len({text.partition(" ")[0] for text in (before, with_code, fingerprint.fingerprint(LITE0))}) == 3


def test_load_by_name_and_by_card(tmp_path: Path) -> None:
    """A card whose numbers are lost on the way, and faults without a line."""
    assert transforms.load(models.DEFAULT).model == LITE0
    card = tmp_path / "cards.yaml"
    card.write_text(
        "models:\n  ours@1: {format: onnx, weights: /w.onnx, sha256: '" + "0" * 64 + "', input_side: 96, dimension: 8,"
        " mean: 1, std: [2, 3, 4], fit: crop, licence: x, source: y}\n"
        "  theirs@1: {format: vectors, weights: /v.parquet, dimension: 8, licence: x, source: y}\n",
        encoding="utf-8",
    )
    ours = transforms.load("ours@1", config=str(card))
    assert (ours.model.fit, ours.model.std, ours("" or FILES["wide.jpg"]).shape) == (
        "crop",
        (2.0, 3.0, 4.0),
        (3, 96, 96),
    )
    for name, said in (("none@1", "unknown model"), ("theirs@1", "made elsewhere")):
        with pytest.raises(ConfigError, match=said):
            transforms.load(name, config=[str(card)])
    with pytest.raises(LakeError):
        transforms.load(tmp_path / "nowhere")


def test_limits_and_bad_files(folder: Path) -> None:
    """A bomb that is decoded, a file that is read whole before its size is looked at, an error that names nothing."""
    small = transforms.Transform(LITE0, max_pixels=1000, max_bytes=100_000)
    for bad, code in (
        (images.bomb(), "too_many_pixels"),
        (b"x" * 100_001, "too_many_bytes"),
        (b"text", "not_an_image"),
    ):
        with pytest.raises(ImageError, match=code):
            small(bad)
    (folder / "bad.jpg").write_bytes(b"no image")
    (folder / "bad.csv").write_text(f'uri\n"{folder / "bad.jpg"}"\n', encoding="utf-8")
    with pytest.raises(ImageError, match=r"not_an_image: .*bad\.jpg"):
        transforms.Images(small, folder / "bad.csv")[0]
    (folder / "other.csv").write_text("path\nx\n", encoding="utf-8")
    with pytest.raises(ValueError, match="no column 'uri'"):
        transforms.Images(small, folder / "other.csv")


def test_events_that_name_no_image(s3: S3Server) -> None:
    """A handler that reads any object for whoever asks, and an event that ends it."""
    transform = transforms.Transform(LITE0)
    s3.client().put_object(Bucket=s3.bucket, Key="in/a b.jpg", Body=FILES["wide.jpg"])
    s3.client().put_object(Bucket=s3.bucket, Key="secret.jpg", Body=FILES["wide.jpg"])
    handler = transforms.lambda_handler(
        transform, [f"s3://{s3.bucket}/in/"], lambda array: {"mean": float(array.mean())}
    )
    record = {"Records": [{"s3": {"bucket": {"name": s3.bucket}, "object": {"key": "in/a+b.jpg"}}}]}
    expected = {"mean": float(transform(FILES["wide.jpg"]).mean())}
    assert handler(record, None) == handler({"uri": f"s3://{s3.bucket}/in/a b.jpg"}, None) == expected
    events: tuple[dict[str, Any], ...] = (
        {"uri": f"s3://{s3.bucket}/secret.jpg"}, {"uri": f"s3://{s3.bucket}x/in/a b.jpg"}, {"uri": "/etc/passwd"},
        {"uri": "s3://"}, {"image": "!"}, {"image": base64.b64encode(b"x").decode()}, {}, {"Records": []}, {"uri": 1},
    )  # fmt: skip
    for event in events:
        told = handler(event, None)
        assert set(told) == {"error"}, event
        assert "\n" not in told["error"]
    assert handler({"requestContext": {}, "body": "x"}, None)["statusCode"] == 400
    large = transforms.lambda_handler(transforms.Transform(replace(LITE0, input_side=1024)))
    assert "more than Lambda" in large({"image": base64.b64encode(FILES["wide.jpg"]).decode()}, None)["error"]


def test_variants_by_a_function_url(s3: S3Server) -> None:
    """An object outside the root, a key that is read with its escapes, and an answer that Lambda would not let out."""
    s3.client().put_object(Bucket=s3.bucket, Key="photos/a b.jpg", Body=FILES["large.jpg"])
    s3.client().put_object(Bucket=s3.bucket, Key="private.jpg", Body=FILES["large.jpg"])
    handler = transforms.variant_handler(f"s3://{s3.bucket}/photos/", 60)

    def asked(path: str, **query: str) -> dict[str, Any]:
        return handler({"rawPath": path, "queryStringParameters": query}, None)

    found = asked("/a%20b.jpg", width="80", format="webp")
    expected = transforms.variant(FILES["large.jpg"], transforms.Variant(width=80, format="webp"), 10**8)
    assert base64.b64decode(found["body"]) == expected
    assert found["headers"] == {"content-type": "image/webp", "cache-control": "public, max-age=60"}
    for path in ("/../private.jpg", "/%2e%2e/private.jpg", "//private.jpg", "/nothing.jpg", ""):
        assert asked(path, width="80")["statusCode"] == 404, path
    assert asked("/a%20b.jpg", size="80")["statusCode"] == 400
    noise = np.random.default_rng(0).integers(0, 256, (1800, 1800, 3), np.uint8)
    s3.client().put_object(Bucket=s3.bucket, Key="photos/noise.png", Body=images.png(noise))
    assert asked("/noise.png", format="png")["statusCode"] == 413
    with pytest.raises(ValueError, match="ends in /"):
        transforms.variant_handler(f"s3://{s3.bucket}/photos")
