"""How long tests wait for processes of their own."""

# In seconds, to end what hangs: on a busy machine TensorFlow alone takes a minute to start.
PATIENCE = 1200
