"""A zero-cost proxy: a number that is higher for networks which will probably learn more."""

from collections.abc import Callable

from torch import Tensor, nn

from edgepress.core.registry import Registry

Proxy = Callable[[nn.Module, Tensor], float]
"""Called with an untrained network, which it may change, and normalized images `(N, C, H, W)`."""

proxies: Registry[Proxy] = Registry("proxy", ("edgepress.search.proxies",))
