"""The losses of distillation, one file an idea, found by name: what a student has to be like its teacher in.

A module holds

===============  =====================================================================================================
`NEEDS`          what it compares: `logits`, `hidden_states`, `feature_maps`, `attentions` or `values`
`PROBLEM_TYPES`  of the losses on logits: the problem types that they are for
`LAYERS`         of the others: whether they compare `all` mapped blocks or the `last` one
`loss`           a pure function of the student's and the teacher's tensors of that kind; its docstring gives the
                 formula and the paper
===============  =====================================================================================================

A loss on logits is called as

    loss(student, teacher, *, temperature, problem_type, targets=None, scale=None) -> (rows,) float32

and one on what lies inside a model as

    loss(student, teacher, mask=None) -> (rows,) float32

with one value a row, so that whoever calls them divides the sum by the rows of the whole optimizer step, and
accumulated gradients equal those of one large batch. Half precision is compared in float32. No gradient is meant to
reach the teacher: its tensors come without one.
"""
