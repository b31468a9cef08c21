import pytest
import torch
from monai.networks.nets import UNETR

from scd_plugin.blocks import UNETRDecoder
from scd_plugin.blocks.decoders import num_taps


@pytest.mark.parametrize(
    ("grid", "strides", "pool"),
    [
        ((4, 4, 4), [(2, 2, 2)] * 3, (2, 2, 2)),
        ((5, 7, 5), [(2, 2, 2)] * 3, (2, 2, 2)),
        ((3, 4, 5), [(2, 2, 2)] * 2, (2, 2, 2)),
        ((2, 3, 2), [(2, 2, 2)] * 4, None),
        ((5, 4, 3), [(1, 2, 2), (2, 2, 2), (2, 2, 2)], (1, 2, 2)),
        ((7, 4, 3), [(1, 2, 2)] * 3, (2, 1, 2)),
        ((2, 1, 3), [(2, 2, 2)] * 3, (2, 2, 2)),
        ((4, 5), [(2, 2)] * 3, (2, 2)),
        ((1, 2), [(2, 2)] * 3, (2, 2)),
        ((1, 3), [(3, 2), (2, 2)], None),
    ],
    ids=str,
)
def test_any_grid_and_strides(
    grid: tuple[int, ...], strides: list[tuple[int, ...]], pool: tuple[int, ...] | None
) -> None:
    decoder = UNETRDecoder(1, 2, hidden_size=24, strides=strides, pool_stride=pool, feature_size=4)
    size = list(grid)
    for step in strides:
        size = [edge * stride for edge, stride in zip(size, step)]
    taps = [torch.randn(1, 24, *grid) for _ in range(num_taps(strides, pool))]
    assert decoder(torch.randn(1, 1, *size), taps).shape == (1, 2, *size)


def test_token_patch_16_is_the_decoder_of_monai_unetr() -> None:
    unetr = UNETR(in_channels=1, out_channels=2, img_size=32, feature_size=4, hidden_size=48, mlp_dim=96, num_heads=4)
    decoder = UNETRDecoder(1, 2, hidden_size=48, strides=[(2, 2, 2)] * 4, feature_size=4)
    renamed = {}
    for name, value in unetr.state_dict().items():
        part, _, rest = name.partition(".")
        if part.startswith("encoder"):
            level = int(part[-1]) - 1
            # MONAI holds the steps after the first in a list of blocks
            steps = rest.split(".")
            if steps[0] == "transp_conv_init":
                rest = ".".join(["0", *steps[1:]])
            elif steps[0] == "blocks":
                rest = ".".join([str(1 + 2 * int(steps[1]) + int(steps[2])), *steps[3:]])
            renamed[f"skips.{level}.{rest}"] = value
        elif part.startswith("decoder"):
            renamed[f"ups.{5 - int(part[-1])}.block.{rest}"] = value
        elif part == "out":
            renamed[name] = value
    decoder.load_state_dict(renamed)
    image = torch.randn(2, 1, 32, 32, 32)
    last, hidden = unetr.vit(image)
    maps = [unetr.proj_feat(tokens) for tokens in (hidden[3], hidden[6], hidden[9], last)]
    torch.testing.assert_close(decoder(image, maps), unetr(image))


class TestDeepSupervision:
    def build(self, deep_supervision: bool) -> UNETRDecoder:
        strides = [(2, 2, 2)] * 3
        return UNETRDecoder(
            1,
            2,
            hidden_size=24,
            strides=strides,
            pool_stride=(2, 2, 2),
            feature_size=4,
            deep_supervision=deep_supervision,
        )

    def test_an_output_for_every_level(self) -> None:
        decoder = self.build(deep_supervision=True)
        taps = [torch.randn(1, 24, 4, 4, 4)] * 4
        outputs = decoder(torch.randn(1, 1, 32, 32, 32), taps)
        assert [tuple(output.shape[2:]) for output in outputs] == [(edge,) * 3 for edge in (32, 16, 8, 4)]
        decoder.deep_supervision = False
        assert torch.equal(decoder(torch.zeros(1, 1, 32, 32, 32), taps)[0].isfinite(), torch.ones(2, 32, 32, 32).bool())

    def test_heads_are_dropped_where_there_are_none(self) -> None:
        trained = self.build(deep_supervision=True).state_dict()
        plain = self.build(deep_supervision=False)
        plain.load_state_dict(trained)
        assert torch.equal(plain.out.conv.conv.weight, trained["out.conv.conv.weight"])

    def test_other_unknown_keys_still_fail(self) -> None:
        decoder = self.build(deep_supervision=False)
        with pytest.raises(RuntimeError, match="bogus"):
            decoder.load_state_dict({**decoder.state_dict(), "bogus": torch.zeros(1)})
