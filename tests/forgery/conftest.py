from tests.check.conftest import bundle, robust_build  # noqa: F401
