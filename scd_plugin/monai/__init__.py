"""MONAI as a host: what the bundles share, under the names that their configs use."""

from scd_plugin.freed_memory import keep_freed_memory as keep_freed_memory
from scd_plugin.monai.class_metrics_saver import ClassMetricsSaver as ClassMetricsSaver
from scd_plugin.monai.command_line import check_command_line
from scd_plugin.monai.dataset.data import cache_rate as cache_rate
from scd_plugin.monai.dataset.data import data_lists as data_lists
from scd_plugin.monai.dataset.data import describe as describe
from scd_plugin.monai.dataset.data import from_config as from_config
from scd_plugin.monai.dataset.describe import intensity_config as intensity_config
from scd_plugin.monai.dataset.describe import label_values as label_values
from scd_plugin.monai.dataset.images import list_images as list_images
from scd_plugin.monai.dataset.images import output_name as output_name
from scd_plugin.monai.dataset.region_transforms import LabelsToRegionsd as LabelsToRegionsd
from scd_plugin.monai.dataset.region_transforms import RegionsToLabelsd as RegionsToLabelsd
from scd_plugin.monai.dataset.trained_on import trained_on as trained_on
from scd_plugin.monai.dataset.volume_writer import VolumeWriter as VolumeWriter
from scd_plugin.monai.errors import show_sentences_on_the_command_line
from scd_plugin.monai.inference_bar import InferenceBar as InferenceBar
from scd_plugin.monai.keep_maps import KeepMaps as KeepMaps
from scd_plugin.monai.training.audit_tokens import AuditTokens as AuditTokens
from scd_plugin.monai.training.best_model import BestModel as BestModel
from scd_plugin.monai.training.draw_keep_ratio import DrawKeepRatio as DrawKeepRatio
from scd_plugin.monai.training.guided_loss import GuidedLoss as GuidedLoss
from scd_plugin.monai.training.last_checkpoint import last_checkpoint as last_checkpoint
from scd_plugin.monai.training.prepare import clip_gradients as clip_gradients
from scd_plugin.monai.training.prepare import layer_decay_groups as layer_decay_groups
from scd_plugin.monai.training.prepare import prepare_training as prepare_training
from scd_plugin.monai.training.processes import leave_process_group as leave_process_group
from scd_plugin.monai.training.record import default_size as default_size
from scd_plugin.monai.training.record import recorded as recorded
from scd_plugin.monai.training.say_training import SayTraining as SayTraining
from scd_plugin.monai.weights import need_weights as need_weights

show_sentences_on_the_command_line()
check_command_line()
