import unittest

from ledger.balance import balances
from ledger.money import to_cents, to_text


class Money(unittest.TestCase):
    def test_every_cent_survives(self):
        for cents in range(0, 2000):
            self.assertEqual(to_cents(f"{cents // 100}.{cents % 100:02d}"), cents)

    def test_negative_amounts_keep_their_cents(self):
        self.assertEqual(to_text(-5), "-0.05")

    def test_a_refund_cancels_its_charges(self):
        rows = [("food", "0.10", "charge"), ("food", "0.20", "charge"), ("food", "0.30", "refund")]
        bookings = [dict(zip(("account", "amount", "kind"), row)) for row in rows]
        self.assertEqual(balances(bookings), {"food": 0})
