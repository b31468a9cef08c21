"""The contract of SCD's networks, on which hosts rely, and a network composed of given parts."""

# without postponed annotations, which TorchScript can't read
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor, nn

from scd_plugin.blocks import SoftTopKPruning
from scd_plugin.networks import replay
from scd_plugin.networks.arguments import check_image, stage_ratios
from scd_plugin.networks.encoder import EncodedTokens, SparseViT
from scd_plugin.ops import exit_stages

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["ComposedNetwork", "SCDNetwork"]


class SCDNetwork(nn.Module):
    """The contract of every network that prunes tokens. Hosts rely on nothing else.

    A subclass sets the attributes below, and defines `encode` and `forward`. `forward` takes (B, in_channels,
    *img_size), raises `ValueError` for other images, and returns logits (B, out_channels, *img_size).
    """

    if TYPE_CHECKING:  # TorchScript reads annotations that are there at run time, and knows few of them
        arguments: dict[str, Any]
        """Arguments of the class; `type(network)(**network.arguments)` is the same network with new weights.

        Two exceptions: see `set_keep_ratio`, and a `ComposedNetwork`, whose arguments are its parts themselves.
        """
        image_shape: list[int]
        """Shape of an image without the batch, in_channels, then img_size."""
        out_channels: int
        grid_size: list[int]
        """Tokens per axis."""
        positions: ClassVar[str]
        """Name in the state dict of the learned positions, (1, prefix + tokens, D), which are moved to another crop."""
        outputs: ClassVar[tuple[str, ...]]
        """Names in the state dict, or their beginnings, of layers that start anew for other classes."""
        outputs_called: ClassVar[str]
        """These layers in words."""
        preset: str | None
        new_parts: ClassVar[tuple[str, ...]]
    preset = None
    """Name of the preset that the network was built from, if any."""
    new_parts = ()
    """Beginnings of the names of parts that a dense network's checkpoint lacks; they then start anew."""
    use_cuda_graphs = True
    """Whether passes on CUDA are recorded and replayed in evaluation, see `scd_plugin.networks.replay`."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """As any module's; TorchScript, which compiles `forward`, never sees it."""
        if len(args) == 1 and not kwargs and replay.on_cuda(args[0]):
            return replay.answer(self, args[0])
        return super().__call__(*args, **kwargs)

    def encode(self, image: Tensor) -> EncodedTokens:
        """Encode an image (B, in_channels, *img_size): all tokens, each as it was when it left, and their places.

        Raises:
            ValueError: if the image has other channels or another size.
        """
        raise NotImplementedError

    @torch.no_grad()
    def exit_stages(self, image: Tensor) -> Tensor:
        """Map of the pruning stage at which each token leaves, which shows where the network looks.

        For an image (B, in_channels, *img_size) it is (B, *grid), int64: 0 for tokens that leave at the first stage, 1
        at the second, ..., the number of stages for those that stay to the end. In training mode it is a random draw,
        as the forward pass is.
        """
        stages = exit_stages(self.encode(image).grid_idx)
        return stages.reshape([stages.shape[0], *self.grid_size])

    def pruning_stages(self) -> list[SoftTopKPruning]:
        """The stages at which tokens leave, in their order; empty for a dense network."""
        return [module for module in self.modules() if isinstance(module, SoftTopKPruning)]

    def set_keep_ratio(self, keep_ratio: Sequence[float] | float) -> None:
        """Keep another share of the tokens, in (0, 1], at each pruning stage from now on; no weight changes.

        One number, or one for each stage; `arguments` follow. With 1 no token leaves there, but the stage stays: unlike
        `arguments`, which then build a network without it, whose weights are others.

        Raises:
            ValueError: if the network prunes nothing, or shares are out of range or not as many as the stages.
        """
        stages = self.pruning_stages()
        if not stages:
            msg = f"this network prunes no tokens, so keep_ratio can't be set to {keep_ratio}; take one that prunes"
            raise ValueError(msg)
        blocks = [stage.after_block for stage in stages]
        ratios = stage_ratios(keep_ratio, blocks)
        for stage, ratio in zip(stages, ratios):
            stage.keep_ratio = ratio
        if "keep_ratio" in self.arguments:
            # stages that were to keep all were left out when the network was built
            planned, of_block = self.arguments.get("prune_after"), dict(zip(blocks, ratios))
            told = [of_block.get(block, 1.0) for block in (blocks if planned is None else planned)]
            self.arguments = {**self.arguments, "keep_ratio": told[0] if len(set(told)) == 1 else told}

    def set_regions(self, regions: bool) -> None:
        """Say whether outputs are regions, which may overlap, or classes; only networks that ask act on it."""

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "Self":
        # to(memory_format=...) takes all tensors of 4 or 5 axes for maps: those that are none of this network's go flat
        axes = len(self.image_shape) + 1

        def apply(tensor: Tensor) -> Tensor:
            other = tensor.ndim in (4, 5) and tensor.ndim != axes
            return fn(tensor.flatten()).view(tensor.shape) if other else fn(tensor)

        moved: Self = super()._apply(apply, recurse)  # type: ignore[no-untyped-call]
        replay.forget_replaced_weights(self)
        return moved

    def token_size(self) -> list[int]:
        """Voxels per axis of a token."""
        return [size // tokens for size, tokens in zip(self.image_shape[1:], self.grid_size)]

    def output_scales(self) -> list[list[float]]:
        """Resolution of each output under deep supervision, as shares of the full one per axis; the full one first."""
        return [[1.0] * len(self.grid_size)]

    def with_outputs(self, weights: Mapping[str, Tensor], channels: Sequence[int]) -> dict[str, Tensor]:
        """A copy of a state dict of this network with which it outputs these of its channels, in this order."""
        raise NotImplementedError

    def why_not(self, weights: Mapping[str, Tensor]) -> str:
        """Say what, besides names and shapes, keeps a state dict from this network; empty if nothing does."""
        del weights
        return ""


class ComposedNetwork(SCDNetwork):
    """A network of a given encoder, completion and decoder, any of which may be one's own.

    Args:
        encoder: sparse or dense vision transformer.
        completion: called with the leading tokens, the token sets and their places (see `EncodedTokens`), returns the
            whole sequence (B, L, D); None where the encoder prunes nothing.
        decoder: called with the image and a list of `num_taps` token maps (B, D, *grid), returns logits. Its last
            layer is best called `out`: by that name it starts anew for other classes.
        out_channels: classes or regions.
        num_taps: token maps that the decoder takes. After completion all of them are the same.
        arguments: what builds it again, by `type(self)(**arguments)`; bundles record them. None for the parts
            themselves, which no bundle can record.
    """

    positions = "encoder.pos_embed"
    outputs = ("decoder.out.", "decoder.heads.")
    outputs_called = "output layers"

    def __init__(
        self,
        encoder: SparseViT,
        completion: nn.Module | None,
        decoder: nn.Module,
        *,
        out_channels: int,
        num_taps: int = 1,
        arguments: dict[str, Any] | None = None,
    ) -> None:
        super().__init__()
        parts = {"encoder": encoder, "completion": completion, "decoder": decoder}
        self.arguments = arguments or {**parts, "out_channels": out_channels, "num_taps": num_taps}
        self.encoder = encoder
        self.completion = completion
        self.decoder = decoder
        self.image_shape = [encoder.in_channels, *encoder.img_size]
        self.out_channels = out_channels
        self.grid_size = list(encoder.grid_size)
        self.num_taps = num_taps

    def forward(self, image: Tensor) -> Tensor | list[Tensor]:
        """Segment an image, (B, in_channels, *img_size) to logits (B, out_channels, *img_size).

        They are a list, full resolution first, while `decoder.deep_supervision` is true.

        Raises:
            ValueError: if the image has other channels or another size.
        """
        encoded = self.encode(image)
        if self.completion is None:
            sequences = encoded.hidden_states + encoded.token_sets
        else:
            completed = self.completion(encoded.prefix, encoded.token_sets, encoded.grid_idx)
            sequences = [completed] * self.num_taps
        return self.decoder(image, [self._to_map(sequence) for sequence in sequences])

    def encode(self, image: Tensor) -> EncodedTokens:
        """All tokens of an image, after the final LayerNorm; see `SCDNetwork.encode`."""
        check_image(image, self.image_shape)
        return self.encoder(image)

    def with_outputs(self, weights: Mapping[str, Tensor], channels: Sequence[int]) -> dict[str, Tensor]:
        """See `SCDNetwork.with_outputs`; the last layer may have several channels in a row for each output.

        Raises:
            ValueError: if the decoder has no layer called `out`.
        """
        if not any(name.startswith("decoder.out.") for name in weights):
            msg = (
                f"the outputs of {type(self.decoder).__name__} can't be put into another order, since it has no layer "
                "called out; call its last layer so"
            )
            raise ValueError(msg)
        # transposed convolutions have their outputs on the second axis
        kinds = (nn.ConvTranspose2d, nn.ConvTranspose3d)
        turned = {f"{name}.weight" for name, layer in self.named_modules() if isinstance(layer, kinds)}

        def of_chosen(name: str, value: Tensor) -> Tensor:
            axis = 1 if name in turned else 0
            by_output = value.unflatten(axis, (self.out_channels, -1))  # type: ignore[no-untyped-call]
            chosen = torch.tensor(channels, device=value.device)
            return by_output.index_select(axis, chosen).flatten(axis, axis + 1)

        return {
            name: of_chosen(name, value) if name.startswith(("decoder.out.", "decoder.heads.")) else value
            for name, value in weights.items()
        }

    def _to_map(self, tokens: Tensor) -> Tensor:
        """(B, L, D) -> (B, D, *grid)."""
        return tokens.transpose(1, 2).unflatten(2, self.grid_size)  # type: ignore[no-untyped-call]
