from collections.abc import Callable

import torch

from scd_plugin import SCDUNETR
from scd_plugin.measure.keep_map import keep_map


def test_one_window(small: Callable[..., SCDUNETR]) -> None:
    net, image = small().eval(), torch.randn(2, 32, 32, 32)
    stages = keep_map(net, image, roi_size=(32, 32, 32))
    expected = net.exit_stages(image.unsqueeze(0))[0].float()
    torch.testing.assert_close(stages[::8, ::8, ::8], expected)
    assert stages.shape == (32, 32, 32)


def test_any_image_size(small: Callable[..., SCDUNETR]) -> None:
    stages = keep_map(small().eval(), torch.randn(2, 40, 20, 50), roi_size=(32, 32, 32))
    assert stages.shape == (40, 20, 50)
    assert 0 <= stages.min() <= stages.max() <= 3
