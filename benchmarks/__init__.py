"""What the library costs, compared with the official client and other WebSocket libraries.

`python -m benchmarks` answers every question, `python -m benchmarks NAME` one of them. Each module
with a function `measure` answers one question, which is the first line of its docstring.
"""
