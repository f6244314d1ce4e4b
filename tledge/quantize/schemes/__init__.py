"""The schemes, one file each, found by name.

A scheme module holds

==============  =======================================================================================
`SUFFIX`        the ecosystem's suffix of the graph's file: `onnx/model_SUFFIX.onnx`
`CALIBRATES`    whether it needs calibration rows
`apply`         `apply(source, target)`: reads the fp32 graph at `source`, writes the variant to `target`
==============  =======================================================================================
"""
