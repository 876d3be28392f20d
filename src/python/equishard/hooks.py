"""What runs in backward."""

import torch


class _NodeHook:
    """A hook on the node of the graph that accumulates a leaf's gradient: torch before 2.1 has no other. The node runs
    its hooks when it is done; as long as someone keeps it, every graph uses it."""

    def __init__(self, tensor, call):
        self._node = tensor.expand_as(tensor).grad_fn.next_functions[0][0]
        self._handle = self._node.register_hook(call)

    def remove(self):
        self._handle.remove()


def after_accumulation(tensor, call):
    """Call a function, with arguments that mean nothing, whenever backward has added to `tensor.grad`, once per backward;
    returns what has `remove()`."""
    if hasattr(tensor, "register_post_accumulate_grad_hook"):
        return tensor.register_post_accumulate_grad_hook(call)
    with torch.enable_grad():
        return _NodeHook(tensor, call)


def at_end_of_backward(call):
    """Call a function when the backward under way is done; from within it."""
    torch.autograd.Variable._execution_engine.queue_callback(call)
