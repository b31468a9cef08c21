"""In evaluation on CUDA a pass that comes again is recorded as a CUDA graph, and replayed from then on.

A pass is hundreds of small kernels. To start them one by one takes the processor longer than a large GPU needs to
compute them; a graph is started at once. Nobody has to ask for it: `SCDNetwork` asks here for every pass on CUDA.
A new graph is first compared with the pass that is computed. Where they differ, anything looks at a pass while it runs,
or something fails, it is computed as ever.

Graphs stand beside their networks, not in them, so copies, pickles and state dicts know nothing of them.
"""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Callable
from threading import Lock, RLock
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from torch.autograd import forward_ad
from torch.nn.modules import module as of_all_modules
from torch.utils import _pytree as pytree

from scd_plugin.networks.cuda_graph import CudaGraph
from scd_plugin.networks.pass_key import PassKey, network_state, pass_key
from scd_plugin.networks.replay_check import check_replay
from scd_plugin.ops.convolution import is_tracing
from scd_plugin.switches import CUDA_GRAPHS, cuda_graphs_wanted

__all__ = ["answer", "forget_replaced_weights", "on_cuda"]

WARM_UP = 3
"""Passes of a kind that are computed before one is recorded."""
MAX_GRAPHS = 4
"""Kinds of passes of a network that are recorded at a time."""
PATIENCE = 50
"""Passes of a kind before it takes the place of the kind that was not asked for longest."""
_MAX_COUNTED = 64

_LOGGER = logging.getLogger(__name__)
# PyTorch records one graph at a time
_RECORDING = RLock()


def on_cuda(image: object) -> bool:
    """Whether something is a tensor on CUDA."""
    return isinstance(image, Tensor) and image.is_cuda


def answer(network: nn.Module, image: Tensor) -> Any:
    """Answer of a network, which has a switch `use_cuda_graphs`, for an image: computed, or replayed."""
    # first, since torch.compile reads on
    if torch.compiler.is_compiling():
        return nn.Module.__call__(network, image)
    if torch.is_grad_enabled() or not (network.use_cuda_graphs and cuda_graphs_wanted()):
        # a training needs the memory
        if replays := _REPLAYS.get(network):
            replays.clear()
        return nn.Module.__call__(network, image)
    if _looked_at(image):
        return nn.Module.__call__(network, image)
    with _LOCK:
        replays = _REPLAYS.setdefault(network, _Replays())
    return replays.answer(network, image)


def forget_replaced_weights(network: nn.Module) -> None:
    """Free the graphs that read weights which the network no longer has."""
    if replays := _REPLAYS.get(network):
        replays.forget_replaced_weights(network)


def _looked_at(image: Tensor) -> bool:
    """Whether this pass is seen operator by operator, or is a part of another recording."""
    return bool(
        # MONAI's MetaTensor, fake tensors, ...
        type(image) is not Tensor
        or is_tracing()
        # a counter of operations, FakeTensorMode, torch.device(...) as a context
        or torch._C._len_torch_dispatch_stack()  # noqa: SLF001
        or torch._C._len_torch_function_stack()  # noqa: SLF001
        # vmap, grad, ...
        or torch._C._functorch.peek_interpreter_stack()  # noqa: SLF001
        or forward_ad._current_level >= 0  # noqa: SLF001
        or of_all_modules._has_any_global_hook()  # type: ignore[no-untyped-call]  # noqa: SLF001
        or torch.cuda.is_current_stream_capturing()
    )


class _Replays:
    """The graphs of one network."""

    def __init__(self) -> None:
        self.failed = False
        """Whether a recording has failed, after which nothing is recorded."""
        self.graphs: OrderedDict[PassKey, CudaGraph] = OrderedDict()
        """By key, the one that was asked for last at the end."""
        self.counts: OrderedDict[PassKey, int] = OrderedDict()
        """Passes computed so far, by key."""
        self.lock = Lock()

    def answer(self, network: nn.Module, image: Tensor) -> Any:
        """Replay the pass, or compute it and count it."""
        key = self._tried(network, pass_key, network, image)
        if key is not None and (replayed := self._tried(network, self._replayed, key, network, image)) is not None:
            return replayed
        output = nn.Module.__call__(network, image)
        # a pass that leaves attributes behind, or answers in a class of its own, is more than its tensors
        if key is not None and _only_tensors(output) and self._tried(network, pass_key, network, image) == key:
            with self.lock:
                self.counts[key] = self.counts.pop(key, 0) + 1
                if len(self.counts) > _MAX_COUNTED:
                    self.counts.popitem(last=False)
        return output

    def clear(self) -> None:
        """Free everything."""
        with self.lock:
            self.graphs.clear()
            self.counts.clear()

    def forget_replaced_weights(self, network: nn.Module) -> None:
        """Free the graphs with other weights than the network's."""
        state = self._tried(network, network_state, network) if self.graphs else None
        with self.lock:
            for key in [key for key in self.graphs if state is None or key.network.weights != state.weights]:
                del self.graphs[key]

    def _replayed(self, key: PassKey, network: nn.Module, image: Tensor) -> Any:
        """Return the answer of the key's graph, which is recorded if its turn has come; else None."""
        with self.lock:
            if key not in self.graphs:
                full = len(self.graphs) >= MAX_GRAPHS
                if self.counts.get(key, 0) < (PATIENCE if full else WARM_UP):
                    return None
                if full:
                    self.graphs.popitem(last=False)
                others = [graph for other, graph in self.graphs.items() if other.place == key.place]
                with _RECORDING:
                    graph = CudaGraph(network, image, others)
                check_replay(graph, network, image)
                self.graphs[key] = graph
                del self.counts[key]
                _LOGGER.info("%s: passes over %s are replayed", type(network).__name__, tuple(image.shape))
            self.graphs.move_to_end(key)
            # what is given must stay: mirrored passes are summed up
            return pytree.tree_map_only(Tensor, Tensor.clone, self.graphs[key](image))

    def _tried(self, network: nn.Module, step: Callable[..., Any], *arguments: Any) -> Any:
        """Do a step towards a replay; once one has failed, none is done any more, and None returned."""
        if self.failed:
            return None
        try:
            return step(*arguments)
        except Exception as error:  # noqa: BLE001  (whatever it is, the pass can still be computed)
            _LOGGER.warning(
                "%s uses no CUDA graphs from now on, since one failed (%s: %s); results are the same, only slower. "
                "%s=0 turns graphs off from the start",
                *(type(network).__name__, type(error).__name__, (str(error).splitlines() or [""])[0], CUDA_GRAPHS),
            )
            self.failed = True
        # only now nothing of the error holds memory
        self.clear()
        torch.cuda.empty_cache()
        return None


def _only_tensors(output: Any) -> bool:
    leaves = pytree.tree_leaves(output)
    return bool(leaves) and all(type(leaf) is Tensor for leaf in leaves)


_LOCK = Lock()
_REPLAYS: WeakKeyDictionary[nn.Module, _Replays] = WeakKeyDictionary()
