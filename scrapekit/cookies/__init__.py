"""Cookies: what sites set, and what goes back to them (RFC 6265). Sans-IO."""
