"""torch's GradScaler and this optimizer: who divides the loss's scale out of gradients, who learns of an overflow."""

import warnings

import torch

from ._library import EquishardUsageError

# The optimizer needs the scaler itself: whether gradients are finite is known to all trainers together only.
warnings.filterwarnings("ignore", message="GradScaler is going to stop passing itself", category=FutureWarning)


def _is_enabled(scaler):
    return getattr(scaler, "is_enabled", lambda: True)()


def _stage(scaler, optimizer):
    """How far the scaler is with an optimizer's step: "READY", "UNSCALED" or "STEPPED"."""
    return getattr(scaler._per_optimizer_states[id(optimizer)].get("stage"), "name", "READY")


class GradientScale:
    """
    optimizer  it, and its gradients
    scaler     the GradScaler that it was made with, or None
    pushes     gradients are pushed in backward, multiplied by the scale: then `scaler.unscale_` leaves the tensors alone,
               and the owners divide
    """

    def __init__(self, optimizer, gradients, scaler, pushes):
        self._optimizer, self._gradients = optimizer, gradients
        self._scaler, self._stays = scaler, scaler is not None and pushes
        self.unscale_seen = False  # a scaler has divided this step's gradients, and it was noticed
        self._sees_unscale = hasattr(scaler, "unscale_")
        if self._sees_unscale:
            self._torch_unscale = scaler.unscale_
            scaler.unscale_ = self._unscale

    def _unscale(self, optimizer):
        """In the place of `scaler.unscale_`, with its errors."""
        scaler = self._scaler
        if optimizer is not self._optimizer or not _is_enabled(scaler):
            return self._torch_unscale(optimizer)
        if not self._stays:
            self._torch_unscale(optimizer)
            self.unscale_seen = True
            return self._gradients.watch_again()
        stage, state = _stage(scaler, optimizer), scaler._per_optimizer_states[id(optimizer)]
        if stage == "UNSCALED":
            raise RuntimeError("unscale_() has already been called on this optimizer since the last update().")
        if stage == "STEPPED":
            raise RuntimeError("unscale_() is being called after step().")
        self._report(scaler, skipped=False)  # until the step tells
        state["stage"] = type(state["stage"]).UNSCALED

    def now(self, scaler=None):
        """The factor that this step's gradients are multiplied by. scaler: the one that calls step, or None."""
        scaler = scaler or self._scaler
        if scaler is None or not _is_enabled(scaler):
            return 1.0
        if self.unscaled_in_place(scaler):
            return 1.0
        return scaler.get_scale()

    def unscaled_in_place(self, scaler=None):
        """Whether torch's `scaler.unscale_` has divided the gradients."""
        scaler = scaler or self._scaler
        return (scaler is not None and not (self._stays and scaler is self._scaler) and _is_enabled(scaler)
                and _stage(scaler, self._optimizer) == "UNSCALED")

    def unscaled_unseen(self, scaler):
        """Whether a scaler that is none of torch's has divided the gradients: what it did is not known."""
        return self.unscaled_in_place(scaler) and not self.unscale_seen

    def check(self, told, scaler):
        """told: the factor that the gradients of this step were pushed with."""
        scale = self.now(scaler)
        if scale != told:
            raise EquishardUsageError(
                f"gradients were pushed as if their scale were {told:g}; it is {scale:g}: make the optimizer with "
                "Optimizer(..., grad_scaler=scaler), and update the scaler after its step")

    def stepped(self, scaler, skipped):
        """Tell a scaler that calls step whether all trainers skip this one."""
        if scaler is not None and _is_enabled(scaler):
            self._report(scaler, skipped)

    def _report(self, scaler, skipped):
        device = self._optimizer.param_groups[0]["params"][0].device
        scaler._per_optimizer_states[id(self._optimizer)]["found_inf_per_device"] = {
            device: torch.full((1,), float(skipped), device=device)}

    def close(self):
        if self._sees_unscale:
            del self._scaler.unscale_  # the class has torch's
            self._sees_unscale = False
