"""Pure tensor functions that choose tokens, move them and place them. This part holds no Module."""

from scd_plugin.ops.pos_embed import interpolate_pos_embed as interpolate_pos_embed
from scd_plugin.ops.pos_embed import sincos_pos_embed as sincos_pos_embed
from scd_plugin.ops.tokens import exit_stages as exit_stages
from scd_plugin.ops.tokens import restore_tokens as restore_tokens
from scd_plugin.ops.tokens import take_tokens as take_tokens
from scd_plugin.ops.topk import gumbel_noise_like as gumbel_noise_like
from scd_plugin.ops.topk import keep_count as keep_count
from scd_plugin.ops.topk import partition_topk as partition_topk
from scd_plugin.ops.topk import position_hash as position_hash
from scd_plugin.ops.topk import straight_through as straight_through
