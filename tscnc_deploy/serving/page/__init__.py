"""The page that a server shows at `/`."""
