"""Money as whole cents."""


def to_cents(text):
    """'12.30' -> 1230."""
    return int(float(text) * 100)


def to_text(cents):
    """1230 -> '12.30'."""
    sign = "-" if cents < 0 else ""
    return f"{sign}{abs(cents) // 100}.{abs(cents) % 100:02d}"
