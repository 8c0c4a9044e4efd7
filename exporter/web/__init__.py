"""The HTTP side: who may call, over what transport, and what is answered."""
