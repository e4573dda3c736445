"""Who vouches for a bundle: signatures by a key, and keyless ones by an identity (Sigstore)."""
