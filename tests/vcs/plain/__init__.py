"""Plain copies (vcs.plain, vcs.plainwriter)."""
