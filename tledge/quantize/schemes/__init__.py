"""The schemes, one file each, found by name.

A scheme module holds

====================  =================================================================================
`SUFFIX`              the ecosystem's suffix of the graph's file: `onnx/model_SUFFIX.onnx`, one for each
                      scheme
`CALIBRATES`          whether it needs calibration rows
`TAKES_OVERFLOW_FIX`  whether its products of uint8 and int8 could overflow, so that it takes
                      `overflow_fix`
`apply`               `apply(source, target)`: reads the fp32 graph at `source`, writes the variant to
                      `target`; one that calibrates also takes `calibration`, which gives the rows anew at
                      each call, each as the graph's input tensors
====================  =================================================================================

One with a choice also holds

====================  =================================================================================
`candidates`          `candidates(settings)`: the ways to apply it that a recipe's `quantize` section allows, as
                      keywords of `apply`, likely ones first; of these `types` decides about speed, and the
                      others mainly about accuracy. `apply` then takes `scratch` too, a folder that is the same
                      for all candidates of a graph
====================  =================================================================================
"""
