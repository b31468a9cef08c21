"""nnU-Net looks for trainer classes by name in every module of its trainer folder, where this file is installed."""

from scd_plugin.nnunet.trainers import nnUNetTrainerSCD as nnUNetTrainerSCD
from scd_plugin.nnunet.trainers import nnUNetTrainerSCD_5epochs as nnUNetTrainerSCD_5epochs
from scd_plugin.nnunet.trainers import nnUNetTrainerSCD_50epochs as nnUNetTrainerSCD_50epochs
from scd_plugin.nnunet.trainers import nnUNetTrainerSCD_100epochs as nnUNetTrainerSCD_100epochs
from scd_plugin.nnunet.trainers import nnUNetTrainerSCD_250epochs as nnUNetTrainerSCD_250epochs
from scd_plugin.nnunet.trainers import nnUNetTrainerSCD_deepsupervision as nnUNetTrainerSCD_deepsupervision
from scd_plugin.nnunet.trainers import nnUNetTrainerSCD_demo as nnUNetTrainerSCD_demo
from scd_plugin.nnunet.trainers import nnUNetTrainerSCD_dense as nnUNetTrainerSCD_dense
from scd_plugin.nnunet.trainers import nnUNetTrainerSCD_large as nnUNetTrainerSCD_large
from scd_plugin.nnunet.trainers import nnUNetTrainerSCD_small as nnUNetTrainerSCD_small
