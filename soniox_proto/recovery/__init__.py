"""Recovery: how a session survives the loss of a connection (`stream.py` joins the parts)."""
