"""The losses of distillation, one file an idea, found by name: what a student has to be like its teacher in.

A module holds

==============  ======================================================================================================
`NEEDS`         what it compares: `logits`, `hidden_states`, `feature_maps`, `attentions` or `values`
`loss`          a pure function of the student's and the teacher's tensors of that kind; its docstring gives the formula
                and the paper
==============  ======================================================================================================
"""
