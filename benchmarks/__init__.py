"""What the library costs, beside the official client and other WebSocket libraries.

`python -m benchmarks` answers every question, `python -m benchmarks NAME` one of them. Each module
that has a `measure` answers one question; the module's first line is the question.
"""
