"""Recovery: how a session survives the loss of a connection (`succession.py` joins the parts)."""
