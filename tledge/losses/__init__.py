"""The losses, one file an idea, found by name.

Each is a pure function

    loss(logits, targets, *, label_weights=None, label_smoothing=0.0, n_items=None) -> scalar tensor

where `targets` are what the task's `targets` gives, and `n_items` is what the sum over the batch is divided by: the
number of target elements of the whole optimizer step, so that accumulated gradients equal those of one large batch.
`None` means this batch's own number.
"""
