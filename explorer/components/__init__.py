"""Parts that several pages use; they import no page."""
