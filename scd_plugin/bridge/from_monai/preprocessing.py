"""Translates a bundle's preprocessing to nnU-Net's plans, and refuses what no plans can do. Plain values only."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NoReturn

__all__ = ["Component", "Intensity", "Preprocessing", "express"]

# nnU-Net clips in float32; beyond any image, and still far from its largest number
UNBOUNDED = 1e30
_ORDERS = {"nearest": 0, "bilinear": 1, 0: 0, 1: 1, 3: 3}
# they change no voxel
_HARMLESS = ("EnsureChannelFirstd", "DeleteItemsd", "SelectItemsd", "Identityd", "ToTensord", "ToDeviced", "LoadImaged")


@dataclass(frozen=True)
class Component:
    """A transform of a bundle's config: what it is, and the arguments it is given."""

    name: str
    """Name of its class."""
    arguments: Mapping[str, Any]
    channel: int | None = None
    """The only channel that it touches; None for all."""


@dataclass
class Intensity:
    """One of nnU-Net's normalisation schemes, with the numbers that plans hold for a channel."""

    scheme: str = "NoNormalization"
    use_mask: bool = False
    low: float = -UNBOUNDED
    high: float = UNBOUNDED
    mean: float = 0.0
    std: float = 1.0

    def then(self, subtract: float, divide: float) -> None:
        """Append `(x - subtract) / divide`."""
        self.scheme = "CTNormalization"
        self.mean += subtract * self.std
        self.std *= divide


@dataclass
class Preprocessing:
    """Settings with which plans preprocess as a bundle does."""

    spacing: list[float] | None = None
    """mm along x, y, z; None where the bundle leaves images as they are."""
    order: int = 3
    """Order of the interpolation."""
    to_ras: bool = False
    intensity: list[Intensity] = field(default_factory=list)
    """Normalisation of each channel."""
    notes: list[str] = field(default_factory=list)
    """Small differences between the hosts, one sentence each."""
    cropped: bool = False
    """Whether borders of zeros are gone by now."""


def express(transforms: Sequence[Component], *, num_channels: int, img_size: Sequence[int]) -> Preprocessing:
    """Translate a bundle's preprocessing: the transforms that touch the image, in their order.

    Raises:
        ValueError: naming the first transform that plans can't express.
    """
    result = Preprocessing(intensity=[Intensity() for _ in range(num_channels)])
    for transform in transforms:
        if transform.name in _HARMLESS:
            continue
        translate = _TRANSLATIONS.get(transform.name)
        if translate is None:
            _refuse(transform, "nnU-Net has nothing like it")
        if transform.channel is None:
            translate(transform, result, img_size)
        elif translate in _OF_INTENSITIES and transform.channel < num_channels:
            translate(transform, replace(result, intensity=[result.intensity[transform.channel]]), img_size)
        else:
            _refuse(transform, f"plans hold no more than a normalisation for channel {transform.channel} alone")
    if result.spacing is not None and any(one.scheme != "NoNormalization" for one in result.intensity):
        result.notes.append(
            "nnU-Net normalises before it resamples, and resamples from edge to edge of the image where Spacingd keeps "
            "the centre of the first voxel: images with another spacing are sampled up to half a voxel apart"
        )
    return result


def _refuse(transform: Component, why: str) -> NoReturn:
    msg = f"preprocessing transform {transform.name} can't be expressed in nnU-Net's plans: {why}"
    raise ValueError(msg)


def _float32(transform: Component, _: Preprocessing, __: Sequence[int]) -> None:
    kind = str(transform.arguments.get("dtype", "float32"))
    if "float16" in kind or "int" in kind:
        _refuse(transform, f"its dtype must be float32; got {kind}")


def _orientation(transform: Component, result: Preprocessing, _: Sequence[int]) -> None:
    axcodes = transform.arguments.get("axcodes")
    if axcodes != "RAS":
        _refuse(transform, f"nnU-Net has a reader that turns images to RAS and none for axcodes={axcodes!r}")
    if result.spacing is not None:
        _refuse(transform, "it must come before Spacingd")
    result.to_ras = True


def _spacing(transform: Component, result: Preprocessing, _: Sequence[int]) -> None:
    pixdim = transform.arguments.get("pixdim")
    if not isinstance(pixdim, Sequence) or len(pixdim) != 3 or not all(step and step > 0 for step in pixdim):
        _refuse(transform, f"pixdim must be three positive numbers; got {pixdim}")
    if result.spacing is not None:
        _refuse(transform, "it comes twice")
    mode = transform.arguments.get("mode", "bilinear")
    mode = mode[0] if isinstance(mode, (list, tuple)) else mode
    if mode not in _ORDERS:
        _refuse(transform, f"mode must be one of {', '.join(map(str, _ORDERS))}; got {mode!r}")
    result.spacing = [float(step) for step in pixdim]
    result.order = _ORDERS[mode]


def _normalised(transform: Component, result: Preprocessing, *allowed: str) -> list[Intensity]:
    """Normalisations of the channels, which are none yet, or one of those allowed."""
    for one in result.intensity:
        if one.scheme not in ("NoNormalization", *allowed):
            _refuse(transform, f"it comes after another intensity transform ({one.scheme})")
    return result.intensity


def _scale_range(transform: Component, result: Preprocessing, _: Sequence[int]) -> None:
    low, high, to_low, to_high = (transform.arguments.get(name) for name in ("a_min", "a_max", "b_min", "b_max"))
    clip = bool(transform.arguments.get("clip", False))
    if to_low is None or to_high is None:
        if clip:
            _refuse(transform, "clip=True needs b_min and b_max")
        to_low, to_high = 0.0, 1.0
    if low is None or high is None or not high > low or not to_high > to_low:
        _refuse(transform, f"a_min < a_max and b_min < b_max are needed; got {low}, {high}, {to_low}, {to_high}")
    divide = (high - low) / (to_high - to_low)
    for one in _normalised(transform, result):
        one.then(low - to_low * divide, divide)
        if clip:
            one.low, one.high = float(low), float(high)


def _normalize(transform: Component, result: Preprocessing, _: Sequence[int]) -> None:
    arguments = transform.arguments
    nonzero = bool(arguments.get("nonzero", False))
    subtrahend, divisor = arguments.get("subtrahend"), arguments.get("divisor")
    count = len(result.intensity)
    if subtrahend is None and divisor is None:
        if not arguments.get("channel_wise", False) and count > 1:
            _refuse(transform, "nnU-Net takes mean and deviation of each channel by itself: channel_wise must be true")
        for one in _normalised(transform, result):
            one.scheme, one.use_mask = "ZScoreNormalization", nonzero
        if not nonzero:
            _note_borders(transform, result, "mean and deviation")
        elif _MASKS not in result.notes:
            result.notes.append(_MASKS)
        return
    if subtrahend is None or divisor is None or nonzero:
        _refuse(transform, "with numbers of its own it needs both subtrahend and divisor, and nonzero=False")
    numbers = (_each(transform, given, count) for given in (subtrahend, divisor))
    for one, subtract, divide in zip(_normalised(transform, result, "CTNormalization"), *numbers):
        if not divide > 0:
            _refuse(transform, f"divisor must be positive; got {divide}")
        one.then(subtract, divide)


_MASKS = (
    "NormalizeIntensityd with nonzero=True leaves out each channel's own zeros, nnU-Net what is 0 in all channels "
    "outside of the object: where a channel has zeros inside, it gets other numbers, and segmentations can be worse"
)


def _each(transform: Component, value: Any, count: int) -> list[float]:
    values = list(value) if isinstance(value, Sequence) else [value] * count
    if len(values) != count or not all(isinstance(number, (int, float)) for number in values):
        _refuse(transform, f"it needs one number, or one for each of {count} channels; got {value}")
    return [float(number) for number in values]


def _scale(transform: Component, result: Preprocessing, _: Sequence[int]) -> None:
    arguments = transform.arguments
    if (arguments.get("minv", 0), arguments.get("maxv", 1)) != (0, 1) or arguments.get("factor") is not None:
        _refuse(transform, "nnU-Net scales to 0..1 alone")
    if not arguments.get("channel_wise", False) and len(result.intensity) > 1:
        _refuse(transform, "nnU-Net scales each channel by itself: channel_wise must be true")
    for one in _normalised(transform, result):
        one.scheme = "RescaleTo01Normalization"
    _note_borders(transform, result, "minimum and maximum")


def _note_borders(transform: Component, result: Preprocessing, what: str) -> None:
    note = (
        f"{transform.name} takes {what} over the whole image, nnU-Net over the box of voxels that are not 0: images "
        "with a border of zeros, such as skull-stripped ones, get other numbers, and segmentations can be worse"
    )
    # once for all channels
    if not result.cropped and note not in result.notes:
        result.notes.append(note)


def _crop_foreground(transform: Component, result: Preprocessing, _: Sequence[int]) -> None:
    if transform.arguments.get("select_fn") is not None:
        _refuse(transform, "nnU-Net crops to voxels that are not 0, whatever select_fn says")
    result.cropped = True
    result.notes.append("CropForegroundd crops to voxels above 0, nnU-Net to voxels that are not 0")


def _pad(transform: Component, _: Preprocessing, img_size: Sequence[int]) -> None:
    size = transform.arguments.get("spatial_size")
    sizes = list(size) if isinstance(size, Sequence) else [size] * len(img_size)
    if len(sizes) != len(img_size) or any(a is None or a > b for a, b in zip(sizes, img_size)):
        _refuse(transform, f"nnU-Net pads to the network's img_size {tuple(img_size)}, not to {size}")
    if transform.arguments.get("mode", "constant") != "constant" or transform.arguments.get("value", 0) != 0:
        _refuse(transform, "nnU-Net pads with 0")


_TRANSLATIONS: dict[str, Callable[[Component, Preprocessing, Sequence[int]], None]] = {
    "EnsureTyped": _float32,
    "CastToTyped": _float32,
    "Orientationd": _orientation,
    "Spacingd": _spacing,
    "ScaleIntensityRanged": _scale_range,
    "ScaleIntensityd": _scale,
    "NormalizeIntensityd": _normalize,
    "CropForegroundd": _crop_foreground,
    "SpatialPadd": _pad,
}
# plans hold these for each channel by itself
_OF_INTENSITIES = (_scale_range, _normalize, _scale)
