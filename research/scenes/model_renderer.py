"""Render 3-D models (OBJ) as images with alpha, on the processor.

It needs panda3d, which nothing else of the repository does: `pip install panda3d`.
"""

import re
from collections.abc import Collection, Iterable
from pathlib import Path

import cv2
import numpy as np
from direct.showbase.ShowBase import ShowBase
from numpy.typing import NDArray
from panda3d.core import (
    AmbientLight,
    DirectionalLight,
    Filename,
    LColor,
    LMatrix4,
    Material,
    MaterialAttrib,
    NodePath,
    RenderState,
    TextureAttrib,
    TransparencyAttrib,
    loadPrcFileData,
)

SIDE_PX = 256
_SUPERSAMPLE = 2
_FIELD_OF_VIEW_DEG = 30
_DISTANCE = 4  # of the camera, in radii of the model
_OPAQUE = 1000  # shininess that stands for an opacity of 1
_LEAST_OPACITY = 0.6  # glass is drawn more solid than it is, so that it can be seen on any background
_AMBIENT = (0.5, 0.5, 0.52)
# Colour, and heading and pitch in degrees of directional lights: one from the upper left, a weak one from the right.
_LIGHTS = (((0.5, 0.5, 0.48), (-40, -50)), ((0.18, 0.18, 0.2), (60, -15)))
# The software display; normals for models without any, smooth where faces meet at less than 45 degrees.
_SETTINGS = f"""
load-display p3tinydisplay
audio-library-name null
notify-level error
load-file-type p3assimp
assimp-gen-normals 1
assimp-smooth-normal-angle 45
win-size {SIDE_PX * _SUPERSAMPLE} {SIDE_PX * _SUPERSAMPLE}
"""


def loadable_library(mtl: str, files: Collection[str]) -> str:
    """Return a material library as the loader needs it: opacities written as shininess, no textures that are missing.

    The loader reads shininess, but not opacity, and shows a missing texture as white.

    Args:
        mtl: text of the library.
        files: names of the files beside it.

    >>> loadable_library("newmtl glass\\nNs 96\\nd 0.25\\nmap_Kd C:/wood.jpg", []).splitlines()
    ['newmtl glass', 'Ns 250']
    """
    blocks = re.split(r"^(?=\s*newmtl )", mtl, flags=re.MULTILINE)
    for place, block in enumerate(blocks):
        found = re.search(r"^\s*d +([\d.]+)", block, flags=re.MULTILINE)
        opacity = float(found[1]) if found else 1.0
        textures = re.findall(r"^\s*map_Kd +(.*\S)", block, flags=re.MULTILINE)
        dropped = "Ns|d|Tr" if all(name in files for name in textures) else "Ns|d|Tr|map_Kd"
        kept = re.sub(rf"^\s*({dropped}) .*\n?", "", block, flags=re.MULTILINE)
        if "newmtl" in block:
            blocks[place] = f"{kept.rstrip()}\nNs {round(_OPAQUE * opacity)}\n"
    return "".join(blocks)


class ModelRenderer:
    """A camera and lights that one model after the other is put before. One instance per process."""

    def __init__(self) -> None:
        loadPrcFileData("", _SETTINGS)
        self._base = ShowBase(windowType="offscreen")
        self._base.disableMouse()
        self._base.camLens.setFov(_FIELD_OF_VIEW_DEG)
        scene: NodePath = self._base.render
        scene.setTwoSided(True)
        ambient = AmbientLight("ambient")
        ambient.setColor((*_AMBIENT, 1))
        scene.setLight(scene.attachNewNode(ambient))
        for colour, (heading, pitch) in _LIGHTS:
            light = DirectionalLight("light")
            light.setColor((*colour, 1))
            node = scene.attachNewNode(light)
            node.setHpr(heading, pitch, 0)
            scene.setLight(node)

    def render(
        self, path: Path, angles_deg: Iterable[tuple[float, float]], rotation: NDArray[np.float64] | None = None
    ) -> list[NDArray[np.uint8]]:
        """Return one image per view.

        Args:
            path: OBJ file, y up, its front towards +z. The MTL file beside it is rewritten.
            angles_deg: heading of the model, 0 for its front, and elevation of the camera, of each view.
            rotation (`np.ndarray` of shape `(3, 3)`): of the file's coordinates, before anything else.

        Returns:
            `np.ndarray` of shape `(256, 256, 4)` each: RGBA, colour not premultiplied.

        Raises:
            OSError: the file cannot be read, or is empty.
        """
        library = path.with_suffix(".mtl")
        files = [file.name for file in path.parent.iterdir()]
        library.write_text(loadable_library(library.read_text("latin-1"), files), "latin-1")
        model = self._base.loader.loadModel(Filename.fromOsSpecific(str(path.resolve())), noCache=True)
        for found in model.findAllMatches("**/+GeomNode"):
            node, above = found.node(), found.getNetState()
            for index in range(node.getNumGeoms()):
                node.setGeomState(index, _state(above.compose(node.getGeomState(index))))
        turned = NodePath("turned")
        model.reparentTo(turned)
        if rotation is not None:
            turned.setMat(LMatrix4(*np.pad(rotation.T, ((0, 1), (0, 1))).ravel()[:15].tolist(), 1))
        upright = NodePath("upright")
        turned.reparentTo(upright)
        upright.setP(90)
        pivot = self._base.render.attachNewNode("pivot")
        upright.reparentTo(pivot)
        try:
            bounds = pivot.getTightBounds()
            if bounds is None or (bounds[1] - bounds[0]).length() == 0:
                raise OSError(f"a model must have faces, got none in {path}")
            upright.setPos(-(bounds[0] + bounds[1]) / 2)
            pivot.setScale(2 / (bounds[1] - bounds[0]).length())
            return [self._view(pivot, heading, pitch) for heading, pitch in angles_deg]
        finally:
            pivot.removeNode()

    def _view(self, pivot: NodePath, heading_deg: float, pitch_deg: float) -> NDArray[np.uint8]:
        pivot.setH(heading_deg)
        pitch = np.radians(pitch_deg)
        self._base.cam.setPos(0, -_DISTANCE * np.cos(pitch), _DISTANCE * np.sin(pitch))
        self._base.cam.lookAt(0, 0, 0)
        # What lets the background through differs between black and white behind it.
        black, white = self._frame(0), self._frame(1)
        alpha = np.clip(255 - (white - black).mean(axis=2, keepdims=True), 0, 255)
        colour = np.clip(black * 255 / np.maximum(alpha, 1), 0, 255)
        return np.concatenate([colour, alpha], axis=2).round().astype(np.uint8)

    def _frame(self, background: float) -> NDArray[np.float32]:
        window = self._base.win
        window.setClearColor((background, background, background, 1))
        self._base.graphicsEngine.renderFrame()
        self._base.graphicsEngine.flipFrame()
        texture = window.getScreenshot()
        pixels = np.frombuffer(texture.getRamImageAs("RGB"), np.uint8)
        image = pixels.reshape(texture.getYSize(), texture.getXSize(), 3)[::-1].astype(np.float32)
        return cv2.resize(image, (SIDE_PX, SIDE_PX), interpolation=cv2.INTER_AREA)


def _state(state: RenderState) -> RenderState:
    """Return a state with the material's colour and opacity, or white below a texture."""
    attribute, textured = state.getAttrib(MaterialAttrib), state.getAttrib(TextureAttrib)
    found = attribute.getMaterial() if attribute else None
    colour = LColor(found.getDiffuse()) if found and found.hasDiffuse() else LColor(0.7, 0.7, 0.7, 1)
    texture = textured.getOnTexture(textured.getOnStage(0)) if textured and textured.getNumOnStages() else None
    if texture is not None:
        colour = LColor(1, 1, 1, 1)
    if found is not None:
        opacity = found.getShininess() / _OPAQUE
        colour[3] = min(max(opacity, _LEAST_OPACITY), 1) if opacity > 0 else 0
    material = Material()
    material.setDiffuse(colour)
    material.setAmbient(colour)
    mode = TransparencyAttrib.M_none
    if colour[3] < 1:
        mode = TransparencyAttrib.M_alpha
    elif texture is not None and texture.getNumComponents() in (2, 4):
        mode = TransparencyAttrib.M_dual
    return state.setAttrib(MaterialAttrib.make(material)).setAttrib(TransparencyAttrib.make(mode))
