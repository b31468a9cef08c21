"""Token-pruning vision transformers for nnU-Net and MONAI."""

from scd_plugin.networks import SCDUNETR as SCDUNETR
from scd_plugin.networks import load_tokensparse_state_dict as load_tokensparse_state_dict

__version__ = "0.1.0"

__all__ = ["SCDUNETR", "__version__", "load_tokensparse_state_dict"]
