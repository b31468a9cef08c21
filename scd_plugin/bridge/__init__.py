"""One model for both hosts: nnU-Net's models as MONAI bundles, and bundles as nnU-Net's models."""

from scd_plugin.bridge.cases import list_cases as list_cases
from scd_plugin.bridge.inferer import NnunetInferer as NnunetInferer
from scd_plugin.bridge.transforms import NnunetLoadImaged as NnunetLoadImaged
from scd_plugin.bridge.transforms import NnunetPreprocessd as NnunetPreprocessd
from scd_plugin.bridge.transforms import NnunetRestored as NnunetRestored
from scd_plugin.bridge.transforms import NnunetSaveImaged as NnunetSaveImaged
from scd_plugin.nnunet.recipe import NnunetRecipe as NnunetRecipe
from scd_plugin.nnunet.recipe import read_recipe as read_recipe

__all__ = [
    "NnunetInferer",
    "NnunetLoadImaged",
    "NnunetPreprocessd",
    "NnunetRecipe",
    "NnunetRestored",
    "NnunetSaveImaged",
    "list_cases",
    "read_recipe",
]
