"""The conformance kit for those who write a backend; needs pytest: `pip install 'parapluie[testing]'`.

    from parapluie.testing import BackendConformance

    class TestRay(BackendConformance):
        backend = "ray"

Tasks and hostile objects are in modules that import no pytest, since workers import them.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from parapluie.testing.conformance import BackendConformance
    from parapluie.testing.fixtures import OnBackend

__all__ = ["BackendConformance", "OnBackend"]


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module 'parapluie.testing' has no attribute {name!r}")
    import pytest

    pytest.register_assert_rewrite("parapluie.testing.suites")  # before it is imported
    from parapluie.testing import conformance

    globals().update({public: getattr(conformance, public) for public in __all__})
    return globals()[name]
