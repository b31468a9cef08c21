"""Export of a bundle's network for deployment."""

from scd_plugin.monai.export.exporter import FORMATS as FORMATS
from scd_plugin.monai.export.exporter import Exported as Exported
from scd_plugin.monai.export.exporter import ParityError as ParityError
from scd_plugin.monai.export.exporter import export_bundle as export_bundle

__all__ = ["FORMATS", "Exported", "ParityError", "export_bundle"]
