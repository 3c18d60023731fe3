"""Every private or fragile name of another library, each with the reason and a plain fallback."""
