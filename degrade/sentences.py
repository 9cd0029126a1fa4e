"""What others wrote, in our sentences: names of files, keys and values that may hold anything."""

_END = 120  # characters kept of the beginning and of the end


def shown(value: object) -> str:
    """A name or value for a sentence: what would break the line or the terminal is escaped, a long one shortened."""
    try:
        text = value if isinstance(value, str) else repr(value)
    except ValueError:  # Python writes no number of more than 4300 digits
        return f"a {type(value).__name__} of thousands of digits"
    if len(text) > 2 * _END:
        text = f"{text[:_END]}...{text[-_END:]}"
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
