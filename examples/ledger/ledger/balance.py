from ledger.money import to_cents


def balances(bookings):
    """Sum of charges minus refunds per account, in cents."""
    totals = {}
    for booking in bookings:
        cents = to_cents(booking["amount"])
        if booking["kind"] == "refund":
            cents = -cents
        totals[booking["account"]] = totals.get(booking["account"], 0) + cents
    return totals
