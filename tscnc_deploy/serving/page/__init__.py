"""The page that a server shows browsers at `/`."""
