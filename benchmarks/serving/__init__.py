"""What the server of `tscnc-deploy serve` is worth, measured: three programs that write into one file of results.

    python -m benchmarks.serving.peers        beside kserve's and mlserver's own servers, with a tiny model
    python -m benchmarks.serving.throughput   with many clients, as a share of the engine's own best
    python -m benchmarks.serving.soak         for ten minutes under full load, with bad and impatient clients

Each is run in the root of a checkout, needs the extra "test", and talks to this machine only. Clients, server and
engine share its processors, and so does whatever else runs on it: what counts is the ratio of figures that took turns.
"""
