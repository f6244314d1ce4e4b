"""How unlike the features of two domains are, as a number that training makes small. One file a method.

Each module's `loss` takes `source`, `(rows, features) float`, and `target`, `(other rows, features) float`, or what a
network told of them.
"""
