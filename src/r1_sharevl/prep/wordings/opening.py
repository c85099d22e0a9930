"""Get the rewriter that a run's settings ask for."""

from pathlib import Path

from .rewriter import Rewriter
from .settings import ApiSettings, LocalSettings


def open_rewriter(settings: ApiSettings | LocalSettings, cache_file: Path) -> Rewriter:
    """Open a rewriter; close it when done.

    Args:
        settings: Which model, and how it is asked.
        cache_file: Where replies are kept (`answer_cache.default_cache_file()`), so that no run asks for one twice.

    Returns:
        The rewriter. A local model is loaded with the first question that needs it.

    Raises:
        UserError: A setting, a prompt file, the key, the model or the cache cannot be used.
    """
    # The openai client takes a second to import and torch several: only what is used.
    if isinstance(settings, ApiSettings):
        from .api_rewriter import ApiRewriter

        return ApiRewriter(settings, cache_file)
    from .local_rewriter import LocalRewriter

    return LocalRewriter(settings, cache_file)
