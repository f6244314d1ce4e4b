"""The losses of detectors, one file an idea, found by name.

Each is a pure function

    loss(parts, *, share=1.0) -> scalar tensor

where `parts` are what a detector's own `losses` gives, scalars by name, each a mean over what counts in its batch, and
`share` is the part that the batch has in the whole optimizer step.
"""
