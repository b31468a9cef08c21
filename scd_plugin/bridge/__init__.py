"""One model for both hosts: nnU-Net's models as MONAI bundles, and bundles as nnU-Net's models."""

from scd_plugin.bridge.runtime.image_list import list_cases as list_cases
from scd_plugin.bridge.runtime.inferer import NnunetInferer as NnunetInferer
from scd_plugin.bridge.runtime.nnunet_transforms import NnunetLoadImaged as NnunetLoadImaged
from scd_plugin.bridge.runtime.nnunet_transforms import NnunetPreprocessd as NnunetPreprocessd
from scd_plugin.bridge.runtime.nnunet_transforms import NnunetRestored as NnunetRestored
from scd_plugin.bridge.runtime.nnunet_transforms import NnunetSaveImaged as NnunetSaveImaged
from scd_plugin.nnunet.model.recipe import NnunetRecipe as NnunetRecipe
from scd_plugin.nnunet.model.recipe import read_recipe as read_recipe
